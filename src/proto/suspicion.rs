//! When a silent member is given up: at once doubted by whoever misses a sign of life, then suspected and asked by a few at
//! the same time, and down the sooner the more of them hear nothing (Lifeguard's suspicion, Dadgar et al. 2018).
//!
//! What counts is not how much time goes by but how many questions stay unanswered that were asked in time: a process that
//! was held up itself has not listened.
//!
//! May not: send anything, choose whom to ask, or say what a death means.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Identity, InstanceId, Time};
use crate::config::Profile;

/// Members that ask a suspect, each for itself: those whose word is needed, and two more that may be dead, cut off or
/// standing still in the same moment.
pub(crate) const JURORS: usize = CONFIRMATIONS_MAX + 3;
/// So many others that hear nothing shorten a suspicion as far as it goes. With one the accuser's own network may be broken,
/// with two also that of its neighbour; the fourth witness in all makes it the suspect's.
const CONFIRMATIONS_MAX: usize = 3;
/// How far a suspicion is shortened by none, one, two and three others, in thousandths of the way from the longest to the
/// shortest, where so many may confirm it: Lifeguard's log(C + 1) / log(K + 1), so that the first counts most.
const SHARES: [[u32; CONFIRMATIONS_MAX + 1]; CONFIRMATIONS_MAX + 1] =
    [[0; 4], [0, 1_000, 1_000, 1_000], [0, 631, 1_000, 1_000], [0, 500, 792, 1_000]];
/// Unanswered questions after which a member that was missed is suspected, and after which a juror says that it hears nothing
/// either: at a loss of 10 % both ways, seven of a thousand healthy ones.
const QUESTIONS: u32 = 3;
/// A turn that is later than so many is late: less happens to every process now and then, and a slow one is late by as much
/// each time and still hears what is said.
pub(crate) const LATE_AFTER: u32 = 3;
/// How many questions a late turn takes back: what waits to be read must have been read before anything is decided.
const LATE_COSTS: u32 = 3;

/// How long a suspicion lasts of which so many others know, of those `others` that could.
pub(crate) fn lasts(profile: Profile, max: Duration, confirmations: usize, others: usize) -> Duration {
    let expected = others.min(CONFIRMATIONS_MAX);
    let share = SHARES[expected][confirmations.min(CONFIRMATIONS_MAX)];
    let min = profile.suspicion_min().min(max);
    max - (max - min) * share / 1_000
}

/// A member that does not answer.
#[derive(Debug)]
pub(crate) struct Doubt {
    pub(crate) member: Identity,
    /// The number of the probes that it is sent before it is suspected.
    pub(crate) number: u64,
    /// At which incarnation it is suspected; `None` while only this node misses it.
    pub(crate) suspected_at: Option<u16>,
    /// Whether this node was the one that missed it.
    pub(crate) is_mine: bool,
    /// When it is asked again.
    pub(crate) next: Time,
    /// How long it has for each answer.
    turn: Duration,
    /// How many questions it left unanswered.
    turns: u32,
    confirmed_by: BTreeSet<InstanceId>,
}

impl Doubt {
    pub(crate) fn new(member: Identity, number: u64, now: Time, turn: Duration) -> Self {
        Doubt {
            member,
            number,
            suspected_at: None,
            is_mine: false,
            next: now + turn,
            turn,
            turns: 0,
            confirmed_by: BTreeSet::new(),
        }
    }

    /// From now on it is suspected: it is asked anew, and so are the others.
    pub(crate) fn suspect(&mut self, now: Time, incarnation: u16) {
        self.suspected_at = Some(incarnation);
        self.next = now + self.turn;
        self.turns = 0;
        self.confirmed_by.clear();
    }

    /// The time for an answer is over. Says whether this node comes too late to tell: it was held up itself.
    pub(crate) fn turn(&mut self, now: Time) -> bool {
        let is_late = now.since(self.next) > self.turn * LATE_AFTER;
        self.turns = if is_late { self.turns.saturating_sub(LATE_COSTS) } else { self.turns + 1 };
        self.next = now + self.turn;
        is_late
    }

    /// This node has not listened: nothing counts that went before.
    pub(crate) fn restart(&mut self) {
        self.turns = 0;
        self.confirmed_by.clear();
    }

    /// Another member hears nothing of it either.
    pub(crate) fn confirm(&mut self, by: InstanceId) {
        self.confirmed_by.insert(by);
    }

    /// Whether it was silent for long enough to be suspected by a node that is so well.
    pub(crate) fn is_suspicious(&self, health_factor: u32) -> bool {
        self.turns >= QUESTIONS * health_factor
    }

    /// Whether it has been suspected and silent for so long that a death of which others tell is believed: half of what it
    /// takes to give it up at the earliest.
    pub(crate) fn confirms(&self, profile: Profile) -> bool {
        self.suspected_at.is_some() && self.turn * self.turns >= profile.suspicion_min() / 2
    }

    /// Whether now is a time to tell the other jurors: again and again, because what is told may be lost.
    pub(crate) fn is_telling(&self) -> bool {
        self.turns > 0 && self.turns.is_multiple_of(QUESTIONS)
    }

    /// Whether it is given up, where a suspicion lasts so long at most and so many others could confirm it.
    pub(crate) fn is_over(&self, profile: Profile, max: Duration, others: usize) -> bool {
        self.turn * self.turns >= lasts(profile, max, self.confirmed_by.len(), others)
    }
}

/// A sign of life that a member has promised.
#[derive(Clone, Copy, Debug)]
struct Expected {
    /// By when; `None` while it is doubted, because it has not come.
    by: Option<Time>,
    /// How long after the last one.
    within: Duration,
    /// How many have not come since the last one that did, although the member lives.
    missed: u32,
}

/// After so many in a row that did not come from a member that lives, it gives them to somebody else.
const MISSED_MAX: u32 = 6;

/// The members that this node doubts, and those of which it expects a sign of life.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    doubts: BTreeMap<InstanceId, Doubt>,
    expected: BTreeMap<InstanceId, Expected>,
    /// It is not looked before who is overdue.
    pub(crate) looks_from: Time,
}

impl Doubts {
    pub(crate) fn get(&mut self, instance: InstanceId) -> Option<&mut Doubt> {
        self.doubts.get_mut(&instance)
    }

    pub(crate) fn insert(&mut self, doubt: Doubt) {
        self.doubts.insert(doubt.member.instance, doubt);
    }

    pub(crate) fn remove(&mut self, instance: InstanceId) -> Option<Doubt> {
        self.doubts.remove(&instance)
    }

    /// A sign of life came, and says within which time the next one will. It ends a doubt that is this node's alone.
    pub(crate) fn expect(&mut self, instance: InstanceId, now: Time, within: Duration) {
        if self.doubts.get(&instance).is_some_and(|doubt| doubt.suspected_at.is_none()) {
            self.doubts.remove(&instance);
        }
        self.expected.insert(instance, Expected { by: Some(now + within), within, missed: 0 });
    }

    /// A member lives whose sign of life did not come: it may have been lost, and the next one is expected.
    pub(crate) fn expect_again(&mut self, instance: InstanceId, now: Time) {
        if let Some(expected) = self.expected.get_mut(&instance).filter(|expected| expected.by.is_none()) {
            expected.by = Some(now + expected.within);
            expected.missed += 1;
            if expected.missed >= MISSED_MAX {
                self.expected.remove(&instance);
            }
        }
    }

    /// When the next sign of life is overdue, and that is looked at. Each that comes puts it off, so that nobody wakes for
    /// what has come.
    pub(crate) fn next_look(&self) -> Option<Time> {
        let next = self.expected.values().filter_map(|expected| expected.by).min();
        next.map(|next| next.max(self.looks_from))
    }

    /// Those whose sign of life has not come.
    pub(crate) fn take_overdue(&mut self, now: Time) -> Vec<InstanceId> {
        let mut overdue = Vec::new();
        for (&instance, expected) in self.expected.iter_mut().filter(|(_, it)| it.by.is_some_and(|by| by <= now)) {
            expected.by = None;
            overdue.push(instance);
        }
        overdue
    }

    /// This node has not listened for a while. What it expected it goes on to expect: a sign of life that is overdue then
    /// raises a question and no more, and whoever fell silent meanwhile would be missed by nobody.
    pub(crate) fn restart(&mut self) {
        self.doubts.values_mut().for_each(Doubt::restart);
    }

    /// Forgets whoever this does not hold for.
    pub(crate) fn retain(&mut self, keep: impl Fn(InstanceId, Option<Identity>) -> bool) {
        self.doubts.retain(|instance, doubt| keep(*instance, Some(doubt.member)));
        self.expected.retain(|instance, _| keep(*instance, None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(4);

    fn member(number: u16) -> Identity {
        let addr = std::net::SocketAddr::from(([127, 0, 0, 1], number));
        Identity { addr, bump: 0, instance: InstanceId::new(number.into()) }
    }

    fn suspected() -> Doubt {
        let mut doubt = Doubt::new(member(1), 7, Time::ZERO, TURN);
        doubt.suspect(Time::ZERO, 0);
        doubt
    }

    fn turns_until_over(doubt: &mut Doubt, others: usize) -> u32 {
        let mut turns = 0;
        while !doubt.is_over(Profile::Lan, MAX, others) {
            doubt.turn(doubt.next);
            turns += 1;
        }
        turns
    }

    /// Goal: the suspicion lasts as Lifeguard says. Method: its formula beside the table, for every row.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "compared with a tolerance, and on no node")]
    fn a_suspicion_is_the_shorter_the_more_confirm_it() {
        let min = Profile::Lan.suspicion_min();
        for others in 1..=5_usize {
            let mut before = Duration::MAX;
            for confirmations in 0..=others.min(3) {
                let share = ((confirmations + 1) as f64).ln() / ((others.min(3) + 1) as f64).ln();
                let expected = MAX.as_secs_f64() - (MAX - min).as_secs_f64() * share;
                let lasts = lasts(Profile::Lan, MAX, confirmations, others);
                assert!((lasts.as_secs_f64() - expected).abs() < 0.01, "{confirmations} of {others}: {lasts:?}");
                assert!(lasts < before);
                before = lasts;
            }
        }
        assert_eq!(lasts(Profile::Lan, MAX, 0, 0), MAX, "where nobody can confirm it");
        assert_eq!(lasts(Profile::Lan, MAX, 9, 9), min);
    }

    #[test]
    fn questions_that_stay_unanswered_end_it_and_others_that_hear_nothing_end_it_sooner() {
        assert_eq!(turns_until_over(&mut suspected(), 8), 40);
        let mut doubt = suspected();
        // The same one twice is one.
        [2, 3, 4, 4].into_iter().for_each(|by| doubt.confirm(member(by).instance));
        assert_eq!(turns_until_over(&mut doubt, 8), 13);
    }

    #[test]
    fn a_death_that_others_tell_of_is_confirmed_by_half_a_suspicion() {
        let mut doubt = suspected();
        (0..6).for_each(|_| assert!(!doubt.turn(doubt.next)));
        assert!(!doubt.confirms(Profile::Lan));
        doubt.turn(doubt.next);
        assert!(doubt.confirms(Profile::Lan));
    }

    #[test]
    fn whoever_was_held_up_itself_asks_again() {
        let mut doubt = suspected();
        (2..=4).for_each(|by| doubt.confirm(member(by).instance));
        (0..12).for_each(|_| assert!(!doubt.turn(doubt.next)));
        assert!(doubt.turn(doubt.next + Duration::from_secs(1)), "late");
        assert!(!doubt.is_over(Profile::Lan, MAX, 8));
        assert_eq!(turns_until_over(&mut doubt, 8), 4);
        doubt.restart();
        assert_eq!(turns_until_over(&mut doubt, 8), 40, "after a pause nothing counts, not even what others heard");
    }

    #[test]
    fn an_unwell_node_waits_longer_before_it_accuses() {
        let mut doubt = Doubt::new(member(1), 7, Time::ZERO, TURN);
        (0..3).for_each(|_| assert!(!doubt.turn(doubt.next)));
        assert!(doubt.is_suspicious(1) && !doubt.is_suspicious(2));
    }

    #[test]
    fn a_sign_of_life_ends_what_one_node_doubts_and_not_what_all_suspect() {
        let mut doubts = Doubts::default();
        let soon = Time::ZERO + TURN;
        doubts.insert(Doubt::new(member(1), 7, Time::ZERO, TURN));
        doubts.expect(member(1).instance, Time::ZERO, TURN);
        assert!(doubts.get(member(1).instance).is_none());
        doubts.insert(suspected());
        doubts.expect(member(1).instance, Time::ZERO, TURN);
        assert!(doubts.get(member(1).instance).is_some());
        assert_eq!(doubts.next_look(), Some(soon));
        assert_eq!(doubts.take_overdue(Time::ZERO), []);
        assert_eq!(doubts.take_overdue(soon), [member(1).instance]);
        assert_eq!(doubts.next_look(), None);
    }

    #[test]
    fn a_lost_sign_of_life_is_followed_by_the_next_until_too_many_are_lost() {
        let mut doubts = Doubts::default();
        doubts.expect(member(1).instance, Time::ZERO, TURN);
        let mut missed = 0;
        while let Some(next) = doubts.next_look() {
            assert_eq!(doubts.take_overdue(next), [member(1).instance]);
            doubts.expect_again(member(1).instance, next);
            missed += 1;
        }
        assert_eq!(missed, MISSED_MAX);
    }
}
