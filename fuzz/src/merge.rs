//! The laws of the replicated map: three replicas that write, remove, tell each other in any order and pull.
//!
//! What is told, and how often and when it arrives, is the fuzzer's; that it was written somewhere is not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use haulout::proto::group::comparison::{Comparison, SeenStep};
use haulout::proto::group::{BucketMap, ChildKey, Desired, Merge, Record, Replica, Seen};
use haulout::proto::{Dot, InstanceId, Sabotage};
use haulout::{ChildId, ChildSpec};
use serde::{Deserialize, Serialize};

use crate::script::read;

const REPLICAS: usize = 3;
/// So little that a comparison takes several steps.
const ROOM_BYTES: usize = 40;

/// One thing that happens to the replicas, which are counted modulo three.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Change {
    /// A replica writes a record under a key, over whatever it holds.
    Write { at: u8, key: u8 },
    /// A replica removes what it holds under a key.
    Remove { at: u8, key: u8 },
    /// A replica hears, perhaps again, what was told at that place in time.
    Hear { at: u8, told: u8 },
    /// A replica hears two things in one order; in the other they must come to the same.
    HearTwo { at: u8, told: [u8; 2] },
    /// A replica begins to pull from another one.
    Pull { at: u8, from: u8 },
    /// It is told so many more lines of what differs.
    More { at: u8, lines: u8 },
    /// Its pull breaks off.
    Abort(u8),
    /// A replica is lost, and with it all that nobody else has heard; a new one takes its place.
    Lose(u8),
}

/// What is told of a write or of a removal.
#[derive(Clone, Debug)]
enum Told {
    Put(ChildKey, Record<Desired>),
    Del(ChildKey, Dot, u64),
}

/// A pull under way.
#[derive(Clone)]
struct Pull {
    from: usize,
    /// What the puller had seen when it began.
    seen: Seen,
    /// From which position on nothing was told yet.
    next: u64,
}

#[derive(Clone)]
struct One {
    replica: Replica<ChildKey, Desired>,
    shelf: BucketMap<ChildKey, Record<Desired>>,
    pull: Option<Pull>,
}

impl One {
    fn new(instance: u64) -> Self {
        let replica = Replica::new(InstanceId::new(instance), Sabotage::default());
        One { replica, shelf: BucketMap::default(), pull: None }
    }

    fn hear(&mut self, told: &Told) {
        match told {
            Told::Put(key, record) => {
                let is_held = self.shelf.get(key).is_some_and(|held| held.dot == record.dot);
                let merge = self.replica.put(&mut self.shelf, key.clone(), record.clone());
                assert!(
                    !is_held || matches!(merge, Merge::Known | Merge::Ignored),
                    "what is held is no news: {merge:?}"
                );
            }
            Told::Del(key, dot, birth) => {
                self.replica.delete(&mut self.shelf, key, *dot, *birth);
                assert!(self.replica.seen().contains(*dot), "a removal is remembered");
                assert!(self.shelf.get(key).is_none_or(|held| held.dot != *dot), "what was removed is gone");
            }
        }
    }

    fn knows_removed(&self, dot: Dot) -> bool {
        self.replica.seen().contains(dot) && !self.shelf.iter().any(|(_, held)| held.dot == dot)
    }

    /// Roots say the same of two replicas exactly if their content does.
    fn summary(&self) -> (u64, u64, BTreeMap<ChildKey, Dot>) {
        let records = self.shelf.iter().map(|(key, record)| (key.clone(), record.dot)).collect();
        (self.replica.root(), self.replica.top(), records)
    }
}

struct World {
    all: Vec<One>,
    told: Vec<Told>,
    removed: BTreeSet<Dot>,
    /// The greatest write under each key.
    greatest: BTreeMap<ChildKey, (u64, Dot)>,
    /// Keys under which something was removed or lost, so that nothing need be there in the end.
    uncertain: BTreeSet<ChildKey>,
    lives: u64,
}

/// Any changes, and then whole pulls: everybody holds the same, nothing that was removed, and everything else.
pub fn merge(bytes: &[u8]) {
    let mut world = World {
        all: (1..=REPLICAS as u64).map(One::new).collect(),
        told: Vec::new(),
        removed: BTreeSet::new(),
        greatest: BTreeMap::new(),
        uncertain: BTreeSet::new(),
        lives: REPLICAS as u64,
    };
    for change in read(bytes) {
        world.happen(change);
        world.check();
    }
    world.settle();
}

impl World {
    fn happen(&mut self, change: Change) {
        let place = |number: u8| usize::from(number) % REPLICAS;
        match change {
            Change::Write { at, key } => self.write(place(at), key),
            Change::Remove { at, key } => self.remove(place(at), key),
            Change::Hear { at, told } if !self.told.is_empty() => {
                let told = self.told[usize::from(told) % self.told.len()].clone();
                self.all[place(at)].hear(&told);
                let once = self.all[place(at)].summary();
                self.all[place(at)].hear(&told);
                assert_eq!(self.all[place(at)].summary(), once, "to hear {told:?} again changes nothing");
            }
            Change::HearTwo { at, told } if !self.told.is_empty() => {
                let told = told.map(|told| self.told[usize::from(told) % self.told.len()].clone());
                self.hear_two(place(at), &told);
            }
            Change::Hear { .. } | Change::HearTwo { .. } => {}
            Change::Pull { at, from } if place(at) != place(from) => self.begin_pull(place(at), place(from)),
            Change::Pull { .. } => {}
            Change::More { at, lines } => self.pull_on(place(at), usize::from(lines) + 1),
            Change::Abort(at) => self.abort(place(at)),
            Change::Lose(at) => self.lose(place(at)),
        }
    }

    fn write(&mut self, at: usize, number: u8) {
        let key = ChildKey::new(ChildId::new([number % 8]).expect("an id"));
        let spec = ChildSpec::raw("x", "kind", Vec::new()).expect("a spec");
        let value = Desired { spec: Arc::new(spec.spec().clone()), run: 0 };
        let One { replica, shelf, .. } = &mut self.all[at];
        let record = replica.write(shelf, key.clone(), value).clone();
        let rank = (record.birth, record.dot);
        let greatest = self.greatest.entry(key.clone()).or_insert(rank);
        *greatest = rank.max(*greatest);
        self.removed.extend(record.over);
        self.told.push(Told::Put(key, record));
    }

    fn remove(&mut self, at: usize, number: u8) {
        let key = ChildKey::new(ChildId::new([number % 8]).expect("an id"));
        let One { replica, shelf, .. } = &mut self.all[at];
        let Some(record) = replica.remove(shelf, &key) else { return };
        self.removed.insert(record.dot);
        self.told.push(Told::Del(key.clone(), record.dot, replica.top()));
        self.uncertain.insert(key);
    }

    /// Two writes that are news, two removals, and a write and its removal come to the same in any order. (A write that
    /// meets one that was removed is another matter: whether it or neither stays is for the exchange to settle.)
    fn hear_two(&mut self, at: usize, told: &[Told; 2]) {
        let One { replica, shelf, .. } = &self.all[at];
        let is_news = |record: &Record<Desired>| !replica.seen().contains(record.dot);
        let commutes = match told {
            [Told::Put(_, one), Told::Put(_, other)] => is_news(one) && is_news(other),
            [Told::Del(..), Told::Del(..)] => true,
            [Told::Put(key, record), Told::Del(other, dot, _)] | [Told::Del(other, dot, _), Told::Put(key, record)] => {
                key != other || record.dot == *dot && shelf.get(key).is_none()
            }
        };
        let mut other = self.all[at].clone();
        told.iter().for_each(|told| self.all[at].hear(told));
        told.iter().rev().for_each(|told| other.hear(told));
        if commutes {
            assert_eq!(self.all[at].summary(), other.summary(), "{told:?} in both orders");
        }
        assert_eq!(self.all[at].replica.seen().root(), other.replica.seen().root(), "{told:?} in both orders");
    }

    fn begin_pull(&mut self, at: usize, from: usize) {
        self.abort(at);
        let (asks, sums) = Comparison::begin(self.all[at].replica.seen().clone());
        let teller = &self.all[from].replica;
        let (mut answers, mut step) = Comparison::answer(teller.seen().clone(), sums, ROOM_BYTES);
        let top = teller.top();
        let one = &mut self.all[at];
        one.replica.begin_pull(asks);
        one.replica.open_pull(top);
        loop {
            let back = one.replica.compare_seen(step, ROOM_BYTES).expect("an honest step");
            step = answers.take(back, ROOM_BYTES).expect("an honest step");
            let knows = one.replica.comparison().is_some_and(|comparison| comparison.is_complete());
            if knows && answers.is_complete() && step == SeenStep::default() {
                break;
            }
        }
        one.pull = Some(Pull { from, seen: answers.theirs().clone(), next: 0 });
    }

    fn pull_on(&mut self, at: usize, mut lines: usize) {
        let Some(Pull { from, seen, next }) = self.all[at].pull.clone() else { return };
        let teller = &self.all[from];
        let weigh = |_: Option<&Desired>| {
            lines -= 1;
            lines > 0
        };
        let span = teller.replica.list(&teller.shelf, next..=u64::MAX, |dot| seen.contains(dot), weigh);
        let last = span.positions.1;
        let one = &mut self.all[at];
        assert!(one.replica.take_span(&mut one.shelf, span).is_some(), "an honest span is whole");
        match last.checked_add(1) {
            Some(next) => one.pull = Some(Pull { from, seen, next }),
            None => {
                one.replica.finish_pull();
                one.pull = None;
            }
        }
    }

    fn abort(&mut self, at: usize) {
        self.all[at].replica.abort_pull();
        self.all[at].pull = None;
    }

    fn lose(&mut self, at: usize) {
        self.lives += 1;
        self.all[at] = One::new(self.lives);
        for other in 0..REPLICAS {
            if self.all[other].pull.as_ref().is_some_and(|pull| pull.from == at) {
                self.abort(other);
            }
        }
        self.uncertain.extend(self.greatest.keys().cloned());
        let all = &self.all;
        self.removed.retain(|dot| all.iter().any(|one| one.knows_removed(*dot)));
    }

    fn check(&self) {
        for one in &self.all {
            for (key, record) in one.shelf.iter() {
                assert!(one.replica.seen().contains(record.dot), "{key:?} is held and was not seen");
                assert!(record.birth <= one.replica.top(), "{key:?} has a birth above the highest");
            }
        }
    }

    /// Everybody pulls from everybody, twice.
    fn settle(&mut self) {
        for at in 0..REPLICAS {
            self.abort(at);
        }
        for (at, from) in [(0, 1), (1, 2), (2, 0), (0, 2), (1, 0), (2, 1), (0, 1), (1, 2), (2, 0), (0, 2)] {
            self.begin_pull(at, from);
            self.pull_on(at, usize::MAX);
            assert!(self.all[at].pull.is_none(), "a whole pull ends");
        }
        self.check();
        let summary = self.all[0].summary();
        for one in &self.all {
            assert_eq!(one.summary(), summary, "all hold the same");
            for (key, record) in one.shelf.iter() {
                assert!(!self.removed.contains(&record.dot), "{key:?} came back");
            }
            for (key, greatest) in self.greatest.iter().filter(|(key, _)| !self.uncertain.contains(key)) {
                let held = one.shelf.get(key).map(|record| (record.birth, record.dot));
                assert_eq!(held, Some(*greatest), "{key:?} is lost");
            }
        }
    }
}
