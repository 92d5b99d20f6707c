//! How well this node is itself, as far as it can tell: whoever hears late finds others silent that are not (Lifeguard's
//! local health, Dadgar et al. 2018).
//!
//! May not: know of anybody else.

/// The worst that a node thinks of itself. What it waits for takes four times as long then, and it is well again some ten
/// seconds after its last mistake; more would leave its probes to others for a minute.
const WORST: u32 = 3;

/// A counter that saturates on both sides; 0 is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health(u32);

impl Health {
    /// A sign that this node is unwell: it was woken late, accused somebody who lives, or was accused itself.
    pub(crate) fn worsen(&mut self) {
        self.0 = (self.0 + 1).min(WORST);
    }

    /// A sign that it is not: a probe was answered in time.
    pub(crate) fn improve(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// How many times as long as usual it waits before it accuses somebody.
    pub(crate) fn factor(self) -> u32 {
        1 + self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_saturates_on_both_sides() {
        let mut health = Health::default();
        health.improve();
        assert_eq!(health.factor(), 1);
        (0..100).for_each(|_| health.worsen());
        assert_eq!(health.factor(), 4);
        (0..3).for_each(|_| health.improve());
        assert_eq!(health, Health::default());
    }
}
