//! The promises, judged from outside: from the children's journal, the users' calls and the faults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use haulout::proto::{Command, InstanceId, Reply, Time};
use haulout::{ChildId, ChildInfo, ChildState};

use crate::cluster::Cluster;
use crate::history::{Call, FaultKind, History, LifeEnd};
use crate::journal::{Journal, Overlap, Run};
use crate::knowledge::{knowers, survives};
use crate::trace::At;
use crate::{NodeIdx, NodeState};

/// How often a cluster that is to converge is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Loss from which on a member may fail to answer within `confirm_timeout`, retries and detours included.
const LOSS_THAT_EXCUSES: f64 = 0.1;

impl Cluster {
    /// Whether every desired child runs exactly once, nothing else runs, and all nodes that are up agree on it.
    pub fn converged(&mut self) -> bool {
        self.settled_children().is_ok()
    }

    /// Runs until the cluster has [`converged`](Self::converged); returns the listing that all agree on.
    ///
    /// # Panics
    /// If it does not within this time, saying what was still pending.
    #[track_caller]
    pub fn converge(&mut self, within: Duration) -> Vec<ChildInfo> {
        match self.try_converge(within) {
            Ok(children) => children,
            Err(pending) => panic!("seed {}: not within {within:?}: {pending}", self.options().seed),
        }
    }

    /// As [`converge`](Self::converge), but says what was still pending instead of panicking.
    pub fn try_converge(&mut self, within: Duration) -> Result<Vec<ChildInfo>, String> {
        let deadline = self.now() + within;
        loop {
            match self.settled_children() {
                Err(_) if self.now() < deadline => self.run_for(LOOK_EVERY.min(deadline.since(self.now()))),
                result => return result,
            }
        }
    }

    /// The listing that all nodes agree on, if the cluster has converged; otherwise, in words, what is pending.
    pub fn settled_children(&mut self) -> Result<Vec<ChildInfo>, String> {
        let up = self.up();
        self.members_agree(&up)?;
        // A runner that placement has passed by looks settled in every listing until its successor's Ask arrives.
        if let Some(busy) = up.iter().find(|&&node| self.node(node).is_some_and(|node| !node.is_quiet())) {
            return Err(format!("{} is starting, stopping or asking", self.name(*busy)));
        }
        let mut listing: Option<(NodeIdx, Vec<ChildInfo>)> = None;
        for node in self.most_different_first(up) {
            let name = self.name(node).to_owned();
            let children = self.listing(node).ok_or_else(|| format!("{name} does not answer: it has not settled"))?;
            match &listing {
                None => listing = Some((node, children)),
                Some((first, expected)) => same_listing(self.name(*first), expected, &name, &children)?,
            }
        }
        let children = listing.map(|(_, children)| children).unwrap_or_default();
        self.runs_agree(&children)?;
        Ok(children)
    }

    /// Asserts that the cluster has converged to exactly these children.
    ///
    /// # Panics
    /// If it does not within this time.
    #[track_caller]
    pub fn converge_to(&mut self, within: Duration, ids: &[&str]) -> Vec<ChildInfo> {
        let expected: BTreeSet<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        let deadline = self.now() + within;
        loop {
            let pending = match self.settled_children() {
                Ok(children) => {
                    let listed: BTreeSet<String> = children.iter().map(|child| child.id.to_string()).collect();
                    if listed == expected {
                        return children;
                    }
                    format!("{listed:?} run instead of {expected:?}")
                }
                Err(pending) => pending,
            };
            assert!(self.now() < deadline, "seed {}: not within {within:?}: {pending}", self.options().seed);
            self.run_for(LOOK_EVERY.min(deadline.since(self.now())));
        }
    }

    /// One node of each replicated state, then the others: nodes that do not agree yet are found by a few listings. All
    /// are listed all the same, because what users see is what counts.
    fn most_different_first(&self, up: Vec<NodeIdx>) -> Vec<NodeIdx> {
        let mut roots = BTreeSet::new();
        let is_new = |node: &NodeIdx| roots.insert(self.node(*node).and_then(|state| state.root(self.scope())));
        let (mut order, others): (Vec<_>, Vec<_>) = up.into_iter().partition(is_new);
        order.extend(others);
        order
    }

    fn members_agree(&self, up: &[NodeIdx]) -> Result<(), String> {
        let expected: BTreeSet<(&str, InstanceId)> =
            up.iter().filter_map(|&node| Some((self.name(node), self.instance(node)?))).collect();
        for &node in up {
            let seen = self.members(node).iter().map(|member| (&*member.name, member.instance));
            // Both are ordered by name, so that the usual case needs no set.
            if !seen.clone().eq(expected.iter().copied()) {
                let seen: BTreeSet<_> = seen.collect();
                let wrong = expected.symmetric_difference(&seen).next().map_or("somebody", |(name, _)| name);
                return Err(format!("{} is not right about the member {wrong}", self.name(node)));
            }
            if let Some(member) = self.members(node).iter().find(|member| !member.settled || member.draining) {
                return Err(format!("{} sees {} not settled, or draining", self.name(node), member.name));
            }
        }
        Ok(())
    }

    fn runs_agree(&self, children: &[ChildInfo]) -> Result<(), String> {
        let mut alive: BTreeMap<&ChildId, Vec<&Run>> = BTreeMap::new();
        for run in self.journal().alive().filter(|run| run.scope == self.scope()) {
            alive.entry(&run.id).or_default().push(run);
        }
        for child in children {
            let runs = alive.remove(&child.id).unwrap_or_default();
            let right = match (&child.state, &runs[..]) {
                (ChildState::Running, [run]) => {
                    run.is_running()
                        && run.epoch == child.epoch
                        && self.state(run.node) == NodeState::Up
                        && child.node.as_deref() == Some(self.name(run.node))
                }
                (ChildState::Unplaced(_), []) => true,
                _ => false,
            };
            if !right {
                let places: Vec<&str> = runs.iter().map(|run| self.name(run.node)).collect();
                return Err(format!("{} is {} on {:?}, and runs on {places:?}", child.id, child.state, child.node));
            }
        }
        match alive.into_iter().next() {
            Some((id, runs)) => Err(format!("{id} runs on {}, though nobody lists it", self.name(runs[0].node))),
            None => Ok(()),
        }
    }
}

fn same_listing(one: &str, expected: &[ChildInfo], other: &str, children: &[ChildInfo]) -> Result<(), String> {
    if expected == children {
        return Ok(());
    }
    // Both are ordered by id, so the first place where they differ shows a child that only one of them has, or that
    // they see differently.
    let at = expected.iter().zip(children).take_while(|(left, right)| left == right).count();
    let (left, right) = (expected.get(at), children.get(at));
    let first = left.into_iter().chain(right).map(|child| &child.id).min();
    let [left, right] = [left, right].map(|child| child.filter(|child| Some(&child.id) == first));
    Err(format!("{one} lists {left:?}, {other} lists {right:?}"))
}

/// The overlaps that no fault explains. `reach` is how long a fault may have consequences after its end.
pub fn unexplained_overlaps(journal: &Journal, history: &History, now: Time, reach: Duration) -> Vec<Overlap> {
    let mut overlaps = journal.overlaps();
    overlaps.retain(|overlap| !is_explained(overlap, history, now, reach));
    overlaps
}

/// An overlap is explained by a pause, a crash or a cut that touched one of the two nodes, by heavy loss, and, where
/// one of them is a newcomer, by the crash of a third that may have been the only one to know it.
fn is_explained(overlap: &Overlap, history: &History, now: Time, reach: Duration) -> bool {
    let (from, to) = (overlap.from - reach, overlap.to.unwrap_or(now));
    let nodes = [overlap.earlier, overlap.later];
    let faulty = history.faults_between(from, to).any(|fault| match fault.kind {
        FaultKind::Loss(loss) => loss >= LOSS_THAT_EXCUSES,
        FaultKind::Weather(severity) => severity.loss_max() >= LOSS_THAT_EXCUSES || severity.is_heavy(),
        _ => nodes.iter().any(|&node| fault.touches(node)),
    });
    let within = |at: Time| at >= from && at <= to;
    let newcomer = history.lives.iter().any(|life| nodes.contains(&life.node) && within(life.from));
    let crashed = history.lives.iter().any(|life| {
        let crash = matches!(life.end, Some(LifeEnd::Crashed | LifeEnd::PowerLost)) && life.to.is_some_and(within);
        crash && (newcomer || nodes.contains(&life.node))
    });
    faulty || crashed
}

/// Two runs of one life of a child of which the later one should not have begun, or not with its number.
#[derive(Clone, Debug)]
pub struct Rerun {
    /// The earlier run.
    pub earlier: Run,
    /// The later run.
    pub later: Run,
}

impl Rerun {
    /// Whether the life was done when the later run began; otherwise only its number is wrong.
    pub fn was_done(&self) -> bool {
        self.earlier.is_done() && self.earlier.ended.is_some_and(|ended| ended <= self.later.began)
    }

    /// The time from one to the other, as an overlap that faults may explain.
    fn span(&self) -> Overlap {
        Overlap {
            scope: self.later.scope,
            id: self.later.id.clone(),
            earlier: self.earlier.node,
            later: self.later.node,
            from: self.earlier.began,
            to: Some(self.later.began),
        }
    }
}

/// The runs that began after their life was done, or with a number that is not higher than that of an earlier run,
/// and that no fault explains.
pub fn unexplained_reruns(journal: &Journal, history: &History, reach: Duration) -> Vec<Rerun> {
    let mut by_life: BTreeMap<_, Vec<&Run>> = BTreeMap::new();
    for run in journal.runs() {
        by_life.entry((run.scope, &run.id, run.epoch.birth)).or_default().push(run);
    }
    let pairs = by_life.values().flat_map(|runs| {
        let later = runs.iter().enumerate();
        later.flat_map(|(before, later)| runs[..before].iter().map(|earlier| (*earlier, *later)))
    });
    pairs
        // Lives that began at once on two nodes may share a birth; their specs tell them apart.
        .filter(|(earlier, later)| earlier.spec == later.spec)
        .map(|(earlier, later)| Rerun { earlier: earlier.clone(), later: later.clone() })
        .filter(|rerun| rerun.was_done() || rerun.later.epoch <= rerun.earlier.epoch)
        .filter(|rerun| !is_explained(&rerun.span(), history, rerun.later.began, reach))
        .collect()
}

/// For how long children ran twice, counted per pair of runs, without the time in which one of them was paused.
pub fn duplicate_time(journal: &Journal, history: &History, now: Time) -> Duration {
    let pauses = |overlap: &Overlap| -> Duration {
        let (from, to) = (overlap.from, overlap.to.unwrap_or(now));
        let paused = history
            .faults_between(from, to)
            .filter(|fault| [overlap.earlier, overlap.later].map(FaultKind::Paused).contains(&fault.kind));
        paused.map(|fault| fault.to.unwrap_or(now).min(to).since(fault.from.max(from))).sum()
    };
    journal.overlaps().iter().map(|overlap| overlap.lasted(now).saturating_sub(pauses(overlap))).sum()
}

/// For how long children ran nowhere between two of their runs, though they were neither terminated nor done.
pub fn orphan_time(journal: &Journal, history: &History) -> Duration {
    let mut terminated: BTreeMap<&ChildId, Vec<Time>> = BTreeMap::new();
    for call in &history.calls {
        if let Command::Terminate { id, .. } = &call.command {
            terminated.entry(id).or_default().push(call.called);
        }
    }
    let mut last: BTreeMap<&ChildId, &Run> = BTreeMap::new();
    let mut orphaned = Duration::ZERO;
    for run in journal.runs() {
        let Some(before) = last.get(&run.id) else {
            last.insert(&run.id, run);
            continue;
        };
        let ended = before.ended.unwrap_or(END);
        let calls = terminated.get(&run.id).map_or(&[][..], Vec::as_slice);
        if !before.is_done() && !calls.iter().any(|&at| at >= before.began && at <= run.began) {
            orphaned += run.began.since(ended);
        }
        if run.ended.unwrap_or(END) > ended {
            last.insert(&run.id, run);
        }
    }
    orphaned
}

/// Later than everything.
const END: Time = Time::from_nanos(u64::MAX);

/// Calls whose node still lives, but which nobody has answered.
pub fn unanswered(history: &History) -> Option<&Call> {
    let alive: BTreeSet<InstanceId> =
        history.lives.iter().filter(|life| life.to.is_none()).map(|life| life.instance).collect();
    history.calls.iter().find(|call| {
        let waits = call.answer.is_none() && !call.cancelled && call.instance.is_some_and(|at| alive.contains(&at));
        waits && !matches!(call.command, Command::WaitUntilRunning { .. })
    })
}

/// What the users' calls say about a child once everything has healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// An acknowledged start of it can't have been undone.
    Present,
    /// Every start of it was terminated by somebody who must have known it.
    Absent,
    /// Either is right: calls crossed each other, or their only knowers crashed.
    Either,
}

/// A call that made or removed a life, or may have.
struct Write {
    instance: InstanceId,
    called: Time,
    /// `None`: the answer never came, and whether it was done is unknown.
    done: Option<Time>,
}

/// Judges one child from the calls about it. `window` is how long two nodes that can talk take to tell each other
/// everything.
pub fn expectation(history: &History, id: &ChildId, now: Time, window: Duration) -> Expectation {
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for call in &history.calls {
        let Some(instance) = call.instance else { continue };
        let done = call.answer.as_ref().map(|(at, _)| *at);
        let write = Write { instance, called: call.called, done };
        match (&call.command, call.answer.as_ref().map(|(_, reply)| reply)) {
            (
                Command::Start { spec, .. } | Command::Update { spec, .. },
                None | Some(Reply::Started(Ok(true)) | Reply::Updated(Ok(true))),
            ) if spec.id() == id => starts.push(write),
            // One that found nothing may still have reached somebody who did.
            (Command::Terminate { id: other, .. }, None | Some(Reply::Terminated(_))) if other == id => {
                let certain = matches!(call.answer, Some((_, Reply::Terminated(Ok(())))));
                ends.push((write, certain));
            }
            _ => {}
        }
    }
    let stands = |start: &Write| {
        let before = |end: &Write| end.done.is_some_and(|done| done < start.called);
        let held = start.done.is_some_and(|done| survives(history, start.instance, done, now, window));
        held && ends.iter().all(|(end, _)| before(end))
    };
    let ends_all = |end: &Write| {
        let knew = |start: &Write| {
            let Some(done) = start.done.filter(|&done| done <= end.called) else { return false };
            let since = knowers(history, start.instance, done, now, window).get(&end.instance).copied();
            since.is_some_and(|since| since <= end.called)
        };
        let held = end.done.is_some_and(|done| survives(history, end.instance, done, now, window));
        held && starts.iter().all(knew)
    };
    if starts.is_empty() || ends.iter().any(|(end, certain)| *certain && ends_all(end)) {
        Expectation::Absent
    } else if starts.iter().any(stands) {
        Expectation::Present
    } else {
        Expectation::Either
    }
}

/// An overlap in words.
pub(crate) fn describe(cluster: &Cluster, overlap: &Overlap) -> String {
    let [earlier, later] = [overlap.earlier, overlap.later].map(|node| cluster.name(node));
    let lasted = overlap.lasted(cluster.now());
    format!("{} ran on {earlier} and on {later} from {} for {lasted:?}", overlap.id, At(overlap.from))
}

#[cfg(test)]
mod tests;
