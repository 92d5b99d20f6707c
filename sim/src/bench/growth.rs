//! How a cluster's figures grow with its size, all in virtual time but the last: what nodes send, how long they take, and
//! what they cost on a core.

use std::fmt;
use std::time::Duration;

use super::{Case, PATIENCE, Stopwatch, spec, work};
use crate::NodeIdx;
use crate::cluster::{Cluster, NodeState, Options, Traffic};

/// The sizes that make a table.
pub const SIZES: [usize; 5] = [10, 30, 100, 300, 1_000];

/// How long traffic is measured, once at rest and once under load.
const MEASURED: Duration = Duration::from_secs(20);
/// What still happens when a phase is over is none of the next one's.
const CALM: Duration = Duration::from_secs(15);
/// How often it is looked whether a time is over.
const LOOK: Duration = Duration::from_millis(10);
/// How long after its stop a node of a rolling restart is started again, and how long after that the next one stops.
const RESTART_AFTER: Duration = Duration::from_millis(200);

/// What a cluster sends and costs, per node and second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Datagrams.
    pub datagrams: f64,
    /// Bytes of datagrams and of streams.
    pub bytes: f64,
    /// Microseconds on a core, those of the simulator included.
    pub cpu_us: f64,
}

/// The figures of one size.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many children they run.
    pub children: usize,
    /// From the start of all nodes until all know all and have settled.
    pub form: Duration,
    /// From the calls that start all children, spread over all nodes, until all run.
    pub start: Duration,
    /// From the crash of a tenth of the nodes until all children run again.
    pub failover: Duration,
    /// From there until all nodes have equal states.
    pub converge: Duration,
    /// A tenth of the nodes leave and come back, one after the other; per node.
    pub rolling: Duration,
    /// At rest.
    pub rest: Cost,
    /// With four calls per second and a crash per minute.
    pub load: Cost,
    /// Datagrams per node in each of the phases above that are over when they are done: form, start, failover.
    pub sent: [f64; 3],
    /// Time on a core per node of these phases.
    pub spent: [Duration; 3],
}

impl Row {
    /// The heads of the columns.
    pub const HEAD: &str = "| nodes | children | form | all run | 10 % lost: run again | then equal states | rolling, per node \
        | at rest: datagrams, bytes, CPU | under load | form / start / loss: datagrams per node | CPU per node |\n\
        |---|---|---|---|---|---|---|---|---|---|---|";
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} /s, {:.0} B/s, {:.0} µs/s", self.datagrams, self.bytes, self.cpu_us)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let [form, start, loss] = self.sent;
        let spent = self.spent.map(|time| format!("{:.0}", time.as_secs_f64() * 1e3)).join(" / ");
        write!(
            f,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {form:.0} / {start:.0} / {loss:.0} | {spent} ms |",
            self.nodes,
            self.children,
            seconds(self.form),
            seconds(self.start),
            seconds(self.failover),
            seconds(self.converge),
            seconds(self.rolling),
            self.rest,
            self.load,
        )
    }
}

/// More nodes of a rolling restart show nothing new.
const ROLLED_MAX: usize = 10;

/// A cluster with the profile and everything else at their defaults, and what it cost so far.
struct Measured<R> {
    cluster: Cluster,
    nodes: usize,
    report: R,
}

/// What a phase took.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    nodes: usize,
    sent: Traffic,
    cpu: Duration,
    wall: Duration,
    simulated: Duration,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cost = self.cost();
        let (simulated, wall) = (self.simulated.as_secs_f64(), self.wall.as_secs_f64());
        write!(f, "{simulated:.2} s, {cost} per node; simulated in {wall:.1} s")
    }
}

/// Measures one size, with so many children; says of each phase what it took when it is over, for those who wait.
///
/// # Panics
/// If the cluster does not form or does not converge: that is a bug.
pub fn measure(nodes: usize, children: usize, report: impl FnMut(&str, &Phase)) -> Row {
    let mut measured = Measured { cluster: Cluster::new(Options::seeded(1)), nodes, report };
    let form = measured.phase("form", |cluster| {
        for node in 0..nodes {
            cluster.add_node(&format!("node-{node}"));
        }
        cluster.converge(PATIENCE);
    });
    let start = measured.phase("start", |cluster| {
        for child in 0..children {
            let _ = cluster.start(NodeIdx(child % nodes), spec(child));
        }
        until_running(cluster, children);
    });
    measured.settle();
    let rest = measured.phase("rest", |cluster| cluster.run_for(MEASURED));
    let mut failover = Duration::ZERO;
    let loss = measured.phase("loss", |cluster| {
        let from = cluster.now();
        (0..nodes).step_by(10).for_each(|node| cluster.crash(NodeIdx(node)));
        until_running(cluster, children);
        failover = cluster.now().since(from);
        cluster.converge(PATIENCE);
    });
    (0..nodes).step_by(10).for_each(|node| measured.cluster.restart(NodeIdx(node)));
    measured.settle();
    let rolling = measured.phase("rolling", |cluster| {
        (1..nodes).step_by(10).take(ROLLED_MAX).for_each(|node| roll(cluster, NodeIdx(node)));
    });
    measured.settle();
    let load = measured.phase("load", |cluster| work(cluster, Case { nodes, children, duration: MEASURED }));
    let per_node = |phase: &Phase| phase.sent.datagrams as f64 / nodes as f64;
    Row {
        nodes,
        children,
        form: form.simulated,
        start: start.simulated,
        failover,
        converge: loss.simulated - failover,
        rolling: rolling.simulated / nodes.div_ceil(10).min(ROLLED_MAX) as u32,
        rest: rest.cost(),
        load: load.cost(),
        sent: [&form, &start, &loss].map(per_node),
        spent: [&form, &start, &loss].map(|phase| phase.cpu / nodes as u32),
    }
}

impl<R: FnMut(&str, &Phase)> Measured<R> {
    fn phase(&mut self, name: &str, run: impl FnOnce(&mut Cluster)) -> Phase {
        let (from, before, watch) = (self.cluster.now(), self.cluster.traffic(), Stopwatch::start());
        run(&mut self.cluster);
        let (wall, cpu) = watch.read();
        let after = self.cluster.traffic();
        let sent = Traffic {
            datagrams: after.datagrams - before.datagrams,
            datagram_bytes: after.datagram_bytes - before.datagram_bytes,
            frame_bytes: after.frame_bytes - before.frame_bytes,
            ..Traffic::default()
        };
        let simulated = self.cluster.now().since(from);
        let phase = Phase { nodes: self.nodes, sent, cpu: cpu.unwrap_or(wall), wall, simulated };
        (self.report)(name, &phase);
        phase
    }

    fn settle(&mut self) {
        self.cluster.converge(PATIENCE);
        self.cluster.run_for(CALM);
        debug_assert_eq!(self.cluster.up().len(), self.nodes);
    }
}

impl Phase {
    fn cost(&self) -> Cost {
        let node_seconds = self.simulated.as_secs_f64() * self.nodes as f64;
        Cost {
            datagrams: self.sent.datagrams as f64 / node_seconds,
            bytes: (self.sent.datagram_bytes + self.sent.frame_bytes) as f64 / node_seconds,
            cpu_us: self.cpu.as_secs_f64() * 1e6 / node_seconds,
        }
    }
}

pub(super) fn until_running(cluster: &mut Cluster, children: usize) {
    let deadline = cluster.now() + PATIENCE;
    while cluster.journal().alive().filter(|run| run.started.is_some()).count() < children {
        assert!(cluster.now() < deadline, "not all children run");
        cluster.run_for(LOOK);
    }
}

/// A node leaves, and comes back a moment after it has left.
fn roll(cluster: &mut Cluster, node: NodeIdx) {
    let _ = cluster.leave(node);
    cluster.expect(PATIENCE, "to leave", |cluster| cluster.state(node) == NodeState::Down);
    cluster.run_for(RESTART_AFTER);
    cluster.restart(node);
    cluster.run_for(RESTART_AFTER);
}
