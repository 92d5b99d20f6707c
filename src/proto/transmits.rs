//! Datagrams on their way out, in one buffer that is reused.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;

use super::outbox::encode_sender;
use super::packet::{Codec, Place};
use super::wire::Message;
use super::{Identity, Stats, Transmit};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Transmits {
    bytes: Vec<u8>,
    queue: VecDeque<(SocketAddr, Range<usize>)>,
}

impl Transmits {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Forgets what was sent; the buffer stays.
    pub(crate) fn clear(&mut self) {
        if self.queue.is_empty() {
            self.bytes.clear();
        }
    }

    /// Queues a whole packet, which is sealed here.
    pub(crate) fn push(&mut self, codec: &mut Codec, to: SocketAddr, packet: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packet);
        codec.seal(&mut self.bytes, start, Place::Datagram);
        self.queue.push_back((to, start..self.bytes.len()));
    }

    /// Queues a packet that holds only this message.
    pub(crate) fn push_message(
        &mut self,
        codec: &mut Codec,
        me: Identity,
        to: SocketAddr,
        message: &Message,
        stats: &mut Stats,
    ) {
        let start = self.bytes.len();
        codec.extend(&mut self.bytes, &[]);
        encode_sender(&mut self.bytes, me);
        stats.encode(&mut self.bytes, message);
        codec.seal(&mut self.bytes, start, Place::Datagram);
        self.queue.push_back((to, start..self.bytes.len()));
    }

    pub(crate) fn pop(&mut self, stats: &mut Stats) -> Option<Transmit<'_>> {
        let (to, range) = self.queue.pop_front()?;
        stats.datagrams_sent += 1;
        stats.datagram_bytes_sent += range.len() as u64;
        Some(Transmit { to, bytes: &self.bytes[range] })
    }
}
