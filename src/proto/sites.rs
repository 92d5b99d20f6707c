//! Fault sites: named places in the protocol where a simulated node does, now and then, what is allowed but rare
//! (FoundationDB's BUGGIFY).
//!
//! Each is harmless to every promise by the protocol's own argument, which the documentation of each names; what breaks
//! at one is a bug. Without the feature `simulation` none ever fires: [`Sites::fires`] is `false` to the compiler.
//! The sites draw from streams of their own, one per site, so that switching one on shifts neither the others nor
//! anything else that the node draws.

use std::time::Duration;

use super::InstanceId;
use super::hash::fmix64;
use super::named::named;
use super::shared::Alarm;

named! {
/// A place where a simulated node may behave unusually.
pub enum Site {
    /// An alarm rings early: whoever is woken looks whether there is something to do. Not the end of a backoff or of a
    /// search, which is promised, nor a look that is remembered as set.
    EarlyTimer,
    /// An alarm rings up to a quarter late, as on a busy machine.
    LateTimer,
    /// A batch leaves with one message per packet: every packet makes sense on its own.
    SingleBatch,
    /// A batch takes a stream although it would fit into a datagram.
    StreamBatch,
    /// Another member's root is looked at as if it differed, so that equal states are compared.
    NeedlessPull,
    /// A pull asks for everything, as if no sum below the root were equal.
    FullExchange,
    /// What a pull tells is cut into the smallest chunks.
    SmallChunk,
    /// A pull is given up in the middle: what it took stays, nothing is adopted.
    AbortPull,
    /// A pull is refused as if too many were being served.
    BusyExchange,
    /// Fresh records and roots are left out of a SWIM packet: anti-entropy tells them later.
    DropPiggyback,
    /// A stream that has been idle for a second is closed.
    CloseStream,
    /// The measured time from an Ask to its answer is forgotten, so that Asks are repeated too early or too late.
    ForgetRtt,
    /// An answer waits for the table of its sender, as if the members differed.
    DeferAnswer,
    /// A first Ask goes through two other members too.
    RelayAtOnce,
    /// The caller gets what is to be done in two portions, the second one with the next input, which comes at once.
    SplitOutputs,
}
}

const SITES: usize = Site::ALL.len();

/// Which fault sites are switched on, and how often they fire. The default, and the only thing for production: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultSites {
    /// Thresholds below which a draw fires.
    chances: [u64; SITES],
    seed: u64,
}

impl FaultSites {
    /// No sites yet; those that are added draw from this seed. Every instance draws differently.
    pub fn seeded(seed: u64) -> Self {
        FaultSites { seed, ..FaultSites::default() }
    }

    /// This site fires with this probability, 0 to 1, each time it is passed.
    ///
    /// Above about 0.5 pulls may be given up or refused for ever.
    #[must_use]
    pub fn with(mut self, site: Site, probability: f64) -> Self {
        // A cast of a float saturates, so that 1 means always, but for one draw in 2^64.
        self.chances[site as usize] = (probability * (1u128 << 64) as f64) as u64;
        self
    }

    /// The same sites with another seed.
    #[must_use]
    pub fn reseeded(self, seed: u64) -> Self {
        FaultSites { seed, ..self }
    }

    /// How likely a site fires.
    pub fn probability(&self, site: Site) -> f64 {
        self.chances[site as usize] as f64 / (1u128 << 64) as f64
    }

    /// Whether no site is switched on.
    pub fn is_empty(&self) -> bool {
        self.chances.iter().all(|chance| *chance == 0)
    }
}

/// How much of the outputs the caller gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Portion {
    /// All, unless the site fires.
    #[default]
    Any,
    /// No more until the next input.
    Withheld,
    /// The rest, whole.
    Rest,
}

/// The fault sites of one node.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    plan: FaultSites,
    drawn: [u64; SITES],
    fired: [u64; SITES],
    portion: Portion,
}

impl Sites {
    pub(crate) fn new(plan: FaultSites, instance: InstanceId) -> Self {
        let plan = plan.reseeded(fmix64(plan.seed ^ fmix64(instance.get())));
        Sites { plan, ..Sites::default() }
    }

    /// Whether a site fires now.
    #[inline]
    pub(crate) fn fires(&mut self, site: Site) -> bool {
        if !cfg!(feature = "simulation") || self.plan.chances[site as usize] == 0 {
            return false;
        }
        let fires = self.draw(site) < self.plan.chances[site as usize];
        self.fired[site as usize] += u64::from(fires);
        fires
    }

    fn draw(&mut self, site: Site) -> u64 {
        let drawn = &mut self.drawn[site as usize];
        *drawn += 1;
        fmix64(fmix64(self.plan.seed ^ (site as u64) << 56).wrapping_add(*drawn))
    }

    fn fraction(&mut self, site: Site) -> f64 {
        (self.draw(site) >> 40) as f64 / (1u64 << 24) as f64
    }

    /// How often each site fired.
    pub(crate) fn fired(&self) -> impl Iterator<Item = (Site, u64)> + use<> {
        Site::ALL.into_iter().zip(self.fired)
    }

    /// After how long an alarm rings that was to ring after this time.
    pub(crate) fn ring_after(&mut self, after: Duration, alarm: &Alarm) -> Duration {
        /// Never earlier: an alarm that is set again for what remains must not ring for ever in one instant.
        const EARLIEST: Duration = Duration::from_millis(1);
        let may_be_early = matches!(
            alarm,
            Alarm::Ask(..) | Alarm::Direct(..) | Alarm::Sync | Alarm::Gossip | Alarm::Settle(_) | Alarm::Sweep
        );
        if may_be_early && self.fires(Site::EarlyTimer) {
            after.mul_f64(self.fraction(Site::EarlyTimer)).max(EARLIEST).min(after)
        } else if self.fires(Site::LateTimer) {
            after.mul_f64(1.0 + self.fraction(Site::LateTimer) / 4.0)
        } else {
            after
        }
    }

    /// Whether the next output has to wait for the next input. Never where news for the users are among them: what
    /// they say happened must not seem to have happened after what it caused elsewhere.
    #[inline]
    pub(crate) fn withholds_output(&mut self, holds_news: impl FnOnce() -> bool) -> bool {
        if self.portion == Portion::Any && self.fires(Site::SplitOutputs) && !holds_news() {
            self.portion = Portion::Withheld;
        }
        self.is_withholding()
    }

    /// Whether outputs wait for the next input, which must then come at once.
    #[inline]
    pub(crate) fn is_withholding(&self) -> bool {
        cfg!(feature = "simulation") && self.portion == Portion::Withheld
    }

    /// An input has come.
    #[inline]
    pub(crate) fn release_outputs(&mut self) {
        if self.is_withholding() {
            self.portion = Portion::Rest;
        }
    }

    /// Every output was taken.
    #[inline]
    pub(crate) fn outputs_taken(&mut self) {
        self.portion = Portion::Any;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_named_in_kebab_case_and_found_in_any_spelling() {
        assert_eq!(Site::FullExchange.to_string(), "full-exchange");
        for spelling in ["full-exchange", "FullExchange", "full_exchange"] {
            assert_eq!(spelling.parse(), Ok(Site::FullExchange));
        }
        assert!("full".parse::<Site>().expect_err("no such site").contains("abort-pull"));
        assert!(Site::ALL.iter().all(|site| site.statement().ends_with('.')));
        assert_eq!(Site::CloseStream.statement(), "A stream that has been idle for a second is closed.");
    }

    /// Goal: a site fires as often as asked, never by default, and is not shifted by others. Method: count draws with
    /// and without another site between them. Without the feature nothing may fire.
    #[test]
    fn a_site_fires_as_often_as_asked_and_by_itself() {
        let me = InstanceId::new(7);
        let mut alone = Sites::new(FaultSites::seeded(1).with(Site::AbortPull, 0.25), me);
        let plan = FaultSites::seeded(1).with(Site::AbortPull, 0.25).with(Site::EarlyTimer, 1.0);
        let mut beside = Sites::new(plan, me);
        for _ in 0..10_000 {
            let fires = alone.fires(Site::AbortPull);
            assert_eq!(beside.fires(Site::EarlyTimer), cfg!(feature = "simulation"));
            assert_eq!(beside.fires(Site::AbortPull), fires);
            assert!(!alone.fires(Site::EarlyTimer));
        }
        let fired: u64 = alone.fired().map(|(_, count)| count).sum();
        if cfg!(feature = "simulation") {
            assert!((2_300..2_700).contains(&fired))
        } else {
            assert_eq!(fired, 0)
        }
        assert_eq!(plan.probability(Site::AbortPull), 0.25);
        assert!(FaultSites::default().is_empty() && !plan.is_empty());
    }
}
