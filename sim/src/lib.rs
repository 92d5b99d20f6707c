//! Real haulout nodes under virtual time: a cluster in one thread, without sockets, clocks or tasks, in which every
//! run can be repeated from its seed.
//!
//! # Runs
//!
//! A [`Scenario`] says everything about a run: the nodes and their configuration, the links, how children behave, which
//! faults and calls happen when, what is expected. It is built in code, read from a file, or drawn from a seed by a
//! [`Draw`](scenario::Draw). [`Scenario::run`] runs it: faults and calls go on for its duration, then everything heals,
//! must converge, rest, and stand a planned change. What came of it is [`Ran`]: the [`Verdict`], the figures, and the
//! [`Cluster`] as it was in the end.
//!
//! ```
//! use std::time::Duration;
//! use haulout_sim::{Scenario, for_each_seed, scenario::{Act, Expect}};
//!
//! let secs = Duration::from_secs;
//! for_each_seed(1..=3, |seed| {
//!     let ran = Scenario::new(seed)
//!         .with_nodes(4)
//!         .at(secs(2), Act::start_many("mailer", 10, "mailer", "node-0"))
//!         .at(secs(10), Act::crash("node-1", secs(5)))
//!         .lasting(secs(30))
//!         .expecting(Expect { count: Some(10), duplicate_max: Some(Duration::ZERO), ..Expect::default() })
//!         .run();
//!     ran.assert_passed();
//!     assert!(ran.tally.orphans.iter().all(|&nowhere| nowhere < secs(8)));
//! });
//! ```
//!
//! # What is judged
//!
//! The [`invariants`] judge from the [`journal`] of the children and from the [`history`] of calls and faults, never
//! from the books of a node. Children are plans here: how long they take to start and to stop, when and how they fail.
//!
//! # Step by step
//!
//! What no scenario can say is done on a [`Cluster`]: it holds nodes (the same state machine as in production), a
//! [`network`] with its faults, [`streams`] and [`children`]. Users call nodes and wait in virtual time; single packets
//! can be held, dropped and replayed.
//!
//! The README has a quick start of the binary and every key of scenario files.
//!
//! # Features
//!
//! `cli` (default): the binary, reports as JSON and HTML, and the bench. Tests that embed the simulator do without it.

#[cfg(feature = "cli")]
pub mod bench;
pub mod bounds;
pub mod children;
pub mod cluster;
pub mod converge;
pub mod crew;
pub mod detection;
pub mod explain;
pub mod figures;
pub mod history;
pub mod invariants;
pub mod journal;
pub mod knowledge;
pub mod measures;
pub mod minimise;
pub mod network;
pub mod queue;
pub mod random;
pub mod recording;
pub mod reference;
pub mod report;
pub mod run;
pub mod scenario;
pub mod streams;
pub mod sweep;
pub mod tally;
pub mod trace;
pub mod verdict;
pub mod view;
pub mod wall;
mod words;

use std::fmt;

pub use bounds::Bounds;
pub use children::{Plan, Start};
pub use cluster::{Cluster, Datagram, NodeOptions, NodeState, Options, Packet, Request, Resume, Traffic, Treatment};
pub use crew::for_each_seed;
pub use invariants::{Evidence, Invariant};
pub use network::{Class as PacketClass, Link};
pub use random::Range;
pub use recording::Recording;
pub use run::{Ran, Settings, run};
pub use scenario::{Scenario, ScenarioError};
pub use verdict::{Class, Verdict, Violation};

/// A node of a simulated cluster, by the order in which they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIdx(pub usize);

impl fmt::Display for NodeIdx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// The examples of the manual are tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Manual;
