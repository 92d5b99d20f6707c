//! What the children themselves could write down: when each run began and ended, and where. The checks judge from
//! this, from the users' calls and from the faults, never from the books of a node.

use std::sync::Arc;
use std::time::Duration;

use haulout::proto::{Epoch, InstanceId, ScopeId, Time};
use haulout::{ChildId, Outcome, Restart, Shutdown, Spec};

use crate::NodeIdx;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By itself or because its node stopped it.
    Exited(Outcome),
    /// Its arguments did not decode: no code of the child ran.
    Declined,
    /// With its process.
    Killed,
}

/// One run of a child.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where.
    pub node: NodeIdx,
    /// In which life of the node.
    pub instance: InstanceId,
    /// In which scope.
    pub scope: ScopeId,
    /// Which child.
    pub id: ChildId,
    /// The number that it was given.
    pub epoch: Epoch,
    /// What it was given.
    pub spec: Arc<Spec>,
    /// When its `init` began: from here on code of the child runs.
    pub began: Time,
    /// When its `init` had returned.
    pub started: Option<Time>,
    /// When its node told it to stop, if it did. Of several times the one that gave it the least time, counted to the
    /// end of its patience.
    pub signalled: Option<Time>,
    /// How it was told then.
    pub shutdown: Option<Shutdown>,
    /// When its last code had run.
    pub ended: Option<Time>,
    /// How it ended.
    pub ending: Option<Ending>,
}

impl Run {
    /// Whether code of it runs.
    pub fn is_alive(&self) -> bool {
        self.ended.is_none()
    }

    /// Whether it is past its `init`.
    pub fn is_running(&self) -> bool {
        self.is_alive() && self.started.is_some()
    }

    /// Whether it returned success by itself.
    pub fn succeeded(&self) -> bool {
        self.ending == Some(Ending::Exited(Outcome::Success))
    }

    /// Whether it ended in a way after which its restart policy starts it nowhere again.
    pub fn is_done(&self) -> bool {
        match (self.spec.restart, &self.ending) {
            (Restart::Transient, _) => self.succeeded(),
            (Restart::Temporary, Some(Ending::Exited(_))) => true,
            _ => false,
        }
    }

    fn ran_code(&self) -> bool {
        self.ending != Some(Ending::Declined)
    }
}

/// All runs, in the order in which they began.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    runs: Vec<Run>,
}

/// A child on two nodes, or twice on one, at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// In which scope.
    pub scope: ScopeId,
    /// Which child.
    pub id: ChildId,
    /// Where the run that began earlier was.
    pub earlier: NodeIdx,
    /// Where the run that began later was.
    pub later: NodeIdx,
    /// The places of both runs in the journal, the earlier one first.
    pub runs: (usize, usize),
    /// From when on both ran.
    pub from: Time,
    /// Until when; `None` if they still do.
    pub to: Option<Time>,
}

impl Overlap {
    /// How long it lasted, or has lasted at `now`.
    pub fn lasted(&self, now: Time) -> Duration {
        self.to.unwrap_or(now).since(self.from)
    }
}

impl Journal {
    /// All runs, in the order in which they began.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The runs of one child.
    pub fn of<'a>(&'a self, id: &'a ChildId) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.id == *id)
    }

    /// The runs in one scope.
    pub(crate) fn within(&self, scope: ScopeId) -> Self {
        Journal { runs: self.runs.iter().filter(|run| run.scope == scope).cloned().collect() }
    }

    /// The runs that have not ended.
    pub fn alive(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.is_alive())
    }

    /// Adds a run; returns its place.
    pub fn begin(&mut self, run: Run) -> usize {
        self.runs.push(run);
        self.runs.len() - 1
    }

    pub(crate) fn started(&mut self, entry: usize, now: Time) {
        self.runs[entry].started = Some(now);
    }

    pub(crate) fn signalled(&mut self, entry: usize, now: Time, shutdown: Shutdown) {
        let run = &mut self.runs[entry];
        let is_stricter = match run.signalled.zip(run.shutdown) {
            Some((at, earlier)) => patience_until(now, shutdown) < patience_until(at, earlier),
            None => true,
        };
        if is_stricter {
            run.signalled = Some(now);
            run.shutdown = Some(shutdown);
        }
    }

    /// Notes the end of a run.
    pub fn end(&mut self, entry: usize, now: Time, ending: Ending) {
        let run = &mut self.runs[entry];
        run.ended = Some(now);
        run.ending = Some(ending);
    }

    /// Every pair of runs of one child that were alive at the same time, by when it began. Touching is no overlap.
    pub fn overlaps(&self) -> Vec<Overlap> {
        let mut order: Vec<(usize, &Run)> = self.runs.iter().enumerate().filter(|(_, run)| run.ran_code()).collect();
        order.sort_by(|(_, a), (_, b)| (a.scope, &a.id, a.began).cmp(&(b.scope, &b.id, b.began)));
        let mut overlaps = Vec::new();
        let mut open: Vec<(usize, &Run)> = Vec::new();
        for run in order {
            open.retain(|(_, other)| {
                let run = run.1;
                other.scope == run.scope && other.id == run.id && other.ended.is_none_or(|ended| ended > run.began)
            });
            overlaps.extend(open.iter().filter_map(|other| overlap(*other, run)));
            open.push(run);
        }
        overlaps.sort_by_key(|overlap| overlap.from);
        overlaps
    }
}

/// Until when a run that was told to stop may take its time.
fn patience_until(signalled: Time, shutdown: Shutdown) -> Time {
    match shutdown {
        Shutdown::Brutal => signalled,
        Shutdown::Timeout(patience) => signalled + patience,
        Shutdown::Infinity => Time::from_nanos(u64::MAX),
    }
}

fn overlap((first, earlier): (usize, &Run), (second, later): (usize, &Run)) -> Option<Overlap> {
    let to = match (earlier.ended, later.ended) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    // A run that ended in the moment in which it began ran beside nobody.
    (to != Some(later.began)).then(|| Overlap {
        scope: later.scope,
        id: later.id.clone(),
        earlier: earlier.node,
        later: later.node,
        runs: (first, second),
        from: later.began,
        to,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use haulout::ChildSpec;

    /// One run per entry: child, node, from, to (in seconds; 0 for "still").
    fn journal(runs: &[(&str, usize, u64, u64)]) -> Journal {
        let mut journal = Journal::default();
        for &(id, node, from, to) in runs {
            let child = ChildSpec::raw(id, "kind", Vec::new()).expect("a spec");
            let entry = journal.begin(Run {
                node: NodeIdx(node),
                instance: InstanceId::new(node as u64 + 1),
                scope: ScopeId::of("s"),
                id: child.id().clone(),
                epoch: Epoch::default(),
                spec: Arc::new(child.spec().clone()),
                began: at(from),
                started: Some(at(from)),
                signalled: None,
                shutdown: None,
                ended: None,
                ending: None,
            });
            if to > 0 {
                journal.end(entry, at(to), Ending::Exited(Outcome::Stopped));
            }
        }
        journal
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn pairs(journal: &Journal) -> Vec<(usize, usize, u64)> {
        let overlaps = journal.overlaps();
        overlaps.iter().map(|o| (o.earlier.0, o.later.0, o.lasted(at(100)).as_secs())).collect()
    }

    #[test]
    fn runs_one_after_the_other_and_runs_of_different_children_do_not_overlap() {
        assert_eq!(pairs(&journal(&[("x", 0, 1, 5), ("x", 1, 5, 9), ("x", 0, 9, 0), ("y", 1, 1, 0)])), []);
    }

    #[test]
    fn an_overlap_lasts_until_the_first_of_the_two_ends() {
        assert_eq!(pairs(&journal(&[("x", 0, 1, 5), ("x", 1, 3, 9)])), [(0, 1, 2)]);
        assert_eq!(pairs(&journal(&[("x", 0, 1, 9), ("x", 1, 3, 5)])), [(0, 1, 2)]);
        assert_eq!(pairs(&journal(&[("x", 0, 1, 0), ("x", 1, 40, 0)])), [(0, 1, 60)]);
    }

    #[test]
    fn every_pair_of_three_runs_at_once_is_listed() {
        let journal = journal(&[("x", 0, 1, 0), ("x", 1, 2, 4), ("x", 2, 3, 0), ("x", 1, 50, 60)]);
        assert_eq!(pairs(&journal), [(0, 1, 2), (0, 2, 97), (1, 2, 1), (0, 1, 10), (2, 1, 10)]);
    }

    #[test]
    fn of_several_signals_the_strictest_is_noted() {
        let mut journal = journal(&[("x", 0, 1, 0)]);
        let patience = |secs| Shutdown::Timeout(Duration::from_secs(secs));
        for (second, shutdown, noted) in [
            (10, Shutdown::Infinity, (10, Shutdown::Infinity)),
            (11, patience(20), (11, patience(20))),
            (12, patience(20), (11, patience(20))),
            (13, patience(5), (13, patience(5))),
            (14, Shutdown::Brutal, (14, Shutdown::Brutal)),
        ] {
            journal.signalled(0, at(second), shutdown);
            let run = &journal.runs()[0];
            assert_eq!((run.signalled, run.shutdown), (Some(at(noted.0)), Some(noted.1)));
        }
    }

    #[test]
    fn a_declined_run_ran_no_code_and_overlaps_nothing() {
        let mut journal = journal(&[("x", 0, 1, 0), ("x", 1, 3, 0)]);
        journal.end(1, at(4), Ending::Declined);
        assert!(journal.overlaps().is_empty());
    }
}
