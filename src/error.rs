//! The public errors: one enum per operation. Each variant's documentation gives the cause, the state it left, and
//! the remedy.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

use crate::child::Spec;
use crate::config::ConfigError;
use crate::key::{HOW_TO_MAKE, KEYS_MAX, KeyError};

/// A node that could not be started. Nothing is left behind: no socket, no thread.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartNodeError {
    /// The configuration can't be used; every reason is listed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no tokio runtime to run children on. Call `start` from within one.
    #[error("no tokio runtime: call start from within one, children run on it")]
    NoRuntime,
    /// Another process has the port, for TCP or UDP. Stop it, or choose another port.
    #[error(
        "{addr} is in use: stop the process that has this port for TCP or UDP, or set another port in bind (0 takes \
         a free one)"
    )]
    AddressInUse {
        /// The address.
        addr: SocketAddr,
    },
    /// The sockets could not be opened at this address. Set `bind` to an address of this machine.
    #[error("can't listen on {addr}: {source}; set bind to an address of this machine")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file that `security.file` names can't be read. Correct it, or let the node's user read the file.
    #[error("can't read keys from {path}: {source}; correct security.file, or let this user read it", path = path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The environment variable that `security.env` names is not set. Set it, or correct the name.
    #[error("the environment variable {name} has no keys: set it, or correct security.env")]
    KeyVariable {
        /// Its name.
        name: String,
    },
    /// What a file or an environment variable holds is no key.
    #[error("in {place}: {source}")]
    Key {
        /// The file with the line, or the variable.
        place: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// There are no keys in all places that `security` names, or more than 16.
    #[error("the keyring has {count} keys, it must have 1 to {KEYS_MAX}: make one with `{HOW_TO_MAKE}`")]
    KeyCount {
        /// How many there are.
        count: usize,
    },
    /// The operating system gave no thread, no timer or no random numbers.
    #[error("the operating system refused {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// The protocol loop ended while it started: a bug, which is in the log.
    #[error("the protocol loop ended while it started, which is a bug; see the log")]
    Crashed,
}

/// A keyring that was not taken over. The one before stays in use.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetKeyringError {
    /// The node was started in plaintext. Start it again with a keyring: a running one can't change over, because neither
    /// kind of node hears the other.
    #[error("this node was started in plaintext: start it again with a keyring")]
    Plaintext,
    /// The ring is empty or has more than 16 keys.
    #[error("the keyring has {count} keys, it must have 1 to {KEYS_MAX}")]
    KeyCount {
        /// How many it has.
        count: usize,
    },
    /// The node is gone.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A child spec that can't be accepted. Nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpecError {
    /// The id is empty or too long. Choose one of 1 to 255 bytes.
    #[error("child id has {len} bytes, it must have 1 to 255")]
    IdLength {
        /// Its length.
        len: usize,
    },
    /// The kind is empty or too long. Choose one of 1 to 255 bytes.
    #[error("kind has {len} bytes, it must have 1 to 255")]
    KindLength {
        /// Its length.
        len: usize,
    },
    /// The serialized arguments are too large. Pass a reference to the data instead of the data.
    #[error("arguments have {len} bytes, at most 65536 are allowed: pass a reference to the data instead")]
    ArgsLength {
        /// Their length.
        len: usize,
    },
    /// The labels that a node must have are too many or too long.
    #[error("{labels} labels of {bytes} bytes are asked of a node, at most 8 of 1024 bytes in all are allowed")]
    NodeSelector {
        /// How many there are.
        labels: usize,
        /// How long they are together.
        bytes: usize,
    },
    /// The arguments could not be serialized.
    #[error("arguments can't be serialized: {0}")]
    Serialize(String),
}

impl From<std::convert::Infallible> for SpecError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// Why a call did not reach a supervisor. Nothing was changed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// The node has left the cluster or was dropped. Start a new one.
    #[error("this node has left the cluster")]
    NodeGone,
    /// The node is leaving and takes no more starts. Ask another node.
    #[error("this node is leaving the cluster")]
    Leaving,
    /// The node has not settled yet and too many calls wait already. Try again later.
    #[error("too many calls wait for this node to settle")]
    Busy,
}

/// A `start_child` that was not accepted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// A child with this id is live with another spec. Nothing changed. Replace it with `update_child`, or
    /// terminate it first.
    #[error(
        "child is already started with another spec (kind {}, {} bytes of arguments, {:?}): replace it with \
         update_child, or terminate it first",
        existing.kind, existing.args.len(), existing.restart
    )]
    AlreadyStarted {
        /// The spec of the live child.
        existing: Box<Spec>,
    },
    /// The request was accepted and stays so, but the child did not run as asked for with `running`. The source says
    /// why; `which_children` says what the child is doing.
    #[error("accepted, but does not run: {0}")]
    NotRunning(#[source] WaitError),
    /// The scope is full. Terminate children, or raise `limits.children_max` on every node.
    #[error("the scope has {max} children, as many as limits.children_max allows")]
    TooManyChildren {
        /// How many it may have.
        max: usize,
    },
    /// The spec can't be accepted.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The call did not reach the supervisor.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// An `update_child` that was not accepted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateError {
    /// No child with this id is known here. Start it instead.
    #[error("no such child")]
    NotFound,
    /// The request was accepted and stays so, but the child did not run as asked for with `running`. The source says
    /// why; `which_children` says what the child is doing.
    #[error("accepted, but does not run: {0}")]
    NotRunning(#[source] WaitError),
    /// The spec can't be accepted.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The call did not reach the supervisor.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A `terminate_child` that was not accepted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TerminateError {
    /// No child with this id is known, neither here nor at the members that were asked.
    #[error("no such child")]
    NotFound,
    /// The id is empty or too long.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The call did not reach the supervisor.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A wait for a child that did not end well. The child itself is not affected.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// It did not run within the time. `which_children` says what it is doing.
    #[error("child did not run in time")]
    Timeout,
    /// It is not known, or was terminated meanwhile.
    #[error("no such child")]
    NotFound,
    /// The id is empty or too long.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The call did not reach the supervisor.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A `whereis` that could not be answered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhereisError {
    /// The id is empty or too long.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The call did not reach the supervisor.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A scope that can't be joined. Nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinScopeError {
    /// This node is in the scope already. Clone the first supervisor instead.
    #[error("this node has joined scope {0:?} already")]
    AlreadyJoined(Arc<str>),
    /// The node is in as many scopes as it may be.
    #[error("this node has joined {0} scopes, it may not join more")]
    TooManyScopes(usize),
    /// The scope's name is empty or longer than 255 bytes.
    #[error("scope name has {len} bytes, it must have 1 to 255")]
    NameLength {
        /// Its length.
        len: usize,
    },
    /// Kinds, labels and version of this node are too much to tell every member.
    #[error(
        "kinds, labels and version have {bytes} bytes in {labels} labels, at most 8192 bytes and 16 labels are allowed"
    )]
    RecordTooLarge {
        /// How many bytes they have together.
        bytes: usize,
        /// How many labels there are.
        labels: usize,
    },
    /// Two registrations of one kind.
    #[error("kind {0:?} is registered twice")]
    DuplicateKind(Arc<str>),
    /// Two start-up children have one id.
    #[error("start-up child {0:?} is listed twice")]
    DuplicateChild(Arc<str>),
    /// A start-up child or a kind can't be accepted.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The node is gone or leaving.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A `leave` that did not end cleanly.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaveError {
    /// These children had not ended a second after they were aborted (a thread that never yields). The node stays
    /// in the cluster, draining, and keeps others from starting them. Call `leave` again, or end the process.
    #[error("{} children are still running: {children:?}", children.len())]
    StillRunning {
        /// Which.
        children: Vec<crate::child::ChildId>,
    },
    /// The node is gone already.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}
