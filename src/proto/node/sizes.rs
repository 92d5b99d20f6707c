//! How full the tables and queues of a node are, beside their limits.

use super::Node;
use crate::proto::HALF_OPEN_MAX;
use crate::proto::scope::{Doing, Scope};

/// How full one table or queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Which one.
    pub name: &'static str,
    /// How many entries it has.
    pub len: usize,
    /// How many it may have; `None` where that follows from the other limits.
    pub max: Option<usize>,
    /// Whether it is empty while nothing happens.
    pub rests_empty: bool,
}

impl Size {
    fn limited(name: &'static str, len: usize, max: usize) -> Self {
        Size { name, len, max: Some(max), rests_empty: false }
    }

    fn counted(name: &'static str, len: usize) -> Self {
        Size { name, len, max: None, rests_empty: false }
    }

    fn passing(name: &'static str, len: usize) -> Self {
        Size { name, len, max: None, rests_empty: true }
    }
}

impl Node {
    /// How full every table and queue is, for tests and the simulator.
    pub fn sizes(&self) -> Vec<Size> {
        debug_assert!(self.scopes.values().all(Scope::is_counted_right), "the counts of a scope are out of step");
        let limits = &self.cx.config.limits;
        let (open, half_open, backlog) = self.cx.links.sizes();
        // What a fault site holds back waits for the next input, which need not come before somebody looks.
        let outputs = if self.cx.sites.is_withholding() { 0 } else { self.cx.outputs.len() };
        let most = |size: fn(&Scope) -> usize| self.scopes.values().map(size).max().unwrap_or(0);
        vec![
            Size::limited("scopes", self.scopes.len(), limits.scopes_max),
            Size::limited("members", self.cx.membership.known(), limits.members_max),
            Size::limited("accepted streams", open, limits.streams_max + HALF_OPEN_MAX),
            Size::limited("half-open streams", half_open, HALF_OPEN_MAX),
            Size::limited("standing streams", self.cx.links.watching(), crate::proto::links::WATCHES_MAX * 2),
            Size::limited("lives", self.lives.sizes().0, limits.members_max),
            Size::limited("challenges", self.lives.sizes().1, crate::proto::lives::CHALLENGES_MAX),
            Size::limited("looks", self.looks.len(), crate::proto::looks::LOOKS_MAX),
            Size::limited("bytes queued for a stream", backlog, limits.stream_backlog_bytes_max),
            Size::limited("rumours", self.cx.gossip.len(), crate::proto::outbox::RUMOURS_MAX),
            Size::limited("desired children", most(|scope| scope.children.desired()), limits.children_max),
            Size::counted("records", most(|scope| scope.children.desired() + scope.children.owned_len())),
            Size::counted("writers seen", most(|scope| scope.desired.seen().len() + scope.owned.seen().len())),
            Size::counted("ranges seen", most(|scope| scope.desired.seen().ranges() + scope.owned.seen().ranges())),
            Size::limited("waiting calls", most(Scope::calls_queued), limits.waiting_calls_max),
            Size::passing("children that start or move", self.cx.budget.taken()),
            Size::passing("children that wait to start or move", most(|scope| scope.held.len())),
            Size::passing("outputs", outputs),
            Size::passing("members that are still to be asked", self.cx.questions.len()),
            Size::passing("rounds", most(|scope| scope.children.count(Doing::Waiting))),
            Size::passing("rounds that have not asked", most(|scope| scope.to_ask.len())),
            Size::passing("children in no stable state", most(|scope| scope.children.unstable_len())),
            Size::passing("rounds that ask", most(|scope| scope.asking)),
            Size::passing("searches and direct messages", most(Scope::calls_pending)),
        ]
    }
}
