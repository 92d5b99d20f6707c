//! What becomes of children that crash, fail to start, or are done.

use haulout::{ChildState, Event, Restart};

use crate::support::cluster::event;
use crate::support::{Act, Cluster, require, until};

/// Goal: a crash is repaired where it happened. Method: children that fail, or panic, in their first two runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_or_panicking_child_is_restarted_in_place_with_a_higher_epoch() {
    let mut cluster = Cluster::of(3).await;
    cluster[0].start_running(cluster.journal.spec("well", Act::Live)).await;
    for (id, act) in [("fails", Act::Fail(2)), ("panics", Act::Panic(2))] {
        cluster[0].supervisor.start_child(cluster.journal.spec(id, act)).await.unwrap();
    }
    until("both have come up at last", async || {
        // A run that is about to fail runs too.
        let runs = ["fails", "panics"].map(|id| cluster.journal.runs_of(id).len());
        require(runs == [3, 3] && cluster.journal.running().len() == 3, || format!("{runs:?} runs"))
    })
    .await;
    cluster.quiet(&["well", "fails", "panics"]).await;
    for id in ["fails", "panics"] {
        let runs = cluster.journal.runs_of(id);
        assert_eq!(runs.iter().map(|run| run.epoch.1).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(runs.iter().all(|run| run.node == runs[0].node), "{runs:?}");
        let listed = cluster[0].list().await.remove(id).unwrap();
        assert_eq!((listed.restarts, listed.epoch.run), (2, 3));
        assert!(listed.last_error.is_some());
    }
    assert_eq!(cluster.journal.runs_of("well").len(), 1);
    cluster.journal.assert_no_overlap();
    cluster.end().await;
}

/// Goal: failure is seen by everyone and hurts nobody. Method: children that fail in `init`, or exit at once, for
/// ever, beside healthy siblings; every node must list them as backing off, with the reason where there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_fails_for_ever_backs_off_visibly_and_disturbs_no_sibling() {
    let mut cluster = Cluster::of(3).await;
    let siblings: Vec<String> = (0..6).map(|number| format!("sibling-{number}")).collect();
    cluster.run_children(&siblings, &Act::Live).await;
    let failing = [
        ("no-start", Act::FailToStart, Some("no luck at the start")),
        ("no-luck", Act::Fail(u32::MAX), Some("no luck")),
        ("panics", Act::Panic(u32::MAX), Some("panics, as it should")),
        ("ends-at-once", Act::Finish, None),
    ];
    for (id, act, _) in &failing {
        cluster[0].supervisor.start_child(cluster.journal.spec(id, act.clone())).await.unwrap();
    }
    for member in &cluster.members {
        for (id, _, error) in &failing {
            let listed = member.lists(id, |state| *state == ChildState::Backoff).await;
            assert!(listed.node.is_some() && listed.since.is_some(), "{listed:?}");
            match (error, &listed.last_error) {
                (Some(wanted), Some(shown)) => assert!(shown.contains(wanted), "{listed:?}"),
                (None, None) => {}
                _ => panic!("{listed:?}"),
            }
        }
    }
    for (id, ..) in &failing {
        cluster[1].supervisor.terminate_child(*id).await.unwrap();
    }
    cluster.quiet(&siblings).await;
    assert!(siblings.iter().all(|id| cluster.journal.runs_of(id).len() == 1));
    cluster.end().await;
}

/// Goal: done is done. Method: a Transient child that succeeds and Temporary ones that succeed and fail; then every
/// node leaves and comes back, one after the other, so that no node is left that saw them run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transient_and_temporary_children_that_are_done_stay_done_after_everyone_restarted() {
    let mut cluster = Cluster::of(3).await;
    let done = [
        ("transient", Act::Finish, Restart::Transient),
        ("temporary", Act::Finish, Restart::Temporary),
        ("temporary-failing", Act::Fail(u32::MAX), Restart::Temporary),
    ];
    for (id, act, restart) in done.clone() {
        let mut events: Vec<_> = cluster.members.iter().map(|member| member.supervisor.events()).collect();
        cluster[0].supervisor.start_child(cluster.journal.spec(id, act).restart(restart)).await.unwrap();
        let completed = events.iter_mut().map(|events| {
            let wanted =
                |event: &Event| matches!(event, Event::ChildCompleted { id: who, .. } if who.as_bytes() == id.as_bytes());
            Box::pin(event(events, "a child completes", wanted))
        });
        first_of(completed.collect()).await;
    }
    cluster[0].start_running(cluster.journal.spec("seal", Act::Live)).await;
    cluster.quiet(&["seal"]).await;
    for number in 0..3 {
        let member = cluster.take(&format!("n{number}"));
        member.node.leave().await.unwrap();
        let member = cluster.start(number).await;
        cluster.members.push(member);
        cluster.know_each_other().await;
        cluster.quiet(&["seal"]).await;
    }
    for (id, ..) in done {
        assert_eq!(cluster.journal.runs_of(id).len(), 1, "{id}");
    }
    cluster.journal.assert_no_overlap();
    cluster.end().await;
}

/// Goal: a Transient child that fails is not done. Method: it fails twice, then lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transient_child_that_fails_is_restarted() {
    let mut cluster = Cluster::of(2).await;
    let spec = cluster.journal.spec("seal", Act::Fail(2)).restart(Restart::Transient);
    cluster[0].supervisor.start_child(spec).await.unwrap();
    until("it lives", async || require(cluster.journal.runs().len() == 3, || "not yet".into())).await;
    cluster.quiet(&["seal"]).await;
    cluster.end().await;
}

/// Whichever ends first.
async fn first_of<T>(mut futures: Vec<std::pin::Pin<Box<impl Future<Output = T>>>>) -> T {
    std::future::poll_fn(|cx| {
        for future in &mut futures {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(cx) {
                return std::task::Poll::Ready(value);
            }
        }
        std::task::Poll::Pending
    })
    .await
}
