//! Whether this node hears anybody. One that hears nobody can't tell whether all others fell silent or only its own ears
//! did (a firewall, a cable, a process that stood still), and the others, who may hear it well, would have to refute what it
//! accuses them of.
//!
//! May not: know who the others are, or accuse anybody.

use std::time::Duration;

use super::Time;
use crate::config::Profile;

/// Signs of life in a row without any datagram at all: where two or more others live, each of them says something within
/// that time, and of what they say a tenth may be lost.
const SILENT_PULSES: u32 = 3;

/// For so many suspicions a node that hears nobody holds its judgement back: longer than most networks are broken in one
/// direction, and than it takes those others to give it up that get no answers from it. If they are all gone it has to take
/// over in the end.
const SUSPICIONS: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(crate) struct Hearing {
    /// From when on this node hears nobody, unless it hears somebody before.
    deaf_from: Time,
    silence_max: Duration,
}

impl Hearing {
    pub(crate) fn new(now: Time, profile: Profile) -> Self {
        let silence_max = profile.pulse_period() * SILENT_PULSES;
        Hearing { deaf_from: now + silence_max, silence_max }
    }

    /// A datagram came that was believed.
    pub(crate) fn heard(&mut self, now: Time) {
        self.deaf_from = now + self.silence_max;
    }

    /// This process stood still: whom it heard before counts no more.
    pub(crate) fn restart(&mut self, now: Time) {
        self.deaf_from = now;
    }

    /// Whether nobody was heard for longer than it takes others to say something, and not for so long that they are more
    /// likely gone. A suspicion lasts `suspicion_max` at most.
    pub(crate) fn withholds_judgement(&self, now: Time, suspicion_max: Duration) -> bool {
        now >= self.deaf_from && now.since(self.deaf_from) < suspicion_max * SUSPICIONS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    /// Goal: judgement is held back from when nobody was heard for three signs of life until three suspicions later, and at
    /// once after a pause; whatever is heard ends it.
    #[test]
    fn who_hears_nobody_holds_back_for_three_suspicions() {
        let mut hearing = Hearing::new(at(0), Profile::Lan);
        let withholds = |hearing: &Hearing, millis| hearing.withholds_judgement(at(millis), Duration::from_secs(4));
        assert!(!withholds(&hearing, 1_499) && withholds(&hearing, 1_500));
        assert!(withholds(&hearing, 13_499) && !withholds(&hearing, 13_500));
        hearing.heard(at(26_000));
        assert!(!withholds(&hearing, 27_499) && withholds(&hearing, 27_500));
        hearing.restart(at(60_000));
        assert!(withholds(&hearing, 60_000));
        hearing.heard(at(60_001));
        assert!(!withholds(&hearing, 60_001));
    }
}
