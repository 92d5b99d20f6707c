//! The streams of a node: dialling, accepting, and one task per stream that moves frames both ways.
//!
//! The protocol loop never waits for a stream. What it sends is queued within a bound; what a stream brings waits in
//! a bounded channel, and when that is full the stream is not read, so that a fast sender is slowed by TCP.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, error, warn};

use super::frames::{self, Decoder, Oversized};
use super::seeds::Resolved;
use crate::config::Limits;
use crate::proto::{ConnId, HALF_OPEN_MAX, MAX_FRAME_BYTES};

/// What waits for the protocol loop at most; with the largest frames it is 136 MiB, usually far less.
pub(super) const INBOX_MAX: usize = 128;

/// A peer that does not take a connection in this time is better tried again later.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a stream that was closed may take to send what is queued. A peer that takes nothing for so long is stopped or
/// cut off, and must not hold a task, its backlog and a slot for ever.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// How long a stream that this node closed is still read, so that what was sent last is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);

/// The pause after an accept that failed for want of something, of file descriptors usually.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Small frames are put together into writes of at least this size where enough are queued.
const WRITE_BYTES: usize = 128 * 1024;

/// What tasks of the protocol loop's runtime bring to it.
#[derive(Debug)]
pub(super) enum Inbound {
    /// Somebody opened a stream.
    Accepted { stream: TcpStream, from: SocketAddr },
    /// A dialled stream is open.
    Connected(ConnId),
    /// A frame arrived.
    Frame(ConnId, Bytes),
    /// A stream ended, other than by [`Streams::close`].
    Closed(ConnId, Ending),
    /// An attempt to resolve the seeds ended.
    Seeds(Vec<Resolved>),
}

/// How a stream ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// It could not be opened: nobody listens there.
    Refused,
    /// The peer closed it, or the network did.
    Lost(io::Error),
    /// The peer announced a frame that is too large.
    Oversized(usize),
}

/// The streams of a node, as the protocol loop sees them.
#[derive(Debug)]
pub(super) struct Streams {
    inbox: mpsc::Sender<Inbound>,
    conns: BTreeMap<ConnId, Conn>,
    /// Closed by this side for a reason that the state machine has not been told.
    broken: Vec<ConnId>,
    tasks: JoinSet<()>,
    accepted: u64,
    /// Held once by this and once by each task of an accepted stream: its count is the number of those.
    slots: Arc<()>,
    accepted_max: usize,
    backlog_bytes_max: usize,
}

#[derive(Debug)]
struct Conn {
    queue: mpsc::UnboundedSender<Vec<u8>>,
    backlog_bytes: Arc<AtomicUsize>,
    task: AbortHandle,
    /// To be told when the other end of an accepted stream has shaken hands.
    trusted: Option<oneshot::Sender<()>>,
    has_sent: bool,
}

impl Streams {
    pub(super) fn new(limits: &Limits, inbox: mpsc::Sender<Inbound>) -> Self {
        Streams {
            inbox,
            conns: BTreeMap::new(),
            broken: Vec::new(),
            tasks: JoinSet::new(),
            accepted: 0,
            slots: Arc::new(()),
            // The state machine decides which half-open ones stay. Those that it throws out need room until they are gone.
            accepted_max: limits.streams_max + 2 * HALF_OPEN_MAX,
            backlog_bytes_max: limits.stream_backlog_bytes_max,
        }
    }

    /// Brings every stream that is opened to this node to the inbox, until this is dropped.
    pub(super) fn listen(&mut self, listener: TcpListener) {
        let inbox = self.inbox.clone();
        self.tasks.spawn(accept(listener, inbox));
    }

    /// Takes in an accepted stream and names it; `None` where there are too many, and it is closed.
    pub(super) fn accept(&mut self, stream: TcpStream) -> Option<ConnId> {
        if Arc::strong_count(&self.slots) > self.accepted_max {
            return None;
        }
        self.accepted += 1;
        let conn = ConnId::accepted(self.accepted);
        let slot = self.slots.clone();
        let (trusted, trust) = oneshot::channel();
        self.add(conn, Some(trusted), |link| async move {
            let _slot = slot;
            serve(stream, link, Some(trust)).await;
        });
        Some(conn)
    }

    /// Whether a stream's other end still has to shake hands, as far as this knows.
    pub(super) fn is_stranger(&self, conn: ConnId) -> bool {
        self.conns.get(&conn).is_some_and(|open| open.trusted.is_some())
    }

    /// The other end of a stream has shaken hands: it may send large frames.
    pub(super) fn trust(&mut self, conn: ConnId) {
        if let Some(trusted) = self.conns.get_mut(&conn).and_then(|open| open.trusted.take()) {
            // Fails only if the task has ended, which the inbox tells.
            let _ = trusted.send(());
        }
    }

    /// Opens a stream; [`Inbound::Connected`] or [`Inbound::Closed`] follows.
    pub(super) fn connect(&mut self, conn: ConnId, to: SocketAddr) {
        self.add(conn, None, |link| async move {
            match dial(to).await {
                Ok(stream) => {
                    let _ = link.inbox.send(Inbound::Connected(conn)).await;
                    serve(stream, link, None).await;
                }
                Err(error) => {
                    debug!(%to, %error, "a peer takes no stream");
                    let is_refused = error.kind() == io::ErrorKind::ConnectionRefused;
                    let ending = if is_refused { Ending::Refused } else { Ending::Lost(error) };
                    let _ = link.inbox.send(Inbound::Closed(conn, ending)).await;
                }
            }
        });
    }

    fn add<Fut>(&mut self, conn: ConnId, trusted: Option<oneshot::Sender<()>>, task: impl FnOnce(Link) -> Fut)
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (queue, queued) = mpsc::unbounded_channel();
        let backlog_bytes = Arc::new(AtomicUsize::new(0));
        let link = Link { conn, inbox: self.inbox.clone(), queued, backlog_bytes: backlog_bytes.clone() };
        let task = self.tasks.spawn(task(link));
        self.conns.insert(conn, Conn { queue, backlog_bytes, task, trusted, has_sent: false });
    }

    /// Queues a frame. A stream whose peer takes too little is closed instead; see [`take_broken`](Self::take_broken).
    pub(super) fn send(&mut self, conn: ConnId, frame: Vec<u8>) {
        let Some(open) = self.conns.get_mut(&conn) else { return };
        open.has_sent = true;
        let length = frame.len();
        let backlog = open.backlog_bytes.fetch_add(length, Ordering::Relaxed) + length;
        if length > MAX_FRAME_BYTES {
            error!(length, "bug: a frame is larger than any peer accepts; its stream is closed");
            self.abandon(conn);
        } else if backlog > self.backlog_bytes_max {
            warn!(backlog, "a peer takes too little from its stream; it is closed, the rest is left to anti-entropy");
            self.abandon(conn);
        } else {
            // Fails only if the task has ended, which the inbox tells.
            let _ = open.queue.send(frame);
        }
    }

    fn abandon(&mut self, conn: ConnId) {
        if let Some(open) = self.conns.remove(&conn) {
            open.task.abort();
            self.broken.push(conn);
        }
    }

    /// Closes a stream after what is queued has been sent; at once where nothing ever was. Nothing more is heard of it.
    pub(super) fn close(&mut self, conn: ConnId) {
        let Some(Conn { task, has_sent, .. }) = self.conns.remove(&conn) else { return };
        if !has_sent {
            return task.abort();
        }
        tokio::spawn(async move {
            sleep(FLUSH_MAX).await;
            task.abort();
        });
    }

    /// Whether the state machine still wants to hear of this stream.
    pub(super) fn is_open(&self, conn: ConnId) -> bool {
        self.conns.contains_key(&conn)
    }

    /// Forgets a stream that ended; `false` if it was closed before.
    pub(super) fn ended(&mut self, conn: ConnId) -> bool {
        self.conns.remove(&conn).is_some()
    }

    /// How many bytes wait to be sent, on all streams.
    pub(super) fn backlog_bytes(&self) -> usize {
        self.conns.values().map(|conn| conn.backlog_bytes.load(Ordering::Relaxed)).sum()
    }

    /// Streams that [`send`](Self::send) closed since the last look.
    pub(super) fn take_broken(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.broken)
    }

    pub(super) fn has_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Forgets tasks that have ended.
    pub(super) fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            if let Err(error) = ended
                && error.is_panic()
            {
                error!(%error, "bug: the task of a stream panicked");
            }
        }
    }

    /// Stops accepting, sends what is queued on every stream, and waits for that, at most `within`.
    pub(super) async fn finish(mut self, within: Duration, inbox: mpsc::Receiver<Inbound>) {
        // Readers that wait for room in the inbox end now, and so does the task that accepts.
        drop(inbox);
        self.conns.clear();
        let ended = timeout(within, async { while self.tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            debug!("streams were closed with something still queued");
        }
    }
}

/// A task's end of a stream.
struct Link {
    conn: ConnId,
    inbox: mpsc::Sender<Inbound>,
    queued: mpsc::UnboundedReceiver<Vec<u8>>,
    backlog_bytes: Arc<AtomicUsize>,
}

async fn accept(listener: TcpListener, inbox: mpsc::Sender<Inbound>) {
    let mut failures: u64 = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = inbox.closed() => return,
        };
        match accepted {
            Ok((stream, from)) => {
                if inbox.send(Inbound::Accepted { stream, from }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Once a minute at the pace of the pause.
                if failures.is_multiple_of(600) {
                    warn!(%error, "no stream can be accepted; raise the limit of open files if that is the reason");
                }
                failures += 1;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

pub(super) async fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(DIAL_TIMEOUT, TcpStream::connect(to)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    // On loopback a port that nobody listens on can connect to itself, if it is chosen as the local port too.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

async fn serve(mut stream: TcpStream, link: Link, trust: Option<oneshot::Receiver<()>>) {
    // Frames are put together here, so the kernel need not wait for more.
    let _ = stream.set_nodelay(true);
    let Link { conn, inbox, queued, backlog_bytes } = link;
    let (reader, writer) = stream.split();
    let ending = tokio::select! {
        ending = read_frames(reader, conn, trust, &inbox) => Some(ending),
        flushed = write_frames(writer, queued, &backlog_bytes) => flushed.err().map(Ending::Lost),
    };
    // Either fails only if nobody is left to care.
    match ending {
        Some(ending) => drop(inbox.send(Inbound::Closed(conn, ending)).await),
        None => drop(timeout(LINGER, discard(stream)).await),
    }
}

/// Reads until the stream ends. A stranger, whose trust is outstanding, may send frames of the size of a Hello; a larger one
/// waits for the handshake that such frames must have led to.
async fn read_frames(
    mut reader: impl AsyncRead + Unpin,
    conn: ConnId,
    mut trust: Option<oneshot::Receiver<()>>,
    inbox: &mpsc::Sender<Inbound>,
) -> Ending {
    let mut decoder = if trust.is_some() { Decoder::of_stranger() } else { Decoder::of_peer() };
    let mut has_spoken = false;
    loop {
        match reader.read_buf(decoder.buffer()).await {
            Ok(0) => return Ending::Lost(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) => return Ending::Lost(error),
        }
        loop {
            if trust.as_mut().is_some_and(|trust| trust.try_recv().is_ok()) {
                trust = None;
                decoder.trust();
            }
            match decoder.next() {
                Ok(Some(frame)) => {
                    has_spoken = true;
                    if inbox.send(Inbound::Frame(conn, frame)).await.is_err() {
                        // The node ends; the writer is left to send what is queued.
                        return std::future::pending().await;
                    }
                }
                Ok(None) => break,
                Err(Oversized { announced }) => {
                    let awaited = trust.take().filter(|_| has_spoken && announced <= MAX_FRAME_BYTES);
                    let Some(trust) = awaited else { return Ending::Oversized(announced) };
                    if trust.await.is_err() {
                        return Ending::Oversized(announced);
                    }
                    decoder.trust();
                }
            }
        }
    }
}

/// Writes what is queued until this node closes the stream.
async fn write_frames(
    mut writer: impl AsyncWrite + Unpin,
    mut queued: mpsc::UnboundedReceiver<Vec<u8>>,
    backlog_bytes: &AtomicUsize,
) -> io::Result<()> {
    const FRAMES_AT_ONCE: usize = 256;
    let mut batch = Vec::new();
    let mut out = Vec::new();
    while queued.recv_many(&mut batch, FRAMES_AT_ONCE).await > 0 {
        for frame in batch.drain(..) {
            frames::encode(&frame, &mut out);
            if out.len() >= WRITE_BYTES {
                writer.write_all(&out).await?;
                out.clear();
            }
            backlog_bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        }
        writer.write_all(&out).await?;
        out.clear();
        out.shrink_to(WRITE_BYTES);
    }
    Ok(())
}

/// Says that nothing more comes, and reads until the peer says so too: closing with something unread would reset the
/// stream, and what was sent last with it.
async fn discard(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        let mut scratch = vec![0; 4_096];
        while stream.read(&mut scratch).await.is_ok_and(|read| read > 0) {}
    }
}

#[cfg(test)]
mod tests;
