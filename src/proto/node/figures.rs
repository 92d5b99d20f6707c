//! How a node stands: the gauges beside its counters, and what arrived by kind.

use super::Node;
use crate::proto::wire::{Message, ScopeMessage};
use crate::proto::{ScopeId, ScopeStats, Stats};

impl Node {
    /// The counters, and every gauge that the state machine knows. Costs a walk over the members, and over those children
    /// that are in no stable state.
    pub fn measured(&self) -> Stats {
        let mut stats = self.cx.stats;
        self.cx.membership.measure(&mut stats);
        stats.ask_rtt_nanos = crate::proto::stats::nanos(self.cx.rtt);
        let (accepted, queued_bytes) = self.cx.links.totals();
        stats.streams_accepted = accepted as u64;
        stats.stream_backlog_bytes = queued_bytes as u64;
        stats.streams_standing = self.cx.links.watching() as u64;
        stats.rumours_waiting = self.cx.gossip.len() as u64;
        stats.starting_places_taken = self.cx.budget.taken() as u64;
        stats.scopes_joined = self.scopes.len() as u64;
        for scope in self.scopes.values() {
            stats.scopes.add(&scope.measured(self.cx.now));
        }
        stats
    }

    /// How one scope stands; `None` if this node has not joined it.
    pub fn measured_scope(&self, scope: ScopeId) -> Option<ScopeStats> {
        self.scopes.get(&scope).map(|scope| scope.measured(self.cx.now))
    }
}

/// Counts a message by what it is about.
pub(super) fn note_received(stats: &mut Stats, message: &Message, bytes: usize) {
    let (messages, total) = match message {
        Message::Roots(_) | Message::LastRoots(_) | Message::Scoped(ScopeMessage::Exchange(_)) => {
            (&mut stats.exchange_messages_received, &mut stats.exchange_bytes_received)
        }
        Message::Members(..)
        | Message::Relay(..)
        | Message::Relayed(..)
        | Message::Scope(_)
        | Message::Scoped(ScopeMessage::Lead { .. } | ScopeMessage::Ask(_) | ScopeMessage::Answer(_)) => {
            (&mut stats.handover_messages_received, &mut stats.handover_bytes_received)
        }
        Message::Scoped(_) | Message::Rumour(_) => {
            (&mut stats.record_messages_received, &mut stats.record_bytes_received)
        }
        _ => (&mut stats.liveness_messages_received, &mut stats.liveness_bytes_received),
    };
    *messages += 1;
    *total += bytes as u64;
}
