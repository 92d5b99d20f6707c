//! What single steps of the state machine cost, so many times over, to be counted in instructions by valgrind:
//! `benches/instructions.sh` does that and compares with limits. Usage: `instructions CASE TIMES`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use haulout::proto::group::replica::Record;
use haulout::proto::group::{BucketMap, ChildKey, Desired, Replica};
use haulout::proto::placement::{Candidate, beats, owner};
use haulout::proto::wire::{Message, ScopeMessage};
use haulout::proto::{
    Birth, Command, ConnId, Dot, InstanceId, Node, Output, RequestId, Sabotage, ScopeSetup, StreamEvent, Time,
};
use haulout::{ChildId, ChildSpec, Config, Kind, Spec};

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (Some(case), Some(times)) = (args.next(), args.next().and_then(|times| times.parse().ok())) else {
        // `cargo bench` runs every benchmark, and this one has nothing to say by itself.
        println!("instructions are counted by benches/instructions.sh");
        return;
    };
    match case.as_str() {
        "place" => place(times),
        "join" => join(times),
        "merge" => merge(times),
        "merge-known" => merge_known(times),
        "encode" => encode(times),
        "decode" => decode(times),
        "datagram" => datagram(times),
        other => panic!("there is no case {other}"),
    }
}

fn members(count: usize) -> Vec<Candidate> {
    (0..count).map(|number| Candidate::new(format!("10.0.0.{number}:7946"), 1)).collect()
}

/// A child asks ten members.
fn place(times: usize) {
    let members = members(10);
    for key in 0..times as u64 {
        black_box(owner(black_box(key << 20), members.iter().zip(0usize..)));
    }
}

/// A member joins: a child compares it with its owner.
fn join(times: usize) {
    let members = members(2);
    for key in 0..times as u64 {
        black_box(beats(black_box(key << 20), &members[0], &members[1]));
    }
}

fn spec() -> Arc<Spec> {
    Arc::new(ChildSpec::raw("x", "kind", vec![7; 32]).expect("a spec").spec().clone())
}

fn record(number: usize, spec: &Arc<Spec>) -> (ChildKey, Record<Desired>) {
    let key = ChildKey::new(ChildId::new(format!("child-{number}")).expect("an id"));
    let dot = Dot { writer: InstanceId::new(7), n: number as u64 + 1 };
    (key, Record { dot, birth: number as u64 + 1, over: None, value: Desired { spec: spec.clone(), run: 0 } })
}

/// A record that is new.
fn merge(times: usize) {
    let spec = spec();
    let mut replica = Replica::new(InstanceId::new(1), Sabotage::default());
    let mut shelf = BucketMap::default();
    for number in 0..times {
        let (key, record) = record(number, &spec);
        black_box(replica.put(&mut shelf, key, record));
    }
}

/// A record that is known, as most that gossip brings are.
fn merge_known(times: usize) {
    let spec = spec();
    let mut replica = Replica::new(InstanceId::new(1), Sabotage::default());
    let mut shelf = BucketMap::default();
    let records: Vec<_> = (0..1_000).map(|number| record(number, &spec)).collect();
    for number in 0..times + records.len() {
        let (key, record) = records[number % records.len()].clone();
        black_box(replica.put(&mut shelf, key, record));
    }
}

fn message() -> Message {
    let (key, record) = record(1_000, &spec());
    Message::Scoped(ScopeMessage::Put(key, record))
}

/// The start of a child into a buffer that is reused.
fn encode(times: usize) {
    let (message, mut buffer) = (message(), Vec::with_capacity(1_400));
    for _ in 0..times {
        buffer.clear();
        buffer = postcard::to_extend(black_box(&message), buffer).expect("it can be encoded");
        black_box(&buffer);
    }
}

/// The same, read.
fn decode(times: usize) {
    let bytes = postcard::to_allocvec(&message()).expect("it can be encoded");
    for _ in 0..times {
        black_box(postcard::from_bytes::<Message>(black_box(&bytes)).expect("it was just encoded"));
    }
}

/// Two nodes at rest, so many datagrams between them: probes and their answers, with what rides on them.
fn datagram(times: usize) {
    let mut pair = Pair::new();
    pair.run_until(|pair| pair.nodes.iter().all(|node| node.is_quiet() && node.active().len() == 1));
    let until = pair.datagrams + times;
    pair.run_until(|pair| pair.datagrams >= until);
}

/// Two nodes and what is between them: everything arrives at once.
struct Pair {
    nodes: [Node; 2],
    now: Time,
    /// The other end of each stream.
    ends: BTreeMap<(usize, ConnId), ConnId>,
    packet: Vec<u8>,
    datagrams: usize,
}

fn addr(node: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, node as u8 + 1], 7946))
}

impl Pair {
    fn new() -> Self {
        let now = Time::from_nanos(1);
        let nodes = [0, 1].map(|number| {
            let config = Config {
                seeds: vec![addr(0).to_string()],
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
        Pair { nodes, now, ends: BTreeMap::new(), packet: Vec::with_capacity(1_400), datagrams: 0 }
    }

    /// Goes from timer to timer, for a day at most.
    fn run_until(&mut self, is_done: impl Fn(&Pair) -> bool) {
        let end = self.now + Duration::from_secs(24 * 3_600);
        while !is_done(self) {
            let timers = self.nodes.iter().filter_map(|node| node.poll_timeout());
            self.now = timers.map(|(at, _)| at).min().expect("a timer").max(self.now);
            assert!(self.now < end, "not within a day");
            for node in 0..2 {
                self.nodes[node].handle_timeout(self.now);
            }
            while self.carry(0) | self.carry(1) {}
        }
    }

    /// Takes what a node has to say to the other one; whether it was anything.
    fn carry(&mut self, from: usize) -> bool {
        let (now, to, mut any) = (self.now, 1 - from, false);
        while let Some(transmit) = self.nodes[from].poll_transmit(now) {
            self.packet.clear();
            self.packet.extend_from_slice(transmit.bytes);
            self.nodes[to].handle_datagram(now, addr(from), &self.packet);
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
