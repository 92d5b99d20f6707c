//! The commands, one file each. Each returns its exit code, or what is wrong with its arguments.

pub(crate) mod args;
pub(crate) mod batch;
pub(crate) mod bench;
pub(crate) mod detection;
pub(crate) mod explain;
pub(crate) mod list;
pub(crate) mod minimise;
pub(crate) mod mutants;
pub(crate) mod run;
pub(crate) mod sweep;

/// Why a command could not be executed.
pub(crate) type Wrong = Box<dyn std::error::Error>;

/// Two runs of one seed differed.
pub(crate) const DIFFERS: u8 = 4;
