//! So many times a second, and no more.

use std::collections::VecDeque;
use std::time::Duration;

use super::Time;

/// When it was done in the last second.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    times: VecDeque<Time>,
}

impl Pace {
    /// Whether it may be done once more, which then counts.
    pub(crate) fn allows(&mut self, now: Time, per_second_max: usize) -> bool {
        while self.times.front().is_some_and(|time| now.since(*time) >= Duration::from_secs(1)) {
            self.times.pop_front();
        }
        let has_room = self.times.len() < per_second_max;
        if has_room {
            self.times.push_back(now);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no second sees more than it may, wherever it begins. Method: it is tried every millisecond for ten seconds.
    #[test]
    fn no_second_sees_more_than_it_may() {
        let mut pace = Pace::default();
        let mut done = Vec::new();
        for millis in 0..10_000 {
            let now = Time::ZERO + Duration::from_millis(millis);
            if pace.allows(now, 20) {
                done.push(now);
            }
        }
        assert_eq!(done.len(), 200);
        assert!(done.windows(21).all(|times| times[20].since(times[0]) >= Duration::from_secs(1)));
    }
}
