//! Answers to who looks whether this node can be reached: an operator's tool with the keys of the cluster, and no member.
//!
//! It is told no more than it needs, becomes nothing here and makes nobody send more than it sent itself.

use std::net::SocketAddr;

use super::Node;
use crate::proto::Identity;
use crate::proto::outbox::{encode, encode_sender};
use crate::proto::packet::Packet;
use crate::proto::wire::Message;

/// Answers in a second: more than a few operators need at once, too few to be of use to whoever forges their addresses.
pub(super) const PER_SECOND_MAX: usize = 200;

impl Node {
    /// Answers where the question came from, in as many bytes: neither an amplifier nor smaller than what is to be tried.
    pub(super) fn answer_examination(&mut self, from: SocketAddr, number: u64, question: &Packet<'_>) {
        let mut answer = Vec::new();
        self.cx.codec.begin(&mut answer, &[]);
        let room = answer.len() + question.from.map_or(0, sender_bytes) + question.messages.len();
        encode_sender(&mut answer, self.cx.me());
        encode(&mut answer, &Message::Examined(number, self.cx.wall_ms()));
        if answer.len() > room {
            self.cx.stats.refused_malformed += 1;
        } else if !self.examinations.allows(self.cx.now) {
            self.cx.stats.refused_limit += 1;
        } else {
            answer.resize(room, 0);
            self.cx.stats.examinations += 1;
            self.transmits.push(&mut self.cx.codec, from, &answer);
        }
    }
}

fn sender_bytes(sender: Identity) -> usize {
    let mut bytes = Vec::new();
    encode_sender(&mut bytes, sender);
    bytes.len()
}
