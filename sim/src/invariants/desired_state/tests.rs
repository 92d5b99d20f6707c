//! Hand-made calls and runs: what must be there, what must not, what may not have been answered?

use haulout::{Event, Outcome};

use super::super::testing::{Hand, at, spec};
use super::*;
use crate::history::FaultKind;

/// Everybody who may be in the core.
const ALL: [NodeIdx; 3] = [NodeIdx(0), NodeIdx(1), NodeIdx(2)];

fn is_lost_to(core: &[NodeIdx], hand: &Hand) -> bool {
    let end = AtEnd { listed: BTreeSet::new(), startup: &[], core };
    acknowledged_starts_stand(&hand.facts(), &end).is_err()
}

fn is_back_at(core: &[NodeIdx], hand: &Hand) -> bool {
    let child = spec("x");
    let end = AtEnd { listed: BTreeSet::from([child.id()]), startup: &[], core };
    terminated_children_are_gone(&hand.facts(), &end).is_err()
}

fn lost(hand: &Hand) -> bool {
    is_lost_to(&ALL, hand)
}

fn back(hand: &Hand) -> bool {
    is_back_at(&ALL, hand)
}

/// Goal: who stays cut off for ever is not judged by. Method: node 2 is alone from before its calls on.
#[test]
fn what_only_those_outside_the_core_know_the_core_need_not_know() {
    let mut hand = Hand::new(3);
    hand.cut(0, 2, 250, 1_000).cut(1, 2, 250, 1_000);
    hand.start(2, "x", 300);
    assert!(lost(&hand) && !is_lost_to(&ALL[..2], &hand));
    let mut hand = Hand::new(3);
    hand.start(0, "x", 100);
    hand.cut(0, 2, 250, 1_000).cut(1, 2, 250, 1_000);
    hand.terminate(2, "x", 300);
    assert!(back(&hand) && !is_back_at(&ALL[..2], &hand));
}

#[test]
fn a_start_stands_and_a_terminate_by_somebody_who_knew_it_ends_it() {
    let mut hand = Hand::new(3);
    assert!(!lost(&hand) && back(&hand), "never started");
    hand.start(0, "x", 100);
    assert!(lost(&hand) && !back(&hand));
    hand.terminate(1, "x", 200);
    assert!(!lost(&hand) && back(&hand));
    hand.start(2, "x", 300);
    assert!(lost(&hand) && !back(&hand));
}

#[test]
fn calls_that_cross_each_other_leave_it_open() {
    let mut hand = Hand::new(3);
    hand.start(0, "x", 100).ask_terminate(1, "x", 100, Some(Reply::Terminated(Err(TerminateError::NotFound))));
    assert!(!lost(&hand) && !back(&hand), "it may have met the start elsewhere");
    hand.start(0, "x", 300);
    assert!(lost(&hand));
    hand.ask_terminate(1, "x", 400, None);
    assert!(!lost(&hand) && !back(&hand), "unanswered: done or not");
}

#[test]
fn a_start_may_go_with_its_only_knower_or_be_beaten_or_done() {
    let mut hand = Hand::new(3);
    assert!(!lost(hand.start(0, "x", 100).crash(0, 105)));
    assert!(lost(hand.start(1, "x", 200).crash(1, 260)), "the third node has heard of it");
    let event = Event::StartLost { id: spec("x").id().clone(), lost: Box::new(spec("x").spec().clone()) };
    assert!(!lost(hand.tell(2, 300, event)));
    let mut done = Hand::new(3);
    done.start(0, "x", 100).run_of(&spec("x"), 1, (1, 1), (101, 110), Outcome::Success);
    assert!(!lost(&done));
}

/// Goal: beyond a split a start may lose to a life that is terminated before the sides meet; without the split it can't.
/// Method: nodes 0 and 1 start and terminate, node 2 starts after that, cut off or not.
#[test]
fn a_start_may_lose_unseen_to_one_beyond_a_split_that_was_terminated() {
    for is_split in [true, false] {
        let mut hand = Hand::new(3);
        if is_split {
            hand.cut(0, 2, 90, 210).cut(1, 2, 90, 210);
        }
        hand.terminate(0, "x", 150).start(2, "x", 200);
        assert!(lost(&hand), "nobody else started it");
        let mut beaten = Hand::new(3);
        if is_split {
            beaten.cut(0, 2, 90, 210).cut(1, 2, 90, 210);
        }
        beaten.start(1, "x", 100).terminate(0, "x", 150).start(2, "x", 200);
        assert_eq!(lost(&beaten), !is_split);
    }
}

#[test]
fn no_run_of_a_life_begins_where_its_terminate_must_be_known() {
    let check = |hand: &Hand| no_run_of_a_terminated_life(&hand.facts()).is_err();
    let mut hand = Hand::new(3);
    hand.start(0, "x", 100).run("x", 1, 101, 201).terminate(0, "x", 200);
    assert!(!check(&hand));
    let mut soon = hand;
    soon.run_of(&spec("x"), 2, (1, 0), (202, 204), Outcome::Stopped);
    assert!(!check(&soon), "it need not have been told yet");
    assert!(check(soon.run_of(&spec("x"), 0, (1, 0), (205, 206), Outcome::Stopped)), "the terminator itself");
    let mut late = Hand::new(3);
    late.start(0, "x", 100).run("x", 1, 101, 201).terminate(0, "x", 200);
    late.run_of(&spec("x"), 2, (2, 0), (500, 501), Outcome::Stopped);
    assert!(!check(&late), "another life");
    assert!(check(late.run_of(&spec("x"), 2, (1, 0), (502, 503), Outcome::Stopped)));
    let mut twins = Hand::new(3);
    twins.start(0, "x", 100).start(1, "x", 100).run("x", 1, 101, 201).terminate(0, "x", 200);
    twins.run_of(&spec("x"), 2, (1, 0), (500, 501), Outcome::Stopped);
    assert!(!check(&twins), "two starts may share birth and spec");
}

#[test]
fn a_call_finds_what_the_call_before_it_has_left() {
    let check = |hand: &Hand| answers_follow_from_earlier_ones(&hand.facts()).is_err();
    let started = |fresh: bool| Some(Reply::Started(Ok(fresh)));
    let mut fine = Hand::new(2);
    fine.start(0, "x", 100).ask_start(0, "x", 110, started(false)).terminate(0, "x", 120).start(0, "x", 130);
    assert!(!check(&fine));
    let mut forgotten = Hand::new(2);
    assert!(check(forgotten.start(0, "x", 100).start(0, "x", 110)));
    assert!(!check(forgotten.ask_terminate(1, "x", 105, None)), "a call elsewhere crossed them");
    let mut zombie = Hand::new(2);
    assert!(check(zombie.start(0, "x", 100).terminate(0, "x", 110).ask_start(0, "x", 120, started(false))));
    let mut missing = Hand::new(2);
    let not_found = Some(Reply::Terminated(Err(TerminateError::NotFound)));
    assert!(check(missing.start(0, "x", 100).ask_terminate(0, "x", 110, not_found.clone())));
    let mut elsewhere = Hand::new(2);
    assert!(!check(elsewhere.start(0, "x", 100).ask_terminate(1, "x", 110, not_found)), "another node");
}

/// Goal: what is asked in one instant is asked one after the other. Method: a second terminate searches elsewhere, and is
/// answered when it has found the life of a start that came after it.
#[test]
fn a_call_of_the_same_instant_may_be_overtaken_by_a_later_one() {
    let mut hand = Hand::new(2);
    hand.start(0, "x", 100).terminate(0, "x", 100).terminate(0, "x", 100).start(0, "x", 100);
    for (place, call) in hand.history.calls.iter_mut().enumerate() {
        call.answer.iter_mut().filter(|_| place != 2).for_each(|(answered, _)| *answered = at(100));
    }
    assert!(answers_follow_from_earlier_ones(&hand.facts()).is_ok());
    hand.history.calls.pop();
    assert!(
        answers_follow_from_earlier_ones(&hand.facts()).is_err(),
        "without the later start there was nothing to find"
    );
}

#[test]
fn a_run_has_a_spec_that_somebody_asked_for_before() {
    let check = |hand: &Hand| specs_were_asked_for(&hand.history, hand.journal.runs()).is_err();
    let mut hand = Hand::new(2);
    hand.run("x", 0, 101, 0);
    assert!(check(&hand));
    assert!(!check(hand.start(1, "x", 100)));
    let mut late = Hand::new(2);
    assert!(check(late.run("x", 0, 101, 0).start(1, "x", 102)));
    let mut refused = Hand::new(2);
    assert!(check(refused.run("x", 0, 101, 0).ask_start(1, "x", 90, Some(Reply::Started(Ok(false))))));
}

/// Goal: a start-up child needs no start to be there, and is gone once somebody removed it. Method: the same child listed
/// or not, terminated or not, brought along or not.
#[test]
fn a_startup_child_stands_until_somebody_terminates_it() {
    let child = spec("x");
    let judge = |hand: &Hand, is_listed: bool, is_startup: bool| {
        let listed = if is_listed { BTreeSet::from([child.id()]) } else { BTreeSet::new() };
        let startup = if is_startup { std::slice::from_ref(child.id()) } else { &[] };
        let end = AtEnd { listed, startup, core: &ALL };
        let facts = hand.facts();
        (acknowledged_starts_stand(&facts, &end).is_err(), terminated_children_are_gone(&facts, &end).is_err())
    };
    let mut hand = Hand::new(3);
    assert_eq!(judge(&hand, true, false), (false, true), "nobody started it");
    assert_eq!(judge(&hand, true, true), (false, false));
    assert_eq!(judge(&hand, false, true), (true, false), "nobody ended it");
    hand.terminate(1, "x", 200);
    assert_eq!(judge(&hand, true, true), (false, true), "it is back");
    assert_eq!(judge(&hand, false, true), (false, false));
}

/// Goal: who takes over after a crash has heard from the terminator. Method: node 1 dies with the child that node 0 has
/// terminated before, and node 2 runs it again; then the same with each thing changed that leaves it open.
#[test]
fn nobody_takes_over_what_a_member_knows_to_be_over() {
    let taken_over = |terminated: u64, counts: bool| {
        let mut hand = Hand::new(3);
        hand.start(0, "x", 100).run("x", 1, 101, 0).terminate(0, "x", terminated);
        hand.journal.end(0, at(250), Ending::Killed);
        hand.crash(1, 250);
        if counts {
            hand.up(2, 0, 1);
        }
        hand.run("x", 2, 300, 0);
        hand
    };
    let check = |hand: &Hand| takers_ask_anew(&hand.facts()).is_err();
    assert!(check(&taken_over(200, true)));
    assert!(!check(&taken_over(260, true)), "it ended after the crash");
    assert!(!check(&taken_over(200, false)), "the taker did not count the terminator");
    assert!(!check(taken_over(200, true).down(2, 0, 280)), "nor at the time");
    let mut silent = taken_over(200, true);
    let run = silent.journal.runs()[1].clone();
    silent.tell(2, 300, Event::StartedUnconfirmed { id: run.id, epoch: run.epoch, silent: Vec::new() });
    assert!(!check(&silent), "the terminator did not answer");
}

/// Goal: who joins has learnt what is there before it accepts anything. Method: node 2 comes at 300 and is asked to start
/// what node 0 has started before.
#[test]
fn a_newcomer_accepts_nothing_anew_that_everybody_knows() {
    let joined = |first: u64, fresh: bool| {
        let mut hand = Hand::new(3);
        hand.history.lives[2].from = at(300);
        hand.start(0, "x", first).ask_start(2, "x", 310, Some(Reply::Started(Ok(fresh))));
        hand
    };
    let check = |hand: &Hand| newcomers_know(&hand.facts()).is_err();
    assert!(check(&joined(100, true)));
    assert!(!check(&joined(100, false)), "it knew");
    assert!(!check(&joined(299, true)), "acknowledged only when it came");
    assert!(!check(joined(100, true).fault(FaultKind::Paused(NodeIdx(2)), 302, 305)), "a fault touched it");
    assert!(!check(joined(100, true).fault(FaultKind::Slow(NodeIdx(1)), 90, 400)), "or one that it may have asked");
    let mut seedless = joined(100, true);
    seedless.history.lives[1].to = Some(at(250));
    assert!(!check(&seedless), "the only seed may be down");
    let mut ended = Hand::new(3);
    ended.history.lives[2].from = at(300);
    ended.start(0, "x", 100).terminate(1, "x", 200).start(2, "x", 310);
    assert!(!check(&ended), "it was over");
    let mut waited = joined(100, true);
    waited.history.calls.last_mut().expect("a start").answer = Some((at(330), Reply::Started(Ok(true))));
    assert!(check(&waited));
    assert!(!check(waited.terminate(1, "x", 320)), "it was over before the call was carried out");
}
