//! The tokio side: handles, sockets, timers, child tasks. It makes no decision of the protocol; those are in `proto`.

mod clock;
mod context;
#[cfg(feature = "doctor")]
pub mod doctor;
mod driver;
mod due_timer;
mod frames;
mod keys;
mod kinds;
mod launch;
mod log;
#[cfg(feature = "metrics")]
mod metrics;
mod node;
mod orders;
mod polls;
mod scope;
mod seeds;
mod sockets;
mod state;
mod streams;
mod supervisor;
mod tasks;

pub use context::{BoxError, Child, ChildContext};
pub use node::{Node, NodeBuilder};
pub use scope::ScopeBuilder;
pub use supervisor::{StartChild, Started, Supervisor, TerminateChild, UpdateChild};
