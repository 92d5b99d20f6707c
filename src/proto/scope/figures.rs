//! How a scope stands on this node, in figures.

use super::{Doing, Scope};
use crate::proto::stats::nanos;
use crate::proto::{ScopeStats, Time};

impl Scope {
    /// What is known of the scope. Costs the same at any number of children: nothing is walked over but the members.
    pub(crate) fn measured(&self, now: Time) -> ScopeStats {
        let count = |doing| self.children.count(doing) as u64;
        let lasted = |since: Option<Time>| since.map_or(0, |since| nanos(now.since(since)));
        ScopeStats {
            members: self.members.len() as u64,
            members_settled: self.members.values().filter(|member| member.record.settled).count() as u64,
            children_desired: self.children.desired() as u64,
            children_unplaced: self.children.unplaced() as u64,
            children_waiting: count(Doing::Waiting),
            children_held: self.held.len() as u64,
            held_nanos_max: lasted(self.held.front().map(|(since, _)| *since)),
            children_starting: count(Doing::Starting),
            children_running: count(Doing::Running) + count(Doing::Challenging),
            children_stopping: count(Doing::Stopping),
            children_backing_off: count(Doing::BackingOff),
            orphan_nanos_max: lasted(self.gaps.longest_since()),
            records: (self.children.desired() + self.children.owned_len()) as u64,
            writers_seen: (self.desired.seen().len() + self.owned.seen().len()) as u64,
            ranges_seen: (self.desired.seen().ranges() + self.owned.seen().ranges()) as u64,
            calls_waiting: self.calls_queued() as u64,
            unsettled_nanos_max: lasted(self.settling_since()),
            directs_waiting: self.calls_pending() as u64,
        }
    }

    /// Whether all that is counted step by step is what a walk over the children finds, for tests and the simulator.
    pub(crate) fn is_counted_right(&self) -> bool {
        self.children.is_counted_right(self.gaps.longest_since())
    }
}
