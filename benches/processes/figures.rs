//! What is made of measured times.

use std::time::Duration;

use crate::clock;

/// Like [`clock::show`], with microseconds where milliseconds say nothing.
pub(crate) fn show(duration: Duration) -> String {
    match duration.as_nanos() {
        nanos if nanos < 100_000 => format!("{:.2} us", nanos as f64 / 1e3),
        _ => clock::show(duration),
    }
}

/// The value that so many per mille are not above.
pub(crate) fn quantile<T: Ord + Copy + Default>(values: &[T], per_mille: usize) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let place = (sorted.len() * per_mille / 1_000).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or_default()
}
