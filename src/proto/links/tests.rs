use std::net::SocketAddr;

use super::*;
use crate::key::Key;
use crate::proto::packet::{Life, Refused};

const CONN: ConnId = ConnId(1);
const ACCEPTED: ConnId = ConnId::accepted(1);

fn identity(instance: u64) -> Identity {
    Identity { addr: SocketAddr::from(([10, 0, 0, 1], 7946)), bump: 0, instance: InstanceId::new(instance) }
}

/// One end of a stream whose packets are sealed.
struct Side {
    links: Links,
    codec: Codec,
    out: VecDeque<Output>,
    stats: Stats,
}

impl Side {
    fn new(instance: u64) -> Self {
        let life = Life { instance: InstanceId::new(instance), salt: [0; 8] };
        let codec = Codec::keyed("reef", &[Key::new([1; 32])], life);
        Side { links: Links::new(8, 1 << 20), codec, out: VecDeque::new(), stats: Stats::default() }
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        self.codec.begin(&mut frame, &[]);
        frame
    }

    fn sent(&mut self) -> Vec<Vec<u8>> {
        let frames = self.out.drain(..).filter_map(|output| match output {
            Output::Frame { bytes, .. } => Some(bytes),
            _ => None,
        });
        frames.collect()
    }

    /// Opens the first frame of the other end.
    fn greet(&mut self, conn: ConnId, frame: &[u8]) {
        let mut opened = Vec::new();
        let packet = self.codec.open(frame, self.links.place(conn), &mut opened).expect("it is the first");
        self.links.heard_first(conn, packet.stamp);
    }

    /// Takes a later frame.
    fn take(&mut self, conn: ConnId, frame: &[u8]) -> Result<bool, Refused> {
        let mut opened = Vec::new();
        let packet = self.codec.open(frame, self.links.place(conn), &mut opened)?;
        Ok(self.links.heard_next(conn, packet.stamp))
    }
}

/// A node that queues so many frames for another one, which it dials; what each has sent when the handshake is through.
fn shaken_hands(queued: usize, dialler: StreamNonce, acceptor: StreamNonce) -> ([Side; 2], Vec<Vec<u8>>) {
    let [mut a, mut b] = [Side::new(1), Side::new(2)];
    for _ in 0..queued {
        let frame = a.frame();
        a.links.send(Time::ZERO, identity(2), frame, &mut a.codec, &mut a.out, &mut a.stats);
    }
    assert!(a.sent().is_empty(), "nothing is sent before it is dialled");
    let hello = a.frame();
    a.links.connected(Time::ZERO, CONN, dialler, |_| hello, &mut a.codec, &mut a.out);
    let hello = a.sent();
    assert_eq!(hello.len(), 1, "what is queued waits for the other's nonce");

    b.links.accepted(Time::ZERO, ACCEPTED, identity(1).addr, &mut b.out, &mut b.stats);
    b.greet(ACCEPTED, &hello[0]);
    b.links.doubted(ACCEPTED, Purpose::Messages, dialler, acceptor);
    let welcome = b.frame();
    put(ACCEPTED, welcome, Place::Welcome(dialler), &mut b.codec, &mut b.out);
    let welcome = b.sent();
    a.greet(CONN, &welcome[0]);
    a.links.greeted(CONN, InstanceId::new(2), &mut a.stats);
    let proof = a.frame();
    a.links.prove(CONN, acceptor, proof, &mut a.codec, &mut a.out);
    let frames = a.sent();
    ([a, b], frames)
}

/// Goal: frames are taken in the order in which they were sent, each once, and none can be left out.
/// Method: of a proof and three frames behind it, each is tried before its turn, in its turn and again.
#[test]
fn sealed_frames_are_taken_in_turn_and_none_is_left_out() {
    let ([_, mut b], frames) = shaken_hands(3, [1; 16], [2; 16]);
    assert_eq!(frames.len(), 4);
    for turn in 0..frames.len() {
        for (number, frame) in frames.iter().enumerate().filter(|(number, _)| *number != turn) {
            assert_eq!(b.take(ACCEPTED, frame), Err(Refused::Forged), "{number} in the turn of {turn}");
        }
        assert_eq!(b.take(ACCEPTED, &frames[turn]), Ok(true));
    }
}

/// Goal: a frame fits no other stream of the same two nodes, and not the other direction. Method: what one stream carried
/// is sent on a second one, whose ends have drawn other nonces, one of them the same as before.
#[test]
fn sealed_frames_fit_no_other_stream_and_no_other_direction() {
    let ([mut a, _], frames) = shaken_hands(1, [1; 16], [2; 16]);
    let ([_, mut other], _) = shaken_hands(1, [1; 16], [3; 16]);
    assert_eq!(other.take(ACCEPTED, &frames[0]), Err(Refused::Forged));
    assert_eq!(a.take(CONN, &frames[0]), Err(Refused::Forged), "sent back to where it came from");
}

/// Goal: a stream is nobody's before it is proven. Method: the acceptor has something for the dialler: it dials.
#[test]
fn an_accepted_stream_is_used_only_when_its_dialler_has_proven_itself() {
    let ([_, mut b], frames) = shaken_hands(1, [1; 16], [2; 16]);
    let frame = b.frame();
    b.links.send(Time::ZERO, identity(1), frame.clone(), &mut b.codec, &mut b.out, &mut b.stats);
    assert!(matches!(b.out.pop_front(), Some(Output::Connect { .. })) && b.sent().is_empty());
    let mut b = shaken_hands(1, [1; 16], [2; 16]).0.into_iter().nth(1).expect("the acceptor");
    assert_eq!(b.take(ACCEPTED, &frames[0]), Ok(true));
    b.links.greeted(ACCEPTED, InstanceId::new(1), &mut b.stats);
    b.links.send(Time::ZERO, identity(1), frame, &mut b.codec, &mut b.out, &mut b.stats);
    assert_eq!(b.sent().len(), 1, "on the stream that is there");
}
