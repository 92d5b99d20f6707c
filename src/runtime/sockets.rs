//! Opening the two sockets of a node, UDP and TCP on one port.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::StartNodeError;

/// Streams that wait to be accepted.
const LISTEN_BACKLOG: i32 = 1_024;

/// How often a free TCP port is looked for whose UDP twin is free too.
const PORT_ATTEMPTS: usize = 32;

/// The open sockets of a node.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) datagrams: UdpSocket,
    pub(super) listener: TcpListener,
    /// Where they are, with the port that was chosen.
    pub(super) addr: SocketAddr,
    /// How much the kernel lets wait to be read.
    pub(super) datagram_buffer_bytes: usize,
}

/// Opens both sockets at `bind`, with room for so many bytes of datagrams if the kernel grants it; with port 0, at some port
/// that is free for both.
pub(super) fn open(bind: SocketAddr, buffer_bytes: usize) -> Result<Sockets, StartNodeError> {
    let attempts = if bind.port() == 0 { PORT_ATTEMPTS } else { 1 };
    let mut result = open_once(bind, buffer_bytes);
    for _ in 1..attempts {
        match result {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => result = open_once(bind, buffer_bytes),
            _ => break,
        }
    }
    result.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartNodeError::AddressInUse { addr: bind },
        _ => StartNodeError::Bind { addr: bind, source },
    })
}

fn open_once(bind: SocketAddr, buffer_bytes: usize) -> io::Result<Sockets> {
    let listener = listen(bind)?;
    let addr = listener.local_addr()?;
    let datagrams = datagrams(addr, buffer_bytes)?;
    let granted = datagrams.recv_buffer_size()?;
    // Linux answers with what it takes for its own records too, which is the double.
    let datagram_buffer_bytes = if cfg!(target_os = "linux") { granted / 2 } else { granted };
    Ok(Sockets { datagrams: datagrams.into(), listener, addr, datagram_buffer_bytes })
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // Lets a restarted node have its port back while old connections are in TIME_WAIT. Elsewhere than on Unix the
    // option would let two live processes share a port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

fn datagrams(addr: SocketAddr, buffer_bytes: usize) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    // Large buffers are a wish: a system that grants less is still usable.
    let _ = socket.set_recv_buffer_size(buffer_bytes);
    let _ = socket.set_send_buffer_size(buffer_bytes);
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(bind: SocketAddr) -> Result<Sockets, StartNodeError> {
        super::open(bind, 64 << 10)
    }

    /// Goal: what is asked for is what datagrams may fill, or whoever looks sees how much less it is. Method: little, which
    /// every kernel grants, and more than any does.
    #[test]
    fn buffers_are_as_large_as_the_kernel_grants() {
        assert_eq!(super::open(ANY_PORT, 64 << 10).unwrap().datagram_buffer_bytes, 64 << 10);
        assert!(super::open(ANY_PORT, 1 << 30).unwrap().datagram_buffer_bytes < 1 << 30);
    }

    const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn a_free_port_is_the_same_for_both_sockets() {
        let sockets = open(ANY_PORT).unwrap();
        assert_ne!(sockets.addr.port(), 0);
        assert_eq!(sockets.datagrams.local_addr().unwrap(), sockets.addr);
        assert_eq!(sockets.listener.local_addr().unwrap(), sockets.addr);
    }

    #[test]
    fn a_port_that_another_node_has_is_refused_by_name() {
        let first = open(ANY_PORT).unwrap();
        let error = open(first.addr).unwrap_err();
        assert!(matches!(error, StartNodeError::AddressInUse { addr } if addr == first.addr), "{error:?}");
        assert!(error.to_string().contains(&first.addr.to_string()), "{error}");
    }

    #[test]
    fn a_port_that_is_taken_for_udp_only_is_refused_and_tcp_is_given_back() {
        let udp = UdpSocket::bind(ANY_PORT).unwrap();
        let addr = udp.local_addr().unwrap();
        assert!(matches!(open(addr), Err(StartNodeError::AddressInUse { .. })));
        drop(udp);
        assert_eq!(open(addr).unwrap().addr, addr);
    }

    #[test]
    fn an_address_of_another_machine_says_what_to_change() {
        let elsewhere = SocketAddr::from(([192, 0, 2, 1], 0));
        let error = open(elsewhere).unwrap_err();
        assert!(matches!(error, StartNodeError::Bind { .. }), "{error:?}");
        assert!(error.to_string().contains("set bind to"), "{error}");
    }
}
