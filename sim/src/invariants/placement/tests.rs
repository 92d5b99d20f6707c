//! Converged listings of a small cluster, as they are and bent by hand.

use std::time::Duration;

use haulout::ChildSpec;

use super::*;
use crate::bounds::Bounds;
use crate::{Cluster, Options};

fn cluster() -> (Cluster, Vec<ChildInfo>) {
    let mut cluster = Cluster::new(Options::seeded(3));
    let [a, ..] = ["a", "b", "c"].map(|name| cluster.add_node(name));
    cluster.converge(Duration::from_secs(30));
    for number in 0..12 {
        let _ = cluster.start(a, ChildSpec::raw(format!("x{number}"), "kind", Vec::new()).expect("a spec"));
    }
    let children = cluster.converge(Duration::from_secs(30));
    (cluster, children)
}

#[test]
fn a_child_that_runs_elsewhere_or_nowhere_is_misplaced() {
    let (cluster, mut children) = cluster();
    let bounds = Bounds::new(&cluster.options().config, 3, cluster.options().link);
    let core = cluster.up();
    let check = |children: &[ChildInfo]| {
        let evidence =
            Evidence { cluster: &cluster, bounds: &bounds, startup: &[], core: &core, converged: Some(children) };
        children_run_where_they_belong(&evidence).map_err(|violation| violation.detail)
    };
    assert_eq!(check(&children), Ok(()));
    let other = ["a", "b"].into_iter().find(|name| children[0].node.as_deref() != Some(name)).expect("one of two");
    let right = children[0].clone();
    children[0].node = Some(other.into());
    assert!(check(&children).expect_err("moved").contains("belongs to"));
    children[0] = right;
    children[0].node = None;
    children[0].state = ChildState::Unplaced(haulout::Unplaced::UnknownKind);
    assert!(check(&children).expect_err("unplaced").contains("could run it"));
}

/// Goal: a join moves what it must and nothing else. Method: a real join, then its result bent by hand.
#[test]
fn a_planned_change_moves_exactly_the_children_whose_owner_it_changes() {
    let (mut cluster, children) = cluster();
    let core = cluster.up();
    let before = Snapshot::of(&cluster, &core, &children);
    cluster.add_node("d");
    cluster.run_for(Duration::from_secs(5));
    let children = cluster.converge(Duration::from_secs(30));
    let after = Snapshot::of(&cluster, &core, &children);
    assert!(minimum_moves(&before, &after).is_ok());
    let moved = |child: &&ChildInfo| child.node.as_deref() == Some("d");
    let taken = after.children.iter().position(|child| moved(&child)).expect("the newcomer owns some");
    let mut bent = after.clone();
    bent.children[taken].node = before.children[taken].node.clone();
    assert!(minimum_moves(&before, &bent).expect_err("it stayed").detail.contains("belongs elsewhere"));
    let kept = after.children.iter().position(|child| !moved(&child)).expect("some stayed");
    let mut bent = after.clone();
    bent.children[kept].node = Some("d".into());
    assert!(minimum_moves(&before, &bent).expect_err("it moved").detail.contains("without need"));
    let mut bent = after;
    bent.children[kept].epoch.run += 1;
    assert!(minimum_moves(&before, &bent).expect_err("it began anew").detail.contains("began anew"));
}
