//! What a cluster of three processes takes: `cargo bench --bench cluster` (`-- --quick` for a first impression).
//!
//! Three operating-system processes on loopback with the default [`Config`](haulout::Config). A child runs from its
//! own first line on, written down in the process that runs it and collected when a measurement is over. Nothing is
//! read from the library's books except the listings, which are themselves measured, and the counters of packets.

mod node;
mod report;

#[path = "../../examples/service_monitor/clock.rs"]
mod clock;
#[path = "../../examples/service_monitor/ports.rs"]
mod ports;
#[path = "../../examples/service_monitor/process.rs"]
mod process;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use haulout::BoxError;
use tokio::time::sleep;

use crate::node::{Answer, NodeOptions, Request, Usage};
use crate::ports::free_ports;
use crate::process::Process;
use crate::report::{Bulk, Crash, Crashes, Idle, Report};

const NODES: usize = 3;
/// For requests that take no time worth mentioning.
const SOON: Duration = Duration::from_secs(30);
/// For a hundred thousand children on a slow machine, and for failure detection.
const AT_LAST: Duration = Duration::from_secs(300);

/// Measures a cluster of three processes on loopback.
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
    /// One process of the cluster.
    #[command(hide = true)]
    Node(NodeOptions),
}

#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// A first impression: fewer samples, shorter rests, no hundred thousand.
    #[arg(long)]
    quick: bool,
    /// How many children to start at once; a tenth of it is measured too, to see the growth [default: 100000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(10..=4_000_000))]
    children: Option<u32>,
    /// Only what happens when a node is killed.
    #[arg(long)]
    crashes: bool,
    /// Given by `cargo bench`; without it (as in `cargo test --benches`) nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured and for how long.
#[derive(Clone, Debug)]
struct Plan {
    /// Single starts.
    samples: usize,
    /// Children started at once.
    sizes: Vec<usize>,
    /// Children that the idle cluster has.
    idle_children: usize,
    /// How long the cluster rests before its idle cost is measured: two `sync_interval`s.
    rest: Duration,
    idle: Duration,
    /// Children of clusters of which a node is killed.
    crash_sizes: Vec<usize>,
    /// How often each time; every time in a new cluster.
    crashes: usize,
    only_crashes: bool,
}

impl Plan {
    fn new(options: &Options) -> Plan {
        let most = options.children.map_or(if options.quick { 10_000 } else { 100_000 }, |count| count as usize);
        let seconds = |long, quick| Duration::from_secs(if options.quick { quick } else { long });
        Plan {
            samples: if options.quick { 100 } else { 1_000 },
            sizes: vec![most / 10, most],
            idle_children: most.min(10_000),
            rest: seconds(11, 6),
            idle: seconds(20, 6),
            crash_sizes: vec![1_000, 10_000],
            crashes: if options.quick { 3 } else { 9 },
            only_crashes: options.crashes,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.part.is_none() && !cli.options.bench {
        println!("nothing is measured without --bench: cargo bench --bench cluster");
        return ExitCode::SUCCESS;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let result = match cli.part {
        Some(Part::Node(options)) => runtime.block_on(node::run(options)),
        None => runtime.block_on(measure_unless_interrupted(Plan::new(&cli.options))),
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
async fn measure_unless_interrupted(plan: Plan) -> Result<(), BoxError> {
    tokio::select! {
        result = measure(plan) => result,
        _ = tokio::signal::ctrl_c() => Err("interrupted: every process is killed".into()),
    }
}

async fn measure(plan: Plan) -> Result<(), BoxError> {
    let mut crashes = Vec::new();
    for &children in &plan.crash_sizes {
        eprintln!("SIGKILL of a node of a cluster with {children} children, {} times ...", plan.crashes);
        crashes.push(crash(children, plan.crashes).await?);
    }
    if plan.only_crashes {
        print!("{}", Crashes(&crashes));
        return Ok(());
    }
    let mut cluster = Cluster::start().await?;
    eprintln!("idle without children ...");
    let idle_empty = cluster.idle(0, &plan).await?;
    eprintln!("{} single starts ...", plan.samples);
    let single = cluster.single_starts(plan.samples).await?;
    let mut bulks = Vec::new();
    for count in plan.sizes.clone() {
        eprintln!("{count} children at once ...");
        bulks.push(cluster.bulk(count).await?);
    }
    eprintln!("idle with {} children ...", plan.idle_children);
    let started = cluster.start_many("idle", plan.idle_children).await?;
    cluster.all_listed(plan.idle_children, started).await?;
    cluster.first_lines(false).await?;
    let idle_full = cluster.idle(plan.idle_children, &plan).await?;
    cluster.stop().await?;
    print!("{}", Report { single, bulks, idle_empty, idle_full, crashes });
    Ok(())
}

/// Kills a node of so many clusters with so many children.
async fn crash(children: usize, times: usize) -> Result<Crash, BoxError> {
    let (mut moved, mut running) = (0, Vec::new());
    for _ in 0..times {
        let mut cluster = Cluster::start().await?;
        let started = cluster.start_many("orphan", children).await?;
        cluster.all_listed(children, started).await?;
        cluster.first_lines(false).await?;
        let (orphans, took) = cluster.lose_a_node().await?;
        cluster.stop().await?;
        eprintln!("{orphans} of {children} run elsewhere after {}", clock::show(took));
        (moved, running) = (orphans, [running, vec![took]].concat());
    }
    Ok(Crash { children, moved, running })
}

/// Three processes. Dropped, it kills them.
struct Cluster {
    processes: Vec<Process>,
    dir: std::path::PathBuf,
}

impl Cluster {
    async fn start() -> Result<Cluster, BoxError> {
        let dir = std::env::temp_dir().join(format!("haulout-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        eprintln!("logs of the nodes, if anything fails: {}", dir.display());
        let seeds: Vec<String> = free_ports(NODES)?.iter().map(ToString::to_string).collect();
        let mut processes = Vec::new();
        for (number, bind) in seeds.iter().enumerate() {
            let name = format!("node-{}", number + 1);
            let mut args: Vec<OsString> = vec!["node".into(), "--bind".into(), bind.into()];
            args.extend(seeds.iter().flat_map(|seed| ["--seed".into(), seed.into()]));
            let process = Process::spawn(&name, args, &dir.join(format!("{name}.log")))?;
            eprintln!("{name} is process {}, on {bind}", process.pid());
            processes.push(process);
        }
        let mut cluster = Cluster { processes, dir };
        for process in &mut cluster.processes {
            process.receive::<Answer>(SOON).await?;
        }
        cluster.await_members().await?;
        Ok(cluster)
    }

    async fn await_members(&mut self) -> Result<(), BoxError> {
        let deadline = clock::now() + SOON.as_nanos() as u64;
        loop {
            let answers = self.ask_all(&Request::Members).await?;
            if answers.iter().all(|answer| matches!(answer, Answer::Members(NODES))) {
                return Ok(());
            }
            if clock::now() > deadline {
                return Err(format!("the nodes did not find each other: {answers:?}").into());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ask_all(&mut self, request: &Request) -> Result<Vec<Answer>, BoxError> {
        for process in &mut self.processes {
            process.send(request).await?;
        }
        let mut answers = Vec::new();
        for process in &mut self.processes {
            answers.push(accepted(process.receive(AT_LAST).await?, process.name())?);
        }
        Ok(answers)
    }

    async fn ask_first(&mut self, request: &Request) -> Result<u64, BoxError> {
        let first = &mut self.processes[0];
        match accepted(first.call(request, AT_LAST).await?, first.name())? {
            Answer::Asked { at } => Ok(at),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts children one after another on the first node; from each call to the child's first line, for those that
    /// came to run on another node.
    async fn single_starts(&mut self, samples: usize) -> Result<Vec<Duration>, BoxError> {
        let mut asked = BTreeMap::new();
        for number in 0..samples {
            let id = format!("one-{number}");
            asked.insert(id.clone(), self.ask_first(&Request::StartOne { id }).await?);
            // So that each finds the cluster idle.
            sleep(Duration::from_millis(10)).await;
        }
        let answers = self.ask_all(&Request::FirstLines { ids: true }).await?;
        let mut latencies = Vec::new();
        for answer in answers.into_iter().skip(1) {
            let Answer::FirstLines { named, .. } = answer else { return Err(unexpected(&answer)) };
            let latency = |(id, at): (String, u64)| Some(Duration::from_nanos(at.saturating_sub(*asked.get(&id)?)));
            latencies.extend(named.into_iter().filter_map(latency));
        }
        self.terminate_many("one", samples).await?;
        Ok(latencies)
    }

    async fn bulk(&mut self, count: usize) -> Result<Bulk, BoxError> {
        let asked = self.start_many("bulk", count).await?;
        let (listed, listing) = self.all_listed(count, asked).await?;
        let (lines, last) = self.first_lines(false).await?;
        let running = Duration::from_nanos(last.saturating_sub(asked));
        let terminated = self.terminate_many("bulk", count).await?;
        Ok(Bulk { count, first_lines: lines, running, listed, listing, terminated })
    }

    /// Returns the time of the first call.
    async fn start_many(&mut self, prefix: &str, count: usize) -> Result<u64, BoxError> {
        self.ask_first(&Request::Start { prefix: prefix.into(), count }).await
    }

    /// From `since` until every node lists so many children, all running; and how long the slowest listing took.
    async fn all_listed(&mut self, count: usize, since: u64) -> Result<(Duration, Duration), BoxError> {
        let mut last = (0, 0);
        for answer in self.ask_all(&Request::AwaitListed { count }).await? {
            let Answer::Listed { at, listing_nanos } = answer else { return Err(unexpected(&answer)) };
            last = (last.0.max(at), last.1.max(listing_nanos));
        }
        Ok((Duration::from_nanos(last.0.saturating_sub(since)), Duration::from_nanos(last.1)))
    }

    /// How many children have written their first line since the last time, and when the last of them did.
    async fn first_lines(&mut self, ids: bool) -> Result<(usize, u64), BoxError> {
        let mut total = (0, 0);
        for answer in self.ask_all(&Request::FirstLines { ids }).await? {
            let Answer::FirstLines { count, last, .. } = answer else { return Err(unexpected(&answer)) };
            total = (total.0 + count, total.1.max(last));
        }
        Ok(total)
    }

    /// From the first call until no node lists or runs any child.
    async fn terminate_many(&mut self, prefix: &str, count: usize) -> Result<Duration, BoxError> {
        let asked = self.ask_first(&Request::Terminate { prefix: prefix.into(), count }).await?;
        Ok(self.all_listed(0, asked).await?.0)
    }

    async fn idle(&mut self, children: usize, plan: &Plan) -> Result<Idle, BoxError> {
        sleep(plan.rest).await;
        let before = self.usages().await?;
        sleep(plan.idle).await;
        let after = self.usages().await?;
        Ok(Idle::between(children, &before, &after))
    }

    async fn usages(&mut self) -> Result<Vec<Usage>, BoxError> {
        let answers = self.ask_all(&Request::Usage).await?;
        let usage = |answer| match answer {
            Answer::Usage(usage) => Ok(usage),
            other => Err(unexpected(&other)),
        };
        answers.into_iter().map(usage).collect()
    }

    /// Kills the last node; how many children it had, and how long until every one of them runs on the others.
    async fn lose_a_node(&mut self) -> Result<(usize, Duration), BoxError> {
        let orphans = self.usages().await?.last().map_or(0, |usage| usage.children);
        let victim = self.processes.pop().ok_or("no process is left")?;
        let killed = clock::now();
        victim.kill().await?;
        let deadline = killed + AT_LAST.as_nanos() as u64;
        let (mut moved, mut last) = (0, 0);
        // Listings are of no use before: until the loss is noticed they count its children as running.
        while moved < orphans {
            if clock::now() > deadline {
                return Err(format!("{moved} of {orphans} children of the killed node came back").into());
            }
            sleep(Duration::from_millis(20)).await;
            let (lines, at) = self.first_lines(false).await?;
            (moved, last) = (moved + lines, last.max(at));
        }
        Ok((moved, Duration::from_nanos(last.saturating_sub(killed))))
    }

    async fn stop(self) -> Result<(), BoxError> {
        for process in self.processes {
            process.stop(SOON).await?;
        }
        Ok(std::fs::remove_dir_all(self.dir)?)
    }
}

fn accepted(answer: Answer, name: &str) -> Result<Answer, BoxError> {
    match answer {
        Answer::Failed(reason) => Err(format!("{name}: {reason}").into()),
        answer => Ok(answer),
    }
}

fn unexpected(answer: &Answer) -> BoxError {
    format!("unexpected answer {answer:?}").into()
}
