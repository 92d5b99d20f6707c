//! How a scope stands on this node, in figures.

use super::Scope;
use crate::proto::stats::nanos;
use crate::proto::supervision::{Local, Phase};
use crate::proto::{ScopeStats, Time};

impl Scope {
    /// Counts what is known of the scope. Children that are in no stable state are walked over, all others are not.
    pub(crate) fn measured(&self, now: Time) -> ScopeStats {
        let mut stats = ScopeStats {
            members: self.members.len() as u64,
            members_settled: self.members.values().filter(|member| member.record.settled).count() as u64,
            children_desired: self.children.desired() as u64,
            children_held: self.held.len() as u64,
            records: (self.children.desired() + self.children.owned_len()) as u64,
            writers_seen: (self.desired.seen().len() + self.owned.seen().len()) as u64,
            ranges_seen: (self.desired.seen().ranges() + self.owned.seen().ranges()) as u64,
            calls_waiting: self.calls_queued() as u64,
            directs_waiting: self.calls_pending() as u64,
            ..ScopeStats::default()
        };
        for child in self.children.listed().filter(|child| child.is_unstable) {
            match &child.local {
                Local::Idle => {}
                Local::Waiting(_) => stats.children_waiting += 1,
                Local::Active(run) => match run.phase {
                    Phase::Starting => stats.children_starting += 1,
                    Phase::Running => {}
                    Phase::Stopping => stats.children_stopping += 1,
                    Phase::Backoff => stats.children_backing_off += 1,
                },
            }
            if let Some(since) = child.idle_since() {
                stats.orphan_nanos_max = stats.orphan_nanos_max.max(nanos(now.since(since)));
            }
        }
        let others = stats.children_starting + stats.children_stopping;
        stats.children_running = (self.runs.len() as u64).saturating_sub(others);
        stats
    }
}
