//! How often something may be done: so many times at once, and as many within a second.

use std::time::Duration;

use super::Time;

const REFILL: Duration = Duration::from_secs(1);

/// What is left of it.
#[derive(Clone, Debug)]
pub(crate) struct Allowance {
    max: usize,
    left: usize,
    filled: Time,
}

impl Allowance {
    /// So many times within a second, none of them used.
    pub(crate) fn per_second(max: usize, now: Time) -> Self {
        Allowance { max, left: max, filled: now }
    }

    /// How often it may be done now.
    pub(crate) fn left(&mut self, now: Time) -> usize {
        let elapsed = now.since(self.filled).min(REFILL);
        let refilled = self.max * elapsed.as_micros() as usize / REFILL.as_micros() as usize;
        if refilled > 0 {
            self.left = (self.left + refilled).min(self.max);
            self.filled = now;
        }
        self.left
    }

    /// Whether it may be done once more, which then counts.
    pub(crate) fn allows(&mut self, now: Time) -> bool {
        let may = self.left(now) > 0;
        self.take(usize::from(may));
        may
    }

    /// So often it was done.
    pub(crate) fn take(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: it is done as often at once as in a second and then no more than that. Method: all of it, ever again for ten
    /// seconds; then an hour of rest.
    #[test]
    fn as_much_is_allowed_at_once_as_in_a_second_and_then_no_more_than_that() {
        const MAX: usize = 1_024;
        let mut allowance = Allowance::per_second(MAX, Time::ZERO);
        allowance.take(MAX);
        assert_eq!(allowance.left(Time::ZERO), 0);
        assert!(!allowance.allows(Time::ZERO));
        let mut done = 0;
        for millis in 0..10_000 {
            let left = allowance.left(Time::ZERO + Duration::from_millis(millis));
            allowance.take(left);
            done += left;
        }
        assert!((9 * MAX..=10 * MAX).contains(&done), "{done}");
        assert_eq!(allowance.left(Time::ZERO + Duration::from_secs(3_600)), MAX);
    }
}
