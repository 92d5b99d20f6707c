//! How a node stands: the gauges beside its counters.

use super::Node;
use crate::proto::{ScopeId, ScopeStats, Stats};

impl Node {
    /// The counters, and every gauge that the state machine knows. Costs a walk over the members; children are
    /// counted as they change.
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
