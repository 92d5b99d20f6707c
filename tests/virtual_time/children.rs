//! A child is started from any node and runs once; its spec is what was asked for last.

use std::collections::BTreeSet;

use haulout::proto::packet::Codec;
use haulout::proto::wire::{Message, ScopeMessage};
use haulout::proto::{Fanout, Reply};
use haulout::{Restart, StartError, UpdateError};
use haulout_sim::{Datagram, Options, Plan, Range};

use crate::support::*;

/// Goal: simultaneous requests are one child.
/// Method: all five nodes ask in the same instant, over many seeds; the journal has one run.
#[test]
fn a_child_requested_on_every_node_at_the_same_moment_runs_once_and_nothing_restarts() {
    for seed in 0..12 {
        let mut cluster = cluster(seed, 5);
        let requests: Vec<_> = cluster.up().into_iter().map(|node| cluster.start(node, spec("child"))).collect();
        for request in requests {
            assert!(matches!(cluster.wait(request), Reply::Started(Ok(_))), "seed {seed}");
        }
        cluster.converge_to(secs(10), &["child"]);
        cluster.run_for(secs(20));
        assert_eq!(runs(&cluster, "child").len(), 1, "seed {seed}");
    }
}

/// Goal: asking again for what runs changes nothing.
/// Method: every node asks for the same spec while it runs; all say that it is not new, and no run begins.
#[test]
fn the_same_spec_again_is_a_no_op() {
    let mut cluster = cluster(1, 3);
    assert!(start(&mut cluster, A, spec("child")));
    cluster.converge_to(SOON, &["child"]);
    for node in cluster.up() {
        assert!(!start(&mut cluster, node, spec("child")));
    }
    assert_rests(&mut cluster, secs(20));
    assert_eq!(runs(&cluster, "child").len(), 1);
}

/// Goal: a live id can't be taken over by another spec, and its user sees why.
/// Method: every node asks for a different spec; each answer holds the spec that runs, which goes on running.
#[test]
fn another_spec_under_a_live_id_is_refused_with_the_existing_one() {
    let mut cluster = cluster(2, 3);
    start(&mut cluster, A, spec("child"));
    cluster.converge_to(SOON, &["child"]);
    for node in cluster.up() {
        let request = cluster.start(node, spec("child").restart(Restart::Transient));
        match cluster.wait(request) {
            Reply::Started(Err(StartError::AlreadyStarted { existing })) => {
                assert_eq!(*existing, *spec("child").spec())
            }
            other => panic!("{other:?}"),
        }
    }
    assert_rests(&mut cluster, secs(20));
    assert_eq!(alive(&cluster, "child").spec.restart, Restart::Permanent);
}

/// Goal: an update is one stop and one start, from any node.
/// Method: each node updates in turn; every update adds one run with the new spec behind the end of the last one.
#[test]
fn update_child_replaces_the_spec_with_one_stop_and_one_start() {
    for seed in 0..4 {
        let mut cluster = cluster(seed, 3);
        let stop = Plan { stop_delay: Range::millis(80, 80), ..Plan::default() };
        cluster.children().plan_kind("kind", stop);
        start(&mut cluster, A, spec("child"));
        cluster.converge_to(SOON, &["child"]);
        for (number, node) in cluster.up().into_iter().enumerate() {
            let new = spec("child").max_restarts(10 + number as u32, secs(5));
            let request = cluster.update(node, new.clone());
            assert!(matches!(cluster.wait(request), Reply::Updated(Ok(true))));
            cluster.run_for(SOON);
            cluster.converge_to(SOON, &["child"]);
            assert_eq!(*alive(&cluster, "child").spec, *new.spec());
            assert_eq!(runs(&cluster, "child").len(), number + 2, "seed {seed}");
        }
        assert_no_overlap(&cluster);
        assert_epochs_rise(&runs(&cluster, "child"));
    }
}

/// Goal: an update with the spec that runs restarts nothing.
/// Method: every node updates to the same spec; the journal still has one run.
#[test]
fn an_update_to_the_same_spec_restarts_nothing() {
    let mut cluster = cluster(3, 3);
    start(&mut cluster, A, spec("child"));
    cluster.converge_to(SOON, &["child"]);
    for node in cluster.up() {
        let request = cluster.update(node, spec("child"));
        assert!(matches!(cluster.wait(request), Reply::Updated(Ok(false))));
    }
    assert_rests(&mut cluster, secs(20));
}

/// Goal: an update starts nothing by accident.
/// Method: every node updates an id that nobody started; all say so, and nothing runs.
#[test]
fn an_update_of_an_unknown_child_says_so() {
    let mut cluster = cluster(4, 3);
    for node in cluster.up() {
        let request = cluster.update(node, spec("child"));
        assert!(matches!(cluster.wait(request), Reply::Updated(Err(UpdateError::NotFound))));
    }
    assert_rests(&mut cluster, secs(20));
}

/// Goal: an id is free after its terminate, and its old life never comes back.
/// Method: terminate and start with another spec, through one node at once and through others; then every node
/// restarts in turn. No run of the old spec begins after the terminate.
#[test]
fn after_terminate_the_id_can_be_used_anew_and_the_old_one_never_comes_back() {
    for seed in 0..6 {
        let mut cluster = cluster(seed, 3);
        let nodes = cluster.up();
        start(&mut cluster, nodes[0], spec("child"));
        cluster.converge_to(SOON, &["child"]);
        terminate(&mut cluster, nodes[1], "child");
        let terminated = cluster.now();
        if seed % 2 == 0 {
            cluster.converge_to(SOON, &[]);
        }
        let node = if seed % 2 == 0 { nodes[2] } else { nodes[1] };
        assert!(start(&mut cluster, node, spec("child").restart(Restart::Transient)), "seed {seed}");
        cluster.run_for(SOON);
        cluster.converge_to(SOON, &["child"]);
        for node in nodes {
            cluster.crash(node);
            cluster.run_for(millis(300));
            cluster.restart(node);
            cluster.converge_to(REST, &["child"]);
        }
        let later: Vec<_> = runs(&cluster, "child").into_iter().filter(|run| run.began > terminated).collect();
        assert!(!later.is_empty());
        assert!(later.iter().all(|run| run.spec.restart == Restart::Transient), "seed {seed}: {later:?}");
        assert_no_overlap(&cluster);
    }
}

/// Goal: the acknowledged start is not lost with the node that took it.
/// Method: a start waits for two acknowledgements, then its node loses its power; the child runs.
#[test]
fn an_acknowledged_replicated_start_survives_the_node_that_took_it() {
    for seed in 0..6 {
        let mut cluster = cluster(seed, 3);
        let (node, scope) = (cluster.up()[seed as usize % 3], cluster.scope());
        let start = haulout::proto::Command::Start { scope, spec: spec("child"), replicated: 2 };
        assert!(matches!(cluster.call(node, start), Reply::Started(Ok(true))));
        cluster.lose_power(node);
        cluster.run_for(DETECTION_MAX);
        cluster.converge_to(REST, &["child"]);
    }
}

/// Goal: a call about a child works from any node, also from one that has not heard of it yet.
/// Method: in the instant of its start, one node waits for it and another replaces its spec; an unknown one is still unknown.
#[test]
fn a_child_that_a_node_has_not_heard_of_is_looked_for() {
    for seed in 0..6 {
        let mut cluster = cluster(seed, 3);
        start(&mut cluster, A, spec("child"));
        let waited = cluster.wait_until_running(B, "child");
        let updated = cluster.update(C, spec("child").restart(Restart::Transient));
        assert!(matches!(cluster.wait(updated), Reply::Updated(Ok(true))), "seed {seed}");
        assert!(matches!(cluster.wait(waited), Reply::Running(Ok(_))), "seed {seed}");
        cluster.converge_to(SOON, &["child"]);
        assert_eq!(alive(&cluster, "child").spec.restart, Restart::Transient);
        let unknown = cluster.update(C, spec("nobody"));
        assert!(matches!(cluster.wait(unknown), Reply::Updated(Err(UpdateError::NotFound))));
    }
}

/// Goal: a bulk start in a large cluster costs each pair of members a few datagrams, not one per child; a single start is
/// not held up by that. Method: 600 children at once on 30 nodes, all running on time; then one more.
#[test]
fn a_bulk_start_in_a_large_cluster_asks_in_batches() {
    let nodes = 30;
    let mut cluster = cluster(1, nodes);
    let (asked, sent) = (cluster.total_stats().asks_sent, cluster.traffic().datagrams);
    let wanted = start_many(&mut cluster, 600);
    cluster.run_for(SOON);
    let running = cluster.journal().alive().filter(|run| run.is_running()).count();
    assert_eq!(running, wanted.len());
    let asks = cluster.total_stats().asks_sent - asked;
    let datagrams = cluster.traffic().datagrams - sent;
    assert!(asks >= 600 * (nodes as u64 - 1), "everybody is asked");
    assert!(datagrams < asks, "{datagrams} datagrams for {asks} Asks and their answers");

    cluster.run_for(secs(5));
    let before = cluster.now();
    start(&mut cluster, A, spec("single"));
    cluster.run_for(SOON);
    let run = cluster.journal().alive().find(|run| run.id.to_string() == "single").expect("it runs");
    assert!(run.began.since(before) <= ROUND_TRIP * 2, "after {:?}", run.began.since(before));
    assert_invariants(&cluster);
}

/// Whether a datagram asks for a child.
fn is_question(datagram: &Datagram, codec: &Codec) -> bool {
    let mut scratch = Vec::new();
    let Ok(packet) = codec.peek(&datagram.bytes, &mut scratch) else { return false };
    let mut rest = packet.messages;
    while let Ok((message, after)) = postcard::take_from_bytes::<Message>(rest) {
        if matches!(message, Message::Scoped(ScopeMessage::Ask(_))) {
            return true;
        }
        rest = after;
    }
    false
}

/// Goal: whoever asks many members does not ask them all at once, or all would answer at once; the child starts when the last
/// one has. Method: 30 nodes of which each may ask four per millisecond; a start, and who was asked when.
#[test]
fn many_members_are_asked_a_few_at_a_time() {
    let options = Options { fanout: Fanout::at_most(1), capture: true, ..Options::seeded(4) };
    let mut cluster = cluster_with(options, 30);
    cluster.run_for(secs(5));
    let before = cluster.now();
    start(&mut cluster, A, spec("child"));
    cluster.run_for(SOON);
    let codec = Codec::plaintext(&cluster.options().config.cluster);
    let sent = cluster.captured().iter().filter(|datagram| datagram.sent >= before);
    let asked: Vec<_> = sent.filter(|datagram| is_question(datagram, &codec)).collect();
    assert_eq!(asked.iter().map(|datagram| datagram.to).collect::<BTreeSet<_>>().len(), 29);
    for first in &asked {
        let within = asked.iter().filter(|other| (first.sent..first.sent + millis(1)).contains(&other.sent)).count();
        assert!(within <= 4, "{within} within a millisecond");
    }
    let run = alive(&cluster, "child");
    assert!(run.began.since(before) <= millis(8) + ROUND_TRIP * 2, "after {:?}", run.began.since(before));
    assert_invariants(&cluster);
}
