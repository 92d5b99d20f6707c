//! Several scopes, start-up children, and starting a whole cluster.

use haulout::Config;

use crate::support::cluster::ids;
use crate::support::{Act, Cluster, DEADLINE, Worker, require, until};

/// Goal: scopes do not see each other. Method: the same id in two scopes of two nodes, with different specs, and a
/// third scope that only one of the nodes joins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scopes_do_not_see_each_other() {
    let mut cluster = Cluster::of(2).await;
    let mut others = Vec::new();
    for member in &cluster.members {
        others.push(member.node.scope("other").kind::<Worker>().join().await.unwrap());
    }
    let alone = cluster[0].node.scope("alone").kind::<Worker>().join().await.unwrap();
    cluster[0].start_running(cluster.journal.spec("seal", Act::Live)).await;
    let other = cluster.journal.noted("seal", Act::Live, "other");
    others[1].start_child(other.clone()).running(DEADLINE).await.unwrap();
    alone.start_child(cluster.journal.noted("seal", Act::Live, "alone")).running(DEADLINE).await.unwrap();
    assert_eq!(cluster.journal.running()["seal"].len(), 3);
    assert_eq!(&*alone.whereis("seal").await.unwrap().unwrap().node, cluster[0].name());
    let names: Vec<String> = alone.members().borrow().iter().map(|member| member.name.to_string()).collect();
    assert_eq!(names, ["n0"]);

    others[0].wait_until_running("seal", DEADLINE).await.unwrap();
    others[0].terminate_child("seal").await.unwrap();
    until("the other one ends", async || {
        let running = cluster.journal.runs().into_iter().filter(|run| run.ended.is_none());
        let notes: Vec<String> = running.map(|run| run.note).collect();
        require(notes == ["", "alone"], || format!("{notes:?} run"))
    })
    .await;
    assert_eq!(cluster[1].list().await.len(), 1);
    cluster.end().await;
}

/// Goal: a cold start of all nodes at once settles without a deadlock, and start-up children run once. Method: four
/// nodes with the same start-up children join in the same moment, with calls waiting for them to settle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_start_of_all_nodes_at_once_settles_and_runs_start_up_children_once() {
    let mut cluster = Cluster::empty();
    let mut all = ids(12);
    cluster.startup = all.iter().map(|id| cluster.journal.spec(id, Act::Live)).collect();
    let configs: Vec<Config> = (0..4).map(|number| cluster.config_of(number)).collect();
    let mut starting = tokio::task::JoinSet::new();
    for config in configs {
        let startup = cluster.startup.clone();
        let seal = cluster.journal.spec("seal", Act::Live);
        starting.spawn(async move {
            let member = crate::support::Member::start(config, |scope| scope.kind::<Worker>().children(startup)).await;
            member.start_running(seal).await;
            member
        });
    }
    cluster.members = starting.join_all().await;
    cluster.members.sort_by(|a, b| a.name().cmp(b.name()));
    cluster.know_each_other().await;
    all.push("seal".into());
    cluster.quiet(&all).await;
    cluster.journal.assert_no_overlap();
    cluster.end().await;
}

/// Goal: a user's terminate counts more than a list in the code, until the whole cluster starts anew. Method:
/// terminate a start-up child, restart each node in turn; then end all nodes and start them again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_up_children_stay_terminated_until_the_whole_cluster_restarts() {
    let mut cluster = Cluster::empty();
    let startup = ["keep", "stop"];
    cluster.startup = startup.iter().map(|id| cluster.journal.spec(id, Act::Live)).collect();
    cluster.grow(3).await;
    cluster.quiet(&startup).await;
    cluster[1].supervisor.terminate_child("stop").await.unwrap();
    cluster.quiet(&["keep"]).await;
    let stopped = cluster.journal.runs_of("stop").len();
    for number in 0..3 {
        cluster.take(&format!("n{number}")).node.leave().await.unwrap();
        let back = cluster.start(number).await;
        cluster.members.push(back);
        cluster.know_each_other().await;
        cluster.quiet(&["keep"]).await;
    }
    assert_eq!(cluster.journal.runs_of("stop").len(), stopped);
    cluster.end().await;
    cluster.grow(3).await;
    cluster.quiet(&startup).await;
    assert!(cluster.journal.runs_of("stop").len() > stopped);
    cluster.end().await;
}

/// Goal: start-up children are children like others. Method: update one and start it again from a node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_up_children_behave_like_dynamic_ones() {
    let mut cluster = Cluster::empty();
    cluster.startup = vec![cluster.journal.spec("seal", Act::Live)];
    cluster.grow(2).await;
    cluster.quiet(&["seal"]).await;
    let same = cluster[1].supervisor.start_child(cluster.startup[0].clone()).await;
    assert_eq!(same, Ok(haulout::Started::Existing));
    let newer = cluster.journal.noted("seal", Act::Live, "newer");
    cluster[1].supervisor.update_child(newer).running(DEADLINE).await.unwrap();
    cluster.quiet(&["seal"]).await;
    // A third node lists the old spec among its start-up children: what the users want stays.
    let mut events = Vec::new();
    cluster.grow(1).await;
    for member in &cluster.members {
        events.push(member.supervisor.events());
    }
    cluster.quiet(&["seal"]).await;
    let last = cluster.journal.runs_of("seal").pop().unwrap();
    assert_eq!(last.note, "newer");
    let differs = |event: &haulout::Event| matches!(event, haulout::Event::StartupDiffers { .. });
    crate::support::cluster::event(&mut events[2], "it is told", differs).await;
    cluster.journal.assert_no_overlap();
    cluster.end().await;
}
