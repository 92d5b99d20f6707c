//! The suite: each scenario through the simulator and on processes, several at a time, and the table of what came of it.

mod delay;
mod figures;
mod lab;
mod links;
mod play;
mod record;
mod script;
mod stage;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use haulout::BoxError;
use haulout_sim::{Scenario, Verdict};
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};

use crate::node::{self, NodeOptions};
use figures::{Figures, Row, Table};

/// Clusters at a time. Their processes rest most of the time, and two processors are enough for them.
const CLUSTERS_AT_ONCE: usize = 4;

/// Seeds of each scenario in the simulator.
const SEEDS: std::ops::Range<u64> = 1..10;

/// Takes clusters through real and simulated faults.
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
    /// One process of a cluster.
    #[command(hide = true)]
    Node(NodeOptions),
    /// The suite itself, where it may do as it likes with the network.
    #[command(hide = true)]
    Inside(Options),
}

#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// Only the scenarios whose name contains one of these.
    only: Vec<String>,
    /// Plays the faults; without it the suite only says that it was skipped.
    #[arg(long)]
    run: bool,
    /// Only says so where hosts can't be made, instead of failing.
    #[arg(long)]
    if_possible: bool,
    /// Given by `cargo test -q`.
    #[arg(long, hide = true)]
    quiet: bool,
}

pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.part {
        Some(Part::Node(options)) => {
            tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
            block_on(async { node::run(options).await.map(|()| ExitCode::SUCCESS) })
        }
        Some(Part::Inside(options)) => block_on(suite(options)),
        None => begin(&cli.options),
    }
}

fn block_on(work: impl Future<Output = Result<ExitCode, BoxError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let result = runtime.block_on(work);
    // A read of stdin that nobody waits for any more must not hold up the end.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| fail(&error))
}

fn fail(error: &BoxError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

/// Goes where networks can be made, if that is asked for, or says why it can't.
fn begin(options: &Options) -> ExitCode {
    if !options.run {
        println!("skipped: real faults take two minutes and root; `cargo test --test faults -- --run` plays them");
        return ExitCode::SUCCESS;
    }
    let mut args: Vec<OsString> = vec!["inside".into()];
    args.extend(options.only.iter().map(Into::into));
    match lab::enter(&args) {
        Ok(command) => block_on(stand_by(command)),
        Err(why) if options.if_possible => {
            println!("skipped: {why}");
            ExitCode::SUCCESS
        }
        Err(why) => fail(&why.into()),
    }
}

/// Waits for the suite inside, and ends it where this process is told to end or loses its parent (`cargo test`, which hands on
/// no signals). Neither INT nor TERM would do that by themselves: `unshare` ignores both, and so does who is the first process
/// of a namespace.
async fn stand_by(command: std::process::Command) -> Result<ExitCode, BoxError> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut suite = Command::from(command).kill_on_drop(true).spawn()?;
    tokio::select! {
        status = suite.wait() => return Ok(if status?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    suite.kill().await?;
    Err("interrupted: every process and every host is gone with this one".into())
}

async fn suite(options: Options) -> Result<ExitCode, BoxError> {
    let dir = std::env::temp_dir().join(format!("haulout-faults-{}", crate::clock::now()));
    let turns = Arc::new(Semaphore::new(CLUSTERS_AT_ONCE));
    let mut tasks = JoinSet::new();
    for ((name, scenario), number) in scenarios(&options.only)?.into_iter().zip(1..) {
        let (turns, dir) = (turns.clone(), dir.join(&name));
        tasks.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let result = try_out(&name, scenario, number, &dir).await;
            (number, name, result)
        });
    }
    let mut results = tasks.join_all().await;
    results.sort_by_key(|(number, ..)| *number);
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for (_, name, result) in results {
        match result {
            Ok((row, broken)) => {
                rows.push(row);
                failures.extend(broken.into_iter().map(|what| format!("{name}: {what}")));
            }
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    println!("{}", Table(rows));
    if failures.is_empty() {
        std::fs::remove_dir_all(&dir)?;
        return Ok(ExitCode::SUCCESS);
    }
    failures.iter().for_each(|failure| println!("FAILED {failure}"));
    println!("journals and logs are in {}", dir.display());
    Ok(ExitCode::FAILURE)
}

/// The scenarios by name, without those that are not wanted.
fn scenarios(only: &[String]) -> Result<Vec<(String, Scenario)>, BoxError> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/scenarios");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<Result<_, BoxError>>()?;
    files.sort();
    let mut scenarios = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if only.is_empty() || only.iter().any(|part| name.contains(part)) {
            scenarios.push((name, Scenario::read(&file)?));
        }
    }
    Ok(scenarios)
}

/// One scenario on both sides; what was broken, in words.
async fn try_out(name: &str, scenario: Scenario, number: u8, dir: &Path) -> Result<(Row, Vec<String>), BoxError> {
    let simulated = scenario.clone();
    let (simulated, mut broken) = spawn_blocking(move || simulate(&simulated)).await?;
    let real = match script::steps(&scenario) {
        Ok(steps) => {
            let (figures, more) = play::play(&scenario, &steps, number, dir).await?;
            broken.extend(more);
            Ok(figures)
        }
        Err(why) => Err(why),
    };
    let row = Row { name: name.into(), real, simulated };
    eprintln!("{row:?}");
    Ok((row, broken))
}

fn simulate(scenario: &Scenario) -> (Figures, Vec<String>) {
    let (mut figures, mut broken) = (Vec::new(), Vec::new());
    for seed in SEEDS {
        let ran = Scenario { seed, ..scenario.clone() }.run();
        if !matches!(ran.verdict, Verdict::Passed) {
            broken.push(format!("simulated with seed {seed}: {}", ran.headline()));
        }
        figures.push(Figures::of_run(&ran));
    }
    (Figures::median(&figures), broken)
}
