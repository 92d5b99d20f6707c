//! One real node, whose peers, users, children and clock are the fuzzer's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use haulout::proto::packet::DATAGRAM_BYTES_MAX;
use haulout::proto::{
    Birth, ChildEvent, Command, ConnId, Identity, Node, Output, RequestId, RunId, ScopeId, ScopeSetup, StreamEvent,
    Time,
};
use haulout::{ChildId, ChildSpec, Config, Key, Kind, Limits, Outcome, Security, Which};

use crate::script::{Report, Step, identity, read};
use crate::voices::{Said, Voices};

/// What the node under test may answer to one input: beyond, it is a flood.
const OUTPUTS_MAX: usize = 100_000;
/// Datagrams that may be repeated.
const REPEATED_MAX: usize = 32;
/// How often it may want to be woken within a virtual second: beyond, its loop does not end.
const WAKEUPS_PER_SECOND_MAX: usize = 20_000;

/// Any bytes as a datagram, as they are and behind an honest head: what an outsider and what a member can send.
pub fn datagram(bytes: &[u8]) {
    let mut lone = Lone::new();
    lone.take(Step::Noise(bytes.to_vec()));
    let (from, rest) = bytes.split_first().unwrap_or((&1, &[]));
    let (swim, noise) = match rest.split_first() {
        Some((len, rest)) => rest.split_at(rest.len().min((*len).into())),
        None => (rest, rest),
    };
    lone.take(Step::Datagram { from: *from, swim: swim.to_vec(), messages: Vec::new(), noise: noise.to_vec() });
    lone.finish();
}

/// Any frames on streams of every stage: accepted, dialled and not yet open, greeting, open, standing.
pub fn stream(bytes: &[u8]) {
    let mut lone = Lone::new();
    // The seed is dialled, so that there is a stream of each direction.
    for step in [Step::Seeds(1), Step::Connected(0), Step::Accepted] {
        lone.take(step);
    }
    let is_of_streams = |step: &Step| {
        use Step::{Accepted, Closed, Connected, Frame, NoiseFrame, Refused, Wait};
        matches!(step, Accepted | Connected(_) | Refused(_) | Closed(_) | NoiseFrame { .. } | Frame { .. } | Wait(_))
    };
    read(bytes).into_iter().filter(is_of_streams).for_each(|step| lone.take(step));
    lone.finish();
}

/// Anything that can happen to a node, in any order.
pub fn node(bytes: &[u8]) {
    let mut lone = Lone::new();
    read(bytes).into_iter().for_each(|step| lone.take(step));
    lone.finish();
}

/// The same where packets are sealed: what peers say is sealed as it must be, and they answer when they are asked whether they
/// live; any other bytes, and what came before, must change nothing.
pub fn keyed(bytes: &[u8]) {
    let mut lone = Lone::keyed();
    read(bytes).into_iter().for_each(|step| lone.take(step));
    lone.finish();
}

/// A node that has settled alone and runs a child.
pub struct Lone {
    node: Node,
    scope: ScopeId,
    now: Time,
    /// Streams that are not closed, in the order in which they began.
    streams: Vec<ConnId>,
    accepted: u64,
    /// Runs that have not ended.
    runs: BTreeMap<RunId, ChildId>,
    started: BTreeSet<RunId>,
    requests: u64,
    has_left: bool,
    voices: Voices,
    /// The last datagrams that came.
    repeatable: VecDeque<(u8, Vec<u8>)>,
    /// What peers answer.
    proofs: Vec<(u8, Vec<u8>)>,
}

impl Default for Lone {
    fn default() -> Self {
        Self::new()
    }
}

impl Lone {
    /// A node with low limits, so that they are met, in plaintext.
    pub fn new() -> Self {
        Lone::with_keys(Vec::new())
    }

    /// The same, with a key.
    pub fn keyed() -> Self {
        Lone::with_keys(vec![Key::new([7; 32])])
    }

    fn with_keys(keys: Vec<Key>) -> Self {
        let voices = Voices::new(&keys);
        let Identity { addr, instance, .. } = identity(0);
        let limits = Limits {
            members_max: 12,
            children_max: 12,
            streams_max: 12,
            stream_backlog_bytes_max: 8 * 1024,
            waiting_calls_max: 4,
            starting_max: 3,
            ..Limits::default()
        };
        let security = match voices.are_keyed() {
            true => Security::Keyring { keys, file: None, env: None },
            false => Security::Plaintext { allow_beyond_loopback: true },
        };
        let seeds = vec![identity(1).addr.to_string()];
        let config = Config { name: Some("n0".into()), bind: addr, seeds, security, limits, ..Config::default() };
        let birth = Birth {
            addr,
            instance,
            seed: [7; 32],
            wall_ms_at_zero: 0,
            sabotage: Default::default(),
            fault_sites: Default::default(),
            fanout: Default::default(),
        };
        let node = Node::new(&config, birth, Time::ZERO).expect("a node");
        let mut lone = Lone {
            node,
            scope: ScopeId::of("scope"),
            now: Time::ZERO,
            streams: Vec::new(),
            accepted: 0,
            runs: BTreeMap::new(),
            started: BTreeSet::new(),
            requests: 0,
            has_left: false,
            voices,
            repeatable: VecDeque::new(),
            proofs: Vec::new(),
        };
        let kinds = vec![Kind::new("kind").expect("a kind")];
        let (name, version, children) = ("scope".into(), String::new(), vec![spec(0, 0)]);
        let setup = ScopeSetup { name, kinds, weight: 100, labels: Vec::new(), version, children };
        lone.call(Command::JoinScope(setup));
        lone.take(Step::Wait(3_000));
        lone.take(Step::Child { run: 0, report: Report::Started });
        assert_eq!(lone.started.len(), 1, "its own child runs");
        lone
    }

    /// Runs that have not said yet that they have started.
    pub fn starting(&self) -> Vec<u8> {
        let runs = self.runs.keys().enumerate();
        runs.filter(|(_, run)| !self.started.contains(run)).map(|(place, _)| place as u8).collect()
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Takes one step, does what the node then asks, and looks whether everything is as it must be.
    pub fn take(&mut self, step: Step) {
        if self.has_left {
            return;
        }
        let now = self.now;
        match step {
            Step::Noise(bytes) => self.hear_nothing_new(1, &bytes),
            Step::Datagram { from, swim, messages, noise } => {
                let said = Said { swim: &swim, messages: &messages, noise: &noise };
                let datagram = self.voices.datagram(from, said);
                self.hear(from, datagram);
            }
            Step::HollowDatagram { from, bytes } => {
                let datagram = self.voices.noise(from, &bytes);
                self.hear(from, datagram);
            }
            Step::Repeat(ago) => {
                let place = self.repeatable.len().saturating_sub(1 + usize::from(ago));
                if let Some((from, datagram)) = self.repeatable.get(place).cloned() {
                    // The first time it may be news: it came before its sender had shown that it lives.
                    self.hear(from, datagram.clone());
                    self.hear_nothing_new(from, &datagram);
                }
            }
            Step::Accepted => {
                self.accepted += 1;
                let conn = ConnId::accepted(self.accepted);
                self.streams.push(conn);
                self.node.handle_stream(now, conn, StreamEvent::Accepted { from: identity(1).addr });
            }
            Step::Connected(stream) => self.on_stream(stream, false, StreamEvent::Connected),
            Step::Refused(stream) => self.on_stream(stream, true, StreamEvent::Refused),
            Step::Closed(stream) => self.on_stream(stream, true, StreamEvent::Closed),
            Step::NoiseFrame { stream, bytes } => self.on_stream(stream, false, StreamEvent::Frame(&bytes)),
            Step::Frame { stream, from, messages, noise } => {
                if let Some(conn) = self.stream(stream) {
                    let said = Said { swim: &[], messages: &messages, noise: &noise };
                    let frame = self.voices.frame(conn, from, said);
                    self.on_stream(stream, false, StreamEvent::Frame(&frame));
                }
            }
            Step::Seeds(peers) => {
                let seeds: Vec<_> = (1..=peers.min(8)).map(|peer| identity(peer).addr).collect();
                self.node.handle_seeds(now, &seeds);
            }
            Step::Child { run, report } => self.report(run, report),
            Step::Wait(millis) => self.pass(Duration::from_millis(millis.into())),
            Step::Pause(millis) => {
                self.now = now + Duration::from_millis(millis.into());
                self.node.handle_timeout(self.now);
            }
            Step::Cancel(ago) => self.node.cancel(RequestId(self.requests.saturating_sub(ago.into()))),
            call => self.user(call),
        }
        self.drain();
        for (from, proof) in std::mem::take(&mut self.proofs) {
            self.hear(from, proof);
            self.drain();
        }
        self.check();
    }

    fn user(&mut self, step: Step) {
        let scope = self.scope;
        match step {
            Step::Start { child, args } => self.call(Command::Start { scope, spec: spec(child, args), replicated: 0 }),
            Step::Update { child, args } => {
                self.call(Command::Update { scope, spec: spec(child, args), replicated: 1 })
            }
            Step::Terminate(child) => self.call(Command::Terminate { scope, id: child_id(child), replicated: 0 }),
            Step::List => self.call(Command::WhichChildren { scope, which: Which::Global }),
            Step::Await(child) => self.call(Command::WaitUntilRunning { scope, id: child_id(child) }),
            Step::Leave(millis) => self.call(Command::Leave { timeout: Duration::from_millis(millis.into()) }),
            other => unreachable!("{other:?} is no call"),
        }
    }

    fn call(&mut self, command: Command) {
        self.requests += 1;
        self.node.command(self.now, RequestId(self.requests), command);
    }

    /// Nothing about a scope is believed of somebody who is no member.
    fn hear(&mut self, from: u8, packet: Vec<u8>) {
        let before = (self.node.active(), self.node.root(self.scope));
        self.node.handle_datagram(self.now, identity(from).addr, &packet);
        self.repeatable.push_back((from, packet));
        if self.repeatable.len() > REPEATED_MAX {
            self.repeatable.pop_front();
        }
        let is_member = self.node.active().iter().any(|member| member.instance == identity(from).instance);
        if !is_member && before.0 == self.node.active() {
            assert_eq!(self.node.root(self.scope), before.1, "a stranger changed what is replicated");
        }
    }

    /// What nobody with a key has sealed just now changes nothing where there is one.
    fn hear_nothing_new(&mut self, from: u8, packet: &[u8]) {
        let before = (self.node.active(), self.node.root(self.scope));
        self.node.handle_datagram(self.now, identity(from).addr, packet);
        if self.voices.are_keyed() {
            let after = (self.node.active(), self.node.root(self.scope));
            assert_eq!(before, after, "it was believed");
        }
    }

    fn stream(&self, stream: u8) -> Option<ConnId> {
        let place = usize::from(stream).checked_rem(self.streams.len())?;
        Some(self.streams[place])
    }

    fn on_stream(&mut self, stream: u8, is_end: bool, event: StreamEvent<'_>) {
        let Some(conn) = self.stream(stream) else { return };
        // Nobody can connect a stream that was accepted.
        if matches!(event, StreamEvent::Connected | StreamEvent::Refused) && conn >= ConnId::accepted(0) {
            return;
        }
        if is_end {
            self.streams.retain(|open| *open != conn);
        }
        self.node.handle_stream(self.now, conn, event);
    }

    fn report(&mut self, run: u8, report: Report) {
        let place = usize::from(run) % self.runs.len().max(1);
        let Some(run) = self.runs.keys().nth(place).copied() else { return };
        let event = match report {
            Report::Started if !self.started.insert(run) => return,
            Report::Started => ChildEvent::Started,
            Report::Declined if self.started.contains(&run) => return,
            Report::Declined => ChildEvent::Declined(Arc::from("declined")),
            Report::Succeeded => ChildEvent::Exited(Outcome::Success),
            Report::Failed => ChildEvent::Exited(Outcome::Error(Arc::from("failed"))),
            Report::Panicked => ChildEvent::Exited(Outcome::Panic(Arc::from("panicked"))),
        };
        if !matches!(report, Report::Started) {
            self.runs.remove(&run);
        }
        self.node.handle_child(self.now, run, event);
    }

    /// Time passes; the node is woken when it wants to be.
    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        let mut wakeups = 0;
        while let Some((at, why)) = self.node.poll_timeout().filter(|(at, _)| *at <= until) {
            wakeups += 1;
            assert!(wakeups <= WAKEUPS_PER_SECOND_MAX * (1 + duration.as_secs() as usize), "woken for ever: {why:?}");
            self.now = self.now.max(at);
            self.node.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn drain(&mut self) {
        for _ in 0..OUTPUTS_MAX {
            while let Some(transmit) = self.node.poll_transmit(self.now) {
                assert!(transmit.bytes.len() <= DATAGRAM_BYTES_MAX, "a datagram of {} bytes", transmit.bytes.len());
                let speaker = self.repeatable.back().map_or(1, |(from, _)| *from);
                if self.voices.are_keyed() && identity(speaker).addr == transmit.to {
                    let proof = self.voices.proof(speaker, transmit.bytes);
                    self.proofs.extend(proof.map(|proof| (speaker, proof)));
                }
            }
            match self.node.poll_output() {
                None => return,
                Some(output) => self.perform(output),
            }
        }
        panic!("it answers for ever");
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Connect { conn, .. } => self.streams.push(conn),
            Output::Close { conn } => self.streams.retain(|open| *open != conn),
            Output::StartChild(start) => {
                assert!(!self.runs.values().any(|id| *id == start.id), "{:?} is started beside itself", start.id);
                assert!(self.runs.insert(start.run, start.id).is_none(), "a run is named twice");
            }
            Output::StopChild { run, .. } => assert!(self.runs.contains_key(&run), "a run that has ended is stopped"),
            Output::Left => self.has_left = true,
            Output::Frame { conn, bytes } => self.voices.heard(conn, &bytes),
            Output::ResolveSeeds | Output::Reply { .. } | Output::Event { .. } | Output::Members { .. } => {}
        }
    }

    fn check(&self) {
        for size in self.node.sizes() {
            assert!(size.max.is_none_or(|max| size.len <= max), "{size:?}");
        }
        let active: BTreeSet<_> = self.node.active().iter().map(|member| member.instance).collect();
        let me = self.node.identity().instance;
        for member in self.node.members(self.scope) {
            assert!(member.instance == me || active.contains(&member.instance), "{member:?} is no member");
        }
    }

    /// A while later nothing has got stuck: every child is listed once.
    pub fn finish(mut self) {
        self.take(Step::Wait(2_500));
        let (mut ids, mut end) = (BTreeSet::new(), None);
        while let Some(page) = self.node.page(self.scope, Which::Global, end, 3) {
            for child in page.children {
                assert!(ids.insert(child.id.clone()), "{:?} is listed twice", child.id);
            }
            end = page.next;
            if end.is_none() {
                return;
            }
        }
    }
}

fn child_id(child: u8) -> ChildId {
    ChildId::new(format!("child-{}", child % 16)).expect("an id")
}

fn spec(child: u8, args: u16) -> ChildSpec {
    ChildSpec::raw(child_id(child), "kind", vec![child; args.into()]).expect("a spec")
}
