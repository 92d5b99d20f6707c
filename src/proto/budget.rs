//! How much a node does at once. A bulk start, a failover or a cold start of the whole cluster would otherwise begin
//! thousands of slow `init`s together, and a join would stop thousands of children before their new owner can start
//! them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{RunId, Time};

/// How long a start may take before it gives up its place. What hangs, mostly because what it depends on does, must not
/// hold up children that depend on something else; at the default budget no more than 51 of them join per second.
const SLOW_START: Duration = Duration::from_secs(5);

/// Places for children that start here, or that were asked to stop elsewhere so that they may.
#[derive(Debug)]
pub(crate) struct Budget {
    max: usize,
    taken: usize,
    /// The starts among those that took them, the longest first.
    starts: BTreeSet<(Time, RunId)>,
    /// Children that wait for a place, in all scopes.
    queued: usize,
    /// Whether the place that is free is being given to one that waits.
    is_granting: bool,
}

impl Budget {
    /// Rounds that may ask for each place that is free: most of what is asked for starts at once, and what has to wait
    /// for a place keeps asking, because permissions expire.
    const ROUNDS_PER_PLACE: usize = 8;
    /// Rounds of a scope that may ask even while no place is free, so that none comes late to the queue.
    const ROUNDS_MIN: usize = 8;

    pub(crate) fn new(max: usize) -> Self {
        Budget { max, taken: 0, starts: BTreeSet::new(), queued: 0, is_granting: false }
    }

    /// How many places there are.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Whether a place is free.
    pub(crate) fn has_room(&self) -> bool {
        self.taken < self.max
    }

    /// Whether somebody may take a place now: one is free, and nobody has waited for it longer.
    pub(crate) fn may_take(&self) -> bool {
        self.has_room() && (self.queued == 0 || self.is_granting)
    }

    /// Somebody waits for a place.
    pub(crate) fn queue(&mut self) {
        self.queued += 1;
    }

    /// Somebody who has waited may take a place, until [`granted`](Self::granted).
    pub(crate) fn grant(&mut self) {
        self.queued = self.queued.saturating_sub(1);
        self.is_granting = true;
    }

    /// Others may not any more.
    pub(crate) fn granted(&mut self) {
        self.is_granting = false;
    }

    /// Takes a place, whether one is free or not.
    pub(crate) fn take(&mut self) {
        self.taken += 1;
    }

    /// Gives a place back.
    pub(crate) fn give_back(&mut self) {
        debug_assert!(self.taken > 0, "a place is given back twice");
        self.taken = self.taken.saturating_sub(1);
    }

    /// A run takes a place for its start.
    pub(crate) fn start(&mut self, since: Time, run: RunId) {
        self.take();
        self.starts.insert((since, run));
    }

    /// The start is over; its place is free, unless it has given that up before.
    pub(crate) fn started(&mut self, since: Time, run: RunId) {
        if self.starts.remove(&(since, run)) {
            self.give_back();
        }
    }

    /// While somebody waits: takes places away from starts that take long. When to look again, if any is left.
    pub(crate) fn expire(&mut self, now: Time) -> Option<Time> {
        while !self.has_room()
            && self.queued > 0
            && let Some(&(since, run)) = self.starts.first()
        {
            let due = since + SLOW_START;
            if due > now {
                return Some(due);
            }
            self.started(since, run);
        }
        None
    }

    /// How many rounds of a scope may ask at once.
    pub(crate) fn rounds_max(&self) -> usize {
        (Self::ROUNDS_PER_PLACE * self.max.saturating_sub(self.taken)).max(Self::ROUNDS_MIN)
    }
}
