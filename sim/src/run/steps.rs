//! What a scenario does to a cluster, step by step. What links are like is computed from all faults that go on, so that
//! one that ends never takes back what another one still needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use haulout::proto::{Command, Fanout, FaultSites, Reply, ScopeId, Time};
use haulout::{ChildId, Key, Security};

use super::startup;
use crate::cluster::{Cluster, NodeState, Options, Sieve};
use crate::network::{Class, Link};
use crate::queue::Queue;
use crate::scenario::{Act, Direction, How, LinkName, NodePlan, Scenario, SpecPlan, Timed};
use crate::trace::TraceText;
use crate::{NodeIdx, Request};

/// What is left to do, and what goes on.
pub(super) struct Steps {
    scenario: Scenario,
    queue: Queue<Step>,
    /// The faults that go on, by the number of their event.
    active: BTreeSet<usize>,
    /// Those of them that flap and let everything through at the moment.
    open: BTreeSet<usize>,
    /// What the active faults make of the links.
    links: Links,
    /// The nodes that a fault holds paused or down, and which.
    held: BTreeMap<NodeIdx, usize>,
    /// The last call of each node to leave.
    leaves: BTreeMap<NodeIdx, Request>,
    /// Second processes, by the fault that they belong to.
    twins: BTreeMap<usize, NodeIdx>,
    /// The keyring that the last rotation left, or will leave.
    ring: Vec<Key>,
    /// What each rotation gives to every node, one ring after the other.
    rotations: BTreeMap<usize, [Vec<Key>; 3]>,
}

/// What is wrong with links.
#[derive(Default, PartialEq)]
struct Links {
    cut: BTreeMap<(NodeIdx, NodeIdx), Class>,
    clogged: BTreeSet<(NodeIdx, NodeIdx)>,
    rejected: BTreeSet<(NodeIdx, NodeIdx)>,
    degraded: BTreeMap<(NodeIdx, NodeIdx), Link>,
    weather: Option<Link>,
    sieves: Vec<Sieve>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A node starts for the first time.
    Add(usize),
    /// An event begins.
    Begin(usize),
    /// A fault ends.
    End(usize),
    /// A fault that flaps lets everything through, or nothing again.
    Flap(usize),
    /// The next call of a storm.
    Storm(usize, usize),
    /// One node of many goes.
    Go(usize, NodeIdx),
    /// It comes back.
    ComeBack(usize, NodeIdx),
    /// A rotation begins to give all nodes its first, second or third ring.
    Rotate(usize, usize),
    /// One of them gets it.
    Rekey(usize, usize, NodeIdx),
}

/// What the cluster of a scenario is like.
pub(super) fn options(scenario: &Scenario, trace: TraceText) -> Options {
    let mut kinds: Vec<String> = scenario.kinds.keys().cloned().collect();
    kinds.extend(scenario.events.iter().filter_map(|timed| match &timed.act {
        Act::Start { spec, .. } | Act::Update { spec, .. } | Act::Storm { spec, .. } | Act::StartMany { spec, .. } => {
            Some(spec.kind.clone())
        }
        _ => None,
    }));
    kinds.push(SpecPlan::default().kind);
    kinds.sort_unstable();
    kinds.dedup();
    Options {
        seed: scenario.seed,
        config: scenario.config.clone(),
        scopes: scenario.cluster.scopes.clone(),
        kinds,
        seed_nodes: scenario.cluster.seeds,
        link: scenario.network,
        timer_lateness: scenario.cluster.timer_lateness,
        resume: scenario.cluster.resume,
        sabotage: scenario.sabotage(),
        fault_sites: scenario
            .sites()
            .into_iter()
            .fold(FaultSites::seeded(scenario.seed), |sites, (site, chance)| sites.with(site, chance)),
        fanout: Fanout::at_most(scenario.cluster.fanout),
        contacts: true,
        trace,
        ..Options::default()
    }
}

/// Adds a node as it is planned.
pub(super) fn add(cluster: &mut Cluster, scenario: &Scenario, plan: &NodePlan) -> NodeIdx {
    let mut options = cluster.node_options();
    if !plan.kinds.is_empty() {
        options.kinds.clone_from(&plan.kinds);
    }
    options.scopes.values_mut().for_each(|weight| *weight = plan.weight);
    plan.scopes.iter().for_each(|scopes| options.scopes.clone_from(scopes));
    options.labels.clone_from(&plan.labels);
    options.weight = plan.weight;
    options.children = startup(scenario).collect();
    options.clock_ahead = plan.clock_ahead;
    options.drift_ppm = plan.drift_ppm;
    options.wall_offset_ms = plan.wall_offset_ms;
    cluster.add_node_with(&plan.name, options)
}

impl Steps {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut queue = Queue::default();
        for (number, node) in scenario.nodes().iter().enumerate() {
            queue.push(Time::ZERO + node.at, Step::Add(number));
        }
        for (number, timed) in scenario.events.iter().enumerate() {
            queue.push(Time::ZERO + timed.at, Step::Begin(number));
        }
        Steps {
            scenario: scenario.clone(),
            queue,
            active: BTreeSet::new(),
            open: BTreeSet::new(),
            links: Links::default(),
            held: BTreeMap::new(),
            leaves: BTreeMap::new(),
            twins: BTreeMap::new(),
            ring: match &scenario.config.security {
                Security::Keyring { keys, .. } => keys.clone(),
                _ => Vec::new(),
            },
            rotations: BTreeMap::new(),
        }
    }

    /// Does everything that is planned up to `duration` from the beginning.
    pub(super) fn run(&mut self, cluster: &mut Cluster, duration: Duration) {
        let end = Time::ZERO + duration;
        while let Some(at) = self.queue.next_at().filter(|&at| at <= end) {
            cluster.run_for(at.since(cluster.now()));
            let Some((_, step)) = self.queue.pop() else { break };
            self.step(cluster, step);
        }
        cluster.run_for(end.since(cluster.now()));
    }

    /// Whether a node is the second process of some fault.
    pub(super) fn is_twin(&self, node: NodeIdx) -> bool {
        self.twins.values().any(|&twin| twin == node)
    }

    /// Ends every fault that still goes on; nodes come back elsewhere.
    pub(super) fn end_all(&mut self, cluster: &mut Cluster) {
        for number in std::mem::take(&mut self.active) {
            self.end(cluster, number);
        }
    }

    fn step(&mut self, cluster: &mut Cluster, step: Step) {
        match step {
            Step::Add(number) => {
                let node = self.scenario.nodes()[number].clone();
                add(cluster, &self.scenario, &node);
                // What is sifted by a name that nobody had may concern this node.
                self.refresh(cluster);
            }
            Step::Begin(number) => self.begin(cluster, number),
            Step::End(number) => {
                if self.active.remove(&number) {
                    self.end(cluster, number);
                }
            }
            Step::Flap(number) => self.flap(cluster, number),
            Step::Storm(number, call) => self.storm(cluster, number, call),
            Step::Go(number, node) => self.go(cluster, number, node),
            Step::ComeBack(number, node) => self.come_back(cluster, number, node),
            Step::Rotate(number, round) => self.rotate(cluster, number, round),
            Step::Rekey(number, round, node) => {
                let _ = cluster.set_keyring(node, &self.rotations[&number][round]);
            }
        }
    }

    fn begin(&mut self, cluster: &mut Cluster, number: usize) {
        let Timed { scope, act, .. } = self.scenario.events[number].clone();
        match &act {
            Act::Storm { .. } => self.storm(cluster, number, 0),
            _ if act.is_call() => call(cluster, scope_of(cluster, &scope), &act),
            Act::Reset { links } => {
                let ends: BTreeSet<_> =
                    named(cluster, links).into_iter().map(|(one, other)| (one.min(other), one.max(other))).collect();
                ends.into_iter().for_each(|(one, other)| cluster.reset_streams(one, other));
            }
            Act::Rotate { to, .. } => {
                let [new, old] = [vec![to.clone()], std::mem::replace(&mut self.ring, vec![to.clone()])];
                let rings = [[&old[..], &new].concat(), [&new[..], &old].concat(), new];
                self.rotations.insert(number, rings);
                self.rotate(cluster, number, 0);
            }
            Act::Rolling { every, lasting, .. } => {
                for (order, node) in cluster.nodes().enumerate() {
                    let at = (*every + *lasting) * order as u32;
                    self.after(cluster, at, Step::Go(number, node));
                    self.after(cluster, at + *lasting, Step::ComeBack(number, node));
                }
            }
            Act::RestartAll { lasting, .. } => {
                for node in cluster.nodes() {
                    self.go(cluster, number, node);
                    self.after(cluster, *lasting, Step::ComeBack(number, node));
                }
            }
            _ => {
                let node = act.nodes().first().and_then(|name| cluster.named(name));
                match (act.about_a_process(), node) {
                    (true, Some(node)) => self.begin_at(cluster, number, &act, node),
                    (true, None) => {}
                    (false, _) => {
                        self.active.insert(number);
                        self.refresh(cluster);
                        if let Some(flap) = act.flap() {
                            self.after(cluster, flap, Step::Flap(number));
                        }
                    }
                }
                if let Some(lasting) = act.lasting().filter(|_| self.active.contains(&number)) {
                    self.after(cluster, lasting, Step::End(number));
                }
            }
        }
    }

    /// A fault of one node begins, if it is there.
    fn begin_at(&mut self, cluster: &mut Cluster, number: usize, act: &Act, node: NodeIdx) {
        let is_up = cluster.state(node) == NodeState::Up;
        match act {
            Act::Down { lasting, .. } => {
                self.go(cluster, number, node);
                if let Some(lasting) = lasting {
                    self.after(cluster, *lasting, Step::ComeBack(number, node));
                }
            }
            Act::Readdress { lasting, .. } if is_up => {
                self.go(cluster, number, node);
                cluster.readdress(node);
                if let Some(lasting) = lasting {
                    self.after(cluster, *lasting, Step::ComeBack(number, node));
                }
            }
            Act::Pause { .. } if is_up => {
                cluster.pause(node);
                self.held.insert(node, number);
                self.active.insert(number);
            }
            Act::Slow { by, .. } => {
                cluster.slow(node, Some(*by));
                self.active.insert(number);
            }
            Act::Twin { .. } if is_up => {
                self.twins.insert(number, cluster.add_twin(node));
                self.active.insert(number);
            }
            Act::SetWallClock { by_ms, .. } => cluster.step_wall_clock(node, *by_ms),
            Act::JumpClock { by, .. } => cluster.jump_clock(node, *by),
            _ => {}
        }
    }

    fn after(&mut self, cluster: &Cluster, after: Duration, step: Step) {
        self.queue.push(cluster.now() + after, step);
    }

    /// A fault is over; it is not active any more.
    fn end(&mut self, cluster: &mut Cluster, number: usize) {
        let act = self.scenario.events[number].act.clone();
        let node = act.nodes().first().and_then(|name| cluster.named(name));
        match (&act, node) {
            (Act::Pause { resume, .. }, Some(node)) if self.held.get(&node) == Some(&number) => {
                self.held.remove(&node);
                cluster.resume_with(node, resume.unwrap_or(self.scenario.cluster.resume));
            }
            (Act::Slow { .. }, Some(node)) => cluster.slow(node, None),
            (Act::Twin { .. }, _) => {
                if let Some(&twin) = self.twins.get(&number) {
                    cluster.crash(twin);
                }
            }
            _ => {
                self.open.remove(&number);
                self.refresh(cluster);
            }
        }
    }

    fn flap(&mut self, cluster: &mut Cluster, number: usize) {
        let Some(flap) = self.scenario.events[number].act.flap().filter(|_| self.active.contains(&number)) else {
            return;
        };
        if !self.open.remove(&number) {
            self.open.insert(number);
        }
        self.refresh(cluster);
        self.after(cluster, flap, Step::Flap(number));
    }

    fn storm(&mut self, cluster: &mut Cluster, number: usize, nth: usize) {
        let Timed { scope, act, .. } = self.scenario.events[number].clone();
        let Act::Storm { id, on, count, every, spec } = act else { return };
        let on = on[nth % on.len().max(1)].clone();
        let act = match nth % 2 {
            0 => Act::Start { id, on, replicated: 0, spec },
            _ => Act::Terminate { id, on, replicated: 0 },
        };
        call(cluster, scope_of(cluster, &scope), &act);
        if nth + 1 < count {
            self.after(cluster, every, Step::Storm(number, nth + 1));
        }
    }

    /// Gives every node its next ring, one after the other; whoever comes meanwhile begins with it.
    fn rotate(&mut self, cluster: &mut Cluster, number: usize, round: usize) {
        let Act::Rotate { every, .. } = self.scenario.events[number].act else { return };
        let rings = &self.rotations[&number];
        cluster.set_keyring_of_newcomers(&rings[round]);
        let is_last = round + 1 == rings.len();
        let nodes = cluster.nodes();
        let mut after = Duration::ZERO;
        for node in nodes {
            self.after(cluster, after, Step::Rekey(number, round, node));
            after += every;
        }
        if !is_last {
            self.after(cluster, after, Step::Rotate(number, round + 1));
        }
    }

    fn go(&mut self, cluster: &mut Cluster, number: usize, node: NodeIdx) {
        let how = match self.scenario.events[number].act {
            Act::Down { how, .. } | Act::Rolling { how, .. } | Act::RestartAll { how, .. } => how,
            Act::Readdress { .. } => How::Crash,
            _ => return,
        };
        if cluster.state(node) != NodeState::Up || self.is_twin(node) {
            return;
        }
        self.held.insert(node, number);
        match how {
            How::Crash => cluster.crash(node),
            How::Power => cluster.lose_power(node),
            How::Leave => {
                self.leaves.insert(node, cluster.leave(node));
            }
        }
    }

    /// A node that this event took down comes back. One that is still leaving does when it has left; where children do not
    /// end, its user tries again, as users have to.
    fn come_back(&mut self, cluster: &mut Cluster, number: usize, node: NodeIdx) {
        if self.held.get(&node) != Some(&number) {
            return;
        }
        match cluster.state(node) {
            NodeState::Down | NodeState::Off => {
                self.held.remove(&node);
                cluster.restart(node);
            }
            NodeState::Up | NodeState::Paused => {
                let is_refused = |request: &Request| matches!(cluster.reply(*request), Some(Reply::Left(Err(_))));
                if cluster.state(node) == NodeState::Up && self.leaves.get(&node).is_some_and(is_refused) {
                    self.leaves.insert(node, cluster.leave(node));
                }
                self.after(cluster, LEAVE_LOOK, Step::ComeBack(number, node));
            }
        }
    }

    /// Makes the links what the active faults say.
    fn refresh(&mut self, cluster: &mut Cluster) {
        let wanted = self.wanted(cluster);
        let is = std::mem::take(&mut self.links);
        for (&(from, to), class) in is.cut.iter().filter(|(link, class)| wanted.cut.get(link) != Some(*class)) {
            cluster.mend_class(from, to, *class);
        }
        for (&(from, to), class) in wanted.cut.iter().filter(|(link, class)| is.cut.get(link) != Some(*class)) {
            cluster.cut_class(from, to, *class);
        }
        is.clogged.difference(&wanted.clogged).for_each(|&(from, to)| cluster.unclog(from, to));
        wanted.clogged.difference(&is.clogged).for_each(|&(from, to)| cluster.clog(from, to));
        is.rejected.difference(&wanted.rejected).for_each(|&(from, to)| cluster.admit(from, to));
        wanted.rejected.difference(&is.rejected).for_each(|&(from, to)| cluster.reject(from, to));
        for &(from, to) in is.degraded.keys().filter(|link| !wanted.degraded.contains_key(link)) {
            cluster.set_link_between(from, to, None);
        }
        for (&(from, to), link) in wanted.degraded.iter().filter(|(link, like)| is.degraded.get(link) != Some(*like)) {
            cluster.set_link_between(from, to, Some(*link));
        }
        if is.weather != wanted.weather {
            cluster.set_link(wanted.weather.unwrap_or(self.scenario.network));
        }
        if is.sieves != wanted.sieves {
            cluster.sift(wanted.sieves.clone());
        }
        self.links = wanted;
    }

    fn wanted(&self, cluster: &Cluster) -> Links {
        let mut wanted = Links::default();
        for number in self.active.difference(&self.open) {
            let act = &self.scenario.events[*number].act;
            match act {
                Act::Cut { links, class, .. } => cut(&mut wanted, named(cluster, links), *class),
                Act::Split { sides, class, .. } => cut(&mut wanted, between(cluster, sides), *class),
                Act::Ring { .. } => cut(&mut wanted, not_neighbours(cluster), Class::All),
                Act::Clog { links, .. } => wanted.clogged.extend(named(cluster, links)),
                Act::Reject { links, datagrams_pass, .. } => {
                    let ends = named(cluster, links);
                    if !datagrams_pass {
                        cut(&mut wanted, ends.clone(), Class::Datagrams);
                    }
                    wanted.rejected.extend(ends);
                }
                Act::Unwell { node, .. } => {
                    let Some(node) = cluster.named(node) else { continue };
                    let ends: Ends =
                        cluster.nodes().filter(|&other| other != node).map(|other| (node, other)).collect();
                    cut(&mut wanted, ends.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect(), Class::Datagrams);
                    wanted.rejected.extend(ends);
                }
                Act::Degrade { links, link, .. } => {
                    wanted.degraded.extend(named(cluster, links).into_iter().map(|ends| (ends, *link)));
                }
                Act::Weather { link, .. } => wanted.weather = Some(*link),
                Act::Sift { from, to, what, how, by, .. } => {
                    let ends = [from, to].map(|name| (!name.is_empty()).then(|| cluster.named(name)));
                    // Nothing comes from or goes to a node that is not there yet.
                    if let [from, to] = ends
                        && from != Some(None)
                        && to != Some(None)
                    {
                        let (from, to) = (from.flatten(), to.flatten());
                        wanted.sieves.push(Sieve { from, to, topics: what.clone(), does: *how, by: *by });
                    }
                }
                _ => {}
            }
        }
        wanted
    }
}

/// How often it is looked whether a node has left that is to come back.
const LEAVE_LOOK: Duration = Duration::from_millis(50);

type Ends = Vec<(NodeIdx, NodeIdx)>;

fn cut(wanted: &mut Links, ends: Ends, class: Class) {
    for ends in ends {
        let entry = wanted.cut.entry(ends).or_insert(class);
        *entry = if *entry == class { class } else { Class::All };
    }
}

fn named(cluster: &Cluster, links: &[LinkName]) -> Ends {
    let ends = |link: &LinkName| Some((cluster.named(&link.from)?, cluster.named(&link.to)?, link.direction));
    let directions = |(from, to, direction)| match direction {
        Direction::Both => vec![(from, to), (to, from)],
        Direction::OneWay => vec![(from, to)],
    };
    links.iter().filter_map(ends).flat_map(directions).collect()
}

fn between(cluster: &Cluster, sides: &[Vec<String>]) -> Ends {
    let sides: Vec<Vec<NodeIdx>> =
        sides.iter().map(|side| side.iter().filter_map(|name| cluster.named(name)).collect()).collect();
    let mut ends = Ends::new();
    for (number, side) in sides.iter().enumerate() {
        let others = sides.iter().enumerate().filter(|(other, _)| *other != number).flat_map(|(_, side)| side);
        for &to in others {
            ends.extend(side.iter().map(|&from| (from, to)));
        }
    }
    ends
}

fn not_neighbours(cluster: &Cluster) -> Ends {
    let count = cluster.nodes().count();
    let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
    let apart = pairs.filter(|&(from, to)| {
        let distance = from.abs_diff(to);
        distance > 1 && distance < count - 1
    });
    apart.map(|(from, to)| (NodeIdx(from), NodeIdx(to))).collect()
}

/// The scope of this name; that of all nodes, if it has none.
fn scope_of(cluster: &Cluster, name: &str) -> ScopeId {
    if name.is_empty() { cluster.scope() } else { ScopeId::of(name) }
}

/// A user calls. A node that was never there can't be called.
fn call(cluster: &mut Cluster, scope: ScopeId, act: &Act) {
    let node = act.nodes().first().and_then(|name| cluster.named(name));
    let (Some(node), Some(id)) = (node, act.child()) else { return };
    for command in commands(scope, id, act) {
        let _ = cluster.send(node, command);
    }
}

/// What a user asks for. The scenario was checked: every id and every spec can be made.
fn commands(scope: ScopeId, id: &str, act: &Act) -> Vec<Command> {
    let spec = |id: &str, plan: &SpecPlan| plan.spec(id).ok();
    let child = |id: &str| ChildId::new(id).ok();
    let start =
        |id: &str, plan: &SpecPlan, replicated| spec(id, plan).map(|spec| Command::Start { scope, spec, replicated });
    let terminate = |id: &str, replicated| child(id).map(|id| Command::Terminate { scope, id, replicated });
    let all = |count: usize| (0..count).map(|number| format!("{id}-{number}"));
    match act {
        Act::Start { spec, replicated, .. } => start(id, spec, *replicated).into_iter().collect(),
        Act::Update { spec: plan, replicated, .. } => {
            let update = spec(id, plan).map(|spec| Command::Update { scope, spec, replicated: *replicated });
            update.into_iter().collect()
        }
        Act::Terminate { replicated, .. } => terminate(id, *replicated).into_iter().collect(),
        Act::Read { .. } => child(id).map(|id| Command::Whereis { scope, id }).into_iter().collect(),
        Act::StartMany { count, spec, .. } => all(*count).filter_map(|id| start(&id, spec, 0)).collect(),
        Act::TerminateMany { count, .. } => all(*count).filter_map(|id| terminate(&id, 0)).collect(),
        _ => Vec::new(),
    }
}
