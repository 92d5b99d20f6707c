//! Datagrams that no member sent: what somebody can make who sees all traffic of a cluster and has no key.

use std::net::SocketAddr;

use foca::{Header, Member, Message, State};
use haulout::proto::packet::{CHECKSUM_BYTES, Codec, DATAGRAM_BYTES_MAX, Life, Place, seal_plaintext};
use haulout::proto::{Identity, InstanceId};
use haulout::{Config, Key};
use haulout_sim::random::Random;
use serde::Serialize;

/// How much of a sealed packet anybody can read: its head and its nonce.
const CLEAR_BYTES: usize = 35;

/// Where it says how many packets its sender had sealed.
const COUNTER_AT: usize = 27;

/// What a datagram pretends to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Forgery {
    /// The head of the cluster's packets, then noise under a checksum that fits.
    Garbage,
    /// A packet of a member with one bit flipped.
    Flipped,
    /// A packet of a member as it was.
    Replayed,
    /// A packet of a member under a count that this one has not reached, so that its tag has to be checked.
    Ahead,
    /// A SWIM packet in a member's name, or a stranger's: announces, accusations, undeads.
    Swim,
    /// A few bytes.
    Tiny,
    /// More than any member sends.
    Oversized,
}

/// Makes forgeries, the same ones for the same seed and the same recorded packets.
pub(crate) struct Forger {
    random: Random,
    codec: Codec,
    victim: Identity,
    others: Vec<Identity>,
    recorded: Vec<Vec<u8>>,
}

impl Forger {
    /// `recorded` is what members sent to the victim; there is nothing to flip or replay if it is empty.
    pub(crate) fn new(is_keyed: bool, victim: Identity, others: Vec<Identity>, recorded: Vec<Vec<u8>>) -> Forger {
        let cluster = Config::default().cluster;
        let codec = match is_keyed {
            // The members' key is not known, but what their packets look like is.
            true => Codec::keyed(&cluster, &[Key::generate()], Life { instance: others[0].instance, salt: [0; 8] }),
            false => Codec::plaintext(&cluster),
        };
        Forger { random: Random::stream(5, "forgeries"), codec, victim, others, recorded }
    }

    /// Whose address a forgery may be sent from.
    pub(crate) fn spoofed(&mut self) -> SocketAddr {
        self.others[self.random.below(self.others.len())].addr
    }

    pub(crate) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Puts the next one into `packet`.
    pub(crate) fn forge(&mut self, packet: &mut Vec<u8>) -> Forgery {
        packet.clear();
        match self.random.below(16) {
            0 => self.noise(packet, 0, 12, Forgery::Tiny),
            1 => self.noise(packet, DATAGRAM_BYTES_MAX + 1, 9_000, Forgery::Oversized),
            2..=5 => self.swim(packet),
            6..=8 if !self.recorded.is_empty() => self.replay(packet),
            9 if !self.recorded.is_empty() && self.codec.is_keyed() => {
                self.replay(packet);
                packet[COUNTER_AT] ^= 1 << self.random.below(8);
                Forgery::Ahead
            }
            9..=11 if !self.recorded.is_empty() => {
                self.replay(packet);
                let bit = self.random.below(packet.len() * 8);
                packet[bit / 8] ^= 1 << (bit % 8);
                Forgery::Flipped
            }
            _ => self.garbage(packet),
        }
    }

    fn noise(&mut self, packet: &mut Vec<u8>, min: usize, max: usize, forgery: Forgery) -> Forgery {
        for _ in 0..self.random.between(min, max) {
            packet.push(self.random.bits() as u8);
        }
        forgery
    }

    fn garbage(&mut self, packet: &mut Vec<u8>) -> Forgery {
        match self.recorded.first() {
            Some(recorded) => packet.extend_from_slice(&recorded[..recorded.len().min(CLEAR_BYTES)]),
            None => self.codec.begin(packet, &[]),
        }
        self.noise(packet, CHECKSUM_BYTES, 300, Forgery::Garbage);
        seal_plaintext(packet, 0);
        Forgery::Garbage
    }

    fn replay(&mut self, packet: &mut Vec<u8>) -> Forgery {
        packet.extend_from_slice(&self.recorded[self.random.below(self.recorded.len())]);
        Forgery::Replayed
    }

    fn swim(&mut self, packet: &mut Vec<u8>) -> Forgery {
        let stranger = SocketAddr::from(([127, 66, 0, 1], self.random.between(1_024, 60_000) as u16));
        let stranger = Identity { addr: stranger, bump: 0, instance: InstanceId::new(self.random.bits()) };
        let member = self.others[self.random.below(self.others.len())];
        let accused = if self.random.below(2) == 0 { self.victim } else { member };
        let suspicion = Some(Member::new(accused, u16::MAX, State::Suspect));
        let (src, message, update) = match self.random.below(4) {
            0 => (stranger, Message::Announce, None),
            1 => (member, Message::TurnUndead, None),
            2 => (member, Message::Gossip, suspicion),
            _ => (stranger, Message::Gossip, suspicion),
        };
        let header = Header { src, src_incarnation: 0, dst: self.victim, message };
        let mut swim = Vec::new();
        encode(&mut swim, &header);
        if let Some(update) = update {
            swim.extend_from_slice(&1_u16.to_be_bytes());
            encode(&mut swim, &update);
        }
        self.codec.begin(packet, &swim);
        self.codec.seal(packet, 0, Place::Datagram);
        if let Some(recorded) = self.recorded.first() {
            // The name of the members' key, which everybody sees.
            packet[2] = recorded[2];
        }
        Forgery::Swim
    }
}

/// As foca's codec writes it.
fn encode(bytes: &mut Vec<u8>, part: &impl Serialize) {
    // Fails for nothing that is written to memory.
    bytes.extend(postcard::to_stdvec(part).unwrap_or_default());
}
