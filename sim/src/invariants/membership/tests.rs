//! Hand-made views of members: who came back, who was wronged?

use super::super::testing::Hand;
use super::*;
use crate::view::View;
use crate::{Bounds, Cluster, NodeIdx, NodeOptions, Options};

fn name(result: Result<(), Violation>) -> Option<(&'static str, Option<NodeIdx>)> {
    result.err().map(|violation| (violation.invariant, violation.node))
}

#[test]
fn whoever_comes_up_again_has_taken_a_new_identity_each_time() {
    let mut hand = Hand::new(2);
    hand.up(0, 1, 10).down(0, 1, 20).up(0, 1, 30);
    assert_eq!(name(returns_are_renewed(&hand.facts())), Some(("down-is-final", Some(NodeIdx(0)))));
    hand.tell(1, 25, Event::Rejoined);
    assert_eq!(name(returns_are_renewed(&hand.facts())), None);
    hand.down(0, 1, 40).up(0, 1, 50);
    assert!(returns_are_renewed(&hand.facts()).is_err(), "one identity is good for one return");
}

/// Goal: what a process told in the very moment in which it died is not ascribed to the one that began then. Method: a
/// return, and the renewal for it in the moment in which one life gives way to the next.
#[test]
fn what_was_told_in_the_last_moment_of_a_life_is_of_that_life() {
    let mut hand = Hand::new(2);
    hand.tell(1, 25, Event::Rejoined).up(0, 1, 10).down(0, 1, 20).up(0, 1, 30);
    let (now, next) = (super::super::testing::at(25), super::super::testing::instance(9));
    hand.history.end_life(super::super::testing::instance(1), now, crate::history::LifeEnd::Crashed);
    let successor = crate::history::Life { instance: next, from: now, ..hand.history.lives[1] };
    hand.history.lives.push(crate::history::Life { told_before: 1, to: None, end: None, ..successor });
    assert_eq!(name(returns_are_renewed(&hand.facts())), None);
}

#[test]
fn whoever_was_down_for_a_day_is_forgotten_and_may_come_up_as_it_was() {
    let mut hand = Hand::new(2);
    hand.up(0, 1, 10).down(0, 1, 20).up(0, 1, 20 + 86_400);
    assert_eq!(name(returns_are_renewed(&hand.facts())), None);
}

#[test]
fn an_identity_is_changed_only_after_somebody_declared_it_down_and_as_often() {
    let mut hand = Hand::new(3);
    hand.tell(1, 30, Event::Rejoined);
    assert_eq!(name(renewals_were_forced(&hand.facts())), Some(("renewals-have-a-cause", Some(NodeIdx(1)))));
    hand.down(2, 1, 29);
    assert_eq!(name(renewals_were_forced(&hand.facts())), None);
    hand.tell(1, 31, Event::Rejoined);
    assert!(renewals_were_forced(&hand.facts()).is_err(), "a storm of renewals");
}

#[test]
fn a_healthy_member_is_not_declared_down_where_nothing_disturbed_anybody() {
    let mut hand = Hand::new(3);
    hand.down(0, 1, 200);
    assert_eq!(name(deaths_are_real(&hand.facts())), Some(("no-false-alarm", Some(NodeIdx(0)))));
    let mut disturbed = Hand::new(3);
    disturbed.down(0, 1, 200).cut(1, 2, 190, 199);
    assert_eq!(name(deaths_are_real(&disturbed.facts())), None);
    let mut dead = Hand::new(3);
    dead.down(0, 1, 200).history.end_life(
        super::super::testing::instance(1),
        super::super::testing::at(199),
        crate::history::LifeEnd::Left,
    );
    assert_eq!(name(deaths_are_real(&dead.facts())), None);
}

#[test]
fn a_newcomer_may_first_be_taken_for_its_predecessor_at_the_address() {
    for (began, excuses) in [(199, true), (20, false)] {
        let mut hand = Hand::new(2);
        let predecessor =
            crate::history::Life { instance: super::super::testing::instance(9), ..hand.history.lives[1] };
        hand.history.lives[1].from = super::super::testing::at(began);
        hand.history.lives.push(predecessor);
        hand.down(0, 1, 200);
        assert_eq!(deaths_are_real(&hand.facts()).is_ok(), excuses, "it began at {began}");
    }
}

#[test]
fn another_process_at_an_address_must_exist() {
    let mut hand = Hand::new(2);
    hand.tell(0, 50, Event::AddressConflict);
    assert_eq!(name(conflicts_are_real(&hand.facts())), Some(("no-false-conflict", Some(NodeIdx(0)))));
    let mut twin = hand.history.lives[1];
    twin.node = NodeIdx(0);
    hand.history.lives[1] = twin;
    hand.told[0].1 = super::super::testing::at(50);
    assert_eq!(name(conflicts_are_real(&hand.facts())), None);
}

#[test]
fn whoever_is_said_to_have_crashed_has_ended_or_was_out_of_reach_of_two() {
    let rejects = |from, to| FaultKind::Rejects(NodeIdx(from), NodeIdx(to));
    let said = |hand: &mut Hand| {
        hand.up(0, 1, 1).up(0, 2, 1).tell(0, 200, Event::MemberCrashed(super::super::testing::member(1)));
        name(crashed_processes_have_ended(&hand.facts()))
    };
    let broken = Some(("crashes-are-real", Some(NodeIdx(0))));
    assert_eq!(said(Hand::new(3).crash(1, 199)), None);
    assert_eq!(said(Hand::new(3).fault(FaultKind::Paused(NodeIdx(1)), 190, 210)), broken);
    assert_eq!(said(Hand::new(3).fault(rejects(0, 1), 190, 210).fault(rejects(2, 1), 190, 210)), broken);
    let mut unwell = Hand::new(3);
    unwell.fault(rejects(0, 1), 190, 210).fault(rejects(0, 2), 190, 210).cut(0, 1, 190, 210).cut(0, 2, 190, 210);
    assert_eq!(said(&mut unwell), broken);
    let mut lost = Hand::new(3);
    lost.fault(rejects(0, 1), 190, 210).fault(rejects(2, 1), 190, 210).cut(0, 1, 190, 210).cut(2, 1, 190, 210);
    assert_eq!(said(&mut lost), None);
    // Of four, three were asked; one of them was a member that nobody knew to be dead.
    for (there_was_a_fourth, verdict) in [(false, broken), (true, None)] {
        let mut few = Hand::new(6);
        few.fault(rejects(0, 1), 190, 210).fault(rejects(2, 1), 190, 210).cut(0, 1, 190, 210).cut(2, 1, 190, 210);
        few.up(0, 3, 1).up(0, 4, 1);
        if there_was_a_fourth {
            few.up(0, 5, 1).crash(5, 199);
        }
        assert_eq!(said(&mut few), verdict);
    }
    // A second process at an address has the links of the first one.
    for (machine, verdict) in [(3, None), (4, broken)] {
        let mut twin = Hand::new(3);
        twin.fault(FaultKind::Twin(NodeIdx(3), NodeIdx(1)), 1, 210);
        assert_eq!(said(twin.fault(rejects(0, machine), 190, 210).fault(rejects(2, machine), 190, 210)), verdict);
    }
}

/// Goal: a member that is listed with what it said in another scope, or never, is seen. Method: a node with other weights in
/// two scopes, as it is, and as if its users had asked for something else in one of them.
#[test]
fn a_member_is_listed_in_each_scope_with_what_it_joined_it_with() {
    let mut cluster = Cluster::new(Options { scopes: vec!["second".into()], ..Options::seeded(1) });
    let a = cluster.add_node("a");
    let scopes = [("second".to_owned(), 300)].into();
    let options = NodeOptions { weight: 50, scopes, ..cluster.node_options() };
    let b = cluster.add_node_with("b", options);
    cluster.converge(Duration::from_secs(30));
    let bounds = Bounds::new(&cluster.options().config, 2, cluster.options().link);
    let is_right = |view: &View<'_>| {
        members_are_as_they_joined(&Evidence {
            view,
            bounds: &bounds,
            startup: &[],
            core: &[a, b],
            converged: Some(&[]),
        })
    };
    for mut view in View::all(&cluster) {
        assert_eq!(is_right(&view), Ok(()));
        let instance = cluster.instance(b);
        for call in view.history.to_mut().calls.iter_mut().filter(|call| call.instance == instance) {
            let Command::JoinScope(setup) = &mut call.command else { continue };
            setup.weight = 350 - setup.weight;
        }
        assert!(is_right(&view).expect_err("the weight of the other scope").detail.contains("b is listed as"));
    }
}
