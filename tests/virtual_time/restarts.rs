//! Children that fail: restarted in place, backing off, or done, and never to the harm of their siblings.

use haulout::proto::StartChild;
use haulout::{ChildState, Event, Outcome, Restart};
use haulout_sim::{Cluster, NodeIdx, Options, Plan, Range, Start};

use crate::support::*;

/// Runs `child` so that its first `failures` runs go by `plan` and the later ones run for ever.
fn fail_first(cluster: &mut Cluster, failures: u32, plan: Plan) {
    cluster.children().plan_with(move |_, start: &StartChild, _| {
        (start.id == id("child") && start.epoch.run <= failures).then(|| plan.clone())
    });
}

fn panics() -> Outcome {
    Outcome::Panic("index out of bounds".into())
}

fn error() -> Outcome {
    Outcome::Error("connection lost".into())
}

/// Goal: a crash is repaired where it happened, at once, under a higher epoch.
/// Method: the first two runs end by an error, a panic or success; the journal shows three runs on one node.
#[test]
fn a_crashed_or_panicking_child_is_restarted_in_place_with_a_higher_epoch() {
    for outcome in [error(), panics(), Outcome::Success] {
        let mut cluster = cluster(1, 3);
        fail_first(&mut cluster, 2, Plan::ending(Range::millis(700, 900), outcome));
        start(&mut cluster, A, spec("child"));
        cluster.run_for(secs(10));
        cluster.converge_to(SOON, &["child"]);
        let runs = runs(&cluster, "child");
        assert_eq!(runs.len(), 3);
        assert!(runs.iter().all(|run| run.node == runs[0].node), "{runs:?}");
        assert!(runs.windows(2).all(|pair| Some(pair[1].began) == pair[0].ended), "restarted at once: {runs:?}");
        assert_epochs_rise(&runs);
    }
}

/// Goal: epochs rise along restarts, moves, failovers and updates alike.
/// Method: a crashing child meets a joining node, crashes of nodes and restarts; all its runs are compared.
#[test]
fn epochs_strictly_rise_along_restarts_moves_and_failovers() {
    for seed in 0..4 {
        let mut cluster = cluster(seed, 3);
        cluster.children().plan_args(b"child", Plan::ending(Range::millis(2_000, 6_000), error()));
        start(&mut cluster, A, spec("child"));
        for round in 0..4 {
            cluster.run_for(secs(7));
            if round % 2 == 0 {
                cluster.add_node(&name(10 + round));
            } else {
                cluster.expect(secs(5), "it runs", |cluster| cluster.journal().alive().count() == 1);
                let runner = runner(&cluster, "child");
                cluster.crash(runner);
                cluster.run_for(DETECTION_MAX);
            }
        }
        let runs = runs(&cluster, "child");
        assert!(runs.len() > 6, "seed {seed}: {}", runs.len());
        assert_epochs_rise(&runs);
        assert_no_overlap(&cluster);
    }
}

/// Starts siblings, then `child`, and asserts that it backs off visibly and that nothing happens to anything else.
#[track_caller]
fn assert_backs_off_alone(plan: Plan, reason: &str, at_once: usize) {
    let mut cluster = cluster(7, 3);
    let siblings = start_many(&mut cluster, 20);
    cluster.children().plan_args(b"child", plan);
    let from = cluster.now();
    start(&mut cluster, A, spec("child"));
    cluster.run_for(secs(60));
    let runs = runs(&cluster, "child");
    assert!((5..20).contains(&runs.len()), "{} runs in a minute", runs.len());
    assert_epochs_rise(&runs);
    assert_no_overlap(&cluster);

    // The pauses: a few restarts at once as the spec allows, then half a second, doubling, with a quarter of jitter.
    let pauses: Vec<_> = runs.windows(2).map(|pair| pair[1].began.since(pair[0].ended.expect("ended"))).collect();
    assert!(pauses[..at_once].iter().all(|pause| pause.is_zero()), "{pauses:?}");
    for (number, pause) in pauses[at_once..].iter().enumerate() {
        let base = millis(500 << number);
        assert!((base * 3 / 4..=base * 5 / 4).contains(pause), "pause {number} was {pause:?}");
    }

    let runner = runs[0].node;
    for node in cluster.up() {
        cluster.expect(secs(90), "its backoff is listed", |cluster| {
            let info = info(cluster, node, "child").expect("listed");
            let runner = cluster.name(runner);
            info.state == ChildState::Backoff
                && info.last_error.as_deref() == Some(reason)
                && info.restarts >= 4
                && info.node.as_deref() == Some(runner)
        });
    }
    let events = events_from(&cluster, runner, from);
    assert!(events.iter().any(|(_, event)| matches!(event, Event::ChildBackoff { id: of, .. } if *of == id("child"))));
    for sibling in siblings {
        let runs = crate::support::runs(&cluster, &sibling);
        assert!(runs.len() == 1 && runs[0].is_running(), "{sibling} was disturbed");
    }
}

/// Goal: a child that can't start is retried ever more rarely, and everybody sees why.
/// Method: its `init` fails for ever.
#[test]
fn a_child_that_cannot_start_backs_off_visibly_and_disturbs_no_sibling() {
    assert_backs_off_alone(Plan::failing("no disk"), "no disk", 0);
}

/// Goal: the same for an `init` that panics.
/// Method: its `init` panics for ever.
#[test]
fn a_child_whose_init_panics_backs_off_visibly_and_disturbs_no_sibling() {
    let plan = Plan { start: Start::Panics("bad index".into()), ..Plan::default() };
    assert_backs_off_alone(plan, "bad index", 0);
}

/// Goal: a crash loop slows down: three restarts at once as in OTP, then pauses.
/// Method: it ends with an error as soon as it runs, for ever.
#[test]
fn a_child_that_exits_at_once_for_ever_backs_off_visibly_and_disturbs_no_sibling() {
    assert_backs_off_alone(Plan::ending(Range::millis(1, 2), error()), "connection lost", 3);
}

/// Goal: success at once for ever is a crash loop too for a Permanent child.
/// Method: the restarts within a minute are few.
#[test]
fn a_permanent_child_that_returns_at_once_for_ever_backs_off() {
    let mut cluster = cluster(8, 3);
    cluster.children().plan_args(b"child", Plan::ending(Range::millis(1, 2), Outcome::Success));
    start(&mut cluster, A, spec("child"));
    cluster.run_for(secs(60));
    let count = runs(&cluster, "child").len();
    assert!((5..20).contains(&count), "{count} runs in a minute");
}

/// Goal: an `init` that hangs is a failed start, not a hung supervisor.
/// Method: it takes an hour; runs end after the configured 30 s and are retried.
#[test]
fn an_init_that_hangs_is_a_failed_start() {
    let mut cluster = cluster(9, 3);
    cluster.children().plan_args(b"child", Plan { start_delay: Range::fixed(secs(3600)), ..Plan::default() });
    start(&mut cluster, A, spec("child"));
    cluster.run_for(secs(70));
    let runs = runs(&cluster, "child");
    assert_eq!(runs.len(), 3);
    assert!(runs[..2].iter().all(|run| run.ended == Some(run.began + secs(30))));
}

/// Runs a child with this policy to its end, then asserts that it is gone for good: here, after a failover, and
/// after everyone else restarted.
#[track_caller]
fn assert_done_stays_done(seed: u64, restart: Restart, outcome: Outcome) {
    let mut cluster = cluster(seed, 3);
    cluster.children().plan_args(b"child", Plan::ending(Range::millis(800, 800), outcome.clone()));
    start(&mut cluster, NodeIdx(seed as usize % 3), spec("child").restart(restart));
    cluster.run_for(millis(500));
    let runner = runner(&cluster, "child");
    cluster.run_for(secs(20));
    cluster.converge_to(SOON, &[]);
    let completed = events_from(&cluster, runner, haulout::proto::Time::ZERO);
    let expected = Event::ChildCompleted { id: id("child"), outcome: outcome.clone() };
    assert!(completed.iter().any(|(_, event)| *event == expected), "{restart:?}, {outcome:?}: no event");

    cluster.crash(runner);
    cluster.run_for(DETECTION_MAX);
    cluster.converge_to(REST, &[]);
    cluster.restart(runner);
    cluster.converge_to(REST, &[]);
    let others: Vec<NodeIdx> = cluster.up().into_iter().filter(|&node| node != runner).collect();
    for node in others {
        cluster.crash(node);
        cluster.run_for(millis(200));
        cluster.restart(node);
        cluster.converge_to(REST, &[]);
    }
    assert_rests(&mut cluster, secs(20));
    assert_eq!(runs(&cluster, "child").len(), 1, "{restart:?}, {outcome:?}: it was started again");
}

/// Goal: a Transient child that succeeded is never started again by anybody.
/// Method: it succeeds once; then its node dies, returns, and all others restart.
#[test]
fn a_transient_child_that_is_done_stays_done() {
    (0..3).for_each(|seed| assert_done_stays_done(seed, Restart::Transient, Outcome::Success));
}

/// Goal: a Temporary child is never started again, however it ended.
/// Method: as for Transient, after success, an error and a panic.
#[test]
fn a_temporary_child_that_is_done_stays_done() {
    for (seed, outcome) in [Outcome::Success, error(), panics()].into_iter().enumerate() {
        assert_done_stays_done(seed as u64, Restart::Temporary, outcome);
    }
}

/// Goal: a Transient child that fails is restarted until it succeeds.
/// Method: two errors, then success; three runs, and then none.
#[test]
fn a_transient_child_is_restarted_after_errors_until_it_succeeds() {
    let mut cluster = cluster(3, 3);
    cluster.children().plan_args(b"child", Plan::ending(Range::millis(500, 500), Outcome::Success));
    fail_first(&mut cluster, 2, Plan::ending(Range::millis(500, 500), error()));
    start(&mut cluster, A, spec("child").restart(Restart::Transient));
    cluster.run_for(secs(30));
    cluster.converge_to(SOON, &[]);
    let runs = runs(&cluster, "child");
    assert_eq!(runs.iter().map(|run| run.succeeded()).collect::<Vec<_>>(), [false, false, true]);
}

/// Goal: a Temporary child whose node dies is done too: it is not restarted elsewhere.
/// Method: its node is killed while it runs; it disappears from every listing and has one run.
#[test]
fn a_temporary_child_is_not_restarted_when_its_node_dies() {
    for seed in 0..3 {
        let mut cluster = cluster(seed, 3);
        start(&mut cluster, A, spec("child").restart(Restart::Temporary));
        cluster.converge_to(SOON, &["child"]);
        let runner = runner(&cluster, "child");
        cluster.crash(runner);
        cluster.run_for(DETECTION_MAX);
        cluster.converge_to(REST, &[]);
        assert_eq!(runs(&cluster, "child").len(), 1, "seed {seed}");
    }
}

/// Goal: whoever is left alone finishes what that means for its children at once, and leaves nothing to the next input.
/// Method: timers are late, so that a death and an audit often fall into one input; the audit finds nothing to repair.
#[test]
fn temporary_children_are_done_at_once_on_the_last_node() {
    for seed in 0..40 {
        let mut options = Options { timer_lateness: Range::millis(0, 40), ..Options::seeded(seed) };
        options.config.sync_interval = millis(100);
        let mut cluster = cluster_with(options, 2);
        for child in ids(8) {
            start(&mut cluster, A, spec(&child).restart(Restart::Temporary));
        }
        cluster.run_for(SOON);
        cluster.crash(B);
        cluster.run_for(DETECTION_MAX);
        assert_eq!(cluster.stats(A).audit_repairs, 0, "seed {seed}");
    }
}

/// Goal: a Temporary child is never moved.
/// Method: nodes join until other children have moved; no Temporary one has.
#[test]
fn a_temporary_child_is_never_moved() {
    let mut cluster = cluster(4, 2);
    for child in ids(20) {
        start(&mut cluster, A, spec(&child).restart(Restart::Temporary));
    }
    start(&mut cluster, A, spec("child"));
    cluster.run_for(SOON);
    for number in 2..8 {
        cluster.add_node(&name(number));
        cluster.run_for(secs(8));
    }
    assert!(ids(20).iter().all(|child| runs(&cluster, child).len() == 1 && runs(&cluster, child)[0].is_running()));
}
