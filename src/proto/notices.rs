//! What an operator was told lately: what repeats is told ever more rarely, but not never.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Time;

/// What goes on is told again after so long, for those who did not look before.
const AGAIN_AFTER: Duration = Duration::from_secs(3_600);

/// Causes that are remembered. Whoever makes up more of them is told of no further ones.
const CAUSES_MAX: usize = 256;

/// What there is to tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// The node at this address does not want this one, for the reason with this hash.
    Unwanted(SocketAddr, u64),
    /// A node of this machine is refused.
    Stranger(IpAddr),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    told: BTreeMap<Cause, Time>,
}

impl Notices {
    /// Whether this was not told within the last hour. It then is.
    pub(crate) fn is_due(&mut self, now: Time, cause: Cause) -> bool {
        if self.told.get(&cause).is_some_and(|last| now.since(*last) < AGAIN_AFTER) {
            return false;
        }
        if self.told.len() >= CAUSES_MAX {
            self.told.retain(|_, last| now.since(*last) < AGAIN_AFTER);
        }
        let has_room = self.told.len() < CAUSES_MAX;
        if has_room {
            self.told.insert(cause, now);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each cause is told once an hour, and made-up ones do not fill the memory. Method: more causes than there is room
    /// for, twice within an hour and once after it.
    #[test]
    fn each_cause_is_told_once_an_hour_and_causes_are_bounded() {
        let mut notices = Notices::default();
        let at = |secs: u64| Time::from_nanos(secs * 1_000_000_000);
        let cause = |n: usize| Cause::Unwanted(SocketAddr::from(([10, 0, 0, 1], 7946)), n as u64);
        for n in 0..2 * CAUSES_MAX {
            assert_eq!(notices.is_due(at(0), cause(n)), n < CAUSES_MAX);
        }
        assert!((0..2 * CAUSES_MAX).all(|n| !notices.is_due(at(3_599), cause(n))));
        assert!(notices.is_due(at(3_600), cause(0)) && notices.is_due(at(3_600), cause(CAUSES_MAX)));
    }
}
