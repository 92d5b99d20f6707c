//! Children move when nodes come, go or die: never on two nodes, with hardly a gap, and no more of them than must.

use std::collections::BTreeSet;
use std::time::Duration;

use haulout::Event;
use haulout::proto::Time;
use haulout_sim::{Cluster, NodeIdx, Plan, Range, Start};

use crate::support::*;

/// A planned move asks everyone once: this covers the question, the answer after the stop, and one repetition.
const GAP_MAX: Duration = Duration::from_millis(4 * 3);

/// From the end of each child's last run but one to the beginning of its last, for children with a run after `from`.
fn gaps(cluster: &Cluster, ids: &[String], from: Time) -> Vec<Duration> {
    let mut gaps = Vec::new();
    for id in ids {
        for pair in runs(cluster, id).windows(2).filter(|pair| pair[1].began >= from) {
            gaps.push(pair[1].began.since(pair[0].ended.expect("it ended")));
        }
    }
    gaps
}

/// The children that began to run after `from`.
fn begun(cluster: &Cluster, from: Time) -> Vec<String> {
    let runs = cluster.journal().runs().iter().filter(|run| run.began >= from);
    runs.map(|run| run.id.to_string()).collect()
}

fn slow_stops() -> Plan {
    Plan { stop_delay: Range::millis(1, 300), ..Plan::default() }
}

/// Goal: a newcomer gets its share, each child stops before it starts there, and is down for hardly longer than its
/// stop takes.
/// Method: the ends and beginnings in the journal, over several seeds.
#[test]
fn children_move_to_a_node_that_joins_without_overlap_and_with_hardly_a_gap() {
    for seed in 0..5 {
        let mut cluster = cluster(seed, 3);
        cluster.children().plan_kind("kind", slow_stops());
        let ids = start_many(&mut cluster, 60);
        let from = cluster.now();
        let newcomer = cluster.add_node("d");
        converge_to(&mut cluster, REST, &ids);
        assert_no_overlap(&cluster);
        let gaps = gaps(&cluster, &ids, from);
        assert!((5..30).contains(&gaps.len()), "seed {seed}: {} moved", gaps.len());
        assert!(gaps.iter().all(|gap| *gap <= GAP_MAX), "seed {seed}: {gaps:?}");
        assert_eq!(running_on(&cluster, newcomer).len(), gaps.len());
    }
}

/// Goal: only the minimum moves to a newcomer.
/// Method: whatever began after it came began there, once; nothing moved between the others.
#[test]
fn only_what_the_newcomer_shall_run_moves_when_it_joins() {
    for seed in 0..5 {
        let mut cluster = cluster(seed, 4);
        let ids = start_many(&mut cluster, 80);
        let from = cluster.now();
        let newcomer = cluster.add_node("e");
        converge_to(&mut cluster, REST, &ids);
        let moved = begun(&cluster, from);
        let unique: BTreeSet<String> = moved.iter().cloned().collect();
        assert_eq!(unique.len(), moved.len(), "seed {seed}: a child moved twice");
        assert_eq!(unique, running_on(&cluster, newcomer), "seed {seed}");
    }
}

/// Goal: a leaver's children move to the others, stop before start, with hardly a gap; nobody else's move.
/// Method: the journal before and after a leave.
#[test]
fn children_move_away_from_a_node_that_leaves_without_overlap_and_with_hardly_a_gap() {
    for seed in 0..5 {
        let mut cluster = cluster(seed, 4);
        cluster.children().plan_kind("kind", slow_stops());
        let ids = start_many(&mut cluster, 60);
        let leaver = NodeIdx(seed as usize % 4);
        let (its, from) = (running_on(&cluster, leaver), cluster.now());
        let left = cluster.leave(leaver);
        cluster.wait(left);
        converge_to(&mut cluster, secs(10), &ids);
        assert_no_overlap(&cluster);
        let moved = begun(&cluster, from);
        assert_eq!(moved.iter().cloned().collect::<BTreeSet<_>>(), its, "seed {seed}");
        assert_eq!(moved.len(), its.len(), "seed {seed}: a child moved twice");
        let gaps = gaps(&cluster, &ids, from);
        assert!(gaps.iter().all(|gap| *gap <= GAP_MAX), "seed {seed}: {gaps:?}");
    }
}

/// Goal: a node that comes back gets exactly its own children back.
/// Method: a node leaves and rejoins under its name; placement is as before.
#[test]
fn a_node_that_returns_gets_its_own_children_back() {
    let mut cluster = cluster(1, 3);
    let ids = start_many(&mut cluster, 60);
    let before = running_on(&cluster, C);
    let left = cluster.leave(C);
    cluster.wait(left);
    converge_to(&mut cluster, secs(10), &ids);
    cluster.restart(C);
    converge_to(&mut cluster, REST, &ids);
    assert_eq!(running_on(&cluster, C), before);
    assert_no_overlap(&cluster);
}

/// Goal: a move whose start fails leaves a visible child that is retried, not a lost one.
/// Method: on the newcomer the first two starts of every child fail; all run there in the end.
#[test]
fn a_move_whose_start_fails_leaves_a_visible_child_that_is_retried() {
    let mut cluster = cluster(2, 3);
    let ids = start_many(&mut cluster, 40);
    cluster.children().plan_with(|node, start, _| {
        let fails = node == NodeIdx(3) && start.epoch.run <= 3;
        fails.then(|| Plan { start: Start::Fails("no licence".into()), ..Plan::default() })
    });
    let newcomer = cluster.add_node("d");
    cluster.expect(REST, "the failures are listed", |cluster| {
        let listed = cluster.which(A, haulout::Which::Global);
        listed.len() == 40 && listed.iter().any(|child| child.last_error.as_deref() == Some("no licence"))
    });
    cluster.run_for(secs(10));
    converge_to(&mut cluster, REST, &ids);
    assert!(!running_on(&cluster, newcomer).is_empty());
    assert_no_overlap(&cluster);
}

/// Kills or cuts the power of a node and asserts that exactly its children run again, once, after somebody declared
/// it down.
#[track_caller]
fn assert_taken_over(seed: u64, nodes: usize, end: fn(&mut Cluster, NodeIdx)) {
    let mut cluster = cluster(seed, nodes);
    let ids = start_many(&mut cluster, 60);
    let victim = NodeIdx(seed as usize % nodes);
    let (its, instance, from) = (running_on(&cluster, victim), cluster.instance(victim), cluster.now());
    end(&mut cluster, victim);
    converge_to(&mut cluster, DETECTION_MAX, &ids);
    cluster.run_for(secs(10));
    let again = begun(&cluster, from);
    assert_eq!(again.iter().cloned().collect::<BTreeSet<_>>(), its, "seed {seed}");
    assert_eq!(again.len(), its.len(), "seed {seed}: a child ran twice");
    assert_no_overlap(&cluster);
    let down = |event: &Event| matches!(event, Event::MemberDown(member) if Some(member.instance) == instance);
    let told = |node| events_from(&cluster, node, from).into_iter().find(|(_, event)| down(event)).map(|(at, _)| at);
    let first = cluster.up().into_iter().filter_map(told).min().expect("it was declared down");
    assert!(cluster.journal().runs().iter().all(|run| run.began < from || run.began >= first), "seed {seed}");
}

/// Goal: a killed node's children run elsewhere, once, after it is known to be down.
/// Method: SIGKILL in clusters of 3 and 5, over several seeds.
#[test]
fn the_children_of_a_killed_node_run_elsewhere_after_detection_once() {
    for seed in 0..4 {
        assert_taken_over(seed, 3, Cluster::crash);
        assert_taken_over(seed, 5, Cluster::crash);
    }
}

/// Goal: the same for a machine that loses its power, of which nobody hears anything.
/// Method: its kernel closes no stream and refuses nothing.
#[test]
fn the_children_of_a_node_without_power_run_elsewhere_after_detection_once() {
    for seed in 0..4 {
        assert_taken_over(seed, 4, Cluster::lose_power);
    }
}

/// Goal: two deaths at once lose nothing either.
/// Method: two of five nodes are killed together.
#[test]
fn two_nodes_killed_at_once_lose_no_child() {
    for seed in 0..4 {
        let mut cluster = cluster(seed, 5);
        let ids = start_many(&mut cluster, 60);
        cluster.crash(NodeIdx(seed as usize % 5));
        cluster.crash(NodeIdx((seed as usize + 2) % 5));
        cluster.run_for(SOON);
        converge_to(&mut cluster, DETECTION_MAX, &ids);
        cluster.run_for(secs(10));
        assert_no_overlap(&cluster);
    }
}

/// Goal: a new life on the same address proves that the old one is dead, long before failure detection does.
/// Method: a node is killed and started again after a tenth of a second; the others tell the old instance's death
/// and its children run within two seconds, each once more.
#[test]
fn a_node_restarted_quickly_has_its_old_children_known_dead_at_once_and_run_again_once() {
    for seed in 0..8 {
        let mut cluster = cluster(seed, 3);
        let ids = start_many(&mut cluster, 60);
        let victim = NodeIdx(seed as usize % 3);
        let (its, old, from) = (running_on(&cluster, victim), cluster.instance(victim), cluster.now());
        cluster.crash(victim);
        cluster.run_for(millis(100));
        cluster.restart(victim);
        cluster.expect(secs(2), "the old instance is known to be dead", |cluster| {
            let others = cluster.up().into_iter().filter(|&node| node != victim);
            let knows = |node: NodeIdx| {
                let events = events_from(cluster, node, from);
                events.iter().any(|(_, event)| matches!(event, Event::MemberDown(m) if Some(m.instance) == old))
            };
            others.collect::<Vec<_>>().into_iter().all(knows)
        });
        converge_to(&mut cluster, secs(2), &ids);
        cluster.run_for(secs(15));
        converge_to(&mut cluster, SOON, &ids);
        assert_no_overlap(&cluster);
        let again: BTreeSet<String> = begun(&cluster, from).into_iter().collect();
        assert!(again.is_superset(&its), "seed {seed}");
        assert_eq!(running_on(&cluster, victim), its, "seed {seed}: the name decides what runs where");
    }
}

/// Goal: what the quick restart costs is one run per child of that node, no more.
/// Method: the runs that began after the kill are counted.
#[test]
fn a_quick_restart_runs_only_that_nodes_children_again_and_moves_no_other() {
    for seed in 0..8 {
        let mut cluster = cluster(seed, 3);
        let ids = start_many(&mut cluster, 60);
        let victim = NodeIdx(seed as usize % 3);
        let (its, from) = (running_on(&cluster, victim), cluster.now());
        cluster.crash(victim);
        cluster.run_for(millis(100));
        cluster.restart(victim);
        cluster.run_for(SOON);
        converge_to(&mut cluster, REST, &ids);
        cluster.run_for(secs(15));
        let again = begun(&cluster, from);
        let unique: BTreeSet<String> = again.iter().cloned().collect();
        assert_eq!(unique, its, "seed {seed}: others moved");
    }
}
