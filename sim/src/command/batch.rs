//! `batch`: many seeds on all cores.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use haulout_sim::scenario::span;
use haulout_sim::tally::Total;
use haulout_sim::wall::Stopwatch;
use haulout_sim::{Verdict, crew};
use indicatif::{ProgressBar, ProgressStyle};

use super::Wrong;
use super::args::{Given, reproduce};

/// The arguments of `batch`.
#[derive(Args)]
pub(crate) struct Batch {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// As many seeds as this wall time allows, instead of a number.
    #[arg(long, value_parser = span::parse, conflicts_with = "seeds")]
    budget: Option<Duration>,
    #[command(flatten)]
    given: Given,
    /// Stops at the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Writes the scenario of every seed that did not pass into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Events that happened less often than this are reported as missing from the test.
    #[arg(long, default_value_t = 1)]
    at_least: u64,
    /// How many run at once [default: all cores].
    #[arg(long)]
    jobs: Option<usize>,
}

impl Batch {
    pub(crate) fn execute(&self) -> Result<u8, Wrong> {
        self.given.scenario(Some(self.from))?;
        let began = Stopwatch::start();
        let bar = self.bar();
        let mut total = Total::default();
        let mut broken: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
        let mut unjudged = 0;
        let mut worst = 0;
        let seeds = self.from..self.from + if self.budget.is_some() { u64::MAX / 2 } else { self.seeds };
        let jobs = self.jobs.unwrap_or_else(crew::cores);
        // A node that panics is found and counted; hundreds of backtraces would hide it.
        std::panic::set_hook(Box::new(|_| {}));
        let scenario = |seed| self.given.scenario(Some(seed)).map_err(|error| error.to_string());
        crew::run_all(jobs, seeds, scenario, |seed, ended| {
            bar.inc(1);
            total.add(&ended.tally);
            worst = worse(worst, ended.verdict.exit_code());
            let detail = match &ended.verdict {
                Verdict::Passed => None,
                Verdict::Failed(violation) => {
                    let entry = broken.entry(violation.invariant).or_insert((0, seed));
                    *entry = (entry.0 + 1, entry.1.min(seed));
                    Some(format!(": {}", violation.detail))
                }
                Verdict::Inconclusive(_) => {
                    unjudged += 1;
                    Some(String::new())
                }
            };
            if let Some(detail) = detail {
                bar.suspend(|| {
                    println!("{} seed={seed}{detail}", ended.headline);
                    println!("reproduce: {}", reproduce("run", seed, &self.given));
                });
                self.keep(seed, &ended.scenario);
            }
            let spent = self.budget.is_some_and(|budget| began.elapsed() >= budget);
            !(spent || self.fail_fast && worst > 0)
        })?;
        bar.finish_and_clear();
        self.report(&total, &broken, unjudged, began.elapsed());
        Ok(worst)
    }

    fn bar(&self) -> ProgressBar {
        if !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = if self.budget.is_some() { ProgressBar::new_spinner() } else { ProgressBar::new(self.seeds) };
        let style =
            ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} seeds, {per_sec}, {eta} left");
        bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
    }

    fn keep(&self, seed: u64, scenario: &haulout_sim::Scenario) {
        let Some(dir) = &self.out else { return };
        let file = dir.join(format!("seed-{seed}.toml"));
        let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&file, scenario.to_string()));
        if let Err(error) = written {
            eprintln!("can't write {}: {error}", file.display());
        }
    }

    fn report(&self, total: &Total, broken: &BTreeMap<&'static str, (u64, u64)>, unjudged: u64, wall: Duration) {
        println!("{total}");
        let missing: Vec<String> = total.coverage.below(self.at_least);
        println!("events that happened:");
        for (name, count) in total.coverage.0.iter().filter(|(_, count)| **count > 0) {
            println!("  {name:<28} {count}");
        }
        if !missing.is_empty() {
            println!("NOT TESTED: fewer than {} of: {}", self.at_least, missing.join(", "));
        }
        for (invariant, (seeds, first)) in broken {
            println!("broken: {invariant} in {seeds} seeds, first {first}");
        }
        let failed: u64 = broken.values().map(|(seeds, _)| seeds).sum();
        let last = self.from + total.runs.saturating_sub(1);
        let verdict = match (failed, unjudged) {
            (0, 0) => "PASSED".to_owned(),
            (0, _) => format!("INCONCLUSIVE {unjudged} of {}", total.runs),
            (_, _) => format!("FAILED {failed} of {}", total.runs),
        };
        println!(
            "{verdict} seeds {}..={last} in {}: {:.0} simulated seconds per second",
            self.from,
            span::format(Duration::from_millis(wall.as_millis() as u64)),
            total.simulated.as_secs_f64() / wall.as_secs_f64().max(0.001)
        );
    }
}

/// Of two exit codes the one that says more: safety before liveness before inconclusive.
fn worse(one: u8, other: u8) -> u8 {
    match (one, other) {
        (0, code) | (code, 0) => code,
        (one, other) => one.min(other),
    }
}
