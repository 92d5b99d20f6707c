//! The chaos run: nodes come and go, children are started and terminated through random nodes.

use haulout_sim::random::Random;
use haulout_sim::{Cluster, NodeIdx};

use crate::support::*;

/// One chaos run: what is wanted, and a source of choices.
struct Chaos {
    cluster: Cluster,
    random: Random,
    wanted: Vec<String>,
    started: usize,
}

impl Chaos {
    fn start(&mut self, count: usize) {
        for _ in 0..count {
            let child = format!("child-{:03}", self.started);
            self.started += 1;
            let node = self.any_node();
            let _ = self.cluster.start(node, spec(&child));
            self.wanted.push(child);
        }
    }

    fn terminate(&mut self, count: usize) {
        for _ in 0..count {
            let child = self.wanted.remove(self.random.below(self.wanted.len()));
            let node = self.any_node();
            let _ = self.cluster.terminate(node, &child);
        }
    }

    fn any_node(&mut self) -> NodeIdx {
        let up = self.cluster.up();
        *self.random.pick(&up).expect("a node")
    }

    fn add(&mut self, count: usize) {
        for _ in 0..count {
            let number = self.cluster.nodes().count();
            self.cluster.add_node(&name(number));
        }
    }

    fn pause(&mut self) {
        self.cluster.run_for(secs(1));
    }
}

/// 10 nodes and 60 children; 5 nodes stopped; 45 terminated and 60 started; 10 nodes more; 30 terminated and 30
/// started; a second between the steps. In the end exactly the wanted ones run once, all nodes agree, and nothing
/// is pending.
#[track_caller]
fn run(seed: u64, stop: fn(&mut Cluster, NodeIdx)) {
    // One more seed than nodes are stopped: newcomers find somebody.
    let cluster = Cluster::new(haulout_sim::Options { seed_nodes: 6, ..haulout_sim::Options::seeded(seed) });
    let mut chaos = Chaos { cluster, random: Random::stream(seed, "chaos"), wanted: Vec::new(), started: 0 };
    chaos.add(10);
    chaos.pause();
    chaos.start(60);
    chaos.cluster.run_for(secs(3));
    for _ in 0..5 {
        let node = chaos.any_node();
        stop(&mut chaos.cluster, node);
    }
    chaos.pause();
    chaos.terminate(45);
    chaos.start(60);
    chaos.pause();
    chaos.add(10);
    chaos.pause();
    chaos.terminate(30);
    chaos.start(30);
    chaos.pause();

    let Chaos { mut cluster, mut wanted, .. } = chaos;
    wanted.sort();
    assert_eq!(wanted.len(), 75);
    converge_to(&mut cluster, REST, &wanted);
    let stopped = cluster.nodes().count() - cluster.up().len();
    assert!((1..=5).contains(&stopped));
    let pending = haulout_sim::invariants::unanswered(cluster.history()).next();
    assert!(pending.is_none(), "seed {seed}: {pending:?}");
    for node in cluster.up() {
        assert!(cluster.node(node).expect("up").is_quiet(), "seed {seed}: {node} waits for something");
        assert_eq!(cluster.stats(node).audit_repairs, 0, "seed {seed}: {node}");
    }
    assert_rests(&mut cluster, secs(20));
    converge_to(&mut cluster, SOON, &wanted);
    assert_invariants(&cluster);
}

/// Goal: the chaos run with nodes that leave as they should.
/// Method: several seeds.
#[test]
fn the_chaos_run_with_leaving_nodes_ends_with_exactly_the_wanted_children_running_once() {
    for seed in 0..3 {
        run(seed, |cluster, node| {
            let _ = cluster.leave(node);
        });
    }
}

/// Goal: the chaos run with nodes that are killed, one at a time so that no acknowledged call dies with its knowers.
/// Method: several seeds.
#[test]
fn the_chaos_run_with_killed_nodes_ends_with_exactly_the_wanted_children_running_once() {
    (0..3).for_each(|seed| run(seed, Cluster::crash));
}
