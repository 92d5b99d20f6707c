//! Any bytes at all, wherever bytes come in: errors are counted, nothing panics, and the node's own child runs on.

use std::net::SocketAddr;

use haulout::proto::packet::{Codec, seal_plaintext};
use haulout::proto::wire::{Hello, Message, Purpose};
use haulout::proto::{ConnId, Identity, InstanceId, Output, ScopeId, StreamEvent, placement};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::lone::Lone;

fn peer() -> Identity {
    Identity { addr: SocketAddr::from(([10, 0, 0, 1], 7946)), bump: 0, instance: InstanceId::new(5) }
}

/// A packet that passes for one of the peer's: this message, if there is one, and any bytes behind it.
fn packet(swim: &[u8], message: Option<Message>, rest: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    Codec::plaintext("haulout").begin(&mut packet, swim);
    packet = postcard::to_extend(&peer(), packet).expect("an identity can be written");
    if let Some(message) = message {
        packet = postcard::to_extend(&message, packet).expect("a message can be written");
    }
    packet.extend_from_slice(rest);
    seal_plaintext(&mut packet, 0);
    packet
}

fn hello(purpose: Purpose) -> Vec<u8> {
    let (cluster, placement) = ("haulout".into(), placement::fingerprint());
    packet(
        &[],
        Some(Message::Hello(Hello { cluster, placement, name: "anybody".into(), purpose, nonce: [0; 16] })),
        &[],
    )
}

/// Frames as they may be: of any bytes, and of any bytes in a packet that passes.
fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let scoped = || Some(Message::Scope(ScopeId::of("scope")));
    let frame = vec(any::<u8>(), 0..300).prop_flat_map(move |bytes| {
        let passing = [packet(&[], None, &bytes), packet(&[], scoped(), &bytes)];
        prop_oneof![Just(bytes), proptest::sample::select(passing.to_vec())]
    });
    vec(frame, 1..6)
}

/// A stream that this node has dialled, before anything has come of it.
fn dialled(lone: &mut Lone) -> ConnId {
    lone.node.handle_seeds(lone.now, &[peer().addr]);
    loop {
        match lone.node.poll_output() {
            Some(Output::Connect { conn, .. }) => return conn,
            Some(_) => {}
            None => panic!("a seed is dialled"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    /// Goal: any bytes may come as a datagram. Method: as they are, and in each part of a packet that passes.
    #[test]
    fn any_bytes_may_come_as_a_datagram(bytes in vec(any::<u8>(), 0..1_500), parted in 0..100usize) {
        let mut lone = Lone::new();
        let (swim, messages) = bytes.split_at(parted.min(bytes.len()));
        let scope = Message::Scope(ScopeId::of("scope"));
        for packet in [bytes.clone(), packet(swim, None, messages), packet(&[], Some(scope), &bytes)] {
            lone.node.handle_datagram(lone.now, peer().addr, &packet);
            lone.drain();
        }
        lone.assert_works();
    }

    /// Goal: any bytes may come first on a stream that somebody opened. Method: with nothing before them.
    #[test]
    fn any_bytes_may_come_first_on_an_accepted_stream(frames in frames()) {
        let mut lone = Lone::new();
        lone.dialled_with(&frames.iter().map(Vec::as_slice).collect::<Vec<_>>());
        lone.assert_works();
    }

    /// Goal: any bytes may follow an honest greeting. Method: for each purpose of a stream.
    #[test]
    fn any_bytes_may_follow_a_greeting(frames in frames()) {
        let mut lone = Lone::new();
        for purpose in [Purpose::Messages, Purpose::Join, Purpose::Watch, Purpose::Examine] {
            let hello = hello(purpose);
            let all: Vec<&[u8]> = [hello.as_slice()].into_iter().chain(frames.iter().map(Vec::as_slice)).collect();
            lone.dialled_with(&all);
        }
        lone.assert_works();
    }

    /// Goal: any bytes may answer a call. Method: on a stream that was dialled, before and after it is open.
    #[test]
    fn any_bytes_may_answer_a_call(frames in frames()) {
        let mut lone = Lone::new();
        let conn = dialled(&mut lone);
        for frame in &frames {
            lone.node.handle_stream(lone.now, conn, StreamEvent::Frame(frame));
        }
        lone.node.handle_stream(lone.now, conn, StreamEvent::Connected);
        for frame in &frames {
            lone.node.handle_stream(lone.now, conn, StreamEvent::Frame(frame));
            lone.drain();
        }
        lone.assert_works();
    }
}
