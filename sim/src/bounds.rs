//! Every bound in time that a run is judged by, computed from the configuration in this one place, each with its
//! reason.

use std::time::Duration;

use haulout::Config;

use crate::network::Link;

/// Those who believe each other down try again every 5 s in clusters of up to 32, every 15 s in larger ones (the
/// periodic announcement to members that are down), and each try is a draw among those that are down.
const DOWN_RETRY_SMALL: Duration = Duration::from_secs(5);
const DOWN_RETRY_LARGE: Duration = Duration::from_secs(15);
const SMALL_NODES_MAX: usize = 32;

/// A process that finds another one at its address stays silent for so long, before it tries again.
pub(crate) const CONFLICT_PAUSE: Duration = Duration::from_secs(60);

/// The bounds in time that follow from a configuration, a size and the links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How long a fault may have consequences after its end: a suspicion that it caused may still end in a Down after
    /// it, twice where the news of the refutation is late, and those who then believe each other down try again only
    /// now and then.
    pub reach: Duration,
    /// How long two nodes that can talk may take to tell each other everything: they first have to hold each other as
    /// members again, then a few rounds of the safety net find what still differs.
    pub telling: Duration,
    /// How long a duplicate may last from the first packet between the two on: until they hold each other as members
    /// and know each other's claims. The time that the child takes to stop comes on top.
    pub resolving: Duration,
    /// How long a healed cluster may go without progress: every way of finding out about each other once, one after
    /// the other, with room.
    pub healing: Duration,
    /// How long it may take in all, whatever the progress.
    pub healing_max: Duration,
    /// How long a converged cluster is watched to see that it rests: several rounds of the safety net.
    pub rest: Duration,
    /// How long after convergence jobs may still end and leaving nodes still go.
    pub aftermath: Duration,
    /// How long a newcomer may take to learn what others know: it waits that long for somebody who has settled.
    pub settling: Duration,
    /// How long a look at a member that may have crashed may take: twelve pauses, none longer than SWIM gives an answer.
    pub look: Duration,
    /// How long a permission to start may be used after it was given: its life, and what clocks may differ by in it.
    pub permission: Duration,
    /// The shortest first pause of a child that fails too often: jitter takes up to a quarter.
    pub backoff_min: Duration,
    /// Whether so few children may start at once that a restart may have to wait for its turn.
    pub are_starts_held: bool,
    /// The pause that doubling ends at, without its jitter.
    pub backoff_max: Duration,
}

impl Bounds {
    /// The bounds for so many nodes with this configuration, on these links.
    pub fn new(config: &Config, nodes: usize, link: Link) -> Self {
        let profile = config.profile;
        // SWIM gives a suspect more time in larger clusters, by the logarithm of their size.
        let log10 = f64::max(1.0, (nodes.max(1) as f64).log10().ceil());
        let suspicion = profile.suspect_to_down_after().mul_f64(log10) + profile.probe_period();
        let down_retry = if nodes <= SMALL_NODES_MAX { DOWN_RETRY_SMALL } else { DOWN_RETRY_LARGE };
        // A round trip of a slow link comes on top of every step; ten steps are more than any chain has.
        let travel = link.delay.max * 20;
        let reach = suspicion * 2 + down_retry * 2 + config.sync_interval + travel;
        let telling = reach + config.sync_interval * 4;
        let confirm = config.confirm_timeout.unwrap_or(suspicion);
        let timeouts = config.settle_timeout.unwrap_or_default()
            + config.leave_timeout
            + config.backoff_max.mul_f64(1.25)
            + confirm;
        // Probing goes round: a silent member is noticed when its turn comes.
        let probing = profile.probe_period() * 2 * (nodes as u32 + 4);
        let healing = reach * 2 + probing + timeouts + config.sync_interval * 8;
        Bounds {
            reach,
            telling,
            resolving: telling,
            healing,
            healing_max: healing * 4,
            rest: config.sync_interval * 3,
            aftermath: Duration::from_secs(10),
            settling: config.settle_timeout.unwrap_or_default(),
            look: profile.probe_rtt() * 12,
            permission: profile.ask_ttl() + Duration::from_millis(100),
            backoff_min: config.backoff_min.mul_f64(0.75),
            are_starts_held: config.limits.starting_max < haulout::Limits::default().starting_max,
            backoff_max: config.backoff_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use haulout::Profile;

    fn bounds(config: &Config, nodes: usize) -> Bounds {
        Bounds::new(config, nodes, Link::default())
    }

    /// Goal: bounds follow what they are made of. Method: each ingredient is raised on its own.
    #[test]
    fn a_slower_configuration_or_a_larger_cluster_has_longer_bounds() {
        let config = Config { profile: Profile::Local, ..Config::default() };
        let usual = bounds(&config, 5);
        let slower = [
            bounds(&Config { profile: Profile::Wan, ..config.clone() }, 5),
            bounds(&Config { sync_interval: Duration::from_secs(60), ..config.clone() }, 5),
            bounds(&config, 1_000),
        ];
        for slower in slower {
            assert!(slower.reach > usual.reach && slower.telling > usual.telling && slower.healing > usual.healing);
        }
        let patient = bounds(&Config { backoff_max: Duration::from_secs(600), ..config }, 5);
        assert!(patient.healing > usual.healing && patient.reach == usual.reach);
    }

    #[test]
    fn telling_takes_longer_than_a_fault_reaches_and_healing_longer_than_both() {
        let usual = bounds(&Config::default(), 10);
        assert!(usual.reach < usual.telling && usual.telling < usual.healing && usual.healing < usual.healing_max);
    }
}
