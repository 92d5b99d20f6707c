use super::*;
use crate::figures::Spread;
use crate::{Options, Plan};
use haulout::ChildSpec;

/// Two nodes over ten seconds: `a` runs x all the time until it goes down at 8.5 s, `b` is cut off at first, runs x
/// too from 4 s to 5 s, then y, and pauses from 7.5 s to 8.6 s.
pub(crate) fn recording() -> Recording {
    let second = 1_000_000;
    let lane = |name: &str, to, pauses| Lane {
        name: name.into(),
        lives: vec![LifeSpan { from: 0, to, end: to.map(|_| "was killed") }],
        pauses,
    };
    let bar = |child, node, began, ended: Option<u64>| Bar {
        child,
        node,
        epoch: "1.1".into(),
        began,
        started: Some(began + 20),
        signalled: None,
        ended,
        ending: ended.map(|_| "was stopped by its node".into()),
        failed: false,
    };
    let mut cluster = Cluster::new(Options::seeded(1));
    cluster.run_for(Duration::from_secs(10));
    Recording {
        nodes: vec![
            lane("a", Some(8 * second + second / 3), Vec::new()),
            lane("b", None, vec![(7 * second + second / 2, Some(8 * second + second / 2))]),
        ],
        faults: vec![Band {
            kind: "cut",
            label: "nothing gets from b to b".into(),
            nodes: vec![1],
            from: second / 2,
            to: Some(second),
        }],
        children: vec!["x".into(), "y".into()],
        runs: vec![
            bar(0, 0, 0, Some(8 * second + second / 3)),
            bar(0, 1, 4 * second, Some(5 * second)),
            bar(1, 1, 5 * second, None),
        ],
        overlaps: vec![Double { child: 0, earlier: 0, later: 1, from: 4 * second, to: Some(5 * second), excuse: None }],
        ..Recording::of(&cluster, &[], &Summary::default())
    }
}

/// A cluster in which `x` runs and its node is killed, so that it moves.
fn moved() -> Cluster {
    let mut cluster = Cluster::new(Options::seeded(7));
    cluster.children().plan(Plan::default());
    let nodes = ["a", "b", "c"].map(|name| cluster.add_node(name));
    let start = cluster.start(nodes[0], ChildSpec::raw("x", "kind", vec![1]).expect("a spec"));
    cluster.wait(start);
    cluster.converge(Duration::from_secs(20));
    let runner = cluster.journal().alive().next().expect("it runs").node;
    cluster.crash(runner);
    cluster.converge(Duration::from_secs(60));
    cluster
}

#[test]
fn a_failover_is_a_move_and_the_time_between_the_runs_an_orphan() {
    let cluster = moved();
    let recording = Recording::of(&cluster, &[], &Summary::default());
    assert_eq!(recording.children, ["x"]);
    assert_eq!(recording.runs.len(), 2);
    assert_eq!(
        recording.moves.iter().map(|moved| (moved.from, moved.to, moved.why)).collect::<Vec<_>>(),
        [(0, 1, "failed over")]
    );
    let [first, after_crash] = &recording.orphans[..] else { panic!("{:?}", recording.orphans) };
    assert_eq!((first.after, first.to), (None, Some(recording.runs[0].began)));
    assert_eq!((after_crash.after, Some(after_crash.from)), (Some(0), recording.runs[0].ended));
    assert_eq!(after_crash.to, Some(recording.runs[1].began));
    assert_eq!(recording.figures.orphans.count, 1);
    assert_eq!(recording.figures.duplicates, Spread::default());
}

#[test]
fn a_child_that_was_terminated_is_no_orphan() {
    let mut cluster = moved();
    let node = cluster.up()[0];
    let call = cluster.terminate(node, "x");
    cluster.wait(call);
    cluster.converge_to(Duration::from_secs(20), &[]);
    let recording = Recording::of(&cluster, &[], &Summary::default());
    assert_eq!(recording.orphans.len(), 2);
    assert_eq!(recording.figures.nowhere_at_end, 0);
}
