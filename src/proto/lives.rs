//! Which lives of other nodes are believed in a keyed cluster, and what each of them has said already.
//!
//! A sealed packet proves that somebody with a key has sealed it, not that it was just now: it may have been recorded,
//! hours ago, from a process that has ended since. Nothing else than its members remembers that, and when all of them have
//! been restarted nobody does. So a life is believed when a member that is believed calls it one, or when it has answered
//! a challenge: on a stream by the handshake, on UDP by a number that it sends back.
//!
//! May not: know what packets say.

use std::collections::BTreeMap;
use std::time::Duration;

use super::packet::{Life, Stamp};
use super::{InstanceId, Time};

/// How many counters below the highest one of a life are remembered. Its packets to everybody share one counter, so that
/// of a hundred members each gets every hundredth; what was overtaken by more than this is lost.
const WINDOW: u64 = (WORDS as u64 - 1) * 64;
const WORDS: usize = 33;

/// How long a challenge may be answered: a slow round trip.
const CHALLENGE_MAX: Duration = Duration::from_secs(2);
/// A life that goes on talking is challenged again after so long: the first one may have been lost.
const CHALLENGE_RETRY: Duration = Duration::from_millis(100);
/// Challenges that may be outstanding. Nodes that start together shake hands on streams first; only who hears of another
/// by a datagram first is challenged.
pub(crate) const CHALLENGES_MAX: usize = 4_096;

/// The packets of one life that came, by their counters: the ones up to `WINDOW` below the highest one exactly, as in
/// RFC 6479.
#[derive(Debug)]
struct Window {
    top: u64,
    seen: [u64; WORDS],
}

impl Window {
    fn starting_with(counter: u64) -> Self {
        let mut window = Window { top: 0, seen: [0; WORDS] };
        window.enter(counter);
        window
    }

    /// Notes a packet; `false` if it came before or is too old to know.
    fn enter(&mut self, counter: u64) -> bool {
        let is_new = self.is_new(counter);
        if counter > self.top {
            let skipped = (counter / 64 - self.top / 64).min(WORDS as u64);
            (0..skipped).for_each(|back| self.seen[word_of(counter - back * 64)] = 0);
            self.top = counter;
        }
        if is_new {
            self.seen[word_of(counter)] |= 1 << (counter % 64);
        }
        is_new
    }

    fn is_new(&self, counter: u64) -> bool {
        match self.top.checked_sub(counter) {
            None => true,
            Some(back) => back < WINDOW && self.seen[word_of(counter)] & (1 << (counter % 64)) == 0,
        }
    }
}

fn word_of(counter: u64) -> usize {
    (counter / 64 % WORDS as u64) as usize
}

#[derive(Debug)]
struct Known {
    salt: [u8; 8],
    window: Window,
}

#[derive(Debug)]
struct Challenge {
    number: u64,
    first: Time,
    last: Time,
}

/// What is to be made of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credit {
    /// Its sender is believed, and it is new.
    Believed,
    /// It came before, or is too old to know.
    Replayed,
    /// Nobody says that its sender lives.
    Unproven,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lives {
    known: BTreeMap<InstanceId, Known>,
    challenges: BTreeMap<Life, Challenge>,
    known_max: usize,
}

impl Lives {
    pub(crate) fn new(known_max: usize) -> Self {
        Lives { known: BTreeMap::new(), challenges: BTreeMap::new(), known_max }
    }

    /// What is to be made of a packet, if it is of whom it names. `is_vouched_for`: whether its instance is an active member.
    pub(crate) fn credit(&self, stamp: Stamp, is_vouched_for: bool) -> Credit {
        match self.known.get(&stamp.life.instance) {
            Some(known) if known.salt == stamp.life.salt => match known.window.is_new(stamp.counter) {
                true => Credit::Believed,
                false => Credit::Replayed,
            },
            None if is_vouched_for => Credit::Believed,
            Some(_) | None => Credit::Unproven,
        }
    }

    /// The same of a packet that is, which is noted.
    pub(crate) fn enter(&mut self, stamp: Stamp, is_vouched_for: bool) -> Credit {
        match self.credit(stamp, is_vouched_for) {
            Credit::Believed if !self.admit(stamp) => Credit::Unproven,
            credit => credit,
        }
    }

    /// The life of this packet has shown that it goes on. Says whether there is room to know it.
    pub(crate) fn admit(&mut self, stamp: Stamp) -> bool {
        let Life { instance, salt } = stamp.life;
        let is_full = self.is_full();
        match self.known.get_mut(&instance) {
            Some(known) if known.salt == salt => {
                known.window.enter(stamp.counter);
            }
            None if is_full => return false,
            Some(_) | None => {
                self.known.insert(instance, Known { salt, window: Window::starting_with(stamp.counter) });
            }
        }
        true
    }

    /// The number that a life shall send back; `None` if it was asked just now or too many others are.
    pub(crate) fn challenge(&mut self, now: Time, life: Life, number: impl FnOnce() -> u64) -> Option<u64> {
        if let Some(open) = self.challenges.get_mut(&life).filter(|open| now.since(open.first) < CHALLENGE_MAX) {
            let is_due = now.since(open.last) >= CHALLENGE_RETRY;
            open.last = if is_due { now } else { open.last };
            return is_due.then_some(open.number);
        }
        if self.challenges.len() >= CHALLENGES_MAX {
            self.challenges.retain(|_, open| now.since(open.first) < CHALLENGE_MAX);
        }
        if self.challenges.len() >= CHALLENGES_MAX {
            return None;
        }
        let number = number();
        self.challenges.insert(life, Challenge { number, first: now, last: now });
        Some(number)
    }

    /// Whether a number is what this life was asked for. It is asked for no more.
    pub(crate) fn is_proof(&mut self, now: Time, life: Life, number: u64) -> bool {
        let is_it = self.challenges.get(&life).is_some_and(|open| open.number == number);
        is_it && self.challenges.remove(&life).is_some_and(|open| now.since(open.first) < CHALLENGE_MAX)
    }

    /// A member is gone: its life is believed no more, and its packets need not be remembered for that.
    pub(crate) fn forget(&mut self, instance: InstanceId) {
        self.known.remove(&instance);
    }

    /// Forgets those that are no members, which have shown that they live and made nothing of it.
    pub(crate) fn forget_all_but(&mut self, is_member: impl Fn(InstanceId) -> bool) {
        self.known.retain(|instance, _| is_member(*instance));
    }

    /// Whether no further life can be known.
    pub(crate) fn is_full(&self) -> bool {
        self.known.len() >= self.known_max
    }

    /// How many lives are known and how many challenges are outstanding.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.known.len(), self.challenges.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(instance: u64, salt: u8) -> Life {
        Life { instance: InstanceId::new(instance), salt: [salt; 8] }
    }

    fn stamp(counter: u64) -> Stamp {
        Stamp { life: life(1, 1), counter }
    }

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    /// Goal: every counter passes once, in any order within the window, and none that is older. Method: counters that rise
    /// by steps of every size around the edges of words and window, each with those before it, against a plain set.
    #[test]
    fn a_counter_passes_once_and_not_at_all_below_the_window() {
        for step in [1, 2, 63, 64, 65, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW + 63] {
            let mut window = Window::starting_with(1);
            let (mut passed, mut top) = (std::collections::BTreeSet::from([1]), 1);
            for _ in 0..50 {
                top += step;
                let late = [0, 1, 62, 63, 64, 65, WINDOW - 1, WINDOW, WINDOW + 1];
                for counter in late.into_iter().filter_map(|back: u64| top.checked_sub(back)) {
                    let expected = top - counter < WINDOW && !passed.contains(&counter);
                    assert_eq!(window.enter(counter), expected, "step {step}, {counter} of {top}");
                    if expected {
                        passed.insert(counter);
                    }
                }
            }
        }
    }

    /// Goal: a life is believed when it is vouched for or has shown that it lives, each packet once. Method: both ways, and
    /// another life under the same instance.
    #[test]
    fn a_life_is_believed_when_vouched_for_or_proven() {
        let mut lives = Lives::new(8);
        assert_eq!(lives.enter(stamp(5), false), Credit::Unproven);
        assert_eq!(lives.enter(stamp(5), true), Credit::Believed);
        assert_eq!(lives.enter(stamp(5), true), Credit::Replayed);
        assert_eq!(lives.enter(stamp(4), false), Credit::Believed, "it was overtaken");
        let other = Stamp { life: life(1, 2), counter: 9 };
        assert_eq!(lives.enter(other, true), Credit::Unproven, "two processes share an instance");
        assert!(lives.admit(other));
        assert_eq!(lives.enter(other, true), Credit::Replayed);
        lives.forget(InstanceId::new(1));
        assert_eq!(lives.enter(stamp(6), false), Credit::Unproven);
    }

    /// Goal: only the number that a life was asked for proves it, once and in time.
    #[test]
    fn only_the_number_asked_for_is_a_proof_and_only_in_time() {
        let mut lives = Lives::new(8);
        assert_eq!(lives.challenge(at(0), life(1, 1), || 7), Some(7));
        assert_eq!(lives.challenge(at(99), life(1, 1), || 8), None, "just asked");
        assert_eq!(lives.challenge(at(100), life(1, 1), || 8), Some(7), "asked again");
        assert!(!lives.is_proof(at(101), life(1, 1), 8) && !lives.is_proof(at(101), life(2, 1), 7));
        assert!(lives.is_proof(at(101), life(1, 1), 7));
        assert!(!lives.is_proof(at(102), life(1, 1), 7), "a proof that is sent again proves nothing");
        assert_eq!(lives.challenge(at(200), life(1, 1), || 9), Some(9));
        assert!(!lives.is_proof(at(2_200), life(1, 1), 9), "too late");
    }

    /// Goal: neither table grows beyond its limit. Method: more lives than either holds.
    #[test]
    fn tables_are_bounded() {
        let mut lives = Lives::new(8);
        for instance in 0..=CHALLENGES_MAX as u64 {
            let asked = lives.challenge(at(0), life(instance, 0), || instance).is_some();
            assert_eq!(asked, instance < CHALLENGES_MAX as u64);
            let stamp = Stamp { life: life(instance, 0), counter: 1 };
            assert_eq!(lives.enter(stamp, true) == Credit::Believed, instance < 8);
        }
        assert!(lives.challenge(at(2_000), life(9_999, 0), || 1).is_some(), "what is over makes room");
        lives.forget_all_but(|instance| instance.get() == 3);
        assert_eq!(lives.sizes(), (1, 1));
    }
}
