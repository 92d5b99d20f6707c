//! A child runs only where its kind is known and its arguments are understood; until then everybody sees why not.

use haulout::proto::Reply;
use haulout::{ChildState, Event, StartError, Unplaced};
use haulout_sim::{Cluster, NodeIdx, Plan};

use crate::support::*;

/// Adds a node that knows these kinds.
fn add(cluster: &mut Cluster, name: &str, kinds: &[&str]) -> NodeIdx {
    let mut options = cluster.node_options();
    options.kinds = kinds.iter().map(|kind| (*kind).to_owned()).collect();
    cluster.add_node_with(name, options)
}

/// Goal: a kind that only some nodes know runs only there.
/// Method: two of five nodes know it; their children are spread over both, also after one of them died.
#[test]
fn a_kind_that_only_some_nodes_know_runs_only_there() {
    for seed in 0..3 {
        let mut cluster = cluster(seed, 3);
        let [d, e] = ["d", "e"].map(|name| add(&mut cluster, name, &["kind", "special"]));
        cluster.converge(REST);
        for child in ids(20) {
            start(&mut cluster, A, spec_of(&child, "special"));
        }
        converge_to(&mut cluster, SOON, &ids(20));
        assert!(!running_on(&cluster, d).is_empty() && !running_on(&cluster, e).is_empty());
        cluster.crash(d);
        cluster.run_for(SOON);
        converge_to(&mut cluster, DETECTION_MAX, &ids(20));
        assert_eq!(running_on(&cluster, e).len(), 20);
        assert!(cluster.journal().runs().iter().all(|run| run.node == d || run.node == e), "seed {seed}");
    }
}

/// Goal: a child runs only on nodes with the labels that it asks for, and says why it runs nowhere.
/// Method: two of five nodes are in zone b, one of them with a gpu; that one dies, then the other; one comes back.
#[test]
fn a_child_runs_only_where_the_labels_are_that_it_asks_for() {
    for seed in 0..3 {
        let mut cluster = cluster(seed, 3);
        let [d, e] = [("d", "no"), ("e", "yes")].map(|(name, gpu)| {
            let mut options = cluster.node_options();
            options.labels = [("zone", "b"), ("gpu", gpu)].map(|(key, value)| (key.into(), value.into())).into();
            cluster.add_node_with(name, options)
        });
        cluster.converge(REST);
        let wanting =
            |id: &str, labels: &[(&str, &str)]| spec(id).node_selector(labels.iter().copied()).expect("labels");
        for child in ids(20) {
            start(&mut cluster, A, wanting(&child, &[("zone", "b")]));
        }
        start(&mut cluster, B, wanting("gpu", &[("gpu", "yes"), ("zone", "b")]));
        start(&mut cluster, C, wanting("nowhere", &[("gpu", "yes"), ("zone", "c")]));
        cluster.run_for(SOON);
        assert!(!running_on(&cluster, d).is_empty() && running_on(&cluster, e).len() > 1);
        assert_eq!(runner(&cluster, "gpu"), e);
        let unplaced = Some(ChildState::Unplaced(Unplaced::NodeSelector));
        assert_eq!(state(&mut cluster, A, "nowhere"), unplaced);
        cluster.crash(e);
        cluster.expect(DETECTION_MAX, "d has them all", |cluster| running_on(cluster, d).len() == 20);
        assert_eq!(state(&mut cluster, A, "gpu"), unplaced, "seed {seed}");
        cluster.restart(e);
        cluster.expect(DETECTION_MAX, "it runs again", |cluster| running_on(cluster, e).contains("gpu"));
        assert!(cluster.journal().runs().iter().all(|run| run.node == d || run.node == e), "seed {seed}");
        assert_no_overlap(&cluster);
    }
}

/// Goal: another node selector is another spec: a start is refused, an update moves the child.
/// Method: both, for a child in a zone of its own.
#[test]
fn an_update_of_the_node_selector_moves_the_child() {
    let mut cluster = cluster(7, 1);
    for zone in ["b", "c"] {
        let mut options = cluster.node_options();
        options.labels = [("zone".to_owned(), zone.to_owned())].into();
        cluster.add_node_with(zone, options);
    }
    cluster.converge(REST);
    let in_zone = |zone: &str| spec("child").node_selector([("zone", zone)]).expect("one label");
    start(&mut cluster, A, in_zone("b"));
    cluster.converge_to(SOON, &["child"]);
    assert_eq!(runner(&cluster, "child"), B);
    let other = cluster.start(A, in_zone("c"));
    assert!(matches!(cluster.wait(other), Reply::Started(Err(StartError::AlreadyStarted { .. }))));
    let update = cluster.update(A, in_zone("c"));
    assert!(matches!(cluster.wait(update), Reply::Updated(Ok(true))));
    cluster.converge_to(SOON, &["child"]);
    assert_eq!(runner(&cluster, "child"), C);
    assert_no_overlap(&cluster);
}

/// Goal: a child whose kind nobody knows is listed with its reason on every node, and is no error.
/// Method: it is started through each node; the listings, and a quiet journal.
#[test]
fn a_child_whose_kind_nobody_knows_stays_listed_as_unplaced_with_its_reason() {
    let mut cluster = cluster(1, 3);
    for (number, node) in cluster.up().into_iter().enumerate() {
        start(&mut cluster, node, spec_of(&name(number), "special"));
    }
    cluster.converge_to(SOON, &["a", "b", "c"]);
    cluster.run_for(secs(20));
    for node in cluster.up() {
        for child in ["a", "b", "c"] {
            let info = info(&mut cluster, node, child).expect("listed");
            assert_eq!(info.state, ChildState::Unplaced(Unplaced::UnknownKind));
            assert_eq!((info.node, info.kind.as_str()), (None, "special"));
        }
    }
    assert!(cluster.journal().runs().is_empty());
}

/// Goal: it starts when a node that knows its kind joins, and is unplaced again when that one leaves.
/// Method: the knowing node joins, leaves, joins again and dies.
#[test]
fn an_unplaced_child_starts_when_a_node_that_knows_its_kind_joins() {
    let mut cluster = cluster(2, 3);
    start(&mut cluster, A, spec_of("child", "special"));
    cluster.converge_to(SOON, &["child"]);
    let d = add(&mut cluster, "d", &["special"]);
    let unplaced =
        |cluster: &mut Cluster| state(cluster, A, "child") == Some(ChildState::Unplaced(Unplaced::UnknownKind));
    cluster.expect(secs(3), "it runs", |cluster| !running_on(cluster, d).is_empty());
    let leave = cluster.leave(d);
    cluster.wait(leave);
    cluster.expect(SOON, "it is unplaced", unplaced);
    cluster.converge_to(SOON, &["child"]);
    cluster.restart(d);
    cluster.expect(secs(5), "it runs again", |cluster| !running_on(cluster, d).is_empty());
    cluster.crash(d);
    cluster.expect(DETECTION_MAX, "it is unplaced", unplaced);
    cluster.converge_to(REST, &["child"]);
    assert_eq!(runs(&cluster, "child").len(), 2);
    assert_epochs_rise(&runs(&cluster, "child"));
}

/// Goal: while the only node that knows a kind drains, its children are listed as such.
/// Method: that node leaves, held up by a child that takes three seconds to stop.
#[test]
fn a_child_that_only_a_leaving_node_could_run_is_unplaced_because_it_drains() {
    let mut cluster = cluster(3, 2);
    let c = add(&mut cluster, "c", &["kind", "special"]);
    cluster.converge(REST);
    let slow = Plan { stop_delay: haulout_sim::Range::fixed(secs(3)), ..Plan::default() };
    cluster.children().plan_kind("kind", slow);
    let all = start_many(&mut cluster, 20);
    assert!(!running_on(&cluster, c).is_empty());
    let leave = cluster.leave(c);
    start(&mut cluster, A, spec_of("child", "special"));
    let draining = Some(ChildState::Unplaced(Unplaced::Draining));
    cluster.expect(SOON, "it is unplaced", |cluster| state(cluster, A, "child") == draining);
    cluster.wait(leave);
    let unknown = Some(ChildState::Unplaced(Unplaced::UnknownKind));
    cluster.expect(SOON, "it is unplaced", |cluster| state(cluster, A, "child") == unknown);
    assert_eq!(cluster.journal().alive().count(), all.len());
}

/// Goal: a node that does not understand a child's arguments hands it to the next one.
/// Method: the first two nodes in its order decline it; it runs on the third, and those two never ran its code.
#[test]
fn a_child_that_a_node_declines_runs_on_the_next_one() {
    for seed in 0..4 {
        let mut cluster = cluster(seed, 3);
        cluster.children().plan_args(b"child", Plan::declining("unknown field"));
        let able = NodeIdx(seed as usize % 3);
        cluster
            .children()
            .plan_with(move |node, start, _| (start.id == id("child") && node == able).then(Plan::default));
        start(&mut cluster, A, spec("child"));
        cluster.converge_to(secs(3), &["child"]);
        assert_eq!(runner(&cluster, "child"), able, "seed {seed}");
        assert_rests(&mut cluster, secs(20));
        assert_no_overlap(&cluster);
    }
}

/// Goal: a child that everybody declines is unplaced with the reason, and is not tried again and again.
/// Method: one run per node and no more; a node that understands it joins and runs it.
#[test]
fn a_child_that_everybody_declines_is_unplaced_with_the_reason_until_somebody_understands_it() {
    for seed in 0..4 {
        let mut cluster = cluster(seed, 3);
        cluster.children().plan_args(b"child", Plan::declining("unknown field"));
        cluster
            .children()
            .plan_with(move |node, start, _| (start.id == id("child") && node == NodeIdx(3)).then(Plan::default));
        start(&mut cluster, A, spec("child"));
        let declined = Some(ChildState::Unplaced(Unplaced::Declined("unknown field".into())));
        for node in cluster.up() {
            cluster.expect(secs(3), "it is unplaced", |cluster| state(cluster, node, "child") == declined);
        }
        assert_rests(&mut cluster, secs(20));
        assert_eq!(runs(&cluster, "child").len(), 3, "seed {seed}");
        let told = cluster.events(A).iter().filter(|(.., event)| matches!(event, Event::ChildDeclined { .. }));
        assert_eq!(told.count(), 1);
        let newcomer = cluster.add_node("d");
        cluster.run_for(SOON);
        cluster.converge_to(REST, &["child"]);
        assert_eq!(runner(&cluster, "child"), newcomer, "seed {seed}");
    }
}

/// Goal: a node runs a share by its weight.
/// Method: one node of three has three times the weight of the others; of 300 children about 180 run there.
#[test]
fn a_node_runs_a_share_by_its_weight() {
    let mut cluster = cluster(5, 2);
    let mut options = cluster.node_options();
    options.weight = 300;
    let heavy = cluster.add_node_with("c", options);
    cluster.converge(REST);
    start_many(&mut cluster, 300);
    let count = running_on(&cluster, heavy).len();
    assert!((150..=210).contains(&count), "{count} of 300");
}
