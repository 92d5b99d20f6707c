//! Randomness from the seed: one named stream per purpose, so that taking out one fault does not shift the others.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use humantime::{format_duration, parse_duration};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A stream of random numbers (splitmix64: small, fast, the same on every machine).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream with this name under this seed.
    pub fn stream(seed: u64, name: &str) -> Self {
        let state = name.bytes().fold(mix(seed), |state, byte| mix(state ^ u64::from(byte)));
        Random { state }
    }

    /// The stream with this name and this number, for instance one per link.
    pub fn numbered(seed: u64, name: &str, number: u64) -> Self {
        let mut stream = Random::stream(seed, name);
        stream.state = mix(stream.state ^ mix(number));
        stream
    }

    /// A stream that one number of this one decides: whatever is taken from it, this one goes on as if nothing were.
    pub fn fork(&mut self) -> Self {
        Random { state: self.bits() }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        mix(self.state)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// A number from `low` up to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True with this probability. Always takes one number, so that a probability of zero shifts nothing.
    pub fn chance(&mut self, probability: f64) -> bool {
        let unit = (self.bits() >> 11) as f64 / (1u64 << 53) as f64;
        unit < probability
    }

    /// A duration of this range.
    pub fn duration(&mut self, range: Range) -> Duration {
        let span = range.max.saturating_sub(range.min).as_nanos() as u64;
        let part = (u128::from(self.bits()) * (u128::from(span) + 1)) >> 64;
        range.min + Duration::from_nanos(part as u64)
    }

    /// One of these, if there are any.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let index = self.below(items.len());
        items.get(index)
    }

    /// 32 random bytes, the seed of a node.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.bits().to_le_bytes());
        }
        bytes
    }
}

/// A range of durations, both ends included. As text: `300us..60ms`, or `1ms` where both ends are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The shortest.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
}

impl Range {
    /// Always zero.
    pub const ZERO: Range = Range::fixed(Duration::ZERO);

    /// Always this long.
    pub const fn fixed(duration: Duration) -> Self {
        Range { min: duration, max: duration }
    }

    /// From `min` to `max`.
    pub const fn new(min: Duration, max: Duration) -> Self {
        Range { min, max }
    }

    /// From `min` to `max` milliseconds.
    pub const fn millis(min: u64, max: u64) -> Self {
        Range::new(Duration::from_millis(min), Duration::from_millis(max))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Units without a space between them read better beside the two dots.
        let text = |duration: Duration| format_duration(duration).to_string().replace(' ', "");
        match self.min == self.max {
            true => f.write_str(&text(self.min)),
            false => write!(f, "{}..{}", text(self.min), text(self.max)),
        }
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let [min, max] = [min, max].map(|end| parse_duration(end.trim()).map_err(|error| format!("{text:?}: {error}")));
        let range = Range::new(min?, max?);
        if range.min > range.max {
            return Err(format!("{text:?} ends before it begins"));
        }
        Ok(range)
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of splitmix64.
pub(crate) const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_one_seed_are_different_and_repeatable() {
        let draw = |seed, name| Random::stream(seed, name).bits();
        assert_eq!(draw(7, "links"), draw(7, "links"));
        assert_ne!(draw(7, "links"), draw(7, "nodes"));
        assert_ne!(draw(7, "links"), draw(8, "links"));
        assert_ne!(Random::numbered(7, "link", 1).bits(), Random::numbered(7, "link", 2).bits());
    }

    #[test]
    fn draws_stay_in_their_range_and_reach_its_ends() {
        let mut random = Random::stream(1, "range");
        let mut seen = [0u32; 4];
        (0..400).for_each(|_| seen[random.below(4)] += 1);
        assert!(seen.iter().all(|&count| count > 60), "{seen:?}");
        assert_eq!(random.below(0), 0);

        let range = Range::millis(3, 5);
        assert!((0..200).map(|_| random.duration(range)).all(|drawn| (range.min..=range.max).contains(&drawn)));
        assert_eq!(random.duration(Range::fixed(range.max)), range.max);
    }

    #[test]
    fn a_fork_leaves_its_stream_where_it_was_whatever_is_taken_from_it() {
        let [mut one, mut other] = [0, 1].map(|_| Random::stream(3, "fork"));
        let (mut fork, _) = (one.fork(), other.fork());
        (0..9).for_each(|_| _ = fork.bits());
        assert_eq!(one.bits(), other.bits());
    }

    #[test]
    fn a_range_is_written_as_people_write_it_and_read_back() {
        for (text, range) in [
            ("1ms", Range::millis(1, 1)),
            ("0s", Range::ZERO),
            ("300us..60ms", Range::new(Duration::from_micros(300), Duration::from_millis(60))),
            ("1ms500us..2m", Range::new(Duration::from_micros(1_500), Duration::from_secs(120))),
        ] {
            assert_eq!(range.to_string(), text);
            assert_eq!(text.parse(), Ok(range));
        }
        assert_eq!(" 2 ms .. 3 ms".parse(), Ok(Range::millis(2, 3)));
        for wrong in ["", "..", "1ms..", "5ms..1ms", "7", "fast"] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_chance_of_zero_never_comes_true_and_one_of_one_always() {
        let mut random = Random::stream(2, "chance");
        assert!((0..1_000).all(|_| !random.chance(0.0) && random.chance(1.0)));
        let hits = (0..10_000).filter(|_| random.chance(0.25)).count();
        assert!((2_300..2_700).contains(&hits), "{hits}");
    }
}
