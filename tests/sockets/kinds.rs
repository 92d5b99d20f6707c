//! Nodes run only what they know, and understand.

use haulout::{ChildSpec, ChildState, Unplaced};

use crate::support::journal::Rare;
use crate::support::{Act, Cluster, Member, Worker, require, until};

fn rare(cluster: &Cluster, id: &str) -> ChildSpec {
    ChildSpec::new(id, &Rare(cluster.journal.worker(Act::Live))).unwrap()
}

async fn add_expert(cluster: &mut Cluster, number: usize) {
    let config = cluster.config_of(number);
    let expert = Member::start(config, |scope| scope.kind::<Worker>().kind::<Rare>()).await;
    cluster.members.push(expert);
    cluster.know_each_other().await;
}

/// Goal and method: one of three nodes knows a kind; children of that kind, started on all nodes, run only there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_only_some_nodes_know_runs_only_there() {
    let mut cluster = Cluster::of(2).await;
    add_expert(&mut cluster, 2).await;
    let ids: Vec<String> = (0..9).map(|number| format!("rare-{number}")).collect();
    for (id, member) in ids.iter().zip(cluster.members.iter().cycle()) {
        member.start_running(rare(&cluster, id)).await;
    }
    let places = cluster.quiet(&ids).await;
    assert!(places.values().all(|node| node == "n2"), "{places:?}");
    assert_eq!(cluster.journal.runs().len(), ids.len());
    cluster[0].supervisor.terminate_child("rare-0").await.unwrap();
    // Who knows the kind leaves: the rest is unplaced, not lost.
    cluster.take("n2").node.leave().await.unwrap();
    cluster[0].lists("rare-1", |state| *state == ChildState::Unplaced(Unplaced::UnknownKind)).await;
    add_expert(&mut cluster, 2).await;
    cluster.quiet(&ids[1..]).await;
    cluster.journal.assert_no_overlap();
}

/// Goal and method: a child whose kind nobody knows is listed with the reason on every node, and starts when a node
/// that knows it joins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_whose_kind_nobody_knows_is_unplaced_until_a_node_that_knows_it_joins() {
    let mut cluster = Cluster::of(2).await;
    cluster[0].supervisor.start_child(rare(&cluster, "rare")).await.unwrap();
    for member in &cluster.members {
        let listed = member.lists("rare", |state| *state == ChildState::Unplaced(Unplaced::UnknownKind)).await;
        assert_eq!((listed.node, listed.epoch.run), (None, 0));
        assert_eq!(member.supervisor.whereis("rare").await.unwrap(), None);
    }
    let waiting = cluster[1].supervisor.clone();
    let waiting = tokio::spawn(async move { waiting.wait_until_running("rare", crate::support::DEADLINE).await });
    add_expert(&mut cluster, 2).await;
    assert_eq!(&*waiting.await.unwrap().unwrap().node, "n2");
    cluster.quiet(&["rare"]).await;
    cluster.end().await;
}

/// Goal: arguments that a node does not understand go to the next, and to nobody if nobody does. Method: a spec of a
/// known kind with bytes that do not decode; every node must show the reason; an update puts it right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_that_nobody_understands_leave_the_child_unplaced_with_the_reason() {
    let mut cluster = Cluster::of(3).await;
    let odd = ChildSpec::raw("odd", "worker", vec![0xff; 40]).unwrap();
    cluster[0].supervisor.start_child(odd).await.unwrap();
    for member in &cluster.members {
        let listed = member.lists("odd", |state| matches!(state, ChildState::Unplaced(Unplaced::Declined(_)))).await;
        assert!(listed.state.to_string().contains("worker"), "{}", listed.state);
    }
    cluster[2].supervisor.update_child(cluster.journal.spec("odd", Act::Live)).await.unwrap();
    cluster.quiet(&["odd"]).await;
    until("it ran once", async || require(cluster.journal.runs().len() == 1, || "not yet".into())).await;
    cluster.end().await;
}
