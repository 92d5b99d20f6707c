//! What was done to the cluster from outside: the users' calls with their answers, the lives of the nodes, the faults.

use std::time::Duration;

use haulout::proto::{Command, InstanceId, Reply, RequestId, ScopeId, Time};

use crate::NodeIdx;
use crate::network::{Class, Severity};

/// How long a node that found another process at its address takes no part.
pub(crate) const CONFLICT_PAUSE: Duration = Duration::from_secs(60);

/// A call of a user.
#[derive(Clone, Debug)]
pub struct Call {
    /// Its name.
    pub request: RequestId,
    /// On which node.
    pub node: NodeIdx,
    /// In which life of it; `None` if it was down.
    pub instance: Option<InstanceId>,
    /// What was asked.
    pub command: Command,
    /// When.
    pub called: Time,
    /// When it was answered, and how; a call that died with its process never is.
    pub answer: Option<(Time, Reply)>,
    /// Whether the user stopped waiting.
    pub cancelled: bool,
}

/// One life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Which node.
    pub node: NodeIdx,
    /// Its instance.
    pub instance: InstanceId,
    /// From when.
    pub from: Time,
    /// How much the node had told its users before: in the moment in which one life ends another one may begin.
    pub told_before: usize,
    /// Until when; `None` if it still lives.
    pub to: Option<Time>,
    /// How it ended.
    pub end: Option<LifeEnd>,
}

/// How a life of a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifeEnd {
    /// Its process was killed; its kernel closed its streams.
    Crashed,
    /// Its machine went away without a word.
    PowerLost,
    /// It left.
    Left,
}

/// A fault that lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// From when.
    pub from: Time,
    /// Until when; `None` if it still lasts.
    pub to: Option<Time>,
}

/// What kind of fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultKind {
    /// Nothing of this class gets from the first to the second.
    Cut(NodeIdx, NodeIdx, Class),
    /// A firewall refuses streams from the first to the second; datagrams pass.
    Rejects(NodeIdx, NodeIdx),
    /// What the first sends to the second waits.
    Clogged(NodeIdx, NodeIdx),
    /// What the first sends to the second is treated worse than what others send.
    Degraded(NodeIdx, NodeIdx),
    /// Some of what the first tells the second is lost or late, chosen by what it says.
    Sifted(NodeIdx, NodeIdx),
    /// The process does not run.
    Paused(NodeIdx),
    /// The process hears everything late.
    Slow(NodeIdx),
    /// The second is another process on the address of the first.
    Twin(NodeIdx, NodeIdx),
    /// The clock of the process goes forward at once: a moment.
    ClockJump(NodeIdx),
    /// Something from before the node was restarted is heard again: a moment. Where everybody who knew the end of its
    /// former life is gone too, that one may pass for the newer.
    Ghost(NodeIdx),
    /// Links lose datagrams.
    Loss(f64),
    /// All links are worse, beyond mere loss, than those of a good local network.
    Weather(Severity),
}

impl FaultKind {
    /// The two nodes on whose way to each other it lies, if it does not touch a node as a whole.
    pub fn link(self) -> Option<[NodeIdx; 2]> {
        match self {
            FaultKind::Cut(from, to, _)
            | FaultKind::Rejects(from, to)
            | FaultKind::Clogged(from, to)
            | FaultKind::Degraded(from, to)
            | FaultKind::Sifted(from, to) => Some([from, to]),
            _ => None,
        }
    }
}

/// A pull that somebody completed, as the network and its counters show: it knows since then what the other one knew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pull {
    /// Of which scope.
    pub scope: ScopeId,
    /// Whose state it was.
    pub from: InstanceId,
    /// Of when.
    pub knew: Time,
    /// Who has pulled it.
    pub to: InstanceId,
    /// When it was through.
    pub at: Time,
}

/// Everything that was done to the cluster from outside.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The calls; the request id is the place, unless only those of one scope are here.
    pub calls: Vec<Call>,
    /// The lives of all nodes, in the order in which they began.
    pub lives: Vec<Life>,
    /// The faults, in the order in which they began.
    pub faults: Vec<Fault>,
    /// The pulls that were seen to be completed, in order; not necessarily all.
    pub pulls: Vec<Pull>,
}

impl History {
    /// What of it concerns a scope that these nodes take part in, and what concerns all.
    pub(crate) fn within(&self, scope: ScopeId, takes_part: impl Fn(NodeIdx) -> bool) -> Self {
        let concerns = |call: &&Call| scope_of(&call.command).is_none_or(|of| of == scope);
        History {
            calls: self.calls.iter().filter(concerns).cloned().collect(),
            lives: self.lives.iter().filter(|life| takes_part(life.node)).copied().collect(),
            faults: self.faults.clone(),
            pulls: self.pulls.iter().filter(|pull| pull.scope == scope).copied().collect(),
        }
    }

    pub(crate) fn begin_fault(&mut self, kind: FaultKind, now: Time) {
        self.faults.push(Fault { kind, from: now, to: None });
    }

    /// A fault that is over at once.
    pub(crate) fn note_moment(&mut self, kind: FaultKind, now: Time) {
        self.faults.push(Fault { kind, from: now, to: Some(now) });
    }

    pub(crate) fn end_faults(&mut self, now: Time, ends: impl Fn(FaultKind) -> bool) {
        for fault in self.faults.iter_mut().filter(|fault| fault.to.is_none() && ends(fault.kind)) {
            fault.to = Some(now);
        }
    }

    pub(crate) fn end_life(&mut self, instance: InstanceId, now: Time, end: LifeEnd) {
        if let Some(life) = self.lives.iter_mut().find(|life| life.instance == instance) {
            life.to = Some(now);
            life.end = Some(end);
        }
    }

    /// The faults that lasted at some moment from `from` to `to`.
    pub fn faults_between(&self, from: Time, to: Time) -> impl Iterator<Item = &Fault> {
        self.faults.iter().filter(move |fault| fault.from <= to && fault.to.is_none_or(|end| end >= from))
    }
}

/// The scope that a call is about; `None` if it is about the node.
pub(crate) fn scope_of(command: &Command) -> Option<ScopeId> {
    match command {
        Command::Start { scope, .. }
        | Command::Update { scope, .. }
        | Command::Terminate { scope, .. }
        | Command::WhichChildren { scope, .. }
        | Command::Whereis { scope, .. }
        | Command::WaitUntilRunning { scope, .. } => Some(*scope),
        Command::JoinScope(setup) => Some(ScopeId::of(&setup.name)),
        Command::SetKeyring { .. } | Command::Leave { .. } => None,
    }
}

impl Fault {
    /// Whether it keeps this node from working or from talking.
    pub fn touches(&self, node: NodeIdx) -> bool {
        match self.kind {
            FaultKind::Cut(from, to, _)
            | FaultKind::Rejects(from, to)
            | FaultKind::Clogged(from, to)
            | FaultKind::Degraded(from, to)
            | FaultKind::Sifted(from, to) => from == node || to == node,
            FaultKind::Twin(one, other) => one == node || other == node,
            FaultKind::Paused(at) | FaultKind::Slow(at) | FaultKind::ClockJump(at) | FaultKind::Ghost(at) => at == node,
            FaultKind::Loss(_) | FaultKind::Weather(_) => false,
        }
    }
}
