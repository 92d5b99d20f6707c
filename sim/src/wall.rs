//! The wall clock. It decides nothing in a run: it shows how long one took, ends a search when its time is up, and makes
//! a seed where none was given.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    began: Instant,
}

#[allow(clippy::disallowed_methods, reason = "only shown, or given as a budget; no node sees it")]
impl Stopwatch {
    /// From now on.
    pub fn start() -> Self {
        Stopwatch { began: Instant::now() }
    }

    /// How long it has been.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

/// A seed that nobody chose, small enough to be typed again.
#[allow(clippy::disallowed_methods, reason = "it is printed, and the run depends on nothing but what is printed")]
pub fn any_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as u64 & 0xffff_ffff
}
