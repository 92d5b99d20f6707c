//! Who is who on the wire: instances, identities, scopes, dots, epochs.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

/// One life of a node: a random number drawn at every process start.
///
/// It is never compared as a time. A fast restart on the same address is a new instance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId([u8; 8]);

impl InstanceId {
    /// The instance with this number.
    pub const fn new(number: u64) -> Self {
        InstanceId(number.to_be_bytes())
    }

    /// The number of this instance.
    pub const fn get(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.get())
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What SWIM knows a node by. Kept lean: each byte is paid for in every membership update.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The advertised address, UDP and TCP.
    pub addr: SocketAddr,
    /// Raised by a node that was declared down and comes back: the same instance under a new identity.
    pub bump: u32,
    /// The life of the node.
    pub instance: InstanceId,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}.{}", self.addr, self.instance, self.bump)
    }
}

/// A scope on the wire: the hash of its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ScopeId([u8; 8]);

impl ScopeId {
    /// The id of the scope with this name.
    pub fn of(name: &str) -> Self {
        ScopeId(XxHash3_64::oneshot(name.as_bytes()).to_be_bytes())
    }

    /// The number of this scope.
    pub const fn get(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

impl fmt::Debug for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scope-{:016x}", self.get())
    }
}

/// The serial number of one write: who wrote it, and the writer's how-manieth it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// The instance that wrote.
    pub writer: InstanceId,
    /// From 1, without gaps, per writer.
    pub n: u64,
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.writer, self.n)
    }
}

/// The number of one run of a child, greater than that of every earlier run that its node had heard of.
///
/// Compared by birth, then run. Epochs begin anew when the whole cluster starts anew, so they are no fencing token
/// across that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// The birth of the life (one accepted start) that runs.
    pub birth: u64,
    /// How many times this life has been started, this time included.
    pub run: u32,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.birth, self.run)
    }
}
