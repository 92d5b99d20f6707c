//! Streams to other nodes: dialled when there is much to say, shaken hands on, closed when idle. Standing ones, by which
//! members watch each other, carry nothing and are never idle.
//!
//! Where packets are sealed, each frame is sealed for its stream and its turn: with what both ends have drawn for this
//! handshake, and with its number. So a recorded frame fits nowhere and none can be left out, and whoever dialled is believed when it has
//! sealed a frame with what the other end drew: a recorded Hello leads nowhere either. Until then what is to be sent waits.
//! In plaintext it follows the Hello at once.
//!
//! May not: look into what the frames carry, beyond the handshake; decide what the end of a stream means.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::half_open::HalfOpen;
use super::packet::{Codec, Place, Stamp, StreamNonce, Turn};
use super::wire::Purpose;
use super::{ConnId, Identity, InstanceId, Output, Stats, Time};
use crate::info::RefusalReason;

/// A handshake that takes longer has met something that is not haulout, or a host that died.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream that carried nothing for so long is closed.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Standing streams that are accepted, at most: each member chooses a few watchers at random, so that hardly any node of a
/// large cluster is chosen by more than four times as many. Of few streams, a quarter.
pub(crate) const WATCHES_MAX: usize = 64;
/// Streams that one instance may have opened to carry messages. It needs one, and has two for a while where the end of an
/// earlier one was not heard: more come from somebody who wants to take all places.
pub(crate) const STREAMS_PER_PEER_MAX: usize = 8;

/// How far a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Asked for, not open.
    Dialling,
    /// Open; the Hello is sent, the answer outstanding.
    Greeting,
    /// Accepted; the Hello outstanding.
    Expecting,
    /// Accepted, and the Hello for this purpose answered; a frame that shows that it was not recorded outstanding.
    Doubting(Purpose),
    /// Both sides know each other.
    Open,
}

#[derive(Debug)]
struct Link {
    stage: Stage,
    addr: SocketAddr,
    /// Who is at the other end: known once greeted, meant before.
    peer: Option<InstanceId>,
    purpose: Purpose,
    used: Time,
    /// How long it took to be opened.
    took: Duration,
    /// Frames that are not sealed yet.
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
    session: Session,
}

impl Link {
    fn new(stage: Stage, addr: SocketAddr, peer: Option<InstanceId>, purpose: Purpose, now: Time) -> Self {
        let (took, queue, session) = (Duration::ZERO, VecDeque::new(), Session::default());
        Link { stage, addr, peer, purpose, used: now, took, queue, queued_bytes: 0, session }
    }

    /// Whether frames can be sent: the other end has the Hello, or is about to get it. Where they are sealed, it has also
    /// drawn what they are sealed for.
    fn takes_frames(&self, codec: &Codec) -> bool {
        matches!(self.stage, Stage::Open | Stage::Doubting(_)) || self.stage == Stage::Greeting && !codec.is_keyed()
    }

    fn put(&mut self, conn: ConnId, bytes: Vec<u8>, codec: &mut Codec, out: &mut VecDeque<Output>) {
        put(conn, bytes, self.session.place(!conn.is_accepted(), self.session.sent), codec, out);
        self.session.sent += 1;
    }

    fn put_queued(&mut self, conn: ConnId, codec: &mut Codec, out: &mut VecDeque<Output>) {
        self.queued_bytes = 0;
        for bytes in std::mem::take(&mut self.queue) {
            self.put(conn, bytes, codec, out);
        }
    }
}

/// Seals a frame and sends it.
pub(crate) fn put(conn: ConnId, mut bytes: Vec<u8>, place: Place, codec: &mut Codec, out: &mut VecDeque<Output>) {
    codec.seal(&mut bytes, 0, place);
    out.push_back(Output::Frame { conn, bytes });
}

/// What frames of a stream are bound to, where they are sealed.
#[derive(Clone, Copy, Debug, Default)]
struct Session {
    dialler: StreamNonce,
    acceptor: StreamNonce,
    /// Frames that were sent and taken since the handshake.
    sent: u64,
    taken: u64,
    /// Who is at the other end.
    peer: Option<Stamp>,
}

impl Session {
    /// Where the frame with this number belongs.
    fn place(&self, is_from_dialler: bool, number: u64) -> Place {
        let turn = Turn { dialler: self.dialler, acceptor: self.acceptor, number };
        if is_from_dialler { Place::Dialled(turn) } else { Place::Accepted(turn) }
    }
}

/// What a frame on a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// The first one: a Hello.
    Hello,
    /// The first answer: a Welcome or a refusal.
    Welcome {
        /// What it was dialled for.
        purpose: Purpose,
        /// Who was meant.
        meant: Option<InstanceId>,
    },
    /// Anything that is sealed for this stream: its dialler lives.
    Proof {
        /// What it was dialled for.
        purpose: Purpose,
    },
    /// Messages.
    Messages,
    /// Nothing but a word that its end will mean nothing.
    Farewell,
    /// Nothing: the stream is unknown or misbehaves.
    Nothing,
}

/// A stream that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Who was at the other end, or was to be.
    pub(crate) peer: InstanceId,
    /// What it was for.
    pub(crate) purpose: Purpose,
    /// Whether both sides had known each other.
    pub(crate) was_open: bool,
    /// Whether this node had dialled it.
    pub(crate) was_dialled: bool,
    /// When it was used last; a standing one, since when it stood.
    pub(crate) used: Time,
}

/// Every stream of this node.
#[derive(Debug)]
pub(crate) struct Links {
    links: BTreeMap<ConnId, Link>,
    /// The stream to use for an instance.
    by_peer: BTreeMap<InstanceId, ConnId>,
    half_open: HalfOpen,
    /// How many of the streams were accepted.
    accepted: usize,
    dialled: u64,
    accepted_max: usize,
    backlog_bytes_max: usize,
}

impl Links {
    pub(crate) fn new(accepted_max: usize, backlog_bytes_max: usize) -> Self {
        Links {
            links: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            half_open: HalfOpen::default(),
            accepted: 0,
            dialled: 0,
            accepted_max,
            backlog_bytes_max,
        }
    }

    /// Sends a frame to a member, over the stream that there is or a new one.
    pub(crate) fn send(
        &mut self,
        now: Time,
        to: Identity,
        bytes: Vec<u8>,
        codec: &mut Codec,
        out: &mut VecDeque<Output>,
        stats: &mut Stats,
    ) {
        let conn = match self.by_peer.get(&to.instance) {
            Some(&conn) => conn,
            None => self.dial(now, to.addr, Some(to.instance), Purpose::Messages, out, stats),
        };
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.used = now;
        if link.takes_frames(codec) {
            link.put(conn, bytes, codec, out);
        } else if link.queued_bytes + bytes.len() <= self.backlog_bytes_max {
            link.queued_bytes += bytes.len();
            link.queue.push_back(bytes);
        } else {
            stats.refused_limit += 1;
        }
    }

    /// Dials a seed, unless that is being done.
    pub(crate) fn join(&mut self, now: Time, seed: SocketAddr, out: &mut VecDeque<Output>, stats: &mut Stats) {
        if !self.links.values().any(|link| link.purpose == Purpose::Join && link.addr == seed) {
            self.dial(now, seed, None, Purpose::Join, out, stats);
        }
    }

    /// Dials a member to be watched by it.
    pub(crate) fn watch(&mut self, now: Time, by: Identity, out: &mut VecDeque<Output>, stats: &mut Stats) {
        self.dial(now, by.addr, Some(by.instance), Purpose::Watch, out, stats);
    }

    /// The standing streams that this node dialled, with whom they lead to.
    pub(crate) fn watches(&self) -> impl Iterator<Item = (ConnId, InstanceId)> + '_ {
        let dialled = self.links.range(..ConnId::accepted(0)).filter(|(_, link)| link.purpose == Purpose::Watch);
        dialled.filter_map(|(&conn, link)| Some((conn, link.peer?)))
    }

    /// The shortest and the longest that one of them took to be opened: a round trip, or more where something was lost.
    pub(crate) fn watch_round_trips(&self) -> (Duration, Duration) {
        let dialled = self.links.range(..ConnId::accepted(0)).map(|(_, link)| link);
        let open = dialled.filter(|link| link.purpose == Purpose::Watch && link.stage == Stage::Open);
        let took = || open.clone().map(|link| link.took);
        (took().min().unwrap_or_default(), took().max().unwrap_or_default())
    }

    /// Every standing stream, either way.
    pub(crate) fn all_watches(&self) -> Vec<ConnId> {
        self.links.iter().filter(|(_, link)| link.purpose == Purpose::Watch).map(|(&conn, _)| conn).collect()
    }

    /// Sends a frame on this stream, if it takes any yet.
    pub(crate) fn send_on(&mut self, conn: ConnId, bytes: Vec<u8>, codec: &mut Codec, out: &mut VecDeque<Output>) {
        if let Some(link) = self.links.get_mut(&conn).filter(|link| link.takes_frames(codec)) {
            link.put(conn, bytes, codec, out);
        }
    }

    /// The name of a stream that this node dials without a handshake, and keeps itself.
    pub(crate) fn next_conn(&mut self, stats: &mut Stats) -> ConnId {
        self.dialled += 1;
        stats.streams_opened += 1;
        ConnId(self.dialled)
    }

    fn dial(
        &mut self,
        now: Time,
        addr: SocketAddr,
        peer: Option<InstanceId>,
        purpose: Purpose,
        out: &mut VecDeque<Output>,
        stats: &mut Stats,
    ) -> ConnId {
        let conn = self.next_conn(stats);
        self.links.insert(conn, Link::new(Stage::Dialling, addr, peer, purpose, now));
        if let Some(peer) = peer.filter(|_| purpose == Purpose::Messages) {
            self.by_peer.insert(peer, conn);
        }
        out.push_back(Output::Connect { conn, to: addr });
        conn
    }

    /// A dialled stream is open: the Hello goes first. In plaintext what was queued follows at once.
    pub(crate) fn connected(
        &mut self,
        now: Time,
        conn: ConnId,
        nonce: StreamNonce,
        hello: impl FnOnce(Purpose) -> Vec<u8>,
        codec: &mut Codec,
        out: &mut VecDeque<Output>,
    ) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.stage = Stage::Greeting;
        link.took = now.since(link.used);
        link.used = now;
        link.session.dialler = nonce;
        put(conn, hello(link.purpose), Place::Hello, codec, out);
        if !codec.is_keyed() {
            link.put_queued(conn, codec, out);
        }
    }

    /// Somebody opened a stream. Says what was refused if it, or one that came before, is closed.
    pub(crate) fn accepted(
        &mut self,
        now: Time,
        conn: ConnId,
        from: SocketAddr,
        out: &mut VecDeque<Output>,
        stats: &mut Stats,
    ) -> Option<RefusalReason> {
        if self.accepted - self.half_open.len() >= self.accepted_max {
            stats.streams_refused += 1;
            out.push_back(Output::Close { conn });
            return Some(RefusalReason::StreamsFull);
        }
        let evicted = self.half_open.insert(conn, from);
        self.links.insert(conn, Link::new(Stage::Expecting, from, None, Purpose::Messages, now));
        self.accepted += 1;
        self.close(evicted?, out);
        stats.half_open_evicted += 1;
        Some(RefusalReason::HalfOpenStreams)
    }

    /// What the next frame of a stream must be.
    pub(crate) fn expect(&mut self, now: Time, conn: ConnId) -> Expect {
        match self.links.get_mut(&conn) {
            Some(link) => {
                link.used = now;
                match link.stage {
                    Stage::Dialling => Expect::Nothing,
                    Stage::Greeting => Expect::Welcome { purpose: link.purpose, meant: link.peer },
                    Stage::Expecting => Expect::Hello,
                    Stage::Doubting(purpose) => Expect::Proof { purpose },
                    Stage::Open if link.purpose == Purpose::Watch => Expect::Farewell,
                    Stage::Open => Expect::Messages,
                }
            }
            None => Expect::Nothing,
        }
    }

    /// Whether a stream stands and carries nothing.
    pub(crate) fn is_watch(&self, conn: ConnId) -> bool {
        self.links.get(&conn).is_some_and(|link| link.purpose == Purpose::Watch)
    }

    /// Whether one more member may be watched over an accepted stream.
    pub(crate) fn has_room_to_watch(&self) -> bool {
        let accepted = self.links.range(ConnId::accepted(0)..);
        let watched = accepted.filter(|(_, link)| link.purpose == Purpose::Watch).count();
        watched < WATCHES_MAX.min(self.accepted_max / 4)
    }

    /// Where the next frame belongs that comes on a stream.
    pub(crate) fn place(&self, conn: ConnId) -> Place {
        match self.links.get(&conn) {
            Some(Link { stage: Stage::Doubting(_) | Stage::Open, session, .. }) => {
                session.place(conn.is_accepted(), session.taken)
            }
            Some(Link { stage: Stage::Greeting, session, .. }) => Place::Welcome(session.dialler),
            _ => Place::Hello,
        }
    }

    /// The first frame of the other end was opened: it is of this life.
    pub(crate) fn heard_first(&mut self, conn: ConnId, stamp: Option<Stamp>) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.session.peer = stamp;
        }
    }

    /// A later frame was opened, and another one is expected next. Whether it is of whom the stream leads to.
    pub(crate) fn heard_next(&mut self, conn: ConnId, stamp: Option<Stamp>) -> bool {
        let Some(link) = self.links.get_mut(&conn) else { return false };
        link.session.taken += 1;
        stamp.map(|stamp| stamp.life) == link.session.peer.map(|first| first.life)
    }

    /// Who sealed the first frame from the other end.
    pub(crate) fn heard(&self, conn: ConnId) -> Option<Stamp> {
        self.links.get(&conn)?.session.peer
    }

    /// The other end of an accepted stream named itself and said what the stream is for.
    pub(crate) fn greeted_for(&mut self, conn: ConnId, peer: InstanceId, purpose: Purpose, stats: &mut Stats) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.purpose = purpose;
        }
        self.greeted(conn, peer, stats);
    }

    /// The same, where it still has to show that the Hello was not recorded: until then it is nobody's stream.
    pub(crate) fn doubted(&mut self, conn: ConnId, purpose: Purpose, dialler: StreamNonce, acceptor: StreamNonce) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.stage = Stage::Doubting(purpose);
            link.session = Session { dialler, acceptor, ..link.session };
        }
    }

    /// Whoever was dialled drew this: a first frame shows that this node lives, and what waited follows.
    pub(crate) fn prove(
        &mut self,
        conn: ConnId,
        acceptor: StreamNonce,
        proof: Vec<u8>,
        codec: &mut Codec,
        out: &mut VecDeque<Output>,
    ) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.session.acceptor = acceptor;
        link.put(conn, proof, codec, out);
        link.put_queued(conn, codec, out);
    }

    /// The other end named itself.
    pub(crate) fn greeted(&mut self, conn: ConnId, peer: InstanceId, stats: &mut Stats) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        self.half_open.remove(conn);
        link.stage = Stage::Open;
        if let Some(meant) = link.peer.filter(|meant| *meant != peer)
            && self.by_peer.get(&meant) == Some(&conn)
        {
            self.by_peer.remove(&meant);
        }
        link.peer = Some(peer);
        if link.purpose == Purpose::Watch {
            stats.watches_opened += 1;
        } else {
            self.by_peer.entry(peer).or_insert(conn);
        }
    }

    /// Where a stream leads.
    pub(crate) fn addr(&self, conn: ConnId) -> Option<SocketAddr> {
        self.links.get(&conn).map(|link| link.addr)
    }

    /// A stream is gone; whose it was, and what for.
    pub(crate) fn closed(&mut self, conn: ConnId) -> Option<Ended> {
        let link = self.links.remove(&conn)?;
        self.accepted -= usize::from(conn.is_accepted());
        self.half_open.remove(conn);
        let peer = link.peer?;
        if self.by_peer.get(&peer) == Some(&conn) {
            self.by_peer.remove(&peer);
            let carries = |other: &Link| other.stage == Stage::Open && other.purpose != Purpose::Watch;
            if let Some((&other, _)) = self.links.iter().find(|(_, other)| other.peer == Some(peer) && carries(other)) {
                self.by_peer.insert(peer, other);
            }
        }
        let (was_open, was_dialled) = (link.stage == Stage::Open, !conn.is_accepted());
        Some(Ended { peer, purpose: link.purpose, was_open, was_dialled, used: link.used })
    }

    /// Closes a stream from this side.
    pub(crate) fn close(&mut self, conn: ConnId, out: &mut VecDeque<Output>) -> Option<Ended> {
        if self.links.contains_key(&conn) {
            out.push_back(Output::Close { conn });
        }
        self.closed(conn)
    }

    /// Closes the standing streams that an instance dialled: it has dialled another.
    pub(crate) fn close_watches_from(&mut self, peer: InstanceId, out: &mut VecDeque<Output>) {
        let accepted = self.links.range(ConnId::accepted(0)..);
        let replaced = accepted.filter(|(_, link)| link.peer == Some(peer) && link.purpose == Purpose::Watch);
        for conn in replaced.map(|(&conn, _)| conn).collect::<Vec<_>>() {
            self.close(conn, out);
        }
    }

    /// Of the streams that an instance has opened to carry messages the one that has been unused for longest, where they are
    /// too many.
    pub(crate) fn crowded_out(&self, peer: InstanceId) -> Option<ConnId> {
        let carries = |link: &Link| link.stage == Stage::Open && link.purpose != Purpose::Watch;
        let accepted = self.links.range(ConnId::accepted(0)..);
        let of_peer = accepted.filter(|(_, link)| link.peer == Some(peer) && carries(link));
        let has_too_many = of_peer.clone().count() > STREAMS_PER_PEER_MAX;
        of_peer.min_by_key(|(conn, link)| (link.used, **conn)).map(|(&conn, _)| conn).filter(|_| has_too_many)
    }

    /// Closes every stream of an instance: it is gone, or takes nothing any more.
    pub(crate) fn close_peer(&mut self, peer: InstanceId, out: &mut VecDeque<Output>) {
        let conns: Vec<_> =
            self.links.iter().filter(|(_, link)| link.peer == Some(peer)).map(|(&conn, _)| conn).collect();
        for conn in conns {
            self.close(conn, out);
        }
    }

    /// Closes what is idle for so long or never shook hands. Returns what was closed.
    pub(crate) fn sweep(&mut self, now: Time, idle_max: Duration, out: &mut VecDeque<Output>) -> Vec<Ended> {
        let is_over = |link: &Link| {
            let limit = match (link.stage, link.purpose) {
                (Stage::Open, Purpose::Watch) => return false,
                (Stage::Open, _) => idle_max,
                _ => HANDSHAKE_TIMEOUT,
            };
            now.since(link.used) >= limit
        };
        let over: Vec<_> = self.links.iter().filter(|(_, link)| is_over(link)).map(|(&conn, _)| conn).collect();
        over.into_iter().filter_map(|conn| self.close(conn, out)).collect()
    }

    /// Whether both ends of a stream know each other.
    pub(crate) fn is_open(&self, conn: ConnId) -> bool {
        self.links.get(&conn).is_some_and(|link| link.stage == Stage::Open)
    }

    /// Whether a seed has taken this node's call and not answered yet.
    pub(crate) fn is_joining(&self) -> bool {
        self.links.values().any(|link| link.purpose == Purpose::Join && link.stage == Stage::Greeting)
    }

    /// How many accepted streams are open and how many half-open, and how many bytes wait on the fullest of all.
    pub(crate) fn sizes(&self) -> (usize, usize, usize) {
        let half_open = self.half_open.len();
        (self.accepted - half_open, half_open, self.links.values().map(|link| link.queued_bytes).max().unwrap_or(0))
    }

    /// How many streams were accepted, and how many bytes wait for streams that are not open yet.
    pub(crate) fn totals(&self) -> (usize, usize) {
        let (open, half_open, _fullest) = self.sizes();
        (open + half_open, self.links.values().map(|link| link.queued_bytes).sum())
    }

    /// How many standing streams there are, either way.
    pub(crate) fn watching(&self) -> usize {
        self.links.values().filter(|link| link.purpose == Purpose::Watch).count()
    }

    /// Whether no stream can become idle: none is there but standing ones.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.links.values().all(|link| link.purpose == Purpose::Watch && link.stage == Stage::Open)
    }
}

#[cfg(test)]
mod tests;
