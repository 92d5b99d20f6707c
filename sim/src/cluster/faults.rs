//! What can be done to nodes and packets: nodes come, crash, pause and leave; packets are held, lost and replayed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use haulout::Config;
use haulout::proto::{Birth, InstanceId, Node};

use super::options::address;
use super::{Clock, Cluster, NodeOptions, NodeState, Origin, Process, Resume, Slot};
use crate::NodeIdx;
use crate::history::{FaultKind, Life, LifeEnd};
use crate::random::{Random, Range};
use crate::streams::End;

/// The wall clock at the beginning of every simulation: 2025-01-01.
const WALL_MS_AT_ZERO: u64 = 1_735_689_600_000;

/// Where the numbers of hosts that were given another address begin: there are fewer hosts than that.
const HOSTS_MAX: usize = 1 << 16;

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
pub enum Treatment {
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
    /// It arrives, and so does a copy that much later. A stream sends it once.
    Again(Duration),
}

pub(super) type Hook = Box<dyn FnMut(Packet<'_>) -> Treatment>;

/// What waits for its release.
pub(super) enum Held {
    Datagram { from: NodeIdx, to: NodeIdx, origin: Origin, bytes: Vec<u8> },
    Frame(End, Vec<u8>),
    Close(End),
}

/// A node's share of children where nothing is said about it.
const WEIGHT: u16 = 100;

impl Held {
    fn is_on(&self, end: End) -> bool {
        matches!(self, Held::Frame(on, _) | Held::Close(on) if *on == end)
    }
}

impl Cluster {
    /// Adds a node and starts it; it joins its scopes.
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
            labels: BTreeMap::new(),
            weight: WEIGHT,
            children: Vec::new(),
            joins: true,
            scopes: self.options.scopes.iter().map(|name| (name.clone(), WEIGHT)).collect(),
            config: Config {
                seeds: (0..self.options.seed_nodes).map(|seed| address(NodeIdx(seed)).to_string()).collect(),
                security: self.options.security(),
                ..self.options.config.clone()
            },
            instance: None,
            clock_ahead: None,
            drift_ppm: 0,
            wall_offset_ms: 0,
        }
    }

    /// Adds a node like this and starts it.
    ///
    /// # Panics
    /// If its configuration can't be used.
    #[track_caller]
    pub fn add_node_with(&mut self, name: &str, mut options: NodeOptions) -> NodeIdx {
        let addr = address(NodeIdx(self.slots.len()));
        options.config.name = Some(name.into());
        options.config.bind = addr;
        let node = self.push_slot(name, addr, options);
        self.by_addr.insert(addr, node);
        self.restart(node);
        node
    }

    pub(super) fn push_slot(&mut self, name: &str, addr: SocketAddr, options: NodeOptions) -> NodeIdx {
        let node = NodeIdx(self.slots.len());
        let stream = |name| Random::numbered(self.options.seed, name, node.0 as u64);
        self.slots.push(Slot {
            name: name.into(),
            addr,
            options,
            state: NodeState::Down,
            boots: 0,
            process: None,
            births: stream("births"),
            lateness: stream("lateness"),
            slow: None,
            slowness: stream("slowness"),
            twins: None,
            events: Vec::new(),
            members: Default::default(),
        });
        node
    }

    /// How a node takes part from its next start on.
    pub fn node_options_mut(&mut self, node: NodeIdx) -> &mut NodeOptions {
        &mut self.slots[node.0].options
    }

    /// Gives the host of a node that is down another address. Seeds keep theirs, or nobody would find them.
    ///
    /// # Panics
    /// If the node is not down, or is everybody's seed.
    #[track_caller]
    pub fn readdress(&mut self, node: NodeIdx) {
        assert!(self.slots[node.0].process.is_none(), "{} runs", self.name(node));
        assert!(node.0 >= self.options.seed_nodes, "{} is a seed", self.name(node));
        let slot = &mut self.slots[node.0];
        let addr = address(NodeIdx(node.0 + slot.boots as usize * HOSTS_MAX));
        self.by_addr.remove(&slot.addr);
        slot.addr = addr;
        slot.options.config.bind = addr;
        self.by_addr.insert(addr, node);
    }

    /// Starts a node that is down: same name, same address, a new instance.
    ///
    /// # Panics
    /// If it is not down, if it is a [twin](Self::add_twin), or if its configuration can't be used.
    #[track_caller]
    pub fn restart(&mut self, node: NodeIdx) {
        assert!(self.twin_of(node).is_none(), "{} is a twin; add another", self.name(node));
        self.boot(node);
    }

    #[track_caller]
    pub(super) fn boot(&mut self, node: NodeIdx) {
        let slot = &mut self.slots[node.0];
        assert!(slot.process.is_none(), "{} runs already", slot.name);
        let drawn = InstanceId::new(slot.births.bits());
        let instance = slot.options.instance.unwrap_or(drawn);
        let drawn = slot.births.duration(Range::new(Duration::ZERO, self.options.clock_ahead_max));
        let ahead = slot.options.clock_ahead.unwrap_or(drawn);
        let clock = Clock::new(self.now, ahead, slot.options.drift_ppm);
        let wall_ms = WALL_MS_AT_ZERO.saturating_add_signed(slot.options.wall_offset_ms);
        let birth = Birth {
            addr: slot.addr,
            instance,
            seed: slot.births.seed(),
            wall_ms_at_zero: wall_ms.saturating_sub(ahead.as_millis() as u64),
            sabotage: self.options.sabotage,
            fault_sites: self.options.fault_sites,
            fanout: self.options.fanout,
        };
        let machine = match Node::new(&slot.options.config, birth, clock.local(self.now)) {
            Ok(machine) => machine,
            Err(error) => panic!("{}: {error}", slot.name),
        };
        slot.boots += 1;
        slot.state = NodeState::Up;
        slot.members.clear();
        slot.process = Some(Process::new(machine, instance, slot.boots, clock));
        let joins = slot.options.joins;
        let told_before = slot.events.len();
        self.history.lives.push(Life { node, instance, from: self.now, told_before, to: None, end: None });
        self.trace.show(self.now, node, "born", &instance);
        self.drain(node);
        if joins {
            self.join_own_scopes(node);
        }
    }

    /// Kills the process of a node (SIGKILL): its kernel closes its streams and refuses new ones.
    pub fn crash(&mut self, node: NodeIdx) {
        self.end_process(node, NodeState::Down, LifeEnd::Crashed);
    }

    /// Takes the machine of a node away, with its twins: nobody hears anything of it.
    pub fn lose_power(&mut self, node: NodeIdx) {
        for node in self.on_machine(node) {
            self.end_process(node, NodeState::Off, LifeEnd::PowerLost);
        }
    }

    pub(super) fn process_left(&mut self, node: NodeIdx) {
        self.end_process(node, NodeState::Down, LifeEnd::Left);
    }

    fn end_process(&mut self, node: NodeIdx, state: NodeState, how: LifeEnd) {
        let now = self.now;
        let scopes = self.scopes();
        let slot = &mut self.slots[node.0];
        // What it told last is what it is remembered by.
        for scope in scopes {
            slot.members(scope);
        }
        let Some(process) = slot.process.take() else { return };
        slot.state = state;
        self.trace.show(now, node, "ended", &how);
        self.history.end_life(process.instance, now, how);
        let over = |kind| kind == FaultKind::Paused(node) || matches!(kind, FaultKind::Twin(_, twin) if twin == node);
        self.history.end_faults(now, over);
        let boot = process.boot;
        self.finished.add(process.node.stats());
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
        self.resume_with(node, self.options.resume);
    }

    /// Continues a paused process and chooses what it sees first.
    pub fn resume_with(&mut self, node: NodeIdx, resume: Resume) {
        let slot = &mut self.slots[node.0];
        if slot.state != NodeState::Paused {
            return;
        }
        slot.state = NodeState::Up;
        self.trace.show(self.now, node, "resumed", &());
        self.history.end_faults(self.now, |kind| kind == FaultKind::Paused(node));
        let Some(process) = slot.process.as_mut() else { return };
        let (boot, waiting) = (process.boot, process.take_inbox());
        if resume == Resume::TimersFirst {
            self.wake(node, boot);
        }
        for input in waiting {
            self.feed(node, boot, input);
        }
        if resume == Resume::PacketsFirst {
            self.wake(node, boot);
        }
    }

    /// Changes the wall clock of a node's machine, by up to years. It takes effect at the node's next start: a running
    /// node has read it once and counts on with its monotonic clock.
    pub fn step_wall_clock(&mut self, node: NodeIdx, by_ms: i64) {
        let offset = &mut self.slots[node.0].options.wall_offset_ms;
        *offset = offset.saturating_add(by_ms);
        self.trace.show(self.now, node, "wall clock", &by_ms);
    }

    /// Lets the monotonic clock of a node's process go forward at once, as on a machine that was suspended for an
    /// instant of the simulation but for this long by its own clock.
    pub fn jump_clock(&mut self, node: NodeIdx, by: Duration) {
        let slot = &mut self.slots[node.0];
        let Some(process) = slot.process.as_mut() else { return };
        process.clock.jump(by);
        let runs = slot.state == NodeState::Up;
        self.trace.show(self.now, node, "clock jump", &by);
        self.history.note_moment(FaultKind::ClockJump(node), self.now);
        if runs {
            self.plan_timer(node);
        }
    }

    /// Chooses what resumed processes see first from now on.
    pub fn set_resume(&mut self, resume: Resume) {
        self.options.resume = resume;
    }

    /// Shows every packet to `hook` from now on, which decides what becomes of it. The history knows nothing of it, so
    /// it excuses nothing.
    pub fn on_packet(&mut self, hook: impl FnMut(Packet<'_>) -> Treatment + 'static) {
        self.hook = Some(Box::new(hook));
    }

    /// Drops every packet from now on for which this holds.
    pub fn drop_if(&mut self, mut predicate: impl FnMut(Packet<'_>) -> bool + 'static) {
        self.on_packet(move |packet| if predicate(packet) { Treatment::Drop } else { Treatment::Pass });
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
                Held::Datagram { from, to, origin, bytes } => self.travel(from, to, origin, Duration::ZERO, bytes),
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

    pub(super) fn verdict(&mut self, from: NodeIdx, to: NodeIdx, is_stream: bool, bytes: &[u8]) -> Treatment {
        let hooked = self.hook.as_mut().map(|hook| hook(Packet { from, to, is_stream, bytes }));
        match hooked {
            None | Some(Treatment::Pass) => self.sieves.verdict(&self.observer, from, to, bytes),
            Some(treatment) => treatment,
        }
    }

    pub(super) fn send_frame(&mut self, end: End, bytes: Vec<u8>) {
        self.trace.bytes(self.now, end.node, "send", &bytes);
        self.traffic.frames += 1;
        self.traffic.frame_bytes += bytes.len() as u64;
        let Some(peer) = self.streams.peer(end) else { return };
        let mut verdict = self.verdict(end.node, peer, true, &bytes);
        if self.held.iter().any(|held| held.is_on(end)) {
            verdict = Treatment::Hold;
        }
        match verdict {
            Treatment::Hold => self.held.push(Held::Frame(end, bytes)),
            Treatment::Drop => self.with_streams(|streams, world| streams.reset(world.now, end)),
            Treatment::Delay(extra) => self.with_streams(|streams, world| streams.send(world, end, extra, bytes)),
            Treatment::Pass | Treatment::Duplicate(_) | Treatment::Again(_) => {
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
