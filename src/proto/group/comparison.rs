//! How two nodes find out what the other one has seen, at a price that follows what differs.
//!
//! Both descend their tries of writers in turns, each from a snapshot that it took at the beginning. Where the sums of a
//! node differ, the next step tells the sums below it, or, where there are few writers, all that was seen of them; the
//! other one then tells what it has seen otherwise. What is equal is never told.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::ranges::Ranges;
use super::seen::{Seen, position};
use super::trie::{self, ARITY, DEPTH_MAX, Sums};
use crate::proto::InstanceId;

/// With so few writers below a node they are told; its sums would be as long.
const TOLD_MAX: usize = 8;
/// Corrections are looked for in nodes with so many writers at most, so that a step does not outgrow a frame.
const CORRECTED_MAX: usize = 64;
/// Nodes of which something is still to be said. An honest trie has no more of them that differ.
const DUE_MAX: usize = 1 << 20;
/// Writers that another one may have seen: as many start-up children as there may be children, and as many dead.
const WRITERS_MAX: usize = 1 << 21;

/// A node of the trie of writers: its level and its index there.
type Place = (u8, u32);

/// Writers, and what was seen of each.
pub type Told = Vec<(InstanceId, Ranges)>;

/// What one side says in its turn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenStep {
    /// Nodes that differ, with the sender's sums below each.
    pub nodes: Vec<(u8, u32, Sums)>,
    /// Nodes that differ, with everything that the sender has seen there.
    pub told: Vec<(u8, u32, Told)>,
    /// What the sender has seen otherwise than the receiver told, or assumed; no ranges for nothing.
    pub corrected: Told,
    /// Whether the sender has more to say, for which there was no room.
    pub more: bool,
}

/// Something that is still to be said.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// The node differs: the sums below, or everything.
    Differs(Place),
    /// The other one has told what it has seen there.
    Corrected(Place),
}

/// One side of a comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What this node had seen at the beginning.
    mine: Seen,
    /// What the other one had seen, as far as it has told: what it has not spoken of is equal.
    theirs: Seen,
    due: VecDeque<Due>,
    /// Nodes that differ, about which this node has spoken last.
    asked: BTreeSet<Place>,
    /// Whether the other one has more to say.
    is_more_there: bool,
    /// Writers that count as never heard of by the other one, whatever it tells.
    forgotten: BTreeSet<InstanceId>,
}

impl Comparison {
    /// The side that begins, with what it says first.
    pub fn begin(mine: Seen) -> (Self, Sums) {
        let sums = mine.sums_below(0, 0);
        let mut begun = Comparison::of(mine);
        begun.asked.insert((0, 0));
        (begun, sums)
    }

    /// The other side, with its answer.
    pub fn answer(mine: Seen, theirs: Sums, room: usize) -> (Self, SeenStep) {
        let mut answering = Comparison::of(mine);
        answering.compare((0, 0), &theirs);
        let step = answering.next_step(room);
        (answering, step)
    }

    fn of(mine: Seen) -> Self {
        Comparison {
            theirs: mine.clone(),
            mine,
            due: VecDeque::new(),
            asked: BTreeSet::new(),
            is_more_there: false,
            forgotten: BTreeSet::new(),
        }
    }

    /// Takes what the other one said and answers in some `room` bytes, or more if one thing alone is longer. `None` for
    /// what no honest node says.
    pub fn take(&mut self, step: SeenStep, room: usize) -> Option<SeenStep> {
        self.asked.clear();
        self.is_more_there = step.more;
        for (level, index, sums) in &step.nodes {
            if usize::from(*level) >= DEPTH_MAX || !trie::is_node(*level, *index) {
                return None;
            }
            self.compare((*level, *index), sums);
        }
        for (level, index, told) in step.told {
            let is_below = |writer| trie::index_at(level.into(), position(writer)) == index as usize;
            if !trie::is_node(level, index) || !told.iter().all(|(writer, _)| is_below(*writer)) {
                return None;
            }
            self.clear((level, index));
            told.into_iter().for_each(|(writer, ranges)| self.theirs.set(writer, ranges));
            self.due.push_back(Due::Corrected((level, index)));
        }
        step.corrected.into_iter().for_each(|(writer, ranges)| self.theirs.set(writer, ranges));
        if self.due.len() > DUE_MAX || self.theirs.len() > WRITERS_MAX {
            return None;
        }
        let answer = self.next_step(room);
        if self.is_complete() {
            self.forgotten.iter().for_each(|writer| self.theirs.forget(*writer));
        }
        Some(answer)
    }

    /// Whether it is clear what the other one had seen.
    pub fn is_complete(&self) -> bool {
        self.due.is_empty() && self.asked.is_empty() && !self.is_more_there
    }

    /// What the other one had seen; exact once the comparison is complete.
    pub fn theirs(&self) -> &Seen {
        &self.theirs
    }

    /// Whether it is not clear yet what the other one had seen of a writer.
    pub fn is_unclear(&self, writer: InstanceId) -> bool {
        let index = |level: u8| trie::index_at(level.into(), position(writer)) as u32;
        self.is_more_there
            || !self.due.is_empty()
            || (0..=DEPTH_MAX as u8).any(|level| self.asked.contains(&(level, index(level))))
    }

    /// The writer counts as one that the other one has never heard of.
    pub fn forget(&mut self, writer: InstanceId) {
        self.theirs.forget(writer);
        self.forgotten.insert(writer);
    }

    /// Whether a writer has been forgotten since the beginning.
    pub fn has_forgotten(&self, writer: InstanceId) -> bool {
        self.forgotten.contains(&writer)
    }

    /// Looks which children of a node differ.
    fn compare(&mut self, (level, index): Place, theirs: &Sums) {
        let mine = self.mine.sums_below(level, index);
        for (branch, (mine, theirs)) in mine.0.iter().zip(&theirs.0).enumerate() {
            let below = (level + 1, index * ARITY as u32 + branch as u32);
            if mine == theirs {
                continue;
            }
            if *theirs == 0 {
                self.clear(below);
                self.due.push_back(Due::Corrected(below));
            } else {
                self.due.push_back(Due::Differs(below));
            }
        }
    }

    /// The other one has seen nothing below a node, but for what it tells next.
    fn clear(&mut self, (level, index): Place) {
        let writers: Vec<_> = self.theirs.within(level, index).into_iter().map(|(writer, _)| writer).collect();
        writers.into_iter().for_each(|writer| self.theirs.forget(writer));
    }

    fn next_step(&mut self, mut room: usize) -> SeenStep {
        let mut step = SeenStep::default();
        while room > 0
            && let Some(due) = self.due.pop_front()
        {
            let said = match due {
                Due::Differs(place) => self.say_differs(place, &mut step),
                Due::Corrected(place) => self.say_corrected(place, &mut step),
            };
            room = room.saturating_sub(said);
        }
        step.more = !self.due.is_empty();
        step
    }

    /// Returns about how many bytes it takes, as does the next.
    fn say_differs(&mut self, (level, index): Place, step: &mut SeenStep) -> usize {
        self.asked.insert((level, index));
        if usize::from(level) < DEPTH_MAX && self.mine.count(level, index) > TOLD_MAX {
            let sums = self.mine.sums_below(level, index);
            step.nodes.push((level, index, sums));
            return 8 + 8 * sums.present();
        }
        let told: Told = self.mine.within(level, index).into_iter().map(told).collect();
        let bytes = 8 + told.iter().map(weight).sum::<usize>();
        step.told.push((level, index, told));
        bytes
    }

    fn say_corrected(&mut self, (level, index): Place, step: &mut SeenStep) -> usize {
        let writers = self.mine.count(level, index) + self.theirs.count(level, index);
        if writers > CORRECTED_MAX && usize::from(level) < DEPTH_MAX {
            let below =
                (0..ARITY as u32).rev().map(|branch| Due::Corrected((level + 1, index * ARITY as u32 + branch)));
            below.for_each(|due| self.due.push_front(due));
            return 0;
        }
        let mine = self.mine.within(level, index);
        let theirs = self.theirs.within(level, index);
        let other = mine.into_iter().filter(|(writer, ranges)| self.theirs.of(*writer) != Some(ranges)).map(told);
        let unheard = theirs.into_iter().filter(|(writer, _)| self.mine.of(*writer).is_none());
        let first = step.corrected.len();
        step.corrected.extend(other.chain(unheard.map(|(writer, _)| (writer, Ranges::default()))));
        step.corrected[first..].iter().map(weight).sum()
    }
}

fn told((writer, ranges): (InstanceId, &Ranges)) -> (InstanceId, Ranges) {
    (writer, ranges.told())
}

/// About how many bytes one writer takes.
fn weight((_, ranges): &(InstanceId, Ranges)) -> usize {
    10 + 5 * ranges.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Dot;
    use crate::proto::hash::fmix64 as mix;

    /// Plenty for any step of these tests.
    const ROOM: usize = 1 << 16;

    fn seen(writers: u64, upto: u64) -> Seen {
        let mut seen = Seen::default();
        for writer in 0..writers {
            (1..=upto).for_each(|n| assert!(seen.insert(dot(writer, n))));
        }
        seen
    }

    fn dot(writer: u64, n: u64) -> Dot {
        Dot { writer: InstanceId::new(writer), n }
    }

    fn bytes(step: &SeenStep) -> usize {
        postcard::to_allocvec(step).unwrap().len()
    }

    /// Both sides when both know everything, the steps that it took after the first sums, and their bytes.
    fn compared(asking: &Seen, asked: &Seen, room: usize) -> (Comparison, Comparison, usize, usize) {
        let (mut asks, sums) = Comparison::begin(asking.clone());
        let (mut answers, mut step) = Comparison::answer(asked.clone(), sums, room);
        let (mut steps, mut total) = (vec![step.clone()], 3 + 8 * sums.present() + bytes(&step));
        while !(asks.is_complete() && answers.is_complete() && step == SeenStep::default()) {
            let side = if steps.len() % 2 == 1 { &mut asks } else { &mut answers };
            step = side.take(step, room).expect("honest");
            total += bytes(&step);
            steps.push(step.clone());
            assert!(steps.len() < 5_000, "no end");
        }
        let steps = steps.iter().filter(|step| **step != SeenStep::default()).count();
        (asks, answers, steps, total)
    }

    /// Goal: in the end each knows exactly what the other one has seen, whatever that is and however little room a step
    /// has. Method: random sets with common and own writers, from none to some thousands; steps of any size and of one
    /// thing each.
    #[test]
    fn each_learns_exactly_what_the_other_one_has_seen() {
        for round in 0..60u64 {
            let random = |salt: u64, below: u64| mix(round * 1_000_003 + salt) % below;
            let common = [0, 3, 40, 700, 3_000][random(1, 5) as usize];
            let mut sides = [seen(common, 2), seen(common, 2)];
            for (side, salt) in sides.iter_mut().zip([100, 200]) {
                for change in 0..random(salt, 60) {
                    let writer = random(salt * 1_000 + change, common + 20);
                    match random(salt * 7_000 + change, 4) {
                        0 => side.forget(InstanceId::new(writer)),
                        _ => {
                            side.insert(dot(writer, random(salt * 9_000 + change, 9) + 1));
                        }
                    }
                }
            }
            for room in [ROOM, 1] {
                let (asks, answers, ..) = compared(&sides[0], &sides[1], room);
                assert_eq!(asks.theirs().root(), sides[1].root(), "round {round}, room {room}");
                assert_eq!(answers.theirs().root(), sides[0].root(), "round {round}, room {room}");
            }
        }
    }

    /// Goal: what is compared costs by what differs, not by what there is. Method: count steps and bytes of sets that
    /// differ in nothing, in one writer and in a hundred of 65,536.
    #[test]
    fn the_price_follows_what_differs() {
        let many = seen(65_536, 1);
        assert!(compared(&many, &many, ROOM).3 < 140);
        let mut other = many.clone();
        other.insert(dot(17, 2));
        let (.., steps, total) = compared(&many, &other, ROOM);
        assert!(steps <= 5 && total < 700, "{steps} steps, {total} bytes");
        (0..99).for_each(|writer| assert!(other.insert(dot(600 * writer, 3))));
        let (.., steps, total) = compared(&many, &other, ROOM);
        assert!(steps <= 5 && total < 36_000, "{steps} steps, {total} bytes");
    }

    /// Goal: what the other one has seen of a writer is unclear until it is told, and no longer; where the sums were equal
    /// it is clear at once. Method: one writer of many differs, and the steps are taken one by one.
    #[test]
    fn only_what_differs_is_unclear_and_only_until_it_is_told() {
        let mine = seen(3_000, 1);
        let mut theirs = mine.clone();
        theirs.insert(dot(5, 2));
        let far = (6..).find(|&writer| branch_of(writer) != branch_of(5)).expect("another branch");
        let [five, far] = [5, far].map(InstanceId::new);
        let (mut asks, sums) = Comparison::begin(mine);
        assert!(asks.is_unclear(far));
        let (mut answers, mut step) = Comparison::answer(theirs, sums, ROOM);
        while !asks.is_complete() {
            let back = asks.take(step, ROOM).expect("honest");
            assert!(!asks.is_unclear(far));
            assert_eq!(asks.is_unclear(five), !asks.theirs().contains(dot(5, 2)));
            step = answers.take(back, ROOM).expect("honest");
        }
        assert!(!asks.is_unclear(five));
    }

    fn branch_of(writer: u64) -> usize {
        trie::index_at(1, position(InstanceId::new(writer)))
    }

    /// Goal: a writer that is forgotten in the middle stays so, whatever is told of it afterwards. Method: forget it
    /// before the step that tells of it.
    #[test]
    fn a_writer_that_is_forgotten_in_the_middle_stays_forgotten() {
        let (mine, mut theirs) = (seen(400, 1), seen(400, 1));
        theirs.insert(dot(5, 2));
        let (mut asks, sums) = Comparison::begin(mine);
        let (mut answers, mut step) = Comparison::answer(theirs, sums, ROOM);
        asks.forget(InstanceId::new(5));
        while !asks.is_complete() {
            let back = asks.take(step, ROOM).expect("honest");
            step = answers.take(back, ROOM).expect("honest");
        }
        assert_eq!(asks.theirs().of(InstanceId::new(5)), None);
        assert!(asks.theirs().contains(dot(6, 1)));
    }

    /// Goal: what no honest node says is refused. Method: nodes that do not exist, and a writer in a foreign place.
    #[test]
    fn what_no_honest_node_says_is_refused() {
        let elsewhere = (0..).find(|&writer| branch_of(writer) != 3).expect("another branch");
        let told =
            |level, index, writers: Told| SeenStep { told: vec![(level, index, writers)], ..SeenStep::default() };
        let sums = |level, index| SeenStep { nodes: vec![(level, index, Sums::default())], ..SeenStep::default() };
        let stranger = (InstanceId::new(elsewhere), Ranges::default());
        for bad in [told(1, 16, vec![]), told(9, 0, vec![]), told(1, 3, vec![stranger]), sums(1, 16), sums(5, 0)] {
            let (mut asks, _) = Comparison::begin(seen(3, 1));
            assert_eq!(asks.take(bad.clone(), ROOM), None, "{bad:?}");
        }
    }
}
