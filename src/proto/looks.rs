//! Looks at members whose process may have ended: does the port refuse, does a probe find silence, do others see the same?
//!
//! When a process dies, its kernel closes its streams and refuses new ones, within a millisecond; silence takes seconds to
//! judge. None of the signs is proof alone: a firewall refuses, a stopped process is silent (but its kernel accepts), a
//! stream may break at some limit, and a looker whose own network is broken sees everybody like that. So a member is
//! taken for crashed only when its port refuses *and* it answers nothing, two members see it so, and none of those asked
//! reaches it.
//!
//! May not: send anything, choose whom to ask, or say what a death means.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{ConnId, Identity, Rule, Sabotage, Time};

/// Looks at once. Beyond, members are left to SWIM's probes.
pub(crate) const LOOKS_MAX: usize = 64;
/// Of them, those that another member asked for: they must not keep this node from looking of its own accord.
const ASKED_MAX: usize = LOOKS_MAX / 2;
/// Looks begun within a second because another member asked: each dials a third one, which forged requests must not make an
/// attack on it.
const ASKED_PER_SECOND_MAX: usize = 64;
/// Pauses before silence counts, with a probe before each: with a tenth of all datagrams lost, both ways, one of them fails in a thousand looks.
pub(crate) const PROBES: u32 = 4;
/// After so many pauses a look that waits for others ends, unless it is patient.
const TURNS_MAX: u32 = 3 * PROBES;
/// A stream that is accepted and ends at once may be one of the last that a dying process was given.
const DIALS_MAX: u32 = 3;
/// Members that one look is told to; any further one asks again.
const ASKERS_MAX: usize = 16;

/// What the port of a member did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    /// Nothing yet.
    Dialled,
    /// It took the stream: a process is there, running or not.
    Accepts,
    /// Its machine says that nobody listens.
    Refuses,
    /// It could not be tried.
    Unknown,
}

/// How far a look is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes on.
    Open,
    /// The member answers, or its process is there, or somebody else reaches it.
    Lives,
    /// Nothing was found out.
    Unclear,
    /// Whoever asked was told; this node accuses nobody.
    Told,
    /// The process of the member has ended.
    Crashed,
}

/// One look at one member.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) suspect: Identity,
    /// How long to wait between two probes.
    pub(crate) pause: Duration,
    /// When it goes on.
    pub(crate) next: Time,
    /// Whether this node saw a reason itself, and not only another one asked.
    pub(crate) accuses: bool,
    /// How long it waits in all where the process seems to have ended and those who were asked are silent: where many die
    /// together the deaths of those become known meanwhile, and others are asked.
    patience_max: Duration,
    began: Time,
    waited: Duration,
    /// The stream that tries the port.
    pub(crate) conn: Option<ConnId>,
    dialled: Time,
    port: Port,
    dials: u32,
    answered: bool,
    turns: u32,
    askers: Vec<(Identity, u64)>,
    /// Who was asked to look too, and whether they say that it is gone.
    witnesses: Vec<(Identity, Option<bool>)>,
    /// Whether one of them died before it said anything, and is one no more.
    has_lost_witness: bool,
}

impl Look {
    pub(crate) fn new(suspect: Identity, now: Time, pause: Duration, patience_max: Duration) -> Self {
        Look {
            suspect,
            pause,
            next: now + pause,
            accuses: false,
            patience_max,
            began: now,
            waited: Duration::ZERO,
            conn: None,
            dialled: now,
            port: Port::Dialled,
            dials: 0,
            answered: false,
            turns: 0,
            askers: Vec::new(),
            witnesses: Vec::new(),
            has_lost_witness: false,
        }
    }

    /// The port is tried by this stream.
    pub(crate) fn dialled(&mut self, now: Time, conn: ConnId) {
        self.conn = Some(conn);
        self.dialled = now;
        self.dials += 1;
        self.port = Port::Dialled;
    }

    pub(crate) fn accepted(&mut self) {
        self.port = Port::Accepts;
    }

    /// The port refuses. That took a round trip, and answers may take as long.
    pub(crate) fn refused(&mut self, now: Time) {
        self.conn = None;
        self.port = Port::Refuses;
        self.pause = self.pause.max(now.since(self.dialled));
    }

    /// The stream has ended, or could not be opened. Says whether to try again.
    pub(crate) fn closed(&mut self) -> bool {
        self.conn = None;
        match self.port {
            // It goes on being accepted: that it was closed may be a limit of streams.
            Port::Accepts => self.dials < DIALS_MAX,
            _ => {
                self.port = Port::Unknown;
                false
            }
        }
    }

    pub(crate) fn answered(&mut self) {
        self.answered = true;
    }

    /// Somebody wants to know.
    pub(crate) fn add_asker(&mut self, asker: (Identity, u64)) {
        if self.askers.len() < ASKERS_MAX && !self.askers.contains(&asker) {
            self.askers.push(asker);
        }
    }

    /// Those who want to know, to be told what was seen, and the numbers of their requests.
    pub(crate) fn take_askers(&mut self) -> Vec<(Identity, u64)> {
        std::mem::take(&mut self.askers)
    }

    /// Whether others should be asked to look too.
    pub(crate) fn wants_witnesses(&self, sabotage: Sabotage) -> bool {
        self.accuses && (self.port == Port::Refuses || sabotage.lacks(Rule::CrashIsRefused))
    }

    /// Who is asked to look too, and has not said what it sees.
    pub(crate) fn silent_witnesses(&self) -> Vec<Identity> {
        self.witnesses.iter().filter(|(_, seen)| seen.is_none()).map(|(witness, _)| *witness).collect()
    }

    /// Whether nobody was asked yet, or somebody who died before it said anything.
    pub(crate) fn lacks_witnesses(&self, is_member: impl Fn(Identity) -> bool) -> bool {
        self.witnesses.is_empty() || self.witnesses.iter().any(|&(witness, seen)| seen.is_none() && !is_member(witness))
    }

    /// As many look too as were chosen: whoever died before it said anything is replaced.
    pub(crate) fn choose_witnesses(&mut self, chosen: Vec<Identity>, is_member: impl Fn(Identity) -> bool) {
        let asked = self.witnesses.len();
        self.witnesses.retain(|&(witness, seen)| seen.is_some() || is_member(witness));
        self.has_lost_witness |= self.witnesses.len() < asked;
        let most = chosen.len().max(self.witnesses.len());
        for witness in chosen {
            // One that took another identity is one process still.
            if self.witnesses.iter().all(|(other, _)| other.instance != witness.instance) {
                self.witnesses.push((witness, None));
            }
        }
        self.witnesses.truncate(most);
    }

    /// One of them has looked. Whoever has reached the member once contradicts, whatever it sees later.
    pub(crate) fn witnessed(&mut self, by: Identity, gone: bool) {
        for (_, seen) in self.witnesses.iter_mut().filter(|(witness, _)| witness.instance == by.instance) {
            *seen = Some(gone && seen.unwrap_or(true));
        }
    }

    /// Time for the next probe. One that comes too late by as long as a member has to answer shows that this process was
    /// held up itself: it begins anew, and so do those that it asked.
    pub(crate) fn turn(&mut self, now: Time) {
        self.turns += 1;
        if now.since(self.next) > self.patience() {
            self.turns = 0;
            self.began = now;
            self.witnesses.iter_mut().for_each(|(_, seen)| *seen = None);
        }
        self.waited = now.since(self.began);
        self.next = now + if self.turns < TURNS_MAX { self.pause } else { self.patience() };
    }

    /// How long the member has to answer.
    pub(crate) fn patience(&self) -> Duration {
        self.pause * PROBES
    }

    /// Whether to probe again: as long as the look goes on, so that a process that comes back contradicts.
    pub(crate) fn probes(&self) -> bool {
        !self.answered
    }

    /// Whether the member is gone, as far as this node can see itself.
    pub(crate) fn sight(&self, sabotage: Sabotage) -> Option<bool> {
        let is_silent = !self.answered && self.turns >= PROBES;
        if is_silent && sabotage.lacks(Rule::CrashIsRefused) {
            return Some(true);
        }
        match self.port {
            Port::Refuses if is_silent || sabotage.lacks(Rule::CrashIsSilent) => Some(true),
            // If it is silent, it is stopped or too slow: that it accepts proves no life, but no death either.
            Port::Accepts if self.answered || is_silent => Some(false),
            _ if self.answered && !sabotage.lacks(Rule::CrashIsSilent) => Some(false),
            _ => None,
        }
    }

    /// What is to be done. `suffices`: there is nobody else to ask, and this look alone has to do. `most_live`: far more
    /// members live than are or seem to be dead.
    pub(crate) fn verdict(&self, suffices: bool, most_live: bool, sabotage: Sabotage) -> Verdict {
        let is_over = self.turns >= TURNS_MAX;
        match self.sight(sabotage) {
            Some(false) => return Verdict::Lives,
            // Whoever asked is more patient, and would take no answer for one that agrees or is gone.
            None if self.turns >= PROBES && !self.askers.is_empty() && !is_over && self.port != Port::Unknown => {
                return Verdict::Open;
            }
            None if self.port == Port::Unknown || self.turns >= PROBES => return Verdict::Unclear,
            None => return Verdict::Open,
            Some(true) if !self.accuses => return if is_over { Verdict::Told } else { Verdict::Open },
            Some(true) => {}
        }
        let count = |what| self.witnesses.iter().filter(|(_, seen)| *seen == what).count();
        let missing = count(None);
        // One who does not answer may have died in the same moment. Where most are silent, the network of this node is
        // broken, and whoever agrees may share it.
        let are_enough = missing == 0 || missing == 1 && self.witnesses.len() >= 3 && self.turns >= 2 * PROBES;
        // A few that share a broken network would replace all who could contradict, one after the other.
        let may_judge = are_enough && (most_live || !self.has_lost_witness || sabotage.lacks(Rule::MostLiveToReplace));
        if suffices || sabotage.lacks(Rule::CrashHasTwoWitnesses) {
            Verdict::Crashed
        } else if count(Some(false)) > 0 && !sabotage.lacks(Rule::OneWhoReachesItSuffices) {
            Verdict::Lives
        } else if count(Some(true)) > 0 && may_judge {
            Verdict::Crashed
        } else if !is_over || self.waited < self.patience_max {
            Verdict::Open
        } else if sabotage.lacks(Rule::UnwellAccusesNobody) {
            Verdict::Crashed
        } else {
            Verdict::Unclear
        }
    }
}

/// The looks that go on, by number.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    looks: BTreeMap<u64, Look>,
    /// When looks were begun because another member asked, of the last second.
    asked: VecDeque<Time>,
}

impl Looks {
    /// Begins a look; `false` where there are too many.
    pub(crate) fn insert(&mut self, now: Time, number: u64, look: Look, is_asked: bool) -> bool {
        let has_room = self.looks.len() < LOOKS_MAX && (!is_asked || self.may_be_asked(now));
        if has_room {
            self.asked.extend(is_asked.then_some(now));
            self.looks.insert(number, look);
        }
        has_room
    }

    fn may_be_asked(&mut self, now: Time) -> bool {
        while self.asked.front().is_some_and(|begun| now.since(*begun) >= Duration::from_secs(1)) {
            self.asked.pop_front();
        }
        let asked = self.looks.values().filter(|look| !look.accuses).count();
        asked < ASKED_MAX && self.asked.len() < ASKED_PER_SECOND_MAX
    }

    pub(crate) fn get(&mut self, number: u64) -> Option<&mut Look> {
        self.looks.get_mut(&number)
    }

    /// The look at this member, if one goes on.
    pub(crate) fn at(&self, suspect: Identity) -> Option<u64> {
        self.looks.iter().find(|(_, look)| look.suspect == suspect).map(|(&number, _)| number)
    }

    /// The look that tries a port by this stream.
    pub(crate) fn by(&self, conn: ConnId) -> Option<u64> {
        self.looks.iter().find(|(_, look)| look.conn == Some(conn)).map(|(&number, _)| number)
    }

    /// Ends a look.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Look> {
        self.looks.remove(&number)
    }

    /// The looks at members that this does not hold for.
    pub(crate) fn all_but(&self, keep: impl Fn(Identity) -> bool) -> Vec<u64> {
        self.looks.iter().filter(|(_, look)| !keep(look.suspect)).map(|(&number, _)| number).collect()
    }

    /// How many members seem to be gone, as far as this node can see itself.
    pub(crate) fn seen_gone(&self, sabotage: Sabotage) -> usize {
        self.looks.values().filter(|look| look.sight(sabotage) == Some(true)).count()
    }

    /// Those that have asked somebody who died before it said anything, or nobody.
    pub(crate) fn lacking_witnesses(&self, is_member: impl Fn(Identity) -> bool) -> Vec<u64> {
        self.looks.iter().filter(|(_, look)| look.lacks_witnesses(&is_member)).map(|(&number, _)| number).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.looks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::InstanceId;
    use super::*;

    fn member(number: u16) -> Identity {
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], number));
        Identity { addr, bump: 0, instance: InstanceId::new(number.into()) }
    }

    /// A look of this node's own accord that has asked members 2, 3 and 4.
    fn look(sign: impl FnOnce(&mut Look), turns: u32) -> Look {
        let mut look = Look::new(member(1), Time::ZERO, Duration::from_millis(10), Duration::from_millis(200));
        look.accuses = true;
        look.dialled(Time::ZERO, ConnId(1));
        look.choose_witnesses(vec![member(2), member(3), member(4)], |_| true);
        sign(&mut look);
        (0..turns).for_each(|_| look.turn(look.next));
        look
    }

    /// Goal: each sign alone, and each contradiction, ends in no death. Method: a table of what the port did, what others
    /// said, and how many turns went by.
    #[test]
    fn a_crash_is_refused_silent_seen_by_another_and_contradicted_by_nobody() {
        type Sign = fn(&mut Look);
        type Row = (Sign, &'static [(u16, bool)], u32, Verdict);
        let closed: Sign = |look| assert!(!look.closed());
        let refused: Sign = |look| look.refused(Time::ZERO);
        let refused_but_answered: Sign = |look| {
            look.refused(Time::ZERO);
            look.answered();
        };
        let table: [Row; 18] = [
            (|_| {}, &[], 3, Verdict::Open),
            (|_| {}, &[], 4, Verdict::Unclear),
            (closed, &[], 0, Verdict::Unclear),
            (Look::accepted, &[], 3, Verdict::Open),
            (Look::accepted, &[(2, true), (3, true), (4, true)], 4, Verdict::Lives),
            (refused, &[], 3, Verdict::Open),
            (refused, &[], 11, Verdict::Open),
            (refused, &[], 13, Verdict::Open),
            (refused, &[], 14, Verdict::Unclear),
            (refused_but_answered, &[(2, true), (3, true), (4, true)], 0, Verdict::Lives),
            (refused, &[(2, true)], 13, Verdict::Open),
            (refused, &[(2, true)], 14, Verdict::Unclear),
            (refused, &[(2, true), (3, true)], 7, Verdict::Open),
            (refused, &[(2, true), (3, true)], 8, Verdict::Crashed),
            (refused, &[(2, true), (3, true), (4, true)], 3, Verdict::Open),
            (refused, &[(2, true), (3, true), (4, true)], 4, Verdict::Crashed),
            (refused, &[(2, true), (3, true), (4, false)], 4, Verdict::Lives),
            (refused, &[(2, true), (3, false), (4, true), (3, true)], 4, Verdict::Lives),
        ];
        for (number, (sign, seen, turns, expected)) in table.into_iter().enumerate() {
            let mut look = look(sign, turns);
            seen.iter().for_each(|&(by, gone)| look.witnessed(member(by), gone));
            assert_eq!(look.verdict(false, true, Sabotage::default()), expected, "row {number}");
        }
    }

    #[test]
    fn in_a_pair_one_look_has_to_do_and_whoever_was_only_asked_accuses_nobody() {
        let mut look = look(|look| look.refused(Time::ZERO), 4);
        assert_eq!(look.verdict(true, true, Sabotage::default()), Verdict::Crashed);
        look.accuses = false;
        assert_eq!(look.sight(Sabotage::default()), Some(true));
        assert_eq!(look.verdict(true, true, Sabotage::default()), Verdict::Open);
    }

    #[test]
    fn a_look_that_was_held_up_itself_begins_anew() {
        let mut look = look(|look| look.refused(Time::ZERO), 3);
        look.turn(look.next + Duration::from_millis(41));
        assert_eq!(look.verdict(true, true, Sabotage::default()), Verdict::Open);
        (0..4).for_each(|_| look.turn(look.next));
        assert_eq!(look.verdict(true, true, Sabotage::default()), Verdict::Crashed);
    }

    #[test]
    fn what_others_saw_before_this_process_was_held_up_is_asked_again() {
        let mut look = look(|look| look.refused(Time::ZERO), 3);
        (2..=4).for_each(|witness| look.witnessed(member(witness), true));
        look.turn(look.next + Duration::from_millis(41));
        assert_eq!(look.silent_witnesses().len(), 3);
        (0..4).for_each(|_| look.turn(look.next));
        assert_eq!(look.verdict(false, true, Sabotage::default()), Verdict::Open);
    }

    /// Goal: one who was asked and has died is replaced, unless it had said what it sees; those who live are not.
    /// Method: of three, one has agreed, and that one and another one die.
    #[test]
    fn whoever_was_asked_and_died_is_replaced() {
        let mut look = look(|look| look.refused(Time::ZERO), 4);
        look.witnessed(member(2), true);
        assert!(!look.lacks_witnesses(|_| true));
        let is_member = |witness| witness != member(2) && witness != member(3);
        assert!(look.lacks_witnesses(is_member));
        look.choose_witnesses(vec![member(4), member(5), member(6)], is_member);
        assert_eq!(look.silent_witnesses(), [member(4), member(5)]);
        look.witnessed(member(3), false);
        assert_eq!(
            look.verdict(false, true, Sabotage::default()),
            Verdict::Open,
            "what the dead one said comes too late"
        );
        look.witnessed(member(5), true);
        look.witnessed(member(4), true);
        assert_eq!(look.verdict(false, true, Sabotage::default()), Verdict::Crashed);
        assert_eq!(look.verdict(false, false, Sabotage::default()), Verdict::Open, "most are dead");
    }

    #[test]
    fn one_that_was_asked_and_takes_another_identity_does_not_count_twice() {
        let mut look = look(|look| look.refused(Time::ZERO), 8);
        look.witnessed(member(2), true);
        let renamed = Identity { bump: 1, ..member(2) };
        let is_member = |witness| witness != member(2) && witness != member(4);
        look.choose_witnesses(vec![renamed, member(3), member(5)], is_member);
        assert_eq!(look.silent_witnesses(), [member(3), member(5)]);
        look.witnessed(renamed, true);
        assert_eq!(look.verdict(false, true, Sabotage::default()), Verdict::Open);
    }

    /// Goal: what others ask for is bounded, at once and by time, and leaves room for what this node sees itself.
    #[test]
    fn looks_on_request_are_bounded_and_leave_room_for_others() {
        let look = || Look::new(member(1), Time::ZERO, Duration::from_millis(10), Duration::from_millis(200));
        let mut looks = Looks::default();
        let begun = (0..100).filter(|&number| looks.insert(Time::ZERO, number, look(), true)).count();
        assert_eq!(begun, ASKED_MAX);
        let begun = (100..200).filter(|&number| looks.insert(Time::ZERO, number, look(), false)).count();
        assert_eq!(begun, LOOKS_MAX - ASKED_MAX);
        let mut looks = Looks::default();
        let mut one_by_one = |now, number| {
            let has_begun = looks.insert(now, number, look(), true);
            looks.remove(number);
            has_begun
        };
        assert_eq!((0..100).filter(|&number| one_by_one(Time::ZERO, number)).count(), ASKED_PER_SECOND_MAX);
        assert!(one_by_one(Time::ZERO + Duration::from_secs(1), 100));
    }

    /// Goal: a witness whose way to the member is longer than it knows does not leave the one who asked without an answer.
    /// Method: its probe is answered after five turns, and then the one who asked is to be told; without an answer the look
    /// ends in its time.
    #[test]
    fn whoever_was_asked_waits_for_an_answer_as_long_as_a_look_may_last() {
        let mut look = look(|look| look.accuses = false, 4);
        assert_eq!(look.verdict(false, true, Sabotage::default()), Verdict::Unclear, "nobody waits for it");
        look.add_asker((member(9), 7));
        assert_eq!(look.verdict(false, true, Sabotage::default()), Verdict::Open);
        look.turn(look.next);
        look.answered();
        assert_eq!(look.sight(Sabotage::default()), Some(false));
        assert_eq!(look.take_askers(), [(member(9), 7)]);
        let mut silent = self::look(|look| look.add_asker((member(9), 7)), 12);
        silent.accuses = false;
        assert_eq!(silent.verdict(false, true, Sabotage::default()), Verdict::Unclear);
    }

    #[test]
    fn whoever_takes_long_to_refuse_may_take_as_long_to_answer() {
        let look = look(|look| look.refused(Time::ZERO + Duration::from_millis(30)), 1);
        assert_eq!(look.next, Time::ZERO + Duration::from_millis(10 + 30));
    }

    #[test]
    fn a_port_that_accepts_and_closes_is_tried_again_a_few_times() {
        let mut look = look(Look::accepted, 0);
        for dial in 2..=3 {
            assert!(look.closed());
            look.dialled(Time::ZERO, ConnId(dial));
            look.accepted();
        }
        assert!(!look.closed());
        (0..4).for_each(|_| look.turn(look.next));
        assert_eq!(look.verdict(true, true, Sabotage::default()), Verdict::Lives, "it goes on being accepted");
    }
}
