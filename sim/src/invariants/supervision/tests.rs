//! Hand-made runs that fail, are stopped, or begin again.

use haulout::{ChildSpec, Outcome, Restart};

use super::super::testing::{Hand, at, spec};
use super::*;
use crate::NodeIdx;
use crate::history::FaultKind;

/// Runs on node 0 that fail: from and to, in seconds.
fn failing(child: &ChildSpec, runs: &[(u64, u64)]) -> Hand {
    let mut hand = Hand::new(2);
    for &(from, to) in runs {
        hand.run_of(child, 0, (1, 0), (from, to), Outcome::Error("tired".into()));
    }
    hand
}

#[test]
fn restarts_beyond_the_limit_wait_and_each_time_longer() {
    let check = |runs: &[(u64, u64)]| restarts_are_rare_or_late(&failing(&spec("x"), runs).facts(), |_| 0).is_err();
    assert!(!check(&[(10, 11), (11, 12), (12, 13), (13, 14), (17, 18)]), "three at once, then a pause");
    let fourth = [(10, 11), (11, 12), (12, 13), (13, 14), (14, 15)];
    assert!(check(&fourth), "a fourth at once");
    for (jump, excuses) in [(9, false), (11, true), (14, true)] {
        let mut hand = failing(&spec("x"), &fourth);
        hand.fault(FaultKind::ClockJump(NodeIdx(0)), jump, jump);
        let judged = restarts_are_rare_or_late(&hand.facts(), |_| 0);
        assert_eq!(judged.is_ok(), excuses, "to its clock the window may be over: it jumps at {jump}");
    }
    assert!(!check(&[(10, 13), (13, 16), (16, 19), (19, 22), (22, 25)]), "fewer than three in five seconds");
    assert!(check(&[(10, 11), (11, 12), (12, 13), (13, 14), (17, 18), (21, 22)]), "the second pause is no longer");
    assert!(!check(&[(10, 11), (11, 12), (12, 13), (13, 14), (17, 18), (24, 25)]));
    for (seen, excuses) in [(9, false), (14, true), (16, false)] {
        let mut hand = failing(&spec("x"), &fourth);
        let judged = restarts_are_rare_or_late(&hand.down(0, 1, seen).facts(), |_| 0).is_ok();
        assert_eq!(judged, excuses, "it may have been another node's for a moment: at {seen}");
    }
    let mut never = spec("y").max_restarts(0, Duration::from_secs(5));
    assert!(restarts_are_rare_or_late(&failing(&never, &[(10, 11), (11, 12)]).facts(), |_| 0).is_err());
    let hurried = failing(&never, &[(10, 11), (13, 14)]);
    assert!(restarts_are_rare_or_late(&hurried.facts(), |_| 0).is_err(), "two of three seconds");
    assert!(restarts_are_rare_or_late(&hurried.facts(), |_| 500_000).is_ok(), "three by its clock");
    never = never.max_restarts(1, Duration::from_secs(5));
    assert!(restarts_are_rare_or_late(&failing(&never, &[(10, 11), (11, 12)]).facts(), |_| 0).is_ok());
}

#[test]
fn a_stop_takes_no_longer_than_its_budget_and_is_as_the_spec_says() {
    let stopped = |ended: u64, shutdown: Shutdown| {
        let mut hand = Hand::new(1);
        hand.run("x", 0, 1, 0);
        hand.journal.signalled(0, at(100), shutdown);
        hand.journal.end(0, at(ended), Ending::Exited(Outcome::Stopped));
        hand
    };
    let check = |hand: &Hand| stops_are_timely(&hand.facts(), Duration::from_secs(1)).is_err();
    assert!(!check(&stopped(106, Shutdown::default())), "five seconds, and one after the abort");
    assert!(check(&stopped(107, Shutdown::default())));
    assert!(!check(stopped(107, Shutdown::default()).fault(FaultKind::Paused(NodeIdx(0)), 101, 103)));
    assert!(check(&stopped(100, Shutdown::Brutal)), "not what the spec says");
}

#[test]
fn a_run_after_the_child_was_done_or_with_an_old_number_is_found_unless_a_fault_explains_it() {
    let child = spec("x").restart(Restart::Transient);
    let two = |first: Outcome, run: u32| {
        let mut hand = Hand::new(2);
        hand.run_of(&child, 0, (1, 1), (100, 110), first).run_of(&child, 1, (1, run), (120, 130), Outcome::Success);
        hand
    };
    let moved = two(Outcome::Stopped, 2);
    assert!(no_rerun(&moved.facts(), Wrong::Done).is_ok() && no_rerun(&moved.facts(), Wrong::Epoch).is_ok());
    let mut again = two(Outcome::Success, 2);
    assert!(no_rerun(&again.facts(), Wrong::Done).is_err());
    let mut equal = two(Outcome::Stopped, 1);
    assert!(no_rerun(&equal.facts(), Wrong::Epoch).is_err() && no_rerun(&equal.facts(), Wrong::Done).is_ok());
    assert!(no_rerun(&again.cut(0, 1, 105, 115).facts(), Wrong::Done).is_ok());
    assert!(no_rerun(&equal.cut(0, 1, 105, 115).facts(), Wrong::Epoch).is_ok());
    let mut ended = two(Outcome::Stopped, 1);
    ended.history.lives[0].to = Some(at(115));
    assert!(no_rerun(&ended.facts(), Wrong::Epoch).is_err(), "the other node remembers");
    ended.history.lives[1].to = Some(at(115));
    assert!(no_rerun(&ended.facts(), Wrong::Epoch).is_ok(), "nobody was left to remember");
}

/// Goal: two lives of one birth and one spec are not taken for one. Method: a child runs again with an old number; while
/// that one ran, another node was asked for the same child, one that had heard of the first start or one that stood still.
#[test]
fn a_start_on_a_node_that_had_not_heard_of_the_first_may_have_made_another_life() {
    let again = |pause: bool| {
        let (mut hand, child) = (Hand::new(3), spec("x"));
        hand.start(0, "x", 90).start(2, "x", 200);
        hand.run_of(&child, 1, (1, 1), (100, 110), Outcome::Stopped);
        hand.run_of(&child, 1, (1, 1), (320, 0), Outcome::Stopped);
        if pause {
            hand.fault(FaultKind::Paused(NodeIdx(2)), 50, 300);
        }
        no_rerun(&hand.facts(), Wrong::Epoch)
    };
    assert!(again(false).is_err() && again(true).is_ok());
}

#[test]
fn what_still_runs_when_its_node_has_left_is_found() {
    let left = |ending: Ending| {
        let mut hand = Hand::new(2);
        hand.run("x", 0, 1, 0);
        hand.journal.end(0, at(50), ending);
        hand.history.end_life(crate::invariants::testing::instance(0), at(50), LifeEnd::Left);
        hand
    };
    assert!(nothing_is_left_behind(&left(Ending::Killed).facts()).is_err());
    assert!(nothing_is_left_behind(&left(Ending::Exited(Outcome::Stopped)).facts()).is_ok());
    let mut crashed = Hand::new(1);
    crashed.run("x", 0, 1, 0).crash(0, 50);
    crashed.journal.end(0, at(50), Ending::Killed);
    assert!(nothing_is_left_behind(&crashed.facts()).is_ok());
}

#[test]
fn a_temporary_run_that_is_told_to_stop_for_no_reason_is_found() {
    let child = spec("x").restart(Restart::Temporary);
    let stopped = || {
        let mut hand = Hand::new(2);
        hand.start(0, "x", 5).run_of(&child, 0, (1, 1), (10, 20), Outcome::Stopped);
        hand
    };
    assert!(temporary_runs_are_not_moved(&stopped().facts()).is_err());
    assert!(temporary_runs_are_not_moved(&stopped().terminate(1, "x", 19).facts()).is_ok());
    let fault = FaultKind::Paused(NodeIdx(1));
    assert!(temporary_runs_are_not_moved(&stopped().fault(fault, 12, 14).facts()).is_ok());
    let mut twice = stopped();
    twice.run_of(&child, 1, (1, 1), (15, 0), Outcome::Success);
    assert!(temporary_runs_are_not_moved(&twice.facts()).is_ok(), "one of two yields");
}
