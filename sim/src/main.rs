//! The command line of the simulator.

mod command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs real haulout nodes under virtual time and injected faults, and checks what haulout promises.
///
/// Every run can be repeated from its seed. Exit codes: 0 every promise was kept, 1 something bad happened, 2 something
/// good did not happen in time, 3 there was nothing to judge by, 4 two runs of one seed differed, 64 the command line or
/// a file is wrong.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one seed or one scenario, and shows what happened.
    Run(command::run::Run),
    /// Runs many seeds, or as many as a time allows, on all cores.
    Batch(command::batch::Batch),
    /// Runs a run directory, a scenario file or a seed again, and compares it with what was recorded.
    Replay(command::run::Replay),
    /// Shrinks a failing run for as long as it fails for the same reason.
    Minimise(command::minimise::Minimise),
    /// Tells the story of one child or of one node.
    Explain(command::explain::Explain),
    /// Runs many seeds with each rule of the protocols taken out, and shows which promises that breaks.
    Mutants(command::mutants::Mutants),
    /// Measures how fast the simulator is, beside bare foca.
    Bench(command::bench::Bench),
    /// Measures what `sync_interval`, size and loss do to convergence, failover, duplicates and traffic.
    Sweep(command::sweep::Sweep),
    /// Measures how soon a silent node is noticed, and how often a healthy one is taken for dead.
    Detection(command::detection::Detection),
    /// Lists scenarios, faults, invariants, rules or profiles.
    List(command::list::List),
}

/// The command line or a file is wrong (EX_USAGE).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    leave_quietly_when_nobody_reads();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let ended = match cli.command {
        Command::Run(run) => run.execute(),
        Command::Batch(batch) => batch.execute(),
        Command::Replay(replay) => replay.execute(),
        Command::Minimise(minimise) => minimise.execute(),
        Command::Explain(explain) => explain.execute(),
        Command::Mutants(mutants) => mutants.execute(),
        Command::Bench(bench) => bench.execute(),
        Command::Sweep(sweep) => sweep.execute(),
        Command::Detection(detection) => detection.execute(),
        Command::List(list) => list.execute(),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(USAGE)
        }
    }
}

/// `haulout-sim … | head` closes our output early: that is the reader's wish, no failure.
fn leave_quietly_when_nobody_reads() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>();
        if text.is_some_and(|text| text.contains("failed printing to stdout")) {
            std::process::exit(0);
        }
        hook(panic);
    }));
}
