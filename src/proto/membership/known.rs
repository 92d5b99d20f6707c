//! Whether all members of a set are known here, told by the hash of the set alone.
//!
//! Whoever is asked says which members it knows, and its permission counts only if the asker knows each of them, be it
//! active or gone. While many members go at once hardly two nodes know the same set, and to exchange tables of members
//! with everybody who is asked would cost the cube of their number. But nearly all of these sets are told apart by deaths
//! alone: with those that are gone since a short while they are the same set again, or one that was known here before.

use std::collections::VecDeque;
use std::time::Duration;

use crate::proto::hash::fmix64;
use crate::proto::{Identity, Time};

/// For how long a member that is gone counts among those that were. A death is known everywhere within seconds; from then
/// on the sets of the active ones are equal again. It need not be known for longer, and must not be for ever, or a newcomer
/// that never knew the dead would never agree with anybody.
const GONE_FOR: Duration = Duration::from_secs(60);
/// As many as may come within a second, too.
const GONE_MAX: usize = 1_024;
/// So many sets are remembered: what a thousand nodes lose or gain within a second or two changes the set so often. 2 kB.
const SETS_MAX: usize = 256;

/// See the module. A hash of a set is a sum over its members, so that it follows each change at once.
#[derive(Debug, Default)]
pub(super) struct Known {
    active: u64,
    gone: VecDeque<(Time, Identity)>,
    gone_sum: u64,
    sets: VecDeque<u64>,
}

impl Known {
    /// The hash of the active members, this one included.
    pub(super) fn active(&self, me: Identity) -> u64 {
        self.active.wrapping_add(identity_hash(&me))
    }

    /// What those that are gone add to it.
    pub(super) fn gone(&self) -> u64 {
        self.gone_sum
    }

    /// How many those are.
    pub(super) fn gone_len(&self) -> usize {
        self.gone.len()
    }

    pub(super) fn came(&mut self, who: &Identity) {
        self.active = self.active.wrapping_add(identity_hash(who));
    }

    pub(super) fn went(&mut self, now: Time, who: &Identity) {
        self.active = self.active.wrapping_sub(identity_hash(who));
        self.gone_sum = self.gone_sum.wrapping_add(identity_hash(who));
        self.gone.push_back((now, *who));
        self.forget_gone(now);
    }

    /// Whoever is gone for long counts no longer.
    pub(super) fn forget_gone(&mut self, now: Time) {
        let is_over = |(since, _): &(Time, Identity), count| now.since(*since) >= GONE_FOR || count > GONE_MAX;
        while self.gone.front().is_some_and(|gone| is_over(gone, self.gone.len())) {
            let (_, who) = self.gone.pop_front().expect("there is one");
            self.gone_sum = self.gone_sum.wrapping_sub(identity_hash(&who));
        }
    }

    /// The sets of the active members as they are now, without those that are gone and with them, are known from now on.
    pub(super) fn note(&mut self, me: Identity) {
        let active = self.active(me);
        self.note_set(active);
        self.note_set(active.wrapping_add(self.gone_sum));
    }

    /// Each member of this set is active here, or gone.
    pub(super) fn note_set(&mut self, hash: u64) {
        if self.covers(hash) {
            return;
        }
        if self.sets.len() == SETS_MAX {
            self.sets.pop_front();
        }
        self.sets.push_back(hash);
    }

    /// Whether each member of this set is known to be active here, or gone.
    pub(super) fn covers(&self, hash: u64) -> bool {
        let (front, back) = self.sets.as_slices();
        front.contains(&hash) || back.contains(&hash)
    }

    /// Somebody that is gone is forgotten, and would be new again: what was known before may be no more.
    pub(super) fn forget_sets(&mut self) {
        self.sets.clear();
    }
}

/// What a member adds to the hash of a set. An identity that is gone never comes back; whoever was taken for dead has
/// another one, and makes another set.
pub(super) fn identity_hash(id: &Identity) -> u64 {
    let port = u64::from(id.addr.port());
    let ip = match id.addr.ip() {
        std::net::IpAddr::V4(ip) => u64::from(ip.to_bits()),
        std::net::IpAddr::V6(ip) => fmix64((ip.to_bits() >> 64) as u64) ^ ip.to_bits() as u64,
    };
    fmix64(fmix64(fmix64(ip ^ (port << 48)) ^ id.instance.get()) ^ u64::from(id.bump))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::InstanceId;

    fn member(number: u64, bump: u32) -> Identity {
        let addr = format!("10.0.0.{number}:7946").parse().expect("an address");
        Identity { addr, bump, instance: InstanceId::new(number) }
    }

    /// What member 1 knows when it has met the members 2 to 9.
    fn nine() -> Known {
        let mut known = Known::default();
        (2..10).for_each(|number| known.came(&member(number, 0)));
        known.note(member(1, 0));
        known
    }

    fn lose(known: &mut Known, now: Time, numbers: &[u64]) {
        for &number in numbers {
            known.went(now, &member(number, 0));
            known.note(member(1, 0));
        }
    }

    fn covers(known: &Known, told: &Known) -> bool {
        let (active, gone) = (told.active(member(1, 0)), told.gone());
        known.covers(active) || known.covers(active.wrapping_add(gone))
    }

    /// Goal: whoever has heard of other deaths than this node, or in another order, knows nobody whom it does not know.
    /// Method: two of nine members with any of the losses of three members.
    #[test]
    fn sets_that_differ_by_deaths_alone_are_known() {
        let losses: [&[u64]; 8] = [&[], &[2], &[3], &[4], &[3, 2], &[2, 4], &[4, 3], &[4, 2, 3]];
        for (ours, theirs) in losses.iter().flat_map(|one| losses.iter().map(move |other| (one, other))) {
            let (mut known, mut told) = (nine(), nine());
            lose(&mut known, Time::ZERO, ours);
            lose(&mut told, Time::ZERO, theirs);
            assert!(covers(&known, &told), "{ours:?} and {theirs:?}");
        }
    }

    /// Goal: a newcomer is not taken for known, and neither is a member that was held for dead and has come back.
    /// Method: the other one meets them; then this one does.
    #[test]
    fn newcomers_and_those_who_come_back_from_the_dead_make_other_sets() {
        for newcomer in [member(10, 0), member(2, 1)] {
            let (mut known, mut told) = (nine(), nine());
            lose(&mut known, Time::ZERO, &[2]);
            lose(&mut told, Time::ZERO, &[2]);
            told.came(&newcomer);
            assert!(!covers(&known, &told), "{newcomer:?}");
            known.came(&newcomer);
            known.note(member(1, 0));
            assert!(covers(&known, &told), "{newcomer:?}");
        }
    }

    /// Goal: those that are gone are forgotten, and so is what was known before: one by one when their time is over, and
    /// beyond a number.
    /// Method: two deaths half a minute apart; then more deaths than are remembered.
    #[test]
    fn the_dead_are_forgotten_and_the_sets_are_bounded() {
        let mut known = nine();
        lose(&mut known, Time::ZERO, &[2]);
        let later = Time::ZERO + GONE_FOR / 2;
        lose(&mut known, later, &[3]);
        known.forget_gone(Time::ZERO + GONE_FOR);
        assert_eq!(known.gone(), identity_hash(&member(3, 0)));
        known.forget_gone(later + GONE_FOR);
        assert_eq!(known.gone(), 0);
        for number in 0..2 * GONE_MAX as u32 {
            known.came(&member(4, number + 1));
            known.went(later, &member(4, number + 1));
            known.note(member(1, 0));
        }
        assert_eq!((known.gone.len(), known.sets.len()), (GONE_MAX, SETS_MAX));
        known.forget_sets();
        assert!(!known.covers(nine().active(member(1, 0))));
    }
}
