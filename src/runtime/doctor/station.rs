//! The place of a node: its sockets, its keys, and the questions that are open.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UdpSocket;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Check, Finding, Outcome};
use crate::config::Config;
use crate::error::StartNodeError;
use crate::proto::outbox::encode_sender;
use crate::proto::packet::{Codec, DATAGRAM_BYTES_MAX, Life, Place, Refused, StreamNonce};
use crate::proto::wire::Message;
use crate::proto::{Identity, InstanceId};
use crate::runtime::clock::{self, Clock};
use crate::runtime::{keys, launch, sockets};

/// How long one datagram may be on its way there and back: half a turn around the world and a slow host.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// Long enough that no answer is longer, whatever addresses and numbers are in them.
pub(super) const QUESTION_BYTES_MIN: usize = 128;

/// See the module.
pub(super) struct Station {
    pub(super) cluster: String,
    pub(super) name: String,
    pub(super) datagrams: UdpSocket,
    /// Whether the sockets are at the node's own port, so that others can examine it.
    pub(super) has_port: bool,
    me: Identity,
    bound: SocketAddr,
    codec: Mutex<Codec>,
    questions: Mutex<Questions>,
    clock: Clock,
}

/// What is asked by datagrams.
struct Questions {
    next: u64,
    /// Where the clock of who answers goes.
    open: BTreeMap<u64, oneshot::Sender<u64>>,
}

/// What a datagram brought back.
pub(super) struct Answer {
    pub(super) round_trip: Duration,
    /// How far the clock that answered is ahead, in milliseconds, give or take the round trip.
    pub(super) ahead_ms: i128,
}

impl Station {
    /// Takes the node's port; another one, without a listener, if somebody has it.
    pub(super) fn open(mut config: Config) -> Result<(Station, Option<TcpListener>), StartNodeError> {
        config.check()?;
        keys::load(&mut config.security)?;
        Handle::try_current().map_err(|_| StartNodeError::NoRuntime)?;
        let open = |bind| sockets::open(bind, config.limits.datagram_buffer_bytes);
        let (opened, has_port) = match open(config.bind) {
            Err(StartNodeError::AddressInUse { .. }) => (open(SocketAddr::new(config.bind.ip(), 0))?, false),
            opened => (opened?, true),
        };
        let bound = if has_port { opened.addr } else { config.bind };
        let addr = launch::advertised(config.advertise, bound);
        let instance = InstanceId::new(u64::from_be_bytes(launch::random()?));
        let life = Life { instance, salt: launch::random()? };
        let codec = Codec::keyed(&config.cluster, config.security.keys().unwrap_or_default(), life);
        let datagrams = UdpSocket::from_std(opened.datagrams);
        let questions = Questions { next: u64::from_be_bytes(launch::random()?), open: BTreeMap::new() };
        let station = Station {
            name: config.name.unwrap_or_else(|| addr.to_string()),
            cluster: config.cluster,
            datagrams: datagrams.map_err(|source| StartNodeError::Bind { addr: bound, source })?,
            has_port,
            me: Identity { addr, bump: 0, instance },
            bound,
            codec: Mutex::new(codec),
            questions: Mutex::new(questions),
            clock: Clock::start(),
        };
        Ok((station, has_port.then_some(opened.listener)))
    }

    /// The address that others are told.
    pub(super) fn addr(&self) -> SocketAddr {
        self.me.addr
    }

    pub(super) fn describe(&self) -> Finding {
        let (bound, addr, name) = (self.bound, self.me.addr, &self.name);
        if self.has_port {
            let detail = format!("{bound} is free for TCP and UDP, and advertised as {addr} by {name:?}");
            Finding::here(Check::Address, Outcome::Passed, detail)
        } else {
            let detail = format!(
                "{bound} is in use, as it is while the node runs: only the ways from here are examined. For the ways to \
                 this node, check from another one"
            );
            Finding::here(Check::Address, Outcome::Skipped, detail)
        }
    }

    /// A packet that holds one message, filled up to so many bytes.
    pub(super) fn packet(&self, message: &impl Serialize, bytes: usize, place: Place) -> Vec<u8> {
        let mut codec = lock(&self.codec);
        let mut packet = Vec::new();
        codec.begin(&mut packet, &[]);
        encode_sender(&mut packet, self.me);
        let encoded = postcard::to_extend(message, packet);
        debug_assert!(encoded.is_ok(), "plain data can't fail to be encoded");
        let mut packet = encoded.unwrap_or_default();
        packet.resize(packet.len().max(bytes.saturating_sub(codec.end_bytes())), 0);
        codec.seal(&mut packet, 0, place);
        packet
    }

    /// Who sent a packet, and the message in it. A first frame of another cluster says so itself.
    pub(super) fn read<T: DeserializeOwned>(&self, packet: &[u8], place: Place) -> Result<(Identity, T), Refused> {
        let (codec, mut opened) = (lock(&self.codec), Vec::new());
        let packet = match place {
            Place::Hello | Place::Welcome(_) => codec.open_foreign(packet, place, &mut opened)?,
            _ => codec.open(packet, place, &mut opened)?,
        };
        let (message, _) = postcard::take_from_bytes(packet.messages).map_err(|_| Refused::Malformed)?;
        Ok((packet.from.ok_or(Refused::Malformed)?, message))
    }

    /// What binds the frames of one stream to it.
    pub(super) fn stream_nonce(&self) -> StreamNonce {
        // Without random numbers there would be no station.
        launch::random().unwrap_or_default()
    }

    /// Sends datagrams of so many bytes, one after the other, until one is answered by another of that size.
    ///
    /// # Errors
    /// What the operating system says about sending the last one.
    pub(super) async fn ask(&self, to: SocketAddr, bytes: usize, attempts: usize) -> io::Result<Option<Answer>> {
        debug_assert!((QUESTION_BYTES_MIN..=DATAGRAM_BYTES_MAX).contains(&bytes));
        let mut sent = Ok(None);
        for _ in 0..attempts {
            let (number, answer) = self.begin_question();
            let question = self.packet(&Message::Examine(number), bytes, Place::Datagram);
            let (asked, asked_ms) = (self.clock.now(), clock::wall_ms());
            sent = self.datagrams.send_to(&question, to).await.map(|_| None);
            let answer = timeout(ANSWER_MAX, answer).await;
            lock(&self.questions).open.remove(&number);
            if let Ok(Ok(wall_ms)) = answer {
                let round_trip = self.clock.now().since(asked);
                let halfway_ms = i128::from(asked_ms) + round_trip.as_millis() as i128 / 2;
                return Ok(Some(Answer { round_trip, ahead_ms: i128::from(wall_ms) - halfway_ms }));
            }
        }
        sent
    }

    fn begin_question(&self) -> (u64, oneshot::Receiver<u64>) {
        let (answered, answer) = oneshot::channel();
        let mut questions = lock(&self.questions);
        let number = questions.next;
        questions.next = number.wrapping_add(1);
        questions.open.insert(number, answered);
        (number, answer)
    }

    /// A datagram arrived; what to send back where it came from.
    pub(super) fn take_datagram(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        match self.read(bytes, Place::Datagram).ok()? {
            (_, Message::Examine(number)) if bytes.len() >= QUESTION_BYTES_MIN => {
                let answer = Message::Examined(number, clock::wall_ms());
                Some(self.packet(&answer, bytes.len(), Place::Datagram))
            }
            (_, Message::Examined(number, wall_ms)) => {
                let answered = lock(&self.questions).open.remove(&number)?;
                // Fails only if it came too late.
                let _ = answered.send(wall_ms);
                None
            }
            _ => None,
        }
    }
}

/// Nothing here panics while it holds a lock, so that none can be poisoned half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
