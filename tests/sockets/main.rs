//! The whole library over real sockets: small clusters of several nodes in one process, and of processes of their own.
//!
//! What happened is judged from what the children themselves write down (see [`support::journal`]), not from the
//! library's books. Nothing waits for a fixed time: conditions are awaited, with a deadline.

mod bad_input;
mod blocking;
mod chaos;
mod children;
mod crashes;
mod kinds;
mod leaving;
mod listings;
mod moves;
mod processes;
mod restarts;
mod scopes;
mod security;
mod support;
mod termination;
