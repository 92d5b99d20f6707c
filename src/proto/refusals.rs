//! Telling of refused input, rarely: whoever floods a node must not fill its log, nor the queue of who listens.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Time;
use crate::info::RefusalReason;

/// Each reason is told at most once in this time.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// See the module. It has at most one entry per reason.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// When each was told last, and how often it came since.
    told: BTreeMap<RefusalReason, (Time, u64)>,
}

impl Refusals {
    /// Something was refused for this reason. If it is to be told now, how often it came since the last time.
    pub(crate) fn note(&mut self, now: Time, reason: RefusalReason) -> Option<u64> {
        match self.told.get_mut(&reason) {
            None => {
                self.told.insert(reason, (now, 0));
                Some(1)
            }
            Some((last, count)) => {
                *count += 1;
                if now.since(*last) < TELL_INTERVAL {
                    return None;
                }
                *last = now;
                Some(std::mem::take(count))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_at_once_and_then_once_a_minute_with_its_count() {
        let mut refusals = Refusals::default();
        let at = |secs| Time::ZERO + Duration::from_secs(secs);
        assert_eq!(refusals.note(at(0), RefusalReason::Forged), Some(1));
        for _ in 0..1_000 {
            assert_eq!(refusals.note(at(59), RefusalReason::Forged), None);
        }
        assert_eq!(refusals.note(at(59), RefusalReason::Corrupt), Some(1));
        assert_eq!(refusals.note(at(60), RefusalReason::Forged), Some(1_001));
        assert_eq!(refusals.note(at(61), RefusalReason::Forged), None);
    }
}
