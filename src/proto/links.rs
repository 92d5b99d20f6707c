//! Streams to other nodes: dialled when there is much to say, shaken hands on, closed when idle.
//!
//! May not: look into what the frames carry, beyond the handshake.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::wire::Hello;
use super::{ConnId, Identity, InstanceId, Output, Stats, Time};

/// A handshake that takes longer has met something that is not haulout, or a host that died.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A stream that carried nothing for so long is closed.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How far a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Asked for, not open.
    Dialling,
    /// Open; the Hello is sent, the answer outstanding.
    Greeting,
    /// Accepted; the Hello outstanding.
    Expecting,
    /// Both sides know each other.
    Open,
}

#[derive(Debug)]
struct Link {
    stage: Stage,
    addr: SocketAddr,
    /// Who is at the other end: known once greeted, meant before.
    peer: Option<InstanceId>,
    join: bool,
    used: Time,
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
}

/// What a frame on a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// The first one: a Hello.
    Hello,
    /// The first answer: a Welcome or a refusal.
    Welcome {
        /// Whether it was dialled to join.
        join: bool,
    },
    /// Messages.
    Messages,
    /// Nothing: the stream is unknown or misbehaves.
    Nothing,
}

/// Every stream of this node.
#[derive(Debug)]
pub(crate) struct Links {
    links: BTreeMap<ConnId, Link>,
    /// The stream to use for an instance.
    by_peer: BTreeMap<InstanceId, ConnId>,
    dialled: u64,
    accepted_max: usize,
    backlog_bytes_max: usize,
}

impl Links {
    pub(crate) fn new(accepted_max: usize, backlog_bytes_max: usize) -> Self {
        Links { links: BTreeMap::new(), by_peer: BTreeMap::new(), dialled: 0, accepted_max, backlog_bytes_max }
    }

    /// Sends a frame to a member, over the stream that there is or a new one.
    pub(crate) fn send(
        &mut self,
        now: Time,
        to: Identity,
        bytes: Vec<u8>,
        out: &mut VecDeque<Output>,
        stats: &mut Stats,
    ) {
        let conn = match self.by_peer.get(&to.instance) {
            Some(&conn) => conn,
            None => self.dial(now, to.addr, Some(to.instance), false, out, stats),
        };
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.used = now;
        stats.frames_sent += 1;
        stats.frame_bytes_sent += bytes.len() as u64;
        if link.stage == Stage::Open || link.stage == Stage::Greeting {
            out.push_back(Output::Frame { conn, bytes });
        } else if link.queued_bytes + bytes.len() <= self.backlog_bytes_max {
            link.queued_bytes += bytes.len();
            link.queue.push_back(bytes);
        } else {
            stats.refused_limit += 1;
        }
    }

    /// Dials a seed, unless that is being done.
    pub(crate) fn join(&mut self, now: Time, seed: SocketAddr, out: &mut VecDeque<Output>, stats: &mut Stats) {
        if !self.links.values().any(|link| link.join && link.addr == seed) {
            self.dial(now, seed, None, true, out, stats);
        }
    }

    fn dial(
        &mut self,
        now: Time,
        addr: SocketAddr,
        peer: Option<InstanceId>,
        join: bool,
        out: &mut VecDeque<Output>,
        stats: &mut Stats,
    ) -> ConnId {
        self.dialled += 1;
        stats.streams_opened += 1;
        let conn = ConnId(self.dialled);
        let link =
            Link { stage: Stage::Dialling, addr, peer, join, used: now, queue: VecDeque::new(), queued_bytes: 0 };
        self.links.insert(conn, link);
        if let Some(peer) = peer {
            self.by_peer.insert(peer, conn);
        }
        out.push_back(Output::Connect { conn, to: addr });
        conn
    }

    /// A dialled stream is open: the Hello goes first, what was queued follows at once.
    pub(crate) fn connected(
        &mut self,
        now: Time,
        conn: ConnId,
        hello: impl FnOnce(bool) -> (Hello, Vec<u8>),
        out: &mut VecDeque<Output>,
    ) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.stage = Stage::Greeting;
        link.used = now;
        let (_, bytes) = hello(link.join);
        out.push_back(Output::Frame { conn, bytes });
        link.queued_bytes = 0;
        out.extend(link.queue.drain(..).map(|bytes| Output::Frame { conn, bytes }));
    }

    /// Somebody opened a stream.
    pub(crate) fn accepted(
        &mut self,
        now: Time,
        conn: ConnId,
        from: SocketAddr,
        out: &mut VecDeque<Output>,
        stats: &mut Stats,
    ) {
        let accepted = self.links.range(ConnId::accepted(0)..).count();
        if accepted >= self.accepted_max {
            stats.streams_refused += 1;
            out.push_back(Output::Close { conn });
            return;
        }
        let link = Link {
            stage: Stage::Expecting,
            addr: from,
            peer: None,
            join: false,
            used: now,
            queue: VecDeque::new(),
            queued_bytes: 0,
        };
        self.links.insert(conn, link);
    }

    /// What the next frame of a stream must be.
    pub(crate) fn expect(&mut self, now: Time, conn: ConnId) -> Expect {
        match self.links.get_mut(&conn) {
            Some(link) => {
                link.used = now;
                match link.stage {
                    Stage::Dialling => Expect::Nothing,
                    Stage::Greeting => Expect::Welcome { join: link.join },
                    Stage::Expecting => Expect::Hello,
                    Stage::Open => Expect::Messages,
                }
            }
            None => Expect::Nothing,
        }
    }

    /// The other end named itself.
    pub(crate) fn greeted(&mut self, conn: ConnId, peer: InstanceId) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.stage = Stage::Open;
        if let Some(meant) = link.peer.filter(|meant| *meant != peer)
            && self.by_peer.get(&meant) == Some(&conn)
        {
            self.by_peer.remove(&meant);
        }
        link.peer = Some(peer);
        self.by_peer.entry(peer).or_insert(conn);
    }

    /// Where a stream leads.
    pub(crate) fn addr(&self, conn: ConnId) -> Option<SocketAddr> {
        self.links.get(&conn).map(|link| link.addr)
    }

    /// A stream is gone; whose it was.
    pub(crate) fn closed(&mut self, conn: ConnId) -> Option<InstanceId> {
        let link = self.links.remove(&conn)?;
        let peer = link.peer?;
        if self.by_peer.get(&peer) == Some(&conn) {
            self.by_peer.remove(&peer);
            if let Some((&other, _)) =
                self.links.iter().find(|(_, other)| other.peer == Some(peer) && other.stage == Stage::Open)
            {
                self.by_peer.insert(peer, other);
            }
        }
        Some(peer)
    }

    /// Closes a stream from this side.
    pub(crate) fn close(&mut self, conn: ConnId, out: &mut VecDeque<Output>) -> Option<InstanceId> {
        if self.links.contains_key(&conn) {
            out.push_back(Output::Close { conn });
        }
        self.closed(conn)
    }

    /// Closes every stream of an instance: it is gone, or takes nothing any more.
    pub(crate) fn close_peer(&mut self, peer: InstanceId, out: &mut VecDeque<Output>) {
        let conns: Vec<_> =
            self.links.iter().filter(|(_, link)| link.peer == Some(peer)).map(|(&conn, _)| conn).collect();
        for conn in conns {
            self.close(conn, out);
        }
    }

    /// Closes what is idle for so long or never shook hands. Returns whose streams were closed.
    pub(crate) fn sweep(&mut self, now: Time, idle_max: Duration, out: &mut VecDeque<Output>) -> Vec<InstanceId> {
        let is_over = |link: &Link| {
            let limit = if link.stage == Stage::Open { idle_max } else { HANDSHAKE_TIMEOUT };
            now.since(link.used) >= limit
        };
        let over: Vec<_> = self.links.iter().filter(|(_, link)| is_over(link)).map(|(&conn, _)| conn).collect();
        over.into_iter().filter_map(|conn| self.close(conn, out)).collect()
    }

    /// Whether a seed has taken this node's call and not answered yet.
    pub(crate) fn is_joining(&self) -> bool {
        self.links.values().any(|link| link.join && link.stage == Stage::Greeting)
    }

    /// How many streams were accepted, and how many bytes wait on the fullest of all.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let accepted = self.links.keys().filter(|conn| **conn >= ConnId::accepted(0)).count();
        (accepted, self.links.values().map(|link| link.queued_bytes).max().unwrap_or(0))
    }

    /// Whether there is no stream at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }
}
