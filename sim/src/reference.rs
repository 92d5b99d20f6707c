//! A naive reading of the rules of desired state: explicit sets of dots instead of ranges, one list of records instead
//! of a trie, nothing shared. Driven with the same random operations as the real replica, aborted pulls included, it
//! must hold the same after each.

use std::collections::{BTreeMap, BTreeSet};

use haulout::proto::{Dot, InstanceId};

/// One write that is live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its serial number.
    pub dot: Dot,
    /// Its birth.
    pub birth: u64,
    /// The write that it replaced.
    pub over: Option<Dot>,
}

/// The state of one instance, as the rules have it.
#[derive(Clone, Debug)]
pub struct Reference {
    me: InstanceId,
    next: u64,
    /// The highest birth ever heard of.
    pub top: u64,
    /// Every dot ever held, or known to be removed.
    pub seen: BTreeSet<Dot>,
    /// The records, by key.
    pub store: BTreeMap<u64, Held>,
    pull: Option<(BTreeSet<Dot>, u64)>,
}

impl Reference {
    /// An instance that has heard of nothing.
    pub fn new(me: InstanceId) -> Self {
        Reference { me, next: 1, top: 0, seen: BTreeSet::new(), store: BTreeMap::new(), pull: None }
    }

    /// R1 and R1': a write of one's own, over what is held.
    pub fn write(&mut self, key: u64) -> Held {
        let dot = Dot { writer: self.me, n: self.next };
        self.next += 1;
        self.top += 1;
        self.seen.insert(dot);
        let held = Held { dot, birth: self.top, over: self.store.get(&key).map(|old| old.dot) };
        self.store.insert(key, held.clone());
        held
    }

    /// R2: removes what is held; its dot stays seen.
    pub fn remove(&mut self, key: u64) -> Option<Held> {
        self.store.remove(&key)
    }

    /// R3: a record arrives as a datagram.
    pub fn put(&mut self, key: u64, record: &Held) {
        let is_told_by_pull = self.pull.as_ref().is_some_and(|(snapshot, _)| snapshot.contains(&record.dot));
        if !is_told_by_pull {
            self.merge(key, record);
        }
    }

    fn merge(&mut self, key: u64, record: &Held) {
        if let Some(over) = record.over {
            self.seen.insert(over);
            if self.store.get(&key).is_some_and(|held| held.dot == over) {
                self.store.remove(&key);
            }
        }
        self.top = self.top.max(record.birth);
        if !self.seen.insert(record.dot) {
            return;
        }
        let is_greater = self.store.get(&key).is_none_or(|held| (record.birth, record.dot) > (held.birth, held.dot));
        if is_greater {
            self.store.insert(key, record.clone());
        }
    }

    /// R4: a record was removed somewhere.
    pub fn delete(&mut self, key: u64, dot: Dot, birth: u64) {
        self.seen.insert(dot);
        self.top = self.top.max(birth);
        if self.store.get(&key).is_some_and(|held| held.dot == dot) {
            self.store.remove(&key);
        }
    }

    /// R5, step 1: the snapshot of the peer arrives.
    pub fn open_pull(&mut self, seen: BTreeSet<Dot>, top: u64) {
        self.pull = Some((seen, top));
    }

    /// R5, steps 3 and 4: the peer lists what it holds under these keys, with the bodies of what was never seen here.
    pub fn take(&mut self, keys: impl Fn(u64) -> bool, listed: &BTreeMap<u64, Held>) {
        let Some((snapshot, _)) = &self.pull else { return };
        let is_gone = |key: u64, held: &Held| {
            keys(key) && snapshot.contains(&held.dot) && listed.get(&key).is_none_or(|other| other.dot != held.dot)
        };
        self.store.retain(|key, held| !is_gone(*key, held));
        for (key, record) in listed {
            if self.seen.contains(&record.dot) {
                continue;
            }
            self.merge(*key, record);
        }
    }

    /// R5, step 5: only now what the peer had seen is seen here.
    pub fn finish_pull(&mut self) {
        if let Some((seen, top)) = self.pull.take() {
            self.seen.extend(seen);
            self.top = self.top.max(top);
        }
    }

    /// The pull broke off: what was applied stays.
    pub fn abort_pull(&mut self) {
        self.pull = None;
    }
}

#[cfg(test)]
mod tests;
