//! The real replica beside the reference, driven by the same random operations.

use haulout::proto::Sabotage;
use haulout::proto::group::replica::{Key, Value};
use haulout::proto::group::{BucketMap, Comparison, Record, Replica};

use super::*;
use crate::random::Random;

const NODES: usize = 3;
const KEYS: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(u64);

impl Key for Place {
    fn position(&self) -> u64 {
        self.0 << 60
    }

    fn first_at(position: u64) -> Self {
        Place(position >> 60)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Nothing;

impl Value for Nothing {}

/// Something on its way: it may arrive at any time, any number of times, anywhere.
#[derive(Clone, Debug)]
enum Sent {
    Put(u64, Held),
    Del(u64, Dot, u64),
}

/// A replica with its records.
struct Real {
    rules: Replica<Place, Nothing>,
    shelf: BucketMap<Place, Record<Nothing>>,
}

impl Real {
    fn new(id: InstanceId) -> Self {
        Real { rules: Replica::new(id, Sabotage::default()), shelf: BucketMap::default() }
    }

    fn put(&mut self, key: u64, record: Record<Nothing>) {
        self.rules.put(&mut self.shelf, Place(key), record);
    }
}

/// What the puller knows of what the other one has seen, when that is all.
fn compared(puller: &Real, peer: &Real) -> Comparison {
    const ROOM: usize = 1 << 16;
    let (mut asks, sums) = Comparison::begin(puller.rules.seen().clone());
    let (mut answers, mut step) = Comparison::answer(peer.rules.seen().clone(), sums, ROOM);
    while !asks.is_complete() {
        let back = asks.take(step, ROOM).expect("an honest step");
        step = answers.take(back, ROOM).expect("an honest step");
    }
    asks
}

/// A pull under way at one node: from whom, and the next key to be listed.
type Pulling = (usize, u64);

/// All nodes twice: as they are and as the rules have it.
struct Both {
    real: Vec<Real>,
    model: Vec<Reference>,
    sent: Vec<Sent>,
    pulls: Vec<Option<Pulling>>,
}

fn record(held: &Held) -> Record<Nothing> {
    Record { dot: held.dot, birth: held.birth, over: held.over, value: Nothing }
}

impl Both {
    fn new() -> Self {
        let ids = || (1..=NODES as u64).map(InstanceId::new);
        Both {
            real: ids().map(Real::new).collect(),
            model: ids().map(Reference::new).collect(),
            sent: Vec::new(),
            pulls: vec![None; NODES],
        }
    }

    fn step(&mut self, random: &mut Random) -> String {
        let (node, key) = (random.below(NODES), random.below(KEYS) as u64);
        match random.below(12) {
            0 | 1 => {
                let real = &mut self.real[node];
                real.rules.write(&mut real.shelf, Place(key), Nothing);
                let held = self.model[node].write(key);
                self.sent.push(Sent::Put(key, held));
                format!("{node} writes {key}")
            }
            2 => {
                let real = &mut self.real[node];
                let removed = real.rules.remove(&mut real.shelf, &Place(key)).map(|record| record.dot);
                let expected = self.model[node].remove(key).map(|held| held.dot);
                assert_eq!(removed, expected);
                removed.into_iter().for_each(|dot| self.sent.push(Sent::Del(key, dot, self.model[node].top)));
                format!("{node} removes {key}")
            }
            3..7 => self.deliver(node, random),
            _ => self.pull_on(node, random),
        }
    }

    fn deliver(&mut self, node: usize, random: &mut Random) -> String {
        let Some(sent) = random.pick(&self.sent).cloned() else { return String::new() };
        let (real, model) = (&mut self.real[node], &mut self.model[node]);
        match &sent {
            // Nobody takes a write of its own from the network.
            Sent::Put(_, held) if real.rules.is_forged(held.dot) => {}
            Sent::Put(key, held) => {
                real.put(*key, record(held));
                model.put(*key, held);
            }
            Sent::Del(key, dot, birth) => {
                real.rules.delete(&mut real.shelf, &Place(*key), *dot, *birth);
                model.delete(*key, *dot, *birth);
            }
        }
        format!("{node} gets {sent:?}")
    }

    /// Begins a pull, lists the next key of the one that is open, finishes it, or breaks it off.
    fn pull_on(&mut self, node: usize, random: &mut Random) -> String {
        let Some((from, key)) = self.pulls[node] else {
            let from = (node + 1 + random.below(NODES - 1)) % NODES;
            self.begin_pull(node, from);
            return format!("{node} pulls from {from}");
        };
        if random.chance(0.1) {
            self.real[node].rules.abort_pull();
            self.model[node].abort_pull();
            self.pulls[node] = None;
            format!("{node} breaks off")
        } else if key == KEYS as u64 {
            self.finish_pull(node);
            format!("{node} finishes")
        } else {
            self.take_key(node, from, key);
            format!("{node} takes {key} of {from}")
        }
    }

    fn begin_pull(&mut self, node: usize, from: usize) {
        let (seen, top) = (compared(&self.real[node], &self.real[from]), self.real[from].rules.top());
        self.real[node].rules.begin_pull(seen);
        self.real[node].rules.open_pull(top);
        let (seen, top) = (self.model[from].seen.clone(), self.model[from].top);
        self.model[node].open_pull(seen, top);
        self.pulls[node] = Some((from, 0));
    }

    fn take_key(&mut self, node: usize, from: usize, key: u64) {
        let positions = Place(key).position()..=Place(key + 1).position() - 1;
        let (mine, peer) = (self.real[node].rules.seen(), &self.real[from]);
        let span = peer.rules.list(&peer.shelf, positions, |dot| mine.contains(dot), |_| true);
        let real = &mut self.real[node];
        assert!(real.rules.take_span(&mut real.shelf, span).is_some(), "the peer left out a body");
        let listed = self.model[from].store.get(&key).map(|held| (key, held.clone())).into_iter().collect();
        self.model[node].take(|other| other == key, &listed);
        self.pulls[node] = Some((from, key + 1));
    }

    fn finish_pull(&mut self, node: usize) {
        self.real[node].rules.finish_pull();
        self.model[node].finish_pull();
        self.pulls[node] = None;
    }

    fn assert_equal(&self, seed: u64, done: &[String]) {
        for (real, model) in self.real.iter().zip(&self.model) {
            let Real { rules: real, shelf } = real;
            let held: BTreeMap<u64, Held> =
                shelf.iter().map(|(key, r)| (key.0, Held { dot: r.dot, birth: r.birth, over: r.over })).collect();
            let log =
                || format!("seed {seed}, the last of {}: {:?}", done.len(), &done[done.len().saturating_sub(8)..]);
            assert_eq!(held, model.store, "{}", log());
            assert_eq!(real.top(), model.top, "{}", log());
            for writer in (1..=NODES as u64).map(InstanceId::new) {
                for n in 1..=done.len() as u64 + 1 {
                    let dot = Dot { writer, n };
                    assert_eq!(real.seen().contains(dot), model.seen.contains(&dot), "{dot:?}; {}", log());
                }
            }
        }
    }
}

/// Goal: ranges, trie and listing by spans change nothing about the rules. Method: random writes, removals, datagrams
/// (late, repeated, in any order) and pulls that go on step by step or break off, on three nodes and three keys.
#[test]
fn the_replica_does_what_the_rules_say_whatever_the_order() {
    for seed in 0..150 {
        let mut random = Random::stream(seed, "reference");
        let (mut both, mut done) = (Both::new(), Vec::new());
        for _ in 0..80 {
            done.push(both.step(&mut random));
            both.assert_equal(seed, &done);
        }
    }
}

/// Goal: whatever came before, whole pulls twice around bring all to the same. Method: as above, then everybody pulls
/// from everybody; real and reference agree, and so do the nodes.
#[test]
fn pulls_bring_everybody_to_the_same_state() {
    for seed in 0..100 {
        let mut random = Random::stream(seed, "reference");
        let mut both = Both::new();
        (0..60).for_each(|_| drop(both.step(&mut random)));
        for node in (0..NODES).chain(0..NODES) {
            for from in (0..NODES).filter(|from| *from != node) {
                both.begin_pull(node, from);
                (0..KEYS as u64).for_each(|key| both.take_key(node, from, key));
                both.finish_pull(node);
            }
        }
        both.assert_equal(seed, &vec![String::new(); 60]);
        let [first, rest @ ..] = &both.model[..] else { unreachable!("there are three") };
        for other in rest {
            assert_eq!((&first.store, &first.seen, first.top), (&other.store, &other.seen, other.top), "seed {seed}");
        }
        let root = both.real[0].rules.root();
        for other in &both.real[1..] {
            assert_eq!(root, other.rules.root(), "seed {seed}");
        }
    }
}

/// Goal: a peer that holds a writer for down forgets what it wrote; that is no removal. Method: it forgets the writer of
/// a record in the middle of a pull, and says so or not.
#[test]
fn what_the_peer_has_forgotten_since_its_snapshot_is_not_taken_for_removed() {
    for says_so in [false, true] {
        let [mut writer, mut peer, mut puller] = [1, 2, 3].map(|id| Real::new(InstanceId::new(id)));
        let record = writer.rules.write(&mut writer.shelf, Place(0), Nothing).clone();
        peer.put(0, record.clone());
        puller.put(0, record.clone());
        puller.rules.begin_pull(compared(&puller, &peer));
        puller.rules.open_pull(peer.rules.top());
        peer.rules.forget_writers(&mut peer.shelf, |writer| writer == record.dot.writer);
        if says_so {
            puller.rules.forget_in_pull(&[record.dot.writer]);
        }
        let span = peer.rules.list(&peer.shelf, 0..=u64::MAX, |_| true, |_| true);
        assert!(puller.rules.take_span(&mut puller.shelf, span).is_some(), "no body is lacking");
        puller.rules.finish_pull();
        assert_eq!(puller.shelf.get(&Place(0)).is_some(), says_so);
    }
}

/// Goal: what the puller forgets of a member that goes down in the middle of a pull is no removal when that member is back.
/// Method: the puller forgets the writer of a record between its question and the answer, and is told the record again
/// afterwards.
#[test]
fn what_the_puller_has_forgotten_since_its_question_is_not_taken_for_removed() {
    let [mut writer, mut peer, mut puller] = [1, 2, 3].map(|id| Real::new(InstanceId::new(id)));
    let record = writer.rules.write(&mut writer.shelf, Place(0), Nothing).clone();
    peer.put(0, record.clone());
    puller.put(0, record.clone());
    puller.rules.begin_pull(compared(&puller, &peer));
    puller.rules.forget_writers(&mut puller.shelf, |writer| writer == record.dot.writer);
    puller.rules.open_pull(peer.rules.top());
    puller.rules.finish_pull();
    puller.put(0, record);
    assert!(puller.shelf.get(&Place(0)).is_some());
}
