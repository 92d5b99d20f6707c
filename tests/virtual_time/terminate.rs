//! A terminate works from any node and at any moment of a child's life, and is never undone.

use haulout::proto::Reply;
use haulout::{ChildState, TerminateError, Unplaced, Which};
use haulout_sim::{Cluster, NodeIdx, Plan, Range};

use crate::support::*;

/// Terminates `child` at `node` and asserts that it ends and stays ended, although everybody restarts once.
#[track_caller]
fn terminate_for_good(cluster: &mut Cluster, node: NodeIdx) {
    terminate(cluster, node, "child");
    cluster.converge_to(secs(10), &[]);
    let began = runs(cluster, "child").len();
    for node in cluster.up() {
        cluster.crash(node);
        cluster.run_for(millis(200));
        cluster.restart(node);
        cluster.converge_to(REST, &[]);
    }
    assert_eq!(runs(cluster, "child").len(), began, "a terminated child was started");
}

/// Goal: terminate reaches a child wherever it runs.
/// Method: each node of three terminates, the runner and the others.
#[test]
fn terminate_works_from_any_node_for_a_child_that_runs_elsewhere() {
    for number in 0..3 {
        let mut cluster = cluster(number as u64, 3);
        start(&mut cluster, A, spec("child"));
        cluster.converge_to(SOON, &["child"]);
        let node = cluster.up()[number];
        terminate_for_good(&mut cluster, node);
    }
}

/// Goal: a child that waits for its next start is not started any more.
/// Method: its `init` fails for ever; when all list it as backing off, each node in turn terminates it.
#[test]
fn terminate_works_for_a_child_that_is_backing_off() {
    for number in 0..3 {
        let mut cluster = cluster(number as u64, 3);
        cluster.children().plan_args(b"child", Plan::failing("no disk"));
        start(&mut cluster, A, spec("child"));
        let node = cluster.up()[number];
        cluster.expect(secs(10), "it backs off", |cluster| state(cluster, node, "child") == Some(ChildState::Backoff));
        terminate_for_good(&mut cluster, node);
    }
}

/// Goal: a child is stopped while its `init` still runs.
/// Method: its `init` takes ten seconds; each node in turn terminates it after one.
#[test]
fn terminate_works_for_a_child_that_is_starting() {
    for number in 0..3 {
        let mut cluster = cluster(number as u64, 3);
        let slow = Plan { start_delay: Range::millis(10_000, 10_000), ..Plan::default() };
        cluster.children().plan_args(b"child", slow);
        start(&mut cluster, A, spec("child"));
        cluster.run_for(SOON);
        let node = cluster.up()[number];
        assert_eq!(state(&mut cluster, node, "child"), Some(ChildState::Starting));
        terminate_for_good(&mut cluster, node);
        assert!(runs(&cluster, "child").iter().all(|run| run.started.is_none()), "it was stopped before it ran");
    }
}

/// Goal: a child that nobody can run can be terminated.
/// Method: its kind is unknown everywhere; each node in turn terminates it.
#[test]
fn terminate_works_for_a_child_that_is_unplaced() {
    for number in 0..3 {
        let mut cluster = cluster(number as u64, 3);
        start(&mut cluster, A, spec_of("child", "unknown"));
        cluster.run_for(SOON);
        let node = cluster.up()[number];
        assert_eq!(state(&mut cluster, node, "child"), Some(ChildState::Unplaced(Unplaced::UnknownKind)));
        terminate_for_good(&mut cluster, node);
    }
}

/// Goal: a terminate that overtakes its start wins.
/// Method: over many seeds, a terminate follows the acknowledged start in the same instant, on the same node and on
/// another one.
#[test]
fn terminate_works_right_after_start() {
    for seed in 0..12 {
        let mut cluster = cluster(seed, 3);
        let nodes = cluster.up();
        let started = cluster.start(nodes[0], spec("child"));
        assert!(matches!(cluster.reply(started), Some(Reply::Started(Ok(true)))));
        terminate_for_good(&mut cluster, nodes[seed as usize % 3]);
    }
}

/// Goal: a terminate in the middle of a start is not lost between asker and runner.
/// Method: the terminate comes so many tenths of a millisecond after the start.
#[test]
fn terminate_works_at_every_moment_of_a_start() {
    for tenths in 0..40 {
        let mut cluster = cluster(tenths, 3);
        let nodes = cluster.up();
        let _ = cluster.start(nodes[0], spec("child"));
        cluster.run_for(std::time::Duration::from_micros(tenths * 100));
        terminate(&mut cluster, nodes[1 + tenths as usize % 2], "child");
        cluster.converge_to(secs(10), &[]);
        assert_rests(&mut cluster, secs(15));
    }
}

/// Goal: who terminates what does not exist is told so.
/// Method: every node terminates an id that never was, and one that is terminated already.
#[test]
fn a_terminate_of_something_unknown_says_so() {
    let mut cluster = cluster(5, 3);
    start(&mut cluster, A, spec("old"));
    cluster.converge_to(SOON, &["old"]);
    terminate(&mut cluster, B, "old");
    cluster.converge_to(SOON, &[]);
    for node in cluster.up() {
        for unknown in ["never", "old"] {
            let request = cluster.terminate(node, unknown);
            assert!(matches!(cluster.wait(request), Reply::Terminated(Err(TerminateError::NotFound))));
        }
    }
}

/// Goal: a terminate stops the child by its shutdown policy and reaches it during a move too.
/// Method: a slow stop is under way because a node joined; the terminate comes in between. Nothing runs afterwards.
#[test]
fn terminate_works_for_a_child_that_is_moving() {
    let mut cluster = cluster(6, 2);
    let slow = Plan { stop_delay: Range::millis(2_000, 2_000), ..Plan::default() };
    cluster.children().plan_kind("kind", slow);
    let ids = start_many(&mut cluster, 30);
    cluster.add_node("c");
    let nodes = cluster.up();
    let stopping = |cluster: &mut Cluster| -> Vec<String> {
        let mut listed = cluster.which(A, Which::Global);
        listed.retain(|child| child.state == ChildState::Stopping);
        listed.iter().map(|child| child.id.to_string()).collect()
    };
    cluster.expect(REST, "a child moves", |cluster| !stopping(cluster).is_empty());
    let moving = stopping(&mut cluster);
    for (number, child) in moving.iter().enumerate() {
        terminate(&mut cluster, nodes[number % 3], child);
    }
    let rest: Vec<String> = ids.into_iter().filter(|id| !moving.contains(id)).collect();
    cluster.run_for(secs(5));
    converge_to(&mut cluster, REST, &rest);
    assert!(moving.iter().all(|child| runs(&cluster, child).len() == 1), "none was started elsewhere");
}
