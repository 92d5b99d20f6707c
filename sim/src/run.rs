//! Runs a scenario: unrest, healing, convergence, rest, a planned change, and the judgement.

mod asserts;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use haulout::proto::{Command, InstanceId, ScopeId, Time};
use haulout::{ChildId, ChildSpec, Restart};

use crate::bounds::Bounds;
use crate::cluster::{Cluster, NodeState};
use crate::converge::Listings;
use crate::invariants::{self, Snapshot, minimum_moves};
use crate::journal::Run;
use crate::network::Link;
use crate::recording::{Recording, Summary};
use crate::scenario::{NodePlan, Scenario};
use crate::tally::Tally;
use crate::trace::{At, TraceText};
use crate::verdict::{Verdict, Violation};
use crate::view::View;
use crate::wall::Stopwatch;
use crate::{NodeIdx, children, measures, words};
use steps::Steps;

/// How a scenario is run: what costs something and changes nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// What becomes of the text of the trace.
    pub trace: TraceText,
}

/// What came of a run.
pub struct Ran {
    /// What was run.
    pub scenario: Scenario,
    /// Whether every promise was kept.
    pub verdict: Verdict,
    /// Every promise that was broken, the earliest first; the verdict names the first.
    pub violations: Vec<Violation>,
    /// The figures of the run.
    pub tally: Tally,
    /// When everything healed, if it did.
    pub healed: Option<Time>,
    /// The cluster as it was in the end, with its journal and history.
    pub cluster: Cluster,
}

/// Runs a scenario to its end and judges it.
///
/// A node that panics breaks the invariant `no-panic`; the panic hook still prints its message.
///
/// # Panics
/// If the scenario does not pass its own [`check`](Scenario::check).
pub fn run(scenario: &Scenario, settings: Settings) -> Ran {
    let began = Stopwatch::start();
    let mut runner = Runner::new(scenario, settings);
    let ended = catch_unwind(AssertUnwindSafe(|| runner.play()));
    let mut violations = match ended {
        Ok(Ok(())) => Vec::new(),
        Ok(Err(violation)) => vec![violation],
        Err(panic) => vec![runner.panicked(&*panic)],
    };
    violations.extend(runner.judge());
    violations.sort_by_key(|violation| (violation.class, violation.at));
    let verdict = match violations.first() {
        Some(violation) => runner.expected(violation),
        None if runner.core.is_empty() && scenario.end.heal => {
            Verdict::Inconclusive("no node was left to judge by".into())
        }
        None => match &scenario.expect.broken {
            Some(name) => {
                let why = format!("{name} holds, but should not");
                Verdict::Failed(Violation::safety("expectation", runner.cluster.now(), why))
            }
            None => Verdict::Passed,
        },
    };
    let tally = Tally::of(&runner.cluster, &runner.bounds, runner.converged_in, began.elapsed());
    Ran { scenario: scenario.clone(), verdict, violations, tally, healed: runner.healed, cluster: runner.cluster }
}

impl Ran {
    /// The run as the reports show it, with its options by name and the command that runs it again.
    pub fn recording(&self, options: Vec<(String, String)>, reproduce: &str) -> Recording {
        let summary = Summary {
            verdict: self.headline(),
            options,
            reproduce: reproduce.to_owned(),
            wall: self.tally.wall,
            healed: self.healed,
            converged_in: self.tally.converged_in,
            ..Summary::default()
        };
        Recording::of(&self.cluster, &self.violations, &summary)
    }

    /// How it ended, in one line.
    pub fn headline(&self) -> String {
        let name = |violation: &Violation| {
            let node = violation.node.map(|node| format!(" node={}", self.cluster.name(node))).unwrap_or_default();
            let child = violation.child.as_ref().map(|child| format!(" child={child}")).unwrap_or_default();
            let scope = violation.scope.and_then(|scope| self.cluster.scope_name(scope));
            let scope = scope.map(|name| format!(" scope={name}")).unwrap_or_default();
            format!("{} t={}{node}{child}{scope}", violation.invariant, At(violation.at))
        };
        match &self.verdict {
            Verdict::Passed => format!("PASSED {}", self.tally),
            Verdict::Failed(violation) => format!("FAILED {}", name(violation)),
            Verdict::Inconclusive(why) => format!("INCONCLUSIVE {why}"),
        }
    }
}

/// A run under way.
struct Runner<'a> {
    scenario: &'a Scenario,
    cluster: Cluster,
    steps: Steps,
    bounds: Bounds,
    startup: Vec<ChildId>,
    /// The nodes that must converge.
    core: Vec<NodeIdx>,
    converged: Option<Listings>,
    converged_in: Option<Duration>,
    healed: Option<Time>,
}

impl<'a> Runner<'a> {
    fn new(scenario: &'a Scenario, settings: Settings) -> Self {
        if let Err(error) = scenario.check() {
            panic!("a scenario that can't be run: {error}");
        }
        let cluster = Cluster::new(steps::options(scenario, settings.trace));
        let startup: Vec<ChildId> = startup(scenario).map(|spec| spec.id().clone()).collect();
        Runner {
            bounds: Bounds::new(&scenario.config, scenario.nodes().len() + 1, scenario.network),
            steps: Steps::new(scenario),
            scenario,
            cluster,
            startup,
            core: Vec::new(),
            converged: None,
            converged_in: None,
            healed: None,
        }
    }

    fn play(&mut self) -> Result<(), Violation> {
        for (kind, plan) in &self.scenario.kinds {
            let runs = plan.runs.iter().map(|run| (run.odds, run.plan())).collect();
            self.cluster.children().plan_kind_among(kind, runs);
        }
        self.steps.run(&mut self.cluster, self.scenario.duration);
        if !self.scenario.end.heal {
            self.core = self.cluster.up();
            return Ok(());
        }
        self.heal();
        self.healed = Some(self.cluster.now());
        if self.core.is_empty() {
            return Ok(());
        }
        let from = self.cluster.now();
        self.converge()?;
        self.converged_in = Some(self.cluster.now().since(from));
        // Jobs may end and nodes may leave yet: what counts is the state that lasts.
        self.cluster.run_for(self.bounds.aftermath);
        self.core.retain(|&node| self.cluster.state(node) == NodeState::Up);
        let children = self.converge()?;
        let changed = self.cluster.now();
        let mut children = self.planned_change(children)?;
        // The change may have begun a Temporary run whose place another one had held, and which ends by itself.
        let may_end = |run: &Run| run.began > changed && run.spec.restart != Restart::Permanent;
        if self.cluster.journal().runs().iter().any(may_end) {
            self.cluster.run_for(self.bounds.aftermath);
            children = self.converge()?;
        }
        self.cluster.run_for(self.bounds.rest);
        self.converged = Some(children);
        Ok(())
    }

    /// Ends every fault; what is down comes back, unless it is to stay down.
    fn heal(&mut self) {
        let end = &self.scenario.end;
        self.steps.end_all(&mut self.cluster);
        self.cluster.set_link(Link::default());
        let calm = self.scenario.kinds.iter().filter(|(_, kind)| !kind.for_ever);
        for (kind, _) in calm {
            self.cluster.children().plan_kind(kind, children::Plan::default());
        }
        self.bring_back();
        self.let_leavers_leave();
        // Where everybody was leaving, as in a rolling restart, nobody would be left.
        self.bring_back();
        let is_cut_off = |node: &NodeIdx| end.cut_off.iter().any(|name| name == self.cluster.name(*node));
        let (alone, core): (Vec<_>, Vec<_>) = self.cluster.up().into_iter().partition(is_cut_off);
        self.cluster.split(&alone);
        self.core = core;
    }

    /// Whoever is paused or down is to run, unless it is to stay down.
    fn bring_back(&mut self) {
        for node in self.cluster.nodes() {
            let stays_down = self.scenario.end.stay_down.iter().any(|name| name == self.cluster.name(node));
            match self.cluster.state(node) {
                NodeState::Up => {}
                NodeState::Paused => self.cluster.resume(node),
                NodeState::Down | NodeState::Off if stays_down || self.steps.is_twin(node) => {}
                NodeState::Down | NodeState::Off => self.cluster.restart(node),
            }
        }
    }

    /// A life that was told to leave is no part of what must converge, unless it does not manage to.
    fn let_leavers_leave(&mut self) {
        let calls = self.cluster.history().calls.iter();
        let told = calls.filter(|call| matches!(call.command, Command::Leave { .. })).filter_map(|call| call.instance);
        let told: BTreeSet<InstanceId> = told.collect();
        let is_leaving = |cluster: &Cluster, node| cluster.instance(node).is_some_and(|life| told.contains(&life));
        let _ = self.cluster.run_until(self.scenario.config.leave_timeout * 3, |cluster| {
            !cluster.up().into_iter().any(|node| is_leaving(cluster, node))
        });
    }

    fn converge(&mut self) -> Result<Listings, Violation> {
        let core = self.core.clone();
        let from = self.cluster.now();
        self.cluster.converge_core(&core, &self.bounds).map_err(|pending| {
            let waited = self.cluster.now().since(from);
            Violation::liveness("converges", self.cluster.now(), format!("after {waited:?}: {pending}"))
        })
    }

    /// A node joins or leaves a cluster at rest: only what must move moves.
    fn planned_change(&mut self, children: Listings) -> Result<Listings, Violation> {
        let end = &self.scenario.end;
        let leaver = end.leave.as_ref().and_then(|name| self.cluster.named(name));
        let leaver = leaver.filter(|node| self.core.contains(node) && self.core.len() > 2);
        // Without a seed nobody finds the cluster.
        let is_reachable = self.cluster.nodes().take(self.scenario.cluster.seeds).any(|seed| self.core.contains(&seed));
        let newcomer = end.join.as_ref().filter(|_| is_reachable);
        if newcomer.is_none() && leaver.is_none() {
            return Ok(children);
        }
        let before = self.snapshots(&children);
        if let Some(name) = newcomer {
            let node = steps::add(&mut self.cluster, self.scenario, &NodePlan::named(name));
            let alone: Vec<NodeIdx> = end.cut_off.iter().filter_map(|name| self.cluster.named(name)).collect();
            alone.into_iter().for_each(|alone| self.cluster.cut(alone, node));
            self.core.push(node);
        }
        if let Some(node) = leaver {
            let _ = self.cluster.leave(node);
            self.core.retain(|other| *other != node);
            let _ = self
                .cluster
                .run_until(self.scenario.config.leave_timeout * 2, |cluster| cluster.state(node) == NodeState::Down);
        }
        let children = self.converge()?;
        for ((scope, before), after) in before.iter().zip(self.snapshots(&children).values()) {
            let within = words::in_scope(&self.cluster, *scope);
            minimum_moves(before, after).map_err(|violation| violation.within(*scope, &within))?;
        }
        Ok(children)
    }

    /// What every scope looks like now that it has converged.
    fn snapshots(&self, children: &Listings) -> BTreeMap<ScopeId, Snapshot> {
        let of = |view: View<'_>| {
            let core = self.cluster.taking_part(&self.core, view.scope);
            (view.scope, Snapshot::of(&view, &core, &children[&view.scope]))
        };
        View::all(&self.cluster).map(of).collect()
    }

    /// Every invariant, and what the scenario expects beside them.
    fn judge(&self) -> Vec<Violation> {
        let Runner { cluster, bounds, startup, core, converged, .. } = self;
        let mut broken = invariants::broken(cluster, bounds, startup, core, converged.as_ref());
        broken.extend(self.expectations());
        broken
    }

    fn expectations(&self) -> Option<Violation> {
        let expect = &self.scenario.expect;
        let listing = self.converged.as_ref().and_then(|listings| listings.get(&self.cluster.scope()));
        let children = listing.map(Vec::as_slice).unwrap_or_default();
        let ids: BTreeSet<String> = children.iter().map(|child| child.id.to_string()).collect();
        let (duplicate, orphan) = (duplicate_time(&self.cluster), orphan_time(&self.cluster));
        let longer = |limit: Option<Duration>, is: Duration| limit.is_some_and(|limit| is > limit);
        let unmet = if expect.children.as_ref().is_some_and(|wanted| ids != wanted.iter().cloned().collect()) {
            format!("{ids:?} run in the end instead of {:?}", expect.children.clone().unwrap_or_default())
        } else if expect.count.is_some_and(|count| count != ids.len()) {
            format!("{} children run in the end", ids.len())
        } else if longer(expect.duplicate_max, duplicate) {
            format!("children ran twice for {:?} in all", duplicate)
        } else if longer(expect.orphan_max, orphan) {
            format!("children ran nowhere for {:?} in all", orphan)
        } else if longer(expect.converge_max, self.converged_in.unwrap_or_default()) {
            format!("it took {:?} to converge", self.converged_in.unwrap_or_default())
        } else {
            return None;
        };
        Some(Violation::safety("expectation", self.cluster.now(), unmet))
    }

    /// A scenario may be there to show that something breaks.
    fn expected(&self, violation: &Violation) -> Verdict {
        match &self.scenario.expect.broken {
            Some(name) if name == violation.invariant => Verdict::Passed,
            _ => Verdict::Failed(violation.clone()),
        }
    }

    fn panicked(&self, panic: &(dyn std::any::Any + Send)) -> Violation {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
        Violation::safety("no-panic", self.cluster.now(), text)
    }
}

/// For how long children ran twice, all together.
fn duplicate_time(cluster: &Cluster) -> Duration {
    measures::duplicates(cluster.journal(), cluster.history(), cluster.now()).iter().sum()
}

/// For how long children ran nowhere, all together.
fn orphan_time(cluster: &Cluster) -> Duration {
    measures::orphans(cluster.journal(), cluster.history()).iter().sum()
}

fn startup(scenario: &Scenario) -> impl Iterator<Item = ChildSpec> {
    (0..scenario.cluster.startup)
        .filter_map(|number| ChildSpec::raw(format!("startup-{number}"), "steady", Vec::new()).ok())
}
