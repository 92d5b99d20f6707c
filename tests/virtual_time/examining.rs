//! Whoever may speak can ask whether a node is reached, and becomes nothing there.

use std::net::SocketAddr;

use haulout::proto::packet::{Codec, DATAGRAM_BYTES_MAX, Life, Place};
use haulout::proto::wire::{Hello, Message, Purpose, Welcome};
use haulout::proto::{Identity, InstanceId, Output, ScopeId, StreamEvent, placement};
use haulout::{Key, Security};

use crate::lone::Lone;

/// What an operator runs beside a node: it has the keys and is nobody.
struct Visitor {
    me: Identity,
    codec: Codec,
}

impl Visitor {
    fn new(keys: &[Key]) -> Self {
        let addr = SocketAddr::from(([10, 0, 0, 1], 40_000));
        let me = Identity { addr, bump: 0, instance: InstanceId::new(u64::MAX) };
        Visitor { me, codec: Codec::keyed("haulout", keys, Life { instance: me.instance, salt: [3; 8] }) }
    }

    fn packet(&mut self, message: &Message, bytes: usize, place: Place) -> Vec<u8> {
        let mut packet = Vec::new();
        self.codec.begin(&mut packet, &[]);
        packet = postcard::to_extend(&self.me, packet).expect("an identity can be written");
        packet = postcard::to_extend(message, packet).expect("a message can be written");
        let end = if self.codec.is_keyed() { 16 } else { 4 };
        packet.resize(packet.len().max(bytes.saturating_sub(end)), 0);
        self.codec.seal(&mut packet, 0, place);
        packet
    }

    fn read(&self, packet: &[u8], place: Place) -> Message {
        let mut opened = Vec::new();
        let packet = self.codec.open(packet, place, &mut opened).expect("it is for this one");
        postcard::take_from_bytes(packet.messages).expect("a message").0
    }
}

/// In plaintext and with a keyring: a node, and who asks it.
fn both() -> [(Lone, Visitor); 2] {
    let key = Key::new([5; 32]);
    let ring = Security::Keyring { keys: vec![key.clone()], file: None, env: None };
    [(Lone::new(), Visitor::new(&[])), (Lone::secured_by(ring), Visitor::new(&[key]))]
}

/// What a node knows, and when it wakes next.
fn view(lone: &Lone) -> impl PartialEq + std::fmt::Debug + use<> {
    (lone.node.active(), lone.node.root(ScopeId::of("scope")), lone.node.sizes(), lone.node.poll_timeout())
}

/// Goal: a datagram of any size is answered by one of the same size, with the clock, and leaves nothing behind.
/// Method: every size up to the largest, in plaintext and sealed; what is shorter than any answer gets none.
#[test]
fn a_question_is_answered_in_as_many_bytes_and_changes_nothing() {
    for (mut lone, mut visitor) in both() {
        let before = view(&lone);
        let mut answered = 0;
        for bytes in 0..=DATAGRAM_BYTES_MAX {
            // A second each: there is a limit to how often.
            lone.now = lone.now + std::time::Duration::from_millis(if bytes % 100 == 99 { 1_000 } else { 0 });
            let question = visitor.packet(&Message::Examine(bytes as u64), bytes, Place::Datagram);
            lone.node.handle_datagram(lone.now, visitor.me.addr, &question);
            let Some(answer) = lone.node.poll_transmit(lone.now) else { continue };
            answered += 1;
            assert_eq!((answer.to, answer.bytes.len()), (visitor.me.addr, question.len()));
            let wall_ms = lone.now.as_nanos() / 1_000_000;
            assert_eq!(visitor.read(answer.bytes, Place::Datagram), Message::Examined(bytes as u64, wall_ms));
            assert!(lone.node.poll_transmit(lone.now).is_none());
        }
        assert_eq!(view(&lone), before);
        let stats = lone.node.stats();
        assert_eq!((stats.examinations, stats.examinations + stats.refused_malformed), (answered, 1_401));
        assert!(answered > 1_300);
        lone.assert_works();
    }
}

/// Goal: a node can't be made to send for others as fast as somebody likes.
/// Method: 1,000 questions at once, and one a second later.
#[test]
fn questions_beyond_a_limit_are_counted_and_not_answered() {
    for (mut lone, mut visitor) in both() {
        let mut ask = |lone: &mut Lone| {
            let question = visitor.packet(&Message::Examine(1), 100, Place::Datagram);
            lone.node.handle_datagram(lone.now, visitor.me.addr, &question);
            lone.drain();
        };
        (0..1_000).for_each(|_| ask(&mut lone));
        let stats = lone.node.stats();
        // Sealed ones name a life that nobody knows: what is beyond the rate of those is not even deciphered.
        assert_eq!((stats.examinations, stats.refused_limit + stats.refused_rate), (200, 800));
        lone.run_for(1);
        ask(&mut lone);
        assert_eq!(lone.node.stats().examinations, 201);
    }
}

/// Goal: who dials to look is told who is there, or why it would not be let in, and is nothing to the node afterwards.
/// Method: a Hello that fits, one of another cluster and one under the node's own name, in plaintext and sealed.
#[test]
fn a_stream_that_looks_is_answered_and_closed() {
    for (mut lone, mut visitor) in both() {
        let before = view(&lone);
        let fitting = lone.node.name().to_owned();
        for (cluster, name) in [("haulout", "visitor"), ("other", "visitor"), ("haulout", fitting.as_str())] {
            let hello = Message::Hello(Hello {
                cluster: cluster.into(),
                placement: placement::fingerprint(),
                name: name.into(),
                purpose: Purpose::Examine,
                nonce: [9; 16],
            });
            let frame = visitor.packet(&hello, 0, Place::Hello);
            let conn = lone.accepted_from(1);
            lone.node.handle_stream(lone.now, conn, StreamEvent::Frame(&frame));
            let outputs: Vec<_> = std::iter::from_fn(|| lone.node.poll_output()).collect();
            let [Output::Frame { bytes, .. }, Output::Close { conn: closed }] = &outputs[outputs.len() - 2..] else {
                panic!("{outputs:?}");
            };
            assert_eq!(*closed, conn);
            let answer = visitor.read(bytes, Place::Welcome([9; 16]));
            match (&answer, cluster, name) {
                (Message::Welcome(Welcome { name, table, .. }), "haulout", "visitor") => {
                    assert_eq!((name.as_str(), table.len()), (lone.node.name(), 1));
                }
                (Message::Refuse(_), ..) if (cluster, name) != ("haulout", "visitor") => {}
                _ => panic!("{answer:?} to {name} of {cluster}"),
            }
        }
        assert_eq!(view(&lone), before);
        lone.assert_works();
    }
}
