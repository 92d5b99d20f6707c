//! Which dots a node has ever seen: per writer a few ranges of serial numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::trie::{self, SumTrie};
use crate::proto::hash::fmix64 as mix;
use crate::proto::{Dot, InstanceId};

/// Sorted, disjoint, non-adjacent inclusive ranges of serial numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Whether `n` is in one of them.
    pub fn contains(&self, n: u64) -> bool {
        let after = self.0.partition_point(|&(first, _)| first <= n);
        after > 0 && self.0[after - 1].1 >= n
    }

    /// Adds `n`; says whether it was new. The common case, the next number, costs no search.
    pub fn insert(&mut self, n: u64) -> bool {
        if let Some(last) = self.0.last_mut()
            && n == last.1.wrapping_add(1)
            && n != 0
        {
            last.1 = n;
            return true;
        }
        let after = self.0.partition_point(|&(first, _)| first <= n);
        if after > 0 && self.0[after - 1].1 >= n {
            return false;
        }
        let joins_left = after > 0 && self.0[after - 1].1 + 1 == n;
        let joins_right = after < self.0.len() && n.checked_add(1) == Some(self.0[after].0);
        match (joins_left, joins_right) {
            (true, true) => {
                self.0[after - 1].1 = self.0[after].1;
                self.0.remove(after);
            }
            (true, false) => self.0[after - 1].1 = n,
            (false, true) => self.0[after].0 = n,
            (false, false) => self.0.insert(after, (n, n)),
        }
        true
    }

    /// Adds all of `other`; says whether anything was new.
    pub fn union(&mut self, other: &Ranges) -> bool {
        if other.0.iter().all(|&(first, last)| self.covers(first, last)) {
            return false;
        }
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(self.0.len() + other.0.len());
        let mut all: Vec<_> = self.0.iter().chain(&other.0).copied().collect();
        all.sort_unstable();
        for (first, last) in all {
            match merged.last_mut() {
                Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        self.0 = merged;
        true
    }

    fn covers(&self, first: u64, last: u64) -> bool {
        let after = self.0.partition_point(|&(start, _)| start <= first);
        after > 0 && self.0[after - 1].1 >= last
    }

    /// The number of ranges.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The greatest number in them.
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|range| range.1)
    }

    /// Whether they came from the network in the form that the other methods keep.
    pub fn is_well_formed(&self) -> bool {
        self.0.iter().all(|&(first, last)| first <= last)
            && self.0.windows(2).all(|pair| pair[0].1.checked_add(1).is_some_and(|next| next < pair[1].0))
    }

    fn hash(&self, writer: InstanceId) -> u64 {
        let start = mix(writer.get() ^ 0x5eed_5eed_5eed_5eed);
        self.0.iter().fold(start, |hash, &(first, last)| mix(mix(hash ^ first).wrapping_add(last)))
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
        if self.contains(dot) {
            return false;
        }
        self.change(dot.writer, |ranges| ranges.insert(dot.n))
    }

    /// Adds everything that `other` has; says whether anything was new.
    pub fn union(&mut self, other: &Seen) -> bool {
        let mut grew = false;
        for (&writer, ranges) in &other.writers {
            if self.writers.get(&writer) != Some(ranges) {
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
        let stale: Vec<_> = self
            .writers
            .keys()
            .copied()
            .filter(|&writer| buckets.contains_key(&(trie::index_at(level, position(writer)) as u32)))
            .collect();
        for writer in stale {
            self.forget(writer);
        }
        for (writer, ranges) in buckets.values().flatten() {
            if keep(*writer) {
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
                assert!(ranges.is_well_formed());
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
            assert!(left.is_well_formed());
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

    /// Goal: hostile ranges are told apart. Method: reversed, overlapping and adjacent ones.
    #[test]
    fn malformed_ranges_are_recognised() {
        for bad in [vec![(5, 4)], vec![(1, 3), (3, 5)], vec![(1, 2), (3, 4)], vec![(1, u64::MAX), (2, 3)]] {
            assert!(!Ranges(bad).is_well_formed());
        }
    }
}
