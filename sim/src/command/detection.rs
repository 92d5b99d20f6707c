//! `detection`: how soon silence is noticed, and how often health is taken for death.

use clap::Args;
use haulout_sim::crew;
use haulout_sim::detection::{Grid, Row, Trouble, text};
use serde_json::json;

use super::Wrong;
use super::args::{probability, timings_named};
use super::sweep::bar;

/// The arguments of `detection`.
#[derive(Args)]
pub(crate) struct Detection {
    /// The sizes of the cluster.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(2..=2_000), default_value = "3,10,100")]
    nodes: Vec<u16>,
    /// How likely a datagram is lost.
    #[arg(long, value_delimiter = ',', value_parser = probability, default_value = "0,0.1,0.25,0.4")]
    loss: Vec<f64>,
    /// What nodes are like besides: none, pauses (each stands still for up to 1 s now and then) or slow (one of five hears
    /// everything 50 to 300 ms late).
    #[arg(long, value_delimiter = ',', value_parser = trouble_named, default_value = "none,pauses,slow")]
    trouble: Vec<Trouble>,
    /// For how many hours of one node each combination is watched while nobody dies (with 100 nodes for a tenth of that).
    #[arg(long, value_parser = hours, default_value = "10")]
    node_hours: f64,
    /// How many nodes fall silent in each combination (with 100 nodes a tenth of that, but one in each cluster).
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=100_000), default_value_t = 40)]
    deaths: u64,
    /// Over how many clusters both are spread.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000), default_value_t = 4)]
    clusters: u64,
    /// The timings of failure detection: local, lan or wan.
    #[arg(long, value_parser = timings_named, default_value = "lan")]
    timings: haulout::Profile,
    /// Prints the figures as JSON instead of text.
    #[arg(long)]
    json: bool,
    /// How many clusters run at once [default: all cores].
    #[arg(long)]
    jobs: Option<usize>,
}

impl Detection {
    pub(crate) fn execute(&self) -> Result<u8, Wrong> {
        let grid = Grid {
            nodes: self.nodes.iter().map(|&nodes| nodes.into()).collect(),
            losses: self.loss.clone(),
            troubles: self.trouble.clone(),
            node_hours: self.node_hours,
            deaths: self.deaths,
            clusters: self.clusters,
            timings: self.timings,
        };
        let bar = bar(grid.measured());
        let rows = grid.run(self.jobs.unwrap_or_else(crew::cores), || bar.inc(1));
        bar.finish_and_clear();
        if self.json {
            println!("{}", figures(&rows, &self.command()));
        } else {
            println!("{}\n\n{}\n\n{}", text::head(&grid), text::table(&rows), self.command());
        }
        Ok(0)
    }

    /// The command that comes to the same figures.
    fn command(&self) -> String {
        let list = |values: Vec<String>| values.join(",");
        format!(
            "cargo run --release -p haulout-sim -- detection --nodes {} --loss {} --trouble {} --node-hours {} --deaths {} \
             --clusters {} --timings {}",
            list(self.nodes.iter().map(u16::to_string).collect()),
            list(self.loss.iter().map(f64::to_string).collect()),
            list(self.trouble.iter().map(Trouble::to_string).collect()),
            self.node_hours,
            self.deaths,
            self.clusters,
            format!("{:?}", self.timings).to_lowercase(),
        )
    }
}

fn figures(rows: &[Row], command: &str) -> serde_json::Value {
    let rows = rows.iter().map(|Row { case, sample }| {
        let seconds = |percent| sample.noticed_within(percent).map(|took| took.as_secs_f64());
        json!({
            "case": case,
            "node_hours": sample.node_hours,
            "false_downs": sample.false_downs,
            "noticed_median_seconds": seconds(50),
            "noticed_p99_seconds": seconds(99),
            "silences": sample.noticed.len() as u64 + sample.never,
            "never_noticed": sample.never,
            "bytes_per_node_and_second": sample.traffic(),
        })
    });
    json!({ "command": command, "rows": rows.collect::<Vec<_>>() })
}

fn trouble_named(text: &str) -> Result<Trouble, String> {
    let named = Trouble::ALL.into_iter().find(|trouble| trouble.to_string() == text);
    named.ok_or_else(|| format!("there are {}", Trouble::ALL.map(|trouble| trouble.to_string()).join(", ")))
}

fn hours(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(hours) if (0.0..=1e6).contains(&hours) => Ok(hours),
        _ => Err("hours are a number from 0 on".into()),
    }
}
