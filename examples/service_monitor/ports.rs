//! Free ports, so that seeds are known before any node is started.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// A free port on loopback, kept from others until it is dropped.
pub(crate) struct ReservedPort {
    udp: UdpSocket,
    _tcp: TcpListener,
}

impl ReservedPort {
    /// One that is free for UDP and TCP.
    pub(crate) fn new() -> io::Result<Self> {
        // A port that is free for UDP is rarely taken for TCP; then another one is tried.
        let mut tries = 0;
        loop {
            let udp = UdpSocket::bind(("127.0.0.1", 0))?;
            match TcpListener::bind(udp.local_addr()?) {
                Ok(tcp) => return Ok(ReservedPort { udp, _tcp: tcp }),
                Err(error) if tries == 20 => return Err(error),
                Err(_) => tries += 1,
            }
        }
    }

    pub(crate) fn addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}
