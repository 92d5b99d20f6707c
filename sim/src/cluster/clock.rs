//! The monotonic clock of one process: ahead of the simulation, and a little too fast or too slow.

use std::time::Duration;

use haulout::proto::Time;

const MILLION: i128 = 1_000_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// How far it was ahead when the process was born, with what it has jumped since.
    ahead: Duration,
    born: Time,
    /// How many millionths it is too fast.
    drift_ppm: i32,
}

impl Clock {
    pub(super) fn new(born: Time, ahead: Duration, drift_ppm: i32) -> Self {
        Clock { ahead, born, drift_ppm }
    }

    /// What it shows.
    pub(super) fn local(&self, now: Time) -> Time {
        if self.drift_ppm == 0 {
            return now + self.ahead;
        }
        self.born + self.ahead + scaled(now.since(self.born), self.rate(), MILLION, 0)
    }

    /// When in the simulation it first shows this.
    pub(super) fn when(&self, local: Time) -> Time {
        if self.drift_ppm == 0 {
            return local - self.ahead;
        }
        let rate = self.rate();
        self.born + scaled((local - self.ahead).since(self.born), MILLION, rate, rate - 1)
    }

    /// It goes forward by so much at once.
    pub(super) fn jump(&mut self, by: Duration) {
        self.ahead += by;
    }

    /// How many millionths of a second it counts in one; it never stands still.
    fn rate(&self) -> i128 {
        (MILLION + i128::from(self.drift_ppm)).max(1)
    }
}

fn scaled(duration: Duration, by: i128, of: i128, rounding: i128) -> Duration {
    let nanos = (duration.as_nanos() as i128 * by + rounding) / of;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reaches_each_time_exactly_when_it_says() {
        let born = Time::from_nanos(7_000_000_123);
        for drift_ppm in [0, 1, -1, 200, -499, 100_000, -100_000] {
            let mut clock = Clock::new(born, Duration::from_secs(1_000), drift_ppm);
            clock.jump(Duration::from_nanos(77));
            for nanos in [0, 1, 999_999, 5_000_000_000, 3_600_000_000_001] {
                let local = clock.local(born) + Duration::from_nanos(nanos);
                let when = clock.when(local);
                assert!(clock.local(when) >= local, "{drift_ppm} {nanos}");
                let before = when - Duration::from_nanos(1);
                assert!(when == born || clock.local(before) < local, "{drift_ppm} {nanos}");
            }
        }
    }

    #[test]
    fn a_fast_clock_counts_more_seconds() {
        let clock = Clock::new(Time::ZERO, Duration::ZERO, 100_000);
        assert_eq!(clock.local(Time::from_nanos(10_000)), Time::from_nanos(11_000));
        assert_eq!(clock.when(Time::from_nanos(11_000)), Time::from_nanos(10_000));
    }
}
