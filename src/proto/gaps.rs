//! The times for which children do not run, and the longest of those that go on: kept in step, so that nobody has to look at
//! all children to know it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Time;

/// The time for which one child does not run, if that is so and has a known beginning. Only [`Gaps`] begins and ends it.
#[derive(Debug, Default)]
#[must_use = "it goes on until it is ended"]
pub(crate) struct Gap(Option<Time>);

impl Gap {
    /// Since when it goes on.
    pub(crate) fn since(&self) -> Option<Time> {
        self.0
    }
}

/// How many gaps go on since each moment.
#[derive(Debug, Default)]
pub(crate) struct Gaps(BTreeMap<Time, usize>);

impl Gaps {
    /// A gap begins, if it has not begun before.
    pub(crate) fn begin(&mut self, gap: &mut Gap, now: Time) {
        if gap.0.is_none() {
            gap.0 = Some(now);
            *self.0.entry(now).or_default() += 1;
        }
    }

    /// A gap is over; how long it lasted.
    pub(crate) fn end(&mut self, gap: &mut Gap, now: Time) -> Duration {
        let Some(since) = gap.0.take() else { return Duration::ZERO };
        if let Some(count) = self.0.get_mut(&since) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&since);
            }
        }
        now.since(since)
    }

    /// Since when the longest goes on.
    pub(crate) fn longest_since(&self) -> Option<Time> {
        self.0.first_key_value().map(|(since, _)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the longest gap is known whichever ends first, and one that goes on begins only once.
    #[test]
    fn the_longest_of_those_that_go_on_is_known() {
        let at = |secs| Time::ZERO + Duration::from_secs(secs);
        let (mut gaps, mut all) = (Gaps::default(), [Gap::default(), Gap::default(), Gap::default()]);
        for (gap, secs) in all.iter_mut().zip([1, 1, 3]) {
            gaps.begin(gap, at(secs));
            gaps.begin(gap, at(secs + 1));
        }
        assert_eq!(gaps.longest_since(), Some(at(1)));
        assert_eq!(gaps.end(&mut all[0], at(9)), Duration::from_secs(8));
        assert_eq!(gaps.end(&mut all[0], at(9)), Duration::ZERO);
        assert_eq!(gaps.longest_since(), Some(at(1)));
        let _ = gaps.end(&mut all[1], at(9));
        assert_eq!(gaps.longest_since(), Some(at(3)));
        let _ = gaps.end(&mut all[2], at(9));
        assert_eq!(gaps.longest_since(), None);
    }
}
