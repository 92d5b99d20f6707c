//! Whether the sender of a sealed datagram is believed: it is no copy of an earlier one, and its sender lives.

use std::net::SocketAddr;

use rand_core::Rng;

use super::Node;
use crate::error::SetKeyringError;
use crate::key::{KEYS_MAX, Key};
use crate::proto::lives::Credit;
use crate::proto::membership::Membership;
use crate::proto::packet::{Packet, Refused, Stamp};
use crate::proto::wire::Message;
use crate::proto::{Identity, Rule};

impl Node {
    /// What is refused of a datagram before it is deciphered: it is none of ours, it came before, or its source sends too
    /// many that name nobody who is known. What it says of its sender is not believed: it can only be refused for it.
    pub(super) fn sift(&mut self, from: SocketAddr, bytes: &[u8]) -> Result<(), Refused> {
        let Some(stamp) = self.cx.codec.look_at(bytes)? else { return Ok(()) };
        let is_member = self.cx.membership.identity_of(stamp.life.instance).is_some();
        let credit = if self.is_mine(stamp) { Credit::Replayed } else { self.lives.credit(stamp, is_member) };
        match credit {
            Credit::Replayed if !self.cx.sabotage.lacks(Rule::ReplayWindow) => Err(Refused::Replayed),
            Credit::Unproven if !self.sources.admits(self.cx.now, from) => Err(Refused::Rate),
            _ => Ok(()),
        }
    }

    /// Whether a datagram comes from where its sender says that it is, as far as that is to be looked at.
    pub(super) fn may_send_from(&self, from: SocketAddr, packet: &Packet<'_>) -> bool {
        let sender = || packet.from.or_else(|| Membership::sender_of(packet.swim));
        let is_at = |addr: SocketAddr| (addr.ip().to_canonical(), addr.port());
        !self.cx.config.check_source || sender().is_none_or(|sender| is_at(sender.addr) == is_at(from))
    }

    /// The same of a stream, which comes from another port.
    pub(super) fn may_dial_from(&self, from: SocketAddr, sender: Identity) -> bool {
        !self.cx.config.check_source || sender.addr.ip().to_canonical() == from.ip().to_canonical()
    }

    fn is_mine(&self, stamp: Stamp) -> bool {
        stamp.life.instance == self.cx.me().instance
    }

    /// Whether a datagram is taken in. Plaintext says nothing about its sender; who allows it trusts whoever can send it.
    pub(super) fn believes(&mut self, from: SocketAddr, packet: &Packet<'_>) -> bool {
        let Some(stamp) = packet.stamp else { return true };
        let is_member = self.cx.membership.identity_of(stamp.life.instance).is_some();
        let credit = if self.is_mine(stamp) { Credit::Replayed } else { self.lives.enter(stamp, is_member) };
        let sabotage = self.cx.sabotage;
        match credit {
            Credit::Believed => true,
            Credit::Replayed if sabotage.lacks(Rule::ReplayWindow) => true,
            Credit::Unproven if sabotage.lacks(Rule::LivesProveThemselves) => true,
            Credit::Replayed => {
                self.refuse(from, Refused::Replayed);
                false
            }
            Credit::Unproven => self.hear_unproven(from, stamp, packet),
        }
    }

    /// A datagram of a life of which nothing is known: one that was recorded, or a member that this node has not heard of.
    /// Whether it proves that it lives. It may always ask whether this node does: two that know nothing of each other
    /// would ask for ever.
    fn hear_unproven(&mut self, from: SocketAddr, stamp: Stamp, packet: &Packet<'_>) -> bool {
        match postcard::take_from_bytes(packet.messages) {
            Ok((Message::Proof(number), _)) if self.lives.is_proof(self.cx.now, stamp.life, number) => {
                return self.admit_life(stamp);
            }
            Ok((Message::Challenge(number), _)) => self.answer_challenge(from, number),
            Ok((Message::Examine(number), _)) => self.answer_examination(from, number, packet),
            _ => {
                self.refuse(from, Refused::Unproven);
                let rng = &mut self.cx.rng;
                if let Some(number) = self.lives.challenge(self.cx.now, stamp.life, || rng.next_u64()) {
                    self.cx.stats.challenges_sent += 1;
                    // To where it came from, and hardly longer than the shortest that can come: no amplifier.
                    self.send_alone(from, &Message::Challenge(number));
                }
            }
        }
        false
    }

    /// Somebody asks whether this node lives. A recorded question gets an answer too, which proves nothing to anybody: each
    /// number is asked for once.
    pub(super) fn answer_challenge(&mut self, from: SocketAddr, number: u64) {
        match self.cx.codec.is_keyed() {
            true => self.send_alone(from, &Message::Proof(number)),
            false => self.cx.stats.refused_malformed += 1,
        }
    }

    /// Takes over another ring of keys. Streams stand, as long as what comes on them is sealed with a key of the ring; lives
    /// that were believed are believed on.
    pub(super) fn set_keyring(&mut self, keys: &[Key]) -> Result<(), SetKeyringError> {
        let count = keys.len();
        if !self.cx.codec.is_keyed() {
            return Err(SetKeyringError::Plaintext);
        }
        if !(1..=KEYS_MAX).contains(&count) {
            return Err(SetKeyringError::KeyCount { count });
        }
        self.cx.codec.set_keys(keys);
        tracing::info!(count, "the keyring was replaced");
        Ok(())
    }

    /// A life has shown that it goes on; says whether there is room to remember it.
    pub(super) fn admit_life(&mut self, stamp: Stamp) -> bool {
        if self.lives.is_full() {
            let members = self.cx.membership.active();
            self.lives.forget_all_but(|instance| members.contains_key(&instance));
        }
        let has_room = self.lives.admit(stamp);
        self.cx.stats.refused_limit += u64::from(!has_room);
        has_room
    }
}
