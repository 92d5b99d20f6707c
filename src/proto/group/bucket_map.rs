//! A map in the order of its keys whose keys begin with a hash: as ordered as a `BTreeMap`, as fast as a hash map.
//!
//! Because keys are ordered by a hash first, its leading bits name a bucket, and buckets in order hold keys in order.
//! A look-up reads one bucket and one entry. Keys that somebody made collide only lengthen one bucket, which is
//! searched by halves. Most look-ups, moreover, are for the key that was looked up last: one message about a child
//! leads to some twenty of them.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use smallvec::SmallVec;

use super::replica::Key;

/// Entries per bucket, on average, above which there are more buckets. With five, one bucket in eight holds more than
/// fit beside its length into a cache line.
const LOAD_MAX: usize = 5;
/// What fits.
const IN_PLACE: usize = 7;
/// By how many bits the number of buckets grows and shrinks at once.
const STEP_BITS: u32 = 1;
/// The most bits of a hash that name a bucket: four million buckets are enough for 20 million entries.
const BITS_MAX: u32 = 22;

/// Where an entry is, in its bucket.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// The bits of the hash behind those that name the bucket, so that most comparisons need not read the key.
    fragment: u32,
    entry: u32,
}

type Bucket = SmallVec<[Place; IN_PLACE]>;

/// See the module.
#[derive(Debug)]
pub struct BucketMap<K, V> {
    /// Without gaps, in no particular order.
    entries: Vec<(K, V)>,
    /// By the leading bits of the hash; each in the order of its keys.
    buckets: Vec<Bucket>,
    bits: u32,
    /// The entry that was found last.
    found: AtomicU32,
}

impl<K, V> Default for BucketMap<K, V> {
    fn default() -> Self {
        BucketMap { entries: Vec::new(), buckets: vec![Bucket::new()], bits: 0, found: AtomicU32::new(0) }
    }
}

impl<K: Clone, V: Clone> Clone for BucketMap<K, V> {
    fn clone(&self) -> Self {
        let (entries, buckets) = (self.entries.clone(), self.buckets.clone());
        BucketMap { entries, buckets, bits: self.bits, found: AtomicU32::new(0) }
    }
}

/// The bucket of a position, and what is left of it to be ordered by.
fn split(position: u64, bits: u32) -> (usize, u32) {
    let bucket = if bits == 0 { 0 } else { (position >> (64 - bits)) as usize };
    (bucket, ((position << bits) >> 32) as u32)
}

impl<K: Key, V> BucketMap<K, V> {
    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value under a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.find(key).map(|entry| &self.entries[entry].1)
    }

    /// The value under a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.find(key).map(|entry| &mut self.entries[entry].1)
    }

    /// Whether there is an entry under a key.
    pub fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_some()
    }

    /// Puts a value under a key; what was there before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(entry) = self.find(&key) {
            return Some(std::mem::replace(&mut self.entries[entry].1, value));
        }
        self.add(key, value);
        None
    }

    /// Puts a value under a key, in the place of whatever is there.
    pub fn put(&mut self, key: K, value: V) -> &V {
        let Some(entry) = self.find(&key) else { return self.push(key, value) };
        self.entries[entry].1 = value;
        &self.entries[entry].1
    }

    /// Puts a value under a key that is known not to be there.
    pub fn push(&mut self, key: K, value: V) -> &V {
        debug_assert!(!self.contains_key(&key), "pushed twice");
        let entry = self.add(key, value);
        &self.entries[entry].1
    }

    /// The value under a key, which is made if there is none.
    pub fn get_or_insert_with(&mut self, key: &K, value: impl FnOnce() -> V) -> &mut V {
        let entry = self.find(key).unwrap_or_else(|| self.add(key.clone(), value()));
        &mut self.entries[entry].1
    }

    /// Removes an entry.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.find(key)?;
        let (bucket, place) = self.place_of(entry);
        self.buckets[bucket].remove(place);
        let last = self.entries.len() - 1;
        if entry != last {
            let (bucket, place) = self.place_of(last);
            self.buckets[bucket][place].entry = entry as u32;
        }
        let (_, value) = self.entries.swap_remove(entry);
        self.shrink();
        Some(value)
    }

    /// Every entry, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.buckets.iter().flatten().map(|place| self.entry(place))
    }

    /// Every key, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// Every value, in an order that depends on what was inserted and removed before, and on nothing else.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|(_, value)| value)
    }

    /// Every entry, in the order of [`values`](Self::values), which is that of memory: a walk over millions costs a tenth
    /// of one [in order](Self::iter).
    pub fn entries(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries_from(0)
    }

    /// The same without the first ones.
    pub fn entries_from(&self, first: usize) -> impl Iterator<Item = (&K, &V)> {
        self.entries[first.min(self.len())..].iter().map(|(key, value)| (key, value))
    }

    /// Every value, in the order of [`values`](Self::values).
    pub fn into_values(self) -> impl Iterator<Item = V> {
        self.entries.into_iter().map(|(_, value)| value)
    }

    /// Every entry to be changed, in the order of [`values`](Self::values).
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.entries.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// The entries from a key on, in order. The key itself need not be there.
    pub fn from<'a>(&'a self, key: &K) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V> {
        let (bucket, fragment) = split(key.position(), self.bits);
        let place = self.lower_bound(bucket, fragment, key);
        let rest = self.buckets[bucket][place..].iter();
        rest.chain(self.buckets[bucket + 1..].iter().flatten()).map(|place| self.entry(place))
    }

    /// The entries of a span of positions, in order.
    pub fn within(&self, (first, last): (u64, u64)) -> impl Iterator<Item = (&K, &V)> {
        self.from(&K::first_at(first)).take_while(move |(key, _)| key.position() <= last)
    }

    fn entry(&self, place: &Place) -> (&K, &V) {
        let (key, value) = &self.entries[place.entry as usize];
        (key, value)
    }

    fn find(&self, key: &K) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let found = self.found.load(Relaxed) as usize;
        if self.entries.get(found).is_some_and(|(last, _)| last == key) {
            return Some(found);
        }
        let (bucket, fragment) = split(key.position(), self.bits);
        let place = self.lower_bound(bucket, fragment, key);
        let entry = self.buckets[bucket].get(place).filter(|place| place.fragment == fragment)?.entry;
        if self.entries[entry as usize].0 != *key {
            return None;
        }
        self.found.store(entry, Relaxed);
        Some(entry as usize)
    }

    /// The first place of a bucket whose key is not less than this one.
    fn lower_bound(&self, bucket: usize, fragment: u32, key: &K) -> usize {
        self.buckets[bucket].partition_point(|place| {
            place.fragment < fragment || (place.fragment == fragment && self.entries[place.entry as usize].0 < *key)
        })
    }

    /// Where the place of an entry is.
    fn place_of(&self, entry: usize) -> (usize, usize) {
        let key = &self.entries[entry].0;
        let (bucket, fragment) = split(key.position(), self.bits);
        (bucket, self.lower_bound(bucket, fragment, key))
    }

    /// Adds an entry that is not there.
    fn add(&mut self, key: K, value: V) -> usize {
        if self.bits < BITS_MAX && self.entries.len() >= LOAD_MAX << self.bits {
            self.rebuild(self.bits + STEP_BITS);
        }
        let (bucket, fragment) = split(key.position(), self.bits);
        let place = self.lower_bound(bucket, fragment, &key);
        let entry = self.entries.len();
        self.buckets[bucket].insert(place, Place { fragment, entry: entry as u32 });
        self.entries.push((key, value));
        self.found.store(entry as u32, Relaxed);
        entry
    }

    /// Lets memory follow the load back down, far enough below what made it grow.
    fn shrink(&mut self) {
        if self.bits > 0 && self.entries.len() < (LOAD_MAX << self.bits) >> (2 * STEP_BITS + 1) {
            self.rebuild(self.bits - STEP_BITS);
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    fn rebuild(&mut self, bits: u32) {
        let old = std::mem::take(&mut self.buckets);
        self.bits = bits;
        self.buckets = vec![Bucket::new(); 1 << bits];
        for place in old.iter().flatten() {
            let (bucket, fragment) = split(self.entries[place.entry as usize].0.position(), bits);
            self.buckets[bucket].push(Place { fragment, entry: place.entry });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::proto::hash::fmix64 as mix;

    /// A hash that collides as often as `BUCKETS` tells, and a number.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Colliding<const POSITIONS: u64>(u64, u64);

    impl<const POSITIONS: u64> Key for Colliding<POSITIONS> {
        fn position(&self) -> u64 {
            self.0
        }

        fn first_at(position: u64) -> Self {
            Colliding(position, 0)
        }
    }

    /// Goal: the map is an ordered map, through growth and shrinking, whether hashes collide or not. Method:
    /// pseudo-random inserts and removals, compared with a `BTreeMap` after each phase.
    fn is_an_ordered_map<const POSITIONS: u64>() {
        let mut map = BucketMap::default();
        let mut model = BTreeMap::new();
        let key = |n: u64| Colliding::<POSITIONS>(mix(mix(n) % POSITIONS), n);
        for phase in 0..8u64 {
            for step in 0..4_000u64 {
                let draw = mix(phase * 10_000 + step);
                let key = key(draw % 6_000);
                // Growing in the even phases, shrinking in the odd ones.
                if (draw >> 32) % 8 < 2 + 5 * (1 - phase % 2) {
                    assert_eq!(map.insert(key, draw), model.insert(key, draw));
                } else {
                    assert_eq!(map.remove(&key), model.remove(&key));
                }
                assert_eq!(map.get(&key), model.get(&key));
            }
            assert_eq!(map.len(), model.len());
            assert!(map.iter().eq(model.iter()), "phase {phase}");
            for from in (0..20).map(|n| key(mix(n) % 6_000)) {
                assert!(map.from(&from).eq(model.range(from..)), "phase {phase}, from {from:?}");
                let lowest = Colliding::first_at(from.0);
                assert!(map.from(&lowest).eq(model.range(lowest..)));
            }
        }
        model.keys().for_each(|key| assert!(map.remove(key).is_some()));
        assert!(map.is_empty() && map.buckets.len() <= 4, "{} buckets", map.buckets.len());
    }

    #[test]
    fn a_bucket_map_is_an_ordered_map() {
        is_an_ordered_map::<{ u64::MAX }>();
    }

    #[test]
    fn a_bucket_map_of_colliding_keys_is_an_ordered_map() {
        is_an_ordered_map::<7>();
        is_an_ordered_map::<1>();
    }
}
