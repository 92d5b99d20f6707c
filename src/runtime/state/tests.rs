use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::*;
use crate::config::Config;
use crate::proto::{Birth, Fanout, FaultSites, InstanceId, Sabotage, Time};

fn state() -> State {
    let birth = Birth {
        addr: ([127, 0, 0, 1], 7946).into(),
        instance: InstanceId::new(1),
        seed: [0; 32],
        wall_ms_at_zero: 0,
        sabotage: Sabotage::default(),
        fault_sites: FaultSites::default(),
        fanout: Fanout::default(),
    };
    let config = Config { name: Some("seal".into()), ..Config::default() };
    State::new(Node::new(&config, birth, Time::ZERO + Duration::from_secs(1)).unwrap())
}

fn name(node: &Node) -> String {
    node.name().to_owned()
}

#[test]
fn a_handle_reads_while_the_loop_does_nothing_or_only_looks() {
    let state = state();
    let view = state.view();
    assert_eq!(view.peek(name).as_deref(), Some("seal"));
    let _looking = state.read();
    assert_eq!(view.peek(name).as_deref(), Some("seal"));
}

#[test]
fn a_handle_does_not_wait_for_a_loop_that_is_at_work() {
    let state = state();
    let view = state.view();
    let working = state.write();
    assert_eq!(view.peek(name), None);
    drop(working);
    assert!(view.peek(name).is_some());
}

/// Goal: what a panic of the loop left behind is not read. Method: a panic with the lock held, as the loop would.
#[test]
fn a_handle_reads_nothing_of_a_loop_that_panicked_or_is_gone() {
    let state = state();
    let view = state.view();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _working = state.write();
        panic!("a bug");
    }));
    assert!(panicked.is_err());
    assert_eq!(view.peek(name), None);
    drop(state);
    assert_eq!(view.peek(name), None);
}
