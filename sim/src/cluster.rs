//! A cluster of real nodes under virtual time: one queue of happenings, one thread, no clock.

mod calls;
mod clock;
mod contacts;
mod faults;
mod keys;
mod links;
mod options;
mod process;
mod pulls;
mod scopes;
mod sieves;
mod slow;
mod traffic;
mod twins;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use haulout::proto::packet::Codec;
use haulout::proto::{ChildEvent, ConnId, InstanceId, Node, Output, Reply, RunId, ScopeId, Stats, StreamEvent, Time};
use haulout::{Event, Key, MemberInfo, Security};

use calls::LOOK;
pub use calls::Request;
use clock::Clock;
use contacts::Contacts;
pub use faults::{Packet, Treatment};
#[cfg(feature = "cli")]
pub(crate) use options::address;
pub use options::{NodeOptions, Options, Resume};
use process::{Input, Process};
pub use sieves::{Sieve, Sifting, Topic};
pub use traffic::Traffic;

use crate::NodeIdx;
use crate::children::Children;
use crate::history::{FaultKind, History};
use crate::journal::Journal;
use crate::network::{Arrival, Class, Damage, Fate, LostTo, Network};
use crate::queue::Queue;
use crate::random::{Random, Range};
use crate::streams::{End, Heard, Host, Later, Step, Streams, World};
use crate::trace::{At, Digest, Trace};

/// Copies that are older than this are counted apart.
const HOUR: Duration = Duration::from_secs(3_600);

/// A datagram larger than this does not fit an Ethernet frame; sending one is a bug.
const DATAGRAM_BYTES_MAX: usize = 1_472;

/// A cluster of real nodes under virtual time.
///
/// ```no_run
/// use haulout::{ChildSpec, Which};
/// use haulout_sim::{Cluster, Options};
///
/// let mut cluster = Cluster::new(Options::seeded(7));
/// let [a, b] = ["a", "b"].map(|name| cluster.add_node(name));
/// let start = cluster.start(a, ChildSpec::raw("child", "kind", b"args".to_vec())?);
/// cluster.wait(start);
/// cluster.converge(std::time::Duration::from_secs(10));
/// assert!(cluster.journal().overlaps().is_empty());
/// assert_eq!(cluster.which(b, Which::Global).len(), 1);
/// # Ok::<(), haulout::SpecError>(())
/// ```
pub struct Cluster {
    options: Options,
    now: Time,
    queue: Queue<Happening>,
    network: Network,
    streams: Streams,
    slots: Vec<Slot>,
    by_addr: BTreeMap<SocketAddr, NodeIdx>,
    children: Children,
    journal: Journal,
    history: History,
    trace: Trace,
    traffic: Traffic,
    /// What the nodes counted that have no process any more.
    finished: Stats,
    contacts: Contacts,
    clogs: links::Clogs,
    timing: Random,
    hook: Option<faults::Hook>,
    sieves: sieves::Sieves,
    /// Reads what nodes tell each other.
    observer: Codec,
    /// Every key that a node ever had.
    keys: Vec<Key>,
    asked: pulls::Asked,
    held: Vec<faults::Held>,
    captured: Vec<Datagram>,
    /// The answer to a look.
    seen: Option<Reply>,
}

/// The place of one node: it keeps its name and address over restarts.
struct Slot {
    name: String,
    addr: SocketAddr,
    options: NodeOptions,
    state: NodeState,
    boots: u32,
    process: Option<Process>,
    births: Random,
    lateness: Random,
    /// By how much it hears everything late.
    slow: Option<Range>,
    slowness: Random,
    twins: Option<Box<twins::Twins>>,
    events: Vec<(Time, ScopeId, Event)>,
    /// Copied from the node when somebody looks.
    members: BTreeMap<ScopeId, OnceCell<Vec<MemberInfo>>>,
}

impl Slot {
    fn members(&self, scope: ScopeId) -> &[MemberInfo] {
        let copy = || self.process.as_ref().map(|process| process.node.members(scope)).unwrap_or_default();
        self.members.get(&scope).map_or(&[], |members| members.get_or_init(copy))
    }
}

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It runs.
    Up,
    /// Its process is stopped, its kernel is not.
    Paused,
    /// It has no process: it crashed or left.
    Down,
    /// Its machine is gone.
    Off,
}

/// One datagram, as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// When it was sent.
    pub sent: Time,
    /// By whom.
    pub from: NodeIdx,
    /// To whom.
    pub to: NodeIdx,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Where a datagram is from, and of when.
#[derive(Clone, Copy, Debug)]
struct Origin {
    sent: Time,
    /// The life of the sender.
    boot: u32,
    /// Whether its arrival shows that the two can talk: late copies and damaged ones do not.
    counts: bool,
}

/// What is planned.
enum Happening {
    Timer(NodeIdx, u32),
    Arrival { from: NodeIdx, to: NodeIdx, origin: Origin, bytes: Vec<u8> },
    Stream(Step),
    Child(NodeIdx, u32, RunId),
    Seeds(NodeIdx, u32),
    Late(NodeIdx, u32, Box<Input>),
}

impl Cluster {
    /// A cluster without nodes.
    pub fn new(options: Options) -> Self {
        let mut cluster = Cluster {
            now: Time::ZERO,
            queue: Queue::default(),
            network: Network::new(options.seed, options.link),
            streams: Streams::new(options.streams),
            slots: Vec::new(),
            by_addr: BTreeMap::new(),
            children: Children::new(options.seed),
            journal: Journal::default(),
            history: History::default(),
            trace: Trace::new(options.trace),
            traffic: Traffic::default(),
            finished: Stats::default(),
            contacts: Contacts::default(),
            clogs: links::Clogs::default(),
            timing: Random::stream(options.seed, "timing"),
            hook: None,
            sieves: sieves::Sieves::new(options.seed),
            observer: Codec::plaintext(&options.config.cluster),
            keys: Vec::new(),
            asked: pulls::Asked::default(),
            held: Vec::new(),
            captured: Vec::new(),
            seen: None,
            options,
        };
        cluster.note_weather();
        if let Security::Keyring { keys, .. } = cluster.options.config.security.clone() {
            cluster.note_keys(&keys);
        }
        cluster
    }

    /// Virtual time since the beginning.
    pub fn now(&self) -> Time {
        self.now
    }

    /// What the children could write down.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The users' calls, the lives of the nodes, the faults.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// How children behave from now on.
    pub fn children(&mut self) -> &mut Children {
        &mut self.children
    }

    /// The longest that any child so far may go on after an abort.
    pub fn abort_delay_max(&self) -> Duration {
        self.children.abort_delay_max()
    }

    /// How many millionths the clock of a node is too fast.
    pub fn drift_ppm(&self, node: NodeIdx) -> i32 {
        self.slots[node.0].options.drift_ppm
    }

    /// How far the wall clock of a node is off.
    pub fn wall_offset_ms(&self, node: NodeIdx) -> i64 {
        self.slots[node.0].options.wall_offset_ms
    }

    /// The trace of everything that happened.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The digest of everything that happened: the same for the same seed and calls, in every process and build.
    pub fn digest(&self) -> Digest {
        self.trace.digest()
    }

    /// How much was sent, and how often each fault of the links struck.
    pub fn traffic(&self) -> Traffic {
        Traffic { resets: self.streams.resets(), ..self.traffic }
    }

    /// What the cluster was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Every node that was ever added.
    pub fn nodes(&self) -> impl Iterator<Item = NodeIdx> + use<> {
        (0..self.slots.len()).map(NodeIdx)
    }

    /// The nodes that run.
    pub fn up(&self) -> Vec<NodeIdx> {
        self.nodes().filter(|&node| self.state(node) == NodeState::Up).collect()
    }

    /// What a node is doing.
    pub fn state(&self, node: NodeIdx) -> NodeState {
        self.slots[node.0].state
    }

    /// The name of a node.
    pub fn name(&self, node: NodeIdx) -> &str {
        &self.slots[node.0].name
    }

    /// The node with this name.
    pub fn named(&self, name: &str) -> Option<NodeIdx> {
        self.slots.iter().position(|slot| slot.name == name).map(NodeIdx)
    }

    /// The address of a node.
    pub fn addr(&self, node: NodeIdx) -> SocketAddr {
        self.slots[node.0].addr
    }

    /// The present life of a node, if it has one.
    pub fn instance(&self, node: NodeIdx) -> Option<InstanceId> {
        self.slots[node.0].process.as_ref().map(|process| process.instance)
    }

    /// The state machine of a node, if it lives, to look into in tests of its insides.
    pub fn node(&self, node: NodeIdx) -> Option<&Node> {
        self.slots[node.0].process.as_ref().map(|process| &process.node)
    }

    /// The counters of a node; zero if it is down.
    pub fn stats(&self, node: NodeIdx) -> Stats {
        self.node(node).map(|node| *node.stats()).unwrap_or_default()
    }

    /// The counters of all nodes over all their lives, added up.
    pub fn total_stats(&self) -> Stats {
        let mut total = self.finished;
        self.nodes().for_each(|node| total.add(&self.stats(node)));
        total
    }

    /// What a node told its users, over all its lives.
    pub fn events(&self, node: NodeIdx) -> &[(Time, ScopeId, Event)] {
        &self.slots[node.0].events
    }

    /// Every datagram that was sent, if `capture` is on.
    pub fn captured(&self) -> &[Datagram] {
        &self.captured
    }

    /// Takes the next happening, if there is one.
    pub fn step(&mut self) -> bool {
        let Some((at, happening)) = self.queue.pop() else { return false };
        self.now = self.now.max(at);
        match happening {
            Happening::Timer(node, boot) => self.timer_fires(node, boot),
            Happening::Arrival { from, to, origin, bytes } => self.arrive(from, to, origin, bytes),
            Happening::Stream(step) => self.stream_step(step),
            Happening::Child(node, boot, run) => self.feed(node, boot, Input::Child(run)),
            Happening::Seeds(node, boot) => self.feed(node, boot, Input::Seeds),
            Happening::Late(node, boot, input) => self.late_input(node, boot, *input),
        }
        true
    }

    /// Runs for this long.
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.queue.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = until;
    }

    /// Runs until the condition holds, at most this long; says whether it holds. It is looked at once per virtual
    /// millisecond in which something happens.
    #[must_use = "says whether the condition came to hold"]
    pub fn run_until(&mut self, within: Duration, mut condition: impl FnMut(&mut Cluster) -> bool) -> bool {
        let deadline = self.now + within;
        loop {
            if condition(self) {
                return true;
            }
            let Some(next) = self.queue.next_at().filter(|&at| at <= deadline) else {
                self.now = deadline;
                return condition(self);
            };
            if self.now == deadline {
                return false;
            }
            self.run_for(next.since(self.now).max(Duration::from_millis(1)).min(deadline.since(self.now)));
        }
    }

    /// Runs until the condition holds.
    ///
    /// # Panics
    /// If it does not hold within this time.
    #[track_caller]
    pub fn expect(&mut self, within: Duration, what: &str, condition: impl FnMut(&mut Cluster) -> bool) {
        let from = self.now;
        assert!(
            self.run_until(within, condition),
            "seed {}: not within {within:?} from {}: {what}",
            self.options.seed,
            At(from)
        );
    }

    /// Hands an input to this life of a node, at once or, while the process is paused or behind, later.
    fn feed(&mut self, at: NodeIdx, boot: u32, input: Input) {
        let slot = &mut self.slots[at.0];
        let Some(process) = slot.process.as_mut().filter(|process| process.boot == boot) else { return };
        if process.late == 0 && slot.state == NodeState::Paused {
            process.keep(input, self.options.socket_buffer_bytes);
        } else if self.is_behind(at) {
            self.feed_late(at, boot, input);
        } else {
            self.take(at, boot, input);
        }
    }

    /// Gives an input to a node and does what the node asks.
    fn take(&mut self, at: NodeIdx, boot: u32, input: Input) {
        let (now, slot) = (self.now, &mut self.slots[at.0]);
        let Some(process) = slot.process.as_mut() else { return };
        process.guard(now, at, &slot.name, self.options.inputs_per_ms_max);
        let local = process.local(now);
        match input {
            Input::Timer => {
                self.trace.bytes(now, at, "timer", &[]);
                process.node.handle_timeout(local);
            }
            Input::Datagram { from, bytes } => {
                self.trace.bytes(now, at, "datagram", &bytes);
                process.node.handle_datagram(local, from, &bytes);
            }
            Input::Stream(conn, heard) => {
                let event = match &heard {
                    Heard::Connected => StreamEvent::Connected,
                    Heard::Accepted(from) => StreamEvent::Accepted { from: *from },
                    Heard::Frame(frame) => StreamEvent::Frame(frame),
                    Heard::Refused => StreamEvent::Refused,
                    Heard::Closed => StreamEvent::Closed,
                };
                match event {
                    StreamEvent::Frame(frame) => self.trace.bytes(now, at, "frame", frame),
                    other => self.trace.show(now, at, "stream", &(conn, other)),
                }
                process.node.handle_stream(local, conn, event);
            }
            Input::Child(run) => {
                let Some(event) = self.child_steps(at, boot, run) else { return };
                return self.take(at, boot, Input::Report(run, event));
            }
            Input::Report(run, event) => {
                self.trace.show(now, at, "child", &(run, &event));
                process.node.handle_child(local, run, event);
            }
            Input::Seeds => {
                let seeds: Vec<SocketAddr> =
                    slot.options.config.seeds.iter().filter_map(|seed| seed.parse().ok()).collect();
                self.trace.show(now, at, "seeds", &seeds);
                process.node.handle_seeds(local, &seeds);
            }
            Input::Command(request, command) => {
                if request != LOOK {
                    self.trace.show(now, at, "command", &(request, &command));
                }
                process.node.command(local, request, *command);
            }
            Input::Cancel(request) => process.node.cancel(request),
        }
        self.drain(at);
    }

    /// A run takes the step that is due, if one is.
    fn child_steps(&mut self, at: NodeIdx, boot: u32, run: RunId) -> Option<ChildEvent> {
        let process = self.slots[at.0].process.as_mut()?;
        let event = process.child_step(self.now, run, &mut self.journal)?;
        if let Some(due) = process.child_due(run) {
            self.queue.push(due, Happening::Child(at, boot, run));
        }
        Some(event)
    }

    /// Does everything that a node asks for, then plans its next timer.
    fn drain(&mut self, at: NodeIdx) {
        let mut left = false;
        loop {
            let mut idle = true;
            let mut datagrams = Vec::new();
            let Some(process) = self.slots[at.0].process.as_mut() else { return };
            let (local, boot) = (process.local(self.now), process.boot);
            while let Some(transmit) = process.node.poll_transmit(local) {
                datagrams.push((transmit.to, transmit.bytes.to_vec()));
            }
            let output = process.node.poll_output();
            for (to, bytes) in datagrams {
                idle = false;
                self.transmit(at, to, bytes);
            }
            if let Some(output) = output {
                idle = false;
                left |= matches!(output, Output::Left);
                self.perform(at, boot, output);
            }
            if idle {
                break;
            }
        }
        if left {
            self.process_left(at);
        }
        self.plan_timer(at);
    }

    fn perform(&mut self, at: NodeIdx, boot: u32, output: Output) {
        let now = self.now;
        let end = |conn: ConnId| End { node: at, boot, conn };
        match output {
            Output::Connect { conn, to } => {
                self.trace.show(now, at, "connect", &(conn, to));
                let (source, target) = (self.slots[at.0].addr, self.by_addr.get(&to).copied());
                let target = target.map(|target| self.recipient(target));
                self.with_streams(|streams, world| streams.dial(world, end(conn), source, target));
            }
            Output::Frame { conn, bytes } => self.send_frame(end(conn), bytes),
            Output::Close { conn } => self.close_stream(end(conn)),
            Output::ResolveSeeds => {
                let delay = self.timing.duration(self.options.resolve_delay);
                self.queue.push(now + delay, Happening::Seeds(at, boot));
            }
            Output::StartChild(start) => {
                self.trace.show(now, at, "start", &(&start.id, start.run, start.epoch));
                let slot = &mut self.slots[at.0];
                let timeout = slot.options.config.start_timeout;
                let life = self.children.begin(at, &start, now, timeout);
                self.queue.push(life.due().unwrap_or(now), Happening::Child(at, boot, start.run));
                if let Some(process) = &mut slot.process {
                    process.begin_child(now, at, start, life, &mut self.journal);
                }
            }
            Output::StopChild { run, shutdown } => {
                self.trace.show(now, at, "stop", &(run, shutdown));
                let (process, journal) = (self.slots[at.0].process.as_mut(), &mut self.journal);
                if let Some(due) = process.and_then(|process| process.stop_child(now, run, shutdown, journal)) {
                    self.queue.push(due, Happening::Child(at, boot, run));
                }
            }
            Output::Reply { request: LOOK, reply } => self.seen = Some(reply),
            Output::Reply { request, reply } => {
                self.trace.show(now, at, "reply", &(request, &reply));
                self.answered(at, request, reply);
            }
            Output::Event { scope, event } => {
                self.trace.show(now, at, "event", &(scope, &event));
                self.slots[at.0].events.push((now, scope, event));
            }
            Output::Members { scope } => {
                self.trace.show(now, at, "members", &scope);
                self.slots[at.0].members.insert(scope, OnceCell::new());
            }
            Output::Left => self.trace.show(now, at, "left", &()),
        }
    }

    fn transmit(&mut self, from: NodeIdx, to: SocketAddr, bytes: Vec<u8>) {
        let len = bytes.len();
        assert!(len <= DATAGRAM_BYTES_MAX, "{} sent a datagram of {len} bytes", self.name(from));
        self.trace.bytes(self.now, from, "transmit", &bytes);
        self.traffic.datagrams += 1;
        self.traffic.datagram_bytes += len as u64;
        let Some(&to) = self.by_addr.get(&to) else {
            self.traffic.datagrams_lost += 1;
            return;
        };
        if self.options.capture {
            self.captured.push(Datagram { sent: self.now, from, to, bytes: bytes.clone() });
        }
        let origin = Origin { sent: self.now, boot: self.slots[from.0].boots, counts: true };
        match self.verdict(from, to, false, &bytes) {
            Treatment::Pass => self.travel(from, to, origin, Duration::ZERO, bytes),
            Treatment::Delay(extra) => self.travel(from, to, origin, extra, bytes),
            Treatment::Drop => self.traffic.datagrams_lost += 1,
            Treatment::Hold => self.held.push(faults::Held::Datagram { from, to, origin, bytes }),
            Treatment::Again(later) => {
                self.traffic.replayed += 1;
                self.travel(from, to, Origin { counts: false, ..origin }, later, bytes.clone());
                self.travel(from, to, origin, Duration::ZERO, bytes);
            }
            Treatment::Duplicate(copies) => {
                (0..copies).for_each(|_| self.travel(from, to, origin, Duration::ZERO, bytes.clone()));
                self.travel(from, to, origin, Duration::ZERO, bytes);
            }
        }
    }

    fn travel(&mut self, from: NodeIdx, to: NodeIdx, origin: Origin, extra: Duration, mut bytes: Vec<u8>) {
        let Arrival { after, again, replay, mut damage } = match self.network.datagram(self.now, from, to, bytes.len())
        {
            Fate::Lost(to) => return self.traffic.lost(to),
            Fate::Arrives(arrival) => arrival,
        };
        let sent = self.now + extra;
        if let Some(again) = again {
            self.traffic.duplicated += 1;
            self.queue.push(sent + again, Happening::Arrival { from, to, origin, bytes: bytes.clone() });
        }
        if let Some(replay) = replay {
            self.traffic.replayed += 1;
            self.traffic.replayed_after_hours += u64::from(replay >= HOUR);
            let origin = Origin { counts: false, ..origin };
            self.queue.push(sent + replay, Happening::Arrival { from, to, origin, bytes: bytes.clone() });
        }
        let origin = Origin { counts: origin.counts && damage.is_none(), ..origin };
        if let Some(damage) = damage.take() {
            damage.apply(&mut bytes);
            *match damage {
                Damage::Corrupted(_) => &mut self.traffic.corrupted,
                Damage::Truncated(_) => &mut self.traffic.truncated,
            } += 1;
        }
        self.queue.push(sent + after, Happening::Arrival { from, to, origin, bytes });
    }

    fn arrive(&mut self, from: NodeIdx, to: NodeIdx, origin: Origin, bytes: Vec<u8>) {
        // A cut made while it was on its way stops it too, or a scripted cut would leak.
        if self.network.is_cut(from, to, Class::Datagrams) {
            return self.traffic.lost(LostTo::Cut);
        }
        if self.network.is_clogged(from, to) {
            return self.wait_for_unclogging(from, to, origin, bytes);
        }
        let recipient = self.recipient(to);
        if origin.counts {
            self.note_contact(from, origin.boot, recipient);
        } else {
            self.note_ghosts(origin.sent);
        }
        self.deliver(self.slots[from.0].addr, recipient, bytes);
    }

    /// Something is heard again that was sent so long ago: it may tell of lives that are over.
    fn note_ghosts(&mut self, sent: Time) {
        let later = self.history.lives.iter().rev().take_while(|life| life.from > sent);
        let restarted: BTreeSet<NodeIdx> =
            later.map(|life| life.node).filter(|node| self.slots[node.0].boots > 1).collect();
        restarted.into_iter().for_each(|node| self.history.note_moment(FaultKind::Ghost(node), self.now));
    }

    fn deliver(&mut self, from: SocketAddr, to: NodeIdx, bytes: Vec<u8>) {
        let boot = self.slots[to.0].boots;
        self.feed(to, boot, Input::Datagram { from, bytes });
    }

    fn stream_step(&mut self, step: Step) {
        let mut told = VecDeque::new();
        let sender = self.streams.sender(step);
        self.with_streams(|streams, world| {
            let (heard, later) = streams.step(world, step);
            told.extend(heard);
            later
        });
        for (end, heard) in told {
            let teller = sender.filter(|_| matches!(heard, Heard::Frame(_)));
            if let (Some(sender), Heard::Frame(frame)) = (sender, &heard) {
                self.note_contact(sender.node, sender.boot, end.node);
                self.note_asked(sender.node, end.node, frame);
            }
            let before = self.pulls_completed(end.node);
            let frame = match &heard {
                Heard::Frame(frame) if self.options.contacts => frame.clone(),
                _ => Vec::new(),
            };
            self.feed(end.node, end.boot, Input::Stream(end.conn, heard));
            if let Some(sender) = teller.filter(|_| self.pulls_completed(end.node) > before) {
                self.note_pull(sender, end.node, &frame);
            }
        }
    }

    fn with_streams(&mut self, call: impl FnOnce(&mut Streams, &mut World<'_>) -> Later) {
        let (slots, backlog) = (&self.slots, self.options.listen_backlog);
        let unaccepted = |node: NodeIdx| slots[node.0].process.as_ref().map_or(0, Process::unaccepted);
        let host = |node: NodeIdx| match slots[node.0].state {
            NodeState::Paused if unaccepted(node) >= backlog => Host::Silent,
            NodeState::Up | NodeState::Paused => Host::Listening(slots[node.0].boots),
            NodeState::Down => Host::Refusing,
            NodeState::Off => Host::Silent,
        };
        let mut world = World { now: self.now, network: &mut self.network, host: &host };
        for (at, step) in call(&mut self.streams, &mut world) {
            self.queue.push(at, Happening::Stream(step));
        }
    }

    fn plan_timer(&mut self, at: NodeIdx) {
        let now = self.now;
        let slot = &mut self.slots[at.0];
        let Some(process) = slot.process.as_mut().filter(|process| !process.timer_is_late) else { return };
        let Some(deadline) = process.deadline() else { return };
        if process.timer.is_some_and(|planned| planned <= deadline.max(now)) {
            return;
        }
        let late = match self.options.timer_lateness {
            Range::ZERO => Duration::ZERO,
            range => slot.lateness.duration(range),
        };
        let planned = deadline.max(now) + late;
        process.timer = Some(planned);
        self.queue.push(planned, Happening::Timer(at, process.boot));
    }

    fn timer_fires(&mut self, at: NodeIdx, boot: u32) {
        let slot = &mut self.slots[at.0];
        let Some(process) = slot.process.as_mut().filter(|process| process.boot == boot) else { return };
        if process.timer != Some(self.now) {
            return;
        }
        process.timer = None;
        if slot.state != NodeState::Paused {
            self.wake(at, boot);
        }
    }

    /// Calls a node whose deadline has come; plans the next call of any other.
    fn wake(&mut self, at: NodeIdx, boot: u32) {
        let Some(process) = self.slots[at.0].process.as_ref().filter(|process| process.boot == boot) else { return };
        if process.timer_is_late {
            return;
        }
        if process.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.feed(at, boot, Input::Timer);
        } else {
            self.plan_timer(at);
        }
    }
}
