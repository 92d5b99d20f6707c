//! Deaths that others tell of: believed only when the member does not answer this node either.
//!
//! In SWIM a death is final, and whoever hears of it believes it. But the other side of a split that heals tells of the
//! deaths of this side's members: a node that believed it would run what its own neighbours run. So each such death is
//! checked by a few questions, each with twice as long for the answer as the one before. Where the member lives, that costs
//! a round trip; where it is suspected here, or its port refuses, a moment; else about as long as the shortest suspicion.
//!
//! May not: send anything, or say what a death means.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{ConnId, Identity, InstanceId, Time};

/// Ports tried at once; a port that refuses does so within a round trip. Where more die together, the others take their
/// turns.
const DIALS_MAX: usize = 32;
/// Questions without an answer after which a death is believed for which nothing speaks but that it was told. With a tenth
/// of all datagrams lost, both ways, and answers that take as long as the fifth question, one check in a thousand errs. It
/// lasts about as long as the shortest suspicion: nothing else says that the member is silent.
const QUESTIONS: u32 = 7;
/// The same where the member was suspected: this node has told it so several times, and it has not said that it lives.
const QUESTIONS_OF_SUSPECT: u32 = 4;
/// The same where the port refuses. That alone is no proof, as a firewall may be the reason.
const QUESTIONS_IF_REFUSED: u32 = 1;

/// A member that was said to be dead.
#[derive(Debug)]
pub(crate) struct Obituary {
    pub(crate) member: Identity,
    /// The number of the questions that it is asked.
    pub(crate) number: u64,
    /// When it is asked again.
    pub(crate) next: Time,
    /// How long it has for the answer.
    pub(crate) pause: Duration,
    /// The stream that tries its port.
    conn: Option<ConnId>,
    first_pause: Duration,
    late_after: Duration,
    was_suspected: bool,
    refused: bool,
    unanswered: u32,
}

impl Obituary {
    /// It has been asked once, and has so long for the answer. `late_after`: how late a turn may be that counts.
    pub(crate) fn new(member: Identity, number: u64, now: Time, first_pause: Duration, late_after: Duration) -> Self {
        Obituary {
            member,
            number,
            next: now + first_pause,
            pause: first_pause,
            conn: None,
            first_pause,
            late_after,
            was_suspected: false,
            refused: false,
            unanswered: 0,
        }
    }

    /// It was suspected here when its death was told.
    pub(crate) fn of_suspect(self) -> Self {
        Obituary { was_suspected: true, ..self }
    }

    /// The time for an answer is over. A turn that comes too late does not count: this process stood still, and the answer
    /// may wait to be read. One that is always a little late waits the longer for each answer, and may count.
    pub(crate) fn turn(&mut self, now: Time) {
        self.unanswered += u32::from(now.since(self.next) <= self.late_after);
        self.pause = self.first_pause * (1 << self.unanswered);
        self.next = now + self.pause;
    }

    /// Whether what was told is true as far as this node can see.
    pub(crate) fn is_true(&self) -> bool {
        let enough = match self {
            Obituary { refused: true, .. } => QUESTIONS_IF_REFUSED,
            Obituary { was_suspected: true, .. } => QUESTIONS_OF_SUSPECT,
            _ => QUESTIONS,
        };
        self.unanswered >= enough
    }
}

/// Those that are being checked.
#[derive(Debug, Default)]
pub(crate) struct Obituaries {
    of: BTreeMap<InstanceId, Obituary>,
    /// Whose ports are tried, by the streams that do.
    dials: BTreeMap<ConnId, InstanceId>,
    /// Whose ports are still to be tried.
    undialled: BTreeSet<InstanceId>,
}

impl Obituaries {
    pub(crate) fn contains(&self, instance: InstanceId) -> bool {
        self.of.contains_key(&instance)
    }

    pub(crate) fn insert(&mut self, obituary: Obituary) {
        self.undialled.insert(obituary.member.instance);
        self.of.insert(obituary.member.instance, obituary);
    }

    pub(crate) fn get(&mut self, instance: InstanceId) -> Option<&mut Obituary> {
        self.of.get_mut(&instance)
    }

    /// Ends a check; gives the stream that still tries the port.
    pub(crate) fn remove(&mut self, instance: InstanceId) -> Option<ConnId> {
        self.undialled.remove(&instance);
        let conn = self.of.remove(&instance)?.conn?;
        self.dials.remove(&conn);
        Some(conn)
    }

    /// Whether one more port is to be tried now.
    pub(crate) fn may_dial(&self) -> bool {
        self.dials.len() < DIALS_MAX && !self.undialled.is_empty()
    }

    /// Says whose port this stream is to try.
    pub(crate) fn dial(&mut self, conn: ConnId) -> Option<Identity> {
        let instance = self.undialled.pop_first()?;
        let obituary = self.of.get_mut(&instance)?;
        obituary.conn = Some(conn);
        self.dials.insert(conn, instance);
        Some(obituary.member)
    }

    /// The stream that tries a port has ended, or was taken; `false` if it is no such stream.
    pub(crate) fn heard(&mut self, conn: ConnId, refused: bool) -> bool {
        let Some(obituary) = self.dials.remove(&conn).and_then(|instance| self.of.get_mut(&instance)) else {
            return false;
        };
        obituary.conn = None;
        obituary.refused = refused;
        true
    }

    /// Those of members that this does not hold for.
    pub(crate) fn all_but(&self, keep: impl Fn(Identity) -> bool) -> Vec<InstanceId> {
        self.of.iter().filter(|(_, obituary)| !keep(obituary.member)).map(|(&instance, _)| instance).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(10);

    fn obituary() -> Obituary {
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        let member = Identity { addr, bump: 0, instance: InstanceId::new(1) };
        Obituary::new(member, 7, Time::ZERO, PAUSE, PAUSE * 30)
    }

    fn true_after(obituary: &mut Obituary) -> Duration {
        let began = obituary.next - obituary.pause;
        while !obituary.is_true() {
            obituary.turn(obituary.next);
        }
        obituary.next.since(began) - obituary.pause
    }

    #[test]
    fn silence_proves_it_the_sooner_the_more_speaks_for_it() {
        assert_eq!(true_after(&mut obituary()), PAUSE * 127);
        assert_eq!(true_after(&mut obituary().of_suspect()), PAUSE * 15);
        let mut obituaries = Obituaries::default();
        obituaries.insert(obituary());
        assert!(obituaries.dial(ConnId(3)).is_some());
        assert!(!obituaries.heard(ConnId(4), true), "another stream");
        assert!(obituaries.heard(ConnId(3), true));
        let refused = obituaries.get(InstanceId::new(1)).expect("it is there");
        assert!(!refused.is_true(), "a firewall refuses too");
        assert_eq!(true_after(refused), PAUSE);
    }

    /// Goal: ports are tried a few at a time and each once, and the others' turn comes when one has refused or its check ends.
    /// Method: four more than may be tried at once; of the first, one refuses and one answers, and so does one that waits.
    #[test]
    fn ports_are_tried_a_few_at_a_time_and_each_once() {
        let instance = |n: usize| InstanceId::new(n as u64);
        let mut obituaries = Obituaries::default();
        for n in 1..=DIALS_MAX + 4 {
            let member = Identity { instance: instance(n), ..obituary().member };
            obituaries.insert(Obituary { member, ..obituary() });
        }
        let mut conns = (1..).map(ConnId);
        let mut dial_all = |obituaries: &mut Obituaries| -> usize {
            std::iter::from_fn(|| obituaries.may_dial().then(|| obituaries.dial(conns.next()?))).flatten().count()
        };
        assert_eq!(dial_all(&mut obituaries), DIALS_MAX);
        assert!(obituaries.heard(ConnId(1), true), "it refused");
        assert_eq!(obituaries.remove(instance(2)), Some(ConnId(2)), "it answered");
        assert_eq!(obituaries.remove(instance(DIALS_MAX + 1)), None, "it answered before its turn");
        assert_eq!(dial_all(&mut obituaries), 2);
        assert!(obituaries.heard(ConnId(3), false));
        assert_eq!(dial_all(&mut obituaries), 1);
        assert!(obituaries.heard(ConnId(4), false));
        assert_eq!(dial_all(&mut obituaries), 0, "each was tried once");
    }

    #[test]
    fn a_turn_that_comes_after_a_pause_does_not_count_and_a_little_late_ones_do() {
        let mut held_up = obituary();
        (1..QUESTIONS).for_each(|_| held_up.turn(held_up.next));
        held_up.turn(held_up.next + PAUSE * 31);
        assert!(!held_up.is_true(), "the last question may have been answered meanwhile");
        held_up.turn(held_up.next);
        assert!(held_up.is_true());
        let mut slow = obituary();
        (1..=QUESTIONS).for_each(|_| slow.turn(slow.next + PAUSE * 30));
        assert!(slow.is_true());
    }
}
