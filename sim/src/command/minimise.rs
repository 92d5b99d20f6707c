//! `minimise`: the smallest scenario that still fails for the same reason.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use haulout_sim::scenario::span;
use haulout_sim::wall::Stopwatch;
use haulout_sim::{Settings, minimise::minimise, run};

use super::Wrong;
use super::args::Which;
use super::run::print_verdict;

/// The arguments of `minimise`.
#[derive(Args)]
pub(crate) struct Minimise {
    #[command(flatten)]
    which: Which,
    /// Where to write the smallest scenario.
    #[arg(long, value_name = "FILE", default_value = "minimal.toml")]
    to: PathBuf,
    /// How much wall time it may take.
    #[arg(long, value_parser = span::parse, default_value = "5m")]
    budget: Duration,
}

impl Minimise {
    pub(crate) fn execute(&self) -> Result<u8, Wrong> {
        let scenario = self.which.scenario()?;
        let Some(invariant) = run(&scenario, Settings::default()).verdict.broken() else {
            return Err("this run breaks nothing, so there is nothing to minimise".into());
        };
        println!("breaks {invariant} with {} events; shrinking", scenario.events.len());
        // Shrinking panicking runs panics often.
        std::panic::set_hook(Box::new(|_| {}));
        let (began, mut runs) = (Stopwatch::start(), 0);
        let fails = |smaller: &_| {
            runs += 1;
            run(smaller, Settings::default()).verdict.broken() == Some(invariant)
        };
        let smallest = minimise(&scenario, fails, || began.elapsed() < self.budget);
        std::fs::write(&self.to, smallest.to_string()).map_err(|error| format!("{}: {error}", self.to.display()))?;
        let ended = run(&smallest, Settings::default());
        println!("{smallest}");
        println!(
            "{} of {} events and {} of {} nodes are left after {runs} runs; wrote {}",
            smallest.events.len(),
            scenario.events.len(),
            smallest.nodes().len(),
            scenario.nodes().len(),
            self.to.display()
        );
        print_verdict(&ended, &format!("cargo run --release -p haulout-sim -- run --scenario {}", self.to.display()));
        Ok(ended.verdict.exit_code())
    }
}
