//! Converged listings of a small cluster, as they are and bent by hand.

use std::time::Duration;

use haulout::ChildSpec;
use haulout::proto::InstanceId;

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
    let (core, view) = (cluster.up(), View::of(&cluster, cluster.scope()));
    let check = |children: &[ChildInfo]| {
        let evidence = Evidence { view: &view, bounds: &bounds, startup: &[], core: &core, converged: Some(children) };
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

/// Goal: a run on a node that has not joined its scope is seen. Method: the node that runs a child of the second scope is
/// said, from then on, to join the first only.
#[test]
fn a_run_on_a_node_outside_its_scope_is_seen() {
    let mut cluster = Cluster::new(Options { scopes: vec!["second".into()], ..Options::seeded(3) });
    let a = cluster.add_node("a");
    cluster.converge(Duration::from_secs(30));
    let second = cluster.scopes()[1];
    let spec = ChildSpec::raw("x", "kind", Vec::new()).expect("a spec");
    let start = cluster.send(a, haulout::proto::Command::Start { scope: second, spec, replicated: 0 });
    cluster.wait(start);
    cluster.converge(Duration::from_secs(30));
    let broken = |cluster: &Cluster| crate::invariants::check_safety(cluster).map_err(|violation| violation.invariant);
    assert_eq!(broken(&cluster), Ok(()));
    cluster.node_options_mut(a).scopes.clear();
    assert_eq!(broken(&cluster), Err("runs-where-joined"));
}

/// Goal: a join moves what it must and nothing else. Method: a real join, then its result bent by hand.
#[test]
fn a_planned_change_moves_exactly_the_children_whose_owner_it_changes() {
    let (mut cluster, children) = cluster();
    let core = cluster.up();
    let before = Snapshot::of(&View::of(&cluster, cluster.scope()), &core, &children);
    cluster.add_node("d");
    cluster.run_for(Duration::from_secs(5));
    let children = cluster.converge(Duration::from_secs(30));
    let after = Snapshot::of(&View::of(&cluster, cluster.scope()), &core, &children);
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

/// Goal: a run that went on under a later life of the same spec is judged by who declined that one. Method: the journal
/// of one run and of two declines, written by hand.
#[test]
fn a_run_belongs_to_the_life_it_was_started_for_or_to_a_later_one_that_somebody_declined() {
    let (cluster, children) = cluster();
    let members = cluster.members(cluster.up()[0]);
    let started: Vec<Run> = cluster.journal().runs().iter().filter(|run| run.id == children[0].id).cloned().collect();
    let run = |member: &MemberInfo, birth: u64, began: u64, ending: Option<Ending>| {
        let mut run = started[0].clone();
        (run.instance, run.epoch.birth, run.ending) = (member.instance, birth, ending);
        run.began = Time::from_nanos(began);
        run.ended = run.ending.is_some().then_some(run.began);
        run
    };
    let names = |runs: &[Run]| -> Vec<Vec<String>> {
        let alive = runs.iter().find(|run| run.is_alive()).expect("one runs");
        let all = Runs::new(runs, members);
        all.lives(alive).map(|life| life.iter().map(|member| member.name.to_string()).collect()).collect()
    };
    let alive = run(&members[0], 5, 10, None);
    let declined = |member: usize, birth| run(&members[member], birth, 7, Some(Ending::Declined));
    let empty = Vec::<String>::new();
    assert_eq!(names(&[declined(1, 4), alive.clone()]), std::slice::from_ref(&empty), "an earlier life is over");
    assert_eq!(names(&[declined(1, 5), alive.clone()]), [["b".to_owned()]], "its own");
    assert_eq!(names(&[declined(1, 8), alive.clone()]), [empty.clone(), vec!["b".to_owned()]], "a later one");
    assert_eq!(
        names(&[declined(0, 5), alive.clone()]),
        std::slice::from_ref(&empty),
        "who runs it has declined another of that birth"
    );
    let mut apart = run(&members[0], 4, 9, None);
    apart.instance = InstanceId::new(1);
    let alive_here = |runs: &[Run]| Runs::new(runs, members).alive.get(&children[0].id).map(|run| run.epoch.birth);
    assert_eq!(alive_here(&[alive, apart]), Some(5), "who is no member may run another life of it");
}
