//! `bench`: how fast the simulator is.

use std::time::Duration;

use clap::{ArgGroup, Args};
use haulout_sim::bench::{CASES, Case, asking, growth, measure};
use haulout_sim::scenario::span;

use super::Wrong;

/// The arguments of `bench`.
#[derive(Args)]
#[command(group(ArgGroup::new("clusters").args(["nodes", "table"])))]
pub(crate) struct Bench {
    /// How many nodes there are [default: three sizes, one after the other].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    nodes: Option<u16>,
    /// How many children they run, or each of the table's clusters [default: 100, or by `--children-per-node`]. Memory grows
    /// with nodes times children: 300 nodes with 100,000 take some 10 GB.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000), requires = "clusters", conflicts_with = "children_per_node")]
    children: Option<u32>,
    /// How much virtual time is measured.
    #[arg(long, default_value = "1m", value_parser = span::parse, requires = "nodes")]
    duration: Duration,
    /// Measures how a cluster's own figures grow with its size instead, up to this one, and prints them as a table.
    #[arg(long, value_name = "NODES", num_args = 0..=1, default_missing_value = "1000")]
    table: Option<usize>,
    /// How many children the table's clusters run for each node. Memory grows with it: a thousand nodes with ten each take
    /// 7 GB, mostly for the packets that are on their way while all start.
    #[arg(long, default_value_t = 10, requires = "table", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    children_per_node: u16,
    /// Measures what it costs a cluster of this size that starts ask every member instead: beside a silent one, and when
    /// many children fail over at once.
    #[arg(long, value_name = "NODES", value_parser = clap::value_parser!(u16).range(30..=1_000), conflicts_with_all = ["nodes", "table"])]
    asking: Option<u16>,
}

impl Bench {
    pub(crate) fn execute(&self) -> Result<u8, Wrong> {
        if let Some(nodes_max) = self.table {
            table(nodes_max, |nodes| {
                self.children.map_or(nodes * usize::from(self.children_per_node), |all| all as usize)
            });
            return Ok(0);
        }
        if let Some(nodes) = self.asking {
            println!("{}", asking::measure(usize::from(nodes), |part| eprintln!("{nodes} nodes: {part}")));
            return Ok(0);
        }
        let one = self.nodes.map(|nodes| Case {
            nodes: usize::from(nodes),
            children: self.children.unwrap_or(100) as usize,
            duration: self.duration,
        });
        for case in one.map_or(CASES.to_vec(), |case| vec![case]) {
            println!("{case}");
            let figures = measure(case, |part, pace| println!("  {part:<5} {pace}"));
            println!("  {figures}");
        }
        Ok(0)
    }
}

/// Rows are printed as they come: the last ones take minutes.
fn table(nodes_max: usize, children: impl Fn(usize) -> usize) {
    println!("{}", growth::Row::HEAD);
    for nodes in growth::SIZES.into_iter().filter(|nodes| *nodes <= nodes_max) {
        let row = growth::measure(nodes, children(nodes), |name, phase| eprintln!("{nodes} nodes: {name:<7} {phase}"));
        println!("{row}");
    }
}
