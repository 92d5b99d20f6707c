//! What is measured and no violation: for how long children ran twice, for how long nowhere.

use std::collections::BTreeMap;
use std::time::Duration;

use haulout::ChildId;
use haulout::proto::{Command, ScopeId, Time};

use crate::history::{FaultKind, History};
use crate::journal::{Journal, Overlap, Run};

/// For how long each child that did ran twice, counted per pair of runs, without the time in which one of them was
/// paused.
pub fn duplicates(journal: &Journal, history: &History, now: Time) -> Vec<Duration> {
    let paused: Vec<_> =
        history.faults.iter().filter(|fault| matches!(fault.kind, FaultKind::Paused(_))).copied().collect();
    let pauses = |overlap: &Overlap| -> Duration {
        let (from, to) = (overlap.from, overlap.to.unwrap_or(now));
        let nodes = [overlap.earlier, overlap.later].map(FaultKind::Paused);
        let during = paused.iter().filter(|fault| nodes.contains(&fault.kind));
        during.map(|fault| fault.to.unwrap_or(now).min(to).since(fault.from.max(from))).sum()
    };
    let overlaps = journal.overlaps();
    let mut by_child: BTreeMap<_, Duration> = BTreeMap::new();
    for overlap in &overlaps {
        *by_child.entry((overlap.scope, &overlap.id)).or_default() +=
            overlap.lasted(now).saturating_sub(pauses(overlap));
    }
    by_child.into_values().filter(|time| !time.is_zero()).collect()
}

/// For how long each child that did ran nowhere between two of its runs, though it was neither terminated nor done.
pub fn orphans(journal: &Journal, history: &History) -> Vec<Duration> {
    let mut terminated: BTreeMap<(ScopeId, &ChildId), Vec<Time>> = BTreeMap::new();
    for call in &history.calls {
        if let Command::Terminate { scope, id, .. } = &call.command {
            terminated.entry((*scope, id)).or_default().push(call.called);
        }
    }
    let mut last: BTreeMap<(ScopeId, &ChildId), &Run> = BTreeMap::new();
    let mut by_child: BTreeMap<(ScopeId, &ChildId), Duration> = BTreeMap::new();
    for run in journal.runs() {
        let key = (run.scope, &run.id);
        let Some(before) = last.get(&key) else {
            last.insert(key, run);
            continue;
        };
        let ended = before.ended.unwrap_or(END);
        let calls = terminated.get(&key).map_or(&[][..], Vec::as_slice);
        let next = calls.partition_point(|at| *at < before.began);
        let was_terminated = calls.get(next).is_some_and(|at| *at <= run.began);
        if !before.is_done() && !was_terminated {
            *by_child.entry(key).or_default() += run.began.since(ended);
        }
        if run.ended.unwrap_or(END) > ended {
            last.insert(key, run);
        }
    }
    by_child.into_values().filter(|time| !time.is_zero()).collect()
}

/// Later than everything.
const END: Time = Time::from_nanos(u64::MAX);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeIdx;
    use crate::invariants::testing::{Hand, at};

    #[test]
    fn duplicate_time_leaves_out_pauses_and_is_told_child_by_child() {
        let mut hand = Hand::new(2);
        hand.run("x", 0, 1, 104).run("x", 1, 100, 104).run("y", 0, 1, 12).run("y", 1, 10, 12).run("z", 0, 1, 9);
        hand.history.begin_fault(FaultKind::Paused(NodeIdx(0)), at(90));
        hand.history.end_faults(at(103), |_| true);
        let times = duplicates(&hand.journal, &hand.history, at(1_000));
        assert_eq!(times.iter().map(Duration::as_secs).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn orphan_time_is_the_gap_between_two_runs_that_nobody_asked_for() {
        let mut hand = Hand::new(3);
        hand.run("x", 0, 1, 100).run("x", 1, 50, 104).run("x", 2, 110, 0);
        assert_eq!(orphans(&hand.journal, &hand.history), [Duration::from_secs(6)]);
        hand.terminate(0, "x", 103);
        assert_eq!(orphans(&hand.journal, &hand.history), []);
    }
}
