//! Durations as scenario files write them: `90s`, `1.25s`, `300us`, `1h 30m`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer};

/// Writes a duration with the largest unit that keeps it short.
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let (unit, size) = match nanos {
        0 => return "0s".into(),
        1_000_000_000.. => ("s", 1_000_000_000),
        1_000_000.. => ("ms", 1_000_000),
        1_000.. => ("us", 1_000),
        _ => ("ns", 1),
    };
    let (whole, rest) = (nanos / size, nanos % size);
    if rest == 0 {
        return format!("{whole}{unit}");
    }
    let digits = size.ilog10() as usize;
    let fraction = format!("{rest:0digits$}");
    format!("{whole}.{}{unit}", fraction.trim_end_matches('0'))
}

/// Reads a duration: a number with a unit, decimals allowed, or several such as `1h 30m`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let Some((whole, rest)) = text.split_once('.') else {
        return humantime::parse_duration(text).map_err(|error| format!("{text:?} is no duration: {error}"));
    };
    let wrong = || format!("{text:?} is no duration; write for instance 1.5s, 300us or 1h 30m");
    let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (fraction, unit) = rest.split_at(digits);
    let size: u64 = match unit.trim() {
        "h" => 3_600_000_000_000,
        "m" => 60_000_000_000,
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" => 1_000,
        _ => return Err(wrong()),
    };
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = if fraction.len() > 12 { return Err(wrong()) } else { fraction.parse().map_err(|_| wrong())? };
    let nanos = u128::from(part) * u128::from(size) / 10u128.pow(fraction.len() as u32);
    let nanos = u128::from(whole) * u128::from(size) + nanos;
    u64::try_from(nanos).map(Duration::from_nanos).map_err(|_| wrong())
}

/// For `#[serde(with = "span")]`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*duration))
}

/// For `#[serde(with = "span")]`.
///
/// # Errors
/// If it is no duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// For durations that may be absent.
pub mod option {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    /// For `#[serde(with = "span::option")]`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// For `#[serde(with = "span::option")]`.
    ///
    /// # Errors
    /// If it is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::parse(&text)).transpose().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_short_and_read_back_exactly() {
        for (nanos, text) in [
            (0, "0s"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "90s"),
            (12_345_678_000, "12.345678s"),
            (300_000, "300us"),
            (1_000_001, "1.000001ms"),
            (7, "7ns"),
        ] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(format(duration), text);
            assert_eq!(parse(text), Ok(duration));
        }
        assert_eq!(parse("1h 30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse("0.5m"), Ok(Duration::from_secs(30)));
    }

    #[test]
    fn what_is_no_duration_is_refused_with_an_example() {
        for text in ["", "5", "1.5", "1.5 parsecs", "-1s", "1.s", "99999999999999.5h", "1.0000000000001s"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
