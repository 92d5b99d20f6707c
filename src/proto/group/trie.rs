//! A 16-ary trie of sums: tells two replicas which parts of them differ, at a few additions per update.
//!
//! Each record adds a hash to the sums of the nodes above its position; equal sums mean equal content, up to a
//! collision of 64 bits. The depth follows the number of records, so that a leaf covers about 16 of them.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Children of a node.
pub const ARITY: usize = 16;
/// Bits of a position that one level consumes.
pub(super) const BITS: u32 = 4;
/// The deepest trie: 16^5 leaves are enough for 16 million records.
pub const DEPTH_MAX: usize = 5;
/// Records per leaf above which the trie grows by a level.
const LEAF_LOAD: usize = 16;

/// Sums over records by the leading bits of their positions.
#[derive(Clone, Debug)]
pub struct SumTrie {
    /// `levels[l]` holds the sums of the `16^l` nodes of level `l`; level 0 is the root. Level 1 is always there: each
    /// exchange begins with it, and adding it up may mean to walk over a million children that nobody claims yet.
    levels: Vec<Vec<u64>>,
}

impl Default for SumTrie {
    fn default() -> Self {
        SumTrie { levels: vec![vec![0], vec![0; ARITY]] }
    }
}

/// The first and the last position below a node.
pub fn span(level: u8, index: u32) -> (u64, u64) {
    if level == 0 {
        return (0, u64::MAX);
    }
    let shift = 64 - BITS * u32::from(level);
    let first = u64::from(index) << shift;
    (first, first | ((1u64 << shift) - 1))
}

/// Whether a node named by a peer exists at all.
pub fn is_node(level: u8, index: u32) -> bool {
    usize::from(level) <= DEPTH_MAX && u64::from(index) < 1u64 << (BITS * u32::from(level))
}

/// The index of the node of `level` above `position`.
pub fn index_at(level: usize, position: u64) -> usize {
    if level == 0 { 0 } else { (position >> (64 - BITS * level as u32)) as usize }
}

/// The sums of the 16 nodes below a node. On the wire those that are 0 cost a bit each, the others eight bytes: a varint
/// of a hash would be longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums(pub [u64; ARITY]);

/// Which sums are not 0.
type Present = u16;

impl Sums {
    /// How many of them are not 0.
    pub fn present(&self) -> usize {
        self.0.iter().filter(|sum| **sum != 0).count()
    }
}

impl Serialize for Sums {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = vec![0; size_of::<Present>()];
        let mut present: Present = 0;
        for (index, sum) in self.0.iter().enumerate().filter(|(_, sum)| **sum != 0) {
            present |= 1 << index;
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        bytes[..size_of::<Present>()].copy_from_slice(&present.to_le_bytes());
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Sums {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Sums;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("which of 16 sums are not 0, and these")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Sums, E> {
                let (present, rest) = bytes.split_first_chunk().ok_or_else(|| E::custom("sums without a head"))?;
                let present = Present::from_le_bytes(*present);
                let (told, &[]) = rest.as_chunks::<8>() else { return Err(E::custom("half a sum")) };
                if told.len() != present.count_ones() as usize {
                    return Err(E::custom("more or fewer sums than announced"));
                }
                let mut told = told.iter().map(|sum| u64::from_le_bytes(*sum));
                let next = |index| if present >> index & 1 == 0 { 0 } else { told.next().unwrap_or(0) };
                Ok(Sums(std::array::from_fn(next)))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

impl SumTrie {
    /// The sum over everything.
    pub fn root(&self) -> u64 {
        self.levels[0][0]
    }

    /// The number of levels below the root.
    pub fn depth(&self) -> usize {
        self.levels.len() - 1
    }

    /// The sums of all nodes of a level, if the trie is that deep.
    pub fn level(&self, level: usize) -> Option<&[u64]> {
        self.levels.get(level).map(Vec::as_slice)
    }

    /// Counts a record in.
    pub fn add(&mut self, position: u64, hash: u64) {
        for (level, sums) in self.levels.iter_mut().enumerate() {
            let sum = &mut sums[index_at(level, position)];
            *sum = sum.wrapping_add(hash);
        }
    }

    /// Counts a record out.
    pub fn remove(&mut self, position: u64, hash: u64) {
        self.add(position, hash.wrapping_neg());
    }

    /// Whether a trie over `records` should be deeper; the owner then calls [`grow`](Self::grow).
    pub fn is_crowded(&self, records: usize) -> bool {
        self.depth() < DEPTH_MAX && records > LEAF_LOAD << (BITS as usize * self.depth())
    }

    /// Adds a level, from `(position, hash)` of every record.
    pub fn grow(&mut self, records: impl Iterator<Item = (u64, u64)>) {
        let level = self.levels.len();
        let mut sums = vec![0u64; 1 << (BITS as usize * level)];
        for (position, hash) in records {
            let sum = &mut sums[index_at(level, position)];
            *sum = sum.wrapping_add(hash);
        }
        self.levels.push(sums);
    }

    /// Drops levels that are far too many for `records`, so that memory follows the load back down.
    pub fn shrink(&mut self, records: usize) {
        while self.depth() > 1 && records < 1 << (BITS as usize * (self.depth() - 1)) {
            self.levels.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::hash::fmix64 as mix;

    /// Goal: every level sums to the root, whatever was added and removed and however the trie grew.
    /// Method: 5,000 records in, half of them out again, growing on the way; compare with a trie built at once.
    #[test]
    fn sums_agree_on_every_level_after_growth_and_removal() {
        let mut trie = SumTrie::default();
        let mut kept = Vec::new();
        for n in 0..5_000u64 {
            let record = (mix(n), mix(n ^ 0xabcd));
            trie.add(record.0, record.1);
            kept.push(record);
            if trie.is_crowded(kept.len()) {
                trie.grow(kept.iter().copied());
            }
        }
        for (position, hash) in kept.split_off(2_500) {
            trie.remove(position, hash);
        }
        assert_eq!(trie.depth(), 3);
        for level in 0..=trie.depth() {
            let mut expected = vec![0u64; ARITY.pow(level as u32)];
            for &(position, hash) in &kept {
                let sum = &mut expected[index_at(level, position)];
                *sum = sum.wrapping_add(hash);
            }
            assert_eq!(trie.level(level).unwrap(), expected);
        }
        trie.shrink(10);
        assert_eq!(trie.depth(), 1);
    }

    /// Goal: sums survive the wire, and are as long as they say. Method: none, some, all; then each cut short.
    #[test]
    fn sums_survive_the_wire_and_no_others_are_taken() {
        for present in [0u16, 1, 0x8421, u16::MAX] {
            let sums =
                Sums(std::array::from_fn(|index| if present >> index & 1 == 0 { 0 } else { mix(index as u64 + 1) }));
            let bytes = postcard::to_allocvec(&sums).unwrap();
            assert_eq!(postcard::from_bytes::<Sums>(&bytes).unwrap(), sums);
            let content: &[u8] = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(content.len(), 2 + 8 * present.count_ones() as usize);
            for len in 0..content.len() {
                let short = postcard::to_allocvec(&content[..len]).unwrap();
                assert!(postcard::from_bytes::<Sums>(&short).is_err(), "{len} bytes of {sums:?}");
            }
        }
    }

    /// Goal: spans of a level tile the positions. Method: compare ends and starts of neighbours.
    #[test]
    fn spans_tile_the_positions() {
        for level in 0..=5u8 {
            let last = (1u64 << (4 * level)) - 1;
            assert_eq!(span(level, 0).0, 0);
            assert_eq!(span(level, last as u32).1, u64::MAX);
            if last > 0 {
                assert_eq!(span(level, 0).1 + 1, span(level, 1).0);
            }
        }
        assert!(!is_node(1, 16));
        assert!(!is_node(6, 0));
    }
}
