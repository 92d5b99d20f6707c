//! What the tests have in common: clusters, specs, calls that must succeed, and questions to the journal.

use std::collections::BTreeSet;
use std::time::Duration;

use haulout::proto::{Reply, Time};
use haulout::{ChildId, ChildInfo, ChildSpec, ChildState, Event, Which};
use haulout_sim::journal::Run;
use haulout_sim::{Cluster, NodeIdx, Options};

/// The first three nodes of a cluster.
pub(crate) const A: NodeIdx = NodeIdx(0);
pub(crate) const B: NodeIdx = NodeIdx(1);
pub(crate) const C: NodeIdx = NodeIdx(2);

/// Long enough for anything that is acted on at once, and far below failure detection.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// The slowest round trip of the default link.
pub(crate) const ROUND_TRIP: Duration = Duration::from_millis(3);

/// How soon the nodes of the lan profile notice a death: a probe that fails, a suspicion that expires, both with the
/// luck of who probes whom, and then the hand-over.
pub(crate) const DETECTION_MAX: Duration = Duration::from_secs(12);

/// Long enough for a cluster to come to rest whatever has happened to it.
pub(crate) const REST: Duration = Duration::from_secs(90);

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A cluster of so many nodes, named a, b, c, ..., at rest.
#[track_caller]
pub(crate) fn cluster(seed: u64, nodes: usize) -> Cluster {
    cluster_with(Options::seeded(seed), nodes)
}

/// The same with other options.
#[track_caller]
pub(crate) fn cluster_with(options: Options, nodes: usize) -> Cluster {
    let mut cluster = Cluster::new(options);
    for number in 0..nodes {
        cluster.add_node(&name(number));
    }
    cluster.converge(REST);
    cluster
}

/// Asserts that no promise was broken so far.
#[track_caller]
pub(crate) fn assert_invariants(cluster: &Cluster) {
    if let Err(violation) = haulout_sim::invariants::check_safety(cluster) {
        panic!("seed {}: {violation:?}", cluster.options().seed);
    }
}

/// The name of the `number`th node.
pub(crate) fn name(number: usize) -> String {
    match u8::try_from(number) {
        Ok(number) if number < 26 => char::from(b'a' + number).to_string(),
        _ => format!("n{number}"),
    }
}

/// A child of the kind that every node knows; its arguments are its id, so that a plan can be made for it alone.
#[track_caller]
pub(crate) fn spec(id: &str) -> ChildSpec {
    ChildSpec::raw(id, "kind", id.as_bytes().to_vec()).expect("a spec")
}

/// A child of some kind.
#[track_caller]
pub(crate) fn spec_of(id: &str, kind: &str) -> ChildSpec {
    ChildSpec::raw(id, kind, id.as_bytes().to_vec()).expect("a spec")
}

/// So many ids.
pub(crate) fn ids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("child-{number:03}")).collect()
}

#[track_caller]
pub(crate) fn id(text: &str) -> ChildId {
    ChildId::new(text).expect("an id")
}

/// Starts a child; says whether it is new.
#[track_caller]
pub(crate) fn start(cluster: &mut Cluster, node: NodeIdx, spec: ChildSpec) -> bool {
    let request = cluster.start(node, spec);
    match cluster.wait(request) {
        Reply::Started(Ok(new)) => new,
        other => panic!("start was answered with {other:?}"),
    }
}

/// Starts so many children through all nodes in turn and waits until they run.
#[track_caller]
pub(crate) fn start_many(cluster: &mut Cluster, count: usize) -> Vec<String> {
    let (nodes, ids) = (cluster.up(), ids(count));
    for (number, id) in ids.iter().enumerate() {
        assert!(start(cluster, nodes[number % nodes.len()], spec(id)));
    }
    converge_to(cluster, REST, &ids);
    ids
}

#[track_caller]
pub(crate) fn converge_to(cluster: &mut Cluster, within: Duration, ids: &[String]) -> Vec<ChildInfo> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    cluster.converge_to(within, &ids)
}

/// Terminates a child that is known somewhere.
#[track_caller]
pub(crate) fn terminate(cluster: &mut Cluster, node: NodeIdx, id: &str) {
    let request = cluster.terminate(node, id);
    match cluster.wait(request) {
        Reply::Terminated(Ok(())) => {}
        other => panic!("terminate was answered with {other:?}"),
    }
}

/// The runs of a child, in the order in which they began.
pub(crate) fn runs(cluster: &Cluster, child: &str) -> Vec<Run> {
    cluster.journal().of(&id(child)).cloned().collect()
}

/// The only run of a child that is alive.
#[track_caller]
pub(crate) fn alive(cluster: &Cluster, child: &str) -> Run {
    let alive: Vec<Run> = runs(cluster, child).into_iter().filter(Run::is_alive).collect();
    assert_eq!(alive.len(), 1, "{child} runs {} times", alive.len());
    alive[0].clone()
}

/// The node that runs a child.
#[track_caller]
pub(crate) fn runner(cluster: &Cluster, child: &str) -> NodeIdx {
    alive(cluster, child).node
}

/// A node that does not run a child.
#[track_caller]
pub(crate) fn bystander(cluster: &Cluster, child: &str) -> NodeIdx {
    let runner = runner(cluster, child);
    cluster.up().into_iter().find(|&node| node != runner).expect("another node")
}

/// The children that run on a node.
pub(crate) fn running_on(cluster: &Cluster, node: NodeIdx) -> BTreeSet<String> {
    cluster.journal().alive().filter(|run| run.node == node).map(|run| run.id.to_string()).collect()
}

/// What a node lists about one child.
#[track_caller]
pub(crate) fn info(cluster: &mut Cluster, node: NodeIdx, child: &str) -> Option<ChildInfo> {
    let child = id(child);
    cluster.which(node, Which::Global).into_iter().find(|info| info.id == child)
}

/// What a node lists as the state of one child.
#[track_caller]
pub(crate) fn state(cluster: &mut Cluster, node: NodeIdx, child: &str) -> Option<ChildState> {
    info(cluster, node, child).map(|info| info.state)
}

/// When a node told an event, and the event, from `from` on.
pub(crate) fn events_from(cluster: &Cluster, node: NodeIdx, from: Time) -> Vec<(Time, Event)> {
    let events = cluster.events(node).iter().filter(|(at, ..)| *at >= from);
    events.map(|(at, _, event)| (*at, event.clone())).collect()
}

/// Asserts that no child ever was on two nodes, or twice on one.
#[track_caller]
pub(crate) fn assert_no_overlap(cluster: &Cluster) {
    let overlaps = cluster.journal().overlaps();
    assert!(overlaps.is_empty(), "seed {}: {overlaps:?}", cluster.options().seed);
}

/// Asserts that nothing begins or ends for a while: a cluster at rest stays at rest.
#[track_caller]
pub(crate) fn assert_rests(cluster: &mut Cluster, during: Duration) {
    let shape = |cluster: &Cluster| (cluster.journal().runs().len(), cluster.journal().alive().count());
    let before = shape(cluster);
    cluster.run_for(during);
    assert_eq!(shape(cluster), before, "seed {}: runs began or ended", cluster.options().seed);
}

/// Asserts that epochs rise from run to run.
#[track_caller]
pub(crate) fn assert_epochs_rise(runs: &[Run]) {
    assert!(runs.windows(2).all(|pair| pair[0].epoch < pair[1].epoch), "{runs:?}");
}
