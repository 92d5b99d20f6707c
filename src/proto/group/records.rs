//! What is replicated: desired children, and what each member says of itself.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use twox_hash::XxHash3_64;

use super::replica::{Key, Value};
use crate::child::{ChildId, Kind, Spec};
use crate::proto::hash::fmix64 as mix;
use crate::proto::{Dot, Epoch, InstanceId};

/// A child id with its hash, by which it is placed and filed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChildKey {
    hash: u64,
    id: ChildId,
}

impl ChildKey {
    /// The key of this id.
    pub fn new(id: ChildId) -> Self {
        ChildKey { hash: XxHash3_64::oneshot(id.as_bytes()), id }
    }

    /// The XXH3-64 of the id.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The id.
    pub fn id(&self) -> &ChildId {
        &self.id
    }
}

impl Serialize for ChildKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.id.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ChildKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ChildId::deserialize(deserializer).map(ChildKey::new)
    }
}

impl Key for ChildKey {
    fn position(&self) -> u64 {
        self.hash
    }

    fn first_at(position: u64) -> Self {
        ChildKey { hash: position, id: ChildId::lowest() }
    }
}

/// What users asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// How the child runs.
    #[serde(deserialize_with = "shared")]
    pub spec: Arc<Spec>,
    /// The highest run of this life that was ever heard of.
    pub run: u32,
}

/// serde's own way to an `Arc` allocates twice, and every start is read by every node.
fn shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Spec>, D::Error> {
    Spec::deserialize(deserializer).map(Arc::new)
}

impl Value for Desired {
    fn note(&self) -> u32 {
        self.run
    }

    fn absorb(&mut self, note: u32) {
        self.run = self.run.max(note);
    }
}

/// What a member says, about itself or about one of its children.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnedKey {
    position: u64,
    child: Option<ChildId>,
    instance: InstanceId,
}

impl OwnedKey {
    /// The claim of an instance on a child.
    pub fn claim(child: &ChildKey, instance: InstanceId) -> Self {
        OwnedKey { position: child.hash, child: Some(child.id.clone()), instance }
    }

    /// The record of an instance about itself.
    pub fn member(instance: InstanceId) -> Self {
        OwnedKey { position: mix(instance.get()), child: None, instance }
    }

    /// The writer.
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// The child, if this is a claim.
    pub fn child(&self) -> Option<ChildKey> {
        self.child.as_ref().map(|id| ChildKey { hash: self.position, id: id.clone() })
    }
}

impl Serialize for OwnedKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.child, self.instance).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for OwnedKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (child, instance) = <(Option<ChildId>, InstanceId)>::deserialize(deserializer)?;
        Ok(match child {
            Some(id) => OwnedKey::claim(&ChildKey::new(id), instance),
            None => OwnedKey::member(instance),
        })
    }
}

impl Key for OwnedKey {
    fn position(&self) -> u64 {
        self.position
    }

    fn first_at(position: u64) -> Self {
        OwnedKey { position, child: None, instance: InstanceId::LOWEST }
    }
}

/// One of the two things that a member writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owned {
    /// About itself.
    Member(Arc<MemberRecord>),
    /// About a child that it runs.
    Claim(Claim),
}

impl Owned {
    /// The claim, if it is one.
    pub fn claim(&self) -> Option<&Claim> {
        match self {
            Owned::Claim(claim) => Some(claim),
            Owned::Member(_) => None,
        }
    }
}

impl Value for Owned {}

/// The most bytes that a member may say of itself. It leads its Asks until it is known, and every node keeps it of every
/// member: it must fit into a few datagrams.
pub(crate) const RECORD_BYTES_MAX: usize = 8 * 1024;
/// The most labels that a member may have: every placement of a child that asks for some compares them.
pub(crate) const LABELS_MAX: usize = 16;

/// The bytes of what its user chose freely about a member.
pub(crate) fn record_bytes(version: &str, kinds: &[Kind], labels: &[(String, String)]) -> usize {
    version.len()
        + kinds.iter().map(|kind| kind.as_str().len() + 1).sum::<usize>()
        + labels.iter().map(|(label, text)| label.len() + text.len() + 2).sum::<usize>()
}

/// What a member of a scope says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRecord {
    /// Its stable name.
    pub name: Arc<str>,
    /// Its share of children.
    pub weight: u16,
    /// What it can run, in order.
    pub kinds: Vec<Kind>,
    /// Free text.
    pub labels: Vec<(String, String)>,
    /// The version of the service.
    pub version: String,
    /// Whether it has the scope's state.
    pub settled: bool,
    /// Where in the births of member records and claims it settled: after everything that it had heard of. The
    /// greatest number before that. It never changes later, so all nodes agree who of two with one name came first.
    pub joined: u64,
    /// Whether it is leaving.
    pub draining: bool,
    /// Whether it has left; what foca then calls down was wanted.
    pub left: bool,
}

impl MemberRecord {
    /// What the member's own node would not have let through, and somebody else has sent.
    pub(crate) fn is_too_large(&self) -> bool {
        self.labels.len() > LABELS_MAX || record_bytes(&self.version, &self.kinds, &self.labels) > RECORD_BYTES_MAX
    }
}

/// What a member says of a child that it runs, or refuses to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// What the child is doing.
    pub state: ClaimState,
    /// Which life runs.
    pub life: Dot,
    /// Which run.
    pub epoch: Epoch,
    /// Since when, in milliseconds since the Unix epoch by the member's own clock; only shown.
    pub since_ms: u64,
    /// Restarts after failures.
    pub restarts: u32,
    /// The last error, at most 256 bytes. Nearly every claim has none, so it takes one word and not the two of a slice.
    pub last_error: Option<Arc<String>>,
}

/// What a claimed child is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimState {
    /// `init` runs.
    Starting,
    /// It runs.
    Running,
    /// It was told to stop.
    Stopping,
    /// It waits for its next start.
    Backoff,
    /// The member does not understand its arguments: the next in order becomes owner.
    Declined,
}

impl Claim {
    /// Whether code of the child may be running there.
    pub fn is_live(&self) -> bool {
        self.state != ClaimState::Declined
    }
}
