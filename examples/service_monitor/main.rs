//! A cluster that monitors TCP services: each service is checked by exactly one of several processes, whichever of
//! them live.
//!
//! `cargo run --release --example service_monitor` plays a story with real processes on this machine (starts, a
//! SIGKILL, a fresh process, a termination) and judges from the monitors' own journals whether haulout kept its
//! promises. How a service embeds the library is in `node.rs`; everything else is the theatre around it.

mod clock;
mod control;
mod journal;
mod judge;
mod node;
mod orchestra;
mod ports;
mod process;
mod prompt;
mod scenario;
mod services;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, value_parser};
use haulout::BoxError;

use crate::node::NodeOptions;
use crate::orchestra::{Orchestra, Setup};
use crate::scenario::Script;
use crate::table::Screen;

/// Monitors TCP services with a cluster of processes on this machine, kills and adds processes, and judges from the
/// monitors' own logs whether each service was always monitored by exactly one of them.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// One process of the cluster; started by the others' parent.
    #[command(hide = true)]
    Node(NodeOptions),
}

#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// How many processes to begin with.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u8).range(2..=16))]
    nodes: u8,
    /// A file with the services to monitor, one host:port per line [default: small listeners of its own]
    #[arg(long, value_name = "FILE")]
    services: Option<PathBuf>,
    /// How many listeners of its own to open where no file is given.
    #[arg(long, default_value_t = 18, value_parser = value_parser!(u16).range(1..=2_000))]
    count: u16,
    /// How long to watch the cluster between the steps, altogether.
    #[arg(long, default_value = "8s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How often each service is checked.
    #[arg(long, default_value = "500ms", value_parser = parse_interval)]
    check_interval: Duration,
    /// Leave the cluster running after the story, to play with it by hand.
    #[arg(long)]
    keep: bool,
    /// No live table, even on a terminal.
    #[arg(long)]
    plain: bool,
    /// A directory for configurations, journals and logs, kept afterwards [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Log everything the nodes do.
    #[arg(long)]
    verbose: bool,
    /// Take a rule out of the protocol: the judge must notice.
    #[arg(long = "break", hide = true)]
    sabotage: bool,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_millis(10) { Err("at least 10ms".into()) } else { Ok(interval) }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let code = match cli.part {
        Some(Part::Node(options)) => {
            log_to_stderr(options.verbose);
            runtime.block_on(node::run(options)).map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
        }
        None => runtime.block_on(run(cli.options)),
    };
    // A read of stdin that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    code
}

fn fail(error: &BoxError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

fn log_to_stderr(verbose: bool) {
    let level = if verbose { tracing::Level::TRACE } else { tracing::Level::INFO };
    tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(std::io::stderr).init();
}

/// Plays the story, unless interrupted; then the processes are killed with the future that owns them.
async fn run(options: Options) -> ExitCode {
    tokio::select! {
        result = story(options) => match result {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => fail(&error),
        },
        _ = tokio::signal::ctrl_c() => {
            eprintln!("interrupted: every process is killed");
            ExitCode::from(130)
        }
    }
}

async fn story(options: Options) -> Result<bool, BoxError> {
    let (services, _own) = match &options.services {
        Some(path) => (services::from_file(path)?, None),
        None => {
            let (services, own) = services::own(options.count.into()).await?;
            (services, Some(own))
        }
    };
    let mut scratch = Scratch::new(options.dir)?;
    let setup = Setup {
        dir: scratch.dir.clone(),
        check_interval: options.check_interval,
        sabotage: options.sabotage,
        verbose: options.verbose,
    };
    let script = Script {
        nodes: options.nodes.into(),
        duration: options.duration,
        keep: options.keep,
        all_up: options.services.is_none(),
    };
    let mut orchestra = Orchestra::new(setup, script.nodes, services, Screen::new(options.plain))?;
    let held = scenario::play(&mut orchestra, script).await;
    scratch.keep |= !held;
    if scratch.keep {
        orchestra.screen.print(&format!("journals and logs of the nodes are in {}", scratch.dir.display()));
    }
    Ok(held)
}

/// The directory of configurations, journals and logs; removed in the end unless somebody may want to read it.
struct Scratch {
    dir: PathBuf,
    keep: bool,
}

impl Scratch {
    fn new(wanted: Option<PathBuf>) -> Result<Self, BoxError> {
        let keep = wanted.is_some();
        let temporary = || std::env::temp_dir().join(format!("service_monitor-{}", std::process::id()));
        let dir = wanted.unwrap_or_else(temporary);
        std::fs::create_dir_all(&dir)?;
        let dir = dir.canonicalize()?;
        // The judge would take the journals of an earlier story for those of this one.
        if std::fs::read_dir(&dir)?.next().is_some() {
            return Err(format!("{} is not empty", dir.display()).into());
        }
        Ok(Scratch { dir, keep })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // Nothing can be done about what can't be removed, and it does no harm.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
