//! A node that falls silent is missed on time and given up by several together; one that only stands still is not.

use std::time::Duration;

use haulout::{Config, Profile};
use haulout_sim::{Cluster, Link, NodeIdx, Options, PacketClass, Resume};

use crate::support::*;

/// How soon the children of a silent node run elsewhere: the bar for ten nodes in one data centre, where losses are rare.
const NOTICED_MAX: Duration = millis(2_500);

fn sum(cluster: &Cluster, count: impl Fn(&haulout::proto::Stats) -> u64) -> u64 {
    cluster.nodes().map(|node| count(&cluster.stats(node))).sum()
}

/// Goal: silence is noticed soon, whatever it comes from, in clusters of any size but two.
/// Method: a machine loses power, or a process is stopped; its kernel goes on accepting streams then.
#[test]
fn the_children_of_a_silent_node_run_elsewhere_soon() {
    for (seed, nodes, is_stopped) in [(1, 3, false), (2, 3, true), (3, 5, false), (4, 10, false), (5, 10, true)] {
        let mut cluster = cluster(seed, nodes);
        let all = start_many(&mut cluster, 30);
        cluster.run_for(secs(3));
        let fell_silent = cluster.now();
        if is_stopped {
            cluster.pause(B);
        } else {
            cluster.lose_power(B);
        }
        let run_elsewhere = |cluster: &mut Cluster| {
            let alive = cluster.journal().alive().filter(|run| run.node != B && run.is_running()).count();
            alive == all.len()
        };
        cluster.expect(NOTICED_MAX, "all children run elsewhere", run_elsewhere);
        println!("{nodes} nodes, stopped {is_stopped}: after {:?}", cluster.now().since(fell_silent));
        assert!(sum(&cluster, |stats| stats.silences_declared) > 0, "several agreed");
    }
}

/// Goal: whoever falls silent while those who would miss it stand still is missed as soon as they go on.
/// Method: a machine loses power in the second in which all other processes stand still.
#[test]
fn whoever_falls_silent_while_the_others_stand_still_is_missed_when_they_go_on() {
    for (nodes, seed) in [3, 5, 10].into_iter().flat_map(|nodes| (1..=3).map(move |seed| (nodes, seed))) {
        let mut cluster = cluster(seed, nodes);
        cluster.set_resume(if seed % 2 == 0 { Resume::PacketsFirst } else { Resume::TimersFirst });
        cluster.run_for(secs(3));
        let others: Vec<_> = cluster.nodes().filter(|&node| node != B).collect();
        others.iter().for_each(|&other| cluster.pause(other));
        cluster.run_for(millis(100));
        cluster.lose_power(B);
        cluster.run_for(millis(900));
        others.iter().for_each(|&other| cluster.resume(other));
        let all_know = |cluster: &mut Cluster| others.iter().all(|&other| cluster.members(other).len() == nodes - 1);
        cluster.expect(NOTICED_MAX, "all know", all_know);
        assert!(others.iter().all(|&other| cluster.stats(other).rejoins == 0), "{nodes} nodes, seed {seed}");
    }
}

/// Goal: a process that stands still for a second costs nobody anything, even where datagrams are lost and whatever it sees
/// first when it goes on.
/// Method: each of the nodes stands still in its turn, at a loss of 10 %; nobody is held for down, though some were suspected.
#[test]
fn a_process_that_stands_still_for_a_second_is_not_given_up() {
    let mut suspected = 0;
    for (seed, nodes) in [(1, 2), (2, 3), (3, 5), (4, 10)] {
        let mut cluster = cluster(seed, nodes);
        cluster.set_resume(if seed % 2 == 0 { Resume::PacketsFirst } else { Resume::TimersFirst });
        cluster.set_link(Link { loss: 0.1, ..Link::default() });
        for turn in 0..20 {
            let node = NodeIdx(turn % nodes);
            cluster.pause(node);
            cluster.run_for(secs(1));
            cluster.resume(node);
            cluster.run_for(millis(700 + 130 * turn as u64));
        }
        assert_eq!(sum(&cluster, |stats| stats.members_down), 0, "{nodes} nodes");
        assert_eq!(sum(&cluster, |stats| stats.rejoins), 0, "{nodes} nodes");
        suspected += sum(&cluster, |stats| stats.silences_suspected);
    }
    assert!(suspected > 0, "the pauses raised no suspicion");
}

/// Goal: what a silent node was permitted has expired before it can be given up, and a permission outlives the time that a
/// silent member is waited for.
#[test]
fn permissions_expire_before_a_silent_member_is_given_up_in_every_profile() {
    for profile in [Profile::Local, Profile::Lan, Profile::Wan] {
        assert!(profile.ask_ttl() < profile.suspicion_min());
        assert!(profile.suspicion_min() <= profile.suspect_to_down_after());
        Config { profile, ..Config::default() }.check().expect("the default waits shorter than a permission lasts");
    }
}

/// Goal: signs of life and what they are missed by cost little at rest.
/// Method: ten nodes with children, nothing happens for two minutes: the bar is 300 B/s for each.
#[test]
fn an_idle_node_of_ten_sends_few_bytes() {
    let mut cluster = cluster_with(Options::seeded(1), 10);
    start_many(&mut cluster, 30);
    cluster.run_for(secs(10));
    let sent = |cluster: &Cluster| cluster.traffic().datagram_bytes + cluster.traffic().frame_bytes;
    let before = sent(&cluster);
    cluster.run_for(secs(120));
    let per_second = (sent(&cluster) - before) / 10 / 120;
    assert!(per_second <= 300, "{per_second} B/s");
}

/// Goal: a node that hears nobody keeps its judgement to itself, so that nobody has to contradict it.
/// Method: one node of several hears no datagram, or nothing at all, for 15 s, and is heard all the time. The others, whom it
/// does not answer, give it up; it gives up none of them, and it alone takes a new identity when it hears them again.
#[test]
fn a_node_that_hears_nobody_accuses_nobody() {
    for (seed, nodes, class) in [
        (1, 3, PacketClass::All),
        (2, 5, PacketClass::Datagrams),
        (3, 5, PacketClass::All),
        (4, 10, PacketClass::Datagrams),
    ] {
        let mut cluster = cluster(seed, nodes);
        let all = start_many(&mut cluster, 30);
        let others: Vec<_> = cluster.nodes().filter(|&node| node != A).collect();
        others.iter().for_each(|&other| cluster.cut_class(other, A, class));
        cluster.run_for(secs(15));
        cluster.heal();
        converge_to(&mut cluster, REST, &all);
        assert_eq!(cluster.stats(A).members_down, 0, "{nodes} nodes");
        for other in others {
            let stats = cluster.stats(other);
            assert_eq!((stats.members_down, stats.rejoins), (1, 0), "{nodes} nodes: {other:?}");
        }
    }
}

/// Goal: a suspicion that was refuted before costs one datagram, however often it is told.
/// Method: one node of five hears nothing for 15 s and is told again and again that others suspect it.
#[test]
fn a_suspicion_is_refuted_once() {
    let mut cluster = cluster(2, 5);
    (1..5).for_each(|other| cluster.cut_class(A, NodeIdx(other), PacketClass::Datagrams));
    cluster.run_for(secs(4));
    let told = sum(&cluster, |stats| stats.buddy_messages);
    let refuted = cluster.stats(A).refutations;
    assert!(told > 50 && (1..=3).contains(&refuted), "told {told} times, refuted {refuted} times");
}

/// Goal: a node whose others are all gone takes over in the end, although it hears nobody.
/// Method: all but one of three and of five nodes lose power in one moment.
#[test]
fn the_last_node_takes_over_when_all_others_fell_silent() {
    for nodes in [3, 5] {
        let mut cluster = cluster(6, nodes);
        let all = start_many(&mut cluster, 30);
        (1..nodes).for_each(|other| cluster.lose_power(NodeIdx(other)));
        cluster
            .expect(secs(25), "all children run on the last node", |cluster| running_on(cluster, A).len() == all.len());
    }
}
