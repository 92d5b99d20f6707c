//! What single steps of the state machine cost, so many times over, to be counted in instructions by valgrind:
//! `benches/instructions.sh` does that and compares with limits. Usage: `instructions CASE TIMES`.

mod pair;

use std::hint::black_box;
use std::sync::Arc;

use haulout::proto::group::replica::Record;
use haulout::proto::group::{BucketMap, ChildKey, Desired, Replica};
use haulout::proto::packet::{Codec, Life, Place, Refused, TAG_BYTES};
use haulout::proto::placement::{Candidate, beats, owner};
use haulout::proto::wire::{Message, ScopeMessage};
use haulout::proto::{Dot, InstanceId, Sabotage};
use haulout::{ChildId, ChildSpec, Key, Security, Spec};
use pair::{Pair, addr};

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
        "datagram" => datagram(times, Security::default()),
        "datagram-keyed" => datagram(times, Security::Keyring { keys: vec![KEY], file: None, env: None }),
        "seal-100" => seal(times, 100),
        "seal-1400" => seal(times, 1_400),
        "open-100" => open(times, 100),
        "open-1400" => open(times, 1_400),
        "refuse-noise" => refuse(times, |packet, _| packet[0] = 0),
        "refuse-repeated" => refuse(times, |_, _| {}),
        "refuse-unknown" => refuse(times, |packet, number| name_life(packet, number)),
        "refuse-forged" => refuse(times, |packet, number| name_counter(packet, number)),
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
    let id = [*b"a child ", (number as u64).to_be_bytes()];
    let key = ChildKey::new(ChildId::new(id.as_flattened()).expect("an id"));
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
fn datagram(times: usize, security: Security) {
    let mut pair = Pair::with_security(security);
    pair.run_until(|pair| pair.nodes.iter().all(|node| node.is_quiet() && node.active().len() == 1));
    let until = pair.datagrams + times;
    pair.run_until(|pair| pair.datagrams >= until);
}

const KEY: Key = Key::new([7; 32]);

fn codec() -> Codec {
    Codec::keyed("bench", &[KEY], Life { instance: InstanceId::new(1), salt: [1; 8] })
}

/// Puts a packet of so many bytes together, up to where it is sealed.
fn begin(codec: &Codec, packet: &mut Vec<u8>, bytes: usize) {
    codec.begin(packet, &[]);
    packet.resize(bytes - TAG_BYTES, 7);
}

/// A packet of so many bytes is sealed.
fn seal(times: usize, bytes: usize) {
    let (mut codec, mut packet) = (codec(), Vec::with_capacity(bytes));
    for _ in 0..times {
        begin(&codec, &mut packet, bytes);
        codec.seal(black_box(&mut packet), 0, Place::Datagram);
    }
}

/// The same, opened. It holds nothing that can be read, so that only the opening counts.
fn open(times: usize, bytes: usize) {
    let (mut codec, mut packet, mut opened) = (codec(), Vec::new(), Vec::new());
    begin(&codec, &mut packet, bytes);
    codec.seal(&mut packet, 0, Place::Datagram);
    for _ in 0..times {
        let read = codec.open(black_box(&packet), Place::Datagram, &mut opened);
        assert!(matches!(black_box(read), Err(Refused::Malformed)), "it was opened");
    }
}

/// Two nodes with a key, one of which gets a datagram again and again that it has had, each time changed in its way.
fn refuse(times: usize, change: impl Fn(&mut Vec<u8>, u64)) {
    let mut pair = Pair::with_security(Security::Keyring { keys: vec![KEY], file: None, env: None });
    pair.run_until(|pair| pair.nodes.iter().all(|node| node.is_quiet() && node.active().len() == 1));
    let (receiver, now) = (pair.receiver, pair.now);
    let mut packet = pair.packet.clone();
    let believed = pair.nodes[receiver].stats().swim_packets_received;
    for number in 0..times {
        change(&mut packet, number as u64);
        pair.nodes[receiver].handle_datagram(now, addr(1 - receiver), black_box(&packet));
    }
    assert_eq!(pair.nodes[receiver].stats().swim_packets_received, believed, "nothing may be believed");
}

/// A life that nobody knows: its instance is the first part of the nonce, which follows the eleven bytes that are alike in all.
fn name_life(packet: &mut [u8], number: u64) {
    packet[11..19].copy_from_slice(&(u64::MAX - number).to_be_bytes());
}

/// A packet that this life has not sent yet: the last part of the nonce counts.
fn name_counter(packet: &mut [u8], number: u64) {
    packet[27..35].copy_from_slice(&(u64::MAX - number).to_be_bytes());
}
