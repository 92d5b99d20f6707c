//! The corrections of SWIM, proved by counts: healthy nodes keep their identity, lossy clusters live, nobody stays
//! alone.

use std::collections::BTreeSet;

use haulout::Event;
use haulout::proto::Time;
use haulout_sim::{Cluster, Link, NodeIdx, Resume};

use crate::support::*;

fn lossy(loss: f64) -> Link {
    Link { loss, ..Link::default() }
}

fn sum(cluster: &Cluster, count: impl Fn(haulout::proto::Stats) -> u64) -> u64 {
    cluster.up().into_iter().map(|node| count(cluster.stats(node))).sum()
}

/// When somebody declared this node's present life down, up to `until`.
fn declared_down(cluster: &Cluster, node: NodeIdx, until: Time) -> bool {
    let instance = cluster.instance(node);
    let is_it = |event: &Event| matches!(event, Event::MemberDown(member) if Some(member.instance) == instance);
    let mut others = cluster.nodes().filter(|&other| other != node);
    others.any(|other| cluster.events(other).iter().any(|(at, _, event)| *at <= until && is_it(event)))
}

/// Every new identity of a node follows a Down of it that somebody declared.
#[track_caller]
fn assert_no_identity_change_without_a_down(cluster: &Cluster) {
    for node in cluster.up() {
        let rejoined = cluster.events(node).iter().filter(|(.., event)| *event == Event::Rejoined);
        let times: Vec<Time> = rejoined.map(|(at, ..)| *at).collect();
        assert_eq!(times.len() as u64, cluster.stats(node).rejoins, "every rejoin is told");
        let seed = cluster.options().seed;
        assert!(times.iter().all(|&at| declared_down(cluster, node, at)), "seed {seed}: {node} changed its identity");
    }
}

/// Goal: a suspicion that was refuted in time costs nobody an identity (in foca alone: 72 of 100 such runs).
/// Method: five nodes, the lan profile, one stall of 1.4 seconds, 24 seeds: no rejoin, no Down, but suspicions that
/// expired after they had been refuted.
#[test]
fn one_stall_that_is_shorter_than_a_suspicion_changes_no_identity() {
    let (mut dropped, mut refuted) = (0, 0);
    for seed in 0..24 {
        let mut cluster = cluster(seed, 5);
        cluster.set_resume(if seed % 2 == 0 { Resume::PacketsFirst } else { Resume::TimersFirst });
        cluster.run_for(secs(5) + millis(70 * seed));
        cluster.pause(NodeIdx(seed as usize % 5));
        cluster.run_for(millis(1_400));
        cluster.resume(NodeIdx(seed as usize % 5));
        cluster.run_for(secs(20));
        assert_eq!(sum(&cluster, |stats| stats.rejoins), 0, "seed {seed}");
        assert_eq!(sum(&cluster, |stats| stats.members_down), 0, "seed {seed}");
        dropped += sum(&cluster, |stats| stats.suspect_timers_dropped);
        refuted += sum(&cluster, |stats| stats.refutations);
    }
    assert!(dropped > 0 && refuted > 0, "the stalls raised no suspicion: {dropped}, {refuted}");
}

/// Goal: at moderate loss nobody is declared down and nobody changes its identity.
/// Method: clusters of 3 and 10 at 5 % and 10 % loss for five minutes; suspicions arise and are refuted.
#[test]
fn moderate_loss_costs_nobody_its_identity() {
    for (nodes, loss) in [(3, 0.05), (3, 0.1), (10, 0.05), (10, 0.1)] {
        let mut cluster = cluster(nodes as u64, nodes);
        cluster.set_link(lossy(loss));
        cluster.run_for(secs(300));
        assert_eq!(sum(&cluster, |stats| stats.members_down), 0, "{nodes} nodes, {loss}");
        assert_eq!(sum(&cluster, |stats| stats.rejoins), 0, "{nodes} nodes, {loss}");
        if nodes == 10 && loss == 0.1 {
            assert!(sum(&cluster, |stats| stats.refutations) > 0);
            assert!(sum(&cluster, |stats| stats.buddy_messages) > 0);
        }
    }
}

/// Goal: clusters at heavy loss never die (in foca alone they did, for good).
/// Method: 3 and 10 nodes at 25 % loss for six minutes: everyone is known to everyone at every look, and a rejoin
/// only follows a Down.
#[test]
fn clusters_at_a_quarter_of_loss_never_die() {
    for nodes in [3, 10] {
        for seed in 0..2 {
            let mut cluster = cluster(seed, nodes);
            cluster.set_link(lossy(0.25));
            let mut missing = 0;
            for _ in 0..36 {
                cluster.run_for(secs(10));
                let known: Vec<usize> =
                    cluster.up().into_iter().map(|node| cluster.node(node).expect("up").active().len()).collect();
                assert!(known.iter().all(|&known| known > 0), "seed {seed}: somebody is alone: {known:?}");
                missing += known.iter().filter(|&&known| known < nodes - 1).count();
            }
            assert!(missing <= 3, "{nodes} nodes, seed {seed}: {missing} of {} views lack somebody", 36 * nodes);
            assert_no_identity_change_without_a_down(&cluster);
            cluster.set_link(Link::default());
            cluster.converge(REST);
        }
    }
}

/// Goal: no identity changes without a Down, whatever happens.
/// Method: pauses of many lengths, restarts and cuts at 10 % and 30 % loss.
#[test]
fn no_identity_changes_without_a_down_under_pauses_cuts_and_loss() {
    for seed in 0..4 {
        let mut cluster = cluster(seed, 7);
        cluster.set_link(lossy(if seed % 2 == 0 { 0.1 } else { 0.3 }));
        for round in 0..6u64 {
            let node = NodeIdx((seed + round) as usize % 7);
            let other = NodeIdx((seed + 3 * round + 1) as usize % 7);
            cluster.pause(node);
            if node != other {
                cluster.cut(node, other);
            }
            cluster.run_for(secs(1 + 3 * round));
            cluster.resume(node);
            cluster.run_for(secs(10));
            cluster.heal();
        }
        cluster.set_link(Link::default());
        cluster.run_for(secs(1));
        cluster.converge(secs(120));
        assert_no_identity_change_without_a_down(&cluster);
    }
}

/// Goal: joins are retried, so nobody stays alone or half known after a cold start under loss.
/// Method: 20 nodes start at once at 25 % loss; half a minute later everyone knows everyone.
#[test]
fn a_join_under_loss_leaves_nobody_alone() {
    for seed in 0..3 {
        let mut cluster =
            Cluster::new(haulout_sim::Options { link: lossy(0.25), ..haulout_sim::Options::seeded(seed) });
        (0..20).for_each(|number| {
            cluster.add_node(&name(number));
        });
        cluster.expect(secs(30), "everyone knows everyone", |cluster| {
            cluster.up().into_iter().all(|node| cluster.node(node).expect("up").active().len() == 19)
        });
    }
}

/// Goal: a death is known to all soon after it is known to one, without waiting for one's own probe.
/// Method: in a cluster of 20, from the first to the last node that tells the Down; without loss and at 10 %.
#[test]
fn a_death_is_known_to_all_soon_after_it_is_known_to_one() {
    for (seed, loss) in [(0, 0.0), (1, 0.0), (2, 0.1), (3, 0.1)] {
        let mut cluster = cluster(seed, 20);
        cluster.set_link(lossy(loss));
        let (from, instance) = (cluster.now(), cluster.instance(A));
        cluster.lose_power(A);
        cluster.run_for(secs(40));
        let told = |node: NodeIdx| {
            let is_it = |event: &Event| matches!(event, Event::MemberDown(m) if Some(m.instance) == instance);
            events_from(&cluster, node, from).into_iter().find(|(_, event)| is_it(event)).map(|(at, _)| at)
        };
        let times: Vec<Time> = cluster.up().into_iter().map(|node| told(node).expect("it tells the Down")).collect();
        let (first, last) = (times.iter().min().expect("some"), times.iter().max().expect("some"));
        assert!(last.since(*first) < secs(5), "seed {seed}: {:?}", last.since(*first));
    }
}

/// Goal: restarts are not taken for two processes on one address.
/// Method: a node is killed and started eleven times in as many seconds.
#[test]
fn many_restarts_of_one_node_are_no_address_conflict() {
    let mut cluster = cluster(5, 3);
    for _ in 0..11 {
        cluster.crash(C);
        cluster.run_for(millis(300));
        cluster.restart(C);
        cluster.run_for(millis(700));
    }
    cluster.converge(REST);
    let conflicts = |node: NodeIdx| cluster.events(node).iter().any(|(.., event)| *event == Event::AddressConflict);
    assert!(!cluster.up().into_iter().any(conflicts));
    let instances: BTreeSet<_> = cluster.members(A).iter().map(|member| member.instance).collect();
    assert_eq!(instances.len(), 3);
}

/// Goal: what a node spends on looking for a lost seed does not grow with what happened to it.
/// Method: one of two seeds is gone for good; the streams that a node dials in five minutes, before and after the
/// other seed was lost and found ten times.
#[test]
fn looking_for_a_lost_seed_costs_the_same_however_often_members_were_lost() {
    let mut cluster = cluster(6, 4);
    cluster.crash(A);
    cluster.run_for(secs(30));
    let dials = |cluster: &mut Cluster| {
        let before = cluster.stats(C).streams_opened;
        cluster.run_for(secs(300));
        cluster.stats(C).streams_opened - before
    };
    let first = dials(&mut cluster);
    for _ in 0..10 {
        cluster.crash(B);
        cluster.run_for(DETECTION_MAX);
        cluster.restart(B);
        cluster.run_for(secs(10));
    }
    let last = dials(&mut cluster);
    assert!(last <= first + first / 2, "{first} streams before, {last} after");
}
