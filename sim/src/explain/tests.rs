use std::time::Duration;

use haulout::{ChildId, ChildSpec};

use super::*;
use crate::Options;
use crate::verdict::Violation;

/// Goal: the story of a child that was on both sides of a cut says so. Method: cut its runner off until the others
/// have started it too, then mend.
#[test]
fn the_story_of_a_child_tells_calls_runs_cuts_beliefs_and_duplicates_in_order() {
    let mut cluster = Cluster::new(Options::seeded(3));
    let nodes = ["a", "b", "c"].map(|name| cluster.add_node(name));
    let start = cluster.start(nodes[0], ChildSpec::raw("x", "kind", vec![1]).expect("a spec"));
    cluster.wait(start);
    cluster.converge(Duration::from_secs(20));
    let runner = cluster.journal().alive().next().expect("it runs").node;
    cluster.split(&[runner]);
    cluster.expect(Duration::from_secs(120), "a second run", |cluster| cluster.journal().alive().count() == 2);
    cluster.heal();
    cluster.converge(Duration::from_secs(120));

    let id = ChildId::new("x").expect("an id");
    let at = cluster.journal().overlaps()[0].from;
    let broken = Violation::safety("no-overlap", at, "it ran twice").of(&id);
    let story = child(&cluster, &id, &[broken]);
    let mut rest = &story[..];
    for expected in [
        "a was asked to start x (kind kind, arguments 01",
        "began to run it as",
        "was cut off from",
        "down",
        "began to run it as",
        "DUPLICATE: ",
        "had declared",
        "BROKEN: no-overlap (Safety): it ran twice",
        "could talk again with",
        "was stopped by its node",
        "It no longer runs on both",
        "In the end",
    ] {
        let at = rest.find(expected).unwrap_or_else(|| panic!("no {expected:?} in order in:\n{story}"));
        rest = &rest[at..];
    }
    let of_node = node(&cluster, runner);
    for expected in ["was started (instance", "It began to run x", "was cut off from", "declared", "DUPLICATE: x"] {
        assert!(of_node.contains(expected), "no {expected:?} in:\n{of_node}");
    }
}

#[test]
fn a_child_that_nobody_knows_has_a_short_story() {
    let cluster = Cluster::new(Options::seeded(1));
    let story = child(&cluster, &ChildId::new("nobody").expect("an id"), &[]);
    assert!(story.ends_with("Nobody ever asked for it, and it never ran.\n"));
}
