//! Which dots a node has ever seen: per writer a few ranges of serial numbers.
//!
//! The writers are the leaves of a 16-ary trie by the hash of their number, with a sum over everything below in each of
//! its nodes: two sets are compared as two sets of records are (`trie.rs`). Copies share what does not change, so that a
//! snapshot costs nothing however many writers there are.

use std::sync::Arc;

use super::ranges::Ranges;
use super::trie::{self, ARITY, BITS};
use crate::proto::hash::fmix64 as mix;
use crate::proto::{Dot, InstanceId};

/// Writers in one leaf, at most, above the deepest level.
const LEAF_MAX: usize = 16;
/// Nodes with fewer writers below become a leaf again: not as soon as they have room in one, or a writer that comes and
/// goes would split and join it every time.
const LEAF_AGAIN: usize = LEAF_MAX / 2;
/// The level at which positions end.
const LEVEL_MAX: usize = 64 / BITS as usize;

/// The dots that a node has ever held or knows to be removed.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    root: Arc<Node>,
    /// How often anything changed, for telling in which order writers were heard of.
    changes: u64,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// The sum of the hashes of all writers below.
    sum: u64,
    writers: usize,
    below: Below,
}

#[derive(Clone, Debug)]
enum Below {
    /// By writer.
    Leaf(Vec<Entry>),
    Inner(Box<[Arc<Node>; ARITY]>),
}

impl Default for Below {
    fn default() -> Self {
        Below::Leaf(Vec::new())
    }
}

#[derive(Clone, Debug)]
struct Entry {
    writer: InstanceId,
    ranges: Ranges,
    /// The how-manieth change brought it, for forgetting the oldest first.
    arrival: u64,
}

/// The place of a writer in the trie.
pub(super) fn position(writer: InstanceId) -> u64 {
    mix(writer.get())
}

/// Which child of a node of `level` leads to `position`.
fn branch(level: usize, position: u64) -> usize {
    trie::index_at(level + 1, position) % ARITY
}

impl Node {
    /// The entry of a writer below this node of `level`.
    fn find(&self, mut level: usize, writer: InstanceId) -> Option<&Entry> {
        let mut node = self;
        while let Below::Inner(nodes) = &node.below {
            node = &nodes[branch(level, position(writer))];
            level += 1;
        }
        let Below::Leaf(entries) = &node.below else { return None };
        entries.binary_search_by_key(&writer, |entry| entry.writer).ok().map(|at| &entries[at])
    }

    /// Changes what is known of a writer, which gets this arrival if it is new, and is left out if nothing of it remains.
    fn change(&mut self, level: usize, writer: InstanceId, arrival: u64, change: impl FnOnce(&mut Ranges)) {
        let (sum, writers) = (self.sum, self.writers);
        match &mut self.below {
            Below::Inner(nodes) => {
                let node = Arc::make_mut(&mut nodes[branch(level, position(writer))]);
                let (below, count) = (node.sum, node.writers);
                node.change(level + 1, writer, arrival, change);
                self.sum = sum.wrapping_sub(below).wrapping_add(node.sum);
                self.writers = writers - count + node.writers;
            }
            Below::Leaf(entries) => {
                let found = entries.binary_search_by_key(&writer, |entry| entry.writer);
                let at = found.unwrap_or_else(|at| {
                    // There are many leaves, and a writer comes rarely.
                    entries.reserve_exact(1);
                    entries.insert(at, Entry { writer, ranges: Ranges::default(), arrival });
                    at
                });
                let ranges = &mut entries[at].ranges;
                let before = ranges.hash(writer);
                change(ranges);
                self.sum = sum.wrapping_sub(before).wrapping_add(ranges.hash(writer));
                if ranges.is_empty() {
                    entries.remove(at);
                }
                self.writers = entries.len();
            }
        }
        self.reshape(level);
    }

    /// Splits a leaf that is too large, and joins nodes that have little below.
    fn reshape(&mut self, level: usize) {
        match &self.below {
            Below::Leaf(entries) if entries.len() > LEAF_MAX && level < LEVEL_MAX => {
                let mut nodes: [Node; ARITY] = Default::default();
                let Below::Leaf(entries) = std::mem::take(&mut self.below) else { return };
                for entry in entries {
                    let node = &mut nodes[branch(level, position(entry.writer))];
                    node.sum = node.sum.wrapping_add(entry.ranges.hash(entry.writer));
                    node.writers += 1;
                    if let Below::Leaf(entries) = &mut node.below {
                        entries.reserve_exact(1);
                        entries.push(entry);
                    }
                }
                nodes.iter_mut().for_each(|node| node.reshape(level + 1));
                self.below = Below::Inner(Box::new(nodes.map(Arc::new)));
            }
            Below::Inner(_) if self.writers < LEAF_AGAIN => {
                let mut entries: Vec<Entry> = Vec::with_capacity(self.writers);
                self.visit(&mut |entry| entries.push(entry.clone()));
                entries.sort_unstable_by_key(|entry| entry.writer);
                self.below = Below::Leaf(entries);
            }
            _ => {}
        }
    }

    fn visit<'a>(&'a self, see: &mut impl FnMut(&'a Entry)) {
        match &self.below {
            Below::Leaf(entries) => entries.iter().for_each(see),
            Below::Inner(nodes) => nodes.iter().for_each(|node| node.visit(see)),
        }
    }

    /// The entries of `other` that are different here. What is shared, or has equal sums, is not looked at.
    fn differing<'a>(&self, level: usize, other: &'a Node, found: &mut Vec<&'a Entry>) {
        if std::ptr::eq(self, other) || self.sum == other.sum {
            return;
        }
        if let (Below::Inner(mine), Below::Inner(others)) = (&self.below, &other.below) {
            return mine.iter().zip(others.iter()).for_each(|(mine, other)| mine.differing(level + 1, other, found));
        }
        other.visit(&mut |entry| {
            if self.find(level, entry.writer).is_none_or(|mine| mine.ranges != entry.ranges) {
                found.push(entry);
            }
        });
    }
}

impl Seen {
    fn find(&self, writer: InstanceId) -> Option<&Entry> {
        self.root.find(0, writer)
    }

    /// What was seen of a writer, if anything.
    pub fn of(&self, writer: InstanceId) -> Option<&Ranges> {
        self.find(writer).map(|entry| &entry.ranges)
    }

    /// Whether the dot was ever seen.
    pub fn contains(&self, dot: Dot) -> bool {
        self.of(dot.writer).is_some_and(|ranges| ranges.contains(dot.n))
    }

    /// Adds a dot; says whether it was new.
    pub fn insert(&mut self, dot: Dot) -> bool {
        let is_new = !self.contains(dot);
        if is_new {
            self.change(dot.writer, |ranges| {
                ranges.insert(dot.n);
            });
        }
        is_new
    }

    /// Adds everything that `other` has.
    pub fn union(&mut self, other: &Seen) {
        let mut differing = Vec::new();
        self.root.differing(0, &other.root, &mut differing);
        for entry in differing {
            self.change(entry.writer, |mine| {
                mine.union(&entry.ranges);
            });
        }
    }

    /// Forgets a writer.
    pub fn forget(&mut self, writer: InstanceId) {
        self.set(writer, Ranges::default());
    }

    /// Replaces what is known of a writer.
    pub fn set(&mut self, writer: InstanceId, ranges: Ranges) {
        if self.of(writer).unwrap_or(&Ranges::default()) != &ranges {
            self.change(writer, |mine| *mine = ranges);
        }
    }

    fn change(&mut self, writer: InstanceId, change: impl FnOnce(&mut Ranges)) {
        self.changes += 1;
        Arc::make_mut(&mut self.root).change(0, writer, self.changes, change);
    }

    /// The highest serial number known of a writer, 0 if none.
    pub fn last(&self, writer: InstanceId) -> u64 {
        self.of(writer).and_then(Ranges::last).unwrap_or(0)
    }

    /// A number that is lower the earlier this writer was first heard of; 0 if it never was.
    pub fn arrival(&self, writer: InstanceId) -> u64 {
        self.find(writer).map_or(0, |entry| entry.arrival)
    }

    /// Every writer, in the same order wherever the same writers are known.
    pub fn writers(&self) -> Vec<InstanceId> {
        self.within(0, 0).into_iter().map(|(writer, _)| writer).collect()
    }

    /// The number of writers.
    pub fn len(&self) -> usize {
        self.root.writers
    }

    /// Whether nothing was ever seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of ranges over all writers.
    pub fn ranges(&self) -> usize {
        self.within(0, 0).into_iter().map(|(_, ranges)| ranges.len()).sum()
    }

    /// A hash over everything.
    pub fn root(&self) -> u64 {
        self.root.sum
    }

    /// The lowest node that has all below the node `index` of `level` below it, and its level.
    fn above(&self, level: u8, index: u32) -> (usize, &Node) {
        let (first, _) = trie::span(level, index);
        let (mut node, mut above): (&Node, usize) = (&self.root, 0);
        while above < usize::from(level)
            && let Below::Inner(nodes) = &node.below
        {
            node = &nodes[branch(above, first)];
            above += 1;
        }
        (above, node)
    }

    /// The number of writers below a node.
    pub fn count(&self, level: u8, index: u32) -> usize {
        let (above, node) = self.above(level, index);
        if above == usize::from(level) { node.writers } else { self.within(level, index).len() }
    }

    /// The sums of the 16 nodes below a node.
    pub fn sums_below(&self, level: u8, index: u32) -> trie::Sums {
        let (above, node) = self.above(level, index);
        if let Below::Inner(nodes) = &node.below
            && above == usize::from(level)
        {
            return trie::Sums(std::array::from_fn(|branch| nodes[branch].sum));
        }
        let mut sums = trie::Sums::default();
        for (writer, ranges) in self.within(level, index) {
            let sum = &mut sums.0[branch(level.into(), position(writer))];
            *sum = sum.wrapping_add(ranges.hash(writer));
        }
        sums
    }

    /// What was seen of the writers below a node.
    pub fn within(&self, level: u8, index: u32) -> Vec<(InstanceId, &Ranges)> {
        let (_, node) = self.above(level, index);
        let mut within = Vec::new();
        node.visit(&mut |entry| {
            if trie::index_at(level.into(), position(entry.writer)) == index as usize {
                within.push((entry.writer, &entry.ranges));
            }
        });
        within
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn dot(writer: u64, n: u64) -> Dot {
        Dot { writer: InstanceId::new(writer), n }
    }

    /// Goal: equal content gives equal roots and sums in whatever order it came and whatever was forgotten in between, and
    /// copies keep what they had. Method: two sets in opposite orders, past the sizes at which nodes split and join.
    #[test]
    fn roots_and_sums_follow_the_content() {
        let (mut left, mut right) = (Seen::default(), Seen::default());
        for writer in 0..600 {
            for n in 1..4 {
                left.insert(dot(writer, n));
                right.insert(dot(599 - writer, 4 - n));
            }
        }
        assert_eq!(left.root(), right.root());
        let (full, root) = (left.clone(), left.root());
        (5..600).for_each(|writer| left.forget(InstanceId::new(writer)));
        assert_eq!((left.len(), full.len(), full.root()), (5, 600, root));
        assert_eq!(left.writers().len(), 5);
        (300..600).for_each(|writer| right.forget(InstanceId::new(writer)));
        left.union(&right);
        assert_eq!((left.root(), left.sums_below(0, 0)), (right.root(), right.sums_below(0, 0)));
        assert_eq!(left.sums_below(2, 77), right.sums_below(2, 77));
        assert!(left.contains(dot(299, 3)) && !left.contains(dot(300, 1)) && full.contains(dot(300, 1)));
    }

    /// Goal: sums on every level are those of the writers below, whether nodes or leaves stand there. Method: add up what
    /// `within` lists.
    #[test]
    fn sums_add_up_on_every_level() {
        let mut seen = Seen::default();
        (0..400).for_each(|writer| assert!(seen.insert(dot(writer, writer))));
        for level in 0..4u8 {
            let mut sums = BTreeMap::new();
            for (writer, ranges) in seen.within(0, 0) {
                let sum = sums.entry(trie::index_at(level as usize + 1, position(writer))).or_insert(0u64);
                *sum = sum.wrapping_add(ranges.hash(writer));
            }
            for index in 0..16u32.pow(level.into()) {
                for (branch, sum) in seen.sums_below(level, index).0.into_iter().enumerate() {
                    let below = index as usize * ARITY + branch;
                    assert_eq!(sum, sums.get(&below).copied().unwrap_or(0), "level {level}, {below}");
                }
            }
        }
    }
}
