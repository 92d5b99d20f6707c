//! The flood of datagrams: a thread that sends forgeries at a steady rate.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use haulout::BoxError;

use crate::clock;
use crate::forge::{Forger, Forgery};
use crate::raw::Spoofer;

/// From so many addresses on loopback, beside those of members.
const SOURCES: usize = 64;

/// One datagram in so many is sent in a member's name, where that is allowed.
const SPOOFED_ONE_IN: usize = 4;

/// The attacker gives way to the attacked, as if it had a machine of its own.
const NICENESS: i32 = 10;

/// How much is sent before the thread looks at the clock.
const BURST: u64 = 50;

/// How long it rests when it is ahead.
const REST: Duration = Duration::from_micros(200);

/// What was sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) by_forgery: BTreeMap<Forgery, u64>,
    pub(crate) spoofed: u64,
    /// What the kernel did not take.
    pub(crate) failed: u64,
    pub(crate) nanos: u64,
}

impl Sent {
    pub(crate) fn total(&self) -> u64 {
        self.by_forgery.values().sum()
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.total() as f64 * 1e9 / self.nanos.max(1) as f64
    }
}

/// A flood that is under way.
pub(crate) struct Datagrams {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Sent>,
}

impl Datagrams {
    /// Sends so many per second to an address on loopback, until [`end`](Self::end) is called.
    #[allow(clippy::disallowed_methods, reason = "the attacker shares no thread with the client that is measured")]
    pub(crate) fn start(to: SocketAddrV4, per_second: u64, forger: Forger) -> io::Result<Datagrams> {
        let sources = (0..SOURCES).map(source).collect::<io::Result<Vec<_>>>()?;
        let spoofer = Spoofer::new(to).ok();
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let mut flood = Flood { to, forger, sources, spoofer, packet: Vec::new(), sent: Sent::default() };
        let thread = std::thread::spawn(move || {
            // Refused where niceness can't be changed: the flood is then only harder.
            let _ = rustix::process::nice(NICENESS);
            flood.run(per_second, &seen);
            flood.sent
        });
        Ok(Datagrams { ended, thread })
    }

    pub(crate) fn end(self) -> Result<Sent, BoxError> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the flood panicked".into())
    }
}

fn source(number: usize) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 1, (number / 8) as u8, 1 + number as u8), 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

struct Flood {
    to: SocketAddrV4,
    forger: Forger,
    sources: Vec<UdpSocket>,
    spoofer: Option<Spoofer>,
    packet: Vec<u8>,
    sent: Sent,
}

impl Flood {
    #[allow(clippy::disallowed_methods, reason = "it waits for nothing, it keeps a pace")]
    fn run(&mut self, per_second: u64, ended: &AtomicBool) {
        let began = clock::now();
        let mut tried = 0;
        while !ended.load(Ordering::Relaxed) {
            let elapsed = clock::now() - began;
            if tried >= elapsed * per_second / 1_000_000_000 {
                std::thread::sleep(REST);
                continue;
            }
            for _ in 0..BURST {
                self.send_one();
            }
            tried += BURST;
        }
        self.sent.nanos = clock::now() - began;
    }

    fn send_one(&mut self) {
        let forgery = self.forger.forge(&mut self.packet);
        let spoofs = self.forger.random().below(SPOOFED_ONE_IN) == 0;
        let source = self.forger.random().below(self.sources.len());
        let result = match (&mut self.spoofer, self.forger.spoofed()) {
            (Some(spoofer), SocketAddr::V4(from)) if spoofs => {
                self.sent.spoofed += 1;
                spoofer.send(from, &self.packet)
            }
            _ => self.sources[source].send_to(&self.packet, self.to),
        };
        match result {
            Ok(_) => *self.sent.by_forgery.entry(forgery).or_default() += 1,
            Err(_) => self.sent.failed += 1,
        }
    }
}
