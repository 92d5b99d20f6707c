//! What the state machine costs when many children start at once: three nodes in one thread, batched as the runtime
//! does it, everything included but the kernel and the children's tasks.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use divan::Bencher;
use haulout::proto::{
    Birth, ChildEvent, Command, ConnId, InstanceId, Node, Output, Reply, RequestId, Sabotage, ScopeId, ScopeSetup,
    StreamEvent, Time,
};
use haulout::{ChildSpec, Config, Kind, Profile};

fn main() {
    divan::main();
}

enum Packet {
    Datagram(SocketAddr, Vec<u8>),
    Stream(ConnId, Option<SocketAddr>, Vec<u8>),
}

/// Three nodes and what is on its way between them.
struct Trio {
    nodes: Vec<Node>,
    inboxes: Vec<VecDeque<Packet>>,
    /// The other end of each stream.
    ends: BTreeMap<(usize, ConnId), (usize, ConnId)>,
    accepted: u64,
    now: Time,
    running: usize,
    replies: usize,
}

impl Trio {
    fn addr(node: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, node as u8 + 1], 7946))
    }

    fn settled() -> Self {
        let mut trio = Trio {
            nodes: Vec::new(),
            inboxes: (0..3).map(|_| VecDeque::new()).collect(),
            ends: BTreeMap::new(),
            accepted: 0,
            now: Time::from_nanos(1),
            running: 0,
            replies: 0,
        };
        for node in 0..3 {
            let config = Config {
                profile: Profile::Local,
                seeds: vec![Trio::addr(0).to_string()],
                settle_timeout: Some(Duration::from_millis(100)),
                ..Config::default()
            };
            let birth = Birth {
                addr: Trio::addr(node),
                instance: InstanceId::new(node as u64 + 1),
                seed: [node as u8; 32],
                wall_ms_at_zero: 0,
                sabotage: Sabotage::default(),
                fault_sites: Default::default(),
                fanout: Default::default(),
            };
            let mut node = Node::new(&config, birth, trio.now).expect("a valid configuration");
            let setup = ScopeSetup {
                name: "bench".into(),
                kinds: vec![Kind::new("kind").expect("a short kind")],
                weight: 1,
                labels: Vec::new(),
                version: String::new(),
                children: Vec::new(),
            };
            node.command(trio.now, RequestId(u64::MAX), Command::JoinScope(setup));
            trio.nodes.push(node);
        }
        while !trio.nodes.iter().all(|node| node.is_quiet() && node.active().len() == 2) {
            trio.round(Duration::from_millis(1));
        }
        // Beyond the time in which newcomers are compared with at once.
        (0..3_000).for_each(|_| trio.round(Duration::from_millis(1)));
        trio
    }

    /// Each node takes what has arrived as one batch, then says what it has to say.
    fn round(&mut self, passed: Duration) {
        self.now = self.now + passed;
        for index in 0..3 {
            let now = self.now;
            for packet in std::mem::take(&mut self.inboxes[index]) {
                match packet {
                    Packet::Datagram(from, bytes) => self.nodes[index].handle_datagram(now, from, &bytes),
                    Packet::Stream(conn, Some(from), _) => {
                        self.nodes[index].handle_stream(now, conn, StreamEvent::Accepted { from });
                    }
                    Packet::Stream(conn, None, bytes) => {
                        self.nodes[index].handle_stream(now, conn, StreamEvent::Frame(&bytes));
                    }
                }
            }
            self.nodes[index].handle_timeout(now);
            self.drain(index);
        }
    }

    fn drain(&mut self, index: usize) {
        while self.drain_once(index) {}
    }

    /// Takes everything that a node has to say, then tells it of the children that it started; whether there were any.
    fn drain_once(&mut self, index: usize) -> bool {
        let now = self.now;
        let node_of = |addr: SocketAddr| (0..3).find(|&node| Trio::addr(node) == addr);
        let mut started = Vec::new();
        loop {
            while let Some(transmit) = self.nodes[index].poll_transmit(now) {
                if let Some(to) = node_of(transmit.to) {
                    self.inboxes[to].push_back(Packet::Datagram(Trio::addr(index), transmit.bytes.to_vec()));
                }
            }
            let Some(output) = self.nodes[index].poll_output() else { break };
            match output {
                Output::Connect { conn, to } => {
                    let to = node_of(to).expect("only the three are dialled");
                    self.accepted += 1;
                    let other = ConnId::accepted(self.accepted);
                    self.ends.insert((index, conn), (to, other));
                    self.ends.insert((to, other), (index, conn));
                    self.inboxes[to].push_back(Packet::Stream(other, Some(Trio::addr(index)), Vec::new()));
                    self.nodes[index].handle_stream(now, conn, StreamEvent::Connected);
                }
                Output::Frame { conn, bytes } => {
                    let (to, other) = self.ends[&(index, conn)];
                    self.inboxes[to].push_back(Packet::Stream(other, None, bytes));
                }
                Output::StartChild(start) => started.push(start.run),
                Output::Event { event: haulout::Event::ChildStarted { .. }, .. } => self.running += 1,
                Output::Reply { reply: Reply::Started(_), .. } => self.replies += 1,
                Output::ResolveSeeds => self.nodes[index].handle_seeds(now, &[Trio::addr(0)]),
                _ => {}
            }
        }
        started.iter().for_each(|&run| self.nodes[index].handle_child(now, run, ChildEvent::Started));
        !started.is_empty()
    }
}

/// From the first call on one node until all children run and the states of all three are equal.
#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 3, sample_size = 1)]
fn start_many(bencher: Bencher<'_, '_>, children: usize) {
    bencher.with_inputs(Trio::settled).bench_local_values(|mut trio| {
        let scope = ScopeId::of("bench");
        for n in 0..children {
            let spec = ChildSpec::raw(format!("child-{n}"), "kind", Vec::new()).expect("a short id");
            trio.nodes[0].command(trio.now, RequestId(n as u64), Command::Start { scope, spec, replicated: 0 });
            if n % 1_024 == 0 {
                trio.drain(0);
            }
        }
        trio.drain(0);
        let is_done = |trio: &Trio| {
            let root = trio.nodes[0].root(scope);
            trio.running == children && trio.nodes.iter().all(|node| node.root(scope) == root)
        };
        while !is_done(&trio) {
            trio.round(Duration::from_micros(100));
        }
        trio
    });
}
