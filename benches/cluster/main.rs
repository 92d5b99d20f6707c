//! What a cluster of processes takes: `cargo bench --bench cluster` (`-- --quick` for a first impression).
//!
//! Operating-system processes on loopback with the default [`Config`](haulout::Config). A child runs from its own first
//! line on, noted in the process that runs it and collected when a measurement is over. Nothing is read from the
//! library's books except the listings, which are themselves measured, and the counters of packets. Beside each figure
//! stands what has to be paid in any case, measured in the same run.

mod asking;
mod bulk;
mod idle;
mod limits;
mod loss;
mod memory;
mod single;
mod table;

#[path = "../../examples/service_monitor/clock.rs"]
mod clock;
#[path = "../processes/cluster.rs"]
mod cluster;
#[path = "../processes/figures.rs"]
mod figures;
#[path = "../processes/node.rs"]
mod node;
#[path = "../../examples/service_monitor/ports.rs"]
mod ports;
#[path = "../../examples/service_monitor/process.rs"]
mod process;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use haulout::BoxError;

use crate::limits::LimitOptions;
use crate::node::NodeOptions;
use crate::table::{Row, Table};

/// Measures a cluster of processes on loopback.
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
    /// Measures limits, in a process that has done nothing else.
    #[command(hide = true)]
    Limits(LimitOptions),
}

#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// A first impression: fewer samples, shorter rests, a tenth of the children.
    #[arg(long)]
    quick: bool,
    /// A million children too, where children are started in bulk and where their memory is measured.
    #[arg(long)]
    million: bool,
    /// How many children a cluster has that is asked, or idle [default: 100000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(10..=4_000_000))]
    children: Option<u32>,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Given by `cargo bench`; without it (as in `cargo test --benches`) nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// One start at a time.
    Single,
    /// Many children started and terminated.
    Bulk,
    /// Asking what there is.
    Asking,
    /// Memory for each child.
    Memory,
    /// What nothing costs.
    Idle,
    /// A node is killed.
    Crashes,
    /// A node falls silent.
    Silent,
}

/// How much is measured and for how long.
#[derive(Clone, Debug)]
struct Plan {
    /// Single starts.
    starts: usize,
    /// Children started at once.
    bulks: Vec<usize>,
    /// Children of a cluster that is asked, or idle.
    children: usize,
    /// Children whose memory is measured.
    memory: Vec<usize>,
    /// How large the idle clusters are.
    idle_nodes: Vec<usize>,
    /// How long a cluster rests before its idle cost is measured: until streams of the start are closed, at least.
    rest: Duration,
    idle: Duration,
    /// How many nodes are killed, for each number of children; each in a new cluster.
    crashes: usize,
    /// How many nodes fall silent; each in a new cluster.
    silences: usize,
}

impl Plan {
    fn new(options: &Options) -> Plan {
        let quick = options.quick;
        let pick = |long, short| if quick { short } else { long };
        let million = options.million.then_some(1_000_000);
        Plan {
            starts: pick(1_000, 100),
            bulks: if quick { vec![1_000, 10_000] } else { vec![10_000, 100_000] }.into_iter().chain(million).collect(),
            children: options.children.map_or(pick(100_000, 10_000), |count| count as usize),
            memory: vec![million.unwrap_or(pick(100_000, 10_000))],
            idle_nodes: if quick { vec![3] } else { vec![3, 10] },
            rest: Duration::from_secs(pick(16, 6) as u64),
            idle: Duration::from_secs(pick(30, 6) as u64),
            crashes: pick(9, 2),
            silences: pick(5, 1),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.process.is_none() && !cli.options.bench {
        println!("nothing is measured without --bench: cargo bench --bench cluster");
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let result = match cli.process {
        Some(Process::Node(options)) => runtime.block_on(node::run(options)),
        Some(Process::Limits(options)) => runtime.block_on(limits::run(options)),
        None => runtime.block_on(measure_unless_interrupted(&cli.options)),
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
async fn measure_unless_interrupted(options: &Options) -> Result<(), BoxError> {
    tokio::select! {
        result = measure(options) => result,
        _ = tokio::signal::ctrl_c() => Err("interrupted: every process is killed".into()),
    }
}

async fn measure(options: &Options) -> Result<(), BoxError> {
    let plan = Plan::new(options);
    let mut rows = Vec::new();
    for &part in Part::value_variants() {
        if options.only.is_empty() || options.only.contains(&part) {
            let measured = measure_part(part, &plan, &mut rows).await;
            if let Err(error) = measured {
                // What was measured before is not lost.
                print!("{}", Table(&rows));
                return Err(error);
            }
        }
    }
    print!("{}", Table(&rows));
    Ok(())
}

async fn measure_part(part: Part, plan: &Plan, rows: &mut Vec<Row>) -> Result<(), BoxError> {
    match part {
        Part::Single => single::measure(plan.starts, rows).await,
        Part::Bulk => bulk::measure(&plan.bulks, rows).await,
        Part::Asking => asking::measure(plan.children, rows).await,
        Part::Memory => memory::measure(&plan.memory, rows).await,
        Part::Idle => idle::measure(plan, rows).await,
        Part::Crashes => loss::crashes(plan.crashes, rows).await,
        Part::Silent => loss::silences(plan.silences, rows).await,
    }
}
