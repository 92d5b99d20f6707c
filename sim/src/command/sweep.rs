//! `sweep`: what `sync_interval`, size and loss do, in figures.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use haulout_sim::crew;
use haulout_sim::scenario::span;
use haulout_sim::sweep::{Grid, MEASURES, Row, page, text};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Wrong;
use super::args::{probability, timings_named};

/// The arguments of `sweep`.
#[derive(Args)]
pub(crate) struct Sweep {
    /// The values of `sync_interval`.
    #[arg(long, value_delimiter = ',', value_parser = interval, default_value = "1s,5s,30s")]
    sync_interval: Vec<Duration>,
    /// The sizes of the cluster.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(2..=2_000), default_value = "3,10,50")]
    nodes: Vec<u16>,
    /// How likely a datagram is lost.
    #[arg(long, value_delimiter = ',', value_parser = probability, default_value = "0,0.05,0.2")]
    loss: Vec<f64>,
    /// How many children there are.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000), default_value_t = 100)]
    children: u32,
    /// How many clusters each figure is the median of.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000), default_value_t = 5)]
    seeds: u64,
    /// The timings of failure detection: local, lan or wan.
    #[arg(long, value_parser = timings_named, default_value = "lan")]
    timings: haulout::Profile,
    /// Prints the figures as JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Writes plots that a browser shows, in one file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// How many clusters run at once [default: all cores].
    #[arg(long)]
    jobs: Option<usize>,
}

impl Sweep {
    pub(crate) fn execute(&self) -> Result<u8, Wrong> {
        let grid = Grid {
            sync_intervals: self.sync_interval.clone(),
            nodes: self.nodes.iter().map(|&nodes| nodes.into()).collect(),
            losses: self.loss.clone(),
            children: self.children as usize,
            seeds: self.seeds,
            timings: self.timings,
        };
        let bar = bar(grid.clusters());
        let rows = grid.run(self.jobs.unwrap_or_else(crew::cores), || bar.inc(1));
        bar.finish_and_clear();
        if let Some(file) = &self.html {
            let page = page::page(&grid, &rows, &self.command());
            std::fs::write(file, page).map_err(|error| format!("can't write {}: {error}", file.display()))?;
        }
        if self.json {
            println!("{}", figures(&grid, &rows, &self.command()));
        } else {
            println!("{}", text::bars(&grid, &rows));
            println!("{}\n\n{}\n\n{}", text::head(&grid), text::table(&rows), self.command());
        }
        Ok(0)
    }

    /// The command that comes to the same figures.
    fn command(&self) -> String {
        let list = |values: Vec<String>| values.join(",");
        format!(
            "cargo run --release -p haulout-sim -- sweep --sync-interval {} --nodes {} --loss {} --children {} --seeds {} --timings {}",
            list(self.sync_interval.iter().map(|&interval| span::format(interval)).collect()),
            list(self.nodes.iter().map(u16::to_string).collect()),
            list(self.loss.iter().map(f64::to_string).collect()),
            self.children,
            self.seeds,
            format!("{:?}", self.timings).to_lowercase(),
        )
    }
}

/// How far a measurement is that takes so many clusters.
pub(crate) fn bar(clusters: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} clusters, {eta} left");
    ProgressBar::new(clusters).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn figures(grid: &Grid, rows: &[Row], command: &str) -> serde_json::Value {
    let rows = rows.iter().map(|row| {
        let medians =
            MEASURES.iter().enumerate().map(|(place, measure)| (measure.name.to_owned(), json!(row.median(place))));
        json!({
            "case": row.case,
            "medians": medians.collect::<serde_json::Map<_, _>>(),
            "samples": row.samples,
        })
    });
    let measures =
        MEASURES.iter().map(|measure| json!({ "name": measure.name, "unit": measure.unit, "about": measure.about }));
    json!({
        "command": command,
        "children": grid.children,
        "measures": measures.collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<_>>(),
    })
}

/// As `Config` allows it.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = span::parse(text)?;
    let config = haulout::Config { sync_interval: interval, ..haulout::Config::default() };
    config.check().map(|()| interval).map_err(|error| error.to_string())
}
