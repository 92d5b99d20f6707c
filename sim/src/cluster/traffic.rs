//! How much was sent, and what the links did to it.

use crate::network::LostTo;

/// How much was sent, and how often each fault of the links struck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams that were sent.
    pub datagrams: u64,
    /// Their bytes.
    pub datagram_bytes: u64,
    /// Of them, those that never arrived.
    pub datagrams_lost: u64,
    /// Frames that were sent on streams.
    pub frames: u64,
    /// Their bytes.
    pub frame_bytes: u64,
    /// Datagrams lost by chance and in bad periods.
    pub lost_to_noise: u64,
    /// Datagrams lost to cuts.
    pub lost_to_cuts: u64,
    /// Datagrams that were too large for their link.
    pub lost_to_mtu: u64,
    /// Datagrams for which a narrow or clogged link had no room.
    pub lost_to_queues: u64,
    /// Datagrams that arrived twice.
    pub duplicated: u64,
    /// Datagrams of which a copy came long after.
    pub replayed: u64,
    /// Of them, those whose copy came an hour later or more.
    pub replayed_after_hours: u64,
    /// Datagrams of which bits flipped.
    pub corrupted: u64,
    /// Datagrams that lost their end.
    pub truncated: u64,
    /// Streams that their link reset.
    pub resets: u64,
}

impl Traffic {
    /// How often each fault of the links struck, by name.
    pub fn injected(&self) -> [(&'static str, u64); 10] {
        [
            ("links_lost_to_noise", self.lost_to_noise),
            ("links_lost_to_cuts", self.lost_to_cuts),
            ("links_lost_to_mtu", self.lost_to_mtu),
            ("links_lost_to_queues", self.lost_to_queues),
            ("links_duplicated", self.duplicated),
            ("links_replayed", self.replayed),
            ("links_replayed_after_hours", self.replayed_after_hours),
            ("links_corrupted", self.corrupted),
            ("links_truncated", self.truncated),
            ("links_reset", self.resets),
        ]
    }

    pub(super) fn lost(&mut self, to: LostTo) {
        self.datagrams_lost += 1;
        *match to {
            LostTo::Cut => &mut self.lost_to_cuts,
            LostTo::Noise => &mut self.lost_to_noise,
            LostTo::Mtu => &mut self.lost_to_mtu,
            LostTo::Queue => &mut self.lost_to_queues,
        } += 1;
    }
}
