//! Hand-made histories: what is explained, what is expected?

use std::sync::Arc;

use haulout::proto::{Epoch, RequestId, ScopeId};
use haulout::{ChildSpec, Outcome, TerminateError};

use super::*;
use crate::history::Life;
use crate::journal::Ending;
use crate::network::{Class, Link};

const WINDOW: Duration = Duration::from_secs(10);
const NOW: u64 = 1_000;

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn spec() -> ChildSpec {
    ChildSpec::raw("x", "kind", Vec::new()).expect("a spec")
}

/// Three nodes, up since long ago.
fn history() -> History {
    let mut history = History::default();
    for node in 0..3 {
        let instance = InstanceId::new(node as u64);
        history.lives.push(Life { node: NodeIdx(node), instance, from: at(0), to: None, end: None });
    }
    history
}

fn start(history: &mut History, node: usize, called: u64, answer: Option<Reply>) {
    let command = Command::Start { scope: ScopeId::of("s"), spec: spec(), replicated: 0 };
    call(history, node, called, command, answer);
}

fn terminate(history: &mut History, node: usize, called: u64, answer: Option<Reply>) {
    let command = Command::Terminate { scope: ScopeId::of("s"), id: spec().id().clone(), replicated: 0 };
    call(history, node, called, command, answer);
}

fn call(history: &mut History, node: usize, called: u64, command: Command, answer: Option<Reply>) {
    history.calls.push(Call {
        request: RequestId(history.calls.len() as u64),
        node: NodeIdx(node),
        instance: Some(InstanceId::new(node as u64)),
        command,
        called: at(called),
        answer: answer.map(|reply| (at(called + 1), reply)),
        cancelled: false,
    });
}

const STARTED: Option<Reply> = Some(Reply::Started(Ok(true)));
const TERMINATED: Option<Reply> = Some(Reply::Terminated(Ok(())));

fn judge(history: &History) -> Expectation {
    expectation(history, spec().id(), at(NOW), WINDOW)
}

#[test]
fn a_start_stands_and_a_terminate_by_somebody_who_knew_it_ends_it() {
    let mut history = history();
    assert_eq!(judge(&history), Expectation::Absent, "never started");
    start(&mut history, 0, 100, STARTED);
    assert_eq!(judge(&history), Expectation::Present);
    terminate(&mut history, 1, 200, TERMINATED);
    assert_eq!(judge(&history), Expectation::Absent);
    start(&mut history, 2, 300, STARTED);
    assert_eq!(judge(&history), Expectation::Present);
}

#[test]
fn calls_that_cross_each_other_leave_it_open() {
    let mut history = history();
    start(&mut history, 0, 100, STARTED);
    terminate(&mut history, 1, 101, Some(Reply::Terminated(Err(TerminateError::NotFound))));
    assert_eq!(judge(&history), Expectation::Either, "it may have met the start at the owner");
    start(&mut history, 0, 300, STARTED);
    assert_eq!(judge(&history), Expectation::Present);
    terminate(&mut history, 1, 400, None);
    assert_eq!(judge(&history), Expectation::Either, "unanswered: done or not");
}

#[test]
fn a_start_whose_only_knower_crashed_may_be_lost() {
    let mut history = history();
    start(&mut history, 0, 100, STARTED);
    history.end_life(InstanceId::new(0), at(105), LifeEnd::Crashed);
    assert_eq!(judge(&history), Expectation::Either);
    start(&mut history, 1, 200, STARTED);
    history.end_life(InstanceId::new(1), at(220), LifeEnd::Crashed);
    assert_eq!(judge(&history), Expectation::Present, "the third node has heard of it");
}

fn twice(from: u64, to: u64) -> Journal {
    let mut journal = Journal::default();
    for (node, began) in [(0, 1), (1, from)] {
        let entry = journal.begin(Run {
            node: NodeIdx(node),
            instance: InstanceId::new(node as u64),
            scope: ScopeId::of("s"),
            id: spec().id().clone(),
            epoch: Epoch::default(),
            spec: Arc::new(spec().spec().clone()),
            began: at(began),
            started: Some(at(began)),
            signalled: None,
            shutdown: None,
            ended: None,
            ending: None,
        });
        journal.end(entry, at(to), Ending::Exited(Outcome::Stopped));
    }
    journal
}

fn unexplained(history: &History) -> usize {
    unexplained_overlaps(&twice(100, 104), history, at(NOW), Duration::from_secs(20)).len()
}

#[test]
fn an_overlap_needs_a_fault_at_one_of_its_nodes_shortly_before() {
    let quiet = history();
    assert_eq!(unexplained(&quiet), 1);
    for (kind, from, to, expected) in [
        (FaultKind::Cut(NodeIdx(2), NodeIdx(1), Class::All), 70, 85, 0),
        (FaultKind::Cut(NodeIdx(2), NodeIdx(1), Class::All), 60, 70, 1),
        (FaultKind::Paused(NodeIdx(0)), 95, 101, 0),
        (FaultKind::Paused(NodeIdx(2)), 95, 101, 1),
        (FaultKind::Loss(0.05), 1, 200, 1),
        (FaultKind::Loss(0.25), 1, 200, 0),
        (FaultKind::Weather(Link { corrupt: 0.01, ..Link::default() }.severity()), 1, 200, 1),
        (FaultKind::Weather(Link { burst_loss: 0.5, ..Link::default() }.severity()), 1, 200, 0),
        (FaultKind::Cut(NodeIdx(2), NodeIdx(1), Class::Streams), 95, 99, 0),
        (FaultKind::Clogged(NodeIdx(0), NodeIdx(2)), 95, 99, 0),
        (FaultKind::Slow(NodeIdx(2)), 95, 99, 1),
        (FaultKind::Twin(NodeIdx(1), NodeIdx(5)), 95, 99, 0),
        (FaultKind::Paused(NodeIdx(0)), 105, 110, 1),
    ] {
        let mut history = quiet.clone();
        history.begin_fault(kind, at(from));
        history.end_faults(at(to), |_| true);
        assert_eq!(unexplained(&history), expected, "{kind:?} from {from} to {to}");
    }
}

#[test]
fn the_crash_of_a_third_node_explains_an_overlap_only_with_a_newcomer() {
    let mut history = history();
    history.end_life(InstanceId::new(2), at(95), LifeEnd::Crashed);
    assert_eq!(unexplained(&history), 1);
    history.lives[1].from = at(90);
    assert_eq!(unexplained(&history), 0);
    history.lives[2].end = Some(LifeEnd::Left);
    assert_eq!(unexplained(&history), 1, "neither a join nor a leave excuses anything");
}

#[test]
fn duplicate_time_leaves_out_pauses() {
    let mut history = history();
    history.begin_fault(FaultKind::Paused(NodeIdx(0)), at(90));
    history.end_faults(at(103), |_| true);
    assert_eq!(duplicate_time(&twice(100, 104), &history, at(NOW)), Duration::from_secs(1));
}

#[test]
fn orphan_time_is_the_gap_between_two_runs_that_nobody_asked_for() {
    let mut journal = twice(100, 104);
    let next = Run { node: NodeIdx(2), began: at(110), ended: None, ending: None, ..journal.runs()[1].clone() };
    journal.begin(next);
    let mut history = history();
    assert_eq!(orphan_time(&journal, &history), Duration::from_secs(6));
    terminate(&mut history, 0, 103, TERMINATED);
    assert_eq!(orphan_time(&journal, &history), Duration::ZERO);
}

#[test]
fn a_call_may_die_with_its_node_but_not_be_forgotten() {
    let mut history = history();
    start(&mut history, 0, 100, None);
    assert!(unanswered(&history).is_some());
    history.end_life(InstanceId::new(0), at(105), LifeEnd::Crashed);
    assert!(unanswered(&history).is_none());
}

/// Runs of one Transient child: node, number, from, to (in seconds), and whether it succeeded.
fn journal(runs: &[(usize, u32, u64, u64, bool)]) -> Journal {
    let child = spec().restart(haulout::Restart::Transient);
    let mut journal = Journal::default();
    for &(node, run, from, to, succeeded) in runs {
        let entry = journal.begin(Run {
            node: NodeIdx(node),
            instance: InstanceId::new(node as u64),
            scope: ScopeId::of("s"),
            id: child.id().clone(),
            epoch: Epoch { birth: 1, run },
            spec: Arc::new(child.spec().clone()),
            began: at(from),
            started: Some(at(from)),
            signalled: None,
            shutdown: None,
            ended: None,
            ending: None,
        });
        let outcome = if succeeded { Outcome::Success } else { Outcome::Stopped };
        journal.end(entry, at(to), Ending::Exited(outcome));
    }
    journal
}

#[test]
fn a_run_after_the_child_was_done_or_with_an_old_number_is_found_unless_a_fault_explains_it() {
    let moved = journal(&[(0, 1, 100, 110, false), (1, 2, 110, 120, true)]);
    assert!(unexplained_reruns(&moved, &history(), WINDOW).is_empty());

    let again = journal(&[(0, 1, 100, 110, true), (1, 2, 120, 130, true)]);
    assert!(unexplained_reruns(&again, &history(), WINDOW)[0].was_done());

    let equal = journal(&[(0, 1, 100, 110, false), (1, 1, 110, 120, true)]);
    assert!(!unexplained_reruns(&equal, &history(), WINDOW)[0].was_done());

    let mut cut = history();
    cut.begin_fault(FaultKind::Cut(NodeIdx(0), NodeIdx(1), Class::All), at(105));
    assert!(unexplained_reruns(&again, &cut, WINDOW).is_empty());
    assert!(unexplained_reruns(&equal, &cut, WINDOW).is_empty());
}
