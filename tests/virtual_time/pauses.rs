//! A process that stands still and goes on (SIGSTOP, SIGCONT).

use std::time::Duration;

use haulout::Event;
use haulout_sim::measures::duplicates;
use haulout_sim::{Cluster, NodeIdx, PacketClass, Resume};

use crate::support::*;

/// A cluster whose `paused` node stood still for so long while others took over, and that has come to rest again.
struct Paused {
    cluster: Cluster,
    ids: Vec<String>,
    node: NodeIdx,
    resumed: haulout::proto::Time,
}

#[track_caller]
fn pause(seed: u64, nodes: usize, resume: Resume, duration: Duration) -> Paused {
    let mut cluster = cluster(seed, nodes);
    cluster.set_resume(resume);
    let ids = start_many(&mut cluster, 40);
    let node = NodeIdx(seed as usize % nodes);
    cluster.pause(node);
    cluster.run_for(duration);
    let resumed = cluster.now();
    cluster.resume(node);
    cluster.run_for(millis(1));
    converge_to(&mut cluster, REST, &ids);
    Paused { cluster, ids, node, resumed }
}

fn cases() -> impl Iterator<Item = (u64, Resume, Duration)> {
    (0..8).map(|seed| {
        let resume = if seed % 2 == 0 { Resume::PacketsFirst } else { Resume::TimersFirst };
        (seed, resume, [secs(20), secs(45), secs(130)][seed as usize % 3])
    })
}

/// Goal: a node that was given up finds out and is a member again: same name, same instance, a new identity.
/// Method: pauses far longer than failure detection, with packets first and with timers first.
#[test]
fn a_node_paused_longer_than_failure_detection_rejoins_under_its_name_as_the_same_instance() {
    for (seed, resume, duration) in cases() {
        let Paused { cluster, node, resumed, .. } = pause(seed, 3, resume, duration);
        let (name, instance) = (cluster.name(node), cluster.instance(node));
        for other in cluster.up() {
            let seen = cluster.members(other).iter().find(|member| &*member.name == name).expect("a member");
            assert_eq!(Some(seen.instance), instance, "seed {seed}");
        }
        assert!(cluster.node(node).expect("up").identity().bump > 0, "seed {seed}");
        let events = events_from(&cluster, node, resumed);
        assert!(events.iter().any(|(_, event)| *event == Event::Rejoined), "seed {seed}");
    }
}

/// Goal: what others took over is stopped by the node that was away, soon, and nothing is lost.
/// Method: the time that children ran twice, without the pause itself; convergence says the rest.
#[test]
fn a_paused_node_stops_what_others_took_over_and_no_child_is_lost() {
    for (seed, resume, duration) in cases() {
        let Paused { mut cluster, ids, resumed, .. } = pause(seed, 3, resume, duration);
        let resolved = cluster.journal().overlaps().iter().filter_map(|overlap| overlap.to).max();
        let lasted = resolved.expect("others took over").since(resumed);
        assert!(lasted <= secs(2), "seed {seed}: duplicates lived for {lasted:?} after the pause");
        let total = duplicates(cluster.journal(), cluster.history(), cluster.now()).iter().sum::<Duration>();
        assert!(total <= secs(2) * ids.len() as u32, "seed {seed}: {total:?}");
        assert_rests(&mut cluster, secs(20));
        converge_to(&mut cluster, SOON, &ids);
    }
}

/// Goal: a node that was given up checks what it still owns before it acts: it starts nothing before all that others took
/// over has ended on it.
/// Method: after every pause, the ends of its duplicates against its first start.
#[test]
fn a_paused_node_starts_nothing_before_it_has_ended_what_others_took_over() {
    for (seed, resume, duration) in cases() {
        let Paused { cluster, node, resumed, .. } = pause(seed, 3, resume, duration);
        let duplicates = cluster.journal().overlaps().into_iter().filter(|overlap| overlap.earlier == node);
        let ended = duplicates.filter_map(|overlap| overlap.to).max().expect("others took over");
        let runs = cluster.journal().runs().iter().filter(|run| run.node == node && run.began >= resumed);
        let started = runs.map(|run| run.began).min().expect("its children come back");
        assert!(ended <= started, "seed {seed}: it started at {started:?} and ended a duplicate at {ended:?}");
    }
}

/// Goal: of two runs the later epoch survives.
/// Method: after every pause the run that is left has the highest epoch of all runs of its child, and no two runs of
/// a child had the same one.
#[test]
fn after_a_pause_the_later_epoch_survives() {
    for (seed, resume, duration) in cases() {
        let Paused { cluster, ids, .. } = pause(seed, 3, resume, duration);
        for id in &ids {
            let mut epochs: Vec<_> = runs(&cluster, id).iter().map(|run| run.epoch).collect();
            assert_eq!(alive(&cluster, id).epoch, *epochs.iter().max().expect("it ran"), "seed {seed}: {id}");
            let count = epochs.len();
            epochs.sort_unstable();
            epochs.dedup();
            assert_eq!(epochs.len(), count, "seed {seed}: {id} had one epoch twice");
        }
    }
}

/// Goal: the users of the node that stopped a duplicate are told, with how long it lived.
/// Method: one event per run that was stopped because of another.
#[test]
fn a_resolved_duplicate_is_told() {
    let Paused { cluster, node, resumed, .. } = pause(1, 3, Resume::PacketsFirst, secs(20));
    let told = cluster.up().into_iter().flat_map(|node| events_from(&cluster, node, resumed));
    let told = told.filter(|(_, event)| matches!(event, Event::DuplicateResolved { .. })).count();
    let twice = cluster.journal().overlaps().iter().filter(|overlap| overlap.earlier == node).count();
    assert!(twice > 0 && told >= twice, "{told} of {twice}");
}

/// Goal: a pause that nobody noticed changes nothing.
/// Method: pauses well below failure detection; no run begins, no identity changes.
#[test]
fn a_pause_shorter_than_failure_detection_changes_nothing() {
    for seed in 0..6 {
        let mut cluster = cluster(seed, 5);
        let ids = start_many(&mut cluster, 40);
        cluster.set_resume(if seed % 2 == 0 { Resume::PacketsFirst } else { Resume::TimersFirst });
        cluster.pause(A);
        cluster.run_for(secs(1));
        cluster.resume(A);
        assert_rests(&mut cluster, secs(20));
        converge_to(&mut cluster, SOON, &ids);
        assert!(cluster.up().iter().all(|&node| cluster.stats(node).rejoins == 0), "seed {seed}");
    }
}

/// Goal: a machine that slept does not take the others for dead.
/// Method: a node sleeps for ten minutes and sees its overdue timers first; it tells no Down.
#[test]
fn a_node_that_slept_does_not_declare_the_others_down() {
    for seed in 0..2 {
        let Paused { cluster, node, resumed, .. } = pause(seed, 3, Resume::TimersFirst, secs(600));
        let events = events_from(&cluster, node, resumed);
        let downs = events.iter().filter(|(_, event)| matches!(event, Event::MemberDown(_))).count();
        assert_eq!(downs, 0, "seed {seed}");
    }
}

/// Goal: a process that stood still accuses nobody and takes over nothing before it has heard somebody.
/// Method: one of five nodes stands still for 30 s, like a machine that is suspended: nothing waits in its sockets;
/// when it goes on nothing reaches it for 10 s more.
#[test]
fn a_node_that_stood_still_judges_nobody_before_it_hears_somebody() {
    for (seed, resume) in [(1, Resume::PacketsFirst), (2, Resume::TimersFirst)] {
        let mut cluster = cluster(seed, 5);
        let ids = start_many(&mut cluster, 40);
        cluster.set_resume(resume);
        (1..5).for_each(|other| cluster.cut_class(NodeIdx(other), A, PacketClass::All));
        cluster.pause(A);
        cluster.run_for(secs(30));
        let resumed = cluster.now();
        cluster.resume(A);
        cluster.run_for(secs(10));
        assert_eq!(cluster.stats(A).members_down, 0, "seed {seed}");
        let begun = cluster.journal().runs().iter().filter(|run| run.node == A && run.began > resumed).count();
        assert_eq!(begun, 0, "seed {seed}");
        cluster.heal();
        converge_to(&mut cluster, REST, &ids);
    }
}

/// Goal: a terminate during the pause holds when the node is back.
/// Method: half of the children are terminated while their runner is away; they end and never run again.
#[test]
fn what_was_terminated_during_a_pause_ends_after_it() {
    for seed in 0..4 {
        let mut cluster = cluster(seed, 3);
        let ids = start_many(&mut cluster, 40);
        cluster.pause(A);
        cluster.run_for(secs(20));
        for child in ids.iter().take(20) {
            terminate(&mut cluster, B, child);
        }
        cluster.run_for(secs(5));
        let resumed = cluster.now();
        cluster.resume(A);
        cluster.run_for(millis(1));
        converge_to(&mut cluster, REST, &ids[20..]);
        assert_rests(&mut cluster, secs(20));
        let began = |child: &String| runs(&cluster, child).iter().any(|run| run.began > resumed);
        assert!(!ids.iter().take(20).any(began), "seed {seed}: a terminated child began");
    }
}
