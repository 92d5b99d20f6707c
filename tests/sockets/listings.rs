//! What users are told: listings, locations, members, events.

use std::time::{Duration, SystemTime};

use haulout::{ChildState, Event, WaitError, Which};

use crate::support::cluster::{event, ids};
use crate::support::{Act, Cluster, DEADLINE, soon};

/// The time that is shown is read from the wall once, and goes on by another clock.
const CLOCKS_DIFFER: Duration = Duration::from_secs(1);

/// Goal: once quiet every node lists the same, with all particulars. Method: children that live and that failed
/// before; [`Cluster::quiet`] compares whole listings, the rest is compared with the journal.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn which_children_agrees_on_every_node_and_says_everything() {
    let mut cluster = Cluster::of(3).await;
    let before = now();
    let mut ids = ids(9);
    cluster.run_children(&ids, &Act::Live).await;
    cluster[1].supervisor.start_child(cluster.journal.spec("unlucky", Act::Fail(1))).await.unwrap();
    ids.push("unlucky".into());
    cluster.quiet(&ids).await;
    let listed = cluster[2].list().await;
    for (id, child) in &listed {
        let last = cluster.journal.runs_of(id).pop().unwrap();
        assert_eq!(child.node.as_deref(), Some(&*last.node));
        assert_eq!((child.epoch.birth, child.epoch.run), last.epoch);
        assert_eq!((child.kind.as_str(), &child.state), ("worker", &ChildState::Running));
        let since = child.since.unwrap();
        assert!(since >= before - CLOCKS_DIFFER && since <= now() + CLOCKS_DIFFER, "{since:?}");
        let restarts = u32::from(id == "unlucky");
        assert_eq!((child.restarts, child.last_error.as_deref()), (restarts, (restarts > 0).then_some("no luck")));
    }
    for member in &cluster.members {
        let local = member.supervisor.which_children(Which::Local).await.unwrap();
        let here = listed.values().filter(|child| child.node.as_deref() == Some(member.name()));
        let (mut local, mut here): (Vec<_>, Vec<_>) = (local, here.cloned().collect());
        local.sort_by(|a, b| a.id.cmp(&b.id));
        here.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(local, here);
    }
    cluster.end().await;
}

#[allow(clippy::disallowed_methods, reason = "compared with the time that is shown to people")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Goal and method: `whereis` and `wait_until_running` on each node, for children that run, that will, that are
/// terminated meanwhile, and that nobody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whereis_and_wait_until_running_work_from_any_node() {
    let mut cluster = Cluster::of(3).await;
    cluster[0].start_running(cluster.journal.spec("seal", Act::Live)).await;
    let place = cluster.quiet(&["seal"]).await["seal"].clone();
    cluster[0].supervisor.start_child(cluster.journal.spec("slow", Act::NeverStart)).await.unwrap();
    for member in &cluster.members {
        let location = member.supervisor.wait_until_running("seal", DEADLINE).await.unwrap();
        assert_eq!((&*location.node, location.addr), (&*place, cluster.named(&place).node.addr()));
        assert_eq!(member.supervisor.whereis("seal").await.unwrap(), Some(location));
        assert_eq!(member.supervisor.whereis("nobody").await.unwrap(), None);
        assert_eq!(member.supervisor.wait_until_running("nobody", DEADLINE).await, Err(WaitError::NotFound));
        member.lists("slow", |state| *state == ChildState::Starting).await;
        assert_eq!(member.supervisor.whereis("slow").await.unwrap(), None);
        let patience = Duration::from_millis(10);
        assert_eq!(member.supervisor.wait_until_running("slow", patience).await, Err(WaitError::Timeout));
    }
    let supervisor = cluster[2].supervisor.clone();
    let waiting = tokio::spawn(async move { supervisor.wait_until_running("slow", DEADLINE).await });
    tokio::task::yield_now().await;
    cluster[0].supervisor.terminate_child("slow").await.unwrap();
    assert_eq!(soon("the wait ends", waiting).await.unwrap(), Err(WaitError::NotFound));
    cluster.end().await;
}

/// Goal and method: a third node joins and leaves; the other two must be told of both, in events and in `members`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_and_events_tell_who_comes_and_goes() {
    let mut cluster = Cluster::of(2).await;
    let mut events: Vec<_> = cluster.members.iter().map(|member| member.supervisor.events()).collect();
    cluster.grow(1).await;
    for events in &mut events {
        let up = |event: &Event| matches!(event, Event::MemberUp(member) if &*member.name == "n2");
        event(events, "a member is up", up).await;
    }
    let members = cluster[0].supervisor.members().borrow().clone();
    for (info, member) in members.iter().zip(&cluster.members) {
        assert_eq!((&*info.name, info.addr), (member.name(), member.node.addr()));
        assert_eq!((info.instance, info.draining), (member.node.instance(), false));
        assert_eq!((info.weight, info.kinds.iter().map(|kind| kind.as_str()).collect()), (100, vec!["worker"]));
    }
    cluster.take("n2").node.leave().await.unwrap();
    for events in &mut events {
        let down = |event: &Event| matches!(event, Event::MemberDown(member) if &*member.name == "n2");
        event(events, "a member is down", down).await;
    }
    cluster.know_each_other().await;
    cluster.end().await;
}

/// Goal and method: the node that runs a child tells its users that it started and how it ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_tell_what_children_do_on_the_node_that_runs_them() {
    let mut cluster = Cluster::of(2).await;
    let mut events = [cluster[0].supervisor.events(), cluster[1].supervisor.events()];
    cluster[0].start_running(cluster.journal.spec("seal", Act::Live)).await;
    let place = if cluster.quiet(&["seal"]).await["seal"] == "n0" { 0 } else { 1 };
    let events = &mut events[place];
    event(events, "it started", |event| matches!(event, Event::ChildStarted { .. })).await;
    cluster[1 - place].supervisor.terminate_child("seal").await.unwrap();
    event(events, "it ended", |event| matches!(event, Event::ChildExited { .. })).await;
    cluster.end().await;
}
