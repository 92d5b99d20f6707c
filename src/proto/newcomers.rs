//! How many members a node takes in at once.

use std::time::Duration;

use super::Time;

/// So many members may come within [`REFILL`], and as many at once. More than any cluster has that starts at once or heals,
/// up to a thousand nodes; in larger ones members are told again, and come a second later. Whoever makes members up, which
/// takes a key where there is one, needs so much longer, and a node that works on them does other things in between.
const NEWCOMERS_MAX: usize = 1_024;
const REFILL: Duration = Duration::from_secs(1);

/// What is left of it.
#[derive(Debug)]
pub(crate) struct Newcomers {
    left: usize,
    filled: Time,
}

impl Newcomers {
    pub(crate) fn new(now: Time) -> Self {
        Newcomers { left: NEWCOMERS_MAX, filled: now }
    }

    /// How many may come now.
    pub(crate) fn left(&mut self, now: Time) -> usize {
        let elapsed = now.since(self.filled).min(REFILL);
        let refilled = NEWCOMERS_MAX * elapsed.as_micros() as usize / REFILL.as_micros() as usize;
        if refilled > 0 {
            self.left = (self.left + refilled).min(NEWCOMERS_MAX);
            self.filled = now;
        }
        self.left
    }

    /// So many have come.
    pub(crate) fn take(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_come_at_once_as_in_a_second_and_then_no_more_than_that() {
        let mut newcomers = Newcomers::new(Time::ZERO);
        newcomers.take(newcomers.left);
        assert_eq!(newcomers.left(Time::ZERO), 0);
        let mut came = 0;
        for millis in 0..10_000 {
            let left = newcomers.left(Time::ZERO + Duration::from_millis(millis));
            newcomers.take(left);
            came += left;
        }
        assert!((9 * NEWCOMERS_MAX..=10 * NEWCOMERS_MAX).contains(&came), "{came}");
        assert_eq!(newcomers.left(Time::ZERO + Duration::from_secs(3_600)), NEWCOMERS_MAX);
    }
}
