//! What is to be sent: messages are batched per member and leave in as few packets as they fit into, on UDP while
//! they are few, on a stream when they are many.
//!
//! Fresh records also ride on SWIM's datagrams, in the room that foca leaves; see [`Gossip`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use twox_hash::XxHash3_64;

use super::packet::{HEAD_BYTES, OPEN_BYTES_MAX};
use super::traffic::Topic;
use super::wire::{Message, ScopeMessage};
use super::{Dot, Identity, InstanceId, ScopeId};

/// Bytes of a batch above which it takes the stream: two datagrams per pair of members and flush, so that a burst
/// never overflows the receiver's socket buffer.
const DATAGRAM_BATCH_BYTES_MAX: usize = 2 * MESSAGES_BYTES_MAX;

/// What fits into a datagram beside the head, the sender (at most 34 bytes), a scope and its lead.
pub(crate) const MESSAGES_BYTES_MAX: usize = OPEN_BYTES_MAX - HEAD_BYTES - 64;

/// Rumours of each kind kept at once. Beyond, anti-entropy is the better way, and the newest are left to it.
const RUMOURS_OF_A_KIND_MAX: usize = 1_024;

/// Rumours kept at once.
pub(crate) const RUMOURS_MAX: usize = 2 * RUMOURS_OF_A_KIND_MAX;

/// The longest rumour: two fit into a datagram.
const RUMOUR_BYTES_MAX: usize = MESSAGES_BYTES_MAX / 2;

/// How many rumours are remembered as heard: nearly all that go around at once under a heavy load. What is not
/// remembered is read and found to be known.
const HEARD_MAX: usize = 4_096;

/// Serializes a message after what is in `bytes`.
pub(crate) fn encode(bytes: &mut Vec<u8>, message: &Message) {
    let start = bytes.len();
    match postcard::to_extend(message, std::mem::take(bytes)) {
        Ok(extended) => *bytes = extended,
        // Serializing plain data into memory can't fail; if it does, nothing half-written must leave.
        Err(error) => {
            debug_assert!(false, "message can't be encoded at {start}: {error}");
            bytes.clear();
        }
    }
}

/// Names the sender, between the SWIM part and the messages.
pub(crate) fn encode_sender(packet: &mut Vec<u8>, me: Identity) {
    let encoded = postcard::to_extend(&me, std::mem::take(packet));
    debug_assert!(encoded.is_ok(), "an identity can't fail to be encoded");
    *packet = encoded.unwrap_or_default();
}

/// Messages for one member.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) to: Identity,
    bytes: Vec<u8>,
    items: Vec<Item>,
}

/// One message of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub(crate) scope: Option<ScopeId>,
    /// Whether the sender's and the receiver's member records should lead it.
    pub(crate) wants_lead: bool,
    /// Whether the sender's members should lead it.
    pub(crate) wants_members: bool,
    pub(crate) topic: Topic,
    end: usize,
}

impl Batch {
    /// Whether the batch should take a stream.
    pub(crate) fn is_bulk(&self) -> bool {
        let mut start = 0;
        let mut fits = true;
        for item in &self.items {
            fits &= item.end - start <= MESSAGES_BYTES_MAX;
            start = item.end;
        }
        !fits || self.bytes.len() > DATAGRAM_BATCH_BYTES_MAX
    }

    /// How many bytes all messages have.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The messages with their bytes.
    pub(crate) fn items(&self) -> impl Iterator<Item = (Item, &[u8])> {
        let mut start = 0;
        self.items.iter().map(move |item| {
            let bytes = &self.bytes[start..item.end];
            start = item.end;
            (*item, bytes)
        })
    }
}

/// The batches, and buffers of those sent before.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    batches: BTreeMap<InstanceId, Batch>,
    spare: Vec<Batch>,
    scratch: Vec<u8>,
}

impl Outbox {
    fn batch(&mut self, to: Identity) -> &mut Batch {
        let spare = &mut self.spare;
        let batch = self
            .batches
            .entry(to.instance)
            .or_insert_with(|| spare.pop().unwrap_or_else(|| Batch { to, bytes: Vec::new(), items: Vec::new() }));
        batch.to = to;
        batch
    }

    /// Queues a message about no scope.
    pub(crate) fn push(&mut self, to: Identity, message: &Message) {
        let batch = self.batch(to);
        encode(&mut batch.bytes, message);
        let end = batch.bytes.len();
        let (wants_members, topic) = (false, message.topic());
        batch.items.push(Item { scope: None, wants_lead: false, wants_members, topic, end });
    }

    /// Queues a message about a scope.
    pub(crate) fn push_scoped(&mut self, to: Identity, scope: ScopeId, message: ScopeMessage) {
        let wants_members = matches!(message, ScopeMessage::Answer(_));
        let wants_lead = wants_members || matches!(message, ScopeMessage::Ask(_));
        let topic = message.topic();
        let batch = self.batch(to);
        encode(&mut batch.bytes, &Message::Scoped(message));
        let end = batch.bytes.len();
        batch.items.push(Item { scope: Some(scope), wants_lead, wants_members, topic, end });
    }

    /// Queues one message about a scope for several members, encoded once.
    pub(crate) fn push_to_all(&mut self, to: impl Iterator<Item = Identity>, scope: ScopeId, message: ScopeMessage) {
        let topic = message.topic();
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        encode(&mut scratch, &Message::Scoped(message));
        for member in to {
            let batch = self.batch(member);
            batch.bytes.extend_from_slice(&scratch);
            let end = batch.bytes.len();
            batch.items.push(Item { scope: Some(scope), wants_lead: false, wants_members: false, topic, end });
        }
        self.scratch = scratch;
    }

    /// How much is queued for a member.
    pub(crate) fn backlog_bytes(&self, to: InstanceId) -> usize {
        self.batches.get(&to).map_or(0, Batch::len)
    }

    /// For how many members something is queued.
    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// The batch of the first member after this one, around in a circle; give it back with [`recycle`](Self::recycle).
    pub(crate) fn pop_after(&mut self, last: InstanceId) -> Option<Batch> {
        let mut after = self.batches.range((Bound::Excluded(last), Bound::Unbounded));
        let next = after.next().or_else(|| self.batches.first_key_value()).map(|(&next, _)| next)?;
        self.batches.remove(&next)
    }

    /// The next batch to send; give it back with [`recycle`](Self::recycle).
    pub(crate) fn pop(&mut self) -> Option<Batch> {
        self.batches.pop_first().map(|(_, batch)| batch)
    }

    /// Keeps the buffers of a sent batch.
    pub(crate) fn recycle(&mut self, mut batch: Batch) {
        const SPARE_MAX: usize = 32;
        const SPARE_BYTES_MAX: usize = 64 * 1024;
        if self.spare.len() < SPARE_MAX && batch.bytes.capacity() <= SPARE_BYTES_MAX {
            batch.bytes.clear();
            batch.items.clear();
            self.spare.push(batch);
        }
    }
}

/// One fresh record on its way through the cluster.
#[derive(Debug)]
struct Rumour {
    scope: ScopeId,
    bytes: Vec<u8>,
    left: u32,
    /// A write of this node, until it was sent for the first time.
    unsent: Option<Dot>,
}

/// How many rumours are still to be told to the member whose turn it is, in as many packets as that takes: none twice.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turn {
    of_members: usize,
    of_children: usize,
}

/// Fresh records that ride on whatever is sent anyway, each so many times, those of a kind in turn, so that new ones never
/// starve old ones.
#[derive(Debug, Default)]
pub(crate) struct Gossip {
    /// What members say of themselves goes first: it is little, and all that is done with children waits for it. Behind the
    /// claims of a bulk it would take seconds.
    of_members: VecDeque<Rumour>,
    of_children: VecDeque<Rumour>,
    /// Writes of this node that nobody was told of yet and that replace nothing. Serial numbers are those of a scope.
    unsent: BTreeSet<(ScopeId, Dot)>,
    /// Those of them that need not be told, because one that is waiting too replaces them.
    replaced: BTreeSet<(ScopeId, Dot)>,
    /// What was heard last, by hash; later ones take the place of earlier ones. Empty until there is anything.
    heard: Vec<u64>,
}

fn rumour_hash(scope: ScopeId, bytes: &[u8]) -> u64 {
    // An empty place holds 0.
    XxHash3_64::oneshot_with_seed(scope.get(), bytes) | 1
}

impl Gossip {
    /// How many messages are passed on.
    pub(crate) fn len(&self) -> usize {
        (self.of_members.len() + self.of_children.len()).saturating_sub(self.replaced.len())
    }

    /// Passes a message on in a cluster of so many members; `false` if there is no room for it.
    pub(crate) fn add(&mut self, scope: ScopeId, message: ScopeMessage, members: usize, me: InstanceId) -> bool {
        let (written, over) = match &message {
            ScopeMessage::PutOwned(_, record) if record.dot.writer == me => (Some(record.dot), record.over),
            ScopeMessage::DelOwned(_, dot) if dot.writer == me => (None, Some(*dot)),
            _ => (None, None),
        };
        let is_of_member = matches!(&message, ScopeMessage::PutOwned(key, _) if key.child().is_none());
        let mut bytes = Vec::new();
        encode(&mut bytes, &Message::Scoped(message));
        self.note_heard(scope, &bytes);
        let rumours = if is_of_member { &self.of_members } else { &self.of_children };
        if rumours.len() >= RUMOURS_OF_A_KIND_MAX || bytes.len() > RUMOUR_BYTES_MAX {
            return false;
        }
        self.replace_unsent(scope, written, over);
        // Everybody who hears of it tells so many, so that all of them together miss one of the members with a chance of
        // e^-4; what is missed is left to anti-entropy.
        let ln = (7 * (members.max(1) + 1).next_power_of_two().ilog2()).div_ceil(10);
        let left = 4 + ln;
        let rumours = if is_of_member { &mut self.of_members } else { &mut self.of_children };
        rumours.push_back(Rumour { scope, bytes, left, unsent: written });
        true
    }

    /// A claim that was replaced or released before anybody was told of it is not told at all: what comes after it names
    /// it. Not one that itself replaced another: whoever hears of that one late would not learn that it is over.
    fn replace_unsent(&mut self, scope: ScopeId, written: Option<Dot>, over: Option<Dot>) {
        if let Some(over) = over.map(|over| (scope, over)).filter(|over| self.unsent.remove(over)) {
            self.replaced.insert(over);
        }
        if let Some(dot) = written.filter(|_| over.is_none()) {
            self.unsent.insert((scope, dot));
        }
    }

    fn note_heard(&mut self, scope: ScopeId, bytes: &[u8]) {
        if self.heard.is_empty() {
            self.heard = vec![0; HEARD_MAX];
        }
        let hash = rumour_hash(scope, bytes);
        self.heard[hash as usize / 2 % HEARD_MAX] = hash;
    }

    /// Whether this was news here before, and nothing has been forgotten since.
    pub(crate) fn has_heard(&self, scope: ScopeId, bytes: &[u8]) -> bool {
        if self.heard.is_empty() || bytes.len() > RUMOUR_BYTES_MAX {
            return false;
        }
        let hash = rumour_hash(scope, bytes);
        self.heard.get(hash as usize / 2 % HEARD_MAX) == Some(&hash)
    }

    /// What a member said of itself was forgotten with it, and may become news again.
    pub(crate) fn forget_heard(&mut self) {
        self.heard.clear();
    }

    /// Whether there is no room for another rumour of some kind.
    pub(crate) fn is_full(&self) -> bool {
        self.of_members.len().max(self.of_children.len()) >= RUMOURS_OF_A_KIND_MAX
    }

    /// Whether nothing is on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.of_members.is_empty() && self.of_children.is_empty()
    }

    /// All that there is to be told to one member.
    pub(crate) fn turn(&self) -> Turn {
        Turn { of_members: self.of_members.len(), of_children: self.of_children.len() }
    }

    /// Appends as many rumours of a turn as fit below `bytes_max`; how many. While there are some of children, those of
    /// members take half of the room at most, so that no number of them holds up everything else.
    pub(crate) fn fill(&mut self, packet: &mut Vec<u8>, bytes_max: usize, turn: &mut Turn) -> usize {
        let half = packet.len() + bytes_max.saturating_sub(packet.len()) / 2;
        let of_members_max = if turn.of_children > 0 { half } else { bytes_max };
        let mut scope = None;
        let of_members = (of_members_max, &mut turn.of_members);
        let of_children = (bytes_max, &mut turn.of_children);
        self.fill_from(|gossip| &mut gossip.of_members, packet, of_members, &mut scope)
            + self.fill_from(|gossip| &mut gossip.of_children, packet, of_children, &mut scope)
    }

    fn fill_from(
        &mut self,
        kind: fn(&mut Gossip) -> &mut VecDeque<Rumour>,
        packet: &mut Vec<u8>,
        (bytes_max, turn): (usize, &mut usize),
        scope: &mut Option<ScopeId>,
    ) -> usize {
        /// The scope, and what says that a rumour follows.
        const LEAD_BYTES: usize = 9 + 4;
        let mut filled = 0;
        while *turn > 0
            && let Some(mut rumour) = kind(self).pop_front()
        {
            *turn -= 1;
            if rumour.unsent.is_some_and(|dot| self.replaced.remove(&(rumour.scope, dot))) {
                continue;
            }
            if packet.len() + LEAD_BYTES + rumour.bytes.len() > bytes_max {
                kind(self).push_front(rumour);
                *turn += 1;
                break;
            }
            if let Some(dot) = rumour.unsent.take() {
                self.unsent.remove(&(rumour.scope, dot));
            }
            if *scope != Some(rumour.scope) {
                *scope = Some(rumour.scope);
                encode(packet, &Message::Scope(rumour.scope));
            }
            encode(packet, &Message::Rumour(rumour.bytes.len() as u16));
            packet.extend_from_slice(&rumour.bytes);
            filled += 1;
            rumour.left -= 1;
            if rumour.left > 0 {
                kind(self).push_back(rumour);
            }
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::child::ChildId;
    use crate::proto::group::{ChildKey, MemberRecord, Owned, OwnedKey, Record};

    fn scope() -> ScopeId {
        ScopeId::of("scope")
    }

    const ME: InstanceId = InstanceId::new(1);

    /// The `n`th thing that this node says of itself, over the one before it.
    fn put(n: u64) -> ScopeMessage {
        let value = Owned::Member(Arc::new(MemberRecord {
            name: "a".into(),
            weight: 1,
            kinds: Vec::new(),
            labels: Vec::new(),
            version: n.to_string(),
            settled: true,
            joined: 1,
            draining: false,
            left: false,
        }));
        let dot = |n| Dot { writer: ME, n };
        let record = Record { dot: dot(n), birth: n, over: (n > 1).then(|| dot(n - 1)), value };
        ScopeMessage::PutOwned(OwnedKey::member(ME), record)
    }

    /// The messages of one packet, and the bytes of each.
    fn told(gossip: &mut Gossip) -> Vec<(ScopeMessage, Vec<u8>)> {
        let mut packet = Vec::new();
        let mut turn = gossip.turn();
        gossip.fill(&mut packet, OPEN_BYTES_MAX, &mut turn);
        let (mut rest, mut told) = (&packet[..], Vec::new());
        while let Ok((message, after)) = postcard::take_from_bytes::<Message>(rest) {
            if let Message::Scoped(message) = message {
                told.push((message, rest[..rest.len() - after.len()].to_vec()));
            }
            rest = after;
        }
        told
    }

    /// Goal: a first write that was replaced before anybody heard of it is not told, but nothing is left out of what a
    /// chain of writes names. Method: four writes in a row, each over the one before it, and one more when they were told.
    #[test]
    fn a_first_write_that_was_replaced_at_once_is_not_told() {
        let mut gossip = Gossip::default();
        for n in 1..=4 {
            assert!(gossip.add(scope(), put(n), 100, ME));
        }
        assert_eq!(gossip.len(), 3);
        let messages: Vec<_> = told(&mut gossip).into_iter().map(|(message, _)| message).collect();
        assert_eq!(messages, [put(2), put(3), put(4)]);
        assert!(gossip.add(scope(), put(5), 100, ME), "what was told once is told on");
        let messages: Vec<_> = told(&mut gossip).into_iter().map(|(message, _)| message).collect();
        assert_eq!(messages, [put(2), put(3), put(4), put(5)]);
    }

    /// Goal: a write of one scope never takes the place of one of another, though both count from 1. Method: the first
    /// writes of two scopes, and the second of one.
    #[test]
    fn scopes_have_serial_numbers_of_their_own() {
        let mut gossip = Gossip::default();
        for (scope, n) in [("a", 1), ("b", 1), ("b", 2)] {
            assert!(gossip.add(ScopeId::of(scope), put(n), 100, ME));
        }
        let messages: Vec<_> = told(&mut gossip).into_iter().map(|(message, _)| message).collect();
        assert_eq!(messages, [put(1), put(2)]);
    }

    /// Goal: what a member says of itself goes before any number of claims, and has room beside them. Method: as many
    /// claims as are kept, and then some; the next packet.
    #[test]
    fn what_members_say_of_themselves_goes_first() {
        let mut gossip = Gossip::default();
        let other = InstanceId::new(2);
        let child = ChildKey::new(ChildId::new("a child").expect("an id"));
        let claim = |n| ScopeMessage::DelOwned(OwnedKey::claim(&child, other), Dot { writer: other, n });
        let kept = (1..=2_000).filter(|&n| gossip.add(scope(), claim(n), 100, ME)).count();
        assert_eq!(kept, RUMOURS_OF_A_KIND_MAX);
        assert!(gossip.add(scope(), put(1), 100, ME));
        let messages: Vec<_> = told(&mut gossip).into_iter().map(|(message, _)| message).collect();
        assert_eq!(messages[..3], [put(1), claim(1), claim(2)]);
    }

    /// Goal: whoever has its turn is told everything once, in however many packets, and nothing twice, so that as many members
    /// hear of each rumour as it is told times; and members take no more than half of a packet while claims wait. Method:
    /// more of both than fit into a packet; those of one turn.
    #[test]
    fn nobody_is_told_a_rumour_twice_in_one_turn() {
        let mut gossip = Gossip::default();
        let child = ChildKey::new(ChildId::new("a child").expect("an id"));
        let of = |n| InstanceId::new(n + 1);
        for n in 1..=60 {
            let claim = ScopeMessage::DelOwned(OwnedKey::claim(&child, of(n)), Dot { writer: of(n), n });
            assert!(gossip.add(scope(), claim, 100, ME) && gossip.add(scope(), put(60 * n), 100, ME));
        }
        let (mut turn, mut packets, mut all) = (gossip.turn(), 0, 0);
        while turn.of_members + turn.of_children > 0 {
            let (mut packet, before) = (Vec::new(), turn);
            let filled = gossip.fill(&mut packet, OPEN_BYTES_MAX, &mut turn);
            assert!(filled > 0 && packet.len() <= OPEN_BYTES_MAX);
            assert!(before.of_children == 0 || turn.of_children < before.of_children);
            (packets, all) = (packets + 1, all + filled);
        }
        assert!(packets > 2 && all == 120, "{packets} packets, {all} rumours");
        let left = |rumours: &VecDeque<Rumour>| rumours.iter().all(|rumour| rumour.left == rumours[0].left);
        assert!(left(&gossip.of_members) && left(&gossip.of_children), "each was told as often");
    }

    /// Goal: a rumour is known again as long as nothing was forgotten, in its own scope only.
    #[test]
    fn a_rumour_is_heard_again_until_members_are_forgotten() {
        let mut gossip = Gossip::default();
        assert!(gossip.add(scope(), put(1), 100, ME));
        let (_, bytes) = told(&mut gossip).remove(0);
        assert!(gossip.has_heard(scope(), &bytes));
        assert!(!gossip.has_heard(ScopeId::of("other"), &bytes) && !gossip.has_heard(scope(), &bytes[1..]));
        gossip.forget_heard();
        assert!(!gossip.has_heard(scope(), &bytes));
    }
}
