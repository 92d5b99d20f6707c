//! Which dots a node has ever seen: per writer a few ranges of serial numbers.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::trie::{self, SumTrie};
use crate::proto::hash::fmix64 as mix;
use crate::proto::{Dot, InstanceId};

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

    fn insert_range(&mut self, mut first: u64, mut last: u64) -> bool {
        // Nearly always the next number of a writer follows the one range that there is.
        if let Some((start, end)) = self.head.filter(|_| self.rest.is_empty())
            && (start..=end.saturating_add(1)).contains(&first)
        {
            if last <= end {
                return false;
            }
            self.sum = range_hash((start, last));
            self.head = Some((start, last));
            return true;
        }
        if self.before(first).is_some_and(|(_, end)| end >= last) {
            return false;
        }
        if let Some((start, end)) = self.before(first)
            && end.checked_add(1).is_none_or(|next| next >= first)
        {
            self.take(start);
            first = start;
            last = last.max(end);
        }
        while let Some((start, end)) = self.after(first)
            && last.checked_add(1).is_none_or(|next| next >= start)
        {
            self.take(start);
            last = last.max(end);
        }
        self.put(first, last);
        true
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

    fn hash(&self, writer: InstanceId) -> u64 {
        mix(mix(writer.get() ^ 0x5eed_5eed_5eed_5eed).wrapping_add(self.sum))
    }
}

impl Serialize for Ranges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().collect::<Vec<_>>())
    }
}

impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let listed = Vec::<(u64, u64)>::deserialize(deserializer)?;
        let ordered = listed.windows(2).all(|pair| pair[0].1.checked_add(1).is_some_and(|next| next < pair[1].0));
        if !ordered || listed.iter().any(|(first, last)| first > last) {
            return Err(D::Error::custom("ranges that are not in order"));
        }
        let mut ranges = Ranges::default();
        listed.into_iter().for_each(|(first, last)| ranges.put(first, last));
        Ok(ranges)
    }
}

/// The dots that a node has ever held or knows to be removed.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    writers: BTreeMap<InstanceId, Ranges>,
    trie: SumTrie,
    /// The how-manieth writer each was, for forgetting the oldest first.
    arrivals: BTreeMap<InstanceId, u64>,
    arrived: u64,
}

/// Writers of one bucket (a node of the trie), with their ranges.
pub type Bucket = Vec<(InstanceId, Ranges)>;

fn position(writer: InstanceId) -> u64 {
    mix(writer.get())
}

impl Seen {
    /// Whether the dot was ever seen.
    pub fn contains(&self, dot: Dot) -> bool {
        self.writers.get(&dot.writer).is_some_and(|ranges| ranges.contains(dot.n))
    }

    /// Adds a dot; says whether it was new.
    pub fn insert(&mut self, dot: Dot) -> bool {
        let Some(ranges) = self.writers.get_mut(&dot.writer) else {
            return self.change(dot.writer, |ranges| ranges.insert(dot.n));
        };
        let before = ranges.hash(dot.writer);
        if !ranges.insert(dot.n) {
            return false;
        }
        self.trie.add(position(dot.writer), ranges.hash(dot.writer).wrapping_sub(before));
        true
    }

    /// Adds everything that `other` has; says whether anything was new.
    pub fn union(&mut self, other: &Seen) -> bool {
        let mut grew = false;
        let level = self.depth().min(other.depth());
        for (&writer, ranges) in &other.writers {
            // What the sums tell to be equal is not looked at.
            let bucket = trie::index_at(level, position(writer));
            let sum = |seen: &Seen| seen.trie.level(level).map(|sums| sums[bucket]);
            if sum(self) != sum(other) && self.writers.get(&writer) != Some(ranges) {
                grew |= self.change(writer, |mine| mine.union(ranges));
            }
        }
        grew
    }

    /// Forgets a writer.
    pub fn forget(&mut self, writer: InstanceId) {
        self.arrivals.remove(&writer);
        if let Some(ranges) = self.writers.remove(&writer) {
            self.trie.remove(position(writer), ranges.hash(writer));
            self.trie.shrink(self.writers.len());
        }
    }

    /// Replaces what is known of a writer, for building the view of a peer.
    pub fn set(&mut self, writer: InstanceId, ranges: Ranges) {
        self.forget(writer);
        if !ranges.is_empty() {
            self.change(writer, |mine| {
                *mine = ranges;
                true
            });
        }
    }

    /// The highest serial number known of a writer, 0 if none.
    pub fn last(&self, writer: InstanceId) -> u64 {
        self.writers.get(&writer).and_then(Ranges::last).unwrap_or(0)
    }

    /// The how-manieth writer this one was that was heard of.
    pub fn arrival(&self, writer: InstanceId) -> u64 {
        self.arrivals.get(&writer).copied().unwrap_or(0)
    }

    /// Every writer, in order.
    pub fn writers(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.writers.keys().copied()
    }

    /// The number of writers.
    pub fn len(&self) -> usize {
        self.writers.len()
    }

    /// Whether nothing was ever seen.
    pub fn is_empty(&self) -> bool {
        self.writers.is_empty()
    }

    /// The number of ranges over all writers.
    pub fn ranges(&self) -> usize {
        self.writers.values().map(Ranges::len).sum()
    }

    /// A hash over everything.
    pub fn root(&self) -> u64 {
        self.trie.root()
    }

    /// The level at which a bucket holds about 16 writers.
    pub fn depth(&self) -> usize {
        self.trie.depth()
    }

    /// The sums of all buckets of a level.
    pub fn sums(&self, level: usize) -> Vec<u64> {
        if let Some(sums) = self.trie.level(level) {
            return sums.to_vec();
        }
        let mut sums = vec![0u64; trie::ARITY.pow(level as u32)];
        for (&writer, ranges) in &self.writers {
            let sum = &mut sums[trie::index_at(level, position(writer))];
            *sum = sum.wrapping_add(ranges.hash(writer));
        }
        sums
    }

    /// The buckets of a level whose sums differ from `theirs`, with their content, in one pass over the writers.
    pub fn differing(&self, level: usize, theirs: &[u64]) -> BTreeMap<u32, Bucket> {
        let mut differing: BTreeMap<u32, Bucket> = BTreeMap::new();
        for (index, (mine, theirs)) in self.sums(level).iter().zip(theirs).enumerate() {
            if mine != theirs {
                differing.insert(index as u32, Bucket::new());
            }
        }
        self.fill(level, &mut differing);
        differing
    }

    /// Fills each named bucket of a level with its writers.
    pub fn fill(&self, level: usize, buckets: &mut BTreeMap<u32, Bucket>) {
        if buckets.is_empty() {
            return;
        }
        for (&writer, ranges) in &self.writers {
            if let Some(bucket) = buckets.get_mut(&(trie::index_at(level, position(writer)) as u32)) {
                bucket.push((writer, ranges.clone()));
            }
        }
    }

    /// Replaces whole buckets by what a peer says of them; `keep` says of which writers it may speak.
    pub fn replace(&mut self, level: usize, buckets: &BTreeMap<u32, Bucket>, keep: impl Fn(InstanceId) -> bool) {
        // Most of what is in a bucket that differs does not differ itself.
        let mut told: Vec<_> = buckets.values().flatten().filter(|(writer, _)| keep(*writer)).collect();
        told.sort_by_key(|(writer, _)| *writer);
        let stale: Vec<_> = self
            .writers
            .keys()
            .copied()
            .filter(|&writer| buckets.contains_key(&(trie::index_at(level, position(writer)) as u32)))
            .filter(|writer| told.binary_search_by_key(writer, |(told, _)| *told).is_err())
            .collect();
        for writer in stale {
            self.forget(writer);
        }
        for (writer, ranges) in told {
            if self.writers.get(writer) != Some(ranges) {
                self.set(*writer, ranges.clone());
            }
        }
    }

    fn change(&mut self, writer: InstanceId, change: impl FnOnce(&mut Ranges) -> bool) -> bool {
        let ranges = self.writers.entry(writer).or_default();
        let was_empty = ranges.is_empty();
        let before = if was_empty { 0 } else { ranges.hash(writer) };
        if was_empty {
            self.arrived += 1;
            self.arrivals.insert(writer, self.arrived);
        }
        let changed = change(ranges);
        let after = ranges.hash(writer);
        self.trie.add(position(writer), after.wrapping_sub(before));
        if was_empty && self.trie.is_crowded(self.writers.len()) {
            let writers = &self.writers;
            self.trie.grow(writers.iter().map(|(&writer, ranges)| (position(writer), ranges.hash(writer))));
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn dot(writer: u64, n: u64) -> Dot {
        Dot { writer: InstanceId::new(writer), n }
    }

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

    /// Goal: equal content gives equal roots in whatever order it came, and buckets carry a difference across.
    /// Method: two sets built in opposite orders; then one writer differs and its bucket is replaced.
    #[test]
    fn roots_and_buckets_follow_the_content() {
        let (mut left, mut right) = (Seen::default(), Seen::default());
        for writer in 0..300 {
            for n in 1..4 {
                left.insert(dot(writer, n));
                right.insert(dot(299 - writer, 4 - n));
            }
        }
        assert_eq!(left.root(), right.root());
        assert_eq!(left.sums(3), right.sums(3));
        left.insert(dot(17, 9));
        let level = right.depth();
        let differing = left.differing(level, &right.sums(level));
        assert_eq!(differing.len(), 1);
        right.replace(level, &differing, |_| true);
        assert_eq!(left.root(), right.root());
        assert!(right.contains(dot(17, 9)));
        left.forget(InstanceId::new(17));
        assert!(!left.contains(dot(17, 1)));
    }

    /// Goal: hostile ranges are refused, honest ones survive the wire. Method: reversed, overlapping and adjacent ones,
    /// then a round trip.
    #[test]
    fn malformed_ranges_are_refused() {
        for bad in [vec![(5, 4)], vec![(1, 3), (3, 5)], vec![(1, 2), (3, 4)], vec![(1, u64::MAX), (2, 3)]] {
            let bytes = postcard::to_allocvec(&bad).unwrap();
            assert!(postcard::from_bytes::<Ranges>(&bytes).is_err(), "{bad:?}");
        }
        let mut honest = Ranges::default();
        [9, 1, 2, 5, u64::MAX, 4].iter().for_each(|&n| assert!(honest.insert(n)));
        assert_eq!(honest.iter().collect::<Vec<_>>(), [(1, 2), (4, 5), (9, 9), (u64::MAX, u64::MAX)]);
        let bytes = postcard::to_allocvec(&honest).unwrap();
        assert_eq!(postcard::from_bytes::<Ranges>(&bytes).unwrap(), honest);
    }
}
