//! What came of it, and whether it is good enough.

use std::fmt;
use std::time::Duration;

use haulout::BoxError;

use crate::Plan;
use crate::datagrams::Sent;
use crate::figures::{quantile, show};

/// The first retry of a question whether a child may start: what a start may take longer for each datagram that was lost.
const ASK_RETRY: Duration = Duration::from_millis(10);

/// How much slower starts may be beside that.
const SLOWER_MAX: u32 = 10;

/// How much memory a flood may cost: full socket buffers are the kernel's, so this is queues and half-open streams.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

/// What must not happen, on all nodes together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    pub(crate) downs: u64,
    pub(crate) rejoins: u64,
    pub(crate) moved: u64,
    /// First lines of children that ran before.
    pub(crate) restarted: u64,
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) plan: Plan,
    pub(crate) sent: Sent,
    pub(crate) opened: u64,
    pub(crate) ended: u64,
    /// Datagrams that the victim has read, honest ones included.
    pub(crate) arrived: u64,
    /// Datagrams for which its socket had no room.
    pub(crate) dropped: u64,
    pub(crate) refused: Vec<(String, u64)>,
    /// How many processors the victim took, and how many the attacker with the client.
    pub(crate) busy: (f64, f64),
    pub(crate) resident_bytes: u64,
    pub(crate) resident_bytes_max: u64,
    /// How long starts took before the flood, and during it.
    pub(crate) calm: Vec<Duration>,
    pub(crate) flooded: Vec<Duration>,
    pub(crate) loss: Loss,
}

impl Report {
    fn p99(latencies: &[Duration]) -> Duration {
        quantile(latencies, 990)
    }

    fn bar(&self) -> Duration {
        ASK_RETRY + SLOWER_MAX * Report::p99(&self.calm)
    }

    fn growth_bytes(&self) -> u64 {
        self.resident_bytes_max.saturating_sub(self.resident_bytes)
    }

    /// Speed is only asked of a flood of the full size.
    ///
    /// # Errors
    /// Everything that was not good enough.
    pub(crate) fn verdict(&self) -> Result<(), BoxError> {
        let Loss { downs, rejoins, moved, restarted } = self.loss;
        let p99 = Report::p99(&self.flooded);
        let is_small = self.plan.datagrams_per_second < 100_000;
        let missed = [
            (downs > 0, format!("{downs} members were declared down")),
            (rejoins > 0, format!("{rejoins} members had to take a new identity")),
            (moved + restarted > 0, format!("{moved} children moved, {restarted} began anew")),
            (self.growth_bytes() > GROWTH_BYTES_MAX, format!("memory grew by {} B", self.growth_bytes())),
            (!is_small && p99 > self.bar(), format!("starts took {} (p99), not {}", show(p99), show(self.bar()))),
            (!is_small && self.sent.per_second() < 1e5, "fewer than 100000 datagrams per second were sent".into()),
        ];
        let missed: Vec<_> = missed.into_iter().filter(|(is_missed, _)| *is_missed).map(|(_, what)| what).collect();
        if missed.is_empty() { Ok(()) } else { Err(format!("MISSED: {}", missed.join("; ")).into()) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = &self.sent;
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let mode = if self.plan.is_keyed { "with a keyring" } else { "in plaintext" };
        writeln!(f, "a flood of {:?} against one of {} nodes {mode}", self.plan.flood, self.plan.nodes)?;
        writeln!(
            f,
            "forged datagrams       {} sent ({:.0}/s), {} in members' names, {} not taken by the kernel",
            sent.total(),
            sent.per_second(),
            sent.spoofed,
            sent.failed
        )?;
        writeln!(f, "  by kind              {:?}", sent.by_forgery)?;
        let offered = (self.arrived + self.dropped).max(1);
        writeln!(
            f,
            "arrived                {}; lost for want of room {} ({:.3} %, honest ones like forged ones)",
            self.arrived,
            self.dropped,
            self.dropped as f64 * 100.0 / offered as f64
        )?;
        writeln!(f, "half-open streams      {} opened, {} ended by the victim", self.opened, self.ended)?;
        writeln!(f, "refused by the victim  {:?}", self.refused)?;
        writeln!(
            f,
            "false Downs            {}, new identities {}; children moved {}, begun anew {}",
            self.loss.downs, self.loss.rejoins, self.loss.moved, self.loss.restarted
        )?;
        writeln!(
            f,
            "processors taken       {:.2} by the victim, {:.2} by attacker and client",
            self.busy.0, self.busy.1
        )?;
        writeln!(
            f,
            "resident set           {:.1} MiB before, {:.1} MiB at most",
            mebibytes(self.resident_bytes),
            mebibytes(self.resident_bytes_max)
        )?;
        for (when, latencies) in [("without", &self.calm), ("with", &self.flooded)] {
            let (median, p99) = (quantile(latencies, 500), Report::p99(latencies));
            let count = latencies.len();
            writeln!(f, "starts {when:7} flood   median {}, p99 {}, of {count}", show(median), show(p99))?;
        }
        writeln!(f, "  asked of p99         <= {} (ask_retry + 10 x p99 without)", show(self.bar()))
    }
}
