//! What a node says and hears, counted by what it is about.

use super::Stats;
use super::outbox::encode;
use super::wire::{Message, ScopeMessage};

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Who is at the other end of a stream.
    Handshake,
    /// Who lives.
    Liveness,
    /// Who may start a child.
    Handover,
    /// What is desired and claimed, told record by record.
    Record,
    /// Whether two states are the same, and how they differ.
    Exchange,
}

impl Message {
    /// What it is about. What leads other messages belongs to those that need it most often.
    pub(crate) fn topic(&self) -> Topic {
        match self {
            Message::Hello(_) | Message::Welcome(_) | Message::Refuse(_) => Topic::Handshake,
            Message::Suspected(..)
            | Message::YouAreDown(..)
            | Message::TableRequest
            | Message::Table(_)
            | Message::Unwatch
            | Message::Probe(_)
            | Message::Echo(_)
            | Message::Look(..)
            | Message::Looked(..)
            | Message::Pulse(_)
            | Message::Silent(..)
            | Message::Lives(..)
            | Message::Challenge(_)
            | Message::Proof(_)
            | Message::Examine(_)
            | Message::Examined(..) => Topic::Liveness,
            Message::Members(..) | Message::Relay(..) | Message::Relayed(..) | Message::Scope(_) => Topic::Handover,
            Message::Rumour(_) => Topic::Record,
            Message::Roots(_) | Message::LastRoots(_) => Topic::Exchange,
            Message::Scoped(message) => message.topic(),
        }
    }
}

impl ScopeMessage {
    /// What it is about.
    pub(crate) fn topic(&self) -> Topic {
        match self {
            ScopeMessage::Lead { .. } | ScopeMessage::Ask(_) | ScopeMessage::Answer(_) => Topic::Handover,
            ScopeMessage::Put(..)
            | ScopeMessage::PutDirect(..)
            | ScopeMessage::Del { .. }
            | ScopeMessage::Ack(..)
            | ScopeMessage::PutOwned(..)
            | ScopeMessage::DelOwned(..)
            | ScopeMessage::StatusRequest
            | ScopeMessage::Status(_)
            | ScopeMessage::Find(..)
            | ScopeMessage::Found(..) => Topic::Record,
            ScopeMessage::Exchange(_) => Topic::Exchange,
        }
    }
}

impl Stats {
    /// Counts a message that arrived.
    pub(crate) fn note_received(&mut self, topic: Topic, bytes: usize) {
        let (messages, total) = match topic {
            Topic::Handshake => (&mut self.handshake_messages_received, &mut self.handshake_bytes_received),
            Topic::Liveness => (&mut self.liveness_messages_received, &mut self.liveness_bytes_received),
            Topic::Handover => (&mut self.handover_messages_received, &mut self.handover_bytes_received),
            Topic::Record => (&mut self.record_messages_received, &mut self.record_bytes_received),
            Topic::Exchange => (&mut self.exchange_messages_received, &mut self.exchange_bytes_received),
        };
        *messages += 1;
        *total += bytes as u64;
    }

    /// Counts messages that are sent, with the bytes of all of them.
    pub(crate) fn note_sent(&mut self, topic: Topic, count: usize, bytes: usize) {
        let (messages, total) = match topic {
            Topic::Handshake => (&mut self.handshake_messages_sent, &mut self.handshake_bytes_sent),
            Topic::Liveness => (&mut self.liveness_messages_sent, &mut self.liveness_bytes_sent),
            Topic::Handover => (&mut self.handover_messages_sent, &mut self.handover_bytes_sent),
            Topic::Record => (&mut self.record_messages_sent, &mut self.record_bytes_sent),
            Topic::Exchange => (&mut self.exchange_messages_sent, &mut self.exchange_bytes_sent),
        };
        *messages += count as u64;
        *total += bytes as u64;
    }

    /// Serializes a message that is sent after what is in `bytes`, and counts it.
    pub(crate) fn encode(&mut self, bytes: &mut Vec<u8>, message: &Message) {
        let start = bytes.len();
        encode(bytes, message);
        self.note_sent(message.topic(), 1, bytes.len().saturating_sub(start));
    }
}
