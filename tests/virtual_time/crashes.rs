//! A process that dies is noticed by its streams, at once; what only looks like a death is not taken for one.

use std::time::Duration;

use haulout::proto::packet::{Codec, seal_plaintext};
use haulout::proto::wire::Message;
use haulout::proto::{FaultSites, Identity, Site};
use haulout::{Config, Event, Limits, Profile};
use haulout_sim::{Cluster, NodeIdx, Options};

use crate::support::*;

/// A connect, the time that a member has to answer, and what those who help have to say.
const NOTICED_MAX: Duration = millis(100);

/// In a cluster of two nobody can contradict: silence counts after as long as SWIM waits for an answer.
const PAIR_NOTICED_MAX: Duration = Profile::Lan.probe_rtt().saturating_add(NOTICED_MAX);

/// So many nodes at rest that watch each other, which they choose a moment after the members have changed.
fn watching(options: Options, nodes: usize) -> Cluster {
    let mut cluster = cluster_with(options, nodes);
    cluster.run_for(SOON);
    cluster
}

/// Nobody was said to be down or to have crashed.
#[track_caller]
fn assert_nobody_is_accused(cluster: &Cluster) {
    let accuses = |event: &Event| matches!(event, Event::MemberCrashed(_) | Event::MemberDown(_));
    for node in cluster.nodes() {
        assert!(!cluster.events(node).iter().any(|(.., event)| accuses(event)), "{node} accuses somebody");
    }
}

fn pairs(cluster: &Cluster) -> Vec<(NodeIdx, NodeIdx)> {
    let nodes = || cluster.nodes();
    nodes().flat_map(|one| nodes().filter(move |&other| other != one).map(move |other| (one, other))).collect()
}

fn looks(cluster: &Cluster) -> u64 {
    cluster.up().into_iter().map(|node| cluster.stats(node).looks).sum()
}

/// Goal: a crash is noticed within a tenth of a second by all, in clusters of any size but two, and its children run
/// elsewhere, once.
/// Method: one node is killed. Where gossip has to carry the news, its rounds come on top.
#[test]
fn a_killed_process_is_noticed_at_once_and_its_children_run_elsewhere() {
    for (seed, nodes) in [(1, 2), (2, 3), (3, 5), (4, 10), (5, 30)] {
        let mut cluster = watching(Options::seeded(seed), nodes);
        let all = start_many(&mut cluster, 30);
        let died = cluster.now();
        cluster.crash(B);
        let gossip = if nodes > 5 { secs(1) } else { Duration::ZERO };
        let noticed = if nodes == 2 { PAIR_NOTICED_MAX } else { NOTICED_MAX };
        cluster.expect(noticed + gossip, "all know", |cluster| {
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
    pairs(&cluster).into_iter().for_each(|(one, other)| cluster.reset_streams(one, other));
    cluster.run_for(SOON);
    pairs(&cluster).into_iter().for_each(|(one, other)| cluster.reject(one, other));
    cluster.run_for(secs(10));
    cluster.heal();
    cluster.run_for(secs(10));
    assert_nobody_is_accused(&cluster);
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

/// Goal: that a port refuses does not keep the answers to a look from arriving, however much else is to be said.
/// Method: firewalls between all nodes break every stream and refuse new ones, and everything that may take a stream does.
#[test]
fn answers_to_a_look_never_take_a_stream_that_may_be_refused() {
    for nodes in [2, 3, 5] {
        let fault_sites = FaultSites::seeded(1).with(Site::StreamBatch, 1.0);
        let mut cluster = watching(Options { fault_sites, ..Options::seeded(1) }, nodes);
        pairs(&cluster).into_iter().for_each(|(one, other)| cluster.reject(one, other));
        cluster.run_for(secs(60));
        assert!(looks(&cluster) > 0);
        assert_nobody_is_accused(&cluster);
    }
}

/// Goal: a port that can never be reached, and a line that breaks every stream at once, cost hardly any attempts.
/// Method: both for an hour each, after which watchers are found again and a crash is noticed at once.
#[test]
fn watchers_that_can_not_be_kept_are_dialled_ever_more_rarely() {
    /// With doubled delays there are six until five minutes are reached, and one in five minutes from then on.
    const CHOICES_PER_HOUR: u64 = 6 + 12;
    let mut cluster = watching(Options::seeded(1), 3);
    let opened = |cluster: &Cluster| cluster.total_stats().streams_opened - cluster.total_stats().looks;
    // Each of three nodes has two watchers; the safety net opens a stream now and then, too.
    let most = 3 * 2 * CHOICES_PER_HOUR;
    let before = opened(&cluster);
    pairs(&cluster).into_iter().for_each(|(one, other)| cluster.reject(one, other));
    cluster.run_for(secs(3600));
    let refused = opened(&cluster) - before;
    assert!((20..=most).contains(&refused), "{refused} attempts");
    cluster.heal();
    cluster.run_for(secs(301));
    let before = opened(&cluster);
    for _ in 0..3600 {
        pairs(&cluster).into_iter().for_each(|(one, other)| cluster.reset_streams(one, other));
        cluster.run_for(SOON);
    }
    let reset = opened(&cluster) - before;
    assert!((20..=most).contains(&reset), "{reset} attempts");
    cluster.run_for(secs(301));
    assert_nobody_is_accused(&cluster);
    cluster.crash(B);
    cluster
        .expect(NOTICED_MAX, "both know", |cluster| cluster.up().iter().all(|&node| cluster.members(node).len() == 2));
}

/// Goal: requests to look, forged or replayed, make a node dial third ones only so often, and not miss a crash.
/// Method: a member asks 200 times within two seconds to look at one that lives, each look ending before the next; then
/// that one dies.
#[test]
fn looks_on_request_are_limited() {
    const PER_SECOND: u64 = 64;
    let mut cluster = watching(Options::seeded(1), 3);
    let identity = |cluster: &Cluster, node| cluster.node(node).expect("it lives").identity();
    let (asker, suspect) = (identity(&cluster, B), identity(&cluster, C));
    let request = |number| -> Vec<u8> {
        let mut packet = Vec::new();
        Codec::plaintext(&Config::default().cluster).begin(&mut packet, &[]);
        let packet = postcard::to_extend::<Identity, _>(&asker, packet).expect("an identity can be written");
        let look = Message::Look(number, suspect);
        let mut packet = postcard::to_extend(&look, packet).expect("a request can be written");
        seal_plaintext(&mut packet, 0);
        packet
    };
    let before = cluster.stats(A);
    for number in 0..200 {
        cluster.inject(B, A, &request(number));
        cluster.run_for(millis(10));
    }
    let after = cluster.stats(A);
    assert!((PER_SECOND..=3 * PER_SECOND).contains(&(after.looks - before.looks)), "{}", after.looks - before.looks);
    assert!(after.refused_limit > before.refused_limit);
    cluster.crash(C);
    cluster
        .expect(NOTICED_MAX, "both know", |cluster| cluster.up().iter().all(|&node| cluster.members(node).len() == 2));
}

/// Goal: while many die at once hardly two nodes know the same members, and whoever asks before it starts their children
/// goes on all the same: nobody's answer has to wait for its table.
/// Method: a tenth of forty nodes is killed.
#[test]
fn when_many_die_at_once_answers_wait_for_no_table() {
    let mut cluster = watching(Options::seeded(6), 40);
    let all = start_many(&mut cluster, 120);
    cluster.run_for(SOON);
    let answered = |cluster: &Cluster| -> (u64, u64) {
        let stats = cluster.up().into_iter().map(|node| cluster.stats(node));
        stats.fold((0, 0), |(free, deferred), stats| (free + stats.answers_free, deferred + stats.frees_deferred))
    };
    (0..40).step_by(10).for_each(|node| cluster.crash(NodeIdx(node)));
    let before = answered(&cluster);
    cluster.run_for(secs(2));
    let (free, deferred) = answered(&cluster);
    println!("{} of {} answers waited", deferred - before.1, free - before.0);
    assert!(free - before.0 > 100 && deferred == before.1);
    converge_to(&mut cluster, SOON, &all);
    assert_invariants(&cluster);
}

/// Goal: where a third dies at once, no death is left to SWIM's probes because those who watched, or were asked, died too.
/// Method: twenty of sixty nodes are killed; a probe would take seconds.
#[test]
fn a_third_that_dies_at_once_is_noticed_at_once() {
    for seed in 1..=3 {
        let mut cluster = watching(Options::seeded(seed), 60);
        let all = start_many(&mut cluster, 120);
        cluster.run_for(SOON);
        let died = cluster.now();
        (0..60).step_by(3).for_each(|node| cluster.crash(NodeIdx(node)));
        cluster.expect(millis(500), "all know", |cluster| {
            cluster.up().iter().all(|&node| cluster.members(node).len() == 40)
        });
        println!("after {:?}", cluster.now().since(died));
        converge_to(&mut cluster, REST, &all);
        assert_invariants(&cluster);
    }
}
