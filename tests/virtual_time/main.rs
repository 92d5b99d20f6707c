//! Behaviour of the whole library in virtual time: real nodes, no sockets, every run repeatable from its seed.
//!
//! One file per subject. Everything is judged from outside: from the children's own start and stop times, from
//! listings and from events.

mod any_bytes;
mod budgets;
mod chaos;
mod children;
mod crashes;
mod determinism;
mod examining;
mod figures;
mod golden;
mod hostile;
mod leaving;
mod listings;
mod lone;
mod membership;
mod moves;
mod network;
#[path = "../../benches/pair/mod.rs"]
mod pair;
mod pauses;
mod placement;
mod processes;
mod restarts;
mod scopes;
mod security;
mod silence;
mod startup;
mod support;
mod terminate;
