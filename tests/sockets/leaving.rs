//! The ways in which a node ends: by `leave`, by losing its handles, by losing its runtime.

use haulout::{Config, LeaveError, StartError, Unavailable};
use tokio::runtime::{Builder, Runtime};

use crate::support::cluster::ids;
use crate::support::{Act, Cluster, Member, Worker, require, soon, until};

/// Goal: nothing is lost with the last handle. Method: drop all handles of one of three nodes; its children must move
/// without overlap, while it is still there to hand them over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_every_handle_hands_the_children_over_in_the_background() {
    let mut cluster = Cluster::of(3).await;
    let ids = ids(12);
    cluster.run_children(&ids, &Act::Live).await;
    drop(cluster.take("n2"));
    cluster.know_each_other().await;
    let places = cluster.quiet(&ids).await;
    assert!(places.values().all(|node| node != "n2"), "{places:?}");
    cluster.journal.assert_no_overlap();
    assert!(cluster.journal.runs().iter().all(|run| run.epoch.1 <= 2));
    cluster.end().await;
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

async fn start_on(runtime: &Runtime, config: Config) -> Member {
    let starting = runtime.spawn(Member::start(config, |scope| scope.kind::<Worker>()));
    starting.await.expect("the node starts")
}

/// Goal: a node without its runtime says that it is gone, and others run its children. Method: one node lives on a
/// runtime of its own, which is shut down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutting_the_runtime_of_a_node_down_gives_its_children_to_the_others() {
    let mut cluster = Cluster::of(2).await;
    let own = runtime();
    let config = cluster.config_of(2);
    let lone = start_on(&own, config).await;
    cluster.members.push(lone);
    cluster.know_each_other().await;
    let ids = ids(12);
    cluster.run_children(&ids, &Act::Live).await;
    own.shutdown_background();
    let gone = cluster.take("n2");
    // First that it has gone: until it notices that its runtime did, everything looks as it was.
    cluster.know_each_other().await;
    let places = cluster.quiet(&ids).await;
    assert!(places.values().all(|node| node != "n2"), "{places:?}");
    cluster.journal.assert_no_overlap();
    until("its handles say that it is gone", async || {
        require(gone.node.stats().await == Err(Unavailable::NodeGone), || "not yet".into())
    })
    .await;
    cluster.end().await;
}

/// Goal: the last node of a cluster leaves too. Method: nobody can take its children over, so they are stopped at
/// once, not after `leave_timeout`; the default of 10 s would not matter to the deadline, so it is set to more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_node_stops_its_children_and_leaves_without_waiting_for_heirs() {
    let mut cluster = Cluster::empty();
    cluster.config.leave_timeout = 4 * crate::support::DEADLINE;
    cluster.grow(2).await;
    cluster.run_children(&ids(6), &Act::Live).await;
    cluster.end().await;
    cluster.journal.assert_no_overlap();
}

/// Goal: two that leave at once do not wait for each other. Method: all three nodes leave in the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_can_leave_in_the_same_moment() {
    let mut cluster = Cluster::empty();
    cluster.config.leave_timeout = 4 * crate::support::DEADLINE;
    cluster.grow(3).await;
    cluster.run_children(&ids(9), &Act::Live).await;
    let mut leaving = tokio::task::JoinSet::new();
    for member in cluster.members.drain(..) {
        leaving.spawn(async move { member.node.leave().await });
    }
    for left in soon("all leave", leaving.join_all()).await {
        left.expect("it leaves cleanly");
    }
    assert!(cluster.journal.running().is_empty());
    cluster.journal.assert_no_overlap();
}

/// Goal: a node that leaves takes no more work, and others do. Method: a child that takes long to stop keeps a leave
/// going; meanwhile a start is refused there and accepted elsewhere, and a second leave is told of the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaving_node_refuses_new_starts_and_names_the_reason() {
    let mut cluster = Cluster::of(2).await;
    let ids = ids(8);
    cluster.run_children(&ids, &Act::Linger(std::time::Duration::from_secs(1))).await;
    let leaver = cluster.take("n1");
    let node = leaver.node.clone();
    let leaving = tokio::spawn(async move { node.leave().await });
    cluster[0].lists("child-0", |_| true).await;
    until("it leaves", async || {
        let members = cluster[0].supervisor.members().borrow().clone();
        require(members.iter().any(|member| member.draining), || format!("{members:?}"))
    })
    .await;
    let refused = leaver.supervisor.start_child(cluster.journal.spec("late", Act::Live)).await;
    assert_eq!(refused, Err(StartError::Unavailable(Unavailable::Leaving)));
    assert_eq!(soon("it leaves", leaving).await.unwrap(), Ok(()));
    assert_eq!(leaver.node.leave().await, Err(LeaveError::Unavailable(Unavailable::NodeGone)));
    cluster.quiet(&ids).await;
    cluster.journal.assert_no_overlap();
    cluster.end().await;
}
