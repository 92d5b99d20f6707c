//! When packets got from node to node.

use std::time::Duration;

use haulout::proto::Time;

use super::{Cluster, NodeState};
use crate::NodeIdx;

/// Contacts that follow each other faster than this are noted once.
const CONTACTS_APART: Duration = Duration::from_millis(100);

/// When packets got from node to node: by sender, then by receiver, in order.
#[derive(Debug, Default)]
pub(super) struct Contacts(Vec<Vec<Vec<Time>>>);

impl Contacts {
    fn note(&mut self, from: NodeIdx, to: NodeIdx, now: Time) {
        if self.0.len() <= from.0 {
            self.0.resize_with(from.0 + 1, Vec::new);
        }
        let row = &mut self.0[from.0];
        if row.len() <= to.0 {
            row.resize_with(to.0 + 1, Vec::new);
        }
        let times = &mut row[to.0];
        if times.last().is_none_or(|&last| now.since(last) >= CONTACTS_APART) {
            times.push(now);
        }
    }

    fn first(&self, from: NodeIdx, to: NodeIdx, since: Time) -> Option<Time> {
        let times = self.0.get(from.0)?.get(to.0)?;
        times.get(times.partition_point(|&time| time < since)).copied()
    }
}

impl Cluster {
    /// When a packet first got from one node to another at or after `since`, to within 100 ms (never too early), if
    /// [`Options::contacts`](super::Options::contacts) is on.
    ///
    /// What was damaged, comes from an earlier life of its sender or is a late copy does not count, nor does what
    /// waits for a paused process.
    pub fn contacts(&self, from: NodeIdx, to: NodeIdx, since: Time) -> Option<Time> {
        self.contacts.first(from, to, since)
    }

    /// Notes that something that this life of a node sent has arrived.
    pub(super) fn note_contact(&mut self, from: NodeIdx, boot: u32, to: NodeIdx) {
        let counts = self.slots[from.0].boots == boot && self.slots[to.0].state == NodeState::Up;
        if self.options.contacts && counts {
            self.contacts.note(from, to, self.now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_are_found_in_their_direction_from_a_time_on() {
        let at = |millis: u64| Time::ZERO + Duration::from_millis(millis);
        let (a, b) = (NodeIdx(0), NodeIdx(3));
        let mut contacts = Contacts::default();
        for millis in [5, 50, 104, 105, 300] {
            contacts.note(a, b, at(millis));
        }
        for (since, first) in [(0, Some(5)), (5, Some(5)), (6, Some(105)), (106, Some(300)), (301, None)] {
            assert_eq!(contacts.first(a, b, at(since)), first.map(at), "since {since}");
        }
        assert_eq!(contacts.first(b, a, at(0)), None);
    }
}
