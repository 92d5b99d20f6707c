//! Hand-made overlaps: which are excused, which must have ended?

use haulout::{Event, Outcome};

use super::super::testing::{Hand, at, instance, spec};
use super::*;
use crate::NodeIdx;
use crate::history::FaultKind;

/// Node 0 runs x from second 1 on, node 1 from 100 to 104 besides.
fn twice() -> Hand {
    let mut hand = Hand::new(3);
    hand.run("x", 0, 1, 104).run("x", 1, 100, 104);
    hand
}

fn is_excused(hand: &Hand) -> bool {
    overlaps_are_excused(&hand.facts()).is_ok()
}

#[test]
fn an_overlap_between_nodes_that_know_each_other_is_a_violation_even_under_a_fault() {
    let mut hand = twice();
    hand.up(0, 1, 1).up(1, 0, 1).cut(0, 1, 90, 110);
    let violation = overlaps_are_excused(&hand.facts()).expect_err("nobody held the other for down");
    assert_eq!((violation.at, violation.node), (at(100), Some(NodeIdx(1))));
    assert!(violation.detail.contains("x ran on n0"), "{}", violation.detail);
}

#[test]
fn a_death_that_one_of_the_two_had_seen_excuses_an_overlap_if_a_fault_can_have_led_to_it() {
    for (by, of) in [(1, 0), (0, 1)] {
        let mut hand = twice();
        hand.up(0, 1, 0).down(by, of, if by == 0 { 1 } else { 95 });
        if by == 1 {
            hand.told.insert(0, (NodeIdx(1), at(0), Event::MemberUp(super::super::testing::member(0))));
        }
        assert!(!is_excused(&hand), "no fault touched them");
        assert!(!is_excused(hand.cut(2, 2, 80, 96)), "a fault elsewhere");
        assert!(!is_excused(hand.cut(2, 0, 80, 96)), "one between one of them and a third, which they must bear");
        assert!(is_excused(hand.cut(1, 0, 80, 96)));
        assert_eq!(excuse(&hand.facts(), &[None, None], &hand.journal.overlaps()[0]), Some(Cause::DeclaredDown));
    }
    let mut back = twice();
    back.up(0, 1, 0).up(1, 0, 0).down(1, 0, 90).up(1, 0, 99).cut(0, 1, 80, 96);
    assert!(!is_excused(&back), "it had come back before the run began");
    assert!(
        is_excused(back.down(1, 0, 100).up(1, 0, 100)),
        "it went and came back in the moment in which the run began"
    );
}

#[test]
fn a_newcomer_that_never_met_the_runner_is_excused_once_the_runner_has_seen_it_go() {
    let mut hand = twice();
    hand.up(0, 1, 0).cut(0, 1, 80, 110);
    assert!(!is_excused(&hand), "the runner still counted it among the members");
    assert!(is_excused(hand.down(0, 1, 95)));
    assert!(!is_excused(hand.up(0, 1, 99)), "it had come back");
    let mut met = twice();
    met.up(0, 1, 0).up(1, 0, 0).down(0, 1, 95).cut(0, 1, 80, 110);
    assert!(!is_excused(&met), "the newcomer had met the runner and saw no death");
}

/// Goal: a permission from before a death is worth nothing when its life is over. Method: the earlier runner had held
/// the later one for down, which went on counting it among the members; the later run begins sooner and later.
#[test]
fn an_old_permission_excuses_an_overlap_only_as_long_as_it_lives() {
    let overlaps = |began: u64| {
        let mut hand = Hand::new(2);
        hand.run("x", 0, 99, 120).run("x", 1, began, 120);
        hand.up(0, 1, 0).up(1, 0, 0).down(0, 1, 98).fault(FaultKind::Paused(NodeIdx(1)), 90, 99);
        hand
    };
    assert!(is_excused(&overlaps(100)));
    assert!(!is_excused(&overlaps(103)), "whoever stood still forgets what it was permitted");
    assert!(is_excused(overlaps(103).down(1, 0, 101)), "unless it holds the other one for down");
}

#[test]
fn a_member_that_left_an_ask_unanswered_excuses_the_run_that_its_node_told_of_and_no_other() {
    let mut hand = twice();
    hand.up(0, 1, 0).up(1, 0, 0).fault(FaultKind::Paused(NodeIdx(0)), 95, 101);
    let told = |run: u32, silent: usize| Event::StartedUnconfirmed {
        id: spec("x").id().clone(),
        epoch: haulout::proto::Epoch { birth: 1, run },
        silent: vec![haulout::SilentMember {
            name: "silent".into(),
            addr: ([127, 0, 0, 1], 1).into(),
            instance: instance(silent),
        }],
    };
    hand.tell(1, 100, told(1, 0)).tell(1, 100, told(2, 2));
    assert!(!is_excused(&hand), "another run, another member");
    assert!(is_excused(hand.tell(1, 100, told(2, 0))));
}

#[test]
fn strangers_are_excused_only_while_a_fault_kept_them_apart_or_took_away_who_knew_both() {
    let mut hand = twice();
    assert!(!is_excused(&hand));
    assert!(is_excused(hand.cut(0, 2, 90, 110)), "the third could not tell one of the other");
    let mut newcomer = twice();
    newcomer.crash(2, 95);
    assert!(!is_excused(&newcomer), "both have been there for long");
    newcomer.history.lives[1].from = at(92);
    assert!(is_excused(&newcomer));
    assert!(!is_excused(newcomer.up(0, 1, 0)), "one knew the other");
}

#[test]
fn a_restart_in_place_by_one_that_was_declared_down_is_excused_like_its_first_run() {
    let mut hand = Hand::new(2);
    let failed = Outcome::Error("tired".into());
    hand.run_of(&spec("x"), 0, (1, 1), (1, 90), failed).run_of(&spec("x"), 1, (1, 2), (95, 0), Outcome::Success);
    hand.run_of(&spec("x"), 0, (1, 2), (100, 0), Outcome::Success);
    hand.up(0, 1, 0).up(1, 0, 0).down(1, 0, 94);
    assert!(!is_excused(&hand));
    assert!(is_excused(hand.cut(0, 1, 80, 99)));
}

#[test]
fn a_node_never_runs_a_child_twice_whatever_happens() {
    let mut hand = Hand::new(1);
    hand.run("x", 0, 1, 0).run("x", 0, 5, 0).cut(0, 0, 1, 900);
    assert!(!is_excused(&hand));
}

#[test]
fn an_overlap_ends_within_the_bound_after_the_last_fault_that_disturbed_the_two() {
    let bound = Hand::new(2).bounds.resolving.as_secs();
    let lasting = |until: u64| {
        let mut hand = Hand::new(3);
        hand.run("x", 0, 1, 0).run("x", 1, 100, until).cut(0, 2, 90, 200);
        overlaps_are_resolved(&hand.facts()).map_err(|violation| violation.at)
    };
    assert_eq!(lasting(199), Ok(()));
    assert_eq!(lasting(200 + bound), Ok(()));
    assert!(lasting(202 + bound).is_err());
    assert!(lasting(0).is_err());
}
