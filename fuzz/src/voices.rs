//! How what peers say becomes packets: in plaintext, or sealed as members with a key seal it.

use std::collections::BTreeMap;

use haulout::Key;
use haulout::proto::ConnId;
use haulout::proto::packet::{Codec, Life, Place, Turn, seal_plaintext};
use haulout::proto::wire::Message;

use crate::script::identity;

const CLUSTER: &str = "haulout";
/// The length of the SWIM part, which follows the head of a packet.
const LEN_BYTES: usize = 2;

/// What is said in a packet.
#[derive(Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) swim: &'a [u8],
    pub(crate) messages: &'a [Message],
    /// Any bytes behind them.
    pub(crate) noise: &'a [u8],
}

/// What the frames of a stream are sealed for.
#[derive(Default)]
struct Session {
    turn: Turn,
    has_begun: bool,
}

/// The peers of a node: they have its key, if it has one.
pub(crate) struct Voices {
    keys: Vec<Key>,
    /// By the number of the peer.
    codecs: BTreeMap<u8, Codec>,
    sessions: BTreeMap<ConnId, Session>,
}

impl Voices {
    pub(crate) fn new(keys: &[Key]) -> Self {
        Voices { keys: keys.to_vec(), codecs: BTreeMap::new(), sessions: BTreeMap::new() }
    }

    pub(crate) fn are_keyed(&self) -> bool {
        !self.keys.is_empty()
    }

    fn codec(&mut self, peer: u8) -> &mut Codec {
        let life = Life { instance: identity(peer).instance, salt: [peer; 8] };
        self.codecs.entry(peer).or_insert_with(|| Codec::keyed(CLUSTER, &self.keys, life))
    }

    fn seal(&mut self, from: u8, mut packet: Vec<u8>, place: Place) -> Vec<u8> {
        match self.are_keyed() {
            true => self.codec(from).seal(&mut packet, 0, place),
            false => seal_plaintext(&mut packet, 0),
        }
        packet
    }

    fn packet(&mut self, from: u8, said: Said<'_>, place: Place) -> Vec<u8> {
        let mut packet = Vec::new();
        self.codec(from).begin(&mut packet, said.swim);
        if !(said.messages.is_empty() && said.noise.is_empty()) {
            packet = postcard::to_extend(&identity(from), packet).expect("an identity");
        }
        for message in said.messages {
            packet = postcard::to_extend(message, packet).expect("a message");
        }
        packet.extend_from_slice(said.noise);
        self.seal(from, packet, place)
    }

    /// A datagram that passes for one of this peer's.
    pub(crate) fn datagram(&mut self, from: u8, said: Said<'_>) -> Vec<u8> {
        self.packet(from, said, Place::Datagram)
    }

    /// A datagram of which only the head and the end are as they should be.
    pub(crate) fn noise(&mut self, from: u8, bytes: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        self.codec(from).begin(&mut packet, &[]);
        packet.truncate(packet.len() - LEN_BYTES);
        packet.extend_from_slice(bytes);
        self.seal(from, packet, Place::Datagram)
    }

    /// The next frame of a peer on a stream.
    pub(crate) fn frame(&mut self, conn: ConnId, from: u8, said: Said<'_>) -> Vec<u8> {
        let session = self.sessions.entry(conn).or_default();
        let place = match (session.has_begun, conn.is_accepted()) {
            (false, true) => Place::Hello,
            (false, false) => Place::Welcome(session.turn.dialler),
            (true, true) => Place::Dialled(session.turn),
            (true, false) => Place::Accepted(session.turn),
        };
        if session.has_begun {
            session.turn.number += 1;
        }
        session.has_begun = true;
        said.messages.iter().for_each(|message| session.note(message));
        self.packet(from, said, place)
    }

    /// The node has sent this frame: what it has drawn is in the first one.
    pub(crate) fn heard(&mut self, conn: ConnId, frame: &[u8]) {
        let session = self.sessions.entry(conn).or_default();
        let place = if conn.is_accepted() { Place::Welcome(session.turn.dialler) } else { Place::Hello };
        let mut opened = Vec::new();
        let reader = Codec::keyed(CLUSTER, &self.keys, Life { instance: identity(0).instance, salt: [0; 8] });
        if let Ok(packet) = reader.open(frame, place, &mut opened)
            && let Ok((message, _)) = postcard::take_from_bytes(packet.messages)
        {
            session.note(&message);
        }
    }

    /// Whether the node asks, in this datagram, whether its receiver lives; the answer of this peer.
    pub(crate) fn proof(&mut self, from: u8, datagram: &[u8]) -> Option<Vec<u8>> {
        let mut opened = Vec::new();
        let packet = self.codec(from).open(datagram, Place::Datagram, &mut opened).ok()?;
        let Ok((Message::Challenge(number), _)) = postcard::take_from_bytes(packet.messages) else { return None };
        let messages = &[Message::Proof(number)];
        Some(self.datagram(from, Said { swim: &[], messages, noise: &[] }))
    }
}

impl Session {
    fn note(&mut self, message: &Message) {
        match message {
            Message::Hello(hello) => self.turn.dialler = hello.nonce,
            Message::Welcome(welcome) => self.turn.acceptor = welcome.nonce,
            _ => {}
        }
    }
}
