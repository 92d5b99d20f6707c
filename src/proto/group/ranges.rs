//! A set of serial numbers as a few ranges.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::proto::InstanceId;
use crate::proto::hash::fmix64 as mix;

/// Disjoint, non-adjacent inclusive ranges of serial numbers.
///
/// Nearly always there is one, which is kept inline. While a bulk arrives by several ways there may be as many as
/// records, so that every operation costs the logarithm of their number at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// The lowest.
    head: Option<(u64, u64)>,
    /// The others, by their first number.
    rest: BTreeMap<u64, u64>,
    /// A sum over all of them, for hashing.
    sum: u64,
}

fn range_hash((first, last): (u64, u64)) -> u64 {
    mix(mix(first).wrapping_add(last))
}

impl Ranges {
    /// Whether `n` is in one of them.
    pub fn contains(&self, n: u64) -> bool {
        self.before(n).is_some_and(|(_, last)| last >= n)
    }

    /// Adds `n`; says whether it was new.
    pub fn insert(&mut self, n: u64) -> bool {
        self.insert_range(n, n)
    }

    /// Adds all of `other`; says whether anything was new.
    pub fn union(&mut self, other: &Ranges) -> bool {
        other.iter().fold(false, |grew, (first, last)| self.insert_range(first, last) | grew)
    }

    fn insert_range(&mut self, first: u64, last: u64) -> bool {
        // Mostly the next number of a writer follows a range that there is.
        let before = self.before(first);
        if before.is_some_and(|(_, end)| end >= last) {
            return false;
        }
        let follows = |(_, end): &(u64, u64)| end.checked_add(1).is_none_or(|next| next >= first);
        let grown = before.filter(follows);
        let mut reaches = last;
        while let Some((start, end)) = self.after(first)
            && reaches.checked_add(1).is_none_or(|next| next >= start)
        {
            self.take(start);
            reaches = reaches.max(end);
        }
        match grown {
            Some(range) => self.extend(range, reaches),
            None => self.put(first, reaches),
        }
        true
    }

    /// Lets a range end later, before the next one begins.
    fn extend(&mut self, (first, end): (u64, u64), last: u64) {
        self.sum = self.sum.wrapping_sub(range_hash((first, end))).wrapping_add(range_hash((first, last)));
        match &mut self.head {
            Some(head) if head.0 == first => head.1 = last,
            _ => {
                self.rest.insert(first, last);
            }
        }
    }

    /// The last range that begins at `n` or before.
    fn before(&self, n: u64) -> Option<(u64, u64)> {
        if self.rest.is_empty() {
            return self.head.filter(|(first, _)| *first <= n);
        }
        let rest = self.rest.range(..=n).next_back().map(|(&first, &last)| (first, last));
        rest.or(self.head.filter(|(first, _)| *first <= n))
    }

    /// The first range that begins after `n`.
    fn after(&self, n: u64) -> Option<(u64, u64)> {
        let head = self.head.filter(|(first, _)| *first > n);
        head.or_else(|| self.rest.range(n.checked_add(1)?..).next().map(|(&first, &last)| (first, last)))
    }

    fn take(&mut self, first: u64) {
        let taken = match self.head {
            Some(head) if head.0 == first => {
                self.head = self.rest.pop_first();
                Some(head)
            }
            _ => self.rest.remove(&first).map(|last| (first, last)),
        };
        self.sum = self.sum.wrapping_sub(taken.map_or(0, range_hash));
    }

    fn put(&mut self, first: u64, last: u64) {
        self.sum = self.sum.wrapping_add(range_hash((first, last)));
        match self.head {
            None => self.head = Some((first, last)),
            Some(head) if first < head.0 => {
                self.rest.insert(head.0, head.1);
                self.head = Some((first, last));
            }
            Some(_) => {
                self.rest.insert(first, last);
            }
        }
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.head.into_iter().chain(self.rest.iter().map(|(&first, &last)| (first, last)))
    }

    /// The number of ranges.
    pub fn len(&self) -> usize {
        usize::from(self.head.is_some()) + self.rest.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.head.is_none()
    }

    /// The greatest number in them.
    pub fn last(&self) -> Option<u64> {
        self.rest.last_key_value().map(|(_, &last)| last).or(self.head.map(|head| head.1))
    }

    /// A hash over all of them under the name of their writer, 0 if there are none.
    pub(super) fn hash(&self, writer: InstanceId) -> u64 {
        if self.is_empty() { 0 } else { mix(mix(writer.get() ^ 0x5eed_5eed_5eed_5eed).wrapping_add(self.sum)) }
    }

    /// The lowest ranges, as many as fit into a message.
    pub(super) fn told(&self) -> Ranges {
        if self.len() <= RANGES_TOLD_MAX {
            return self.clone();
        }
        let mut told = Ranges::default();
        self.iter().take(RANGES_TOLD_MAX).for_each(|(first, last)| told.put(first, last));
        told
    }
}

/// The ranges of one writer that one message may tell, 100 kB at most. More are there only in the middle of a bulk, and
/// what is told later of a writer costs an exchange: whoever is taken to have seen less than it has is told too much or
/// keeps too much, until then.
const RANGES_TOLD_MAX: usize = 16_384;

/// The numbers between two neighbours, at least.
const GAP_MIN: u64 = 2;

impl Serialize for Ranges {
    /// As the distance of each from the one before, and how many numbers follow its first: mostly a byte each.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut from = 0;
        let steps = self.iter().map(|(first, last)| {
            let step = (first - from, last - first);
            from = last.saturating_add(GAP_MIN);
            step
        });
        serializer.collect_seq(steps.collect::<Vec<_>>())
    }
}

impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (mut ranges, mut from) = (Ranges::default(), Some(0u64));
        for (skipped, more) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            let first = from.and_then(|from| from.checked_add(skipped));
            let range = first.and_then(|first| Some((first, first.checked_add(more)?)));
            let (first, last) = range.ok_or_else(|| D::Error::custom("ranges beyond the last number"))?;
            ranges.put(first, last);
            from = last.checked_add(GAP_MIN);
        }
        Ok(ranges)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Goal: ranges behave as a set of numbers. Method: pseudo-random inserts compared with a `BTreeSet`.
    #[test]
    fn ranges_are_a_set() {
        for round in 0..200u64 {
            let mut ranges = Ranges::default();
            let mut model = BTreeSet::new();
            for step in 0..60u64 {
                let n = mix(round * 1_000 + step) % 40 + 1;
                assert_eq!(ranges.insert(n), model.insert(n));
            }
            for n in 0..45 {
                assert_eq!(ranges.contains(n), model.contains(&n), "{ranges:?} {n}");
            }
        }
    }

    /// Goal: a union holds exactly what either side holds, and says truthfully whether it grew. Method: as above.
    #[test]
    fn union_is_a_set_union() {
        for round in 0..200u64 {
            let pick = |side: u64| {
                let mut ranges = Ranges::default();
                for step in 0..12 {
                    ranges.insert(mix(round * 7_919 + side * 131 + step) % 30);
                }
                ranges
            };
            let (mut left, right) = (pick(0), pick(1));
            let before = left.clone();
            assert_eq!(left.union(&right), left != before);
            for n in 0..32 {
                assert_eq!(left.contains(n), before.contains(n) || right.contains(n));
            }
        }
    }

    /// Goal: hostile ranges are refused, honest ones survive the wire. Method: steps that leave the numbers, then a round
    /// trip.
    #[test]
    fn ranges_beyond_the_last_number_are_refused() {
        for bad in [vec![(1, u64::MAX)], vec![(u64::MAX, 0), (0, 0)], vec![(5, u64::MAX - 6), (0, 0)]] {
            let bytes = postcard::to_allocvec(&bad).unwrap();
            assert!(postcard::from_bytes::<Ranges>(&bytes).is_err(), "{bad:?}");
        }
        let mut honest = Ranges::default();
        [9, 1, 2, 5, u64::MAX, 4].iter().for_each(|&n| assert!(honest.insert(n)));
        assert_eq!(honest.iter().collect::<Vec<_>>(), [(1, 2), (4, 5), (9, 9), (u64::MAX, u64::MAX)]);
        let bytes = postcard::to_allocvec(&honest).unwrap();
        assert_eq!(postcard::from_bytes::<Ranges>(&bytes).unwrap(), honest);
    }

    /// Goal: what is told of a writer has a bound. Method: one range too many.
    #[test]
    fn no_more_ranges_are_told_than_fit_into_a_message() {
        let mut ranges = Ranges::default();
        (0..=RANGES_TOLD_MAX as u64).for_each(|n| assert!(ranges.insert(3 * n)));
        assert_eq!(ranges.told().len(), RANGES_TOLD_MAX);
        assert!(ranges.told().contains(0));
    }
}
