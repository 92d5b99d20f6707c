//! How fast the simulator is: simulated seconds per wall second of a cluster that forms, starts its children, rests, is
//! under a light load and loses a tenth of its nodes, and of bare foca in a cluster of the same size, since the periods
//! of its probes decide what a simulated second costs.

pub mod asking;
pub mod growth;
mod swim;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use haulout::{ChildSpec, Config};

use crate::bounds::Bounds;
use crate::cluster::{Cluster, NodeState, Options};
use crate::converge::Listings;
use crate::invariants;
use crate::random::Random;
use crate::{Link, NodeIdx};

/// What is measured: a cluster of a size, for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many children they run together.
    pub children: usize,
    /// How much virtual time is measured, once at rest and once under load.
    pub duration: Duration,
}

/// The sizes that are measured if nothing else is asked for, each for a few seconds of wall time.
pub const CASES: [Case; 3] = [
    Case { nodes: 10, children: 100, duration: Duration::from_secs(3_600) },
    Case { nodes: 100, children: 10_000, duration: Duration::from_secs(240) },
    Case { nodes: 1_000, children: 1_000, duration: Duration::from_secs(10) },
];

/// Calls that users make under load, per simulated second: half of them start a child, half terminate one.
const CALLS_PER_SECOND: u32 = 4;
/// Under load one node crashes per this time, and is back after half of it.
const CRASH_INTERVAL: Duration = Duration::from_secs(60);
/// How long a cluster may take to form and to converge; far longer than any does.
const PATIENCE: Duration = Duration::from_secs(600);

/// What one part of a case took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// Virtual time.
    pub simulated: Duration,
    /// Wall time.
    pub wall: Duration,
    /// Time on a core, where the system tells: on a busy machine that is what can be compared.
    pub cpu: Option<Duration>,
    /// What happened in it, as the trace counts it.
    pub events: u64,
    /// Datagrams that were sent.
    pub datagrams: u64,
    /// How much of the wall time went into judging what had happened. It does not grow with the virtual time, and makes a
    /// short phase look slow.
    pub judging: Duration,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} nodes, {} children, {:?} each", self.nodes, self.children, self.duration)
    }
}

impl Pace {
    /// Simulated seconds per wall second.
    pub fn speed(&self) -> f64 {
        self.simulated.as_secs_f64() / self.wall.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (wall, simulated) = (self.wall.as_secs_f64(), self.simulated.as_secs_f64());
        write!(f, "{:>9.1} simulated s/s", self.speed())?;
        if let Some(cpu) = self.cpu {
            write!(f, " ({:>9.1} per s of CPU)", simulated / cpu.as_secs_f64())?;
        }
        if self.events > 0 {
            let events = self.events as f64;
            write!(f, "  {:>10.0} events/s  {:>6.0} ns/event", events / wall, wall * 1e9 / events)?;
        }
        write!(f, "  {:>8.1} datagrams per simulated s", self.datagrams as f64 / simulated)?;
        write!(f, "  {simulated:.1} s in {wall:.1} s")?;
        if !self.judging.is_zero() {
            write!(f, ", {:.1} s of it judging", self.judging.as_secs_f64())?;
        }
        Ok(())
    }
}

/// The figures of one case.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// What was measured.
    pub case: Case,
    /// From nothing to a converged cluster without children.
    pub form: Pace,
    /// From there to one in which all children run.
    pub start: Pace,
    /// At rest.
    pub rest: Pace,
    /// With a few calls per second and a crash per minute.
    pub load: Pace,
    /// From the crash of a tenth of the nodes at once until their children run elsewhere.
    pub loss: Pace,
    /// Bare foca with as many nodes, at rest.
    pub swim: Pace,
    /// The most memory that the process ever had, where the system tells.
    pub peak_rss_bytes: Option<u64>,
}

impl Figures {
    /// How fast the cluster at rest is relative to bare foca, 0 to 1.
    pub fn share(&self) -> f64 {
        let cost = |pace: &Pace| pace.cpu.unwrap_or(pace.wall).as_secs_f64() / pace.simulated.as_secs_f64();
        cost(&self.swim) / cost(&self.rest)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at rest {:.1} % of foca's speed", self.share() * 100.0)?;
        match self.peak_rss_bytes {
            Some(bytes) => write!(f, ", peak memory {} MB", bytes >> 20),
            None => Ok(()),
        }
    }
}

/// Measures a case, with the profile and everything else at their defaults. Each part is reported when it is over.
///
/// # Panics
/// If the cluster does not form or does not converge, or if an invariant is broken: that is a bug.
pub fn measure(case: Case, mut report: impl FnMut(&str, &Pace)) -> Figures {
    let mut cluster = Cluster::new(Options::seeded(1));
    let mut measured = |name: &str, part: fn(&mut Cluster, Case) -> Duration| {
        let pace = pace(&mut cluster, |cluster| part(cluster, case));
        report(name, &pace);
        pace
    };
    let form = measured("form", form);
    let start = measured("start", start);
    let rest = measured("rest", |cluster, case| {
        cluster.run_for(case.duration);
        judge(cluster)
    });
    let load = measured("load", |cluster, case| {
        work(cluster, case);
        judge(cluster)
    });
    let loss = measured("loss", |cluster, case| {
        (0..case.nodes).step_by(10).for_each(|node| cluster.crash(NodeIdx(node)));
        judge(cluster)
    });
    let peak_rss_bytes = peak_rss_bytes();
    drop(cluster);
    let swim = swim::pace(case.nodes, Config::default().profile, Link::default(), case.duration);
    report("foca", &swim);
    Figures { case, form, start, rest, load, loss, swim, peak_rss_bytes }
}

/// Measures from its start on.
struct Stopwatch {
    wall: Instant,
    cpu: Option<Duration>,
}

impl Stopwatch {
    #[allow(clippy::disallowed_methods, reason = "this is what measures wall time; nothing of the simulation sees it")]
    fn start() -> Self {
        Stopwatch { wall: Instant::now(), cpu: cpu_time() }
    }

    /// Wall time and time on a core since the start.
    fn read(&self) -> (Duration, Option<Duration>) {
        let now = Stopwatch::start();
        let cpu = now.cpu.zip(self.cpu).map(|(to, from)| to.saturating_sub(from));
        (now.wall.duration_since(self.wall), cpu)
    }
}

/// How long this thread has been on a core.
fn cpu_time() -> Option<Duration> {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    statistics.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Runs a part of a case, which says for how long it judged.
fn pace(cluster: &mut Cluster, run: impl FnOnce(&mut Cluster) -> Duration) -> Pace {
    let (now, events, datagrams) = (cluster.now(), cluster.trace().events(), cluster.traffic().datagrams);
    let watch = Stopwatch::start();
    let judging = run(cluster);
    let (wall, cpu) = watch.read();
    Pace {
        simulated: cluster.now().since(now),
        wall,
        cpu,
        events: cluster.trace().events() - events,
        datagrams: cluster.traffic().datagrams - datagrams,
        judging,
    }
}

/// A converged cluster without children.
fn form(cluster: &mut Cluster, case: Case) -> Duration {
    for node in 0..case.nodes {
        cluster.add_node(&format!("node-{node}"));
    }
    cluster.converge(PATIENCE);
    Duration::ZERO
}

/// All children at once, spread over the nodes.
fn start(cluster: &mut Cluster, case: Case) -> Duration {
    for child in 0..case.children {
        let _ = cluster.start(NodeIdx(child % case.nodes), spec(child));
    }
    cluster.run_for(Duration::from_secs(1));
    cluster.converge(PATIENCE);
    Duration::ZERO
}

/// What a run is judged by is part of what it costs: convergence, and every invariant over everything so far. Returns for
/// how long the invariants were looked at.
fn judge(cluster: &mut Cluster) -> Duration {
    let converged = Listings::from([(cluster.scope(), cluster.converge(PATIENCE))]);
    let core = cluster.up();
    let bounds = Bounds::new(&Config::default(), core.len(), cluster.options().link);
    cluster.run_for(bounds.rest);
    let watch = Stopwatch::start();
    let broken = invariants::broken(cluster, &bounds, &[], &core, Some(&converged));
    let broken: Vec<String> = broken.into_iter().map(|violation| format!("{violation:?}")).collect();
    assert!(broken.is_empty(), "{}", broken.join("; "));
    watch.read().0
}

/// A few calls per second, a crash and a restart per minute.
fn work(cluster: &mut Cluster, case: Case) {
    let mut random = Random::stream(cluster.options().seed, "load");
    let mut live: VecDeque<usize> = (0..case.children).collect();
    let mut next = case.children;
    let until = cluster.now() + case.duration;
    let mut crash_at = cluster.now() + CRASH_INTERVAL / 4;
    let mut down = None;
    while cluster.now() < until {
        let up = cluster.up();
        let node = *random.pick(&up).expect("at most one node is down");
        if random.chance(0.5) {
            let _ = cluster.start(node, spec(next));
            live.push_back(next);
            next += 1;
        } else if let Some(child) = live.pop_front() {
            let _ = cluster.terminate(node, &id(child));
        }
        if cluster.now() >= crash_at {
            crash_at = crash_at + CRASH_INTERVAL / 2;
            down = match down.take() {
                Some(node) => {
                    cluster.restart(node);
                    None
                }
                None => Some(node).inspect(|&node| cluster.crash(node)),
            };
        }
        cluster.run_for(Duration::from_secs(1) / CALLS_PER_SECOND);
    }
    if let Some(node) = down.filter(|&node| cluster.state(node) == NodeState::Down) {
        cluster.restart(node);
    }
}

fn id(child: usize) -> String {
    format!("child-{child}")
}

fn spec(child: usize) -> ChildSpec {
    ChildSpec::raw(id(child), "kind", Vec::new()).expect("a short id")
}

fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}
