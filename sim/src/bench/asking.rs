//! What it costs a large cluster that whoever starts a child asks all: starts while one member says nothing, and children
//! that fail over all at once, from one node and from a tenth of them. All in virtual time, with a loss of 1 %.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::growth::until_running;
use super::{PATIENCE, spec};
use crate::cluster::{Cluster, NodeOptions, Options, Treatment};
use crate::{Link, NodeIdx};

/// The loss of every link.
const LOSS: f64 = 0.01;
/// The weight of a node; one has as much as all others together, so that half of the children run there.
const WEIGHT: u16 = 50;
/// Children that start one after the other while a member is silent.
const STARTS: usize = 10;
/// The time between two of them.
const START_INTERVAL: Duration = Duration::from_millis(50);
/// Arrivals are counted by this time: about what a busy node needs until it reads its socket again.
const BURST: Duration = Duration::from_millis(1);
/// So many small datagrams fit into a socket buffer of Linux's default size (208 KiB), at 768 bytes each.
const BURST_BAR: u32 = 277;
/// What still happens when a part is over is none of the next one's.
const CALM: Duration = Duration::from_secs(15);

/// What children that failed over cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Failover {
    /// How many children they were.
    pub children: usize,
    /// From the crash until all run again.
    pub took: Duration,
    /// Datagrams that were sent meanwhile, by all together.
    pub datagrams_total: u64,
    /// Datagrams for each living member, on average.
    pub datagrams: f64,
    /// Those for the member that got the most.
    pub datagrams_max: u32,
    /// The most that were sent to one member within a millisecond.
    pub burst_max: u32,
    /// Rounds that a member's death had made void.
    pub rounds_voided: u64,
}

/// The figures of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Asking {
    /// How many nodes there are.
    pub nodes: usize,
    /// How long each start took while a member was silent, in order of time.
    pub silent: Vec<Duration>,
    /// One node with as many children as there are nodes is gone.
    pub one: Failover,
    /// A tenth of the nodes is gone at once.
    pub tenth: Failover,
}

impl fmt::Display for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} children run again after {:.2} s; {} datagrams, {:.0} to each member, at most {}, at most {} in {BURST:?} (bar: {BURST_BAR}); {} rounds void",
            self.children,
            self.took.as_secs_f64(),
            self.datagrams_total,
            self.datagrams,
            self.datagrams_max,
            self.burst_max,
            self.rounds_voided,
        )
    }
}

impl fmt::Display for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |share: usize| self.silent[(self.silent.len() - 1) * share / 100].as_secs_f64() * 1e3;
        writeln!(f, "{} nodes, {} % of all datagrams lost", self.nodes, LOSS * 100.0)?;
        writeln!(
            f,
            "  a start beside a silent member: median {:.0} ms, longest {:.0} ms (of {STARTS}, one each {START_INTERVAL:?})",
            of(50),
            of(100)
        )?;
        writeln!(f, "  one node lost:        {}", self.one)?;
        write!(f, "  a tenth of them lost: {}", self.tenth)
    }
}

/// Measures one size; says which part is over, for those who wait.
///
/// # Panics
/// If the cluster does not form or children do not run: that is a bug.
pub fn measure(nodes: usize, mut over: impl FnMut(&str)) -> Asking {
    let mut cluster = Cluster::new(Options { link: Link { loss: LOSS, ..Link::default() }, ..Options::seeded(1) });
    let heavy = add_node(&mut cluster, 0, WEIGHT * u16::try_from(nodes - 1).expect("so few that it is a weight"));
    for node in 1..nodes {
        add_node(&mut cluster, node, WEIGHT);
    }
    cluster.converge(PATIENCE);
    over("formed");
    let children = 2 * nodes;
    for child in 0..children {
        let _ = cluster.start(NodeIdx(child % nodes), spec(child));
    }
    until_running(&mut cluster, children);
    settle(&mut cluster);
    over("all children run");
    let silent = starts_beside_silent(&mut cluster, nodes, children);
    settle(&mut cluster);
    over("starts beside a silent member");
    let one = fail_over(&mut cluster, &[heavy]);
    settle(&mut cluster);
    over("one node lost");
    let tenth: Vec<NodeIdx> = (1..nodes).step_by(10).map(NodeIdx).collect();
    let tenth = fail_over(&mut cluster, &tenth);
    Asking { nodes, silent, one, tenth }
}

fn add_node(cluster: &mut Cluster, number: usize, weight: u16) -> NodeIdx {
    let options = NodeOptions { weight, ..cluster.node_options() };
    cluster.add_node_with(&format!("node-{number}"), options)
}

fn settle(cluster: &mut Cluster) {
    cluster.converge(PATIENCE);
    cluster.run_for(CALM);
}

/// One member stands still, and others start children meanwhile. It is back before the next part.
fn starts_beside_silent(cluster: &mut Cluster, nodes: usize, first: usize) -> Vec<Duration> {
    let silent = NodeIdx(nodes / 2);
    cluster.pause(silent);
    let mut began = Vec::new();
    for number in 0..STARTS {
        began.push(cluster.now());
        let _ = cluster.start(NodeIdx(1 + number), spec(first + number));
        cluster.run_for(START_INTERVAL);
    }
    until_running(cluster, first + STARTS);
    let started = |number: usize| cluster.journal().of(spec(first + number).id()).find_map(|run| run.started);
    let mut took: Vec<Duration> =
        began.iter().enumerate().map(|(number, began)| started(number).expect("it runs").since(*began)).collect();
    took.sort();
    cluster.resume(silent);
    took
}

fn fail_over(cluster: &mut Cluster, lost: &[NodeIdx]) -> Failover {
    let running = cluster.journal().alive().count();
    let children = cluster.journal().alive().filter(|run| lost.contains(&run.node)).count();
    let sent = Rc::new(RefCell::new(vec![(0u32, 0u32); cluster.nodes().count()]));
    let seen = sent.clone();
    cluster.on_packet(move |packet| {
        if !packet.is_stream {
            let (all, lately) = &mut seen.borrow_mut()[packet.to.0];
            (*all, *lately) = (*all + 1, *lately + 1);
        }
        Treatment::Pass
    });
    let (from, voided, mut burst_max) = (cluster.now(), cluster.total_stats().rounds_voided, 0);
    lost.iter().for_each(|&node| cluster.crash(node));
    let up = cluster.up();
    while cluster.journal().alive().filter(|run| run.started.is_some()).count() < running {
        assert!(cluster.now().since(from) < PATIENCE, "not all children run again");
        cluster.run_for(BURST);
        let mut sent = sent.borrow_mut();
        up.iter().for_each(|node| burst_max = burst_max.max(sent[node.0].1));
        sent.iter_mut().for_each(|(_, lately)| *lately = 0);
    }
    cluster.no_hook();
    let sent = sent.borrow();
    let datagrams_total: u64 = sent.iter().map(|(all, _)| u64::from(*all)).sum();
    Failover {
        children,
        took: cluster.now().since(from),
        datagrams_total,
        datagrams: datagrams_total as f64 / cluster.up().len() as f64,
        datagrams_max: up.iter().map(|node| sent[node.0].0).max().unwrap_or(0),
        burst_max,
        rounds_voided: cluster.total_stats().rounds_voided - voided,
    }
}
