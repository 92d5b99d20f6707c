//! foca's parameters, by profile and by the size of the cluster.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::PeriodicParams;

use crate::config::Profile;
use crate::proto::packet::SWIM_BYTES_MAX;

/// Ghosts must stay known as dead for longer than any packet or partition can plausibly last.
pub(super) const REMOVE_DOWN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// SWIM's suspicion grows with the logarithm of the size; up to 10 members it is the profile's.
pub(super) fn suspicion_max(profile: Profile, class: u32) -> Duration {
    profile.suspect_to_down_after().mul_f64(f64::max(1.0, f64::from(class) * std::f64::consts::LOG10_2))
}

/// foca's parameters for a profile and a cluster of about `2^class` members.
pub(super) fn foca_config(profile: Profile, class: u32) -> foca::Config {
    let size = 1u64 << class;
    let members = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
    let down_interval = if size <= 32 { Duration::from_secs(5) } else { Duration::from_secs(15) };
    foca::Config {
        probe_period: profile.probe_period(),
        probe_rtt: profile.probe_rtt(),
        num_indirect_probes: members(3),
        // 12 to 16 for every size: fewer let updates die out under loss (measured), more only cost bytes.
        max_transmissions: NonZeroU8::new(15).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: suspicion_max(profile, class),
        remove_down_after: Some(REMOVE_DOWN_AFTER),
        max_packet_size: members(SWIM_BYTES_MAX),
        notify_down_members: true,
        periodic_announce: Some(PeriodicParams { frequency: Duration::from_secs(30), num_members: members(1) }),
        periodic_announce_to_down_members: Some(PeriodicParams { frequency: down_interval, num_members: members(2) }),
        periodic_gossip: Some(PeriodicParams { frequency: profile.gossip_interval(), num_members: members(3) }),
    }
}
