//! A scenario: everything about a run, in one TOML file.
//!
//! The cluster, its configuration, network and children, what happens when, how it ends, and what is expected. A
//! random run writes the scenario that its seed was expanded to, so that a failing seed stays reproducible when the
//! drawing of random scenarios changes: copy the file into `scenarios/`, and it is a regression test.

mod act;
mod build;
mod draw;
pub mod faults;
mod file;
pub mod span;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use haulout::proto::{Fanout, Rule, Sabotage, Site};
use haulout::{Config, Outcome, Security};
use serde::{Deserialize, Serialize};

pub use act::{Act, Direction, How, LinkName, SpecPlan, Timed};
pub use draw::{Draw, Profile};
pub use faults::FaultKind;

use crate::children::{Plan, Start};
use crate::cluster::{Options, Resume};
use crate::network::Link;
use crate::random::Range;

/// A scenario with more nodes is a mistake in writing: it would take the memory of the machine before anything runs.
const NODES_MAX: usize = 10_000;

/// Everything about a run.
///
/// ```
/// use haulout_sim::Scenario;
///
/// let scenario: Scenario = r#"
///     seed = 7
///     duration = "20s"
///     [cluster]
///     count = 3
///     [config]
///     profile = "local"
///     [[events]]
///     at = "1s"
///     do = "start"
///     id = "mailer"
///     on = "node-0"
///     [[events]]
///     at = "5s"
///     do = "down"
///     node = "node-1"
///     for = "2s"
/// "#
/// .parse()?;
/// assert_eq!(scenario.nodes().len(), 3);
/// # Ok::<(), haulout_sim::ScenarioError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is about, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Where all randomness that is left comes from: delays, losses, identities.
    #[serde(default)]
    pub seed: u64,
    /// How long faults and calls go on, from the beginning.
    #[serde(with = "span")]
    pub duration: Duration,
    /// The nodes.
    #[serde(default)]
    pub cluster: ClusterPlan,
    /// The configuration of every node, in the words of a service's own configuration file; name, addresses, seeds and
    /// security are filled in.
    #[serde(default = "config")]
    pub config: Config,
    /// How links behave when no event says otherwise.
    #[serde(default)]
    pub network: Link,
    /// How children behave, by kind. Kinds that are not listed start at once, run for ever and stop quickly.
    #[serde(default)]
    pub kinds: BTreeMap<String, KindPlan>,
    /// What happens when the time is over.
    #[serde(default)]
    pub end: EndPlan,
    /// What must hold beside the invariants.
    #[serde(default)]
    pub expect: Expect,
    /// What happens when.
    #[serde(default)]
    pub events: Vec<Timed>,
}

/// The nodes of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterPlan {
    /// So many nodes `node-0`, `node-1` and so on are there beside those that are listed. Default: 3.
    pub count: usize,
    /// So many of the first nodes are everybody's seeds. Default: 2.
    pub seeds: usize,
    /// So many children `startup-0` and so on are every node's start-up children, in every scope. Default: none.
    pub startup: usize,
    /// The scopes that nodes join beside the one that all join. Default: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// Up to so many other members are told of every change directly; in larger clusters it spreads by gossip, and more is
    /// done otherwise. Default: that of the library.
    pub fanout: usize,
    /// How late timers fire.
    pub timer_lateness: Range,
    /// What a process sees first when it is continued, unless the event says.
    pub resume: Resume,
    /// Rules of the protocols that are taken out, to see what they are for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
    /// How likely each fault site inside the nodes does something, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sites: BTreeMap<String, f64>,
    /// The nodes that differ from the default.
    pub nodes: Vec<NodePlan>,
}

impl Default for ClusterPlan {
    fn default() -> Self {
        ClusterPlan {
            count: 3,
            seeds: 2,
            startup: 0,
            scopes: Vec::new(),
            fanout: Fanout::default().max(),
            timer_lateness: Range::ZERO,
            resume: Resume::default(),
            without: Vec::new(),
            sites: BTreeMap::new(),
            nodes: Vec::new(),
        }
    }
}

/// One node of a scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlan {
    /// Its name.
    pub name: String,
    /// When it starts for the first time.
    #[serde(with = "span", default)]
    pub at: Duration,
    /// The kinds that it can run; none listed: every kind that the scenario names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// Which of the further scopes it joins, and its weight in each. Default: all of them, with the weight that it has in the
    /// first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<BTreeMap<String, u16>>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its share of children.
    #[serde(default = "weight")]
    pub weight: u16,
    /// How far its monotonic clock is ahead; drawn from the seed if it is not given.
    #[serde(default, with = "span::option", skip_serializing_if = "Option::is_none")]
    pub clock_ahead: Option<Duration>,
    /// How many millionths its monotonic clock is too fast.
    #[serde(default)]
    pub drift_ppm: i32,
    /// How far its wall clock is off.
    #[serde(default)]
    pub wall_offset_ms: i64,
}

impl NodePlan {
    /// A node like any other.
    pub fn named(name: impl Into<String>) -> Self {
        NodePlan {
            name: name.into(),
            at: Duration::ZERO,
            kinds: Vec::new(),
            scopes: None,
            labels: BTreeMap::new(),
            weight: weight(),
            clock_ahead: None,
            drift_ppm: 0,
            wall_offset_ms: 0,
        }
    }
}

const fn weight() -> u16 {
    100
}

/// How the runs of a kind go: each draws one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindPlan {
    /// Whether its runs go on like this when everything else heals; otherwise they behave from then on.
    #[serde(default)]
    pub for_ever: bool,
    /// What runs draw from.
    #[serde(default)]
    pub runs: Vec<RunPlan>,
}

/// How a run goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunPlan {
    /// How likely it is, relative to the others.
    pub odds: u32,
    /// How long its `init` takes.
    pub start_delay: Range,
    /// How its `init` ends.
    pub start: StartPlan,
    /// When it ends by itself; never, if this is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_after: Option<Range>,
    /// How it ends by itself.
    pub outcome: OutcomePlan,
    /// How long it takes to stop once it is told to. Longer than its shutdown timeout: it ignores the request, and is
    /// aborted.
    pub stop_delay: Range,
    /// How long it goes on after it was aborted: code that never yields.
    #[serde(with = "span")]
    pub abort_delay: Duration,
}

impl Default for RunPlan {
    fn default() -> Self {
        let plan = Plan::default();
        RunPlan {
            odds: 1,
            start_delay: plan.start_delay,
            start: StartPlan::Succeeds,
            ends_after: None,
            outcome: OutcomePlan::Success,
            stop_delay: plan.stop_delay,
            abort_delay: plan.abort_delay,
        }
    }
}

/// How the start of a run ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartPlan {
    /// The run begins.
    #[default]
    Succeeds,
    /// `init` returns an error.
    Fails,
    /// `init` panics.
    Panics,
    /// The arguments do not decode.
    Declines,
}

/// How a run ends by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomePlan {
    /// It returns `Ok`.
    #[default]
    Success,
    /// It returns an error.
    Error,
    /// It panics.
    Panic,
}

impl RunPlan {
    /// As the model of children takes it.
    pub fn plan(&self) -> Plan {
        let start = match self.start {
            StartPlan::Succeeds => Start::Succeeds,
            StartPlan::Fails => Start::Fails("can't start".into()),
            StartPlan::Panics => Start::Panics("panicked in init".into()),
            StartPlan::Declines => Start::Declines("does not decode".into()),
        };
        let outcome = match self.outcome {
            OutcomePlan::Success => Outcome::Success,
            OutcomePlan::Error => Outcome::Error("failed".into()),
            OutcomePlan::Panic => Outcome::Panic("panicked".into()),
        };
        Plan {
            start_delay: self.start_delay,
            start,
            end: self.ends_after.map(|after| (after, outcome)),
            stop_delay: self.stop_delay,
            abort_delay: self.abort_delay,
        }
    }
}

/// What happens when the time of a scenario is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EndPlan {
    /// Whether faults end, children behave and nodes come back, and everything must then converge. Otherwise the run
    /// just ends. Default: yes.
    pub heal: bool,
    /// Nodes that stay down if they are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stay_down: Vec<String>,
    /// Nodes that are cut off from all others for ever; the others must converge without them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cut_off: Vec<String>,
    /// A node that joins when everything has converged, to see what moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join: Option<String>,
    /// A node that leaves when everything has converged, to see what moves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leave: Option<String>,
}

impl Default for EndPlan {
    fn default() -> Self {
        EndPlan { heal: true, stay_down: Vec::new(), cut_off: Vec::new(), join: None, leave: None }
    }
}

/// What must hold beside the invariants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// Exactly these children run in the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub children: Option<Vec<String>>,
    /// So many children run in the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
    /// Children run twice for no longer than this, added up.
    #[serde(with = "span::option", skip_serializing_if = "Option::is_none")]
    pub duplicate_max: Option<Duration>,
    /// Children run nowhere for no longer than this, added up.
    #[serde(with = "span::option", skip_serializing_if = "Option::is_none")]
    pub orphan_max: Option<Duration>,
    /// It converges within this time of healing.
    #[serde(with = "span::option", skip_serializing_if = "Option::is_none")]
    pub converge_max: Option<Duration>,
    /// This invariant is broken: for scenarios that show what a rule is for. The run passes if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<String>,
}

impl Scenario {
    /// An empty scenario: a healthy cluster of three nodes without children, for a minute.
    pub fn new(seed: u64) -> Self {
        Scenario {
            about: String::new(),
            seed,
            duration: Duration::from_secs(60),
            cluster: ClusterPlan::default(),
            config: config(),
            network: Link::default(),
            kinds: BTreeMap::new(),
            end: EndPlan::default(),
            expect: Expect::default(),
            events: Vec::new(),
        }
    }

    /// Every node: first those that are only counted, then those that are listed; one that is listed under the name of
    /// a counted one takes its place.
    pub fn nodes(&self) -> Vec<NodePlan> {
        let listed = |name: &str| self.cluster.nodes.iter().find(|node| node.name == name);
        let counted: Vec<String> = (0..self.cluster.count).map(|number| format!("node-{number}")).collect();
        let more = self.cluster.nodes.iter().filter(|node| !counted.contains(&node.name)).cloned();
        let first = counted.iter().map(|name| listed(name).cloned().unwrap_or_else(|| NodePlan::named(name)));
        first.chain(more).collect()
    }

    /// The rules that are taken out.
    pub fn sabotage(&self) -> Sabotage {
        self.rules().fold(Sabotage::default(), |sabotage, rule| rule.map_or(sabotage, |rule| sabotage.and(rule)))
    }

    /// The fault sites inside nodes, and how likely each does something.
    pub fn sites(&self) -> Vec<(Site, f64)> {
        self.cluster.sites.iter().filter_map(|(name, chance)| Some((site_named(name).ok()?, *chance))).collect()
    }

    /// Says whether it can be run: names that are used exist, times lie within its duration, values make sense.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let count = self.cluster.count.saturating_add(self.cluster.nodes.len());
        if count > NODES_MAX {
            return Err(ScenarioError(format!("{count} nodes are too many, at most {NODES_MAX} can be simulated")));
        }
        let nodes = self.nodes();
        if nodes.is_empty() {
            return Err(ScenarioError("a cluster needs a node".into()));
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = nodes.iter().find(|node| !names.insert(&node.name)) {
            return Err(ScenarioError(format!("there are two nodes {}", twice.name)));
        }
        let known = |name: &str| match nodes.iter().any(|node| node.name == name) {
            true => Ok(()),
            false => Err(ScenarioError(format!("there is no node {name}"))),
        };
        for (name, at) in nodes.iter().map(|node| (&node.name, node.at)) {
            if at > self.duration {
                return Err(ScenarioError(format!("{name} starts behind the end")));
            }
        }
        self.check_scopes(&nodes)?;
        let is_keyed = matches!(self.config.security, Security::Keyring { .. });
        for timed in &self.events {
            if matches!(timed.act, Act::Rotate { .. }) && !is_keyed {
                return Err(ScenarioError("the configuration has no keyring".into()).at(timed));
            }
            timed.act.nodes().into_iter().try_for_each(known).map_err(|error| error.at(timed))?;
            timed.act.check().map_err(|error| error.at(timed))?;
            if let Act::Readdress { node, .. } = &timed.act
                && nodes.iter().take(self.cluster.seeds).any(|seed| seed.name == *node)
            {
                return Err(ScenarioError("seeds keep their address, or nobody would find them".into()).at(timed));
            }
            if timed.at > self.duration {
                return Err(ScenarioError("it lies behind the end".into()).at(timed));
            }
        }
        let ends = [&self.end.stay_down, &self.end.cut_off];
        ends.into_iter().flatten().chain(&self.end.leave).try_for_each(|name| known(name))?;
        self.rules().find_map(Result::err).map_or(Ok(()), Err)?;
        for (name, chance) in &self.cluster.sites {
            site_named(name)?;
            if !(0.0..=1.0).contains(chance) {
                return Err(ScenarioError(format!("{name} fires with {chance}: a probability is from 0 to 1")));
            }
        }
        self.config.check().map_err(|error| ScenarioError(error.to_string()))
    }

    fn check_scopes(&self, nodes: &[NodePlan]) -> Result<(), ScenarioError> {
        let mut names = BTreeSet::from([Options::default().scope]);
        if let Some(twice) = self.cluster.scopes.iter().find(|name| !names.insert((*name).clone())) {
            return Err(ScenarioError(format!("there are two scopes {twice}")));
        }
        let known = |name: &String| match self.cluster.scopes.contains(name) {
            true => Ok(()),
            false => Err(ScenarioError(format!("there is no scope {name}"))),
        };
        nodes.iter().flat_map(|node| &node.scopes).flat_map(BTreeMap::keys).try_for_each(known)?;
        let scoped = self.events.iter().filter(|timed| !timed.scope.is_empty());
        scoped.into_iter().try_for_each(|timed| known(&timed.scope).map_err(|error| error.at(timed)))
    }

    fn rules(&self) -> impl Iterator<Item = Result<Rule, ScenarioError>> {
        self.cluster.without.iter().map(|name| rule_named(name).map_err(ScenarioError))
    }
}

/// The default configuration of simulated nodes: that of the library, but open to addresses that are not loopback.
fn config() -> Config {
    Config { security: Security::Plaintext { allow_beyond_loopback: true }, ..Config::default() }
}

/// A scenario can't be read or run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError(pub String);

impl ScenarioError {
    fn at(self, timed: &Timed) -> Self {
        ScenarioError(format!("event {}: {}", timed, self.0))
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ScenarioError {}

/// The rule with this name, in any of the usual spellings: `AskAll`, `ask-all`, `ask_all`.
///
/// # Errors
/// All names there are.
pub fn rule_named(text: &str) -> Result<Rule, String> {
    let named = |rule: &&Rule| plain(&format!("{rule:?}")) == plain(text);
    Sabotage::ALL.iter().find(named).copied().ok_or_else(|| {
        let all: Vec<String> = Sabotage::ALL.iter().map(|rule| format!("{rule:?}")).collect();
        format!("no rule is called {text}; there are {}", all.join(", "))
    })
}

fn site_named(text: &str) -> Result<Site, ScenarioError> {
    let named = |site: &&Site| plain(&site.to_string()) == plain(text);
    Site::ALL.iter().find(named).copied().ok_or_else(|| {
        let all: Vec<String> = Site::ALL.iter().map(Site::to_string).collect();
        ScenarioError(format!("no fault site is called {text}; there are {}", all.join(", ")))
    })
}

fn plain(name: &str) -> String {
    name.replace(['-', '_'], "").to_ascii_lowercase()
}
