//! What it costs two nodes to find out in which few of a million records they differ: messages, bytes, and time on a core
//! for both sides together, with few and with many writers that were ever heard of. Prints each figure beside its bar.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod pair;

use std::sync::Arc;
use std::time::{Duration, Instant};

use haulout::proto::group::replica::Record;
use haulout::proto::group::{ChildKey, Desired};
use haulout::proto::packet::{Codec, DATAGRAM_BYTES_MAX, seal_plaintext};
use haulout::proto::wire::{Message, ScopeMessage};
use haulout::proto::{Dot, Identity, InstanceId, ScopeId};
use haulout::{ChildId, ChildSpec, Config, Security, Spec};
use pair::{Pair, addr};

/// How many records both nodes hold.
const RECORDS: u64 = 1_000_000;
/// How many writers both have heard of, in turn.
const WRITERS: [u64; 4] = [1, 256, 4_096, 65_536];
/// Records in which they differ, and of how many writers these are.
const DIFFERENCES: [(u64, u64); 4] = [(0, 0), (1, 1), (100, 1), (100, 100)];
/// Each figure is a median of so many.
const SAMPLES: usize = 9;
/// So many records fit into a datagram.
const PER_DATAGRAM: usize = 10;
/// Longer than a node waits until it looks at a difference, and between two pulls.
const PATIENCE: Duration = Duration::from_secs(2);
/// The numbers of writers that are no members begin here.
const WRITER_FIRST: u64 = 1_000;

/// What one exchange took.
#[derive(Clone, Copy)]
struct Cost {
    messages: usize,
    bytes: usize,
    time: Duration,
    /// What one node takes to hear the same records unasked, to merge and to place them: what the other one, too, has to do
    /// with them once they are found.
    told: Duration,
}

struct Exchange {
    pair: Pair,
    spec: Arc<Spec>,
    /// The serial number that each writer has reached.
    written: Vec<u64>,
    records: u64,
}

fn main() {
    println!("{RECORDS} records; an exchange is one pull, in which the one side learns what the other one has");
    println!(
        "| writers | records that differ | of writers | messages (6) | bytes (bar) | time on both sides (bar) | hearing and \
         placing them |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut exchange = Exchange::new();
    for writers in WRITERS {
        exchange.hear_of(writers);
        for (records, of) in DIFFERENCES.into_iter().filter(|(_, of)| *of <= writers) {
            let mut samples: Vec<Cost> = (0..SAMPLES).map(|_| exchange.sample(records, of)).collect();
            samples.sort_by_key(|cost| cost.time);
            let Cost { messages, bytes, time, .. } = samples[SAMPLES / 2];
            samples.sort_by_key(|cost| cost.told);
            let told = samples[SAMPLES / 2].told;
            let (bytes_bar, time_bar) = if records > 1 { (85_000, 150) } else { (1_200, 5) };
            let bytes_bar = bytes_bar + 40 * of;
            println!(
                "| {writers} | {records} | {of} | {messages} | {bytes} ({bytes_bar}) | {:.1} \u{b5}s ({time_bar}) | {:.1} \u{b5}s |",
                time.as_secs_f64() * 1e6,
                told.as_secs_f64() * 1e6
            );
        }
    }
}

impl Exchange {
    /// Two nodes that hold the same records, all of one writer.
    fn new() -> Self {
        let mut pair = Pair::with_security(Security::default());
        pair.run_until(|pair| pair.nodes.iter().all(|node| node.is_quiet() && node.active().len() == 1));
        // No node runs this kind, so that the children are nothing but records.
        let spec = Arc::new(ChildSpec::raw("x", "nowhere", Vec::new()).expect("a spec").spec().clone());
        let mut exchange = Exchange { pair, spec, written: vec![0], records: 0 };
        for _ in 0..RECORDS {
            let put = exchange.record(0);
            exchange.tell(&[0, 1], &put);
        }
        exchange.pair.carry_all();
        exchange
    }

    /// The next record of a writer.
    fn record(&mut self, writer: usize) -> ScopeMessage {
        self.records += 1;
        self.written[writer] += 1;
        let dot = Dot { writer: InstanceId::new(WRITER_FIRST + writer as u64), n: self.written[writer] };
        let key = ChildKey::new(ChildId::new(format!("child-{}", self.records)).expect("an id"));
        let value = Desired { spec: self.spec.clone(), run: 0 };
        ScopeMessage::Put(key, Record { dot, birth: self.records, over: None, value })
    }

    /// Both have heard of so many writers, of which the others have written something that is removed again.
    fn hear_of(&mut self, writers: u64) {
        while (self.written.len() as u64) < writers {
            self.written.push(0);
            let writer = self.written.len() - 1;
            if let ScopeMessage::Put(key, record) = self.record(writer) {
                self.tell(&[0, 1], &ScopeMessage::Del { key, dot: record.dot, birth: record.birth, direct: false });
            }
        }
        self.pair.carry_all();
    }

    /// Each of these nodes is told something by the other one.
    fn tell(&mut self, nodes: &[usize], message: &ScopeMessage) {
        for &node in nodes {
            self.deliver(node, &[Message::Scope(ScopeId::of("bench")), Message::Scoped(message.clone())]);
        }
    }

    fn deliver(&mut self, node: usize, messages: &[Message]) -> Duration {
        let other = 1 - node;
        let sender = Identity { addr: addr(other), bump: 0, instance: InstanceId::new(other as u64 + 1) };
        let mut packet = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        Codec::plaintext(&Config::default().cluster).begin(&mut packet, &[]);
        packet = postcard::to_extend(&sender, packet).expect("it can be encoded");
        for message in messages {
            packet = postcard::to_extend(message, packet).expect("it can be encoded");
        }
        seal_plaintext(&mut packet, 0);
        let began = Instant::now();
        self.pair.nodes[node].handle_datagram(self.pair.now, addr(other), &packet);
        began.elapsed()
    }

    /// The first node hears of so many records of so many writers, and the second one pulls from it.
    fn sample(&mut self, records: u64, of: u64) -> Cost {
        let puts: Vec<Message> =
            (0..records).map(|number| Message::Scoped(self.record((number % of.max(1)) as usize))).collect();
        let scope = [Message::Scope(ScopeId::of("bench"))];
        let heard = puts.chunks(PER_DATAGRAM).map(|puts| self.deliver(0, &[&scope, puts].concat())).sum();
        self.pair.carry_all();
        let root = self.pair.nodes[0].root(ScopeId::of("bench")).expect("the scope");
        // Where nothing differs, a false root makes it look.
        let told = if of == 0 { !root } else { root };
        let roots = [Message::Roots([(ScopeId::of("bench"), told)].into_iter().collect())];
        self.deliver(1, &roots);
        self.pair.now = self.pair.now + PATIENCE;
        let (frames, bytes) = (self.pair.frames, self.pair.frame_bytes);
        self.deliver(1, &roots);
        let began = Instant::now();
        self.pair.carry_all();
        let time = began.elapsed();
        assert_eq!(self.pair.nodes[1].root(ScopeId::of("bench")), Some(root), "the pull brings all");
        Cost { messages: self.pair.frames - frames, bytes: self.pair.frame_bytes - bytes, time, told: heard }
    }
}
