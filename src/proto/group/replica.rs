//! The replicated map: records under dots, merged by the rules R1 to R5 of the group protocol.

use std::marker::PhantomData;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::bucket_map::BucketMap;
use super::comparison::{Comparison, SeenStep};
use super::seen::Seen;
use super::trie::{self, SumTrie, Sums};
use crate::proto::hash::fmix64 as mix;
use crate::proto::{Dot, InstanceId, Rule, Sabotage};

/// What a record is filed under. Ordered by position first, so that a span of positions is a range of keys.
pub trait Key: Ord + Clone {
    /// Its place in the trie: a hash.
    fn position(&self) -> u64;
    /// A key that is not greater than any other with this position.
    fn first_at(position: u64) -> Self;
}

/// What a record holds. A note is a number beside the value that only grows and is told along with the dot.
pub trait Value {
    /// The note.
    fn note(&self) -> u32 {
        0
    }
    /// Takes over a greater note.
    fn absorb(&mut self, _note: u32) {}
}

/// Where the records of a replica are kept. It is handed in, because two replicas may keep what concerns one child in
/// one place.
pub trait Shelf<K: Key, V> {
    /// The number of records.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record under a key.
    fn get(&self, key: &K) -> Option<&Record<V>>;

    /// The record under a key, to be changed.
    fn get_mut(&mut self, key: &K) -> Option<&mut Record<V>>;

    /// Puts a record under a key, in the place of whatever is there.
    fn put(&mut self, key: K, record: Record<V>) -> &Record<V>;

    /// Removes the record under a key.
    fn remove(&mut self, key: &K) -> Option<Record<V>>;

    /// The records from a key on, in order; the key itself need not be there.
    fn from<'a>(&'a self, key: K) -> impl Iterator<Item = (K, &'a Record<V>)>
    where
        K: 'a,
        V: 'a;

    /// Every record, in order.
    fn iter<'a>(&'a self) -> impl Iterator<Item = (K, &'a Record<V>)>
    where
        K: 'a,
        V: 'a,
    {
        self.from(K::first_at(0))
    }

    /// The position and the dot of every record of a span, in any order. Unlike [`from`](Self::from) it hands out no keys:
    /// each would be one more read, of memory that is far away, to count a reference.
    fn dots_within(&self, span: (u64, u64)) -> impl Iterator<Item = (u64, Dot)>;

    /// The same of all, as fast as a walk through memory.
    fn dots(&self) -> impl Iterator<Item = (u64, Dot)>;

    /// The keys of the records that these writers wrote, in order.
    fn written_by(&self, is_one: impl Fn(InstanceId) -> bool) -> Vec<K> {
        self.iter().filter(|(_, record)| is_one(record.dot.writer)).map(|(key, _)| key).collect()
    }
}

impl<K: Key, V> Shelf<K, V> for BucketMap<K, Record<V>> {
    fn len(&self) -> usize {
        BucketMap::len(self)
    }

    fn get(&self, key: &K) -> Option<&Record<V>> {
        BucketMap::get(self, key)
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut Record<V>> {
        BucketMap::get_mut(self, key)
    }

    fn put(&mut self, key: K, record: Record<V>) -> &Record<V> {
        BucketMap::put(self, key, record)
    }

    fn remove(&mut self, key: &K) -> Option<Record<V>> {
        BucketMap::remove(self, key)
    }

    fn from<'a>(&'a self, key: K) -> impl Iterator<Item = (K, &'a Record<V>)>
    where
        K: 'a,
        V: 'a,
    {
        BucketMap::from(self, &key).map(|(key, record)| (key.clone(), record))
    }

    fn dots_within(&self, span: (u64, u64)) -> impl Iterator<Item = (u64, Dot)> {
        BucketMap::within(self, span).map(|(key, record)| (key.position(), record.dot))
    }

    fn dots(&self) -> impl Iterator<Item = (u64, Dot)> {
        BucketMap::entries(self).map(|(key, record)| (key.position(), record.dot))
    }
}

/// The highest birth that is believed: a thousand million starts a second would take a century to get there.
const BIRTH_MAX: u64 = 1 << 62;

/// One write that is live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<V> {
    /// Its serial number.
    pub dot: Dot,
    /// Higher than every birth that its writer had heard of: decides between concurrent writes.
    pub birth: u64,
    /// The write that it replaced.
    pub over: Option<Dot>,
    /// Its content.
    pub value: V,
}

/// What a merge did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge<V> {
    /// Its dot was seen before; nothing changed.
    Known,
    /// A pull is open whose snapshot has seen the dot; nothing changed.
    Ignored,
    /// It is held now; what it displaced.
    Won(Option<Record<V>>),
    /// The record held before stays.
    Lost,
}

/// One line of a listing: a key, the dot held there, its note.
pub type Listed<K> = (K, Dot, u32);

/// What a peer told of a span of positions: everything it holds there, and the bodies that the puller lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span<K, V> {
    /// The first and last position covered.
    pub positions: (u64, u64),
    /// Everything held there.
    pub listed: Vec<Listed<K>>,
    /// The bodies of those whose dots the puller has not seen.
    pub bodies: Vec<(K, Record<V>)>,
}

/// A pull that is not finished.
#[derive(Clone, Debug)]
struct OpenPull {
    seen: Comparison,
    /// The peer's highest birth, as soon as it has taken its snapshot.
    top: Option<u64>,
}

/// What a node knows of a replicated map beside its records, and the rules by which it changes them.
#[derive(Clone, Debug)]
pub struct Replica<K, V> {
    me: InstanceId,
    sabotage: Sabotage,
    next: u64,
    top: u64,
    seen: Seen,
    trie: SumTrie,
    pull: Option<OpenPull>,
    of: PhantomData<fn(K, V)>,
}

fn hash(position: u64, dot: Dot) -> u64 {
    mix(mix(position ^ dot.writer.get()).wrapping_add(dot.n))
}

/// Which of two concurrent records stays is the same wherever they meet, in whatever order.
fn is_preferred<V>(held: &Record<V>, other: &Record<V>, sabotage: Sabotage) -> bool {
    if held.birth == other.birth && sabotage.lacks(Rule::TiesByDot) {
        return true;
    }
    let is_higher = (held.birth, held.dot) > (other.birth, other.dot);
    is_higher != sabotage.lacks(Rule::HigherBirthWins)
}

fn within<'a, K: Key + 'a, V: 'a>(
    shelf: &'a impl Shelf<K, V>,
    (first, last): (u64, u64),
) -> impl Iterator<Item = (K, &'a Record<V>)> {
    shelf.from(K::first_at(first)).take_while(move |(key, _)| key.position() <= last)
}

impl<K: Key, V: Value + Clone> Replica<K, V> {
    /// An empty map written by `me`.
    pub fn new(me: InstanceId, sabotage: Sabotage) -> Self {
        Replica {
            me,
            sabotage,
            next: 1,
            top: 0,
            seen: Seen::default(),
            trie: SumTrie::default(),
            pull: None,
            of: PhantomData,
        }
    }

    /// What was ever seen.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// The highest birth ever heard of.
    pub fn top(&self) -> u64 {
        self.top
    }

    /// A hash over records and what was seen.
    pub fn root(&self) -> u64 {
        self.records_root().wrapping_add(self.seen.root())
    }

    /// A hash over the records alone.
    pub fn records_root(&self) -> u64 {
        mix(self.trie.root())
    }

    /// The depth of the trie of sums.
    pub fn depth(&self) -> usize {
        self.trie.depth()
    }

    /// The dot of the next write of this instance.
    pub fn next_dot(&self) -> Dot {
        Dot { writer: self.me, n: self.next }
    }

    /// R7: whether a dot claims to be a write of this instance that it never made.
    pub fn is_forged(&self, dot: Dot) -> bool {
        dot.writer == self.me && dot.n >= self.next
    }

    /// R1, R1': writes a record of one's own, over whatever is held.
    pub fn write<'a>(&mut self, shelf: &'a mut impl Shelf<K, V>, key: K, value: V) -> &'a Record<V> {
        let dot = Dot { writer: self.me, n: self.next };
        self.next += 1;
        self.top += 1;
        self.seen.insert(dot);
        let birth = if self.sabotage.lacks(Rule::BirthAboveTop) { dot.n } else { self.top };
        let replaced = shelf.get(&key).map(|old| old.dot);
        let over = replaced.filter(|_| !self.sabotage.lacks(Rule::OverReplaced));
        let record = Record { dot, birth, over, value };
        let Some(replaced) = replaced else { return self.insert(shelf, key, record) };
        self.trie.add(key.position(), hash(key.position(), dot).wrapping_sub(hash(key.position(), replaced)));
        shelf.put(key, record)
    }

    /// Writes a record whose dot was agreed on beforehand, unless it was ever seen.
    pub fn write_fixed(&mut self, shelf: &mut impl Shelf<K, V>, key: K, dot: Dot, value: V) -> bool {
        if shelf.get(&key).is_some() || !self.seen.insert(dot) {
            return false;
        }
        self.insert(shelf, key, Record { dot, birth: 0, over: None, value });
        true
    }

    /// R2: removes a record; its dot stays seen.
    pub fn remove(&mut self, shelf: &mut impl Shelf<K, V>, key: &K) -> Option<Record<V>> {
        self.take(shelf, key)
    }

    /// R3: takes a record that somebody sent.
    pub fn put(&mut self, shelf: &mut impl Shelf<K, V>, key: K, record: Record<V>) -> Merge<V> {
        if self.is_left_to_pull(record.dot) {
            return Merge::Ignored;
        }
        self.merge(shelf, key, record)
    }

    fn is_left_to_pull(&self, dot: Dot) -> bool {
        let Some(pull) = self.pull.as_ref().filter(|pull| pull.top.is_some()) else { return false };
        let is_unclear = pull.seen.is_unclear(dot.writer) && !self.sabotage.lacks(Rule::IgnoreUnclear);
        (is_unclear || pull.seen.theirs().contains(dot)) && !self.sabotage.lacks(Rule::IgnoreWhilePulling)
    }

    /// R4: a record was removed somewhere. Remembered even if it was never held here.
    pub fn delete(&mut self, shelf: &mut impl Shelf<K, V>, key: &K, dot: Dot, birth: u64) -> Option<Record<V>> {
        if !self.sabotage.lacks(Rule::RememberUnheld) || shelf.get(key).is_some() {
            self.seen.insert(dot);
        }
        self.note_top(birth);
        self.take_if(shelf, key, dot)
    }

    /// R4 where a key has one writer, whose serial numbers order everything that it ever filed there: what it removed is
    /// this record or one that replaced it and was told to nobody.
    pub fn delete_until(&mut self, shelf: &mut impl Shelf<K, V>, key: &K, dot: Dot) -> Option<Record<V>> {
        let held = shelf.get(key).map(|record| record.dot);
        let earlier = held.filter(|held| held.writer == dot.writer && held.n < dot.n);
        let removed = earlier.and_then(|held| self.take_if(shelf, key, held));
        self.delete(shelf, key, dot, 0).or(removed)
    }

    fn merge(&mut self, shelf: &mut impl Shelf<K, V>, key: K, record: Record<V>) -> Merge<V> {
        if let Some(over) = record.over {
            self.seen.insert(over);
        }
        self.note_top(record.birth);
        let is_below_maximum =
            self.sabotage.lacks(Rule::SeenAsRanges) && record.dot.n <= self.seen.last(record.dot.writer);
        let is_known = !self.seen.insert(record.dot) && !self.sabotage.lacks(Rule::RemovedStaysRemoved);
        let is_known = is_known || is_below_maximum;
        let Some(held) = shelf.get_mut(&key) else {
            if is_known {
                return Merge::Known;
            }
            self.insert(shelf, key, record);
            return Merge::Won(None);
        };
        match (is_known, record.over == Some(held.dot)) {
            (true, false) => Merge::Known,
            (true, true) => Merge::Won(self.take(shelf, &key)),
            (false, false) if is_preferred(held, &record, self.sabotage) => Merge::Lost,
            (false, _) => {
                let added = hash(key.position(), record.dot);
                let displaced = std::mem::replace(held, record);
                self.trie.add(key.position(), added.wrapping_sub(hash(key.position(), displaced.dot)));
                Merge::Won(Some(displaced))
            }
        }
    }

    /// The next birth is one higher than this, whatever was heard of: only for the rule that it is not.
    pub(crate) fn count_from(&mut self, birth: u64) {
        self.top = birth;
    }

    /// A birth that no honest count reaches must not keep this node from counting on.
    fn note_top(&mut self, birth: u64) {
        self.top = self.top.max(birth.min(BIRTH_MAX));
    }

    fn insert<'a>(&mut self, shelf: &'a mut impl Shelf<K, V>, key: K, record: Record<V>) -> &'a Record<V> {
        self.trie.add(key.position(), hash(key.position(), record.dot));
        if self.trie.is_crowded(shelf.len() + 1) {
            let records = shelf.dots().chain([(key.position(), record.dot)]);
            self.trie.grow(records.map(|(position, dot)| (position, hash(position, dot))));
        }
        shelf.put(key, record)
    }

    fn take(&mut self, shelf: &mut impl Shelf<K, V>, key: &K) -> Option<Record<V>> {
        let record = shelf.remove(key)?;
        self.trie.remove(key.position(), hash(key.position(), record.dot));
        self.trie.shrink(shelf.len());
        Some(record)
    }

    fn take_if(&mut self, shelf: &mut impl Shelf<K, V>, key: &K, dot: Dot) -> Option<Record<V>> {
        if shelf.get(key)?.dot == dot { self.take(shelf, key) } else { None }
    }

    /// Drops every record and everything seen of these writers, as if they had never been heard of.
    pub fn forget_writers(
        &mut self,
        shelf: &mut impl Shelf<K, V>,
        gone: impl Fn(InstanceId) -> bool,
    ) -> Vec<(K, Record<V>)> {
        let keys = shelf.written_by(&gone);
        let dropped = keys.into_iter().filter_map(|key| self.take(shelf, &key).map(|record| (key, record))).collect();
        // A pull that is open may know a writer that is not known here yet.
        if let Some(pull) = &mut self.pull {
            let known = [self.seen.writers(), pull.seen.theirs().writers()].concat();
            known.into_iter().filter(|&writer| gone(writer)).for_each(|writer| pull.seen.forget(writer));
        }
        self.seen.writers().into_iter().filter(|&writer| gone(writer)).for_each(|writer| self.seen.forget(writer));
        dropped
    }

    /// R6: forgets what was seen of these writers, which are dead and have no record left.
    pub fn prune(&mut self, writers: &[InstanceId]) {
        for &writer in writers {
            self.seen.forget(writer);
        }
    }

    /// The sums of the 16 nodes below a node.
    pub fn sums_below(&self, shelf: &impl Shelf<K, V>, level: u8, index: u32) -> Sums {
        let below = usize::from(level) + 1;
        let first = index as usize * trie::ARITY;
        if let Some(sums) = self.trie.level(below) {
            return Sums(std::array::from_fn(|branch| sums[first + branch]));
        }
        let mut sums = Sums::default();
        for (position, dot) in shelf.dots_within(trie::span(level, index)) {
            let sum = &mut sums.0[trie::index_at(below, position) - first];
            *sum = sum.wrapping_add(hash(position, dot));
        }
        sums
    }

    /// R5, step 3: lists a span from `first` on, with the bodies that `theirs` does not cover, until `weigh` says
    /// that it is enough; the span ends where the listing does.
    pub fn list(
        &self,
        shelf: &impl Shelf<K, V>,
        positions: RangeInclusive<u64>,
        theirs: impl Fn(Dot) -> bool,
        mut weigh: impl FnMut(Option<&V>) -> bool,
    ) -> Span<K, V> {
        let mut span: Span<K, V> =
            Span { positions: (*positions.start(), *positions.end()), listed: vec![], bodies: vec![] };
        let mut enough = false;
        for (key, record) in within(shelf, span.positions) {
            if enough && span.listed.last().is_some_and(|(last, ..)| last.position() != key.position()) {
                span.positions.1 = span.listed.last().map_or(span.positions.1, |(last, ..)| last.position());
                break;
            }
            let lacks = !theirs(record.dot);
            if lacks {
                span.bodies.push((key.clone(), record.clone()));
            }
            span.listed.push((key, record.dot, record.value.note()));
            enough = !weigh(lacks.then_some(&record.value));
        }
        span
    }

    /// The question is asked with which a pull begins.
    pub fn begin_pull(&mut self, seen: Comparison) {
        self.pull = Some(OpenPull { seen, top: None });
    }

    /// R5, step 1: the peer has taken its snapshot; from now on direct puts of what it has seen, or may have seen as far
    /// as it has told, are ignored.
    pub fn open_pull(&mut self, top: u64) {
        if let Some(pull) = &mut self.pull {
            pull.top = Some(top);
        }
    }

    /// Takes a step of the comparison of the pull that is open, and answers it as [`Comparison::take`] does.
    pub fn compare_seen(&mut self, step: SeenStep, room: usize) -> Option<SeenStep> {
        let pull = self.pull.as_mut()?;
        let answer = pull.seen.take(step, room);
        if self.sabotage.lacks(Rule::AdoptAtEnd) {
            self.seen.union(pull.seen.theirs());
        }
        answer
    }

    /// The comparison of the pull that is open.
    pub fn comparison(&mut self) -> Option<&mut Comparison> {
        self.pull.as_mut().map(|pull| &mut pull.seen)
    }

    /// R5, step 4: takes what the peer told of a span. Returns what was dropped, and the keys that changed with what
    /// each displaced, or `None` if the peer left out a body that is needed; the pull must then be aborted.
    #[allow(clippy::type_complexity, reason = "two lists, each used once")]
    pub fn take_span(
        &mut self,
        shelf: &mut impl Shelf<K, V>,
        span: Span<K, V>,
    ) -> Option<(Vec<(K, Record<V>)>, Vec<(K, Option<Record<V>>)>)> {
        let pull = self.pull.as_ref()?;
        // Bodies come in the order of the listing, so one walk over both finds a gap.
        let mut bodies = span.bodies.iter();
        let is_whole = span.listed.iter().all(|(key, dot, _)| {
            self.seen.contains(*dot) || bodies.any(|(other, record)| other == key && record.dot == *dot)
        });
        if !is_whole {
            return None;
        }
        let mut listed: Vec<(&K, Dot)> = span.listed.iter().map(|(key, dot, _)| (key, *dot)).collect();
        listed.sort_unstable();
        let gone: Vec<K> = within(shelf, span.positions)
            .filter(|(key, record)| {
                listed.binary_search(&(key, record.dot)).is_err() && pull.seen.theirs().contains(record.dot)
            })
            .filter(|_| !self.sabotage.lacks(Rule::ExchangeRemoves))
            .map(|(key, _)| key)
            .collect();
        let dropped = gone.into_iter().filter_map(|key| self.take(shelf, &key).map(|record| (key, record))).collect();
        let mut changed = Vec::new();
        for (key, record) in span.bodies {
            let inside = (span.positions.0..=span.positions.1).contains(&key.position());
            if inside
                && !self.is_forged(record.dot)
                && let Merge::Won(displaced) = self.merge(shelf, key.clone(), record)
            {
                changed.push((key, displaced));
            }
        }
        for (key, dot, note) in span.listed {
            if let Some(held) = shelf.get_mut(&key).filter(|held| held.dot == dot) {
                held.value.absorb(note);
            }
        }
        Some((dropped, changed))
    }

    /// The peer has forgotten these writers since its snapshot: what is held of them was not removed.
    pub fn forget_in_pull(&mut self, gone: &[InstanceId]) {
        if let Some(pull) = &mut self.pull {
            gone.iter().for_each(|&writer| pull.seen.forget(writer));
        }
    }

    /// R5, step 5: everything was told; what the peer had seen is seen here too.
    pub fn finish_pull(&mut self) {
        if let Some(pull) = self.pull.take() {
            self.seen.union(pull.seen.theirs());
            pull.top.into_iter().for_each(|top| self.note_top(top));
        }
    }

    /// The pull broke off: what was applied stays, nothing is adopted.
    pub fn abort_pull(&mut self) {
        self.pull = None;
    }
}
