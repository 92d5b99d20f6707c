//! What single steps of the state machine cost, so many times over, to be counted in instructions by valgrind:
//! `benches/instructions.sh` does that and compares with limits. Usage: `instructions CASE TIMES`.

mod pair;

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

use haulout::proto::group::replica::Record;
use haulout::proto::group::{BucketMap, ChildKey, Desired, Replica};
use haulout::proto::packet::{Codec, Life, Place, Refused, TAG_BYTES};
use haulout::proto::placement::{Candidate, beats, owner};
use haulout::proto::wire::{Message, ScopeMessage};
use haulout::proto::{Dot, InstanceId, Node, Sabotage, Stats};
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
        "refuse-long" => refuse(times, |stats| stats.refused_malformed, |packet, _| packet.resize(1_401, 7)),
        "refuse-noise" => refuse(times, |stats| stats.refused_malformed, |packet, _| packet[0] = 0),
        "refuse-cluster" => refuse(times, |stats| stats.refused_other_cluster, |packet, _| packet[3] ^= 1),
        "refuse-key" => refuse(times, |stats| stats.refused_key, |packet, _| packet[2] ^= 1),
        "refuse-repeated" => refuse(times, |stats| stats.refused_replay, |_, _| {}),
        "refuse-rate" => refuse(times, |stats| stats.refused_rate, |packet, number| name_life(packet, number)),
        "refuse-forged-100" => refuse_forged(times, 100),
        "refuse-forged-1400" => refuse_forged(times, 1_400),
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

/// Two nodes with a key, one of which gets a datagram again and again that it has had, each time changed in its way and
/// refused for the reason that `counter` counts.
fn refuse(times: usize, counter: fn(&Stats) -> u64, change: impl Fn(&mut Vec<u8>, u64)) {
    let mut pair = Pair::with_security(Security::Keyring { keys: vec![KEY], file: None, env: None });
    pair.run_until(|pair| pair.nodes.iter().all(|node| node.is_quiet() && node.active().len() == 1));
    let (now, sender, mut packet) = (pair.now, addr(1 - pair.receiver), pair.packet.clone());
    let receiver = &mut pair.nodes[pair.receiver];
    let mut send = |receiver: &mut Node, numbers: Range<u64>| {
        for number in numbers {
            packet.clone_from(&pair.packet);
            change(&mut packet, number);
            receiver.handle_datagram(now, sender, black_box(&packet));
        }
    };
    // So many of unknown lives are deciphered in a second before their source has used up what it may.
    send(receiver, 0..DECIPHERED_AT_FIRST);
    let before = counter(receiver.stats());
    send(receiver, DECIPHERED_AT_FIRST..DECIPHERED_AT_FIRST + times as u64);
    assert_eq!(counter(receiver.stats()) - before, times as u64, "each is refused for this reason");
}

/// At least what one source may have deciphered at once.
const DECIPHERED_AT_FIRST: u64 = 1_000;

/// Packets of so many bytes that name a known life and a counter which it has not reached, but are not sealed by it.
fn refuse_forged(times: usize, bytes: usize) {
    let forge = |packet: &mut Vec<u8>, number| {
        packet.resize(bytes, 7);
        name_counter(packet, number);
    };
    refuse(times, |stats| stats.refused_forged, forge);
}

/// A life that nobody knows: its instance is the first part of the nonce, which follows the eleven bytes that are alike in all.
fn name_life(packet: &mut [u8], number: u64) {
    packet[11..19].copy_from_slice(&(u64::MAX - number).to_be_bytes());
}

/// A packet that this life has not sent yet: the last part of the nonce counts.
fn name_counter(packet: &mut [u8], number: u64) {
    packet[27..35].copy_from_slice(&(u64::MAX - number).to_be_bytes());
}
