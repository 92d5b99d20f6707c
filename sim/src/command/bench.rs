//! `bench`: how fast the simulator is.

use std::time::Duration;

use clap::Args;
use haulout_sim::bench::{CASES, Case, measure};
use haulout_sim::scenario::span;

use super::Wrong;

/// The arguments of `bench`.
#[derive(Args)]
pub(crate) struct Bench {
    /// How many nodes there are [default: three sizes, one after the other].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    nodes: Option<u16>,
    /// How many children they run.
    #[arg(long, default_value_t = 100, requires = "nodes")]
    children: u32,
    /// How much virtual time is measured.
    #[arg(long, default_value = "1m", value_parser = span::parse, requires = "nodes")]
    duration: Duration,
}

impl Bench {
    pub(crate) fn execute(&self) -> Result<u8, Wrong> {
        let one = self.nodes.map(|nodes| Case {
            nodes: usize::from(nodes),
            children: self.children as usize,
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
