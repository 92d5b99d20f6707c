//! The table itself, and a run judged from end to end.

use std::collections::BTreeSet;
use std::time::Duration;

use haulout::ChildSpec;

use super::*;
use crate::Options;

#[test]
fn every_invariant_has_a_name_of_its_own_and_a_statement() {
    let names: BTreeSet<&str> =
        ALL.iter().map(|invariant| invariant.name).chain(JUDGED.iter().map(|judged| judged.name)).collect();
    assert_eq!(names.len(), ALL.len() + JUDGED.len());
    assert!(ALL.iter().all(|invariant| invariant.statement.len() > 20 && !invariant.family.is_empty()));
}

/// Goal: a healthy cluster passes all of it; one whose nodes stay apart is told from it, and in words.
/// Method: two nodes, then the same with their link cut for good.
#[test]
fn a_healthy_cluster_passes_and_a_split_one_does_not_converge() {
    let mut cluster = Cluster::new(Options::seeded(1));
    let [a, b] = ["a", "b"].map(|name| cluster.add_node(name));
    cluster.converge(Duration::from_secs(30));
    let _ = cluster.start(a, ChildSpec::raw("x", "kind", Vec::new()).expect("a spec"));
    cluster.run_for(Duration::from_secs(1));
    let bounds = Bounds::new(&cluster.options().config, 2, cluster.options().link);
    let ending = judge(&mut cluster, &bounds, &[], &[a, b]).expect("a healthy cluster");
    assert_eq!((ending.children.len(), ending.excuses), (1, Excuses::default()));

    cluster.cut(a, b);
    cluster.run_for(Duration::from_secs(20));
    let violation = judge(&mut cluster, &bounds, &[], &[a, b]).expect_err("they can't agree");
    assert_eq!((violation.invariant, violation.class), ("converges", Class::Liveness));
    assert!(violation.detail.contains("does not see the member"), "{}", violation.detail);
}
