//! A swarm run: a seed decides what the cluster is like, which faults happen and what users call. Then everything
//! heals, and within a computed bound every promise must hold.

mod driver;
mod options;
mod verdict;

use std::fmt;
use std::time::Duration;

pub use options::{SwarmFault, SwarmOptions};

use crate::trace::{Digest, seconds};

/// What a swarm run that kept every promise was like.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The digest of everything that happened.
    pub digest: Digest,
    /// How much happened.
    pub events: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Frames sent on streams.
    pub frames: u64,
    /// Virtual time.
    pub simulated: Duration,
    /// Virtual time from healing to convergence.
    pub converged_in: Duration,
    /// How many faults, crashes and leaves included.
    pub faults: usize,
    /// How many runs of children.
    pub runs: usize,
    /// How many children run at the end.
    pub children: usize,
    /// How many overlaps there were, all explained by faults.
    pub overlaps: usize,
    /// For how long children ran twice.
    pub duplicate: Duration,
    /// For how long children ran nowhere between two runs.
    pub orphan: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PASSED seed={} simulated={} converged_in={} events={} datagrams={} frames={} faults={} runs={} children={} \
             overlaps={} duplicate={} orphan={} digest={}",
            self.seed,
            seconds(self.simulated),
            seconds(self.converged_in),
            self.events,
            self.datagrams,
            self.frames,
            self.faults,
            self.runs,
            self.children,
            self.overlaps,
            seconds(self.duplicate),
            seconds(self.orphan),
            self.digest,
        )
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// Which promise.
    pub invariant: &'static str,
    /// When it was seen, from the beginning.
    pub at: Duration,
    /// What was seen.
    pub detail: String,
    /// The digest up to there.
    pub digest: Digest,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, invariant, detail, digest, .. } = self;
        write!(f, "FAILED {invariant} seed={seed} t={} digest={digest}: {detail}", seconds(self.at))
    }
}

impl std::error::Error for Failure {}

/// Runs one seed.
///
/// # Errors
/// The first promise that was broken.
///
/// # Panics
/// If a node does: a broken invariant of its own, a livelock, an answer to nobody.
pub fn swarm(seed: u64, options: SwarmOptions) -> Result<Report, Box<Failure>> {
    let mut driver = driver::Driver::new(seed, options);
    driver.unrest();
    driver.heal();
    verdict::judge(driver.cluster, &driver.options, seed, &driver.startup)
}
