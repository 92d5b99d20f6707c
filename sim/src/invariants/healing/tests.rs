//! What is pending, and what stirs at rest.

use haulout::proto::Command;

use super::super::testing::{Hand, at, scope};
use super::*;

#[test]
fn a_call_may_die_with_its_node_but_not_be_forgotten() {
    let mut hand = Hand::new(2);
    hand.ask_start(0, "x", 100, None);
    assert!(unanswered(&hand.history).next().is_some());
    hand.crash(0, 105);
    assert!(unanswered(&hand.history).next().is_none());
    let id = super::super::testing::spec("x").id().clone();
    hand.call(1, 110, Command::WaitUntilRunning { scope: scope(), id }, None);
    assert!(unanswered(&hand.history).next().is_none(), "whoever waits may wait for ever");
}

#[test]
fn a_run_that_begins_or_ends_while_the_cluster_should_rest_is_found() {
    let stirs = |from: u64, to: u64| {
        let mut hand = Hand::new(1);
        hand.run("x", 0, from, to);
        nothing_stirs(&hand.journal, &[NodeIdx(0), NodeIdx(1)], &hand.bounds, at(1_000))
            .map_err(|violation| violation.at)
    };
    assert_eq!(stirs(10, 0), Ok(()));
    assert_eq!(stirs(10, 20), Ok(()));
    assert_eq!(stirs(999, 0), Err(at(999)));
    assert_eq!(stirs(10, 998), Err(at(998)));
}
