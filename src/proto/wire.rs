//! What travels: the messages in packets, their version and their limits. Packets themselves are in
//! [`packet`](super::packet).
//!
//! Messages are postcard. Those about a scope follow a [`Message::Scope`] that names it.

use std::fmt;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use super::group::comparison::SeenStep;
use super::group::replica::{Record, Span};
use super::group::trie::{ARITY, Sums};
use super::group::{ChildKey, Desired, MemberRecord, Owned, OwnedKey};
use super::packet::StreamNonce;
use super::{Dot, Identity, InstanceId, ScopeId};
use crate::child::Spec;

/// The version of everything in this file and of packets. Nodes of different versions refuse each other, counted.
pub const WIRE_VERSION: u8 = 2;

/// The oldest version that this one understands.
pub const WIRE_VERSION_MIN: u8 = 2;

/// How much of a batch one frame carries: large enough that the kernel is the limit, small enough that a frame
/// never holds up another scope's for long.
pub const FRAME_BYTES_TARGET: usize = 64 * 1024;

/// A spec travels inside another message up to this size; larger ones are pulled.
pub const INLINE_SPEC_BYTES_MAX: usize = 1_024;

/// Roots that ride on one SWIM packet: with more scopes they take turns.
pub(crate) const ROOTS_MAX: usize = 4;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The first frame of a dialled stream.
    Hello(Hello),
    /// The answer to a Hello: who I am, and for a join the table of members.
    Welcome(Welcome),
    /// The other answer to a Hello. The stream ends here.
    Refuse(Refusal),
    /// You are suspected at this incarnation: refute it (Lifeguard's buddy system, Dadgar et al. 2018).
    Suspected(Identity, u16),
    /// You are down, left or superseded here under this identity; the bump that your address has here.
    YouAreDown(Identity, u32),
    /// Send me your table of members.
    TableRequest,
    /// My table of members.
    Table(Vec<TableEntry>),
    /// Whom I know. Leads answers.
    Members(Members),
    /// Hand these messages to that member.
    Relay(Identity, Vec<u8>),
    /// These messages come from that member, through the sender.
    Relayed(Identity, Vec<u8>),
    /// This standing stream ends because its sender wants it so: it says nothing about the sender's life.
    Unwatch,
    /// Answer at once.
    Probe(u64),
    /// The answer to the probe of this number.
    Echo(u64),
    /// The port of that member refuses me: look at it too and answer to this number.
    Look(u64, Identity),
    /// I have looked as the request of this number asked: whether its port refuses and it answers nothing.
    Looked(u64, bool),
    /// I live, and say so again within so many milliseconds: after that, miss me.
    Pulse(u32),
    /// That member does not answer me at this incarnation: ask it too.
    Silent(Identity, u16),
    /// That member lives at this incarnation: it said so to me, or it is me.
    Lives(Identity, u16),
    /// The roots of some scopes.
    Roots(Roots),
    /// The same, from a member that is about to leave: whoever differs pulls at once, and answers with its own.
    LastRoots(Roots),
    /// What follows is about this scope.
    Scope(ScopeId),
    /// About the scope named last.
    Scoped(ScopeMessage),
    /// The message that follows, of so many bytes, is passed from one to the next: whoever has heard it need not read it.
    Rumour(u16),
    /// I have no word of you: show that you live by sending this number back. Its own datagram, in keyed clusters.
    Challenge(u64),
    /// I live: the number of the challenge.
    Proof(u64),
    /// From somebody who looks whether datagrams come through, and need not be a member: send this number back, in as many
    /// bytes. Its own datagram; what follows it there is filling.
    Examine(u64),
    /// The answer: the number, the wall clock in milliseconds since the Unix epoch, and filling.
    Examined(u64, u64),
}

/// Whom a member knows, itself included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The hash of those that are active, which is a sum.
    pub active: u64,
    /// What those that have gone of late would add to it.
    pub gone: u64,
    /// Those that became active last.
    pub recent: Vec<Identity>,
}

/// The roots of scopes. So few as ride on one SWIM packet, which nearly every datagram of a node at rest is, need no
/// allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots(SmallVec<[(ScopeId, u64); ROOTS_MAX]>);

impl Roots {
    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = (ScopeId, u64)> {
        self.0.iter().copied()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(ScopeId, u64)> for Roots {
    fn from_iter<I: IntoIterator<Item = (ScopeId, u64)>>(roots: I) -> Self {
        Roots(roots.into_iter().collect())
    }
}

impl Serialize for Roots {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.0)
    }
}

impl<'de> Deserialize<'de> for Roots {
    /// One by one: the number that precedes them is the sender's word, and no reason to allocate anything.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneByOne;

        impl<'de> Visitor<'de> for OneByOne {
            type Value = Roots;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("roots of scopes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Roots, A::Error> {
                let mut roots = Roots::default();
                while let Some(root) = seq.next_element()? {
                    roots.0.push(root);
                }
                Ok(roots)
            }
        }
        deserializer.deserialize_seq(OneByOne)
    }
}

/// What one node knows of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    /// The member.
    pub identity: Identity,
    /// Its incarnation.
    pub incarnation: u16,
    /// What is known of it.
    pub state: TableState,
}

/// SWIM's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableState {
    /// Alive.
    Alive,
    /// Suspected.
    Suspect,
    /// Down.
    Down,
}

/// Who dials, and what it must have in common with whom it dials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The name of the cluster, for the error.
    pub cluster: String,
    /// The fingerprint of the placement function.
    pub placement: u64,
    /// The stable name of the dialling node.
    pub name: String,
    /// What the stream is for.
    pub purpose: Purpose,
    /// What binds the frames that follow to this stream, where they are sealed; zeros in plaintext.
    pub nonce: StreamNonce,
}

/// What a stream was dialled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// To carry messages.
    Messages,
    /// To join: the dialling node needs the table.
    Join,
    /// To stand and carry nothing: that it ends is news of either process to the other.
    Watch,
    /// To hear whether the dialling node would be let in, and who is there. The stream ends with the answer.
    Examine,
}

/// Who was dialled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Its stable name.
    pub name: String,
    /// Its table, for a join and for who examines.
    pub table: Vec<TableEntry>,
    /// As in the Hello.
    pub nonce: StreamNonce,
}

/// Why a stream was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// It belongs to this other cluster.
    Cluster(String),
    /// Its placement function is another one: two versions that may not be mixed.
    Placement,
    /// This name belongs to another live member, at this address.
    Name(String, std::net::SocketAddr),
    /// It watches as many as it may, or not one that is down there.
    Full,
}

/// One message about a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScopeMessage {
    /// Leads asks: the serial number of the sender's member record, the one of the receiver's that it has, and the
    /// record itself until the receiver has echoed its number.
    Lead {
        /// Of the sender's record.
        version: u64,
        /// Of the receiver's record, 0 for none.
        echo: u64,
        /// The sender's record.
        record: Option<Box<Record<Owned>>>,
    },
    /// A desired child.
    Put(ChildKey, Record<Desired>),
    /// A desired child, from its writer to whoever must act or keep it: acknowledge it.
    PutDirect(ChildKey, Record<Desired>),
    /// A desired child is removed.
    Del {
        /// Which.
        key: ChildKey,
        /// Which life of it.
        dot: Dot,
        /// The remover's highest birth.
        birth: u64,
        /// Whether to acknowledge it.
        direct: bool,
    },
    /// A direct message about this dot has arrived.
    Ack(ChildKey, Dot),
    /// A claim or a member record.
    PutOwned(OwnedKey, Record<Owned>),
    /// A claim is released, or a member record withdrawn.
    DelOwned(OwnedKey, Dot),
    /// May I start this child?
    Ask(Ask),
    /// The answer.
    Answer(Answer),
    /// Have you settled in this scope?
    StatusRequest,
    /// Whether the sender has joined the scope and settled in it.
    Status(Status),
    /// Do you hold a child with this id?
    Find(u64, ChildKey),
    /// The answer, with the record if so.
    Found(u64, ChildKey, Option<Record<Desired>>),
    /// A step of an exchange; on streams only.
    Exchange(Exchange),
}

/// The owner asks to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Which child.
    pub key: ChildKey,
    /// Which life of it.
    pub life: Dot,
    /// The birth of that life.
    pub birth: u64,
    /// What that life replaced.
    pub over: Option<Dot>,
    /// The spec, if it is small.
    pub spec: Option<Arc<Spec>>,
    /// The asker's round.
    pub round: u32,
    /// The how-manieth Ask of the round.
    pub attempt: u32,
    /// The highest run of the life that the asker heard of.
    pub run: u32,
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Which child.
    pub key: ChildKey,
    /// The instance that asked.
    pub to: super::InstanceId,
    /// The asker's round.
    pub round: u32,
    /// The Ask that is answered.
    pub attempt: u32,
    /// Whether the asker may start it.
    pub verdict: Verdict,
    /// The life that was asked about.
    pub asked: Dot,
    /// What the answerer knows of it.
    pub life: Life,
    /// The highest run of that life that the answerer heard of.
    pub run: u32,
}

/// Whether the asker may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// Nothing of the child runs at the answerer.
    Free,
    /// Something of it runs there, or will.
    Busy,
}

/// What the answerer knows of the life that was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Life {
    /// Nothing that speaks against it.
    Fine,
    /// It was removed; the answerer's highest birth.
    Gone(u64),
    /// Another life took its place, which the answerer tells beside this unless it is large: then the next exchange does.
    /// No permission, whatever the verdict.
    Replaced,
}

/// How far a node is in a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It has not joined it.
    Absent,
    /// It has joined it and does not have its state yet.
    Unsettled,
    /// It has its state.
    Settled,
}

/// The steps of a pull, in order. `p` is asked, `q` asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exchange {
    /// q: my first sums, and the hash of my active members.
    Pull {
        /// q's name for this pull.
        session: u32,
        /// The hash of q's active members.
        members: u64,
        /// Of the desired children.
        desired: Box<Opening>,
        /// Of what members own.
        owned: Box<Opening>,
    },
    /// p: my snapshot is taken, and this is where our sums differ.
    Snap {
        /// q's name for the pull.
        session: u32,
        /// Whether p has settled.
        settled: bool,
        /// Of the desired children.
        desired: Box<Snap>,
        /// Of what members own.
        owned: Box<Snap>,
    },
    /// q: my sums below nodes that differ, and which nodes to list.
    Descend {
        /// q's name for the pull.
        session: u32,
        /// In the desired children.
        desired: Box<Turn>,
        /// In what members own.
        owned: Box<Turn>,
    },
    /// p: my sums below those of them that differ.
    Deeper {
        /// q's name for the pull.
        session: u32,
        /// In the desired children.
        desired: Box<Turn>,
        /// In what members own.
        owned: Box<Turn>,
    },
    /// q: I have taken the last spans, send more.
    More {
        /// q's name for the pull.
        session: u32,
    },
    /// p: some of what differs; `last` ends the pull.
    Spans {
        /// q's name for the pull.
        session: u32,
        /// Whether this is all.
        last: bool,
        /// Who has gone down at p since the snapshot: p has forgotten what it had seen of them, and what they own is
        /// not listed for that reason alone.
        gone: Vec<InstanceId>,
        /// The last that is to be said of what p has seen, of the desired children and of what members own.
        seen: Box<(SeenStep, SeenStep)>,
        /// Of the desired children.
        desired: Vec<Span<ChildKey, Desired>>,
        /// Of what members own.
        owned: Vec<Span<OwnedKey, Owned>>,
    },
    /// p: not in the scope.
    Absent {
        /// q's name for the pull.
        session: u32,
    },
    /// p: too busy, try somebody else.
    Busy {
        /// q's name for the pull.
        session: u32,
    },
}

/// q's sums below the root, in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Over what q has seen.
    pub seen: Sums,
    /// Over its records.
    pub records: Sums,
}

/// p's answer in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snap {
    /// p's highest birth.
    pub top: u64,
    /// The level at which p lists.
    pub depth: u8,
    /// Where the sums differ.
    pub turn: Turn,
}

/// What one side says in its turn, in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Of what it has seen.
    pub seen: SeenStep,
    /// Of its records.
    pub records: Step,
}

/// One step down the trie of records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Nodes that differ, with the sender's sums below each.
    pub nodes: Vec<(u8, u32, Sums)>,
    /// Nodes that p shall list.
    pub list: Vec<(u8, u32)>,
}

impl Step {
    /// Lists every node below the root.
    pub fn everything() -> Self {
        Step { nodes: Vec::new(), list: (0..ARITY as u32).map(|index| (1, index)).collect() }
    }
}

/// The record of a member inside an owned record.
pub fn member_of(record: &Record<Owned>) -> Option<&Arc<MemberRecord>> {
    match &record.value {
        Owned::Member(member) => Some(member),
        Owned::Claim(_) => None,
    }
}
