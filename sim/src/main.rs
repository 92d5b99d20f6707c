//! The command line of the simulator.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use haulout_sim::{SwarmOptions, swarm};

/// Runs real haulout nodes under virtual time and random faults, and checks what haulout promises.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed; the exit code is 1 if a promise was broken.
    Run(Run),
}

#[derive(Args)]
struct Run {
    /// Where all randomness comes from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many nodes there are at first.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    nodes: u16,
    /// How many children are started and terminated.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    children: u32,
    /// How long faults go on, in virtual time.
    #[arg(long, default_value = "1m", value_parser = humantime::parse_duration)]
    duration: Duration,
}

fn main() -> ExitCode {
    let Command::Run(run) = Cli::parse().command;
    let mut options = SwarmOptions::draw(run.seed, usize::from(run.nodes), run.children as usize);
    options.duration = run.duration;
    println!("seed={} {options}", run.seed);
    // A panic means a bug in a node; its message is printed by the panic hook, and the seed is what counts here.
    match catch_unwind(AssertUnwindSafe(|| swarm(run.seed, options))) {
        Ok(Ok(report)) => {
            println!("{report}");
            return ExitCode::SUCCESS;
        }
        Ok(Err(failure)) => println!("{failure}"),
        Err(_) => println!("FAILED panic seed={}", run.seed),
    }
    println!(
        "reproduce: cargo run --release -p haulout-sim -- run --seed {} --nodes {} --children {} --duration {}",
        run.seed,
        run.nodes,
        run.children,
        humantime::format_duration(run.duration).to_string().replace(' ', "")
    );
    ExitCode::FAILURE
}
