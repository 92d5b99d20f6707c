//! Processes that are slow, doubled, or have a wrong clock.

use std::time::Duration;

use haulout::Event;
use haulout_sim::history::FaultKind;
use haulout_sim::{Cluster, NodeIdx, Options, Range};

use crate::support::*;

/// Everything that a node could tell by mistake about the others.
fn downs(cluster: &Cluster) -> u64 {
    cluster.up().into_iter().map(|node| cluster.stats(node).members_down).sum()
}

/// Goal: a node that hears everything late, but sooner than anybody loses patience, stays a member and does its work.
/// Method: 20 to 60 ms for each input while children are started through it and through others.
#[test]
fn a_somewhat_slow_node_remains_a_member_and_runs_its_children() {
    for seed in 0..3 {
        let mut cluster = cluster(seed, 4);
        cluster.slow(B, Some(Range::millis(20, 60)));
        let wanted = ids(24);
        for (number, child) in wanted.iter().enumerate() {
            start(&mut cluster, NodeIdx(number % 4), spec(child));
        }
        cluster.run_for(secs(60));
        assert_eq!(downs(&cluster), 0, "seed {seed}");
        assert!(!running_on(&cluster, B).is_empty(), "seed {seed}");
        assert_no_overlap(&cluster);
        cluster.slow(B, None);
        cluster.run_for(SOON);
        converge_to(&mut cluster, REST, &wanted);
    }
}

/// Goal: a node that is too slow to take part is like a paused one: others take over, and it gives way afterwards.
/// Method: seconds for each input, for a minute; then the cluster converges.
#[test]
fn a_node_that_was_far_too_slow_recovers() {
    for seed in 0..3 {
        let mut cluster = cluster(seed, 4);
        let wanted = start_many(&mut cluster, 24);
        cluster.slow(B, Some(Range::millis(3_000, 9_000)));
        cluster.run_for(secs(60));
        assert!(downs(&cluster) > 0, "seed {seed}");
        cluster.slow(B, None);
        cluster.run_for(secs(10));
        converge_to(&mut cluster, REST, &wanted);
        assert_rests(&mut cluster, secs(20));
        let slow = cluster.history().faults.iter().find(|fault| fault.kind == FaultKind::Slow(B));
        assert!(slow.is_some_and(|fault| fault.to.is_some()));
    }
}

/// Goal: what a slow process hears stays in order, through pauses and when it is slow no more.
/// Method: streams would break at a frame out of order; children keep starting and stopping through the slow node.
#[test]
fn a_slow_node_may_be_paused_and_hears_everything_in_order() {
    for seed in 0..3 {
        let mut cluster = cluster(seed, 3);
        let wanted = start_many(&mut cluster, 30);
        for round in 0..6 {
            cluster.slow(B, (round % 2 == 0).then(|| Range::millis(0, 900)));
            cluster.run_for(millis(700));
            cluster.pause(B);
            cluster.run_for(millis(300 + round * 200));
            cluster.resume(B);
            cluster.run_for(millis(400));
        }
        cluster.slow(B, None);
        cluster.run_for(SOON);
        converge_to(&mut cluster, REST, &wanted);
        let errors: u64 = cluster.up().into_iter().map(|node| cluster.stats(node).refused_malformed).sum();
        assert_eq!(errors, 0, "seed {seed}");
    }
}

/// Goal: a second process on an address is noticed, told, and gone without a trace once it ends.
/// Method: a twin for a minute, then it is killed; nobody restarts it.
#[test]
fn a_twin_is_noticed_and_the_cluster_converges_when_it_has_ended() {
    for seed in 0..3 {
        let mut cluster = cluster(seed, 3);
        let wanted = start_many(&mut cluster, 12);
        let twin = cluster.add_twin(C);
        assert_eq!((cluster.twin_of(twin), cluster.name(twin), cluster.addr(twin)), (Some(C), "c", cluster.addr(C)));
        cluster.run_for(secs(60));
        let told = [C, twin].into_iter().flat_map(|node| cluster.events(node));
        assert!(told.into_iter().any(|(.., event)| *event == Event::AddressConflict), "seed {seed}");
        cluster.crash(twin);
        cluster.run_for(secs(10));
        converge_to(&mut cluster, REST, &wanted);
        assert_rests(&mut cluster, secs(20));
        let fault = cluster.history().faults.iter().find(|fault| fault.kind == FaultKind::Twin(C, twin));
        assert!(fault.is_some_and(|fault| fault.to.is_some() && fault.touches(C) && fault.touches(twin)));
    }
}

/// Goal: whichever of two processes on one address ends, the other has it for itself.
/// Method: the first one is killed; the twin is a member under the name, and what is dialled reaches it.
#[test]
fn a_twin_inherits_the_address_when_the_first_process_ends() {
    let mut cluster = cluster(1, 3);
    let wanted = start_many(&mut cluster, 12);
    let twin = cluster.add_twin(C);
    cluster.run_for(secs(5));
    cluster.crash(C);
    cluster.run_for(secs(30));
    converge_to(&mut cluster, REST, &wanted);
    assert_eq!(cluster.members(A).len(), 3);
    cluster.lose_power(C);
    assert_eq!(cluster.state(twin), haulout_sim::NodeState::Off, "it was on the same machine");
}

/// Goal: no promise rests on the wall clocks, which may be wrong by years.
/// Method: nodes years ahead and behind; the same starts, moves and restarts as ever.
#[test]
fn wall_clocks_that_are_wrong_by_years_change_nothing() {
    const YEAR_MS: i64 = 365 * 24 * 3_600 * 1_000;
    for seed in 0..3 {
        let mut cluster = Cluster::new(Options::seeded(seed));
        for (number, offset) in [0, YEAR_MS, -YEAR_MS, 60 * YEAR_MS].into_iter().enumerate() {
            let options = haulout_sim::NodeOptions { wall_offset_ms: offset, ..cluster.node_options() };
            cluster.add_node_with(&name(number), options);
        }
        cluster.converge(REST);
        let wanted = start_many(&mut cluster, 24);
        cluster.step_wall_clock(B, -3 * YEAR_MS);
        cluster.crash(B);
        cluster.run_for(secs(20));
        cluster.restart(B);
        cluster.run_for(secs(10));
        converge_to(&mut cluster, REST, &wanted);
        terminate(&mut cluster, C, &wanted[0]);
        cluster.run_for(SOON);
        converge_to(&mut cluster, REST, &wanted[1..]);
        start(&mut cluster, B, spec(&wanted[0]));
        cluster.run_for(SOON);
        converge_to(&mut cluster, REST, &wanted);
        assert_no_overlap(&cluster);
        wanted.iter().for_each(|child| assert_epochs_rise(&runs(&cluster, child)));
    }
}

/// Goal: clocks that run at different speeds part no nodes.
/// Method: 500 parts per million fast and slow, far beyond what NTP corrects, for an hour.
#[test]
fn clocks_that_drift_change_nothing() {
    let mut cluster = Cluster::new(Options::seeded(3));
    for (number, drift_ppm) in [0, 500, -500].into_iter().enumerate() {
        let options = haulout_sim::NodeOptions { drift_ppm, ..cluster.node_options() };
        cluster.add_node_with(&name(number), options);
    }
    cluster.converge(REST);
    let wanted = start_many(&mut cluster, 12);
    cluster.run_for(secs(3_600));
    assert_eq!(downs(&cluster), 0);
    converge_to(&mut cluster, SOON, &wanted);
    assert_no_overlap(&cluster);
}

/// Goal: a node whose clock jumps has slept for all that it knows: it blames nobody for what it did not hear.
/// Method: jumps from a second to a day; no member is told to be down, no child moves.
#[test]
fn a_clock_that_jumps_makes_nobody_down() {
    for (seed, jump) in [1, 5, 30, 600, 86_400].into_iter().enumerate() {
        let mut cluster = cluster(seed as u64, 3);
        let wanted = start_many(&mut cluster, 24);
        let runs_before = cluster.journal().runs().len();
        cluster.jump_clock(B, secs(jump));
        cluster.run_for(secs(30));
        assert_eq!(downs(&cluster), 0, "a jump of {jump} s");
        converge_to(&mut cluster, REST, &wanted);
        assert_eq!(cluster.journal().runs().len(), runs_before, "a jump of {jump} s");
        let jumped = cluster.history().faults.iter().filter(|fault| fault.kind == FaultKind::ClockJump(B)).count();
        assert_eq!(jumped, 1);
    }
}

/// Goal: answers that came before a jump of the clock are as old as the jump says: nothing is started on them.
/// Method: rounds of a node are open because one member does not answer; its clock jumps, it asks everybody anew.
#[test]
fn a_clock_that_jumps_voids_the_rounds_that_were_open() {
    let mut cluster = cluster(4, 3);
    cluster.pause(C);
    let wanted = ids(24);
    for child in &wanted {
        let _ = cluster.start(A, spec(child));
    }
    cluster.run_for(millis(200));
    assert_eq!(cluster.stats(B).rounds_voided, 0);
    cluster.jump_clock(B, secs(60));
    cluster.run_for(millis(200));
    assert!(cluster.stats(B).rounds_voided > 0);
    cluster.resume(C);
    cluster.run_for(secs(10));
    converge_to(&mut cluster, REST, &wanted);
    assert_no_overlap(&cluster);
}

/// Goal: contacts say when packets got from one process to another, and only then.
/// Method: a cut in one direction, a pause, a restart.
#[test]
fn contacts_are_noted_while_nodes_can_hear_each_other() {
    let options = Options { contacts: true, ..Options::seeded(5) };
    let mut cluster = cluster_with(options, 3);
    start_many(&mut cluster, 6);
    let within = |cluster: &Cluster, from, to, since: haulout::proto::Time, within: Duration| {
        cluster.contacts(from, to, since).is_some_and(|at| at <= since + within)
    };
    let start = cluster.now();
    cluster.cut_one_way(A, B);
    cluster.run_for(secs(5));
    assert!(cluster.contacts(A, B, start).is_none());
    assert!(within(&cluster, B, A, start, secs(5)) && within(&cluster, A, C, start, secs(5)));
    cluster.heal();
    let healed = cluster.now();
    cluster.run_for(secs(10));
    assert!(within(&cluster, A, B, healed, secs(10)));
    cluster.pause(C);
    let paused = cluster.now();
    cluster.run_for(secs(2));
    assert!(cluster.contacts(A, C, paused).is_none() && cluster.contacts(C, A, paused + millis(10)).is_none());
}

/// Goal: a run that ignores its stop ends when its shutdown's patience does, and the journal says what it was given.
/// Method: a child that would take hours to stop, with a patience of two seconds and code that does not yield for one.
#[test]
fn a_child_that_ignores_its_stop_is_aborted_when_patience_ends() {
    let mut cluster = cluster(2, 1);
    let deaf = haulout_sim::Plan {
        stop_delay: Range::fixed(secs(36_000)),
        abort_delay: secs(1),
        ..haulout_sim::Plan::default()
    };
    cluster.children().plan_args(b"deaf", deaf);
    let shutdown = haulout::Shutdown::Timeout(secs(2));
    start(&mut cluster, A, spec("deaf").shutdown(shutdown));
    cluster.run_for(SOON);
    assert_eq!(alive(&cluster, "deaf").signalled, None);
    let signalled = cluster.now();
    terminate(&mut cluster, A, "deaf");
    cluster.run_for(secs(5));
    let run = &runs(&cluster, "deaf")[0];
    assert_eq!((run.signalled, run.shutdown), (Some(signalled), Some(shutdown)));
    assert_eq!(run.ended, Some(signalled + secs(3)));
}
