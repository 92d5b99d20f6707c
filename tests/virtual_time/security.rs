//! Clusters with a keyring: they work as others do, and what an outsider sends or repeats changes nothing.

use haulout::{Config, Key, Security};
use haulout_sim::{Cluster, Datagram, Options};

use crate::support::*;

fn keyed(seed: u64) -> Options {
    let security = Security::Keyring { keys: vec![Key::new([7; 32])], file: None, env: None };
    Options { config: Config { security, ..Config::default() }, ..Options::seeded(seed) }
}

/// A datagram that somebody recorded long ago.
fn recorded(cluster: &Cluster, from: haulout_sim::NodeIdx) -> Vec<Datagram> {
    cluster.captured().iter().filter(|sent| sent.from == from).cloned().collect()
}

/// Goal: a keyed cluster does what any other one does, and refuses nothing that its own members send.
/// Method: children are started, a node crashes and comes back, another one is cut off until it is down and heals, one
/// joins and leaves.
#[test]
fn a_keyed_cluster_lives_through_crash_partition_join_and_leave() {
    for seed in 0..3 {
        let mut cluster = cluster_with(keyed(seed), 4);
        let wanted = start_many(&mut cluster, 30);
        cluster.crash(B);
        cluster.run_for(secs(5));
        cluster.restart(B);
        converge_to(&mut cluster, REST, &wanted);
        cluster.split(&[C]);
        cluster.run_for(secs(20));
        cluster.heal();
        converge_to(&mut cluster, REST, &wanted);
        let newcomer = cluster.add_node("newcomer");
        converge_to(&mut cluster, REST, &wanted);
        let leave = cluster.leave(newcomer);
        cluster.wait(leave);
        converge_to(&mut cluster, REST, &wanted);
        let stats = cluster.total_stats();
        let refused = (stats.refused_forged, stats.refused_key, stats.refused_replay, stats.refused_malformed);
        assert_eq!(refused, (0, 0, 0, 0), "seed {seed}");
    }
}

/// Goal: what was sent once counts once. Method: every datagram of a lively minute is sent twice more; the first time a few
/// may be news, which came before their sender had proved that it lives.
#[test]
fn repeated_datagrams_are_refused_one_by_one() {
    let mut cluster = cluster_with(Options { capture: true, ..keyed(4) }, 3);
    let wanted = start_many(&mut cluster, 30);
    cluster.run_for(secs(20));
    let sent = cluster.captured().to_vec();
    assert!(sent.len() > 200);
    let mut repeat = || {
        let before = cluster.total_stats().refused_replay;
        sent.iter().for_each(|datagram| cluster.inject(datagram.from, datagram.to, &datagram.bytes));
        cluster.total_stats().refused_replay - before
    };
    let (first, second) = (repeat(), repeat());
    assert!(first + 10 > sent.len() as u64, "{first} of {}", sent.len());
    assert_eq!(second, sent.len() as u64);
    converge_to(&mut cluster, REST, &wanted);
}

/// Goal: a former life makes nobody a member, although nobody is left who knew its end.
/// Method: everything that one node of a cluster ever sent is recorded; all nodes are restarted, that one for good, and
/// hear the recording from its own address.
#[test]
fn packets_of_a_former_life_make_no_member_when_nobody_knows_its_end() {
    let mut cluster = cluster_with(Options { capture: true, ..keyed(5) }, 3);
    start_many(&mut cluster, 10);
    let old = recorded(&cluster, C);
    assert!(old.len() > 20);
    for node in [A, B, C] {
        cluster.crash(node);
    }
    cluster.run_for(secs(1));
    for node in [A, B] {
        cluster.restart(node);
    }
    cluster.converge(REST);
    let ups = cluster.stats(A).members_up;
    for datagram in old.iter().chain(&old) {
        cluster.inject(C, A, &datagram.bytes);
        cluster.run_for(millis(10));
    }
    let stats = cluster.stats(A);
    assert_eq!(stats.members_up, ups);
    assert_eq!(stats.refused_unproven, 2 * old.len() as u64);
    assert!(stats.challenges_sent > 0);
}
