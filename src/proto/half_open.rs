//! Accepted streams whose other end has not shaken hands.
//!
//! They are bounded apart from all others, and whoever comes when there are too many takes the place of the one that has
//! waited longest: a member says its Hello at once, so one that has said nothing for a while is none. Refusing the newest
//! instead would let somebody who opens streams and says nothing keep every member out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::ConnId;
use super::sources::host_of;

/// Half-open streams, at most. Members that dial at once when a large cluster starts need fewer: each handshake takes a round
/// trip, and a place is free again when it is over.
pub const HALF_OPEN_MAX: usize = 256;

/// Of one network address, at most: a quarter, so that one host alone pushes nobody else out.
const HALF_OPEN_PER_HOST_MAX: usize = HALF_OPEN_MAX / 4;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct HalfOpen {
    /// In the order in which they came.
    hosts: BTreeMap<ConnId, IpAddr>,
    /// The same for each host.
    by_host: BTreeMap<IpAddr, BTreeSet<ConnId>>,
}

impl HalfOpen {
    /// Somebody opened a stream; the one that has to make room for it.
    pub(crate) fn insert(&mut self, conn: ConnId, from: SocketAddr) -> Option<ConnId> {
        let host = host_of(from);
        let of_host = self.by_host.entry(host).or_default();
        let oldest_of_host = of_host.first().copied().filter(|_| of_host.len() >= HALF_OPEN_PER_HOST_MAX);
        let oldest = || self.hosts.first_key_value().map(|(&conn, _)| conn);
        let evicted = oldest_of_host.or_else(|| oldest().filter(|_| self.hosts.len() >= HALF_OPEN_MAX));
        of_host.insert(conn);
        self.hosts.insert(conn, host);
        evicted
    }

    /// A stream is open, or gone.
    pub(crate) fn remove(&mut self, conn: ConnId) {
        let Some(host) = self.hosts.remove(&conn) else { return };
        if let Some(of_host) = self.by_host.get_mut(&host) {
            of_host.remove(&conn);
            if of_host.is_empty() {
                self.by_host.remove(&host);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(host: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, (host / 256) as u8, (host % 256) as u8], 40_000))
    }

    #[test]
    fn the_one_that_has_waited_longest_makes_room() {
        let mut half_open = HalfOpen::default();
        for n in 0..HALF_OPEN_MAX {
            assert_eq!(half_open.insert(ConnId::accepted(n as u64), addr(n)), None);
        }
        let newest = ConnId::accepted(HALF_OPEN_MAX as u64);
        let evicted = half_open.insert(newest, addr(HALF_OPEN_MAX));
        assert_eq!(evicted, Some(ConnId::accepted(0)));
        half_open.remove(ConnId::accepted(0));
        assert_eq!(half_open.len(), HALF_OPEN_MAX);
    }

    #[test]
    fn one_host_pushes_only_itself_out() {
        let mut half_open = HalfOpen::default();
        half_open.insert(ConnId::accepted(0), addr(7));
        for n in 1..10 * HALF_OPEN_MAX {
            let evicted = half_open.insert(ConnId::accepted(n as u64), addr(8));
            assert_ne!(evicted, Some(ConnId::accepted(0)));
            evicted.into_iter().for_each(|evicted| half_open.remove(evicted));
        }
        assert_eq!(half_open.len(), 1 + HALF_OPEN_PER_HOST_MAX);
    }
}
