//! Start-up children, and how a cluster settles when it starts.

use std::time::Duration;

use haulout::proto::{Fanout, Reply, Time};
use haulout::{Event, Restart};
use haulout_sim::{Cluster, NodeIdx, Options, Treatment};

use crate::support::*;

const STARTUP: [&str; 4] = ["one", "two", "three", "four"];

/// So many nodes that all list the same start-up children, started at once.
fn startup_cluster(seed: u64, nodes: usize) -> Cluster {
    let mut cluster = Cluster::new(Options::seeded(seed));
    for number in 0..nodes {
        let mut options = cluster.node_options();
        options.children = STARTUP.map(spec).to_vec();
        cluster.add_node_with(&name(number), options);
    }
    cluster
}

#[track_caller]
fn settled_at(cluster: &Cluster, node: NodeIdx, from: Time) -> Option<Time> {
    events_from(cluster, node, from).into_iter().find(|(_, event)| *event == Event::Settled).map(|(at, _)| at)
}

/// Goal: start-up children run once, however many nodes ask for them.
/// Method: five nodes start at once with the same list; each child has one run.
#[test]
fn startup_children_of_all_nodes_run_once() {
    for seed in 0..8 {
        let mut cluster = startup_cluster(seed, 5);
        cluster.converge_to(REST, &STARTUP);
        cluster.run_for(secs(20));
        assert_eq!(cluster.journal().runs().len(), STARTUP.len(), "seed {seed}");
    }
}

/// Goal: start-up children behave like dynamic ones.
/// Method: they are refused another spec, are a no-op when started again, are taken over, and move.
#[test]
fn startup_children_behave_like_dynamic_ones() {
    let mut cluster = startup_cluster(1, 3);
    cluster.converge_to(REST, &STARTUP);
    assert!(!start(&mut cluster, B, spec("one")));
    let refused = cluster.start(B, spec("one").restart(Restart::Temporary));
    assert!(matches!(cluster.wait(refused), Reply::Started(Err(_))));
    let update = cluster.update(C, spec("one").restart(Restart::Transient));
    assert!(matches!(cluster.wait(update), Reply::Updated(Ok(true))));
    cluster.run_for(SOON);
    cluster.converge_to(SOON, &STARTUP);
    assert_eq!(alive(&cluster, "one").spec.restart, Restart::Transient);

    let victim = runner(&cluster, "two");
    cluster.crash(victim);
    cluster.run_for(DETECTION_MAX);
    cluster.converge_to(REST, &STARTUP);
    cluster.restart(victim);
    cluster.run_for(SOON);
    cluster.converge_to(REST, &STARTUP);
    let leave = cluster.leave(victim);
    cluster.wait(leave);
    cluster.converge_to(REST, &STARTUP);
    assert_eq!(alive(&cluster, "one").spec.restart, Restart::Transient, "the update holds");
    assert_no_overlap(&cluster);
}

/// Goal: an operator's terminate of a start-up child outlives restarts of nodes.
/// Method: it is terminated; then every node restarts, one after the other.
#[test]
fn a_terminated_startup_child_stays_terminated_when_nodes_restart() {
    for seed in 0..4 {
        let mut cluster = startup_cluster(seed, 3);
        cluster.converge_to(REST, &STARTUP);
        terminate(&mut cluster, NodeIdx(seed as usize % 3), "one");
        cluster.converge_to(SOON, &STARTUP[1..]);
        for node in cluster.up() {
            cluster.crash(node);
            cluster.run_for(millis(200));
            cluster.restart(node);
            cluster.run_for(SOON);
            cluster.converge_to(REST, &STARTUP[1..]);
        }
        cluster.run_for(secs(20));
        cluster.converge_to(SOON, &STARTUP[1..]);
        assert_eq!(runs(&cluster, "one").len(), 1, "seed {seed}");
    }
}

/// Goal: a whole new cluster starts from its lists again.
/// Method: one child is terminated, all nodes are killed and started again; all start-up children run, a dynamic one
/// does not.
#[test]
fn startup_children_come_back_when_the_whole_cluster_restarts() {
    for seed in 0..4 {
        let mut cluster = startup_cluster(seed, 3);
        cluster.converge_to(REST, &STARTUP);
        start(&mut cluster, A, spec("dynamic"));
        terminate(&mut cluster, A, "one");
        cluster.converge_to(SOON, &["dynamic", "two", "three", "four"]);
        let nodes = cluster.up();
        nodes.iter().for_each(|&node| cluster.crash(node));
        cluster.run_for(secs(3));
        nodes.iter().for_each(|&node| cluster.restart(node));
        cluster.converge_to(REST, &STARTUP);
        assert_no_overlap(&cluster);
    }
}

/// Goal: a cold start of all nodes at once neither deadlocks nor waits much longer than `settle_timeout`.
/// Method: when each of 1 to 16 nodes has settled, with several timeouts, and when all start-up children run.
#[test]
fn a_cold_start_of_all_nodes_settles_hardly_later_than_settle_timeout() {
    for (nodes, timeout) in [(1, 2), (2, 2), (3, 1), (5, 2), (10, 5), (16, 2)] {
        for seed in 0..3 {
            let options = Options::seeded(seed);
            let mut cluster = Cluster::new(options);
            for number in 0..nodes {
                let mut options = cluster.node_options();
                options.children = STARTUP.map(spec).to_vec();
                options.config.settle_timeout = Some(secs(timeout));
                cluster.add_node_with(&name(number), options);
            }
            let bound = secs(timeout) + millis(500);
            cluster.run_for(bound);
            for node in cluster.up() {
                let settled = settled_at(&cluster, node, Time::ZERO);
                assert!(settled.is_some(), "seed {seed}: {} of {nodes} has not settled", cluster.name(node));
            }
            cluster.converge_to(millis(500), &STARTUP);
            assert_eq!(cluster.journal().runs().len(), STARTUP.len(), "{nodes} nodes, seed {seed}");
        }
    }
}

/// Goal: a cold start under loss settles too.
/// Method: ten nodes at once over links that lose a quarter of all datagrams.
#[test]
fn a_cold_start_under_loss_settles() {
    for seed in 0..4 {
        let mut cluster = startup_cluster(seed, 10);
        let link = haulout_sim::Link { loss: 0.25, ..Default::default() };
        cluster.set_link(link);
        cluster.converge_to(secs(30), &STARTUP);
    }
}

/// Goal: where answers may be old, nobody settles alone on them while somebody else has settled meanwhile.
/// Method: six nodes take the paths of large clusters; the first to settle is heard of late, as are its answers, and the
/// others, whose turn comes in between, wait for them and take over its state.
#[test]
fn nobody_settles_alone_on_the_old_answers_of_one_who_has_settled() {
    for seed in 0..4 {
        let mut cluster = Cluster::new(Options { fanout: Fanout::at_most(1), ..Options::seeded(seed) });
        for number in 0..6 {
            let mut options = cluster.node_options();
            options.config.settle_timeout = Some(if number == 0 { secs(2) } else { millis(2_100) });
            cluster.add_node_with(&name(number), options);
        }
        cluster.expect(secs(3), "the first to settle", |cluster| settled_at(cluster, A, Time::ZERO).is_some());
        cluster.on_packet(|packet| match packet.from == A && !packet.is_stream {
            true => Treatment::Delay(millis(400)),
            false => Treatment::Pass,
        });
        let is_settled = |cluster: &Cluster, node| settled_at(cluster, node, Time::ZERO).is_some();
        cluster.expect(secs(2), "all to settle", |cluster| cluster.nodes().all(|node| is_settled(cluster, node)));
        assert_eq!(cluster.total_stats().settled_alone, 1, "seed {seed}");
    }
}

/// Goal: a node that joins a settled cluster does not wait for `settle_timeout`.
/// Method: when it has settled after its start.
#[test]
fn a_newcomer_settles_at_once_in_a_settled_cluster() {
    for seed in 0..6 {
        let mut cluster = cluster(seed, 3);
        start_many(&mut cluster, 50);
        let from = cluster.now();
        let newcomer = cluster.add_node("d");
        cluster.run_for(secs(5));
        let settled = settled_at(&cluster, newcomer, from).expect("it has settled").since(from);
        assert!(settled < millis(500), "seed {seed}: after {settled:?}");
    }
}

/// Goal: so does one that comes back on the same address right after it left.
/// Method: leave and restart in the same instant; when it has settled.
#[test]
fn a_node_restarted_right_after_it_left_settles_at_once() {
    for seed in 0..12 {
        let mut cluster = cluster(seed, 4);
        let leave = cluster.leave(C);
        cluster.wait(leave);
        let from = cluster.now();
        cluster.restart(C);
        cluster.run_for(secs(5));
        let settled = settled_at(&cluster, C, from).expect("it has settled").since(from);
        assert!(settled < millis(500), "seed {seed}: after {settled:?}");
    }
}

/// Goal: nodes without a `settle_timeout` wait for one that has one.
/// Method: two wait for a minute; a third, which may settle by itself, joins, and all settle.
#[test]
fn a_node_without_a_settle_timeout_waits_for_a_settled_one() {
    let mut cluster = Cluster::new(Options::seeded(2));
    for number in 0..2 {
        let mut options = cluster.node_options();
        options.config.settle_timeout = None;
        options.children = STARTUP.map(spec).to_vec();
        cluster.add_node_with(&name(number), options);
    }
    cluster.run_for(secs(60));
    assert!(cluster.up().into_iter().all(|node| settled_at(&cluster, node, Time::ZERO).is_none()));
    assert!(cluster.journal().runs().is_empty());
    cluster.add_node("c");
    cluster.converge_to(secs(10), &STARTUP);
}

/// Goal: calls and start-up children wait for the node to settle, and are then done.
/// Method: a start in the first instant is answered when the node has settled, not before, and runs.
#[test]
fn calls_wait_until_the_node_has_settled() {
    let mut cluster = Cluster::new(Options::seeded(3));
    let node = cluster.add_node("a");
    let request = cluster.start(node, spec("child"));
    cluster.run_for(millis(1_500));
    assert!(cluster.reply(request).is_none());
    assert!(matches!(cluster.wait(request), Reply::Started(Ok(true))));
    let (answered, _) = cluster.call_of(request).answer.clone().expect("answered");
    assert_eq!(Some(answered), settled_at(&cluster, node, Time::ZERO));
    cluster.converge_to(SOON, &["child"]);
}

/// Goal: who lists another spec for a start-up child is told, and nothing restarts.
/// Method: two nodes with two specs for one id; the live one stays, one node tells the difference.
#[test]
fn a_startup_child_with_another_spec_is_told_and_changes_nothing() {
    let mut cluster = startup_cluster(4, 2);
    cluster.converge_to(REST, &STARTUP);
    let mut options = cluster.node_options();
    options.children = vec![spec("one").restart(Restart::Transient)];
    let from = cluster.now();
    let newcomer = cluster.add_node_with("c", options);
    cluster.run_for(secs(10));
    cluster.converge_to(SOON, &STARTUP);
    assert_eq!(alive(&cluster, "one").spec.restart, Restart::Permanent);
    let told = Event::StartupDiffers { id: id("one") };
    assert!(events_from(&cluster, newcomer, from).iter().any(|(_, event)| *event == told));
}

/// Goal: two groups of nodes that started apart become one cluster with each start-up child once.
/// Method: they are cut off from each other from the beginning, run their own copies, and heal.
#[test]
fn groups_that_started_apart_become_one_cluster() {
    for seed in 0..4 {
        let mut cluster = startup_cluster(seed, 4);
        cluster.split(&[A, B]);
        cluster.run_for(secs(20));
        start(&mut cluster, A, spec("left"));
        start(&mut cluster, NodeIdx(3), spec("right"));
        let healed: Duration = secs(60);
        cluster.heal();
        let all: Vec<&str> = STARTUP.into_iter().chain(["left", "right"]).collect();
        cluster.converge_to(healed, &all);
        assert_rests(&mut cluster, secs(20));
    }
}
