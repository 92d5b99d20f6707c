//! A flood against one node of a cluster of processes: `cargo bench --bench flood`.
//!
//! Somebody who has no key, sees all traffic and can send in anybody's name sends forged datagrams to one victim, and
//! holds half-open streams to it, while a client goes on starting children. Nothing may go down, be lost or move, and
//! starts may be a little slower. `cargo test` runs a small one, which asserts what must hold however fast the machine
//! is; the times are only printed then.

mod datagrams;
mod forge;
mod measure;
mod raw;
mod report;
mod streams;

#[path = "../../examples/service_monitor/clock.rs"]
mod clock;
#[allow(dead_code, reason = "no child is terminated here, and no node idle")]
#[path = "../processes/cluster.rs"]
mod cluster;
#[path = "../processes/figures.rs"]
mod figures;
#[path = "../processes/node.rs"]
mod node;
#[path = "../../examples/service_monitor/ports.rs"]
mod ports;
#[allow(dead_code, reason = "nobody is killed here")]
#[path = "../../examples/service_monitor/process.rs"]
mod process;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use haulout::BoxError;

use crate::node::NodeOptions;

/// Floods one node of a cluster of processes on loopback.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    process: Option<Process>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Process {
    /// One process of the cluster.
    #[command(hide = true)]
    Node(NodeOptions),
}

#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    nodes: u8,
    /// Forged datagrams per second [default: 110000].
    #[arg(long)]
    rate: Option<u64>,
    /// Half-open streams [default: 1000].
    #[arg(long)]
    streams: Option<usize>,
    /// Seconds that the flood lasts [default: 30].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=120))]
    seconds: Option<u16>,
    /// In plaintext, where whoever forges is believed: to see what the key is for.
    #[arg(long)]
    plaintext: bool,
    /// Given by `cargo bench`; without it (as in `cargo test`) the flood is small.
    #[arg(long, hide = true)]
    bench: bool,
    /// What `cargo test` gives to every test.
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    libtest: Vec<String>,
}

/// How large the flood is.
#[derive(Clone, Copy, Debug)]
struct Plan {
    nodes: usize,
    is_keyed: bool,
    datagrams_per_second: u64,
    streams: usize,
    /// How long starts are measured before the flood.
    calm: Duration,
    flood: Duration,
    /// Children that run before the flood.
    children: usize,
}

impl Plan {
    fn new(options: &Options) -> Plan {
        let pick = |long, short| if options.bench { long } else { short };
        Plan {
            nodes: options.nodes.into(),
            is_keyed: !options.plaintext,
            datagrams_per_second: options.rate.unwrap_or(pick(110_000, 10_000)),
            streams: options.streams.unwrap_or(pick(1_000, 300) as usize),
            calm: Duration::from_secs(pick(10, 3)),
            flood: Duration::from_secs(options.seconds.map_or(pick(30, 5), u64::from)),
            children: 300,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let result = match cli.process {
        Some(Process::Node(options)) => runtime.block_on(node::run(options)),
        None => runtime.block_on(flood_unless_interrupted(&cli.options)),
    };
    // A read of stdin that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    result.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &BoxError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

/// Dropping the measurement kills its processes.
async fn flood_unless_interrupted(options: &Options) -> Result<(), BoxError> {
    let is_filtered = options.libtest.iter().any(|word| !word.starts_with('-') && !"flood".contains(word.as_str()));
    if !options.bench && is_filtered {
        return Ok(());
    }
    let flood = async {
        let report = measure::flood(Plan::new(options)).await?;
        print!("{report}");
        report.verdict()
    };
    tokio::select! {
        result = flood => result,
        _ = tokio::signal::ctrl_c() => Err("interrupted: every process is killed".into()),
    }
}
