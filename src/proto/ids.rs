//! Who is who on the wire: instances, identities, scopes, dots, epochs.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use twox_hash::XxHash3_64;

/// One life of a node: a random number drawn at every process start.
///
/// It is never compared as a time. A fast restart on the same address is a new instance. None is 0, so that an optional
/// one takes no more memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(NonZeroU64);

impl InstanceId {
    /// The first in order.
    pub const LOWEST: InstanceId = InstanceId(NonZeroU64::MIN);

    /// The instance with this number; 0, which none has, counts as the highest one.
    pub const fn new(number: u64) -> Self {
        match NonZeroU64::new(number) {
            Some(number) => InstanceId(number),
            None => InstanceId(NonZeroU64::MAX),
        }
    }

    /// The number of this instance.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl Serialize for InstanceId {
    /// Eight bytes: a random number has no use for a variable length.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().to_be_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::from_be_bytes(<[u8; 8]>::deserialize(deserializer)?);
        NonZeroU64::new(number).map(InstanceId).ok_or_else(|| D::Error::custom("an instance is never 0"))
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
