//! Children that never yield.

use std::time::Duration;

use haulout::Event;
use tokio::runtime::Builder;

use crate::support::cluster::nanos;
use crate::support::{Act, Cluster, Member, Worker};

/// Longer than a silent node is given by the profile `local`.
const TOO_LONG: Duration = Duration::from_secs(3);

/// Goal: a child that blocks its thread, even all threads, does not hold up the node that runs it. Method: a node on
/// a runtime of its own with two threads runs two children that block for longer than failure detection takes; no
/// other node may declare it down, and starts elsewhere, for which it is asked, go on before the block ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_never_yields_disturbs_neither_membership_nor_starts_elsewhere() {
    let mut cluster = Cluster::of(2).await;
    let own = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = cluster.config_of(2);
    let blocked = own.spawn(Member::start(config, |scope| scope.kind::<Worker>())).await.unwrap();
    cluster.members.push(blocked);
    cluster.know_each_other().await;
    let mut events = [cluster[0].supervisor.events(), cluster[1].supervisor.events()];

    // Placement is by name and id, so a few tries find ids that belong to the node.
    let mut blockers = Vec::new();
    for number in 0.. {
        if blockers.len() == 2 {
            break;
        }
        let id = format!("probe-{number}");
        cluster[0].start_running(cluster.journal.spec(&id, Act::Live)).await;
        let place = cluster[0].supervisor.whereis(id.as_str()).await.unwrap().unwrap();
        cluster[0].supervisor.terminate_child(id.as_str()).await.unwrap();
        if &*place.node == "n2" {
            blockers.push(id);
        }
    }
    for id in &blockers {
        cluster[0].start_running(cluster.journal.noted(id, Act::Block(TOO_LONG), "blocks")).await;
    }
    let blocked_until = cluster.journal.runs_of(&blockers[0]).pop().unwrap().began + nanos(TOO_LONG);
    let mut ids = blockers.clone();
    for number in 0..20 {
        let id = format!("swift-{number}");
        cluster[number % 2].supervisor.start_child(cluster.journal.spec(&id, Act::Live)).await.unwrap();
        ids.push(id);
    }
    let places = cluster.quiet(&ids).await;
    for (id, _) in places.iter().filter(|(_, node)| *node != "n2") {
        let run = cluster.journal.runs_of(id).pop().unwrap();
        assert!(run.began < blocked_until, "{run:?} waited for the blocked node");
    }
    for events in &mut events {
        while let Ok(event) = events.try_recv() {
            assert!(!matches!(event, Event::MemberDown(_)), "{event:?}");
        }
    }
    assert_eq!(cluster.named("n2").node.stats().await.unwrap().rejoins, 0);
    cluster.end().await;
    own.shutdown_background();
}
