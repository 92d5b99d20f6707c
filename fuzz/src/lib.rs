//! What fuzzers do to haulout, as plain functions of bytes: the targets of cargo-fuzz call them with what they make up,
//! and `cargo test` with what is kept in `corpus/`. Each returns if everything is as it must be, and panics otherwise.

mod cluster;
mod lone;
mod merge;
mod script;
mod text;
mod voices;

pub use cluster::{Deed, cluster};
pub use lone::{Lone, datagram, keyed, node, stream};
pub use merge::{Change, merge};
pub use script::{Report, Step, identity, read, write};
pub use text::{config, scenario};

/// A target, by its name.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 8] = [
    ("datagram", datagram),
    ("stream", stream),
    ("node", node),
    ("keyed", keyed),
    ("cluster", cluster),
    ("merge", merge),
    ("config", config),
    ("scenario", scenario),
];
