//! The one clock of a node: it never runs backwards and, where the system offers that, counts suspension.

use crate::proto::Time;

/// Tells the time since it was started.
#[derive(Debug)]
pub(super) struct Clock {
    origin: Reading,
}

impl Clock {
    pub(super) fn start() -> Self {
        Clock { origin: reading() }
    }

    pub(super) fn now(&self) -> Time {
        Time::from_nanos(since(self.origin))
    }

    /// What the system's clock reads at this time, in nanoseconds.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn reading_at(&self, time: Time) -> u64 {
        self.origin.saturating_add(time.as_nanos())
    }
}

/// The wall clock in milliseconds since the Unix epoch, only for showing "since when".
#[allow(clippy::disallowed_methods, reason = "shown to people; no decision rests on it")]
pub(super) fn wall_ms() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
type Reading = u64;

/// `CLOCK_BOOTTIME`: a machine that slept must know how long it was away, which `Instant` does not tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn reading() -> Reading {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn since(origin: Reading) -> u64 {
    reading().saturating_sub(origin)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
type Reading = std::time::Instant;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[allow(clippy::disallowed_methods, reason = "the runtime is where the clock is read")]
fn reading() -> Reading {
    std::time::Instant::now()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn since(origin: Reading) -> u64 {
    u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_advances_and_never_runs_backwards() {
        let clock = Clock::start();
        let first = clock.now();
        let mut last = first;
        while last == first {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
        assert!(last > Time::ZERO);
    }
}
