//! Hand-made runs of a cluster: a journal, a history and what nodes told, without any node.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use haulout::proto::{Command, Epoch, InstanceId, Reply, RequestId, ScopeId, Time};
use haulout::{ChildSpec, Config, Event, MemberInfo, Outcome, Profile};

use super::facts::{Facts, Touched};
use crate::PacketClass;
use crate::bounds::Bounds;
use crate::history::{Call, FaultKind, History, Life, LifeEnd};
use crate::journal::{Ending, Journal, Run};
use crate::network::Link;
use crate::{Cluster, NodeIdx, Options};

pub(crate) fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

pub(crate) fn instance(node: usize) -> InstanceId {
    InstanceId::new(node as u64 + 1)
}

pub(crate) fn scope() -> ScopeId {
    ScopeId::of("s")
}

pub(crate) fn spec(id: &str) -> ChildSpec {
    ChildSpec::raw(id, "kind", Vec::new()).expect("a spec")
}

/// A member as a node tells of it; only a node can make one.
pub(crate) fn member(node: usize) -> MemberInfo {
    static REAL: OnceLock<MemberInfo> = OnceLock::new();
    let real = REAL.get_or_init(|| {
        let mut cluster = Cluster::new(Options::seeded(1));
        let node = cluster.add_node("a");
        cluster.converge(Duration::from_secs(30));
        cluster.members(node)[0].clone()
    });
    let mut member = real.clone();
    member.instance = instance(node);
    member.name = format!("n{node}").into();
    member
}

/// A run of a cluster, written by hand: nodes are up from second 0, the instance of node n is n, now is 1,000 s.
pub(crate) struct Hand {
    pub(crate) journal: Journal,
    pub(crate) history: History,
    pub(crate) told: Vec<(NodeIdx, Time, Event)>,
    pub(crate) bounds: Bounds,
}

impl Hand {
    pub(crate) fn new(nodes: usize) -> Self {
        let mut history = History::default();
        for node in 0..nodes {
            let (node, instance) = (NodeIdx(node), instance(node));
            let life = Life { node, instance, from: at(0), told_before: 0, to: None, end: None };
            history.lives.push(life);
        }
        let config = Config {
            profile: Profile::Local,
            sync_interval: Duration::from_secs(1),
            backoff_min: Duration::from_secs(4),
            ..Config::default()
        };
        let bounds = Bounds::new(&config, nodes, Link::default());
        Hand { journal: Journal::default(), history, told: Vec::new(), bounds }
    }

    pub(crate) fn facts(&self) -> Facts<'_> {
        let told = self.told.iter().enumerate().map(|(before, (node, at, event))| (*node, before, *at, event));
        let touched = Touched::new(&self.history);
        Facts::new(&self.journal, &self.history, touched, told, &self.bounds, at(1_000))
    }

    /// A run from one second to another (0: for ever), with the number that its place gives it.
    pub(crate) fn run(&mut self, id: &str, node: usize, from: u64, to: u64) -> &mut Self {
        self.run_of(&spec(id), node, (1, 0), (from, to), Outcome::Stopped)
    }

    /// A run of a spec with an epoch (run 0: the next), which ends like this.
    pub(crate) fn run_of(
        &mut self,
        child: &ChildSpec,
        node: usize,
        (birth, run): (u64, u32),
        (from, to): (u64, u64),
        outcome: Outcome,
    ) -> &mut Self {
        let next = self.journal.of(child.id()).map(|run| run.epoch.run).max().unwrap_or(0) + 1;
        let entry = self.journal.begin(Run {
            node: NodeIdx(node),
            instance: instance(node),
            scope: scope(),
            id: child.id().clone(),
            epoch: Epoch { birth, run: if run == 0 { next } else { run } },
            spec: Arc::new(child.spec().clone()),
            began: at(from),
            started: Some(at(from)),
            signalled: None,
            shutdown: None,
            ended: None,
            ending: None,
        });
        if to > 0 {
            if outcome == Outcome::Stopped {
                self.journal.signalled(entry, at(to), child.spec().shutdown);
            }
            self.journal.end(entry, at(to), Ending::Exited(outcome));
        }
        self
    }

    pub(crate) fn tell(&mut self, node: usize, second: u64, event: Event) -> &mut Self {
        self.told.push((NodeIdx(node), at(second), event));
        self
    }

    pub(crate) fn up(&mut self, observer: usize, of: usize, second: u64) -> &mut Self {
        self.tell(observer, second, Event::MemberUp(member(of)))
    }

    pub(crate) fn down(&mut self, observer: usize, of: usize, second: u64) -> &mut Self {
        self.tell(observer, second, Event::MemberDown(member(of)))
    }

    pub(crate) fn fault(&mut self, kind: FaultKind, from: u64, to: u64) -> &mut Self {
        self.history.begin_fault(kind, at(from));
        self.history.end_faults(at(to), |other| other == kind);
        self
    }

    pub(crate) fn cut(&mut self, a: usize, b: usize, from: u64, to: u64) -> &mut Self {
        self.fault(FaultKind::Cut(NodeIdx(a), NodeIdx(b), PacketClass::All), from, to)
    }

    pub(crate) fn crash(&mut self, node: usize, second: u64) -> &mut Self {
        self.history.end_life(instance(node), at(second), LifeEnd::Crashed);
        self
    }

    /// A call that is answered a second later, or never.
    pub(crate) fn call(&mut self, node: usize, called: u64, command: Command, answer: Option<Reply>) -> &mut Self {
        self.history.calls.push(Call {
            request: RequestId(self.history.calls.len() as u64),
            node: NodeIdx(node),
            instance: Some(instance(node)),
            command,
            called: at(called),
            answer: answer.map(|reply| (at(called + 1), reply)),
            cancelled: false,
        });
        self
    }

    /// A start that is acknowledged to have made a life.
    pub(crate) fn start(&mut self, node: usize, id: &str, called: u64) -> &mut Self {
        self.ask_start(node, id, called, Some(Reply::Started(Ok(true))))
    }

    pub(crate) fn ask_start(&mut self, node: usize, id: &str, called: u64, answer: Option<Reply>) -> &mut Self {
        self.call(node, called, Command::Start { scope: scope(), spec: spec(id), replicated: 0 }, answer)
    }

    /// A terminate that is acknowledged to have removed a life.
    pub(crate) fn terminate(&mut self, node: usize, id: &str, called: u64) -> &mut Self {
        self.ask_terminate(node, id, called, Some(Reply::Terminated(Ok(()))))
    }

    pub(crate) fn ask_terminate(&mut self, node: usize, id: &str, called: u64, answer: Option<Reply>) -> &mut Self {
        let id = spec(id).id().clone();
        self.call(node, called, Command::Terminate { scope: scope(), id, replicated: 0 }, answer)
    }
}
