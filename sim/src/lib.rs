//! Real haulout nodes under virtual time: a cluster in one thread, without sockets, clocks or tasks, in which every
//! run can be repeated from its seed.
//!
//! A [`Cluster`] holds nodes (the same state machine as in production), a [`network`] with its faults, [`streams`]
//! and [`children`] that behave as planned. Users call nodes and wait in virtual time. Afterwards the [`checks`]
//! judge from the [`journal`] of the children and from the [`history`] of calls and faults, never from the books of
//! a node. [`swarm()`] lets a seed decide everything.

#[cfg(feature = "cli")]
pub mod bench;
pub mod checks;
pub mod children;
pub mod cluster;
pub mod history;
pub mod journal;
pub mod knowledge;
pub mod mutants;
pub mod network;
pub mod queue;
pub mod random;
pub mod streams;
pub mod swarm;
pub mod trace;

use std::fmt;

pub use children::{Plan, Start};
pub use cluster::{Cluster, Datagram, NodeOptions, NodeState, Options, Packet, Request, Resume, Traffic, Verdict};
pub use network::{Class, Link};
pub use random::Range;
pub use swarm::{Failure, Report, SwarmOptions, swarm};

/// A node of a simulated cluster, by the order in which they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIdx(pub usize);

impl fmt::Display for NodeIdx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}
