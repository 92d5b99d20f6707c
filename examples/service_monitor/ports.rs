//! Free ports, so that seeds are known before any node is started.

use std::hash::BuildHasher;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

/// Where ports are looked for: above those of well-known services, and below those that Linux gives to outgoing
/// connections, one of which could take a port before its node does.
const PORTS: std::ops::Range<u16> = 10_000..32_768;

/// So many ports on loopback, each free for UDP and TCP; two runs at the same time rarely find the same.
///
/// None is held: a process that is being spawned has copies of whatever its parent has open, for a moment even after
/// the spawn has returned, so a port held until just before its node is started would sometimes still be in use.
pub(crate) fn free_ports(count: usize) -> io::Result<Vec<SocketAddr>> {
    let span = usize::from(PORTS.end - PORTS.start);
    let from = (random() % span as u64) as usize;
    let around = PORTS.cycle().skip(from).take(span);
    let addrs = around.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let free: Vec<_> = addrs.filter(is_free).take(count).collect();
    match free.len() == count {
        true => Ok(free),
        false => Err(io::Error::new(io::ErrorKind::AddrInUse, format!("fewer than {count} ports are free"))),
    }
}

#[allow(clippy::disallowed_types, reason = "wanted just because it differs from process to process")]
fn random() -> u64 {
    std::hash::RandomState::new().hash_one(())
}

fn is_free(addr: &SocketAddr) -> bool {
    UdpSocket::bind(addr).is_ok() && TcpListener::bind(addr).is_ok()
}
