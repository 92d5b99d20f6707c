//! How many datagrams of each source are deciphered although nothing is known of the life that they name.
//!
//! Whoever has no key can make such datagrams up as fast as a line carries them, and each would cost the checking of its
//! tag. What names a life that is known, or that members vouch for, is not limited here: a source address proves
//! nothing, and whoever forges a member's must not silence that member. So only newcomers can be held up, at addresses
//! that somebody forges; they shake hands on a stream, and are known then.
//!
//! The table has as many places as it ever will. Sources that share a place share what it allows.

use std::net::{IpAddr, SocketAddr};

use twox_hash::XxHash3_64;

use super::allowance::Allowance;
use super::{InstanceId, Time};

/// For each place, per second: a host full of nodes that all come at once sends fewer, and all places together cost a node
/// less than a twentieth of a processor.
pub(crate) const UNKNOWN_PER_SECOND_MAX: usize = 256;
const PLACES: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Sources {
    places: Vec<Allowance>,
    /// Other nodes have other sources share a place.
    seed: u64,
}

impl Sources {
    pub(crate) fn new(me: InstanceId, now: Time) -> Self {
        Sources { places: vec![Allowance::per_second(UNKNOWN_PER_SECOND_MAX, now); PLACES], seed: me.get() }
    }

    /// Whether one more datagram is deciphered that came from here.
    pub(crate) fn admits(&mut self, now: Time, from: SocketAddr) -> bool {
        let hash = match host_of(from) {
            IpAddr::V4(ip) => XxHash3_64::oneshot_with_seed(self.seed, &ip.octets()),
            IpAddr::V6(ip) => XxHash3_64::oneshot_with_seed(self.seed, &ip.octets()),
        };
        self.places[(hash % PLACES as u64) as usize].allows(now)
    }
}

/// Who may be one sender: of IPv6 the network, because whoever has one has all of its addresses.
pub(crate) fn host_of(addr: SocketAddr) -> IpAddr {
    const NETWORK_BITS: u128 = !0 << 64;
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() & NETWORK_BITS).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn addr(host: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, (host / 256) as u8, (host % 256) as u8], 40_000))
    }

    /// Goal: one source uses up nobody's share but that of the few that share its place, and all together have a bound.
    /// Method: one that sends without end, then a hundred that send a little, then a thousand that send without end.
    #[test]
    fn each_source_has_a_bounded_share_and_so_have_all_together() {
        let mut sources = Sources::new(InstanceId::new(7), Time::ZERO);
        let mut admitted = |hosts: std::ops::Range<usize>, each: usize, now: Time| {
            let count = |host| (0..each).filter(|_| sources.admits(now, addr(host))).count();
            hosts.map(count).sum::<usize>()
        };
        assert_eq!(admitted(0..1, 10_000, Time::ZERO), UNKNOWN_PER_SECOND_MAX);
        assert!(admitted(1..101, 1, Time::ZERO) > 90);
        let later = Time::ZERO + Duration::from_secs(1);
        assert_eq!(admitted(0..1_000, 1_000, later), PLACES * UNKNOWN_PER_SECOND_MAX);
    }

    /// Goal and method: addresses that one sender may well have are one source, others are not.
    #[test]
    fn a_network_of_ipv6_is_one_host() {
        let of = |text: &str| host_of(text.parse().unwrap());
        assert_eq!(of("[2001:db8:0:1::1]:1"), of("[2001:db8:0:1:ffff::2]:2"));
        assert_ne!(of("[2001:db8:0:1::1]:1"), of("[2001:db8:0:2::1]:1"));
        assert_eq!(of("[::ffff:10.0.0.1]:1"), of("10.0.0.1:2"));
    }
}
