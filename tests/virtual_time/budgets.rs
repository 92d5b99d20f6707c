//! No herd: slow starts and moves are begun a few at a time, and scopes take turns.

use std::time::Duration;

use haulout::Event;
use haulout::proto::{Command, Fanout, Reply, ScopeId, Time};
use haulout_sim::children::Plan;
use haulout_sim::random::Range;
use haulout_sim::{Cluster, NodeIdx, Options};

use crate::support::*;

/// A cluster whose nodes start so many children at once, each of which takes so long to start.
fn slow(nodes: usize, starting_max: usize, init_ms: u64) -> Cluster {
    let mut options = Options::seeded(11);
    options.config.limits.starting_max = starting_max;
    let mut cluster = cluster_with(options, nodes);
    cluster.children().plan(Plan { start_delay: Range::fixed(millis(init_ms)), ..Plan::default() });
    cluster
}

/// How many children are starting on each node, at most.
fn starting(cluster: &Cluster) -> usize {
    let starting = |node: NodeIdx| {
        let mine = cluster.journal().alive().filter(move |run| run.node == node);
        mine.filter(|run| !run.is_running()).count()
    };
    cluster.up().into_iter().map(starting).max().unwrap_or(0)
}

fn running(cluster: &Cluster) -> usize {
    cluster.journal().alive().filter(|run| run.is_running()).count()
}

/// Goal: slow children start no more at once than the budget has places, and it is used. Method: 60 children that take
/// half a second each, on three nodes with four places each; they need five rounds of half a second and no more than
/// about the imbalance beside that.
#[test]
fn slow_starts_keep_to_the_budget() {
    let mut cluster = slow(3, 4, 500);
    for id in ids(60) {
        let request = cluster.start(A, spec(&id));
        assert!(matches!(cluster.wait(request), Reply::Started(Ok(true))));
    }
    let mut most = 0;
    cluster.expect(secs(6), "all run", |cluster| {
        most = most.max(starting(cluster));
        running(cluster) == 60
    });
    assert_eq!(most, 4);
    assert!(cluster.total_stats().starts_held > 0);
    assert_invariants(&cluster);
}

/// Goal: a node that joins makes few gaps at a time, however slowly children start there. Method: 40 children run on one
/// node, another one with two places joins; at every moment no more than two children run nowhere, and about half move.
#[test]
fn a_join_opens_few_gaps_at_once() {
    let mut cluster = slow(1, 2, 100);
    start_many(&mut cluster, 40);
    cluster.add_node("b");
    let mut fewest = 40;
    let moved = |cluster: &Cluster| cluster.journal().alive().filter(|run| run.node == B && run.is_running()).count();
    cluster.expect(REST, "its share runs there", |cluster| {
        fewest = fewest.min(running(cluster));
        running(cluster) == 40 && moved(cluster) >= 12 && starting(cluster) == 0
    });
    assert!((38..40).contains(&fewest), "{fewest} ran at the worst moment");
    cluster.converge(REST);
    assert_invariants(&cluster);
}

/// What a node told of the starts that are under way there: how many were left and ran, and when.
fn progress(cluster: &Cluster, node: NodeIdx, from: Time) -> Vec<(Time, u64, u64, Duration)> {
    let events = events_from(cluster, node, from).into_iter();
    let told = events.filter_map(|(at, event)| match event {
        Event::StartsUnderWay { left, running, waited } => Some((at, left, running, waited)),
        _ => None,
    });
    told.collect()
}

/// Goal: whoever starts many slow children can follow how far they are. Method: 40 children that take half a second each on
/// one node with four places: every second it says how many are left, with how many that run these are all; the longest
/// wait grows, and the last word comes when none waits any more. A bulk that is over within a second is told nothing of.
#[test]
fn a_slow_bulk_is_told_of_every_second_and_a_quick_one_is_not() {
    let mut cluster = slow(1, 4, 500);
    let began = cluster.now();
    start_many(&mut cluster, 40);
    cluster.expect(secs(10), "all run", |cluster| running(cluster) == 40);
    cluster.run_for(secs(3));
    let told = progress(&cluster, A, began);
    assert!((4..=7).contains(&told.len()), "{told:?}");
    assert!(told.iter().all(|(_, left, running, _)| left + running == 40), "{told:?}");
    assert!(told.windows(2).all(|pair| pair[1].0.since(pair[0].0) == secs(1) && pair[1].1 < pair[0].1), "{told:?}");
    let (last, earlier) = told.split_last().unwrap();
    assert!(last.1 <= 4 && earlier.iter().all(|(_, left, ..)| *left > 4), "{told:?}");
    assert!(earlier.windows(2).all(|pair| pair[1].3 > pair[0].3), "{told:?}");

    let mut cluster = slow(1, 4, 50);
    let began = cluster.now();
    start_many(&mut cluster, 40);
    cluster.expect(secs(1), "all run", |cluster| running(cluster) == 40);
    cluster.run_for(secs(3));
    assert!(cluster.total_stats().starts_held > 0);
    assert_eq!(progress(&cluster, A, began), []);
}

/// Goal: children that are started all the time are no bulk, though in a large cluster each waits a moment to ask together
/// with others. Method: three nodes that take themselves for many; a handful of children that start at once, a second later
/// some every half of a millisecond, so that some wait whenever it is looked, and nothing is told.
#[test]
fn starts_that_only_wait_to_ask_together_are_not_told_of() {
    let mut cluster = cluster_with(Options { fanout: Fanout::at_most(1), ..Options::seeded(11) }, 3);
    let began = cluster.now();
    for number in 0..630 {
        let _ = cluster.start(A, spec(&name(number)));
        if number == 30 {
            cluster.run_for(millis(990));
        } else if number > 30 && number % 15 == 0 {
            cluster.run_for(Duration::from_micros(500));
        }
    }
    cluster.expect(REST, "all run", |cluster| running(cluster) == 630);
    cluster.run_for(secs(3));
    let told: Vec<_> = cluster.up().into_iter().flat_map(|node| progress(&cluster, node, began)).collect();
    assert_eq!(told, []);
}

/// Goal: a bulk in one scope does not keep another one waiting for its end. Method: with one place, 30 slow children in
/// one scope, then three in another: these run when no more than a handful of the others do.
#[test]
fn scopes_take_turns() {
    let mut cluster = slow(1, 1, 100);
    let other = ScopeId::of("other");
    let joined = cluster.join_scope(A, "other", &["kind"], Vec::new());
    assert!(matches!(cluster.wait(joined), Reply::Joined(Ok(_))));
    cluster.converge(REST);
    for id in ids(30) {
        start(&mut cluster, A, spec(&id));
    }
    for child in ["x", "y", "z"] {
        let command = Command::Start { scope: other, spec: spec(child), replicated: 0 };
        assert!(matches!(cluster.call(A, command), Reply::Started(Ok(true))));
    }
    let in_other =
        |cluster: &Cluster| cluster.journal().alive().filter(|run| run.scope == other && run.is_running()).count() == 3;
    cluster.expect(secs(3), "the others run", |cluster| in_other(cluster));
    let first = running(&cluster) - 3;
    assert!(first <= 6, "{first} of the bulk came first");
}

/// Goal: a start that hangs does not hold up the others for ever. Method: one place; the first child takes a minute, more than
/// `start_timeout`, the others no time: they run when the first has had the place for five seconds.
#[test]
fn a_start_that_hangs_gives_its_place_up() {
    let mut cluster = slow(1, 1, 0);
    let hanging = Plan { start_delay: Range::fixed(secs(60)), ..Plan::default() };
    cluster.children().plan_args(b"hanging", hanging);
    start(&mut cluster, A, spec("hanging"));
    for id in ids(10) {
        start(&mut cluster, A, spec(&id));
    }
    cluster.run_for(secs(4));
    assert_eq!(running(&cluster), 0);
    cluster.expect(secs(2), "the others run", |cluster| running(cluster) == 10);
    assert_invariants(&cluster);
}

/// Goal: who waits for a place is silent: a thousand children behind a few slow ones cost nothing meanwhile. Method: three
/// nodes with two places, inits of two seconds, 200 children; the asks are little more than two for each that started.
#[test]
fn who_waits_for_a_place_asks_for_nothing() {
    let mut cluster = slow(3, 2, 2_000);
    for id in ids(200) {
        start(&mut cluster, A, spec(&id));
    }
    cluster.run_for(secs(30));
    let (stats, begun) = (cluster.total_stats(), cluster.journal().runs().len() as u64);
    assert!(begun >= 60, "{begun} have begun");
    assert!(stats.asks_sent <= 2 * (2 * begun + 3 * 16), "{} asks for {begun} starts", stats.asks_sent);
    assert_eq!(stats.asks_relayed, 0);
}

/// Goal: children that crash together are restarted within the budget too. Method: 20 children of one node with two
/// places fail in the same moment, once.
#[test]
fn restarts_keep_to_the_budget() {
    let mut cluster = slow(1, 2, 100);
    let mut begun = 0;
    cluster.children().plan_with(move |_, _, _| {
        begun += 1;
        let end = (begun <= 20).then(|| (Range::fixed(secs(5)), haulout::Outcome::Error("tired".into())));
        Some(Plan { start_delay: Range::fixed(millis(100)), end, ..Plan::default() })
    });
    for id in ids(20) {
        start(&mut cluster, A, spec(&id));
    }
    let mut most = 0;
    cluster.expect(secs(30), "all run for the second time", |cluster| {
        most = most.max(starting(cluster));
        cluster.journal().runs().len() == 40 && running(cluster) == 20
    });
    assert_eq!(most, 2);
    assert_invariants(&cluster);
}
