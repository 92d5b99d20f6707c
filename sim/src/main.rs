//! The command line of the simulator.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use haulout::proto::{FaultSites, Rule, Sabotage, Site};
use haulout_sim::bench::{CASES, Case, measure};
use haulout_sim::mutants::{Trial, findings, rule_named};
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
    /// Runs many seeds with each rule of the protocols taken out, and shows which promises that breaks.
    Mutants(Mutants),
    /// Measures how fast the simulator is, beside bare foca in a cluster of the same size.
    Bench(Bench),
}

#[derive(Args)]
struct Run {
    /// Where all randomness comes from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    size: Size,
    /// Takes out a rule of the protocols, to see what it is for; may be repeated.
    #[arg(long, value_name = "RULE", value_parser = rule_named)]
    without: Vec<Rule>,
    /// Lets a fault site inside the nodes fire with this probability; may be repeated.
    #[arg(long, value_name = "SITE=PROBABILITY", value_parser = fault_site)]
    fault: Vec<(Site, f64)>,
}

/// `full-exchange=0.1`.
fn fault_site(text: &str) -> Result<(Site, f64), String> {
    let (site, probability) = text.split_once('=').ok_or("name a site and a probability: full-exchange=0.1")?;
    let probability = probability.parse().map_err(|error| format!("{probability:?}: {error}"))?;
    Ok((site.parse()?, probability))
}

#[derive(Args)]
struct Mutants {
    /// How many seeds are tried on each rule.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    #[command(flatten)]
    size: Size,
    /// Only these rules, each on its own; may be repeated. Default: all.
    #[arg(long, value_name = "RULE", value_parser = rule_named)]
    without: Vec<Rule>,
}

#[derive(Args)]
struct Bench {
    /// How many nodes there are. Default: three sizes, one after the other.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    nodes: Option<u16>,
    /// How many children they run.
    #[arg(long, default_value_t = 100, requires = "nodes")]
    children: u32,
    /// How much virtual time is measured.
    #[arg(long, default_value = "1m", value_parser = humantime::parse_duration, requires = "nodes")]
    duration: Duration,
}

#[derive(Args)]
struct Size {
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
    match Cli::parse().command {
        Command::Run(run) => run_seed(&run),
        Command::Mutants(mutants) => run_mutants(&mutants),
        Command::Bench(bench) => run_bench(&bench),
    }
}

fn run_bench(bench: &Bench) -> ExitCode {
    let one = bench.nodes.map(|nodes| Case {
        nodes: usize::from(nodes),
        children: bench.children as usize,
        duration: bench.duration,
    });
    for case in one.map_or(CASES.to_vec(), |case| vec![case]) {
        println!("{}", measure(case));
    }
    ExitCode::SUCCESS
}

fn run_seed(run: &Run) -> ExitCode {
    let size = &run.size;
    let mut options = SwarmOptions::draw(run.seed, usize::from(size.nodes), size.children as usize);
    options.duration = size.duration;
    options.sabotage = run.without.iter().fold(Sabotage::default(), |sabotage, rule| sabotage.and(*rule));
    options.fault_sites =
        run.fault.iter().fold(FaultSites::default(), |sites, (site, probability)| sites.with(*site, *probability));
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
    let without: String = run.without.iter().map(|rule| format!(" --without {rule:?}")).collect();
    let faults: String = run.fault.iter().map(|(site, chance)| format!(" --fault {site}={chance}")).collect();
    println!(
        "reproduce: cargo run --release -p haulout-sim -- run --seed {} --nodes {} --children {} --duration {}{without}{faults}",
        run.seed,
        size.nodes,
        size.children,
        humantime::format_duration(size.duration).to_string().replace(' ', "")
    );
    ExitCode::FAILURE
}

/// The exit code tells only whether the seeds are clean with every rule in place: which mutants are found is for a
/// person to judge.
fn run_mutants(mutants: &Mutants) -> ExitCode {
    let size = &mutants.size;
    let (nodes, children) = (usize::from(size.nodes), size.children as usize);
    let trial = Trial { seeds: mutants.seeds, nodes, children, duration: size.duration };
    // A mutant that panics is counted; hundreds of backtraces would hide the table.
    std::panic::set_hook(Box::new(|_| {}));
    println!("{:<20}  {:>5}  {:>5}  broken", "taken out", "seeds", "first");
    let clean = findings(Sabotage::default(), trial);
    println!("{:<20}  {clean}", "nothing");
    let rules = if mutants.without.is_empty() { &Sabotage::ALL[..] } else { &mutants.without };
    for rule in rules {
        println!("{:<20}  {}", format!("{rule:?}"), findings(Sabotage::without(*rule), trial));
    }
    if clean.seeds() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
