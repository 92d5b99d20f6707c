//! A process that dies is noticed by its streams, at once; what only looks like a death is not taken for one.

use std::time::Duration;

use haulout::{Config, Event, Limits};
use haulout_sim::{Cluster, NodeIdx, Options};

use crate::support::*;

/// A connect, the time that a member has to answer, and what those who help have to say.
const NOTICED_MAX: Duration = millis(100);

/// So many nodes at rest that watch each other, which they choose a moment after the members have changed.
fn watching(options: Options, nodes: usize) -> Cluster {
    let mut cluster = cluster_with(options, nodes);
    cluster.run_for(SOON);
    cluster
}

fn looks(cluster: &Cluster) -> u64 {
    cluster.up().into_iter().map(|node| cluster.stats(node).looks).sum()
}

/// Goal: a crash is noticed within a tenth of a second by all, in clusters of any size, and its children run elsewhere, once.
/// Method: one node is killed. Where gossip has to carry the news, its rounds come on top.
#[test]
fn a_killed_process_is_noticed_at_once_and_its_children_run_elsewhere() {
    for (seed, nodes) in [(1, 2), (2, 3), (3, 5), (4, 10), (5, 30)] {
        let mut cluster = watching(Options::seeded(seed), nodes);
        let all = start_many(&mut cluster, 30);
        let died = cluster.now();
        cluster.crash(B);
        let gossip = if nodes > 5 { secs(1) } else { Duration::ZERO };
        cluster.expect(NOTICED_MAX + gossip, "all know", |cluster| {
            cluster.up().iter().all(|&node| cluster.members(node).len() == nodes - 1)
        });
        println!("{nodes} nodes: after {:?}", cluster.now().since(died));
        converge_to(&mut cluster, SOON, &all);
        assert_no_overlap(&cluster);
        let rejoins: u64 = cluster.up().into_iter().map(|node| cluster.stats(node).rejoins).sum();
        assert_eq!(rejoins, 0);
        assert_invariants(&cluster);
    }
}

/// Goal: a machine that loses power says nothing, and nobody makes anything of that but SWIM.
#[test]
fn a_machine_without_power_is_left_to_the_probes() {
    let mut cluster = watching(Options::seeded(1), 3);
    cluster.lose_power(B);
    cluster.run_for(SOON);
    assert!(cluster.up().iter().all(|&node| cluster.members(node).len() == 3));
    cluster
        .expect(DETECTION_MAX, "all know", |cluster| cluster.up().iter().all(|&node| cluster.members(node).len() == 2));
    assert_eq!(cluster.total_stats().crashes_declared, 0);
}

/// Goal: nobody looks after a node that leaves, nor after one that chooses other watchers.
/// Method: nodes join until choices have changed, then one leaves.
#[test]
fn whoever_says_farewell_is_not_looked_at() {
    let mut cluster = watching(Options::seeded(1), 3);
    for number in 3..9 {
        cluster.add_node(&name(number));
        cluster.run_for(SOON);
    }
    let leave = cluster.leave(C);
    cluster.wait(leave);
    cluster.run_for(SOON);
    assert_eq!(looks(&cluster), 0);
    assert_eq!(cluster.total_stats().watches_lost, 0);
}

/// Goal: the standing streams cost nothing while nothing happens, and each node has a bounded number of them.
/// Method: 30 nodes at rest for ten minutes. No frame is sent but by the exchanges that there are without them, and no
/// stream is opened that replaces one of them.
#[test]
fn standing_streams_cost_nothing_at_rest() {
    let mut cluster = watching(Options::seeded(1), 30);
    cluster.run_for(secs(60));
    let before = cluster.total_stats();
    cluster.run_for(secs(600));
    let after = cluster.total_stats();
    assert_eq!(after.frames_sent, before.frames_sent);
    assert_eq!(after.streams_opened, before.streams_opened);
    assert_eq!((after.watches_lost, after.looks), (0, 0));
    let standing = |node: NodeIdx| {
        let sizes = cluster.node(node).expect("it lives").sizes();
        sizes.into_iter().find(|size| size.name == "standing streams").expect("it is counted").len
    };
    let most = cluster.up().into_iter().map(standing).max().unwrap_or_default();
    assert!((3..=16).contains(&most), "{most} standing streams at one node");
}

/// Goal: standing streams leave room for others, and nodes without room for them work as before.
/// Method: two streams per node.
#[test]
fn limits_of_streams_hold_for_standing_ones() {
    let limits = Limits { streams_max: 2, ..Limits::default() };
    let config = Config { limits, ..Options::seeded(1).config };
    let mut cluster = watching(Options { config, ..Options::seeded(1) }, 3);
    let all = start_many(&mut cluster, 30);
    cluster.run_for(secs(30));
    let stats = cluster.total_stats();
    assert!(stats.watches_refused > 0 && stats.watches_opened == 0, "{stats:?}");
    cluster.crash(C);
    converge_to(&mut cluster, DETECTION_MAX, &all);
    assert_eq!(cluster.total_stats().crashes_declared, 0);
}

/// Goal: a firewall that comes up between members, or a line that forgets its connections, changes nothing.
/// Method: both, between all of four nodes; streams are opened again when they can be.
#[test]
fn broken_streams_are_opened_again_and_nobody_is_accused() {
    let mut cluster = watching(Options::seeded(1), 4);
    let all = start_many(&mut cluster, 20);
    let nodes: Vec<NodeIdx> = cluster.nodes().collect();
    for &one in &nodes {
        nodes.iter().filter(|&&other| other < one).for_each(|&other| cluster.reset_streams(one, other));
    }
    cluster.run_for(SOON);
    for &one in &nodes {
        nodes.iter().filter(|&&other| other != one).for_each(|&other| cluster.reject(one, other));
    }
    cluster.run_for(secs(10));
    cluster.heal();
    cluster.run_for(secs(10));
    let accused = |event: &Event| matches!(event, Event::MemberCrashed(_) | Event::MemberDown(_));
    for &node in &nodes {
        assert!(!cluster.events(node).iter().any(|(.., event)| accused(event)));
    }
    assert!(looks(&cluster) > 0);
    cluster.crash(B);
    cluster
        .expect(NOTICED_MAX, "all know", |cluster| cluster.up().iter().all(|&node| cluster.members(node).len() == 3));
    converge_to(&mut cluster, SOON, &all);
}

/// Goal: what one process may ask others to look at is bounded, and a look that nobody answers ends.
/// Method: all others of eight nodes die in one moment. The one that is left can't tell that from a broken network of its
/// own, and waits for the probes; then it has everything.
#[test]
fn the_last_node_waits_for_the_probes() {
    let mut cluster = watching(Options::seeded(1), 8);
    let all = start_many(&mut cluster, 20);
    cluster.nodes().skip(1).for_each(|node| cluster.crash(node));
    cluster.run_for(SOON);
    assert_eq!(cluster.stats(A).crashes_declared, 0);
    assert!(cluster.stats(A).looks_unclear > 0);
    cluster.expect(secs(60), "it is alone", |cluster| cluster.members(A).len() == 1);
    converge_to(&mut cluster, REST, &all);
}
