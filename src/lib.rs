//! A distributed supervisor for clustered services.
//!
//! Every instance of a service embeds this library; the instances find each other by gossip (SWIM), agree on who is
//! alive, and share out *children*: long-running async tasks, each of which runs on exactly one live node. A child can
//! be started or terminated from any node. When nodes come and go, children move, and only as many as must.
//!
//! # Example
#![cfg_attr(feature = "runtime", doc = "```no_run")]
#![cfg_attr(not(feature = "runtime"), doc = "```ignore")]
//! use haulout::{BoxError, Child, ChildContext, ChildSpec, Config, Node};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Monitor { target: String }
//!
//! impl Child for Monitor {
//!     const KIND: &'static str = "monitor";
//!     async fn run(self, ctx: ChildContext) -> Result<(), BoxError> {
//!         println!("{} watches {}", ctx.node(), self.target);
//!         ctx.stopping().await;
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let bind = std::env::args().nth(1).unwrap_or("127.0.0.1:7946".into()).parse()?; // another port in each process
//! let seeds = vec!["127.0.0.1:7946".into(), "127.0.0.1:7947".into()]; // the same in each
//! let config = Config { bind, seeds, ..Config::default() };
//! let node = Node::builder(config).start().await?;
//! let supervisor = node.scope("monitors").kind::<Monitor>().join().await?;
//! let monitor = Monitor { target: "db:5432".into() };
//! supervisor.start_child(ChildSpec::new("db", &monitor)?).await?;
//! tokio::signal::ctrl_c().await?;
//! node.leave().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # The words
//!
//! A *node* is one `Node` in one process, with one UDP socket and one TCP listener on one port. A *scope* is a name:
//! supervisors cooperate only within one scope, and a node can join many. A *child* has an id that the user chooses,
//! unique in its scope, and a *kind*: code can't be sent, so a spec names a kind and carries serialized arguments, and
//! a child is given only to nodes that have registered its kind. The node to which placement assigns a child is its
//! *owner*. Each run of a child has an *epoch*, higher than that of every earlier run known.
//!
//! # What is promised
//!
//! 1. **Convergence.** Once the network is quiet and membership is stable, every desired child runs on exactly one
//!    node: its placement. Nothing else runs.
//! 2. **Nothing lost.** An acknowledged `start_child` survives as long as one node that has heard of it survives. An
//!    acknowledged `terminate_child` is never undone by an old copy of the start.
//! 3. **Stop before start.** A child that moves between two nodes that can talk is never on both. It is started on
//!    the new node only after the old node says that it has stopped.
//! 4. **A failed start or a crash of a child touches no sibling**, and never the supervisor. A move whose start fails
//!    leaves a visible, retried child, not a lost one.
//! 5. **Unknown is not dead.** A child is taken over only when its node is *known* to be down, left, or restarted;
//!    never because a record is missing.
//! 6. **Under a partition** the default is availability: each side may run its own copy; after healing, the duplicates
//!    are resolved. The time that duplicates lived is measured and exported.
//!
//! "Can talk" means: answers within `confirm_timeout`. A start that did not wait any longer is told by
//! [`Event::StartedUnconfirmed`], with the members that were silent. A child that is acknowledged here is known to one
//! node; where that is too little, wait for more with `start_child(..).replicated(k)`.
//!
//! # What is not promised
//!
//! Nothing is on disk, so dynamic children are gone when all nodes stop at once. A Temporary child may run twice if its
//! runner dies before one message got out, and one that both sides of a split started stays on both, because it never
//! yields. "Stopped" means that the future was dropped; threads that it made are the
//! user's. Epochs begin anew with the whole cluster, so they are no fencing token across that.
//!
//! # Children
//!
//! A child is a value of a type that implements `Child`, or bytes given to a closure (`ScopeBuilder::kind_fn`). It
//! runs as a task of its own on the tokio runtime on which the node was started. The protocol has a thread of its own:
//! a child that blocks its thread holds up other tasks on that thread, never the node, and is named by a warning and by
//! [`Event::ChildBlocks`] after a second (in profile `wan` a few). For that each poll of a child is counted, at the price of a
//! few nanoseconds.
//!
//! A child that fails is restarted where it is, as its [`Restart`] policy says. Past `max_restarts` within
//! `max_restart_window` it backs off, visibly, and its siblings never notice. To stop a child, its [`Shutdown`] policy
//! is followed: signalled first (`ChildContext::stopping`), aborted when its time is up. An abort takes effect where
//! the child next awaits.
//!
//! # The end of a node
//!
//! `Node::leave` hands every child over and then goes; the others need not detect anything. When the last handle of a
//! node (`Node` or `Supervisor`) is dropped, it leaves in the same way in the background; a handle that a child or a
//! `kind_fn` closure keeps counts too. A child that is to be stopped with `Shutdown::Infinity` holds up a leave until it
//! ends. When the tokio runtime of the children is shut down, they are gone with it, and the node leaves at once.
//!
//! That a process was killed is noticed by the others by its streams, in the profiles `local` and `lan` usually within a
//! tenth of a second (in a cluster of two within 0.2 and 0.6 s), and its children are taken over then. A protocol loop
//! that panics, which is a bug, looks the same: the children of that node are aborted, but one that does not await may
//! run on beside its successor for a moment.
//!
//! # Configuration
//!
//! [`Config`] is plain data for serde; every field has a default and [`Config::check`] names everything that is wrong.
//!
//! - `seeds`: nodes that usually run, more than may be down at once; list the same ones on every node. They are only
//!   needed to join, but a node that starts while none of them is up begins a cluster of its own after
//!   `settle_timeout` (logged as a warning), and children may run twice until they meet.
//! - `name`: set it where addresses change (containers) and names do not, so that a restart moves no child.
//! - `profile`: `lan` suits one data centre and gives a silent node up after about 2 s; `local` (about 1.5 s) suits one
//!   rack and tests; `wan` (about 12 s) suits several regions. Where others do not confirm the silence, or there are none
//!   (a cluster of two), it takes twice as long or more. That a process has died is mostly noticed in a fraction of that, where
//!   its machine is still there and refuses its port.
//! - `sync_interval` (5 s): the safety net. What can be acted on at once is, so it bounds only the recovery from lost
//!   messages. Shorten it where packets are lost often; idle costs grow in proportion.
//! - `settle_timeout` (2 s): how long a node that finds no settled member waits before it settles by itself. Lengthen
//!   it where nodes take long to find each other at a cold start.
//! - `start_timeout` (30 s): longer than the slowest honest `init`.
//! - `leave_timeout` (10 s): shorter than what your orchestrator waits before it kills.
//! - `security`: beyond loopback, a keyring of pre-shared [`Key`]s, which seals every packet. Whoever has no key can neither
//!   read nor forge; plaintext must be allowed by name (`allow_beyond_loopback`), on networks where every host is trusted.
//!
//! # Features
//!
//! - `runtime` (default): the tokio side. Without it only the deterministic state machine is built, for the simulator.
//! - `metrics`: every figure of a node under a stable name, for the facade of that name; see [`operations`].
//! - `doctor`: the module `doctor` and the program `haulout-doctor`, which say whether the nodes of a configuration can reach
//!   each other.
//! - `simulation`: for `haulout-sim` only. It lets a simulated node leave out rules of the protocol and do what is rare.

// Compiles the examples of the README with the other documentation tests.
#[cfg(all(doctest, feature = "runtime"))]
#[doc = include_str!("../README.md")]
mod readme {}

mod child;
mod config;
mod error;
mod info;
mod key;
#[doc = include_str!("operations/guide.md")]
#[doc = include_str!("operations/log.md")]
#[doc = include_str!("operations/figures.md")]
pub mod operations {}
pub mod proto;
#[cfg(feature = "runtime")]
mod runtime;

pub use child::{
    ARGS_BYTES_MAX, ChildId, ChildSpec, Kind, NAME_BYTES_MAX, NODE_SELECTOR_MAX, NodeSelector, Restart, Shutdown, Spec,
};
pub use config::{Config, ConfigError, Limits, Profile, Security};
pub use error::{
    JoinScopeError, LeaveError, SetKeyringError, SpecError, StartError, StartNodeError, TerminateError, Unavailable,
    UpdateError, WaitError, WhereisError,
};
pub use info::{
    ChildInfo, ChildState, Event, Location, MemberInfo, Outcome, RefusalReason, SilentMember, Unplaced, Which,
};
pub use key::{Key, KeyError};
pub use proto::{Epoch, Figure, FigureKind, InstanceId, ScopeStats, Stats};
#[cfg(feature = "doctor")]
pub use runtime::doctor;
#[cfg(feature = "runtime")]
pub use runtime::{
    BoxError, Child, ChildContext, Node, NodeBuilder, ScopeBuilder, StartChild, Started, Supervisor, TerminateChild,
    UpdateChild,
};
