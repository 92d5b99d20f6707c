//! What nodes measure of themselves, beside what can be seen from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use haulout::proto::{Command, Fanout, RequestId, ScopeId, Stats};
use haulout::{Key, ScopeStats, Security};
use haulout_sim::measures::orphans;
use haulout_sim::{Cluster, NodeIdx, NodeOptions, Options, Plan, Range};

use crate::pair::Pair;
use crate::support::*;

fn measured(cluster: &Cluster, node: NodeIdx) -> Stats {
    cluster.node(node).expect("it lives").measured()
}

fn all_scopes(cluster: &Cluster) -> ScopeStats {
    let mut sum = ScopeStats::default();
    cluster.up().into_iter().for_each(|node| sum.add(&measured(cluster, node).scopes));
    sum
}

fn orphan_time(cluster: &Cluster) -> Duration {
    Duration::from_nanos(cluster.total_stats().orphan_nanos)
}

/// Goal: gauges show how a node stands. Method: a cluster at rest, where everything is known; then a member is suspected.
#[test]
fn gauges_show_how_a_node_stands() {
    let mut cluster = cluster(1, 3);
    start_many(&mut cluster, 30);
    cluster.run_for(secs(10));
    let sum = all_scopes(&cluster);
    assert_eq!((sum.children_running, sum.children_desired, sum.members_settled), (30, 90, 9));
    assert_eq!((sum.children_waiting, sum.children_starting, sum.children_backing_off), (0, 0, 0));
    let stats = measured(&cluster, A);
    assert_eq!((stats.members_alive, stats.members_suspected, stats.scopes_joined), (2, 0, 1));
    assert!(stats.probes_sent >= 5 && stats.probes_answered >= stats.probes_sent - 1, "{stats:?}");
    let rtt = Duration::from_nanos(stats.probe_rtt_nanos);
    assert!(rtt > Duration::ZERO && rtt <= ROUND_TRIP, "{rtt:?}");
    assert!(stats.swim_packets_received > 0 && stats.liveness_messages_received > 0);
    assert!(stats.handover_messages_received > 0 && stats.record_messages_received > 0);
    cluster.lose_power(B);
    cluster.expect(secs(5), "it is suspected", |cluster| measured(cluster, A).members_suspected == 1);
    cluster.run_for(secs(10));
    assert_eq!((measured(&cluster, A).members_alive, measured(&cluster, A).members_remembered_down), (1, 1));
}

/// Goal: an operator sees what a node sends for what, and none of it is left out or counted twice. Method: two nodes that know
/// each other, between which nothing is lost: of each kind one has sent, in messages and bytes, what the other one has taken.
/// So many children start at once that their Asks fit into one datagram, need several, need a stream.
#[test]
fn what_is_sent_by_kind_is_what_arrives_by_kind() {
    for security in [Security::default(), Security::Keyring { keys: vec![Key::new([7; 32])], file: None, env: None }] {
        let mut pair = Pair::with_security(security);
        let rest = |pair: &mut Pair| {
            let until = pair.now + secs(60);
            pair.run_until(|pair| pair.now >= until);
            pair.nodes.each_ref().map(|node| node.stats().counters().collect::<BTreeMap<_, _>>())
        };
        let before = rest(&mut pair);
        for count in [1, 40, 2_000] {
            for number in 0..count {
                let (scope, spec) = (ScopeId::of("bench"), spec(&format!("{number} of {count}")));
                pair.nodes[0].command(pair.now, RequestId(2), Command::Start { scope, spec, replicated: 0 });
            }
            pair.carry_all();
        }
        let after = rest(&mut pair);
        let grown = |node: usize, name: &str| after[node].get(name).map(|value| value - before[node][name]);
        for name in before[0].keys().filter(|name| name.ends_with("_sent")) {
            for (sender, receiver) in [(0, 1), (1, 0)] {
                let received = grown(receiver, &name.replace("_sent", "_received"));
                assert!(received.is_none() || received == grown(sender, name), "{name}: {received:?}");
                assert!(received != Some(0), "{name}");
            }
        }
    }
}

/// Goal: rumours are counted like what is told directly. Method: five nodes that take themselves for many, from rest to rest:
/// every record that was sent was read, or had been heard before.
#[test]
fn rumours_are_counted_among_the_records_that_are_sent() {
    let mut cluster = cluster_with(Options { fanout: Fanout::at_most(2), ..Options::seeded(4) }, 5);
    let rest = |cluster: &mut Cluster| {
        cluster.run_for(secs(60));
        let stats = cluster.total_stats();
        [stats.record_messages_sent, stats.record_messages_received, stats.rumours_heard_again]
    };
    let before = rest(&mut cluster);
    start_many(&mut cluster, 30);
    let after = rest(&mut cluster);
    let [sent, read, heard_again] = [0, 1, 2].map(|n| after[n] - before[n]);
    assert!(heard_again > 30, "{heard_again}");
    assert_eq!(sent, read + heard_again);
}

/// Goal: children that nobody can run show, and only as long as that is so. Method: a child of a kind that no node knows; then
/// one joins that does, and drains.
#[test]
fn children_that_no_node_can_run_are_counted() {
    let mut cluster = cluster(5, 3);
    start_many(&mut cluster, 10);
    assert!(start(&mut cluster, A, spec_of("rare", "other")));
    let unplaced = |cluster: &Cluster| -> Vec<u64> {
        cluster.up().into_iter().map(|node| measured(cluster, node).scopes.children_unplaced).collect()
    };
    cluster.expect(SOON, "everybody knows", |cluster| unplaced(cluster) == [1, 1, 1]);
    let able = NodeOptions { kinds: vec!["other".into()], ..cluster.node_options() };
    let able = cluster.add_node_with("able", able);
    cluster.expect(secs(10), "it is placed", |cluster| unplaced(cluster) == [0; 4]);
    let _ = cluster.leave(able);
    cluster.expect(secs(10), "nobody is left for it", |cluster| unplaced(cluster) == [1, 1, 1]);
    terminate(&mut cluster, A, "rare");
    cluster.expect(SOON, "nobody has to", |cluster| unplaced(cluster) == [0, 0, 0]);
}

/// Goal: what waits shows for how long it has. Method: a node that waits for the state of its scope, then four children that
/// start one after the other for half a second each: the second and the third wait for each start before theirs.
#[test]
fn what_waits_shows_for_how_long() {
    let mut options = Options::seeded(6);
    options.config.limits.starting_max = 1;
    let mut cluster = Cluster::new(options);
    cluster.add_node("a");
    cluster.run_for(millis(500));
    let unsettled = Duration::from_nanos(measured(&cluster, A).scopes.unsettled_nanos_max);
    assert!(unsettled > millis(250) && unsettled <= millis(500), "{unsettled:?}");
    cluster.converge(REST);
    assert_eq!(measured(&cluster, A).scopes.unsettled_nanos_max, 0);
    cluster.children().plan(Plan { start_delay: Range::fixed(millis(500)), ..Plan::default() });
    for child in ids(4) {
        let _ = cluster.start(A, spec(&child));
    }
    for (held, waited_ms) in [(3, 400), (2, 800), (1, 1_200), (0, 0)] {
        cluster.run_for(millis(400));
        let scope = measured(&cluster, A).scopes;
        assert_eq!(scope.children_held, held);
        // A node knows the time of what it was told last.
        let waited = Duration::from_nanos(scope.held_nanos_max);
        assert!(waited <= millis(waited_ms) && waited + millis(250) >= millis(waited_ms), "{held}: {waited:?}");
    }
}

/// Goal: a node at rest wakes only to say something. Method: two nodes that have told each other everything, for a minute.
/// Each gives two signs of life and sends one probe a second; besides, there are a few slow turns.
#[test]
fn a_node_at_rest_wakes_only_to_say_something() {
    let mut pair = Pair::with_security(Security::default());
    pair.run_until(|pair| pair.nodes.iter().all(|node| node.is_quiet() && node.active().len() == 1));
    let mut wakeups_in_a_minute = || {
        let (before, until) = (pair.wakeups, pair.now + secs(60));
        pair.run_until(|pair| pair.now >= until);
        pair.wakeups - before
    };
    wakeups_in_a_minute();
    let wakeups = wakeups_in_a_minute();
    assert!((2 * 180..2 * 240).contains(&wakeups), "{wakeups}");
}

/// Goal: orphan-seconds are those that a node can know: from when it knows that nobody runs a child until it runs.
/// Method: an `init` takes half a second, a stop two. A start and a crash cost the `init`, and no more than what was seen from
/// outside; a move costs that too, but not the wait for the stop, during which the child runs.
#[test]
fn orphan_time_is_counted_from_when_it_is_known_until_the_child_runs() {
    let mut cluster = cluster(2, 3);
    let init = millis(500);
    let plan =
        Plan { start_delay: Range::millis(500, 500), stop_delay: Range::millis(2_000, 2_000), ..Plan::default() };
    cluster.children().plan_args(b"child-000", plan);
    start_many(&mut cluster, 1);
    let first = orphan_time(&cluster);
    assert!(first >= init && first < init + millis(100), "{first:?}");

    let crashed = runner(&cluster, "child-000");
    cluster.crash(crashed);
    converge_to(&mut cluster, REST, &ids(1));
    let second = orphan_time(&cluster) - first;
    let seen: Duration = orphans(cluster.journal(), cluster.history()).iter().sum();
    assert!(second >= init && second <= init + seen, "{second:?} of {seen:?}");

    let leaving = runner(&cluster, "child-000");
    let _ = cluster.leave(leaving);
    cluster.run_for(secs(5));
    converge_to(&mut cluster, REST, &ids(1));
    let third = orphan_time(&cluster) - first - second;
    assert!(third >= init && third < init + millis(150), "{third:?}");
}

/// Goal: a child that can't be started shows, while that lasts. Method: its `init` always fails; the oldest gap grows.
#[test]
fn a_child_that_does_not_come_up_shows_as_the_oldest_orphan() {
    let mut cluster = cluster(3, 3);
    cluster.children().plan_args(b"bad", Plan::failing("no database"));
    let _ = cluster.start(A, spec("bad"));
    cluster.run_for(secs(20));
    let oldest = Duration::from_nanos(all_scopes(&cluster).orphan_nanos_max);
    assert!(oldest > secs(19) && oldest <= secs(20), "{oldest:?}");
    assert_eq!(all_scopes(&cluster).children_backing_off, 1);
}

/// Goal: the audit gets to every child, however many there are, and begins anew when it has. Method: one node with 200
/// children; each step of what it counts.
#[test]
fn the_audit_looks_at_every_child_in_turn() {
    let mut options = Options::seeded(1);
    options.config.sync_interval = millis(100);
    let mut cluster = cluster_with(options, 1);
    start_many(&mut cluster, 200);
    converge_to(&mut cluster, SOON, &ids(200));
    let mut looked_at = vec![];
    for _ in 0..2_000 {
        let before = cluster.stats(A).audited;
        cluster.run_for(millis(1));
        looked_at.extend(Some(cluster.stats(A).audited - before).filter(|count| *count > 0));
    }
    let begun = looked_at.iter().position(|count| *count == 40).expect("the end of a round") + 1;
    assert!(looked_at.len() > begun + 10, "{looked_at:?}");
    assert!(looked_at[begun..].chunks(3).all(|round| [80, 80, 40].starts_with(round)), "{looked_at:?}");
    assert_eq!(cluster.stats(A).audit_repairs, 0);
}
