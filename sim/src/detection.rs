//! How soon a silent node is noticed, how often a healthy one is taken for dead, and what that costs at rest, in figures.
//!
//! Each measurement is one cluster with children, on links that lose datagrams, with nodes that stand still now and then
//! or are slow. For a while nobody dies: whoever is held for down then is so wrongly. After that one node after the other
//! falls silent, by turns because its machine lost power and because its process was stopped, and it is timed how long it
//! takes until all its children run elsewhere. The same seeds give the same figures.

pub mod text;

use std::fmt;
use std::time::Duration;

use haulout::{ChildId, ChildSpec, Config, Profile};
use serde::Serialize;

use crate::bounds::Bounds;
use crate::cluster::{Cluster, NodeState, Options};
use crate::figures::percentile;
use crate::network::Link;
use crate::random::{Random, Range};
use crate::{NodeIdx, crew};

/// For how long a node stands still that does so now and then.
pub const PAUSE: Range = Range::new(Duration::from_millis(50), Duration::from_secs(1));
/// How long it runs between two of them.
pub const BETWEEN_PAUSES: Range = Range::new(Duration::from_secs(1), Duration::from_secs(20));
/// How late everything reaches a slow node: what comes from the network, and its timers.
pub const SLOWNESS: Range = Range::new(Duration::from_millis(50), Duration::from_millis(300));
/// One of so many nodes is slow, but at least one.
pub const SLOW_SHARE: usize = 5;
/// Clusters of more nodes are measured for less time.
const SMALL_NODES_MAX: f64 = 10.0;
/// How many children there are for each node.
const CHILDREN: usize = 3;
/// How long the trouble goes on before anything is counted.
const BEFORE: Duration = Duration::from_secs(10);
/// How long it goes on between two deaths.
const BETWEEN_DEATHS: Range = Range::new(Duration::from_secs(2), Duration::from_secs(5));
/// A silence whose children do not run elsewhere by then counts as never noticed.
const NOTICED_WITHIN_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether the children run elsewhere.
const LOOK: Duration = Duration::from_millis(1);

/// What nodes are like besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// All of them run all the time.
    None,
    /// Each stands still now and then.
    Pauses,
    /// Some are slow.
    Slow,
}

impl Trouble {
    /// Every one.
    pub const ALL: [Trouble; 3] = [Trouble::None, Trouble::Pauses, Trouble::Slow];
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trouble::None => "none",
            Trouble::Pauses => "pauses",
            Trouble::Slow => "slow",
        })
    }
}

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Case {
    /// How many nodes there are.
    pub nodes: usize,
    /// How likely a datagram is lost.
    pub loss: f64,
    /// What nodes are like besides.
    pub trouble: Trouble,
}

/// What is varied, and what is not.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// The sizes of the cluster.
    pub nodes: Vec<usize>,
    /// How likely a datagram is lost.
    pub losses: Vec<f64>,
    /// What nodes are like besides.
    pub troubles: Vec<Trouble>,
    /// For how many hours of one node each combination is watched while nobody dies. Larger clusters, which cost more, are
    /// watched for so much less as they have more than ten nodes.
    pub node_hours: f64,
    /// How many nodes fall silent in each combination, at least; in larger clusters so much fewer, but one in each.
    pub deaths: u64,
    /// Over how many clusters both are spread.
    pub clusters: u64,
    /// The timings of failure detection.
    pub timings: Profile,
}

/// What came of one cluster, or of all of a combination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// For how many hours of one node it was watched.
    pub node_hours: f64,
    /// How often meanwhile a node held another one for down, though it lived.
    pub false_downs: u64,
    /// How many bytes were sent meanwhile.
    pub bytes: u64,
    /// How long it took after each silence until the children ran elsewhere.
    pub noticed: Vec<Duration>,
    /// How often it never came to that.
    pub never: u64,
}

impl Sample {
    fn add(&mut self, other: Sample) {
        self.node_hours += other.node_hours;
        self.false_downs += other.false_downs;
        self.bytes += other.bytes;
        self.noticed.extend(other.noticed);
        self.noticed.sort_unstable();
        self.never += other.never;
    }

    /// Bytes that a node sends per second while nobody dies.
    pub fn traffic(&self) -> f64 {
        if self.node_hours > 0.0 { self.bytes as f64 / (self.node_hours * 3_600.0) } else { 0.0 }
    }

    /// How long it took in so many of a hundred silences, at most; `None` if there were none or some never came to it.
    pub fn noticed_within(&self, percent: usize) -> Option<Duration> {
        let mut all = self.noticed.clone();
        all.extend((0..self.never).map(|_| Duration::MAX));
        Some(percentile(&all, percent)).filter(|took| !all.is_empty() && *took < Duration::MAX)
    }
}

/// A combination with its figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The combination.
    pub case: Case,
    /// Its figures.
    pub sample: Sample,
}

impl Grid {
    /// All combinations: the trouble varies fastest, the number of nodes slowest.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &nodes in &self.nodes {
            for &loss in &self.losses {
                cases.extend(self.troubles.iter().map(|&trouble| Case { nodes, loss, trouble }));
            }
        }
        cases
    }

    /// How many clusters are measured.
    pub fn measured(&self) -> u64 {
        self.cases().len() as u64 * self.clusters
    }

    /// Measures all combinations on all cores, and calls `progress` whenever a cluster is done.
    pub fn run(&self, jobs: usize, mut progress: impl FnMut()) -> Vec<Row> {
        let cases = self.cases();
        let mut rows: Vec<Row> = cases.iter().map(|&case| Row { case, sample: Sample::default() }).collect();
        // The largest clusters come last in the list and take longest: they begin first.
        let place = |number: u64| {
            let number = self.measured() - 1 - number;
            ((number / self.clusters) as usize, number % self.clusters)
        };
        let work = |number| {
            let (case, seed) = place(number);
            self.measure(cases[case], seed + 1)
        };
        crew::each(jobs, 0..self.measured(), work, |number, sample| {
            rows[place(number).0].sample.add(sample);
            progress();
            true
        });
        rows
    }

    fn measure(&self, case: Case, seed: u64) -> Sample {
        let config = Config { profile: self.timings, ..Config::default() };
        let patience = Bounds::new(&config, case.nodes, Link::default()).healing_max;
        let cluster = Cluster::new(Options { config, ..Options::seeded(seed) });
        let random = Random::stream(seed, "detection");
        let sample = Sample::default();
        let mut course = Course { cluster, case, patience, random, troubles: Vec::new(), victim: None, sample };
        let share = (SMALL_NODES_MAX / case.nodes as f64).min(1.0) / self.clusters as f64;
        let seconds = self.node_hours * 3_600.0 / case.nodes as f64 * share;
        let deaths = (self.deaths as f64 * share).ceil() as u64;
        course.run(Duration::from_secs_f64(seconds), deaths);
        course.sample
    }
}

/// A cluster on its way through the course.
struct Course {
    cluster: Cluster,
    case: Case,
    /// After which a cluster that does not get somewhere is left.
    patience: Duration,
    random: Random,
    /// When each node stands still or goes on next.
    troubles: Vec<(haulout::proto::Time, NodeIdx)>,
    /// The node that is silent at present: it is not continued.
    victim: Option<NodeIdx>,
    sample: Sample,
}

impl Course {
    fn run(&mut self, watched: Duration, deaths: u64) {
        for node in 0..self.case.nodes {
            self.cluster.add_node(&format!("node-{node}"));
        }
        for child in 0..self.case.nodes * CHILDREN {
            // Short ids and no arguments: every spec can be made.
            if let Ok(spec) = ChildSpec::raw(format!("child-{child}"), "kind", Vec::new()) {
                let _ = self.cluster.start(NodeIdx(child % self.case.nodes), spec);
            }
        }
        if self.cluster.try_converge(self.patience).is_err() {
            self.sample.never += deaths;
            return;
        }
        self.begin_trouble();
        self.go_on(BEFORE, |_| false);
        self.watch(watched);
        for death in 0..deaths {
            self.one_falls_silent(death % 2 == 0);
            self.end_trouble();
            if self.cluster.try_converge(self.patience).is_err() {
                self.sample.never += deaths - death - 1;
                return;
            }
            self.begin_trouble();
        }
    }

    /// Nobody dies: whoever is held for down is so wrongly.
    fn watch(&mut self, watched: Duration) {
        let downs = |cluster: &Cluster| cluster.total_stats().members_down;
        let sent = |cluster: &Cluster| cluster.traffic().datagram_bytes + cluster.traffic().frame_bytes;
        let (downs_before, sent_before) = (downs(&self.cluster), sent(&self.cluster));
        self.go_on(watched, |_| false);
        self.sample.false_downs = downs(&self.cluster) - downs_before;
        self.sample.bytes = sent(&self.cluster) - sent_before;
        self.sample.node_hours = watched.as_secs_f64() * self.case.nodes as f64 / 3_600.0;
    }

    fn one_falls_silent(&mut self, by_power: bool) {
        let wait = self.random.duration(BETWEEN_DEATHS);
        self.go_on(wait, |_| false);
        let children_of = |node: NodeIdx| -> Vec<ChildId> {
            let runs = self.cluster.journal().alive().filter(|run| run.node == node);
            runs.map(|run| run.id.clone()).collect()
        };
        let candidates: Vec<_> = self.cluster.up().into_iter().map(|node| (node, children_of(node))).collect();
        let candidates: Vec<_> = candidates.into_iter().filter(|(_, ids)| !ids.is_empty()).collect();
        let Some((victim, ids)) = self.random.pick(&candidates).cloned() else { return };
        self.victim = Some(victim);
        if by_power {
            self.cluster.lose_power(victim);
        } else {
            self.cluster.pause(victim);
        }
        match self.go_on(NOTICED_WITHIN_MAX, |cluster| run_elsewhere(cluster, &ids, victim)) {
            Some(took) => self.sample.noticed.push(took),
            None => self.sample.never += 1,
        }
        if !by_power {
            self.cluster.crash(victim);
        }
        self.cluster.restart(victim);
        self.victim = None;
    }

    fn begin_trouble(&mut self) {
        self.cluster.set_link(Link { loss: self.case.loss, ..Link::default() });
        match self.case.trouble {
            Trouble::None => {}
            Trouble::Pauses => {
                for node in self.cluster.nodes() {
                    self.troubles.push((self.cluster.now() + self.random.duration(BETWEEN_PAUSES), node));
                }
            }
            Trouble::Slow => {
                for node in 0..(self.case.nodes / SLOW_SHARE).max(1) {
                    self.cluster.slow(NodeIdx(node), Some(SLOWNESS));
                }
            }
        }
    }

    fn end_trouble(&mut self) {
        self.cluster.set_link(Link::default());
        self.troubles.clear();
        for node in self.cluster.nodes() {
            self.cluster.resume(node);
            self.cluster.slow(node, None);
        }
    }

    /// Goes on until this holds, and says how long that took.
    fn go_on(&mut self, within: Duration, holds: impl Fn(&Cluster) -> bool) -> Option<Duration> {
        let (from, until) = (self.cluster.now(), self.cluster.now() + within);
        let is_timed = self.victim.is_some();
        while self.cluster.now() < until {
            if is_timed && holds(&self.cluster) {
                return Some(self.cluster.now().since(from));
            }
            self.trouble_nodes();
            let next = self.troubles.iter().map(|&(at, _)| at).min().unwrap_or(until).min(until);
            let pause = next.since(self.cluster.now());
            self.cluster.run_for(if is_timed { pause.min(LOOK) } else { pause });
        }
        None
    }

    /// Stops and continues those whose time has come.
    fn trouble_nodes(&mut self) {
        let now = self.cluster.now();
        for (at, node) in self.troubles.iter_mut().filter(|(at, _)| *at <= now) {
            let next = match self.cluster.state(*node) {
                _ if self.victim == Some(*node) => BETWEEN_PAUSES,
                NodeState::Paused => {
                    self.cluster.resume(*node);
                    BETWEEN_PAUSES
                }
                _ => {
                    self.cluster.pause(*node);
                    PAUSE
                }
            };
            *at = now + self.random.duration(next);
        }
    }
}

/// Whether all of these run, on other nodes than this one.
fn run_elsewhere(cluster: &Cluster, ids: &[ChildId], than: NodeIdx) -> bool {
    let mut missing = ids.len();
    for run in cluster.journal().alive().filter(|run| run.node != than && run.is_running()) {
        missing -= usize::from(missing > 0 && ids.contains(&run.id));
    }
    missing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: figures come to what they should where nothing goes wrong, and are the same each time. Method: a small
    /// cluster without loss and one whose nodes stand still.
    #[test]
    fn silence_is_noticed_and_health_is_not_and_the_same_each_time() {
        let grid = Grid {
            nodes: vec![3],
            losses: vec![0.0],
            troubles: vec![Trouble::None, Trouble::Pauses],
            node_hours: 0.2,
            deaths: 4,
            clusters: 2,
            timings: Profile::Local,
        };
        let rows = grid.run(2, || {});
        assert_eq!(rows, grid.run(1, || {}), "neither threads nor repetition change a figure");
        assert_eq!(rows.len(), 2);
        for row in rows {
            assert_eq!((row.sample.noticed.len(), row.sample.never), (4, 0), "{:?}", row.case);
            assert!(row.sample.noticed_within(99) < Some(Duration::from_secs(10)), "{:?}", row.sample);
            assert!((0.199..0.201).contains(&row.sample.node_hours) && row.sample.traffic() > 10.0);
        }
    }

    #[test]
    fn a_silence_that_is_never_noticed_counts_as_longer_than_any() {
        let noticed = (1..=9).map(Duration::from_secs).collect();
        let sample = Sample { noticed, never: 1, ..Sample::default() };
        assert_eq!(sample.noticed_within(50), Some(Duration::from_secs(5)));
        assert_eq!(sample.noticed_within(99), None);
        assert_eq!(Sample::default().noticed_within(50), None);
    }
}
