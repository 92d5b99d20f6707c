//! How much a node does at once. A bulk start, a failover or a cold start of the whole cluster would otherwise begin
//! thousands of slow `init`s together, and a join would stop thousands of children before their new owner can start
//! them.

/// Places for children that start here, or that were asked to stop elsewhere so that they may.
#[derive(Debug)]
pub(crate) struct Budget {
    max: usize,
    taken: usize,
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
        Budget { max, taken: 0, queued: 0, is_granting: false }
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

    /// How many rounds of a scope may ask at once.
    pub(crate) fn rounds_max(&self) -> usize {
        (Self::ROUNDS_PER_PLACE * self.max.saturating_sub(self.taken)).max(Self::ROUNDS_MIN)
    }
}
