//! What root may do: listen to what members say to each other, and send in their names.

use std::io::{self, Read};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use haulout::BoxError;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const IP_HEADER_BYTES: usize = 20;
const UDP_HEADER_BYTES: usize = 8;

/// More than this is not kept.
const RECORDED_MAX: usize = 4_096;

/// How long the recorder waits for a packet before it looks whether it is to end.
const LISTEN: Duration = Duration::from_millis(50);

/// Keeps what members send to the victim.
pub(crate) struct Recorder {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Recorder {
    /// Listens until [`packets`](Self::packets) is called. Fails where this process may not.
    #[allow(clippy::disallowed_methods, reason = "the attacker shares no thread with the client that is measured")]
    pub(crate) fn start(victim: SocketAddr, members: Vec<SocketAddr>) -> io::Result<Recorder> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP))?;
        socket.set_read_timeout(Some(LISTEN))?;
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let thread = std::thread::spawn(move || record(socket, victim, &members, &seen));
        Ok(Recorder { ended, thread })
    }

    /// What was sent to the victim so far.
    pub(crate) fn packets(self) -> Result<Vec<Vec<u8>>, BoxError> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the recorder panicked".into())
    }
}

fn record(mut socket: Socket, victim: SocketAddr, members: &[SocketAddr], ended: &AtomicBool) -> Vec<Vec<u8>> {
    let mut recorded = Vec::new();
    let mut packet = vec![0; 65_536];
    while !ended.load(Ordering::Relaxed) && recorded.len() < RECORDED_MAX {
        let Ok(length) = socket.read(&mut packet) else { continue };
        let Some((ports, payload)) = udp_of(&packet[..length]) else { continue };
        if ports.1 == victim.port() && members.iter().any(|member| member.port() == ports.0) {
            recorded.push(payload.to_vec());
        }
    }
    recorded
}

/// The ports of an IPv4 packet and what it carries.
fn udp_of(packet: &[u8]) -> Option<((u16, u16), &[u8])> {
    let header_bytes = usize::from(packet.first()? & 15) * 4;
    let (udp, payload) = packet.get(header_bytes..)?.split_at_checked(UDP_HEADER_BYTES)?;
    Some(((u16::from_be_bytes([udp[0], udp[1]]), u16::from_be_bytes([udp[2], udp[3]])), payload))
}

/// Sends datagrams in the name of any address.
pub(crate) struct Spoofer {
    socket: Socket,
    to: SocketAddrV4,
    packet: Vec<u8>,
}

impl Spoofer {
    /// Fails where this process may not.
    pub(crate) fn new(to: SocketAddrV4) -> io::Result<Spoofer> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP))?;
        socket.set_header_included_v4(true)?;
        // It hears every datagram of this machine, and reads none.
        socket.set_recv_buffer_size(1)?;
        Ok(Spoofer { socket, to, packet: Vec::new() })
    }

    /// The kernel fills in the checksum and the lengths of the IP header; UDP may go without one.
    pub(crate) fn send(&mut self, from: SocketAddrV4, payload: &[u8]) -> io::Result<usize> {
        const VERSION_AND_WORDS: u8 = 4 << 4 | (IP_HEADER_BYTES / 4) as u8;
        const TTL: u8 = 64;
        const UDP: u8 = 17;
        let length = (UDP_HEADER_BYTES + payload.len()) as u16;
        self.packet.clear();
        self.packet.extend([VERSION_AND_WORDS, 0, 0, 0, 0, 0, 0, 0, TTL, UDP, 0, 0]);
        self.packet.extend(from.ip().octets());
        self.packet.extend(self.to.ip().octets());
        for field in [from.port(), self.to.port(), length, 0] {
            self.packet.extend(field.to_be_bytes());
        }
        self.packet.extend_from_slice(payload);
        self.socket.send_to(&self.packet, &SockAddr::from(self.to))
    }
}
