//! The figures of a run, and of many runs added up.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use haulout::Event;
use haulout::proto::Time;

use crate::NodeIdx;
use crate::bounds::Bounds;
use crate::cluster::Cluster;
use crate::figures::{Spread, short};
use crate::history::{Fault, FaultKind, History, LifeEnd};
use crate::invariants::excuses;
use crate::measures::{duplicates, orphans};
use crate::trace::Digest;

/// The figures of one run.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The digest of everything that happened.
    pub digest: Digest,
    /// Virtual time.
    pub simulated: Duration,
    /// Wall time.
    pub wall: Duration,
    /// Virtual time of all lives of all nodes together.
    pub node_time: Duration,
    /// How much happened.
    pub events: u64,
    /// Datagrams and frames that were sent.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Runs of children.
    pub runs: usize,
    /// Children that run at the end.
    pub children: usize,
    /// From healing to convergence.
    pub converged_in: Option<Duration>,
    /// For how long each child ran twice.
    pub duplicates: Vec<Duration>,
    /// For how long each child ran nowhere.
    pub orphans: Vec<Duration>,
    /// How often each rare event happened.
    pub coverage: Coverage,
}

/// How often each event happened: counters of the nodes, faults of the network, excuses of the checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage(pub BTreeMap<&'static str, u64>);

impl Coverage {
    /// Adds another one.
    pub fn add(&mut self, other: &Coverage) {
        for (name, count) in &other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    /// What happened less often than this, though it can.
    pub fn below(&self, least: u64) -> Vec<String> {
        let rare = self
            .0
            .iter()
            .filter(|(name, count)| **count < least && !MAY_BE_MISSING.iter().any(|(exempt, _)| exempt == *name));
        rare.map(|(name, count)| format!("{name} ({count})")).collect()
    }
}

/// Counters that nothing a random scenario does moves, and why.
const MAY_BE_MISSING: &[(&str, &str)] = &[
    (
        "refused_other_cluster",
        "all nodes are of one cluster; only damage that a checksum misses looks like another one",
    ),
    ("refused_wire_version", "all nodes are of one version"),
    ("refused_plaintext", "all nodes of a cluster have a keyring or none has"),
    ("refused_sealed", "all nodes of a cluster have a keyring or none has"),
    ("swim_errors", "foca refuses nothing that a node sends: only strangers make it do so"),
    ("audit_repairs", "each is a bug, and an invariant"),
    ("datagrams_unsent", "the simulated operating system takes every datagram"),
    ("streams_refused", "so many streams are opened at once by strangers only"),
    ("seen_pruned", "it takes 65,536 dead writers"),
    (
        "watches_refused",
        "one node is chosen by so many only in clusters of thousands, or where few streams are allowed",
    ),
    ("name_conflicts", "every node has a name of its own; two that share one are a mistake of configuration"),
    ("wakeups", "the protocol loop of the runtime counts them, and there is none"),
    ("wakeups_late_5ms", "the same"),
    ("wakeups_late_50ms", "the same"),
    ("wakeups_late_500ms", "the same"),
    ("blocks_noticed", "simulated children have no threads"),
    ("refused_serial", "every life has an instance of its own, and nobody forges records"),
];

/// Faults that last so long are counted beside those that are over sooner.
const DAY: Duration = Duration::from_secs(86_400);
const YEAR_MS: u64 = 31_557_600_000;

/// How often each kind of fault struck, and how lives ended.
fn struck(history: &History) -> BTreeMap<&'static str, u64> {
    let all = [
        "fault_cut",
        "fault_clog",
        "fault_bad_link",
        "fault_sieve",
        "fault_cut_days",
        "fault_pause",
        "fault_pause_days",
        "fault_slow",
        "fault_twin",
        "fault_clock_jump",
        "fault_ghost",
        "fault_loss",
        "fault_weather",
        "fault_crash",
        "fault_power",
        "leaves",
        "joins",
    ];
    let mut struck: BTreeMap<&'static str, u64> = all.into_iter().map(|name| (name, 0)).collect();
    let faults = history.faults.iter().map(|fault| match fault.kind {
        FaultKind::Cut(..) => "fault_cut",
        FaultKind::Rejects(..) => "fault_reject",
        FaultKind::Clogged(..) => "fault_clog",
        FaultKind::Degraded(..) => "fault_bad_link",
        FaultKind::Sifted(..) => "fault_sieve",
        FaultKind::Paused(_) => "fault_pause",
        FaultKind::Slow(_) => "fault_slow",
        FaultKind::Twin(..) => "fault_twin",
        FaultKind::ClockJump(_) => "fault_clock_jump",
        FaultKind::Ghost(_) => "fault_ghost",
        FaultKind::Loss(_) => "fault_loss",
        FaultKind::Weather(_) => "fault_weather",
    });
    let is_long = |fault: &&Fault| fault.to.is_some_and(|to| to.since(fault.from) >= DAY);
    let long = history.faults.iter().filter(is_long).filter_map(|fault| match fault.kind {
        FaultKind::Cut(..) => Some("fault_cut_days"),
        FaultKind::Paused(_) => Some("fault_pause_days"),
        _ => None,
    });
    let ends = history.lives.iter().filter_map(|life| life.end).map(|end| match end {
        LifeEnd::Crashed => "fault_crash",
        LifeEnd::PowerLost => "fault_power",
        LifeEnd::Left => "leaves",
    });
    let joins = history.lives.iter().filter(|life| life.from > Time::ZERO).map(|_| "joins");
    faults.chain(long).chain(ends).chain(joins).for_each(|name| *struck.entry(name).or_default() += 1);
    struck
}

/// A node that settles so much later in one scope than in another has asked different members, or has asked again.
const APART: Duration = Duration::from_millis(100);

/// How often scopes met: nodes that joined the first only, or settled in one alone, and ids that ran in several.
fn in_two_scopes(cluster: &Cluster) -> [(&'static str, u64); 4] {
    let scopes = cluster.scopes();
    let is_outside = |node: &NodeIdx| scopes.iter().any(|scope| !cluster.takes_part(*node, *scope));
    let runs = cluster.journal().runs().iter();
    let ran: BTreeSet<_> = runs.map(|run| (&run.id, run.scope)).collect();
    let ids: BTreeSet<_> = ran.iter().map(|(id, _)| id).collect();
    let settled_alone = |node: NodeIdx| {
        let settled = cluster.events(node).iter().filter(|(.., event)| *event == Event::Settled);
        let times: Vec<_> = settled.map(|(at, scope, _)| (*at, *scope)).collect();
        let is_near = |at: Time, other: Time| at.since(other).max(other.since(at)) < APART;
        let is_alone = |&&(at, scope): &&(Time, _)| !times.iter().any(|&(when, of)| of != scope && is_near(at, when));
        times.iter().filter(is_alone).count() as u64
    };
    let in_two = cluster.nodes().filter(|node| scopes.len() > 1 && !is_outside(node));
    [
        ("second_scopes", scopes.len() as u64 - 1),
        ("nodes_outside_a_scope", cluster.nodes().filter(is_outside).count() as u64),
        ("settled_in_one_scope", in_two.map(settled_alone).sum()),
        ("ids_in_two_scopes", (ran.len() - ids.len()) as u64),
    ]
}

impl Tally {
    pub(crate) fn of(cluster: &Cluster, bounds: &Bounds, converged_in: Option<Duration>, wall: Duration) -> Self {
        let (now, journal, history) = (cluster.now(), cluster.journal(), cluster.history());
        let traffic = cluster.traffic();
        let lives = history.lives.iter();
        let mut coverage = Coverage(cluster.total_stats().counters().collect());
        coverage.0.extend(cluster.traffic().injected());
        coverage.0.extend(struck(history));
        let is_years_off = |node: &NodeIdx| cluster.wall_offset_ms(*node).unsigned_abs() >= YEAR_MS;
        coverage.0.insert("clocks_years_off", cluster.nodes().filter(is_years_off).count() as u64);
        coverage.0.extend(in_two_scopes(cluster));
        let excuses = excuses(cluster, bounds);
        coverage.0.insert("overlaps_declared_down", excuses.declared_down as u64);
        coverage.0.insert("overlaps_unconfirmed", excuses.unconfirmed as u64);
        coverage.0.insert("overlaps_of_strangers", excuses.strangers as u64);
        Tally {
            digest: cluster.digest(),
            simulated: now.since(Time::ZERO),
            wall,
            node_time: lives.map(|life| life.to.unwrap_or(now).since(life.from)).sum(),
            events: cluster.trace().events(),
            messages: traffic.datagrams + traffic.frames,
            bytes: traffic.datagram_bytes + traffic.frame_bytes,
            runs: journal.runs().len(),
            children: journal.alive().count(),
            converged_in,
            duplicates: duplicates(journal, history, now),
            orphans: orphans(journal, history),
            coverage,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = |durations: &[Duration]| durations.iter().sum::<Duration>();
        write!(
            f,
            "simulated={} wall={} converged_in={} events={} messages={} bytes={} runs={} children={} duplicate={} \
             orphan={} digest={}",
            short(self.simulated).replace(' ', ""),
            short(self.wall).replace(' ', ""),
            self.converged_in.map_or("-".into(), |duration| short(duration).replace(' ', "")),
            self.events,
            self.messages,
            self.bytes,
            self.runs,
            self.children,
            short(total(&self.duplicates)).replace(' ', ""),
            short(total(&self.orphans)).replace(' ', ""),
            self.digest,
        )
    }
}

/// Many runs added up.
#[derive(Clone, Debug, Default)]
pub struct Total {
    /// How many.
    pub runs: u64,
    /// Virtual time of all nodes of all runs.
    pub node_time: Duration,
    /// Virtual time.
    pub simulated: Duration,
    /// Datagrams and frames.
    pub messages: u64,
    /// From healing to convergence, each run.
    pub converged_in: Vec<Duration>,
    /// For how long each child ran twice, where it did.
    pub duplicates: Vec<Duration>,
    /// For how long each child ran nowhere, where it did.
    pub orphans: Vec<Duration>,
    /// How often each rare event happened.
    pub coverage: Coverage,
}

impl Total {
    /// Adds a run.
    pub fn add(&mut self, tally: &Tally) {
        self.runs += 1;
        self.node_time += tally.node_time;
        self.simulated += tally.simulated;
        self.messages += tally.messages;
        self.converged_in.extend(tally.converged_in);
        self.duplicates.extend(&tally.duplicates);
        self.orphans.extend(&tally.orphans);
        self.coverage.add(&tally.coverage);
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spread = |durations: &[Duration]| Spread::of(durations.iter().copied());
        writeln!(f, "runs            {}", self.runs)?;
        writeln!(f, "simulated       {:.1} h, {:.1} node-hours", hours(self.simulated), hours(self.node_time))?;
        writeln!(f, "messages        {}", self.messages)?;
        writeln!(f, "converged in    {}", spread(&self.converged_in))?;
        writeln!(f, "duplicates      {}", spread(&self.duplicates))?;
        write!(f, "orphans         {}", spread(&self.orphans))
    }
}

fn hours(duration: Duration) -> f64 {
    duration.as_secs_f64() / 3_600.0
}
