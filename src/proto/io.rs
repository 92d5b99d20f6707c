//! What goes into the state machine and what comes out of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::child::{ChildId, ChildSpec, Kind, Shutdown, Spec};
use crate::error::{JoinScopeError, LeaveError, SetKeyringError, StartError, TerminateError, UpdateError, WaitError};
use crate::info::{ChildInfo, Event, Location, Outcome, Which};
use crate::key::Key;
use crate::proto::{Epoch, ScopeId};

/// The largest frame on a stream, in bytes, without its length.
///
/// Honest frames are cut at a fraction of it; the largest single things, a full member table and a record with 64 kB
/// of arguments, fit with room to spare. It bounds what one stream can make a node hold: a receiver closes the stream
/// of whoever announces more.
pub const MAX_FRAME_BYTES: usize = (1 << 20) + (64 << 10);

/// The largest frame on a stream before its other end has shaken hands, in bytes, without its length.
///
/// A Hello with the longest names is below 800 bytes, and so is what else belongs to a handshake. What everybody may send
/// costs a node no more than this.
pub const HELLO_BYTES_MAX: usize = 2_048;

/// A stream, named by whoever opened it: the state machine names those that it dials, the caller those that it
/// accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

impl ConnId {
    /// The `n`th accepted stream; never equal to a dialled one.
    pub const fn accepted(n: u64) -> Self {
        ConnId(n | 1 << 63)
    }

    /// Whether the stream was accepted and not dialled.
    pub const fn is_accepted(self) -> bool {
        self.0 >> 63 == 1
    }
}

/// One run of a child on this node, unique for the life of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u64);

/// A call of a user, named by the caller, answered by exactly one [`Output::Reply`] unless cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Something that happened to a stream.
#[derive(Clone, Copy, Debug)]
pub enum StreamEvent<'a> {
    /// A stream that was asked for with [`Output::Connect`] is open.
    Connected,
    /// Somebody opened a stream to this node.
    Accepted {
        /// From where.
        from: SocketAddr,
    },
    /// One whole frame arrived, without its length.
    Frame(&'a [u8]),
    /// It could not be opened because the other machine says that nobody listens there. Nothing more comes of it.
    Refused,
    /// It ended, could not be opened for another reason, or was closed by the caller's limits. Nothing more comes of it.
    Closed,
}

/// Something that happened to a run of a child.
#[derive(Clone, Debug)]
pub enum ChildEvent {
    /// Its `init` returned.
    Started,
    /// Its arguments do not decode on this node; it has ended.
    Declined(Arc<str>),
    /// It ended, before or after it had started. No code of it runs any more.
    Exited(Outcome),
}

/// A call of a user.
#[derive(Clone, Debug)]
pub enum Command {
    /// Join a scope.
    JoinScope(ScopeSetup),
    /// Start a child.
    Start {
        /// In which scope.
        scope: ScopeId,
        /// What.
        spec: ChildSpec,
        /// Reply only when so many other members have it: fewer if there are fewer, and at once if a later write of this
        /// node on the same child takes its place.
        replicated: usize,
    },
    /// Replace the spec of a live child.
    Update {
        /// In which scope.
        scope: ScopeId,
        /// What.
        spec: ChildSpec,
        /// As for `Start`.
        replicated: usize,
    },
    /// Terminate a child.
    Terminate {
        /// In which scope.
        scope: ScopeId,
        /// Which.
        id: ChildId,
        /// As for `Start`.
        replicated: usize,
    },
    /// List children.
    WhichChildren {
        /// In which scope.
        scope: ScopeId,
        /// Which.
        which: Which,
    },
    /// Where a child runs.
    Whereis {
        /// In which scope.
        scope: ScopeId,
        /// Which.
        id: ChildId,
    },
    /// Reply when a child runs somewhere. The caller cancels it at its timeout.
    WaitUntilRunning {
        /// In which scope.
        scope: ScopeId,
        /// Which.
        id: ChildId,
    },
    /// Seal with the first of these keys from now on, and open with any.
    SetKeyring {
        /// The new ring; the old one is forgotten.
        keys: Vec<Key>,
    },
    /// Drain, hand everything over, leave.
    Leave {
        /// How long to wait for others to take over.
        timeout: Duration,
    },
}

/// How a node takes part in a scope.
#[derive(Clone, Debug)]
pub struct ScopeSetup {
    /// The scope's name.
    pub name: String,
    /// What this node can run.
    pub kinds: Vec<Kind>,
    /// This node's share of children relative to others, 1 to 65,535.
    pub weight: u16,
    /// Free text for the operator and for constraints, at most 16.
    pub labels: Vec<(String, String)>,
    /// The version of the service, for listings.
    pub version: String,
    /// Children that are started when the scope has settled.
    pub children: Vec<ChildSpec>,
}

/// The answer to a [`Command`].
#[derive(Clone, Debug)]
pub enum Reply {
    /// To `JoinScope`.
    Joined(Result<ScopeId, JoinScopeError>),
    /// To `Start`: whether the child is new (`true`) or was live with an equal spec (`false`).
    Started(Result<bool, StartError>),
    /// To `Update`: whether the spec was replaced (`true`) or live already (`false`).
    Updated(Result<bool, UpdateError>),
    /// To `Terminate`.
    Terminated(Result<(), TerminateError>),
    /// To `WhichChildren`, ordered by id.
    Children(Vec<ChildInfo>),
    /// To `Whereis`.
    Whereis(Option<Location>),
    /// To `WaitUntilRunning`.
    Running(Result<Location, WaitError>),
    /// To `SetKeyring`.
    KeyringSet(Result<(), SetKeyringError>),
    /// To `Leave`.
    Left(Result<(), LeaveError>),
    /// To any command on a scope that this node has not joined, or after it left.
    Unavailable(crate::error::Unavailable),
}

/// A part of a listing.
#[derive(Clone, Debug)]
pub struct Page {
    /// Children in no particular order.
    pub children: Vec<ChildInfo>,
    /// Where the next part ends; `None` if this was the last one.
    pub next: Option<usize>,
}

/// A datagram to send, borrowed from the state machine's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    /// Where to.
    pub to: SocketAddr,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Something that the caller must do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Open a stream; answer with [`StreamEvent::Connected`], [`StreamEvent::Refused`] or [`StreamEvent::Closed`].
    Connect {
        /// Its name from now on.
        conn: ConnId,
        /// Where to.
        to: SocketAddr,
    },
    /// Send one frame (the caller puts its length before it).
    Frame {
        /// On which stream.
        conn: ConnId,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// Close a stream after what was queued on it has been sent. No event follows.
    Close {
        /// Which stream.
        conn: ConnId,
    },
    /// Resolve the seeds and call [`Node::handle_seeds`](super::Node::handle_seeds).
    ResolveSeeds,
    /// Run a child: decode its arguments, `init`, `run`; report each step.
    StartChild(StartChild),
    /// Stop a run, by its shutdown policy; report its exit when no code of it runs any more.
    StopChild {
        /// Which run.
        run: RunId,
        /// How.
        shutdown: Shutdown,
    },
    /// The answer to a call.
    Reply {
        /// Which call.
        request: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// Tell the users of a scope.
    Event {
        /// Which scope.
        scope: ScopeId,
        /// What happened.
        event: Event,
    },
    /// The live members of a scope changed; [`Node::members`](super::Node::members) lists them.
    Members {
        /// Which scope.
        scope: ScopeId,
    },
    /// The node has left; drop it after what was queued has been sent.
    Left,
}

/// A child to run.
#[derive(Clone, Debug)]
pub struct StartChild {
    /// In which scope.
    pub scope: ScopeId,
    /// The name of this run.
    pub run: RunId,
    /// Which child.
    pub id: ChildId,
    /// How.
    pub spec: Arc<Spec>,
    /// Its epoch.
    pub epoch: Epoch,
}

/// Why the state machine wants to be called at its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wakeup {
    /// A timer of SWIM.
    Swim,
    /// Announce, join or tell suspects.
    Membership,
    /// Ask again, or repeat a direct message.
    Ask,
    /// Pass records on.
    Gossip,
    /// The safety net.
    Sync,
    /// A child's backoff ends.
    Backoff,
    /// A scope may settle.
    Settle,
    /// An exchange or a stream is overdue.
    Stream,
    /// A leave, a search or another call is overdue.
    Call,
}
