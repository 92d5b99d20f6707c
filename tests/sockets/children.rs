//! Starting, updating and reusing ids, from any node.

use haulout::{StartError, Started, UpdateError};

use crate::support::cluster::ids;
use crate::support::{Act, Cluster, DEADLINE, soon};

/// Goal: concurrent requests for one thing are one thing. Method: every node starts the same 20 children at the same
/// moment, twice; the children's journal must hold one run of each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_requested_on_every_node_at_the_same_moment_runs_once_and_nothing_restarts() {
    let mut cluster = Cluster::of(3).await;
    let ids = ids(20);
    for _ in 0..2 {
        let mut calls = tokio::task::JoinSet::new();
        for (id, member) in ids.iter().flat_map(|id| cluster.members.iter().map(move |member| (id, member))) {
            let (supervisor, spec) = (member.supervisor.clone(), cluster.journal.spec(id, Act::Live));
            calls.spawn(async move { supervisor.start_child(spec).running(DEADLINE).await });
        }
        for started in soon("all starts are answered", calls.join_all()).await {
            started.expect("an equal spec is never refused");
        }
        cluster.quiet(&ids).await;
    }
    assert_eq!(cluster.journal.runs().len(), ids.len(), "{:?}", cluster.journal.runs());
    cluster.end().await;
    assert_eq!(cluster.journal.runs_of("child-0").len(), 1 + moves(&cluster, "child-0"));
}

/// How often a child moved because nodes left at the end of a test.
fn moves(cluster: &Cluster, id: &str) -> usize {
    cluster.journal.runs_of(id).windows(2).filter(|pair| pair[0].node != pair[1].node).count()
}

/// Goal: a second start never harms the first. Method: start, then the same and another spec from every node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_spec_again_is_a_no_op_and_another_one_is_refused_and_shows_the_existing() {
    let mut cluster = Cluster::of(3).await;
    let (spec, other) = (cluster.journal.spec("seal", Act::Live), cluster.journal.noted("seal", Act::Live, "other"));
    assert_eq!(cluster[0].supervisor.start_child(spec.clone()).running(DEADLINE).await, Ok(Started::New));
    cluster.quiet(&["seal"]).await;
    for member in &cluster.members {
        assert_eq!(member.supervisor.start_child(spec.clone()).await, Ok(Started::Existing));
        let refused = member.supervisor.start_child(other.clone()).await.unwrap_err();
        assert_eq!(refused, StartError::AlreadyStarted { existing: Box::new(spec.spec().clone()) });
    }
    cluster.quiet(&["seal"]).await;
    assert_eq!(cluster.journal.runs().len(), 1);
    cluster.end().await;
}

/// Goal: an update is one stop and one start, and `running` waits for the new run, whoever asks. Method: each node in
/// turn replaces the spec and looks at the journal as soon as its call returns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_from_any_node_is_one_stop_and_one_start() {
    let mut cluster = Cluster::of(3).await;
    cluster[0].start_running(cluster.journal.spec("seal", Act::Live)).await;
    cluster.quiet(&["seal"]).await;
    for (count, member) in cluster.members.iter().enumerate() {
        let note = format!("update {count}");
        let spec = cluster.journal.noted("seal", Act::Live, &note);
        member.supervisor.update_child(spec.clone()).running(DEADLINE).await.unwrap();
        let runs = cluster.journal.runs_of("seal");
        assert_eq!(runs.len(), count + 2, "{runs:?}");
        let last = runs.last().unwrap();
        assert_eq!((&last.note, last.ended), (&note, None));
        member.supervisor.update_child(spec).await.expect("an equal spec changes nothing");
        cluster.quiet(&["seal"]).await;
    }
    cluster.journal.assert_no_overlap();
    let unknown = cluster[0].supervisor.update_child(cluster.journal.spec("nobody", Act::Live)).await;
    assert_eq!(unknown, Err(UpdateError::NotFound));
    assert_eq!(cluster.journal.runs().len(), 4);
    cluster.end().await;
}

/// Goal: a terminated life is over, and its id free. Method: terminate on one node, start another spec under the id
/// on the same node at once, several times; the last spec must be the one that runs, and no earlier one comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_terminate_the_id_can_be_used_anew_and_the_old_spec_never_comes_back() {
    let mut cluster = Cluster::of(3).await;
    let mut notes = Vec::new();
    for (round, member) in cluster.members.iter().cycle().take(6).enumerate() {
        let note = format!("life {round}");
        let spec = cluster.journal.noted("seal", Act::Live, &note);
        let started = member.supervisor.start_child(spec).running(DEADLINE).await;
        assert_eq!(started, Ok(Started::New), "round {round}");
        let last = cluster.journal.runs_of("seal").pop().unwrap();
        assert_eq!((&last.note, last.ended), (&note, None), "round {round}");
        notes.push(note);
        cluster.quiet(&["seal"]).await;
        if round < 5 {
            // The next start comes from another node, which must have heard of this.
            member.supervisor.terminate_child("seal").replicated(2).await.unwrap();
        }
    }
    let ran: Vec<String> = cluster.journal.runs_of("seal").into_iter().map(|run| run.note).collect();
    assert_eq!(ran, notes);
    cluster.journal.assert_no_overlap();
    cluster.end().await;
}

/// Goal: no waiting for the old life. Method: as above, on one node and without any pause between the two calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_can_be_used_anew_at_once_while_the_old_child_still_stops() {
    let mut cluster = Cluster::of(3).await;
    let lingering = Act::Linger(std::time::Duration::from_millis(300));
    cluster[0].start_running(cluster.journal.noted("seal", lingering, "old")).await;
    cluster[0].supervisor.terminate_child("seal").await.unwrap();
    let new = cluster.journal.noted("seal", Act::Live, "new");
    assert_eq!(cluster[0].supervisor.start_child(new).running(DEADLINE).await, Ok(Started::New));
    let notes: Vec<String> = cluster.journal.runs_of("seal").into_iter().map(|run| run.note).collect();
    assert_eq!(notes, ["old", "new"]);
    cluster.quiet(&["seal"]).await;
    cluster.journal.assert_no_overlap();
    cluster.end().await;
}

/// Goal: one of two different specs wins everywhere, and the loser's caller is told. Method: two nodes start
/// different specs under 10 ids at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_different_specs_started_at_once_one_wins_on_every_node() {
    let mut cluster = Cluster::of(3).await;
    let ids = ids(10);
    let mut calls = tokio::task::JoinSet::new();
    for (id, place) in ids.iter().flat_map(|id| [(id, 0), (id, 1)]) {
        let spec = cluster.journal.noted(id, Act::Live, &format!("from {place}"));
        let supervisor = cluster[place].supervisor.clone();
        calls.spawn(async move { supervisor.start_child(spec).await });
    }
    for started in calls.join_all().await {
        assert!(matches!(started, Ok(_) | Err(StartError::AlreadyStarted { .. })), "{started:?}");
    }
    cluster.quiet(&ids).await;
    cluster.journal.assert_no_overlap();
    cluster.end().await;
}
