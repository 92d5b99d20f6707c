//! What a configuration costs and what it gives, in figures: the same incidents in clusters that differ in
//! `sync_interval`, in size and in loss.
//!
//! Each measurement is one cluster that goes through a fixed course: children start, nothing happens for a while, single
//! children are started, a process is killed, a machine loses power, a node leaves, the network splits in two halves and
//! heals. Everything is measured from the children's own journal and from what was sent. The same seeds give the same
//! figures.

pub mod page;
pub mod text;

use std::time::Duration;

use haulout::{ChildId, ChildSpec, Config, Profile};
use serde::{Serialize, Serializer};

use crate::bounds::Bounds;
use crate::cluster::{Cluster, NodeState, Options};
use crate::network::Link;
use crate::{NodeIdx, crew, measures};

/// How long the two halves can't talk.
pub const SPLIT: Duration = Duration::from_secs(15);
/// How many single starts are timed; the longest counts.
const STARTS: usize = 10;
/// Nothing happens for at least so long, to see what is sent at rest.
const REST_MIN: Duration = Duration::from_secs(20);
/// How often it is looked whether something has happened that is being timed.
const LOOK: Duration = Duration::from_millis(1);

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Its name, for tables and JSON.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
}

const fn measure_of(name: &'static str, unit: &'static str, about: &'static str) -> Measure {
    Measure { name, unit, about }
}

/// Everything that is measured, in the order of a [`Sample`].
pub const MEASURES: [Measure; 8] = [
    measure_of("known", "s", "from a start until every node knows that the child runs; the longest of ten"),
    measure_of("killed", "s", "from SIGKILL of the node with most children until the last of them runs elsewhere"),
    measure_of("power", "s", "the same from a loss of power, of which no closed connection tells"),
    measure_of("gap", "s", "between two runs of a child whose node leaves as planned; the longest"),
    measure_of("healed", "s", "from the end of a split in two halves until every child runs once and all agree"),
    measure_of("twice", "child-s", "time that children ran twice, added up over the whole course"),
    measure_of("nowhere", "child-s", "time that children ran nowhere, added up over the whole course"),
    measure_of("traffic", "B/s", "bytes of payload that a node sends per second at rest"),
];

/// The figures of one cluster; `None` where it never came to that.
pub type Sample = [Option<f64>; MEASURES.len()];

const KNOWN: usize = 0;
const KILLED: usize = 1;
const POWER: usize = 2;
const GAP: usize = 3;
const HEALED: usize = 4;
const TWICE: usize = 5;
const NOWHERE: usize = 6;
const TRAFFIC: usize = 7;

/// What is varied, and what is not.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// The values of `sync_interval`.
    pub sync_intervals: Vec<Duration>,
    /// The sizes of the cluster.
    pub nodes: Vec<usize>,
    /// How likely a datagram is lost.
    pub losses: Vec<f64>,
    /// How many children there are.
    pub children: usize,
    /// How many clusters each figure is the median of.
    pub seeds: u64,
    /// The timings of failure detection.
    pub timings: Profile,
}

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Case {
    /// How many nodes there are.
    pub nodes: usize,
    /// How likely a datagram is lost.
    pub loss: f64,
    /// How often the safety net runs.
    #[serde(rename = "sync_interval_seconds", serialize_with = "seconds")]
    pub sync_interval: Duration,
}

/// A combination with its figures: medians, and how far they spread.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The combination.
    pub case: Case,
    /// The figures of each seed.
    pub samples: Vec<Sample>,
}

impl Row {
    /// The median of a measure, by its place; `None` if at least half of the clusters never came to it.
    pub fn median(&self, measure: usize) -> Option<f64> {
        let mut values: Vec<f64> = self.samples.iter().map(|sample| sample[measure].unwrap_or(f64::INFINITY)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().filter(|value| value.is_finite())
    }
}

impl Grid {
    /// All combinations: `sync_interval` varies fastest, the number of nodes slowest.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for &nodes in &self.nodes {
            for &loss in &self.losses {
                cases.extend(self.sync_intervals.iter().map(|&sync_interval| Case { nodes, loss, sync_interval }));
            }
        }
        cases
    }

    /// How many clusters are measured.
    pub fn clusters(&self) -> u64 {
        self.cases().len() as u64 * self.seeds
    }

    /// Measures all combinations on all cores, and calls `progress` whenever a cluster is done.
    pub fn run(&self, jobs: usize, mut progress: impl FnMut()) -> Vec<Row> {
        let cases = self.cases();
        let mut samples = vec![vec![Sample::default(); self.seeds as usize]; cases.len()];
        // The largest clusters come last in the list and take longest: they begin first.
        let place = |number: u64| {
            let number = (self.clusters() - 1 - number) as usize;
            (number / self.seeds as usize, number % self.seeds as usize)
        };
        let work = |number| {
            let (case, seed) = place(number);
            measure(&cases[case], self.children, self.timings, seed as u64 + 1)
        };
        crew::each(jobs, 0..self.clusters(), work, |number, sample| {
            let (case, seed) = place(number);
            samples[case][seed] = sample;
            progress();
            true
        });
        cases.into_iter().zip(samples).map(|(case, samples)| Row { case, samples }).collect()
    }
}

/// Takes one cluster through the course.
pub fn measure(case: &Case, children: usize, timings: Profile, seed: u64) -> Sample {
    let config = Config { profile: timings, sync_interval: case.sync_interval, ..Config::default() };
    let link = Link { loss: case.loss, ..Link::default() };
    let patience = Bounds::new(&config, case.nodes, link).healing_max;
    let cluster = Cluster::new(Options { config, link, ..Options::seeded(seed) });
    let mut course = Course { cluster, patience, sample: Sample::default() };
    // A cluster that does not get somewhere is measured no further; what it has come to stays.
    let _ = course.run(case, children);
    course.sample
}

/// A cluster on its way through the course.
struct Course {
    cluster: Cluster,
    patience: Duration,
    sample: Sample,
}

/// It took longer than any bound.
struct Never;

impl Course {
    fn run(&mut self, case: &Case, children: usize) -> Result<(), Never> {
        for node in 0..case.nodes {
            self.cluster.add_node(&format!("node-{node}"));
        }
        self.converge()?;
        for child in 0..children {
            self.start(&format!("child-{child}"), NodeIdx(child % case.nodes));
        }
        self.cluster.run_for(Duration::from_secs(1));
        self.converge()?;
        self.rest(case);
        self.single_starts(case)?;
        self.loses_node(KILLED, |cluster, node| cluster.crash(node))?;
        self.loses_node(POWER, |cluster, node| cluster.lose_power(node))?;
        self.leaves()?;
        self.splits(case)?;
        let (journal, history) = (self.cluster.journal(), self.cluster.history());
        let sum = |times: Vec<Duration>| Some(times.iter().sum::<Duration>().as_secs_f64());
        self.sample[TWICE] = sum(measures::duplicates(journal, history, self.cluster.now()));
        self.sample[NOWHERE] = sum(measures::orphans(journal, history));
        Ok(())
    }

    fn rest(&mut self, case: &Case) {
        let sent = |cluster: &Cluster| cluster.traffic().datagram_bytes + cluster.traffic().frame_bytes;
        let (before, rest) = (sent(&self.cluster), REST_MIN.max(case.sync_interval * 2));
        self.cluster.run_for(rest);
        let bytes = (sent(&self.cluster) - before) as f64;
        self.sample[TRAFFIC] = Some(bytes / case.nodes as f64 / rest.as_secs_f64());
    }

    fn single_starts(&mut self, case: &Case) -> Result<(), Never> {
        let all: Vec<NodeIdx> = self.cluster.nodes().collect();
        let mut longest = Duration::ZERO;
        for number in 0..STARTS {
            let id = format!("single-{number}");
            self.start(&id, NodeIdx(number % case.nodes));
            let ids = [child_id(&id)];
            let agree = |cluster: &Cluster| cluster.roots_agree(&all, cluster.scope()).is_ok();
            let known = |cluster: &Cluster| runs_elsewhere(cluster, &ids, None) && agree(cluster);
            longest = longest.max(self.until(known)?);
        }
        self.sample[KNOWN] = Some(longest.as_secs_f64());
        Ok(())
    }

    /// The node with most children goes without a word; it comes back when its children run elsewhere.
    fn loses_node(&mut self, measure: usize, lose: impl FnOnce(&mut Cluster, NodeIdx)) -> Result<(), Never> {
        self.converge()?;
        let (node, ids) = self.busiest();
        lose(&mut self.cluster, node);
        let took = self.until(|cluster| runs_elsewhere(cluster, &ids, Some(node)))?;
        self.sample[measure] = Some(took.as_secs_f64());
        self.converge()?;
        self.cluster.restart(node);
        self.converge()
    }

    fn leaves(&mut self) -> Result<(), Never> {
        let (node, ids) = self.busiest();
        let from = self.cluster.now();
        let _ = self.cluster.leave(node);
        self.until(|cluster| runs_elsewhere(cluster, &ids, Some(node)))?;
        let runs = self.cluster.journal().runs();
        let gap = |id: &ChildId| {
            let ended =
                runs.iter().filter(|run| run.id == *id && run.node == node).filter_map(|run| run.ended).max()?;
            let mut next = runs.iter().filter(|run| run.id == *id && run.node != node && run.began >= from);
            Some(next.find_map(|run| run.started)?.since(ended))
        };
        self.sample[GAP] = ids.iter().filter_map(gap).max().map(|gap| gap.as_secs_f64());
        self.until(|cluster| cluster.state(node) == NodeState::Down)?;
        self.cluster.restart(node);
        self.converge()
    }

    fn splits(&mut self, case: &Case) -> Result<(), Never> {
        let side: Vec<NodeIdx> = self.cluster.nodes().take(case.nodes / 2).collect();
        self.cluster.split(&side);
        self.cluster.run_for(SPLIT);
        self.cluster.heal();
        let healed = self.cluster.now();
        self.converge()?;
        self.sample[HEALED] = Some(self.cluster.now().since(healed).as_secs_f64());
        Ok(())
    }

    fn start(&mut self, id: &str, on: NodeIdx) {
        // Short ids and no arguments: every spec can be made.
        if let Ok(spec) = ChildSpec::raw(id, "kind", Vec::new()) {
            let _ = self.cluster.start(on, spec);
        }
    }

    /// The node that runs most children, and these.
    fn busiest(&self) -> (NodeIdx, Vec<ChildId>) {
        let on = |node: NodeIdx| {
            let runs = self.cluster.journal().alive().filter(move |run| run.node == node);
            runs.map(|run| run.id.clone()).collect::<Vec<_>>()
        };
        let all = self.cluster.nodes().map(|node| (node, on(node)));
        all.max_by_key(|(_, ids)| ids.len()).unwrap_or((NodeIdx(0), Vec::new()))
    }

    fn converge(&mut self) -> Result<(), Never> {
        self.cluster.try_converge(self.patience).map(|_| ()).map_err(|_| Never)
    }

    /// How long it takes from now until this holds.
    fn until(&mut self, holds: impl Fn(&Cluster) -> bool) -> Result<Duration, Never> {
        let from = self.cluster.now();
        while !holds(&self.cluster) {
            if self.cluster.now().since(from) > self.patience {
                return Err(Never);
            }
            self.cluster.run_for(LOOK);
        }
        Ok(self.cluster.now().since(from))
    }
}

/// Whether all of these run, on other nodes than this one.
fn runs_elsewhere(cluster: &Cluster, ids: &[ChildId], than: Option<NodeIdx>) -> bool {
    let alive: Vec<_> = cluster.journal().alive().filter(|run| run.is_running() && Some(run.node) != than).collect();
    ids.iter().all(|id| alive.iter().any(|run| run.id == *id))
}

fn child_id(id: &str) -> ChildId {
    ChildId::new(id).expect("a short id")
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Grid {
        Grid {
            sync_intervals: vec![Duration::from_secs(1), Duration::from_secs(5)],
            nodes: vec![3],
            losses: vec![0.0],
            children: 12,
            seeds: 2,
            timings: Profile::Local,
        }
    }

    #[test]
    fn a_sweep_measures_everything_and_the_same_each_time() {
        let rows = small().run(2, || {});
        assert_eq!(rows, small().run(1, || {}), "neither threads nor repetition change a figure");
        assert_eq!(rows.len(), 2);
        for (place, measure) in MEASURES.iter().enumerate() {
            let median = rows[0].median(place);
            assert!(median.is_some_and(|median| median > 0.0), "{}: {median:?}", measure.name);
        }
        assert!(rows[0].median(TRAFFIC) > rows[1].median(TRAFFIC), "a shorter interval sends more");
        assert!(rows[0].median(GAP) < rows[0].median(KILLED), "a planned hand-over waits for nobody's death");
    }

    #[test]
    fn a_median_of_clusters_that_mostly_never_came_to_it_is_none() {
        let case = Case { nodes: 3, loss: 0.0, sync_interval: Duration::from_secs(1) };
        let row = |values: &[Option<f64>]| Row { case, samples: values.iter().map(|&value| [value; 8]).collect() };
        assert_eq!(row(&[Some(3.0), None, Some(1.0)]).median(KNOWN), Some(3.0));
        assert_eq!(row(&[Some(3.0), None, None]).median(KNOWN), None);
    }
}
