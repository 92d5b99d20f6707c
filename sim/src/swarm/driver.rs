//! Makes the unrest: faults and calls at random times, each from a stream of its own.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use haulout::proto::Time;
use haulout::{ChildId, ChildSpec, Outcome, Restart, Shutdown};
use twox_hash::XxHash3_64;

use super::options::{SwarmFault, SwarmOptions};
use crate::cluster::{Cluster, NodeState, Options};
use crate::history::LifeEnd;
use crate::network::Link;
use crate::queue::Queue;
use crate::random::{Random, Range};
use crate::{NodeIdx, Plan};

/// How many nodes may join beside the first ones.
const NEWCOMERS_MAX: usize = 3;
/// How often each id is called about on average.
const CALLS_PER_CHILD: u32 = 4;

pub(super) struct Driver {
    pub(super) cluster: Cluster,
    pub(super) options: SwarmOptions,
    /// The children that every node starts with.
    pub(super) startup: Vec<ChildId>,
    /// Set when children stop failing.
    calm: Rc<Cell<bool>>,
    faults: Random,
    users: Random,
    undo: Queue<Undo>,
    newcomers: usize,
    /// Those that were told to leave and are not back.
    leaving: BTreeSet<NodeIdx>,
}

/// The end of a fault.
#[derive(Debug)]
enum Undo {
    Mend(Vec<(NodeIdx, NodeIdx)>),
    Resume(NodeIdx),
    Restart(NodeIdx),
    GoodWeather,
}

impl Driver {
    pub(super) fn new(seed: u64, options: SwarmOptions) -> Self {
        let mut faults = Random::stream(seed, "swarm faults");
        let mut cluster = Cluster::new(Options {
            seed,
            config: options.config.clone(),
            kinds: ["steady", "job", "flaky", "slow"].map(String::from).to_vec(),
            link: options.link,
            timer_lateness: Range::new(Duration::ZERO, options.timer_lateness_max),
            resume: options.resume,
            sabotage: options.sabotage,
            fault_sites: options.fault_sites.reseeded(seed),
            ..Options::default()
        });
        let calm = Rc::new(Cell::new(false));
        plan_children(&mut cluster, Rc::clone(&calm));
        let startup = (0..2).map(startup_child).map(|spec| spec.id().clone()).collect();
        let stagger = if faults.chance(0.5) { Range::ZERO } else { Range::millis(0, 1_500) };
        let mut driver = Driver {
            cluster,
            startup,
            calm,
            users: Random::stream(seed, "swarm users"),
            undo: Queue::default(),
            newcomers: 0,
            leaving: BTreeSet::new(),
            faults,
            options,
        };
        for number in 0..driver.options.nodes {
            driver.add_node(&format!("node-{number}"));
            let pause = driver.faults.duration(stagger);
            driver.cluster.run_for(pause);
        }
        driver
    }

    /// Faults and calls until the time is over.
    pub(super) fn unrest(&mut self) {
        let end = self.cluster.now() + self.options.duration;
        let call_every = self.options.duration / (self.options.children as u32 * CALLS_PER_CHILD).max(1);
        let mut next_call = self.cluster.now();
        let mut next_fault = self.cluster.now() + self.gap(self.options.fault_every);
        loop {
            let undo = self.undo.next_at().unwrap_or(end);
            let next = next_call.min(next_fault).min(undo).min(end);
            self.cluster.run_for(next.since(self.cluster.now()));
            if next == end {
                return;
            } else if next == undo {
                self.end_a_fault();
            } else if next == next_fault {
                self.fault();
                next_fault = next + self.gap(self.options.fault_every);
            } else {
                self.user_calls();
                next_call = next + self.users.duration(Range::new(Duration::ZERO, call_every * 2));
            }
        }
    }

    /// Ends every fault; most of what is down comes back.
    pub(super) fn heal(&mut self) {
        while self.undo.pop().is_some() {}
        self.calm.set(true);
        self.cluster.heal();
        self.cluster.set_link(Link::default());
        for node in self.cluster.nodes() {
            match self.cluster.state(node) {
                NodeState::Up => {}
                NodeState::Paused => self.cluster.resume(node),
                NodeState::Down | NodeState::Off if self.faults.chance(0.7) => self.cluster.restart(node),
                NodeState::Down | NodeState::Off => {}
            }
        }
    }

    fn gap(&mut self, mean: Duration) -> Duration {
        self.faults.duration(Range::new(Duration::ZERO, mean * 2))
    }

    fn add_node(&mut self, name: &str) {
        let mut options = self.cluster.node_options();
        if self.faults.chance(0.5) {
            options.kinds.push("special".into());
        }
        options.weight = *self.faults.pick(&[100, 100, 50, 300]).unwrap_or(&100);
        options.children = (0..2).map(startup_child).collect();
        self.cluster.add_node_with(name, options);
    }

    fn fault(&mut self) {
        let Some(&fault) = self.faults.pick(&self.options.faults) else { return };
        let lasting = self.lasting();
        let end = self.cluster.now() + lasting;
        let nodes: Vec<NodeIdx> = self.cluster.nodes().collect();
        let pair = (self.faults.pick(&nodes).copied(), self.faults.pick(&nodes).copied());
        let (Some(one), Some(other)) = pair else { return };
        match fault {
            SwarmFault::Cut => self.cut(&[(one, other), (other, one)], end),
            SwarmFault::CutOneWay => self.cut(&[(one, other)], end),
            SwarmFault::Split => self.split(&nodes, end),
            SwarmFault::Pause if self.may_go(one) => {
                self.cluster.pause(one);
                self.undo.push(end, Undo::Resume(one));
            }
            SwarmFault::Crash if self.may_go(one) => {
                self.cluster.crash(one);
                self.undo.push(end, Undo::Restart(one));
            }
            SwarmFault::PowerLoss if self.may_go(one) => {
                self.cluster.lose_power(one);
                self.undo.push(end, Undo::Restart(one));
            }
            SwarmFault::Leave if self.may_go(one) => {
                let _ = self.cluster.leave(one);
                self.leaving.insert(one);
                let gone = self.cluster.now() + self.options.config.leave_timeout * 2;
                self.undo.push(gone + lasting, Undo::Restart(one));
            }
            SwarmFault::Join if self.newcomers < NEWCOMERS_MAX => {
                self.newcomers += 1;
                self.add_node(&format!("newcomer-{}", self.newcomers));
            }
            SwarmFault::BadWeather => {
                let delay = Range::new(self.options.link.delay.min, self.options.link.delay.max * 2);
                self.cluster.set_link(Link { delay, loss: 0.25, duplicate: 0.2, ..Link::default() });
                self.undo.push(end, Undo::GoodWeather);
            }
            _ => {}
        }
    }

    /// Some faults are over before anybody notices, some last beyond the detection of failures.
    fn lasting(&mut self) -> Duration {
        let ranges = [Range::millis(20, 500), Range::millis(500, 4_000), Range::millis(4_000, 20_000)];
        let range = *self.faults.pick(&ranges).unwrap_or(&ranges[0]);
        self.faults.duration(range)
    }

    /// Two nodes stay up, so that there is somebody to remember, and one seed does: whoever starts while there is
    /// none can only settle apart, which is no fault of the library.
    fn may_go(&self, node: NodeIdx) -> bool {
        let mut up = self.cluster.up();
        let is_up = up.contains(&node);
        up.retain(|other| *other != node && !self.leaving.contains(other));
        let seeds = self.cluster.options().seed_nodes;
        is_up && up.len() >= 2 && up.iter().any(|other| other.0 < seeds)
    }

    fn cut(&mut self, links: &[(NodeIdx, NodeIdx)], end: Time) {
        let links: Vec<_> = links.iter().copied().filter(|(from, to)| from != to).collect();
        links.iter().for_each(|&(from, to)| self.cluster.cut_one_way(from, to));
        self.undo.push(end, Undo::Mend(links));
    }

    fn split(&mut self, nodes: &[NodeIdx], end: Time) {
        let sides: Vec<bool> = nodes.iter().map(|_| self.faults.chance(0.5)).collect();
        let mut links = Vec::new();
        for (&from, side) in nodes.iter().zip(&sides) {
            let others = nodes.iter().zip(&sides).filter(|(_, other)| *other != side);
            links.extend(others.map(|(&to, _)| (from, to)));
        }
        self.cut(&links, end);
    }

    fn end_a_fault(&mut self) {
        let Some((_, undo)) = self.undo.pop() else { return };
        match undo {
            Undo::Mend(links) => links.iter().for_each(|&(from, to)| self.cluster.mend(from, to)),
            Undo::Resume(node) => self.cluster.resume(node),
            Undo::Restart(node) if matches!(self.cluster.state(node), NodeState::Down | NodeState::Off) => {
                self.leaving.remove(&node);
                self.cluster.restart(node);
            }
            Undo::Restart(node) => {
                self.leaving.remove(&node);
            }
            Undo::GoodWeather => self.cluster.set_link(self.options.link),
        }
    }

    fn user_calls(&mut self) {
        let up = self.cluster.up();
        let id = format!("child-{}", self.users.below(self.options.children));
        let (Some(&node), Some(&other)) = (self.users.pick(&up), self.users.pick(&up)) else { return };
        let variants = [self.users.below(2), self.users.below(2)];
        let spec = |variant: usize| child(&id, variant);
        let _ = match self.users.below(20) {
            0..10 => self.cluster.start(node, spec(variants[0])),
            10..16 => self.cluster.terminate(node, &id),
            16..18 => self.cluster.update(node, spec(variants[0])),
            // The same id from two nodes at once, with equal or different specs.
            _ => {
                let _ = self.cluster.start(node, spec(variants[0]));
                self.cluster.start(other, spec(variants[1]))
            }
        };
    }
}

fn startup_child(number: usize) -> ChildSpec {
    ChildSpec::raw(format!("startup-{number}"), "steady", Vec::new()).expect("a short id and kind")
}

/// The spec of an id: its kind and policies follow from the id, so that a variant differs in its arguments only.
fn child(id: &str, variant: usize) -> ChildSpec {
    let number = XxHash3_64::oneshot(id.as_bytes()) % 10;
    let kind = ["job", "flaky", "slow", "special"].get(number as usize).unwrap_or(&"steady");
    let spec = ChildSpec::raw(id, kind, vec![variant as u8]).expect("a short id and kind");
    match number {
        0 => spec.restart(Restart::Transient),
        4 => spec.shutdown(Shutdown::Brutal),
        5 => spec.shutdown(Shutdown::Infinity),
        _ => spec,
    }
}

fn plan_children(cluster: &mut Cluster, calm: Rc<Cell<bool>>) {
    let children = cluster.children();
    children.plan_kind("job", Plan::ending(Range::millis(100, 3_000), Outcome::Success));
    children.plan_kind(
        "slow",
        Plan { start_delay: Range::millis(0, 200), stop_delay: Range::millis(0, 400), ..Plan::default() },
    );
    children.plan_with(move |_, start, random| {
        let flaky = start.spec.kind.as_str() == "flaky" && !calm.get();
        flaky.then(|| match random.below(4) {
            0 => Plan::failing("can't start today"),
            1 => Plan::ending(Range::millis(0, 2_000), Outcome::Error("tired".into())),
            2 => Plan::ending(Range::millis(0, 20), Outcome::Panic("surprised".into())),
            _ => Plan::default(),
        })
    });
}

/// How many faults there were, ends of nodes included.
pub(super) fn fault_count(cluster: &Cluster) -> usize {
    let history = cluster.history();
    let ends = history.lives.iter().filter(|life| matches!(life.end, Some(end) if end != LifeEnd::Left)).count();
    history.faults.len() + ends
}
