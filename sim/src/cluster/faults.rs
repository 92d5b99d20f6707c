//! What can be done to a cluster: nodes come, crash, pause and leave; links fail; packets are held, lost and replayed.

use std::time::Duration;

use haulout::proto::{Birth, InstanceId, Node};
use haulout::{Config, Security};

use super::options::address;
use super::{Cluster, NodeOptions, NodeState, Process, Resume, Slot};
use crate::NodeIdx;
use crate::history::{FaultKind, Life, LifeEnd};
use crate::network::Link;
use crate::random::{Random, Range};
use crate::streams::End;

/// The wall clock at the beginning of every simulation: 2025-01-01.
const WALL_MS_AT_ZERO: u64 = 1_735_689_600_000;

/// Something that a node sends, shown to the hook of [`Cluster::on_packet`] before the network sees it.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Who sends it.
    pub from: NodeIdx,
    /// To whom.
    pub to: NodeIdx,
    /// Whether it is a frame of a stream, not a datagram.
    pub is_stream: bool,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The network treats it as any other.
    Pass,
    /// It is lost. A stream can't lose a frame: it breaks.
    Drop,
    /// It waits for [`Cluster::release`]. On a stream everything behind it waits too.
    Hold,
    /// It takes so much longer.
    Delay(Duration),
    /// So many copies of it are sent besides. A stream sends it once.
    Duplicate(usize),
}

pub(super) type Hook = Box<dyn FnMut(Packet<'_>) -> Verdict>;

/// What waits for its release.
pub(super) enum Held {
    Datagram { from: NodeIdx, to: NodeIdx, bytes: Vec<u8> },
    Frame(End, Vec<u8>),
    Close(End),
}

impl Held {
    fn is_on(&self, end: End) -> bool {
        matches!(self, Held::Frame(on, _) | Held::Close(on) if *on == end)
    }
}

impl Cluster {
    /// Adds a node and starts it; it joins the scope.
    ///
    /// # Panics
    /// If its configuration can't be used.
    #[track_caller]
    pub fn add_node(&mut self, name: &str) -> NodeIdx {
        let options = self.node_options();
        self.add_node_with(name, options)
    }

    /// What a node is like that nothing more is said about, to be changed and given to
    /// [`add_node_with`](Self::add_node_with).
    pub fn node_options(&self) -> NodeOptions {
        NodeOptions {
            kinds: self.options.kinds.clone(),
            weight: 100,
            children: Vec::new(),
            joins: true,
            config: Config {
                seeds: (0..self.options.seed_nodes).map(|seed| address(NodeIdx(seed)).to_string()).collect(),
                security: Security::Plaintext { allow_beyond_loopback: true },
                ..self.options.config.clone()
            },
            instance: None,
        }
    }

    /// Adds a node like this and starts it.
    ///
    /// # Panics
    /// If its configuration can't be used.
    #[track_caller]
    pub fn add_node_with(&mut self, name: &str, mut options: NodeOptions) -> NodeIdx {
        let node = NodeIdx(self.slots.len());
        let addr = address(node);
        options.config.name = Some(name.into());
        options.config.bind = addr;
        self.by_addr.insert(addr, node);
        self.slots.push(Slot {
            name: name.into(),
            addr,
            options,
            state: NodeState::Down,
            boots: 0,
            process: None,
            births: Random::numbered(self.options.seed, "births", node.0 as u64),
            lateness: Random::numbered(self.options.seed, "lateness", node.0 as u64),
            events: Vec::new(),
            members: Default::default(),
        });
        self.restart(node);
        node
    }

    /// How a node takes part from its next start on.
    pub fn node_options_mut(&mut self, node: NodeIdx) -> &mut NodeOptions {
        &mut self.slots[node.0].options
    }

    /// Starts a node that is down: same name, same address, a new instance.
    ///
    /// # Panics
    /// If it is not down, or its configuration can't be used.
    #[track_caller]
    pub fn restart(&mut self, node: NodeIdx) {
        let slot = &mut self.slots[node.0];
        assert!(slot.process.is_none(), "{} runs already", slot.name);
        let drawn = InstanceId::new(slot.births.bits());
        let instance = slot.options.instance.unwrap_or(drawn);
        let ahead = slot.births.duration(Range::new(Duration::ZERO, self.options.clock_ahead_max));
        let birth = Birth {
            addr: slot.addr,
            instance,
            seed: slot.births.seed(),
            wall_ms_at_zero: WALL_MS_AT_ZERO - ahead.as_millis() as u64,
            sabotage: self.options.sabotage,
            fault_sites: self.options.fault_sites,
        };
        let machine = match Node::new(&slot.options.config, birth, self.now + ahead) {
            Ok(machine) => machine,
            Err(error) => panic!("{}: {error}", slot.name),
        };
        slot.boots += 1;
        slot.state = NodeState::Up;
        slot.members.clear();
        slot.process = Some(Process::new(machine, instance, slot.boots, ahead));
        let joins = slot.options.joins;
        self.history.lives.push(Life { node, instance, from: self.now, to: None, end: None });
        self.trace.show(self.now, node, "born", &instance);
        self.drain(node);
        if joins {
            self.join_own_scope(node);
        }
    }

    /// Kills the process of a node (SIGKILL): its kernel closes its streams and refuses new ones.
    pub fn crash(&mut self, node: NodeIdx) {
        self.end_process(node, NodeState::Down, LifeEnd::Crashed);
    }

    /// Takes the machine of a node away: nobody hears anything of it.
    pub fn lose_power(&mut self, node: NodeIdx) {
        self.end_process(node, NodeState::Off, LifeEnd::PowerLost);
    }

    pub(super) fn process_left(&mut self, node: NodeIdx) {
        self.end_process(node, NodeState::Down, LifeEnd::Left);
    }

    fn end_process(&mut self, node: NodeIdx, state: NodeState, how: LifeEnd) {
        let now = self.now;
        let slot = &mut self.slots[node.0];
        let Some(process) = slot.process.take() else { return };
        slot.state = state;
        self.trace.show(now, node, "ended", &how);
        self.history.end_life(process.instance, now, how);
        self.history.end_faults(now, |kind| kind == FaultKind::Paused(node));
        let boot = process.boot;
        process.end(now, &mut self.journal);
        self.with_streams(|streams, world| streams.process_ended(world, node, boot, state == NodeState::Off));
    }

    /// Stops the process of a node (SIGSTOP): what is sent to it waits, its timers and its children stand still.
    pub fn pause(&mut self, node: NodeIdx) {
        let slot = &mut self.slots[node.0];
        if slot.state == NodeState::Up {
            slot.state = NodeState::Paused;
            self.trace.show(self.now, node, "paused", &());
            self.history.begin_fault(FaultKind::Paused(node), self.now);
        }
    }

    /// Continues a paused process (SIGCONT).
    pub fn resume(&mut self, node: NodeIdx) {
        let slot = &mut self.slots[node.0];
        if slot.state != NodeState::Paused {
            return;
        }
        slot.state = NodeState::Up;
        self.trace.show(self.now, node, "resumed", &());
        self.history.end_faults(self.now, |kind| kind == FaultKind::Paused(node));
        let Some(process) = slot.process.as_mut() else { return };
        let (boot, waiting) = (process.boot, process.take_inbox());
        if self.options.resume == Resume::TimersFirst {
            self.wake(node, boot);
        }
        for input in waiting {
            self.feed(node, boot, input);
        }
        if self.options.resume == Resume::PacketsFirst {
            self.wake(node, boot);
        }
    }

    /// Chooses what resumed processes see first from now on.
    pub fn set_resume(&mut self, resume: Resume) {
        self.options.resume = resume;
    }

    /// Cuts the links between two nodes in both directions.
    pub fn cut(&mut self, a: NodeIdx, b: NodeIdx) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Lets nothing through from one node to another.
    pub fn cut_one_way(&mut self, from: NodeIdx, to: NodeIdx) {
        if self.network.set_cut(from, to, true) {
            self.trace.show(self.now, from, "cut", &to);
            self.history.begin_fault(FaultKind::Cut(from, to), self.now);
        }
    }

    /// Cuts every link between these nodes and all others.
    pub fn split(&mut self, side: &[NodeIdx]) {
        for other in self.nodes().filter(|node| !side.contains(node)) {
            side.iter().for_each(|&node| self.cut(node, other));
        }
    }

    /// Mends the links between two nodes.
    pub fn mend(&mut self, a: NodeIdx, b: NodeIdx) {
        for (from, to) in [(a, b), (b, a)] {
            if self.network.set_cut(from, to, false) {
                self.trace.show(self.now, from, "mended", &to);
                self.history.end_faults(self.now, |kind| kind == FaultKind::Cut(from, to));
            }
        }
    }

    /// Mends every link.
    pub fn heal(&mut self) {
        for (from, to) in self.network.cuts() {
            self.mend(from, to);
        }
    }

    /// Changes how links behave that have no behaviour of their own.
    pub fn set_link(&mut self, link: Link) {
        self.network.set_default(link);
        self.note_loss();
    }

    /// Gives one direction a behaviour of its own, or takes it away.
    pub fn set_link_between(&mut self, from: NodeIdx, to: NodeIdx, link: Option<Link>) {
        self.network.set_link(from, to, link);
    }

    /// Shows every packet to `hook` from now on, which decides what becomes of it. The history knows nothing of it, so
    /// it excuses nothing.
    pub fn on_packet(&mut self, hook: impl FnMut(Packet<'_>) -> Verdict + 'static) {
        self.hook = Some(Box::new(hook));
    }

    /// Drops every packet from now on for which this holds.
    pub fn drop_if(&mut self, mut predicate: impl FnMut(Packet<'_>) -> bool + 'static) {
        self.on_packet(move |packet| if predicate(packet) { Verdict::Drop } else { Verdict::Pass });
    }

    /// Takes the hook away. What it held stays held.
    pub fn no_hook(&mut self) {
        self.hook = None;
    }

    /// How many packets are held.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Sends everything that is held on its way, in the order in which it was sent.
    pub fn release(&mut self) {
        for held in std::mem::take(&mut self.held) {
            match held {
                Held::Datagram { from, to, bytes } => self.travel(from, to, Duration::ZERO, bytes),
                Held::Frame(end, bytes) => {
                    self.with_streams(|streams, world| streams.send(world, end, Duration::ZERO, bytes));
                }
                Held::Close(end) => self.with_streams(|streams, world| streams.close(world, end)),
            }
        }
    }

    /// Drops everything that is held; streams with held frames break.
    pub fn drop_held(&mut self) {
        for held in std::mem::take(&mut self.held) {
            if let Held::Frame(end, _) | Held::Close(end) = held {
                self.with_streams(|streams, world| streams.reset(world.now, end));
            }
        }
    }

    /// A node receives this datagram now, as if `from` had sent it: for forgeries and replays. Cuts do not stop it.
    pub fn inject(&mut self, from: NodeIdx, to: NodeIdx, bytes: &[u8]) {
        self.deliver(self.slots[from.0].addr, to, bytes.to_vec());
    }

    pub(super) fn verdict(&mut self, from: NodeIdx, to: NodeIdx, is_stream: bool, bytes: &[u8]) -> Verdict {
        match &mut self.hook {
            Some(hook) => hook(Packet { from, to, is_stream, bytes }),
            None => Verdict::Pass,
        }
    }

    pub(super) fn send_frame(&mut self, end: End, bytes: Vec<u8>) {
        self.trace.bytes(self.now, end.node, "send", &bytes);
        self.traffic.frames += 1;
        self.traffic.frame_bytes += bytes.len() as u64;
        let Some(peer) = self.streams.peer(end) else { return };
        let mut verdict = self.verdict(end.node, peer, true, &bytes);
        if self.held.iter().any(|held| held.is_on(end)) {
            verdict = Verdict::Hold;
        }
        match verdict {
            Verdict::Hold => self.held.push(Held::Frame(end, bytes)),
            Verdict::Drop => self.with_streams(|streams, world| streams.reset(world.now, end)),
            Verdict::Delay(extra) => self.with_streams(|streams, world| streams.send(world, end, extra, bytes)),
            Verdict::Pass | Verdict::Duplicate(_) => {
                self.with_streams(|streams, world| streams.send(world, end, Duration::ZERO, bytes));
            }
        }
    }

    pub(super) fn close_stream(&mut self, end: End) {
        self.trace.show(self.now, end.node, "close", &end.conn);
        if self.held.iter().any(|held| held.is_on(end)) {
            self.held.push(Held::Close(end));
        } else {
            self.with_streams(|streams, world| streams.close(world, end));
        }
    }
}
