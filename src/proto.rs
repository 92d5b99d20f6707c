//! The deterministic state machine of one node: SWIM membership (by foca), replicated group state, rendezvous
//! placement, supervision.
//!
//! Sans-IO: it reads no clock, opens no socket, spawns no task, takes no lock, and all its randomness comes from one
//! seed. The runtime drives it in production and the simulator in tests, and it can't tell the difference. The same
//! inputs give the same outputs, so no `HashMap` is iterated anywhere below.
//!
//! Public for the simulator and the benchmarks; no part of the crate's stable interface.
#![doc(hidden)]

mod allowance;
mod budget;
mod few;
mod gaps;
pub mod group;
mod half_open;
mod handover;
mod hash;
mod health;
mod hearing;
pub(crate) mod hint;
mod ids;
mod io;
mod links;
mod lives;
mod looks;
mod membership;
mod named;
mod node;
mod notices;
mod obituaries;
pub(crate) mod outbox;
pub mod packet;
pub mod placement;
mod probes;
mod questions;
mod refusals;
mod runs;
mod sabotage;
mod scope;
mod shared;
mod sites;
mod sources;
mod stats;
mod supervision;
mod suspicion;
mod time;
mod timer;
mod traffic;
mod transmits;
pub mod wire;

pub use half_open::HALF_OPEN_MAX;
pub use ids::{Dot, Epoch, Identity, InstanceId, ScopeId};
pub use io::*;
pub use node::{Birth, Node, Size};
pub use runs::Runs;
pub use sabotage::{Rule, Sabotage};
pub use shared::Fanout;
pub use sites::{FaultSites, Site};
pub use stats::{Figure, FigureKind, ScopeStats, Stats};
pub use time::Time;
