//! Two nodes without sockets and tasks: what one says arrives at the other at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use haulout::proto::{
    Birth, Command, ConnId, InstanceId, Node, Output, RequestId, Sabotage, ScopeSetup, StreamEvent, Time,
};
use haulout::{Config, Kind, Security};

/// Two nodes and what is between them: everything arrives at once.
pub(crate) struct Pair {
    pub(crate) nodes: [Node; 2],
    pub(crate) now: Time,
    /// The other end of each stream.
    ends: BTreeMap<(usize, ConnId), ConnId>,
    /// The datagram that was carried last, and to whom.
    pub(crate) packet: Vec<u8>,
    pub(crate) receiver: usize,
    /// How many deadlines of nodes have come.
    pub(crate) wakeups: usize,
    /// How many datagrams and frames there were, and their bytes.
    pub(crate) datagrams: usize,
    pub(crate) frames: usize,
    pub(crate) frame_bytes: usize,
}

pub(crate) fn addr(node: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, node as u8 + 1], 7946))
}

impl Pair {
    /// Two nodes that know nothing of each other yet, both in the scope "bench".
    pub(crate) fn with_security(security: Security) -> Self {
        let now = Time::from_nanos(1);
        let nodes = [0, 1].map(|number| {
            let config = Config {
                seeds: vec![addr(0).to_string()],
                security: security.clone(),
                settle_timeout: Some(Duration::from_millis(100)),
                ..Config::default()
            };
            let birth = Birth {
                addr: addr(number),
                instance: InstanceId::new(number as u64 + 1),
                seed: [number as u8; 32],
                wall_ms_at_zero: 0,
                sabotage: Sabotage::default(),
                fault_sites: Default::default(),
                fanout: Default::default(),
            };
            let mut node = Node::new(&config, birth, now).expect("a valid configuration");
            let setup = ScopeSetup {
                name: "bench".into(),
                kinds: vec![Kind::new("kind").expect("a short kind")],
                weight: 1,
                labels: Vec::new(),
                version: String::new(),
                children: Vec::new(),
            };
            node.command(now, RequestId(1), Command::JoinScope(setup));
            node
        });
        Pair {
            nodes,
            now,
            ends: BTreeMap::new(),
            packet: Vec::with_capacity(1_400),
            receiver: 0,
            wakeups: 0,
            datagrams: 0,
            frames: 0,
            frame_bytes: 0,
        }
    }

    /// Goes from timer to timer, for a day at most.
    pub(crate) fn run_until(&mut self, is_done: impl Fn(&Pair) -> bool) {
        let end = self.now + Duration::from_secs(24 * 3_600);
        while !is_done(self) {
            let timers = self.nodes.iter().filter_map(|node| node.poll_timeout());
            self.now = timers.map(|(at, _)| at).min().expect("a timer").max(self.now);
            assert!(self.now < end, "not within a day");
            for node in &mut self.nodes {
                self.wakeups += usize::from(node.poll_timeout().is_some_and(|(at, _)| at <= self.now));
                node.handle_timeout(self.now);
            }
            self.carry_all();
        }
    }

    /// Carries everything that there is to say, and what it leads to.
    pub(crate) fn carry_all(&mut self) {
        while self.carry(0) | self.carry(1) {}
    }

    /// Takes what a node has to say to the other one; whether it was anything.
    fn carry(&mut self, from: usize) -> bool {
        let (now, to, mut any) = (self.now, 1 - from, false);
        while let Some(transmit) = self.nodes[from].poll_transmit(now) {
            self.packet.clear();
            self.packet.extend_from_slice(transmit.bytes);
            self.nodes[to].handle_datagram(now, addr(from), &self.packet);
            self.receiver = to;
            self.datagrams += 1;
            any = true;
        }
        while let Some(output) = self.nodes[from].poll_output() {
            any = true;
            match output {
                Output::Connect { conn, .. } => {
                    let other = ConnId::accepted(self.ends.len() as u64);
                    self.ends.extend([((from, conn), other), ((to, other), conn)]);
                    self.nodes[to].handle_stream(now, other, StreamEvent::Accepted { from: addr(from) });
                    self.nodes[from].handle_stream(now, conn, StreamEvent::Connected);
                }
                Output::Frame { conn, bytes } => {
                    self.frames += 1;
                    self.frame_bytes += bytes.len();
                    if let Some(&other) = self.ends.get(&(from, conn)) {
                        self.nodes[to].handle_stream(now, other, StreamEvent::Frame(&bytes));
                    }
                }
                Output::Close { conn } => {
                    if let Some(other) = self.ends.remove(&(from, conn)) {
                        self.nodes[to].handle_stream(now, other, StreamEvent::Closed);
                    }
                }
                Output::ResolveSeeds => self.nodes[from].handle_seeds(now, &[addr(0)]),
                _ => {}
            }
        }
        any
    }
}
