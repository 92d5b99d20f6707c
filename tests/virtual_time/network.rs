//! Loss, delay, duplication, reordering, cuts: the promises hold, and clusters converge.

use std::time::Duration;

use haulout::Event;
use haulout::proto::placement::{self, Candidate};
use haulout_sim::{Cluster, Link, NodeIdx, PacketClass, Range};

use crate::support::*;

/// Seeds and sizes of clusters.
const SIZES: [(u64, usize); 3] = [(0, 3), (1, 3), (2, 10)];

fn link(loss: f64, duplicate: f64, delay_ms: (u64, u64)) -> Link {
    Link { loss, duplicate, delay: Range::millis(delay_ms.0, delay_ms.1), ..Link::default() }
}

/// Starts and terminates children through all nodes, adds and takes away nodes, over such links; asserts that the
/// cluster converges *on these links* to what is wanted, and that nothing was ever twice without a reason.
#[track_caller]
fn assert_promises_hold(seed: u64, nodes: usize, link: Link) {
    let mut cluster = cluster(seed, nodes);
    cluster.set_link(link);
    let mut wanted = ids(40);
    for (number, child) in wanted.iter().enumerate() {
        start(&mut cluster, NodeIdx(number % nodes), spec(child));
        if number % 10 == 0 {
            cluster.run_for(millis(100));
        }
    }
    converge_to(&mut cluster, REST, &wanted);
    for (number, child) in wanted.drain(..10).enumerate() {
        terminate(&mut cluster, NodeIdx((number + 1) % nodes), &child);
    }
    let newcomer = cluster.add_node("newcomer");
    cluster.run_for(SOON);
    converge_to(&mut cluster, REST, &wanted);
    let leave = cluster.leave(NodeIdx(nodes - 1));
    cluster.wait(leave);
    converge_to(&mut cluster, REST, &wanted);
    cluster.crash(newcomer);
    cluster.run_for(SOON);
    converge_to(&mut cluster, REST, &wanted);
    assert_rests(&mut cluster, secs(20));
    assert_invariants(&cluster);
}

/// Goal: 10 % of loss breaks no promise.
/// Method: starts, terminates, a join, a leave and a crash in clusters of 3 and 10.
#[test]
fn at_a_tenth_of_loss_every_promise_holds() {
    for (seed, nodes) in SIZES {
        assert_promises_hold(seed, nodes, link(0.1, 0.0, (1, 2)));
    }
}

/// Goal: 25 % of loss breaks no promise.
/// Method: as at 10 %.
#[test]
fn at_a_quarter_of_loss_every_promise_holds() {
    for (seed, nodes) in SIZES {
        assert_promises_hold(seed, nodes, link(0.25, 0.0, (1, 2)));
    }
}

/// Goal: long and uneven delays break no promise.
/// Method: 20 to 120 ms, so that most datagrams overtake others.
#[test]
fn with_long_delays_and_reordering_every_promise_holds() {
    for (seed, nodes) in SIZES {
        assert_promises_hold(seed, nodes, link(0.0, 0.0, (20, 120)));
    }
}

/// Goal: every datagram may arrive twice.
/// Method: half of them do, out of order.
#[test]
fn with_duplication_and_reordering_every_promise_holds() {
    for (seed, nodes) in SIZES {
        assert_promises_hold(seed, nodes, link(0.0, 0.5, (1, 60)));
    }
}

/// Goal: all of it together.
/// Method: 15 % of loss, 20 % of duplication, 1 to 80 ms.
#[test]
fn with_loss_duplication_and_reordering_together_every_promise_holds() {
    for (seed, nodes) in SIZES {
        assert_promises_hold(seed, nodes, link(0.15, 0.2, (1, 80)));
    }
}

/// Cuts by `cut`, lets both sides work for `during`, heals, and asserts that exactly the wanted children run once.
#[track_caller]
fn assert_heals(seed: u64, nodes: usize, during: Duration, cut: impl Fn(&mut Cluster)) {
    let mut cluster = cluster(seed, nodes);
    let mut wanted = start_many(&mut cluster, 40);
    cut(&mut cluster);
    cluster.run_for(during);
    // Each side terminates some and starts others.
    for (number, child) in wanted.drain(..8).enumerate() {
        let request = cluster.terminate(NodeIdx(number % nodes), &child);
        cluster.wait(request);
    }
    for number in 0..8 {
        let child = format!("new-{number}");
        start(&mut cluster, NodeIdx(number % nodes), spec(&child));
        wanted.push(child);
    }
    cluster.run_for(secs(5));
    cluster.heal();
    cluster.run_for(millis(1));
    converge_to(&mut cluster, REST, &wanted);
    assert_rests(&mut cluster, secs(20));
    assert_invariants(&cluster);
}

/// Goal: both sides of a split go on, and after healing everything runs once; what was terminated stays so.
/// Method: splits of 3 and 10 nodes, shorter and longer than failure detection.
#[test]
fn a_split_that_heals_leaves_each_wanted_child_running_once() {
    for (seed, during) in [(0, secs(2)), (1, secs(15)), (2, secs(60))] {
        assert_heals(seed, 3, during, |cluster| cluster.split(&[A]));
        assert_heals(seed, 10, during, |cluster| cluster.split(&[A, B, C]));
    }
}

/// Goal: a cut of one pair, in both directions or in one, that others can talk around, separates nobody.
/// Method: a long cut between two nodes; they stay members of each other's view, and no child runs twice.
#[test]
fn a_cut_between_two_nodes_that_others_bridge_separates_nobody() {
    for seed in 0..4 {
        let mut cluster = cluster(seed, 5);
        let mut wanted = start_many(&mut cluster, 20);
        if seed % 2 == 0 {
            cluster.cut(A, B)
        } else {
            cluster.cut_one_way(A, B)
        }
        for number in 0..30 {
            let child = format!("new-{number}");
            start(&mut cluster, NodeIdx(number % 5), spec(&child));
            wanted.push(child);
            cluster.run_for(SOON);
        }
        converge_to(&mut cluster, secs(20), &wanted);
        let downs: u64 = cluster.up().into_iter().map(|node| cluster.stats(node).members_down).sum();
        assert_eq!(downs, 0, "seed {seed}");
        assert_no_overlap(&cluster);
        cluster.heal();
        cluster.run_for(secs(10));
        converge_to(&mut cluster, REST, &wanted);
    }
}

/// Goal: children start on time although one pair can't talk.
/// Method: while two nodes are cut off from each other, a start runs within `confirm_timeout` and a few round trips.
#[test]
fn a_cut_between_two_nodes_hardly_delays_a_start() {
    for seed in 0..4 {
        let mut cluster = cluster(seed, 5);
        cluster.cut(A, B);
        for number in 0..20 {
            let child = format!("new-{number}");
            start(&mut cluster, NodeIdx(number % 5), spec(&child));
            let what = format!("{child} runs");
            cluster.expect(millis(1_500), &what, |cluster| cluster.journal().alive().count() == number + 1);
        }
    }
}

/// Goal: whoever watches events learns that a start did not wait for a member any longer, and for which life of it.
/// Method: a child of a running node is started while another one is paused; then while nobody is silent.
#[test]
fn a_start_that_did_not_wait_for_a_silent_member_names_it() {
    let mut cluster = cluster(3, 3);
    let paused = cluster.instance(C).expect("it runs");
    let placed = |cluster: &Cluster, node: NodeIdx, round: u32| {
        let id = |number| format!("{round}-{number}");
        let members = cluster.members(A);
        let owner = |id: &str| {
            let candidates: Vec<_> = members
                .iter()
                .map(|member| (Candidate::new(member.name.clone(), member.weight), member.addr))
                .collect();
            placement::owner(placement::hash_key(id.as_bytes()), candidates.iter().map(|(one, addr)| (one, *addr)))
        };
        (0..).map(id).find(|id| owner(id) == Some(cluster.addr(node))).expect("each node owns some")
    };
    let unconfirmed = |cluster: &Cluster| {
        let events = cluster.events(A).iter();
        events.filter(|(.., event)| matches!(event, Event::StartedUnconfirmed { .. })).count()
    };
    let child = placed(&cluster, A, 0);
    start(&mut cluster, A, spec(&child));
    cluster.run_for(secs(1));
    assert_eq!((unconfirmed(&cluster), cluster.stats(A).starts_without_answer), (0, 0));

    cluster.pause(C);
    let child = placed(&cluster, A, 1);
    start(&mut cluster, A, spec(&child));
    cluster.run_for(millis(1_500));
    let run = alive(&cluster, &child);
    let told = cluster.events(A).iter().find_map(|(.., event)| match event {
        Event::StartedUnconfirmed { id, epoch, silent } => Some((id.clone(), *epoch, silent.clone())),
        _ => None,
    });
    let (id, epoch, silent) = told.expect("it is told");
    assert_eq!((id, epoch), (run.id, run.epoch));
    let silent: Vec<_> = silent.iter().map(|member| (&*member.name, member.addr, member.instance)).collect();
    assert_eq!(silent, [(cluster.name(C), cluster.addr(C), paused)]);
    assert_eq!((unconfirmed(&cluster), cluster.stats(A).starts_without_answer), (1, 1));
}

/// Goal: one-way cuts of a whole node heal like any other.
/// Method: a node that hears nothing, then one that is not heard, in clusters of 3 and 10.
#[test]
fn a_node_that_hears_nothing_or_is_not_heard_recovers() {
    for (seed, nodes) in SIZES {
        assert_heals(seed, nodes, secs(30), |cluster| {
            cluster.up().into_iter().skip(1).for_each(|node| cluster.cut_one_way(node, A));
        });
        assert_heals(seed, nodes, secs(30), |cluster| {
            cluster.up().into_iter().skip(1).for_each(|node| cluster.cut_one_way(A, node));
        });
    }
}

/// Goal: duplicates that a split made are gone soon after the sides know each other again.
/// Method: from the first member of the other side that comes up after the healing to the end of the last overlap.
#[test]
fn duplicates_are_resolved_soon_after_the_sides_meet() {
    for seed in 0..4 {
        let mut cluster = cluster(seed, 4);
        let wanted = start_many(&mut cluster, 40);
        cluster.split(&[A, B]);
        cluster.run_for(secs(30));
        let healed = cluster.now();
        cluster.heal();
        cluster.run_for(millis(1));
        converge_to(&mut cluster, REST, &wanted);
        let met = cluster.up().into_iter().filter_map(|node| {
            let events = events_from(&cluster, node, healed);
            events.iter().find(|(_, event)| matches!(event, haulout::Event::MemberUp(_))).map(|(at, _)| *at)
        });
        let met = met.min().expect("they met");
        let overlaps = cluster.journal().overlaps();
        assert!(!overlaps.is_empty());
        let last = overlaps.iter().map(|overlap| overlap.to.expect("resolved")).max().expect("some");
        assert!(last.since(met) < secs(3), "seed {seed}: {:?} after they met", last.since(met));
        assert!(met.since(healed) < secs(15), "seed {seed}: they met after {:?}", met.since(healed));
    }
}

/// Starts and terminates children, adds a node and takes one away on such links, then on good ones; asserts that the
/// cluster converges *after* the bad weather, and what the weather may not excuse.
#[track_caller]
fn assert_weathers(seed: u64, link: Link) -> Cluster {
    let mut cluster = cluster(seed, 4);
    cluster.set_link(link);
    let mut wanted = ids(30);
    for (number, child) in wanted.iter().enumerate() {
        let _ = cluster.start(NodeIdx(number % 4), spec(child));
        cluster.run_for(millis(200));
    }
    cluster.run_for(secs(20));
    cluster.crash(C);
    cluster.run_for(secs(20));
    cluster.restart(C);
    cluster.run_for(secs(20));
    cluster.set_link(Link::default());
    cluster.run_for(secs(10));
    converge_to(&mut cluster, REST, &wanted);
    for (number, child) in wanted.drain(..10).enumerate() {
        terminate(&mut cluster, NodeIdx(number % 4), &child);
    }
    cluster.run_for(SOON);
    converge_to(&mut cluster, REST, &wanted);
    assert_rests(&mut cluster, secs(20));
    assert_invariants(&cluster);
    cluster
}

/// Goal: stragglers, bad periods and copies that come minutes late harm nobody for long.
/// Method: each for a minute and a half, with starts and a crash; then everything converges.
#[test]
fn stragglers_bad_periods_and_late_copies_are_weathered() {
    for seed in 0..2 {
        assert_weathers(seed, Link { tail: 0.1, tail_delay: Range::millis(100, 3_000), ..Link::default() });
        let bursts = Link {
            burst_loss: 0.9,
            burst_every: Range::millis(1_000, 5_000),
            burst_length: Range::millis(200, 3_000),
            ..Link::default()
        };
        assert!(assert_weathers(seed, bursts).traffic().lost_to_noise > 0);
        let replays = Link { replay: 0.3, replay_after: Range::millis(1_000, 90_000), ..Link::default() };
        assert!(assert_weathers(seed, replays).traffic().replayed > 0);
    }
}

/// Goal: narrow links, small ones and streams that break delay things and break nothing.
/// Method: 64 KiB a second; datagrams above 200 bytes are lost; one frame in ten breaks its stream.
#[test]
fn narrow_links_and_broken_streams_are_weathered() {
    for seed in 0..2 {
        assert_weathers(seed, Link { bandwidth: Some(64 * 1024), queue_bytes: 16 * 1024, ..Link::default() });
        assert!(assert_weathers(seed, Link { mtu: Some(200), ..Link::default() }).traffic().lost_to_mtu > 0);
        assert!(assert_weathers(seed, Link { reset: 0.1, ..Link::default() }).traffic().resets > 0);
    }
}

/// Goal: datagrams in which bits flip or that lose their end are refused, whatever is left of them.
/// Method: one in five does; each that arrived by itself is counted as corrupt.
#[test]
fn damaged_datagrams_are_refused() {
    for seed in 0..2 {
        let cluster = assert_weathers(seed, Link { truncate: 0.2, ..Link::default() });
        assert!(cluster.traffic().truncated > 0);
        let cluster = assert_weathers(seed, Link { corrupt: 0.2, ..Link::default() });
        assert!(cluster.traffic().corrupted > 0);
        let refused: u64 = cluster.up().into_iter().map(|node| cluster.stats(node).refused_corrupt).sum();
        assert!(refused > 0 && refused <= cluster.traffic().corrupted, "{refused}");
    }
}

/// Goal: where gossip passes but streams do not, or the other way round, nothing is lost for good.
/// Method: one class of everything to and from one node is cut, while both sides work; then it is mended.
#[test]
fn a_cut_of_streams_or_of_datagrams_alone_heals_like_any_other() {
    for (seed, nodes) in SIZES {
        for class in [PacketClass::Streams, PacketClass::Datagrams] {
            assert_heals(seed, nodes, secs(30), |cluster| {
                for node in cluster.up().into_iter().skip(1) {
                    cluster.cut_class(node, A, class);
                    cluster.cut_class(A, node, class);
                }
            });
        }
    }
}

/// Goal: nodes whose streams are cut remain members of each other's view: gossip is enough for that.
/// Method: no stream between any two nodes for two minutes.
#[test]
fn nodes_without_streams_stay_members() {
    for seed in 0..3 {
        let mut cluster = cluster(seed, 4);
        let wanted = start_many(&mut cluster, 16);
        let nodes = cluster.up();
        for &from in &nodes {
            nodes.iter().filter(|to| **to != from).for_each(|&to| cluster.cut_class(from, to, PacketClass::Streams));
        }
        assert!(cluster.cuts().iter().all(|(.., class)| *class == PacketClass::Streams));
        cluster.run_for(secs(120));
        let downs: u64 = nodes.iter().map(|&node| cluster.stats(node).members_down).sum();
        assert_eq!(downs, 0, "seed {seed}");
        assert_no_overlap(&cluster);
        cluster.heal();
        cluster.run_for(SOON);
        converge_to(&mut cluster, REST, &wanted);
    }
}

/// Goal: a jam and the flood after it change nothing for good.
/// Method: everything to one node waits, shorter and longer than failure detection, and then comes at once.
#[test]
fn what_a_clogged_link_held_back_does_no_harm_when_it_comes_at_once() {
    for (seed, during) in [(0, secs(1)), (1, secs(10)), (2, secs(60))] {
        assert_heals(seed, 4, during, |cluster| {
            cluster.up().into_iter().skip(1).for_each(|node| cluster.clog(node, A));
        });
    }
}

/// Goal: a link that is worse than the others is noted as a fault of its two ends, a better one is not.
/// Method: the history after each change.
#[test]
fn only_a_link_that_is_worse_than_the_others_is_a_fault() {
    let mut cluster = cluster(0, 2);
    let open = |cluster: &Cluster| cluster.history().faults.iter().filter(|fault| fault.to.is_none()).count();
    cluster.set_link_between(A, B, Some(link(0.5, 0.0, (1, 1))));
    assert_eq!(open(&cluster), 1);
    cluster.set_link_between(A, B, Some(Link { delay: Range::millis(1, 1), ..Link::default() }));
    assert_eq!(open(&cluster), 0);
    cluster.set_link(link(0.5, 0.0, (1, 100)));
    assert_eq!(open(&cluster), 2, "loss and weather");
    cluster.set_link(Link::default());
    cluster.cut_class(A, B, PacketClass::Streams);
    cluster.cut_class(A, B, PacketClass::Datagrams);
    assert_eq!(open(&cluster), 1, "one cut of everything");
    cluster.mend_class(A, B, PacketClass::Streams);
    assert_eq!(cluster.cuts(), [(A, B, PacketClass::Datagrams)]);
    cluster.heal();
    assert_eq!(open(&cluster), 0);
}
