//! Children move to nodes that join and away from nodes that leave.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::cluster::{ids, nanos};
use crate::support::{Act, Cluster, soon};

/// Longer than the hand-over of a child may take beside its own stop time, on a machine that does other things too.
const FEW_ROUND_TRIPS: Duration = Duration::from_secs(1);

/// The ids of those that are in another place.
fn moved(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    before.iter().filter(|(id, node)| after.get(*id) != Some(node)).map(|(id, _)| id.clone()).collect()
}

/// Each child ran once before the move; those that moved ran once more, the moment after they had stopped.
fn assert_clean_moves(cluster: &Cluster, ids: &[String], moved: &[String]) {
    cluster.journal.assert_no_overlap();
    for id in ids {
        let runs = cluster.journal.runs_of(id);
        assert_eq!(runs.len(), 1 + usize::from(moved.contains(id)), "{runs:?}");
        for pair in runs.windows(2) {
            let gap = pair[1].began - pair[0].ended.unwrap();
            assert!(gap <= nanos(FEW_ROUND_TRIPS), "{id} ran nowhere for {gap} ns: {runs:?}");
        }
    }
}

/// Goal: a node that joins gets its share, and nothing else moves. Method: children that take a while to stop, so
/// that a node that does not wait for it is caught.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_move_to_a_node_that_joins_and_only_to_it_without_overlap() {
    let mut cluster = Cluster::of(3).await;
    let ids = ids(24);
    cluster.run_children(&ids, &Act::Linger(Duration::from_millis(50))).await;
    let before = cluster.quiet(&ids).await;
    cluster.grow(1).await;
    // The moves take as long as they take; it is quiet when the newcomer has got what rendezvous gives it.
    let after = crate::support::until("the newcomer runs something", async || {
        let after = cluster.quiet(&ids).await;
        crate::support::require(after.values().any(|node| node == "n3"), || format!("{after:?}"))?;
        Ok(after)
    })
    .await;
    let moved = moved(&before, &after);
    assert!(moved.iter().all(|id| after[id] == "n3"), "{before:?} became {after:?}");
    assert_clean_moves(&cluster, &ids, &moved);
    cluster.end().await;
}

/// Goal: a node that leaves hands over everything before it goes, and nothing else moves. Method: as above; when
/// `leave` returns, the children must already run elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_move_away_from_a_node_that_leaves_before_it_is_gone() {
    let mut cluster = Cluster::of(4).await;
    let ids = ids(24);
    cluster.run_children(&ids, &Act::Linger(Duration::from_millis(50))).await;
    let before = cluster.quiet(&ids).await;
    let leaver = cluster.take("n1");
    soon("it leaves", leaver.node.leave()).await.unwrap();
    let running = cluster.journal.running();
    assert_eq!(running.len(), ids.len(), "something runs nowhere when leave returns: {running:?}");
    assert!(running.values().flatten().all(|node| node != "n1"), "{running:?}");
    let after = cluster.quiet(&ids).await;
    let moved = moved(&before, &after);
    assert!(moved.iter().all(|id| before[id] == "n1"), "{before:?} became {after:?}");
    assert_clean_moves(&cluster, &ids, &moved);
    cluster.end().await;
}

/// Goal: a restart under the same name puts everything back. Method: leave and join again with the same name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_under_its_name_gets_its_children_back() {
    let mut cluster = Cluster::of(3).await;
    let ids = ids(12);
    cluster.run_children(&ids, &Act::Live).await;
    let before = cluster.quiet(&ids).await;
    cluster.take("n2").node.leave().await.unwrap();
    cluster.quiet(&ids).await;
    let back = cluster.start(2).await;
    cluster.members.push(back);
    cluster.know_each_other().await;
    crate::support::until("all is as before", async || {
        let after = cluster.quiet(&ids).await;
        crate::support::require(after == before, || format!("{after:?} instead of {before:?}"))
    })
    .await;
    cluster.journal.assert_no_overlap();
    cluster.end().await;
}

/// Goal: a Temporary child is never moved by a join. Method: enough nodes join for it to have another owner; it must
/// still be in its first run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_temporary_child_is_not_moved_to_a_node_that_joins() {
    let mut cluster = Cluster::of(1).await;
    let ids = ids(12);
    for id in &ids {
        let spec = cluster.journal.spec(id, Act::Live).restart(haulout::Restart::Temporary);
        cluster[0].start_running(spec).await;
    }
    cluster.grow(2).await;
    cluster[0].start_running(cluster.journal.spec("seal", Act::Live)).await;
    let mut all = ids.clone();
    all.push("seal".into());
    let places = cluster.quiet(&all).await;
    assert!(ids.iter().all(|id| places[id] == "n0"), "{places:?}");
    assert!(ids.iter().all(|id| cluster.journal.runs_of(id).len() == 1));
}
