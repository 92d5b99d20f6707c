//! Terminating a child from any node, whatever it is doing.

use haulout::{ChildSpec, ChildState, TerminateError};

use crate::support::cluster::ids;
use crate::support::{Act, Cluster, require, until};

/// Waits until every node has forgotten a child and nothing of it runs.
async fn gone(cluster: &Cluster, id: &str) {
    for member in &cluster.members {
        member.lists_no(id).await;
    }
    until("it has stopped", async || {
        let running = cluster.journal.running();
        require(!running.contains_key(id), || format!("{running:?} run"))
    })
    .await;
}

/// Goal: where a child runs does not matter to who terminates it. Method: every node terminates children that run on
/// each of the nodes; all must have run exactly once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminate_works_from_any_node_for_a_child_that_runs_elsewhere() {
    let mut cluster = Cluster::of(3).await;
    let ids = ids(18);
    cluster.run_children(&ids, &Act::Live).await;
    for (id, member) in ids.iter().zip(cluster.members.iter().cycle()) {
        member.supervisor.terminate_child(id.as_str()).await.unwrap();
    }
    for id in &ids {
        gone(&cluster, id).await;
    }
    assert_eq!(cluster.journal.runs().len(), ids.len());
    cluster.end().await;
}

/// Goal and method: each node terminates a child that fails for ever and waits for its next try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminate_works_from_any_node_for_a_child_that_backs_off() {
    let mut cluster = Cluster::of(3).await;
    for member in &cluster.members {
        let failing = cluster.journal.spec("luckless", Act::Fail(u32::MAX));
        cluster[0].supervisor.start_child(failing).await.unwrap();
        member.lists("luckless", |state| *state == ChildState::Backoff).await;
        member.supervisor.terminate_child("luckless").replicated(2).await.unwrap();
        gone(&cluster, "luckless").await;
    }
    cluster.end().await;
}

/// Goal and method: each node terminates a child that never gets past its `init`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminate_works_from_any_node_for_a_child_that_is_starting() {
    let mut cluster = Cluster::of(3).await;
    for member in &cluster.members {
        cluster[0].supervisor.start_child(cluster.journal.spec("slow", Act::NeverStart)).await.unwrap();
        member.lists("slow", |state| *state == ChildState::Starting).await;
        member.supervisor.terminate_child("slow").replicated(2).await.unwrap();
        gone(&cluster, "slow").await;
    }
    cluster.end().await;
}

/// Goal and method: each node terminates a child whose kind nobody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminate_works_from_any_node_for_a_child_that_is_unplaced() {
    let mut cluster = Cluster::of(3).await;
    for member in &cluster.members {
        let stranger = ChildSpec::raw("stranger", "unheard-of", vec![1, 2, 3]).unwrap();
        cluster[0].supervisor.start_child(stranger).await.unwrap();
        member.lists("stranger", |state| matches!(state, ChildState::Unplaced(_))).await;
        member.supervisor.terminate_child("stranger").replicated(2).await.unwrap();
        gone(&cluster, "stranger").await;
    }
    cluster.end().await;
}

/// Goal: a terminate never loses against its start. Method: start on one node and terminate, at once, on the same or
/// on another; nothing may be left, however far the start had come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminate_works_right_after_start_here_and_elsewhere() {
    let mut cluster = Cluster::of(3).await;
    let ids = ids(30);
    for (number, id) in ids.iter().enumerate() {
        let (starter, terminator) = (&cluster[number % 3], &cluster[(number + number / 3) % 3]);
        starter.supervisor.start_child(cluster.journal.spec(id, Act::Live)).await.unwrap();
        terminator.supervisor.terminate_child(id.as_str()).await.unwrap();
    }
    for id in &ids {
        gone(&cluster, id).await;
    }
    cluster.journal.assert_no_overlap();
    cluster.end().await;
}

/// Goal and method: ids that never lived, and one that has been terminated already, from every node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminate_of_something_unknown_says_so() {
    let mut cluster = Cluster::of(3).await;
    cluster[0].start_running(cluster.journal.spec("seal", Act::Live)).await;
    cluster[1].supervisor.terminate_child("seal").replicated(2).await.unwrap();
    gone(&cluster, "seal").await;
    for member in &cluster.members {
        for id in ["nobody", "seal"] {
            assert_eq!(member.supervisor.terminate_child(id).await, Err(TerminateError::NotFound));
        }
    }
    cluster.end().await;
}
