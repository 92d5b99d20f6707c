//! Scopes do not see each other.

use haulout::proto::{Command, Reply, ScopeId};
use haulout::{ChildSpec, JoinScopeError, Unavailable, Which};
use haulout_sim::{Cluster, NodeIdx};

use crate::support::*;

fn other() -> ScopeId {
    ScopeId::of("other")
}

#[track_caller]
fn join_other(cluster: &mut Cluster, node: NodeIdx, children: Vec<ChildSpec>) {
    let joined = cluster.join_scope(node, "other", &["kind"], children);
    assert!(matches!(cluster.wait(joined), Reply::Joined(Ok(_))));
}

#[track_caller]
fn start_in_other(cluster: &mut Cluster, node: NodeIdx, child: &str) {
    let command = Command::Start { scope: other(), spec: spec(child), replicated: 0 };
    assert!(matches!(cluster.call(node, command), Reply::Started(Ok(true))));
}

#[track_caller]
fn list_other(cluster: &mut Cluster, node: NodeIdx) -> Vec<String> {
    match cluster.call(node, Command::WhichChildren { scope: other(), which: Which::Global }) {
        Reply::Children(children) => children.iter().map(|child| child.id.to_string()).collect(),
        reply => panic!("{reply:?}"),
    }
}

fn running_in(cluster: &Cluster, scope: ScopeId) -> Vec<(String, NodeIdx)> {
    let runs = cluster.journal().alive().filter(|run| run.scope == scope);
    runs.map(|run| (run.id.to_string(), run.node)).collect()
}

/// Goal: one id in two scopes is two children.
/// Method: both run; a terminate in one leaves the other; each is listed in its own scope only.
#[test]
fn one_id_in_two_scopes_is_two_children() {
    let mut cluster = cluster(1, 3);
    for node in cluster.up() {
        join_other(&mut cluster, node, Vec::new());
    }
    start(&mut cluster, A, spec("child"));
    start(&mut cluster, A, spec("mine"));
    start_in_other(&mut cluster, B, "child");
    start_in_other(&mut cluster, B, "theirs");
    let scope = cluster.scope();
    cluster.expect(SOON, "all run", |cluster| {
        running_in(cluster, scope).len() == 2 && running_in(cluster, other()).len() == 2
    });
    cluster.run_for(SOON);
    assert_eq!(list_other(&mut cluster, C), ["child", "theirs"]);
    cluster.converge_to(SOON, &["child", "mine"]);

    terminate(&mut cluster, C, "child");
    cluster.converge_to(SOON, &["mine"]);
    assert_rests(&mut cluster, secs(20));
    assert_eq!(list_other(&mut cluster, A), ["child", "theirs"]);
    assert_eq!(running_in(&cluster, other()).len(), 2);
}

/// Goal: a node runs nothing of a scope that it has not joined, and does not hold up its children.
/// Method: two of four nodes join it; its children start soon, on those two, and move to a third that joins.
#[test]
fn a_scope_runs_only_on_the_nodes_that_joined_it() {
    let mut cluster = cluster(2, 4);
    join_other(&mut cluster, A, Vec::new());
    join_other(&mut cluster, B, Vec::new());
    for child in ids(20) {
        start_in_other(&mut cluster, A, &child);
    }
    cluster.expect(secs(3), "all run", |cluster| running_in(cluster, other()).len() == 20);
    assert!(running_in(&cluster, other()).iter().all(|(_, node)| *node == A || *node == B));
    join_other(&mut cluster, C, Vec::new());
    cluster.expect(secs(5), "some move", |cluster| running_in(cluster, other()).iter().any(|(_, node)| *node == C));
    cluster.run_for(secs(5));
    assert_eq!(running_in(&cluster, other()).len(), 20);
    assert!(running_in(&cluster, other()).iter().all(|(_, node)| node.0 < 3));
    assert_no_overlap(&cluster);
}

/// Goal: a call on a scope that this node has not joined, or a second join, says so.
/// Method: both, and the errors for a name that is empty or too long.
#[test]
fn calls_on_a_scope_that_was_not_joined_and_bad_joins_are_refused() {
    let mut cluster = cluster(3, 2);
    let reply = cluster.call(A, Command::WhichChildren { scope: other(), which: Which::Global });
    assert!(matches!(reply, Reply::Unavailable(Unavailable::NodeGone)));
    join_other(&mut cluster, A, Vec::new());
    let mut refusal = |name: &str, kinds: &[&str], children| {
        let joined = cluster.join_scope(A, name, kinds, children);
        match cluster.wait(joined) {
            Reply::Joined(Err(error)) => error,
            reply => panic!("{reply:?}"),
        }
    };
    assert!(matches!(refusal("other", &["kind"], Vec::new()), JoinScopeError::AlreadyJoined(_)));
    assert!(matches!(refusal("", &["kind"], Vec::new()), JoinScopeError::NameLength { len: 0 }));
    assert!(matches!(refusal(&"x".repeat(256), &["kind"], Vec::new()), JoinScopeError::NameLength { len: 256 }));
    assert!(matches!(refusal("third", &["kind", "kind"], Vec::new()), JoinScopeError::DuplicateKind(_)));
    let twice = vec![spec("child"), spec("child")];
    assert!(matches!(refusal("third", &["kind"], twice), JoinScopeError::DuplicateChild(_)));
}

/// Goal: the scopes of a node are bounded.
/// Method: it joins 64 scopes; the 65th is refused, and the others work.
#[test]
fn a_node_joins_at_most_as_many_scopes_as_its_limit_says() {
    let mut cluster = cluster(4, 2);
    for number in 1..64 {
        let joined = cluster.join_scope(A, &format!("scope-{number}"), &["kind"], Vec::new());
        assert!(matches!(cluster.wait(joined), Reply::Joined(Ok(_))));
    }
    let joined = cluster.join_scope(A, "one-too-many", &["kind"], Vec::new());
    assert!(matches!(cluster.wait(joined), Reply::Joined(Err(JoinScopeError::TooManyScopes(64)))));
    start(&mut cluster, B, spec("child"));
    cluster.converge_to(secs(5), &["child"]);
}

/// Goal: a failover in one scope and a drain reach all scopes of a node.
/// Method: three scopes on three nodes; one node leaves, another one dies; all children of all scopes run.
#[test]
fn all_scopes_of_a_node_are_handed_over_and_taken_over() {
    let mut cluster = cluster(5, 3);
    for node in cluster.up() {
        join_other(&mut cluster, node, Vec::new());
    }
    let all = start_many(&mut cluster, 20);
    for child in ids(20) {
        start_in_other(&mut cluster, A, &child);
    }
    cluster.run_for(SOON);
    let leave = cluster.leave(B);
    assert!(matches!(cluster.wait(leave), Reply::Left(Ok(()))));
    assert!(running_in(&cluster, other()).len() == 20 && running_on(&cluster, B).is_empty());
    cluster.crash(C);
    cluster.run_for(DETECTION_MAX);
    converge_to(&mut cluster, SOON, &all);
    assert!(running_in(&cluster, other()).len() == 20 && running_in(&cluster, other()).iter().all(|(_, on)| *on == A));
    assert_no_overlap(&cluster);
}
