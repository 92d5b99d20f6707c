//! When a cluster has converged, what is pending where it has not, and how long it may take.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use haulout::proto::{InstanceId, ScopeId, Time};
use haulout::{ChildId, ChildInfo, ChildState, Event};

use crate::bounds::{Bounds, CONFLICT_PAUSE};
use crate::cluster::Cluster;
use crate::journal::Run;
use crate::{NodeIdx, NodeState, words};

/// How often a cluster that is to converge is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where roots are equal the listings are too, but for what a node adds of its own; so many nodes are asked for theirs.
const LISTINGS_COMPARED_MAX: usize = 16;

/// The children that all agree on, by scope.
pub type Listings = BTreeMap<ScopeId, Vec<ChildInfo>>;

/// What keeps a cluster from having converged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// How far the cluster is: members agree before states do, and those before runs.
    stage: Stage,
    /// How much is wrong there.
    amount: usize,
    /// The first thing of it, in words.
    what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Runs,
    Listings,
    Roots,
    Busy,
    Members,
}

impl Pending {
    fn new(stage: Stage, amount: usize, what: String) -> Self {
        Pending { stage, amount, what }
    }

    /// In which scope it is, where that does not go without saying.
    fn within(self, scope: ScopeId, cluster: &Cluster) -> Self {
        Pending { what: self.what + &words::in_scope(cluster, scope), ..self }
    }

    /// Both, told by the first.
    fn and(self, other: Self) -> Self {
        Pending { amount: self.amount + other.amount, ..self }
    }

    /// Less is better.
    fn left(&self) -> (Stage, usize) {
        (self.stage, self.amount)
    }
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if self.amount > 1 { write!(f, " (and {} more like it)", self.amount - 1) } else { Ok(()) }
    }
}

impl Cluster {
    /// Whether every desired child of every scope runs exactly once, nothing else runs, and all nodes that are up agree on
    /// it.
    pub fn converged(&mut self) -> bool {
        self.settled_children().is_ok()
    }

    /// Runs until the cluster has [`converged`](Self::converged); returns the listing that all agree on, of the scope that
    /// every node joins.
    ///
    /// # Panics
    /// If it does not within this time, saying what was still pending.
    #[track_caller]
    pub fn converge(&mut self, within: Duration) -> Vec<ChildInfo> {
        match self.try_converge(within) {
            Ok(children) => children,
            Err(pending) => panic!("seed {}: not within {within:?}: {pending}", self.options().seed),
        }
    }

    /// As [`converge`](Self::converge), but says what was still pending instead of panicking.
    pub fn try_converge(&mut self, within: Duration) -> Result<Vec<ChildInfo>, String> {
        let deadline = self.now() + within;
        loop {
            match self.settled_children() {
                Err(_) if self.now() < deadline => self.run_for(LOOK_EVERY.min(deadline.since(self.now()))),
                result => return result,
            }
        }
    }

    /// Runs until the nodes of the core have converged, for as long as there is progress: the time that
    /// [`Bounds::healing`] allows begins anew whenever less is pending than ever before, up to
    /// [`Bounds::healing_max`] in all. A node that is silent because another process has its address is waited for.
    ///
    /// Nodes of the core that leave meanwhile are not waited for.
    ///
    /// # Errors
    /// What was still pending.
    pub fn converge_core(&mut self, core: &[NodeIdx], bounds: &Bounds) -> Result<Listings, Pending> {
        let from = self.now();
        let (mut best, mut progressed) = (None, from);
        loop {
            let staying: Vec<NodeIdx> =
                core.iter().copied().filter(|&node| self.state(node) == NodeState::Up).collect();
            let pending = match self.settled_core(&staying) {
                Ok(children) => return Ok(children),
                Err(pending) => pending,
            };
            if best.is_none_or(|best| pending.left() < best) {
                best = Some(pending.left());
                progressed = self.now();
            }
            let now = self.now();
            let is_over = |since: Time| {
                now.since(progressed.max(since)) >= bounds.healing || now.since(from.max(since)) >= bounds.healing_max
            };
            if is_over(from) && is_over(self.silence_ends(core)) {
                return Err(pending);
            }
            self.run_for(LOOK_EVERY);
        }
    }

    /// When everybody in the core speaks again: whoever finds another process at its address is silent for a while, and
    /// healing begins only then.
    fn silence_ends(&self, core: &[NodeIdx]) -> Time {
        let events = core.iter().flat_map(|&node| self.events(node));
        let conflicts = events.filter(|(.., event)| matches!(event, Event::AddressConflict)).map(|(at, ..)| *at);
        conflicts.max().map_or(Time::ZERO, |at| at + CONFLICT_PAUSE)
    }

    /// The listing that all nodes agree on, of the scope that every node joins, if the cluster has converged; otherwise, in
    /// words, what is pending.
    pub fn settled_children(&mut self) -> Result<Vec<ChildInfo>, String> {
        let up = self.up();
        if up.len() > LISTINGS_COMPARED_MAX {
            // Every node's members compared with every other's is the square of their number: not while the states differ.
            self.in_all_scopes(&up, Cluster::roots_agree).map_err(|pending| pending.to_string())?;
        }
        let listings = self.settled_core(&up).map_err(|pending| pending.to_string())?;
        Ok(listings.get(&self.scope()).cloned().unwrap_or_default())
    }

    /// The listings that the nodes of the core agree on, if they have converged among themselves; otherwise what is
    /// pending.
    pub fn settled_core(&mut self, core: &[NodeIdx]) -> Result<Listings, Pending> {
        self.in_all_scopes(core, Cluster::members_agree)?;
        // A runner that placement has passed by looks settled in every listing until its successor's Ask arrives.
        let busy = |node: &NodeIdx| self.node(*node).is_some_and(|node| !node.is_quiet());
        let busy: Vec<NodeIdx> = core.iter().copied().filter(busy).collect();
        if let Some(&first) = busy.first() {
            let what = format!("{} is starting, stopping or asking", self.name(first));
            return Err(Pending::new(Stage::Busy, busy.len(), what));
        }
        self.in_all_scopes(core, Cluster::roots_agree)?;
        let mut listings = Listings::new();
        for scope in self.scopes() {
            let listing = self.listings_agree(&self.taking_part(core, scope), scope);
            listings.insert(scope, listing.map_err(|pending| pending.within(scope, self))?);
        }
        self.in_all_scopes(core, |cluster, core, scope| cluster.runs_agree(core, scope, &listings[&scope]))?;
        Ok(listings)
    }

    /// What is pending in all scopes together, for those of the core that take part in each.
    fn in_all_scopes(
        &self,
        core: &[NodeIdx],
        check: impl Fn(&Self, &[NodeIdx], ScopeId) -> Result<(), Pending>,
    ) -> Result<(), Pending> {
        let pending = self.scopes().into_iter().filter_map(|scope| {
            let pending = check(self, &self.taking_part(core, scope), scope).err()?;
            Some(pending.within(scope, self))
        });
        pending.reduce(Pending::and).map_or(Ok(()), Err)
    }

    /// Asserts that the cluster has converged to exactly these children.
    ///
    /// # Panics
    /// If it does not within this time.
    #[track_caller]
    pub fn converge_to(&mut self, within: Duration, ids: &[&str]) -> Vec<ChildInfo> {
        let expected: BTreeSet<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        let deadline = self.now() + within;
        loop {
            let pending = match self.settled_children() {
                Ok(children) => {
                    let listed: BTreeSet<String> = children.iter().map(|child| child.id.to_string()).collect();
                    if listed == expected {
                        return children;
                    }
                    format!("{listed:?} run instead of {expected:?}")
                }
                Err(pending) => pending,
            };
            assert!(self.now() < deadline, "seed {}: not within {within:?}: {pending}", self.options().seed);
            self.run_for(LOOK_EVERY.min(deadline.since(self.now())));
        }
    }

    fn listings_agree(&mut self, core: &[NodeIdx], scope: ScopeId) -> Result<Vec<ChildInfo>, Pending> {
        let wrong = |what: String| Pending::new(Stage::Listings, 1, what);
        let mut listing: Option<(NodeIdx, Vec<ChildInfo>)> = None;
        let step = core.len().div_ceil(LISTINGS_COMPARED_MAX).max(1);
        for &node in core.iter().step_by(step) {
            let name = self.name(node).to_owned();
            let children = self
                .listing_in(node, scope)
                .ok_or_else(|| wrong(format!("{name} does not answer: it has not settled")))?;
            match &listing {
                None => listing = Some((node, children)),
                Some((first, expected)) => {
                    same_listing(self.name(*first), expected, &name, &children).map_err(wrong)?;
                }
            }
        }
        Ok(listing.map(|(_, children)| children).unwrap_or_default())
    }

    /// Whether each of the core sees exactly the core in a scope, all of it settled and none of it leaving.
    pub(crate) fn members_agree(&self, core: &[NodeIdx], scope: ScopeId) -> Result<(), Pending> {
        let expected: BTreeSet<(&str, InstanceId)> =
            core.iter().filter_map(|&node| Some((self.name(node), self.instance(node)?))).collect();
        let (mut wrong, mut what) = (0, None);
        for &node in core {
            // Both are ordered by name, and nearly always equal: sets of all by all are built only to tell what differs.
            let listed = self.members_in(node, scope).iter().map(|member| (&*member.name, member.instance));
            if listed.clone().eq(expected.iter().copied()) {
                continue;
            }
            let seen: BTreeSet<_> = listed.collect();
            for (name, instance) in expected.symmetric_difference(&seen) {
                wrong += 1;
                let verb = if seen.contains(&(name, *instance)) { "still sees" } else { "does not see" };
                what.get_or_insert_with(|| format!("{} {verb} the member {name} ({instance})", self.name(node)));
            }
        }
        for &node in core {
            for member in self.members_in(node, scope).iter().filter(|member| !member.settled || member.draining) {
                wrong += 1;
                let state = if member.draining { "leaving" } else { "not settled" };
                what.get_or_insert_with(|| format!("{} sees {} {state}", self.name(node), member.name));
            }
        }
        what.map_or(Ok(()), |what| Err(Pending::new(Stage::Members, wrong, what)))
    }

    /// Whether the replicated states that the core has of a scope are equal.
    pub(crate) fn roots_agree(&self, core: &[NodeIdx], scope: ScopeId) -> Result<(), Pending> {
        let root = |node: NodeIdx| self.node(node).and_then(|machine| machine.root(scope));
        let Some(&first) = core.first() else { return Ok(()) };
        let expected = root(first);
        let differing: Vec<NodeIdx> = core.iter().copied().filter(|&node| root(node) != expected).collect();
        match differing.first() {
            None => Ok(()),
            Some(&other) => {
                let what = format!("the states of {} and {} differ", self.name(first), self.name(other));
                Err(Pending::new(Stage::Roots, differing.len(), what))
            }
        }
    }

    /// Whether the children of a scope's listing run in the core, each once where it is listed, and nothing else does.
    pub(crate) fn runs_agree(&self, core: &[NodeIdx], scope: ScopeId, children: &[ChildInfo]) -> Result<(), Pending> {
        let core: BTreeSet<NodeIdx> = core.iter().copied().collect();
        let mut alive: BTreeMap<&ChildId, Vec<&Run>> = BTreeMap::new();
        for run in self.journal().alive().filter(|run| run.scope == scope && core.contains(&run.node)) {
            alive.entry(&run.id).or_default().push(run);
        }
        let (mut wrong, mut what) = (0, None);
        for child in children {
            let runs = alive.remove(&child.id).unwrap_or_default();
            if !self.is_right(child, &runs) {
                wrong += 1;
                let places: Vec<&str> = runs.iter().map(|run| self.name(run.node)).collect();
                let (id, state, node) = (&child.id, &child.state, &child.node);
                what.get_or_insert_with(|| format!("{id} is {state} on {node:?}, and runs on {places:?}"));
            }
        }
        for (id, runs) in alive {
            wrong += 1;
            let name = self.name(runs[0].node);
            what.get_or_insert_with(|| format!("{id} runs on {name}, though nobody lists it"));
        }
        what.map_or(Ok(()), |what| Err(Pending::new(Stage::Runs, wrong, what)))
    }

    fn is_right(&self, child: &ChildInfo, runs: &[&Run]) -> bool {
        match (&child.state, runs) {
            (ChildState::Running, [run]) => {
                run.is_running()
                    && run.epoch == child.epoch
                    && self.state(run.node) == NodeState::Up
                    && child.node.as_deref() == Some(self.name(run.node))
            }
            (ChildState::Unplaced(_), []) => true,
            _ => false,
        }
    }
}

fn same_listing(one: &str, expected: &[ChildInfo], other: &str, children: &[ChildInfo]) -> Result<(), String> {
    if expected == children {
        return Ok(());
    }
    // Both are ordered by id, so the first place where they differ shows a child that only one of them has, or that
    // they see differently.
    let at = expected.iter().zip(children).take_while(|(left, right)| left == right).count();
    let (left, right) = (expected.get(at), children.get(at));
    let first = left.into_iter().chain(right).map(|child| &child.id).min();
    let [left, right] = [left, right].map(|child| child.filter(|child| Some(&child.id) == first));
    Err(format!("{one} lists {left:?}, {other} lists {right:?}"))
}
