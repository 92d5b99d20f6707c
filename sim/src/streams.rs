//! Streams between nodes, as TCP behaves: in order, delayed, refused where nobody listens, silent where the process is
//! paused, stalled by a cut and broken when it lasts.
//!
//! Pure like [`Network`]: each call says what is to happen later ([`Later`]), a step says what an end hears.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use haulout::proto::{ConnId, Time};

use crate::NodeIdx;
use crate::network::Network;

/// One end of a stream: which life of which node, and its name there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// Which node.
    pub node: NodeIdx,
    /// Which life of it.
    pub boot: u32,
    /// The stream's name there.
    pub conn: ConnId,
}

/// What the machine of a node answers to a packet for a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// A process of this life listens, running or paused.
    Listening(u32),
    /// No process: the kernel refuses. Or a firewall does, whoever is there.
    Refusing,
    /// No machine.
    Silent,
}

/// What an end hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The stream that it dialled is open.
    Connected,
    /// Somebody dialled.
    Accepted(SocketAddr),
    /// A frame.
    Frame(Vec<u8>),
    /// Nobody listens where it was dialled to.
    Refused,
    /// The end.
    Closed,
}

/// A step of a stream that is due at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pipe: u64,
    kind: StepKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepKind {
    /// The request reaches the other side.
    Syn,
    /// The acceptance reaches the dialler.
    SynAck,
    /// The refusal reaches the dialler.
    Refused,
    /// What this side sent arrives.
    Arrive(usize),
    /// This side gives up: nothing was acknowledged for too long, or the other side is gone.
    Break(usize),
}

/// Steps to be taken later.
pub type Later = Vec<(Time, Step)>;

/// How streams behave beyond what their links do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// A dial that gets no answer for so long has failed.
    pub connect_timeout: Duration,
    /// A stream on which a cut stops the traffic for so long breaks; the silent side notices as much later.
    pub break_after: Duration,
}

impl Default for StreamOptions {
    fn default() -> Self {
        StreamOptions { connect_timeout: Duration::from_secs(5), break_after: Duration::from_secs(15) }
    }
}

/// How often a stalled stream tries again.
const RETRY: Duration = Duration::from_millis(200);
/// How many bytes a segment without any content has: its headers.
const HEADER_BYTES: usize = 60;

/// All streams.
#[derive(Debug, Default)]
pub struct Streams {
    options: StreamOptions,
    pipes: BTreeMap<u64, Pipe>,
    ends: BTreeMap<End, (u64, usize)>,
    opened: u64,
    resets: u64,
}

#[derive(Debug)]
struct Pipe {
    nodes: [NodeIdx; 2],
    source: SocketAddr,
    dialled: Time,
    /// Set for the second side when the request has been accepted.
    ends: [Option<End>; 2],
    /// Whether this side still wants to hear.
    listens: [bool; 2],
    /// Whether the dialler knows that it is connected.
    connected: bool,
    /// Whether it was reset on its way: nothing gets through any more, though the ends do not know it yet.
    broken: bool,
    /// What each side has sent and the other has not received.
    sent: [Sent; 2],
}

#[derive(Debug, Default)]
struct Sent {
    items: VecDeque<(Time, Item)>,
    /// When the last item arrives; none overtakes it.
    last: Time,
    /// Whether a step is planned for the first item.
    armed: bool,
    stalled: Option<Time>,
}

#[derive(Debug)]
enum Item {
    Frame(Vec<u8>),
    Fin,
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Item::Frame(bytes) => bytes.len(),
            Item::Fin => 0,
        }
    }
}

/// The world around the streams at one moment.
pub struct World<'a> {
    /// The time.
    pub now: Time,
    /// The links.
    pub network: &'a mut Network,
    /// What each machine would answer.
    pub host: &'a dyn Fn(NodeIdx) -> Host,
}

impl Streams {
    /// No streams yet.
    pub fn new(options: StreamOptions) -> Self {
        Streams { options, ..Streams::default() }
    }

    /// How many streams there are, half-open ones included.
    pub fn len(&self) -> usize {
        self.pipes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pipes.is_empty()
    }

    /// The node at the other side of a stream, if the stream is still there.
    pub fn peer(&self, end: End) -> Option<NodeIdx> {
        let &(pipe, side) = self.ends.get(&end)?;
        Some(self.pipes[&pipe].nodes[1 - side])
    }

    /// How many streams the links have reset.
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// The end that sent what arrives in a step, if something does.
    pub fn sender(&self, step: Step) -> Option<End> {
        match step.kind {
            StepKind::Arrive(side) => self.pipes.get(&step.pipe)?.ends[side],
            _ => None,
        }
    }

    /// What waits for a link that is no longer clogged gets through now.
    pub fn unclogged(&mut self, world: &mut World<'_>, from: NodeIdx, to: NodeIdx) -> Later {
        let machines = [from, to].map(|node| world.network.machine(node));
        let mut later = Later::new();
        for (&pipe, state) in &self.pipes {
            let [one, other] = state.nodes.map(|node| world.network.machine(node));
            for (side, ends) in [[one, other], [other, one]].into_iter().enumerate() {
                if ends == machines && state.sent[side].stalled.is_some() {
                    later.push((world.now, Step { pipe, kind: StepKind::Arrive(side) }));
                }
            }
        }
        later
    }

    /// Dials. `to` is `None` where no node has the address.
    pub fn dial(&mut self, world: &mut World<'_>, end: End, source: SocketAddr, to: Option<NodeIdx>) -> Later {
        self.opened += 1;
        let pipe = self.opened;
        let target = to.unwrap_or(end.node);
        let delay = world.network.segment(world.now, end.node, target, HEADER_BYTES);
        self.ends.insert(end, (pipe, 0));
        self.pipes.insert(
            pipe,
            Pipe {
                nodes: [end.node, target],
                // Like an ephemeral port: nobody may take it for the address of a member.
                source: SocketAddr::new(source.ip(), 32_768 + (pipe % 28_000) as u16),
                dialled: world.now,
                ends: [Some(end), None],
                listens: [true, false],
                connected: false,
                broken: false,
                sent: Default::default(),
            },
        );
        let kind = if to.is_some() { StepKind::Syn } else { StepKind::Refused };
        vec![(world.now + delay, Step { pipe, kind })]
    }

    /// A firewall that rejects came up between two nodes: their streams in either direction break, and both ends hear it.
    pub fn rejected(&mut self, world: &mut World<'_>, one: NodeIdx, other: NodeIdx) -> Later {
        let machines = [one, other].map(|node| world.network.machine(node));
        let mut later = Later::new();
        for (&pipe, state) in &self.pipes {
            let [from, to] = state.nodes.map(|node| world.network.machine(node));
            if [from, to] == machines || [to, from] == machines {
                later.extend([0, 1].map(|side| (world.now, Step { pipe, kind: StepKind::Break(side) })));
            }
        }
        later
    }

    /// Sends a frame. Does nothing on a stream that is gone.
    pub fn send(&mut self, world: &mut World<'_>, end: End, extra_delay: Duration, frame: Vec<u8>) -> Later {
        match self.reset_on_its_way(world, end) {
            Some(later) => later,
            None => self.push(world, end, extra_delay, Item::Frame(frame)),
        }
    }

    /// Breaks a stream if its link decides so: what is on its way is lost, and either end hears of it at its time.
    fn reset_on_its_way(&mut self, world: &mut World<'_>, end: End) -> Option<Later> {
        let &(id, side) = self.ends.get(&end)?;
        let pipe = self.pipes.get_mut(&id).filter(|pipe| !pipe.broken)?;
        let [own, others] = world.network.reset(pipe.nodes[side], pipe.nodes[1 - side])?;
        pipe.broken = true;
        self.resets += 1;
        let hears = |after, side| (world.now + after, Step { pipe: id, kind: StepKind::Break(side) });
        Some(vec![hears(own, side), hears(others, 1 - side)])
    }

    /// Closes a stream behind what was sent on it; this end hears nothing more.
    pub fn close(&mut self, world: &mut World<'_>, end: End) -> Later {
        let later = self.push(world, end, Duration::ZERO, Item::Fin);
        if let Some((pipe, side)) = self.ends.remove(&end)
            && let Some(pipe) = self.pipes.get_mut(&pipe)
        {
            pipe.listens[side] = false;
        }
        later
    }

    /// Breaks a stream: both ends hear that it has ended, what was on its way is lost.
    pub fn reset(&mut self, now: Time, end: End) -> Later {
        let Some(&(pipe, _)) = self.ends.get(&end) else { return Vec::new() };
        [0, 1].map(|side| (now, Step { pipe, kind: StepKind::Break(side) })).to_vec()
    }

    /// The process of this life has ended. Its kernel closes its streams, unless the machine is gone too.
    pub fn process_ended(&mut self, world: &mut World<'_>, node: NodeIdx, boot: u32, machine_gone: bool) -> Later {
        let first = End { node, boot, conn: ConnId(0) };
        let last = End { node, boot, conn: ConnId(u64::MAX) };
        let ends: Vec<End> = self.ends.range(first..=last).map(|(&end, _)| end).collect();
        let mut later = Later::new();
        for end in ends {
            if !machine_gone {
                later.extend(self.close(world, end));
            } else if let Some((pipe, side)) = self.ends.remove(&end)
                && let Some(state) = self.pipes.get_mut(&pipe)
            {
                state.listens[side] = false;
                later.push((world.now + self.options.break_after, Step { pipe, kind: StepKind::Break(1 - side) }));
            }
        }
        later
    }

    /// Takes a step that is due. Returns what ends hear, in order.
    pub fn step(&mut self, world: &mut World<'_>, step: Step) -> (Vec<(End, Heard)>, Later) {
        let (mut told, mut later) = (Vec::new(), Later::new());
        match step.kind {
            StepKind::Syn => self.request_arrives(world, step.pipe, &mut told, &mut later),
            StepKind::SynAck => self.acceptance_arrives(world, step.pipe, &mut told, &mut later),
            StepKind::Refused => self.end_side(step.pipe, 0, Heard::Refused, &mut told),
            StepKind::Break(side) => self.end_side(step.pipe, side, Heard::Closed, &mut told),
            StepKind::Arrive(side) => self.items_arrive(world, step.pipe, side, &mut told, &mut later),
        }
        (told, later)
    }

    fn push(&mut self, world: &mut World<'_>, end: End, extra_delay: Duration, item: Item) -> Later {
        let Some(&(id, side)) = self.ends.get(&end) else { return Vec::new() };
        let Some(pipe) = self.pipes.get_mut(&id).filter(|pipe| !pipe.broken) else { return Vec::new() };
        let bytes = HEADER_BYTES + item.len();
        let delay = world.network.segment(world.now, pipe.nodes[side], pipe.nodes[1 - side], bytes) + extra_delay;
        let sent = &mut pipe.sent[side];
        sent.last = sent.last.max(world.now + delay);
        sent.items.push_back((sent.last, item));
        if std::mem::replace(&mut sent.armed, true) {
            return Vec::new();
        }
        vec![(sent.last, Step { pipe: id, kind: StepKind::Arrive(side) })]
    }

    fn request_arrives(&mut self, world: &mut World<'_>, id: u64, told: &mut Vec<(End, Heard)>, later: &mut Later) {
        let Some(pipe) = self.pipes.get_mut(&id).filter(|pipe| !pipe.broken) else { return };
        if !pipe.listens[0] {
            // The dialler went away before anybody heard of it.
            self.remove(id);
            return;
        }
        let [from, to] = pipe.nodes;
        let host = match &*world.network {
            // A firewall on its own side answers however the line is.
            network if network.rejects(from, to) => Host::Refusing,
            network if network.stops_streams(from, to) => Host::Silent,
            _ => (world.host)(to),
        };
        let back = world.now + world.network.segment(world.now, to, from, HEADER_BYTES);
        match host {
            Host::Silent if world.now.since(pipe.dialled) >= self.options.connect_timeout => {
                self.end_side(id, 0, Heard::Closed, told);
            }
            Host::Silent => later.push((world.now + RETRY, Step { pipe: id, kind: StepKind::Syn })),
            Host::Refusing => later.push((back, Step { pipe: id, kind: StepKind::Refused })),
            Host::Listening(boot) => {
                let end = End { node: to, boot, conn: ConnId::accepted(id) };
                pipe.ends[1] = Some(end);
                pipe.listens[1] = true;
                self.ends.insert(end, (id, 1));
                told.push((end, Heard::Accepted(pipe.source)));
                later.push((back, Step { pipe: id, kind: StepKind::SynAck }));
            }
        }
    }

    fn acceptance_arrives(&mut self, world: &mut World<'_>, id: u64, told: &mut Vec<(End, Heard)>, later: &mut Later) {
        let Some(pipe) = self.pipes.get_mut(&id).filter(|pipe| !pipe.broken) else { return };
        let [from, to] = pipe.nodes;
        if !world.network.stops_streams(to, from) {
            pipe.connected = true;
            if pipe.listens[0] {
                told.extend(pipe.ends[0].map(|end| (end, Heard::Connected)));
            }
        } else if world.now.since(pipe.dialled) < self.options.connect_timeout {
            later.push((world.now + RETRY, Step { pipe: id, kind: StepKind::SynAck }));
        } else {
            self.end_side(id, 0, Heard::Closed, told);
            later.push((world.now + self.options.break_after, Step { pipe: id, kind: StepKind::Break(1) }));
        }
    }

    fn items_arrive(
        &mut self,
        world: &mut World<'_>,
        id: u64,
        side: usize,
        told: &mut Vec<(End, Heard)>,
        later: &mut Later,
    ) {
        let Some(pipe) = self.pipes.get_mut(&id).filter(|pipe| !pipe.broken) else { return };
        let again = Step { pipe: id, kind: StepKind::Arrive(side) };
        let [from, to] = [pipe.nodes[side], pipe.nodes[1 - side]];
        let receiver = pipe.ends[1 - side];
        let ready = if side == 0 { receiver.is_some() } else { pipe.connected };
        let reachable = !world.network.stops_streams(from, to) && (world.host)(to) != Host::Silent;
        let sent = &mut pipe.sent[side];
        if !ready {
            later.push((world.now + RETRY, again));
            return;
        }
        if !reachable {
            let since = *sent.stalled.get_or_insert(world.now);
            if world.now.since(since) < self.options.break_after {
                later.push((world.now + RETRY, again));
            } else {
                self.end_side(id, side, Heard::Closed, told);
                let silent_side = Step { pipe: id, kind: StepKind::Break(1 - side) };
                later.push((world.now + self.options.break_after, silent_side));
            }
            return;
        }
        sent.stalled = None;
        let Some(receiver) = receiver else { return };
        let refuses = !pipe.listens[1 - side] && pipe.sent[1 - side].items.is_empty();
        let sent = &mut pipe.sent[side];
        if refuses {
            // Nobody is there any more, nor is a farewell on its way: the kernel answers with a reset.
            later.push((
                world.now + world.network.segment(world.now, to, from, HEADER_BYTES),
                Step { pipe: id, kind: StepKind::Break(side) },
            ));
        }
        while sent.items.front().is_some_and(|&(ready, _)| ready <= world.now) {
            let Some((_, item)) = sent.items.pop_front() else { break };
            match item {
                Item::Frame(_) if !pipe.listens[1 - side] => {}
                Item::Frame(frame) => told.push((receiver, Heard::Frame(frame))),
                Item::Fin => {
                    if pipe.listens[1 - side] {
                        told.push((receiver, Heard::Closed));
                    }
                    self.remove(id);
                    return;
                }
            }
        }
        sent.armed = !sent.items.is_empty();
        later.extend(sent.items.front().map(|&(ready, _)| (ready, again)));
    }

    /// This side hears that the stream has ended, if it still listens.
    fn end_side(&mut self, id: u64, side: usize, how: Heard, told: &mut Vec<(End, Heard)>) {
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let listens = std::mem::replace(&mut pipe.listens[side], false);
        if let Some(end) = pipe.ends[side] {
            self.ends.remove(&end);
            told.extend(listens.then_some((end, how)));
        }
        if pipe.listens == [false, false] {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: u64) {
        let Some(pipe) = self.pipes.remove(&id) else { return };
        for end in pipe.ends.into_iter().flatten() {
            self.ends.remove(&end);
        }
    }
}

#[cfg(test)]
mod tests;
