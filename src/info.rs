//! What users are told: listings, members, events. Plain data.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::child::{ChildId, Kind, Spec};
use crate::proto::{Epoch, InstanceId};

/// One child as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChildInfo {
    /// Its id.
    pub id: ChildId,
    /// What runs it.
    pub kind: Kind,
    /// The name of the node that runs it (or backs off with it), if any is known.
    pub node: Option<Arc<str>>,
    /// What it is doing.
    pub state: ChildState,
    /// The epoch of the run, zero where it has never run.
    pub epoch: Epoch,
    /// Since when it is in this state, by the clock of the node that runs it; `None` where it does not run.
    pub since: Option<SystemTime>,
    /// How often it was restarted after a failure on the node that runs it.
    pub restarts: u32,
    /// Why it last failed there, at most 256 bytes.
    pub last_error: Option<Arc<str>>,
}

impl ChildInfo {
    /// Puts a listing in the order of its ids; of two with one id the later one stays. Their beginnings lie side by side
    /// and nearly always decide; the ids themselves are all over the memory.
    pub(crate) fn sorted(listing: Vec<ChildInfo>) -> Vec<ChildInfo> {
        let mut order: Vec<(u128, usize)> =
            listing.iter().enumerate().map(|(place, child)| (child.id.prefix(), place)).collect();
        order.sort_unstable_by(|(one, at), (other, other_at)| {
            one.cmp(other).then_with(|| listing[*at].id.cmp(&listing[*other_at].id)).then_with(|| other_at.cmp(at))
        });
        order.dedup_by(|(one, earlier), (other, later)| one == other && listing[*earlier].id == listing[*later].id);
        // Each is moved once, not changed for another one again and again.
        let mut listing: Vec<Option<ChildInfo>> = listing.into_iter().map(Some).collect();
        let mut sorted = Vec::with_capacity(order.len());
        sorted.extend(order.into_iter().filter_map(|(_, place)| listing[place].take()));
        sorted
    }
}

/// What a child is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChildState {
    /// Accepted; its owner has not claimed it yet.
    Pending,
    /// Its `init` is running.
    Starting,
    /// It runs.
    Running,
    /// It was told to stop and has not ended yet.
    Stopping,
    /// It failed too often and waits before it is started again.
    Backoff,
    /// No live member can run it.
    Unplaced(Unplaced),
}

impl fmt::Display for ChildState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChildState::Pending => f.write_str("pending"),
            ChildState::Starting => f.write_str("starting"),
            ChildState::Running => f.write_str("running"),
            ChildState::Stopping => f.write_str("stopping"),
            ChildState::Backoff => f.write_str("backoff"),
            ChildState::Unplaced(reason) => write!(f, "unplaced: {reason}"),
        }
    }
}

/// Why no node runs a child.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unplaced {
    /// No live member of the scope advertises its kind.
    UnknownKind,
    /// Every member that advertises its kind failed to decode its arguments; the last error seen.
    Declined(Arc<str>),
    /// Every member that could run it is draining.
    Draining,
    /// Members know its kind, and none of them has the labels that its node selector asks for.
    NodeSelector,
}

impl fmt::Display for Unplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unplaced::UnknownKind => f.write_str("no live member knows its kind"),
            Unplaced::Declined(error) => write!(f, "every member that knows its kind declined it: {error}"),
            Unplaced::Draining => f.write_str("every member that could run it is draining"),
            Unplaced::NodeSelector => f.write_str("no live member that knows its kind has the labels that it asks for"),
        }
    }
}

/// Where a child runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Location {
    /// The name of the node.
    pub node: Arc<str>,
    /// Its advertised address.
    pub addr: SocketAddr,
    /// The epoch of the run.
    pub epoch: Epoch,
}

/// One live member of a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberInfo {
    /// Its stable name, by which children are placed.
    pub name: Arc<str>,
    /// Its advertised address.
    pub addr: SocketAddr,
    /// This life of it.
    pub instance: InstanceId,
    /// Its share of children relative to others.
    pub weight: u16,
    /// What it can run.
    pub kinds: Vec<Kind>,
    /// What it was labelled with.
    pub labels: Vec<(String, String)>,
    /// The version of the service that it is.
    pub version: String,
    /// Whether it has joined the scope's state and may own children.
    pub settled: bool,
    /// Whether it is leaving and owns nothing any more.
    pub draining: bool,
}

/// Which children `Supervisor::which_children` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that this node runs, starts, stops or backs off with.
    Local,
    /// Every child of the scope that this node knows of.
    Global,
}

/// Why a run of a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It returned `Ok`.
    Success,
    /// It returned an error, shortened to 256 bytes.
    Error(Arc<str>),
    /// It panicked.
    Panic(Arc<str>),
    /// It was stopped by this node, having been told to.
    Stopped,
    /// It was aborted, because it did not end in time or was to be stopped brutally.
    Aborted,
}

impl Outcome {
    /// The text of an error or a panic.
    pub fn error(&self) -> Option<&Arc<str>> {
        match self {
            Outcome::Error(text) | Outcome::Panic(text) => Some(text),
            Outcome::Success | Outcome::Stopped | Outcome::Aborted => None,
        }
    }
}

/// A member that was asked whether a child may start and answered nothing for `confirm_timeout`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilentMember {
    /// Its stable name, or its address if it is not in the scope.
    pub name: Arc<str>,
    /// Its advertised address.
    pub addr: SocketAddr,
    /// This life of it.
    pub instance: InstanceId,
}

/// Why input from the network was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum RefusalReason {
    /// No honest node sends it.
    Malformed,
    /// Its checksum is wrong: it was damaged on the way.
    Corrupt,
    /// It is of another version of the protocol.
    WireVersion,
    /// It is of another cluster.
    OtherCluster,
    /// It is in plaintext, and this node has a keyring.
    Plaintext,
    /// It is sealed, and this node has no keyring.
    Sealed,
    /// It is sealed with a key that this node does not have.
    UnknownKey,
    /// It names a key of this node and was not sealed with it, or was changed since.
    Forged,
    /// It came before.
    Replayed,
    /// Nobody knows that its sender lives.
    Unproven,
    /// It did not come from where its sender says that it is.
    Source,
    /// Its source sends too much of which nothing is known.
    Rate,
    /// Streams are opened on which nothing is said; the oldest made room.
    HalfOpenStreams,
    /// As many streams are open as may be.
    StreamsFull,
    /// One member has more streams open than it may; the oldest made room.
    PeerStreams,
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RefusalReason::Malformed => "it is no packet of ours",
            RefusalReason::Corrupt => "it was damaged on the way",
            RefusalReason::WireVersion => "it is of another version",
            RefusalReason::OtherCluster => "it is of another cluster",
            RefusalReason::Plaintext => "it is in plaintext, and this node has a keyring",
            RefusalReason::Sealed => "it is sealed, and this node has no keyring",
            RefusalReason::UnknownKey => "it is sealed with a key that this node does not have",
            RefusalReason::Forged => "it is not sealed with the key that it names",
            RefusalReason::Replayed => "it came before",
            RefusalReason::Unproven => "its sender has not shown that it lives",
            RefusalReason::Source => "it does not come from its sender's address",
            RefusalReason::Rate => "its source sends too much that names no known sender",
            RefusalReason::HalfOpenStreams => "too many streams are opened on which nothing is said",
            RefusalReason::StreamsFull => "as many streams are open as may be",
            RefusalReason::PeerStreams => "one member opens more streams than it may",
        })
    }
}

/// What a supervisor tells about its scope and its node, in the order in which this node saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// This node has the scope's state and may own children from now on.
    Settled,
    /// A child runs on this node.
    ChildStarted {
        /// Which.
        id: ChildId,
        /// Its run.
        epoch: Epoch,
    },
    /// This node starts a child although some members did not permit it: they had answered nothing for
    /// `confirm_timeout` and were not known to run it. If one of them does, the child runs twice until it is heard
    /// again or declared down.
    StartedUnconfirmed {
        /// Which.
        id: ChildId,
        /// Its run.
        epoch: Epoch,
        /// Who was silent.
        silent: Vec<SilentMember>,
    },
    /// A run on this node ended.
    ChildExited {
        /// Which.
        id: ChildId,
        /// Its run.
        epoch: Epoch,
        /// How.
        outcome: Outcome,
    },
    /// More children are to start on this node than may at once (`limits.starting_max`): a bulk start, a failover of many,
    /// a cold start of the cluster. Told after a second, again every second while that lasts, and once more when none waits
    /// for its turn.
    StartsUnderWay {
        /// Children that wait or start, in this scope.
        left: u64,
        /// Children that run here.
        running: u64,
        /// For how long the one that has waited longest has run nowhere, as far as this node knows; zero for those that
        /// run elsewhere until they can start here.
        waited: Duration,
    },
    /// A child on this node could not be started; it is retried.
    ChildStartFailed {
        /// Which.
        id: ChildId,
        /// Its run.
        epoch: Epoch,
        /// Why.
        error: Arc<str>,
    },
    /// A child on this node blocks the thread on which it runs: it has not come back from one poll, and holds up whatever
    /// else is to run there. Told after a second, and again whenever that has doubled.
    ChildBlocks {
        /// Which.
        id: ChildId,
        /// For how long at least.
        lasted: Duration,
    },
    /// A child on this node fails too often and is started again after `delay`.
    ChildBackoff {
        /// Which.
        id: ChildId,
        /// How long it waits.
        delay: Duration,
    },
    /// A child on this node is done (Transient after success, Temporary after any exit) and removed everywhere.
    ChildCompleted {
        /// Which.
        id: ChildId,
        /// How its last run ended.
        outcome: Outcome,
    },
    /// This node does not understand the child's arguments and hands it to the next member.
    ChildDeclined {
        /// Which.
        id: ChildId,
        /// Why.
        error: Arc<str>,
    },
    /// A child ran on two nodes for at most so long, and one of them stopped it. Told by the one that stopped.
    DuplicateResolved {
        /// Which.
        id: ChildId,
        /// From the moment at which this node's run and the other's could both be alive, as seen here.
        lasted: Duration,
    },
    /// A start that was acknowledged here lost to a concurrent one of the same id with another spec.
    StartLost {
        /// Which.
        id: ChildId,
        /// The spec that lost.
        lost: Box<Spec>,
    },
    /// A start-up child of this node is live with another spec, which stays.
    StartupDiffers {
        /// Which.
        id: ChildId,
    },
    /// A member of the scope is up.
    MemberUp(MemberInfo),
    /// The process of a member has ended: its streams closed, its port refuses and it answers nothing, as this node and
    /// another one see it (in a cluster of two, as this node alone does). Told by those that found it out, and followed by
    /// `MemberDown` everywhere.
    MemberCrashed(MemberInfo),
    /// A member of the scope is down, left, or was superseded by a restart at its address.
    MemberDown(MemberInfo),
    /// Two live nodes have one name; the one named here owns no children until the other is gone.
    NameConflict {
        /// The name.
        name: Arc<str>,
        /// Where the one that loses is.
        loser: SocketAddr,
    },
    /// Another process speaks from this node's address. This node stopped taking part until it is gone.
    AddressConflict,
    /// The others had declared this node down; it is back under a new identity and compares what it runs with them.
    Rejoined,
    /// A seed refused this node.
    JoinRefused {
        /// The seed.
        seed: SocketAddr,
        /// Why, and what to do.
        reason: Arc<str>,
    },
    /// Somebody sends what this node does not take. Told when a reason comes up first, and then at most once a minute;
    /// `Node::stats` counts everything.
    InputRefused {
        /// Why it was refused.
        reason: RefusalReason,
        /// How often since this reason was told last.
        count: u64,
        /// Where the last one seems to come from. In a datagram anybody can claim any address.
        from: SocketAddr,
    },
    /// Somebody used a serial number of this instance: two processes share an instance id, or state is corrupt.
    SerialConflict,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a listing is in the order of ids and has each once, with what was read last. Method: ids that differ early,
    /// late or not at all.
    #[test]
    fn a_sorted_listing_has_each_child_once() {
        let listed = |id: &str, restarts| ChildInfo {
            id: ChildId::new(id).unwrap(),
            kind: Kind::new("kind").unwrap(),
            node: None,
            state: ChildState::Pending,
            epoch: Epoch::default(),
            since: None,
            restarts,
            last_error: None,
        };
        let long = "a-child-with-a-long-id-1";
        let listing = vec![listed("b", 0), listed(long, 1), listed("b", 2), listed("a", 3), listed("b", 4)];
        let read: Vec<_> =
            ChildInfo::sorted(listing).iter().map(|child| (child.id.to_string(), child.restarts)).collect();
        assert_eq!(read, [("a".into(), 3), (long.into(), 1), ("b".into(), 4)]);
    }
}
