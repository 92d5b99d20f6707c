//! Durations in figures: how many, how long together, and how long at p50, p99 and most.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// How a set of durations is spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// How many there are.
    pub count: usize,
    /// How long they are together.
    #[serde(serialize_with = "micros")]
    pub total: Duration,
    /// Half of them are not longer.
    #[serde(serialize_with = "micros")]
    pub p50: Duration,
    /// 99 of 100 are not longer.
    #[serde(serialize_with = "micros")]
    pub p99: Duration,
    /// None is longer.
    #[serde(serialize_with = "micros")]
    pub max: Duration,
}

impl Spread {
    /// The spread of these durations; all zero if there are none.
    pub fn of(durations: impl IntoIterator<Item = Duration>) -> Self {
        let mut sorted: Vec<Duration> = durations.into_iter().collect();
        sorted.sort_unstable();
        Spread {
            count: sorted.len(),
            total: sorted.iter().sum(),
            p50: percentile(&sorted, 50),
            p99: percentile(&sorted, 99),
            max: sorted.last().copied().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("none");
        }
        let [total, p50, p99, max] = [self.total, self.p50, self.p99, self.max].map(short);
        write!(f, "{}, together {total}, p50 {p50}, p99 {p99}, max {max}", self.count)
    }
}

/// The smallest element that `percent` of all are not greater than (nearest rank); zero if there are none.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// A duration as people read it, with three or four significant digits: `20 us`, `1.25 ms`, `4.10 s`.
pub fn short(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0 if duration.is_zero() => "0 s".into(),
        0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{} ms", digits(micros as f64 / 1e3)),
        _ => format!("{} s", digits(micros as f64 / 1e6)),
    }
}

fn digits(value: f64) -> String {
    let decimals = match value {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

fn micros<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(all: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        all.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_elements_by_nearest_rank() {
        let hundred = millis(1..=100);
        assert_eq!([1, 50, 99, 100].map(|p| percentile(&hundred, p).as_millis()), [1, 50, 99, 100]);
        let three = millis([1, 2, 9]);
        assert_eq!([1, 50, 99].map(|p| percentile(&three, p).as_millis()), [1, 2, 9]);
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn a_spread_takes_durations_in_any_order() {
        let spread = Spread::of(millis([9, 1, 2]));
        assert_eq!(spread.to_string(), "3, together 12.0 ms, p50 2.00 ms, p99 9.00 ms, max 9.00 ms");
        assert_eq!(Spread::of([]).to_string(), "none");
    }

    #[test]
    fn durations_are_shown_in_the_unit_that_suits_them() {
        let shown = [0, 20, 1_250, 41_000, 999_500, 4_100_000, 123_456_789].map(|us| short(Duration::from_micros(us)));
        assert_eq!(shown, ["0 s", "20 us", "1.25 ms", "41.0 ms", "1000 ms", "4.10 s", "123 s"]);
    }
}
