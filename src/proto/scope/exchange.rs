//! Anti-entropy: one node pulls from another what differs, by the rules R5 of the group protocol.
//!
//! An exchange is two independent pulls. In each, `q` asks and `p` tells. `p` takes the snapshot of what it has seen
//! first; `q` adopts it last, when everything that differed has been told. In between both descend their tries of
//! sums, of what they have seen and of their records, in turns, and `p` lists the spans that differ, a chunk at a time,
//! as `q` asks for more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{Scope, counts, is_shaped};
use crate::proto::group::comparison::SeenStep;
use crate::proto::group::replica::{Key, Span, Value};
use crate::proto::group::trie::{self, DEPTH_MAX, Sums};
use crate::proto::group::{ChildKey, Comparison, Desired, Owned, OwnedKey, Replica, Seen, Shelf};
use crate::proto::shared::{Alarm, Shared};
use crate::proto::wire::{Exchange, FRAME_BYTES_TARGET, Message, Opening, Snap, Status, Step, Turn};
use crate::proto::{Dot, Identity, InstanceId, Rule, Site, Time, Wakeup};

/// A pull that makes no progress for so long is given up.
const PULL_TIMEOUT: Duration = Duration::from_secs(3);
/// The same peer's root has to differ for so long before it is looked at, unless gossip has no room: a change that is just
/// spreading is none.
const DIFFER_MIN: Duration = Duration::from_millis(500);
/// At most one pull per this time, unless a member came or came back, or gossip has no room.
const PULL_INTERVAL: Duration = Duration::from_secs(1);
/// The same while news keep coming: two nodes that hear of them one after the other nearly always differ, and what is
/// on its way to both need not be compared. It is no longer than this, as something else may be missing.
const NEWS_PULL_INTERVAL: Duration = Duration::from_secs(5);
/// As long as a node has no more rumours than these to pass on, which takes it some three seconds.
const NEWS_MAX: usize = 256;
/// The same after gossip had no room for something, as in a bulk or a failover it then has none anywhere, and only comparisons
/// tell of the rest: with the first that has another root. No shorter, as it is by the roots on SWIM's packets that nodes
/// learn whom to compare with, of which some four come in a second.
const LACKING_PULL_INTERVAL: Duration = Duration::from_millis(250);
/// For so long: each comparison brings together what two nodes know, so that even a thousand members need ten of them.
const LACKING_MAX: Duration = Duration::from_secs(5);
/// A node that was declared down compares states with everybody for at most so long before it restarts children again:
/// a member that can't be reached by streams must not hold them up for ever.
const RESYNC_MAX: Duration = Duration::from_secs(5);
/// A member that has to be pulled from and could not be is tried again after this time.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// Pulls that one node serves in one scope at once; whoever comes later asks somebody else or again.
const SERVED_MAX: usize = 16;
/// A served pull that is not continued for so long is forgotten.
const SERVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Peers to pull from that are remembered.
const QUEUE_MAX: usize = 1_024;
/// Nodes that one step descends into. What differs beyond is listed as it is: it is a bulk, and a frame has an end.
const STEP_NODES_MAX: usize = 2_000;
/// Spans that one pull may ask for.
const SPANS_MAX: usize = 65_536;
/// How deep a descent may go.
const LEVEL_MAX: u8 = DEPTH_MAX as u8;

/// A pull of this node.
#[derive(Debug)]
struct Pull {
    from: InstanceId,
    session: u32,
    /// The first sums over the records, of the desired children and of what members own; until the snapshot is taken.
    began: Option<(Sums, Sums)>,
    /// The levels at which this node asks for a listing.
    depths: (u8, u8),
    /// Whether it is clear what the other one had seen.
    is_compared: bool,
    is_settled: bool,
    progress: Time,
}

/// A pull that another node makes here.
#[derive(Debug)]
struct Serve {
    /// What this node had seen when it was asked, beside what the other one had.
    seen: (Comparison, Comparison),
    depths: (u8, u8),
    desired: VecDeque<(u64, u64)>,
    owned: VecDeque<(u64, u64)>,
    /// Members that have gone down here since the snapshot, and of which the other one has not been told.
    gone: BTreeSet<InstanceId>,
    used: Time,
}

/// What a node remembers of its exchanges in a scope.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    pull: Option<Pull>,
    sessions: u32,
    queue: VecDeque<InstanceId>,
    served: BTreeMap<(InstanceId, u32), Serve>,
    /// Since when a peer's root has differed.
    differing: BTreeMap<InstanceId, Time>,
    last_pull: Option<Time>,
    /// This node's root when it was last compared, and when it was found to have changed.
    compared: (u64, Time),
    /// Members to compare states with since the others had declared this node down.
    resync: BTreeSet<InstanceId>,
    /// Since when.
    resync_since: Time,
    /// When exchanges are looked after next.
    next_look: Option<Time>,
}

/// Begins a pull in one family.
fn begin<K: Key, V: Value + Clone>(replica: &mut Replica<K, V>, shelf: &impl Shelf<K, V>) -> Opening {
    let (comparison, seen) = Comparison::begin(replica.seen().clone());
    replica.begin_pull(comparison);
    Opening { seen, records: replica.sums_below(shelf, 0, 0) }
}

/// Answers the beginning of a pull in one family: takes the snapshot, and queues what is to be listed in any case.
fn snap<K: Key, V: Value + Clone>(
    replica: &Replica<K, V>,
    shelf: &impl Shelf<K, V>,
    theirs: &Opening,
    spans: &mut VecDeque<(u64, u64)>,
    room: usize,
) -> Option<(Comparison, Snap)> {
    let (comparison, seen) = Comparison::answer(replica.seen().clone(), theirs.seen, room);
    let depth = replica.depth() as u8;
    let mut records = descend(replica, shelf, depth, &[(0, 0, theirs.records)])?;
    queue(spans, std::mem::take(&mut records.list))?;
    Some((comparison, Snap { top: replica.top(), depth, turn: Turn { seen, records } }))
}

/// Answers the puller's turn in one family.
fn serve_turn<K: Key, V: Value + Clone>(
    (replica, shelf): (&Replica<K, V>, &impl Shelf<K, V>),
    depth: u8,
    comparison: &mut Comparison,
    spans: &mut VecDeque<(u64, u64)>,
    theirs: Turn,
    room: usize,
) -> Option<Turn> {
    let seen = comparison.take(theirs.seen, room)?;
    let mut records = descend(replica, shelf, depth, &theirs.records.nodes)?;
    queue(spans, theirs.records.list)?;
    queue(spans, std::mem::take(&mut records.list))?;
    Some(Turn { seen, records })
}

fn queue(spans: &mut VecDeque<(u64, u64)>, list: Vec<(u8, u32)>) -> Option<()> {
    for (level, index) in list {
        if !trie::is_node(level, index) || spans.len() >= SPANS_MAX {
            return None;
        }
        spans.push_back(trie::span(level, index));
    }
    Some(())
}

/// Takes the snapshot that was made for this pull, in one family, and answers.
fn pull_snap<K: Key, V: Value + Clone>(
    (replica, shelf): (&mut Replica<K, V>, &impl Shelf<K, V>),
    mut first: Sums,
    depth: u8,
    snap: Snap,
    room: usize,
) -> Option<Turn> {
    replica.open_pull(snap.top);
    // What has changed here since this node told its first sums was compared by what it was then, and while the rules of
    // an open pull did not yet hold: it is compared again.
    for &(level, index, _) in &snap.turn.records.nodes {
        if level != 1 || !trie::is_node(level, index) {
            return None;
        }
        first.0[index as usize] = replica.sums_below(shelf, 0, 0).0[index as usize];
    }
    let again = descend(replica, shelf, depth, &[(0, 0, first)])?;
    let mut turn = pull_turn((replica, shelf), depth, snap.turn, room)?;
    turn.records.nodes.extend(again.nodes);
    turn.records.list.extend(again.list);
    Some(turn)
}

/// Answers the other one's turn in one family.
fn pull_turn<K: Key, V: Value + Clone>(
    (replica, shelf): (&mut Replica<K, V>, &impl Shelf<K, V>),
    depth: u8,
    theirs: Turn,
    room: usize,
) -> Option<Turn> {
    let seen = replica.compare_seen(theirs.seen, room)?;
    let records = descend(replica, shelf, depth, &theirs.records.nodes)?;
    Some(Turn { seen, records })
}

/// The level at which a puller asks for a listing: one below the lister's leaves, since it says something in that turn
/// anyway, and sums are shorter than lists.
fn pull_depth(depth: u8) -> u8 {
    depth.saturating_add(1).min(LEVEL_MAX)
}

/// One step down: which children of the nodes that the peer named differ, and so have to be listed (at the level
/// where the lister's leaves are, or where one side is empty) or looked into.
fn descend<K: Key, V: Value + Clone>(
    replica: &Replica<K, V>,
    shelf: &impl Shelf<K, V>,
    depth: u8,
    theirs: &[(u8, u32, Sums)],
) -> Option<Step> {
    let mut step = Step::default();
    for (level, index, sums) in theirs {
        if *level >= LEVEL_MAX || !trie::is_node(*level, *index) {
            return None;
        }
        let below = level + 1;
        let mine = replica.sums_below(shelf, *level, *index);
        for (offset, (mine, theirs)) in mine.0.into_iter().zip(&sums.0).enumerate() {
            let child = index * trie::ARITY as u32 + offset as u32;
            if mine == *theirs {
                continue;
            }
            if below >= depth || mine == 0 || *theirs == 0 || step.nodes.len() >= STEP_NODES_MAX {
                step.list.push((below, child));
            } else {
                step.nodes.push((below, child, replica.sums_below(shelf, below, child)));
            }
        }
    }
    Some(step)
}

impl Scope {
    /// A member should be pulled from as soon as possible.
    pub(crate) fn pull_soon(&mut self, cx: &mut Shared, instance: InstanceId) {
        let is_queued = self.exchanges.queue.contains(&instance)
            || self.exchanges.pull.as_ref().is_some_and(|pull| pull.from == instance);
        if !is_queued && self.exchanges.queue.len() < QUEUE_MAX {
            self.exchanges.queue.push_back(instance);
        }
        self.next_pull(cx);
    }

    /// A member told the root of its state.
    pub(crate) fn handle_root(&mut self, cx: &mut Shared, from: Identity, root: u64, is_last: bool) {
        let now = cx.now;
        let mine = self.root();
        if self.exchanges.compared.0 != mine {
            self.exchanges.compared = (mine, now);
        }
        let was_full = cx.gossip_full.is_some_and(|full| now.since(full) < LACKING_MAX);
        let is_lacking = was_full && !cx.is_small() && self.exchanges.pull.is_none();
        // A bulk does not fit into the gossip, and has to be compared.
        let is_on_its_way = now.since(self.exchanges.compared.1) < DIFFER_MIN && cx.gossip.len() < NEWS_MAX;
        // What a member that has just come, or come back, knew before is on its way to nobody.
        let is_new = cx.peers.get(&from.instance).is_some_and(|peer| now.since(peer.up_since) < 2 * PULL_INTERVAL);
        let waits = is_on_its_way && !is_new && !cx.is_small();
        let interval = match (is_lacking, waits) {
            (true, _) => LACKING_PULL_INTERVAL,
            (false, true) => NEWS_PULL_INTERVAL,
            (false, false) => PULL_INTERVAL,
        };
        let has_rested = self.exchanges.last_pull.is_none_or(|last| now.since(last) >= interval);
        if root == mine {
            self.exchanges.differing.remove(&from.instance);
            if has_rested && cx.sites.fires(Site::NeedlessPull) {
                self.pull_soon(cx, from.instance);
            }
            return;
        }
        let since = *self.exchanges.differing.entry(from.instance).or_insert(now);
        let is_first = is_new && since == now && (has_rested || cx.is_small());
        if is_last || is_first || (has_rested && (is_lacking || now.since(since) >= DIFFER_MIN)) {
            self.pull_soon(cx, from.instance);
        }
    }

    /// Starts the next pull, if none is open.
    fn next_pull(&mut self, cx: &mut Shared) {
        while self.exchanges.pull.is_none() {
            let Some(from) = self.exchanges.queue.pop_front() else { return };
            let Some(identity) = cx.membership.identity_of(from) else { continue };
            self.exchanges.sessions = self.exchanges.sessions.wrapping_add(1);
            let session = self.exchanges.sessions;
            let desired = begin(&mut self.desired, &self.children);
            let owned = begin(&mut self.owned, &self.children);
            self.exchanges.last_pull = Some(cx.now);
            self.exchanges.differing.remove(&from);
            self.exchanges.pull = Some(Pull {
                from,
                session,
                began: Some((desired.records, owned.records)),
                depths: (0, 0),
                is_compared: false,
                is_settled: false,
                progress: cx.now,
            });
            let members = cx.membership.hash();
            let (desired, owned) = (Box::new(desired), Box::new(owned));
            self.send_step(cx, identity, Exchange::Pull { session, members, desired, owned });
            self.look_in(cx, PULL_TIMEOUT);
        }
    }

    fn send_step(&self, cx: &mut Shared, to: Identity, step: Exchange) {
        cx.send_exchange(to, self.id, step);
    }

    /// Looks after exchanges after this time, if not before.
    fn look_in(&mut self, cx: &mut Shared, after: Duration) {
        let at = cx.now + after;
        if self.exchanges.next_look.is_none_or(|next| next > at || next <= cx.now) {
            self.exchanges.next_look = Some(at);
            cx.set_timer(after, Wakeup::Stream, Alarm::Exchange(self.id));
        }
    }

    /// Gives up a pull that stands still, forgets served ones that do, and goes on with the next.
    pub(crate) fn look_after_exchanges(&mut self, cx: &mut Shared) {
        let now = cx.now;
        if let Some(pull) = &self.exchanges.pull {
            if now.since(pull.progress) >= PULL_TIMEOUT {
                // The stream may be stuck in a retransmission that outlives a cut: the next pull gets a new one.
                cx.links.close_peer(pull.from, &mut cx.outputs);
                self.abort_pull(cx);
            } else {
                let rest = (pull.progress + PULL_TIMEOUT).since(now);
                self.look_in(cx, rest);
            }
        }
        self.exchanges.served.retain(|_, serve| now.since(serve.used) < SERVE_TIMEOUT);
        if now.since(self.exchanges.resync_since) >= RESYNC_MAX {
            self.exchanges.resync.clear();
        }
        for instance in self.exchanges.resync.clone() {
            self.pull_soon(cx, instance);
        }
        self.next_pull(cx);
    }

    fn abort_pull(&mut self, cx: &mut Shared) {
        if let Some(pull) = self.exchanges.pull.take() {
            cx.stats.pulls_aborted += 1;
            self.desired.abort_pull();
            self.owned.abort_pull();
            // Not asked again at once: a peer that refuses would be asked as fast as it can refuse. A node that has
            // not settled asks at its next look, and a differing root is seen again.
            if self.exchanges.resync.contains(&pull.from) {
                self.look_in(cx, RETRY_INTERVAL);
            }
        }
    }

    /// This node has a new identity: what it asked for under the former one may have been refused.
    pub(crate) fn restart_pull(&mut self, cx: &mut Shared) {
        if let Some(from) = self.exchanges.pull.as_ref().map(|pull| pull.from) {
            self.abort_pull(cx);
            self.exchanges.queue.push_front(from);
            self.next_pull(cx);
        }
    }

    /// A member is gone, and with it what was being exchanged.
    pub(super) fn peer_lost(&mut self, cx: &mut Shared, instance: InstanceId) {
        self.exchanges.queue.retain(|queued| *queued != instance);
        self.exchanges.differing.remove(&instance);
        self.exchanges.resync.remove(&instance);
        for serve in self.exchanges.served.values_mut() {
            serve.gone.insert(instance);
        }
        self.stream_lost(cx, instance);
    }

    /// The stream to a member broke.
    pub(crate) fn stream_lost(&mut self, cx: &mut Shared, instance: InstanceId) {
        self.exchanges.served.retain(|(other, _), _| *other != instance);
        if self.exchanges.pull.as_ref().is_some_and(|pull| pull.from == instance) {
            self.abort_pull(cx);
            self.next_pull(cx);
        }
    }

    pub(super) fn handle_exchange(&mut self, cx: &mut Shared, from: Identity, step: Exchange) {
        let is_fine = match step {
            Exchange::Pull { session, members, desired, owned } => {
                self.serve_pull(cx, from, session, members, &desired, &owned)
            }
            Exchange::Deeper { session, desired, owned } if self.is_pulling(from, session) => {
                self.pull_deeper(cx, from, *desired, *owned)
            }
            Exchange::Descend { session, desired, owned } => self.serve_descend(cx, from, session, *desired, *owned),
            Exchange::More { session } => self.serve_more(cx, from, session, Default::default()),
            Exchange::Snap { session, settled, desired, owned } if self.is_pulling(from, session) => {
                self.pull_snap(cx, from, settled, *desired, *owned)
            }
            Exchange::Spans { session, last, gone, seen, desired, owned } if self.is_pulling(from, session) => {
                // The snapshot is as if p had never heard of them: what they own here stays.
                self.owned.forget_in_pull(&gone);
                self.end_comparison(cx, *seen) && self.pull_spans(cx, from, last, desired, owned)
            }
            Exchange::Absent { session } if self.is_pulling(from, session) => {
                self.exchanges.resync.remove(&from.instance);
                self.abort_pull(cx);
                self.next_pull(cx);
                true
            }
            Exchange::Busy { session } if self.is_pulling(from, session) => {
                self.abort_pull(cx);
                self.next_pull(cx);
                true
            }
            Exchange::Snap { .. }
            | Exchange::Deeper { .. }
            | Exchange::Spans { .. }
            | Exchange::Busy { .. }
            | Exchange::Absent { .. } => true,
        };
        let is_in_the_middle = self.exchanges.pull.as_ref().is_some_and(|pull| pull.began.is_none());
        if is_in_the_middle && cx.sites.fires(Site::AbortPull) {
            self.abort_pull(cx);
            self.next_pull(cx);
        }
        if !is_fine {
            cx.stats.refused_malformed += 1;
            if self.exchanges.pull.as_ref().is_some_and(|pull| pull.from == from.instance) {
                self.abort_pull(cx);
                self.next_pull(cx);
            }
        }
    }

    fn is_pulling(&self, from: Identity, session: u32) -> bool {
        self.exchanges.pull.as_ref().is_some_and(|pull| pull.from == from.instance && pull.session == session)
    }

    // What p does.

    fn serve_pull(
        &mut self,
        cx: &mut Shared,
        from: Identity,
        session: u32,
        members: u64,
        desired: &Opening,
        owned: &Opening,
    ) -> bool {
        if members != cx.membership.hash() && !cx.sabotage.lacks(Rule::ExchangeTable) {
            let table = cx.membership.table();
            cx.send(from, &Message::Table(table));
        }
        // One pull per puller: whatever it began before, it has given up.
        self.exchanges.served.retain(|(puller, _), _| *puller != from.instance);
        if self.exchanges.served.len() >= SERVED_MAX || cx.sites.fires(Site::BusyExchange) {
            cx.stats.pulls_refused += 1;
            self.send_step(cx, from, Exchange::Busy { session });
            return true;
        }
        let (mut desired_spans, mut owned_spans) = (VecDeque::new(), VecDeque::new());
        let (Some((desired_seen, desired)), Some((owned_seen, owned))) = (
            snap(&self.desired, &self.children, desired, &mut desired_spans, seen_room(cx)),
            snap(&self.owned, &self.children, owned, &mut owned_spans, seen_room(cx)),
        ) else {
            return false;
        };
        let everything = self.desired.sums_below(&self.children, 0, 0).present();
        cx.stats.pulls_full += u64::from(everything > 0 && desired_spans.len() == everything);
        let serve = Serve {
            seen: (desired_seen, owned_seen),
            depths: (desired.depth, owned.depth),
            desired: desired_spans,
            owned: owned_spans,
            gone: BTreeSet::new(),
            used: cx.now,
        };
        self.exchanges.served.insert((from.instance, session), serve);
        let settled = self.status() == Status::Settled;
        let (desired, owned) = (Box::new(desired), Box::new(owned));
        self.send_step(cx, from, Exchange::Snap { session, settled, desired, owned });
        true
    }

    fn serve_descend(&mut self, cx: &mut Shared, from: Identity, session: u32, desired: Turn, owned: Turn) -> bool {
        let Some(serve) = self.exchanges.served.get_mut(&(from.instance, session)) else { return true };
        serve.used = cx.now;
        let (desired_at, owned_at) = ((&self.desired, &self.children), (&self.owned, &self.children));
        let (Some(desired), Some(owned)) = (
            serve_turn(desired_at, serve.depths.0, &mut serve.seen.0, &mut serve.desired, desired, seen_room(cx)),
            serve_turn(owned_at, serve.depths.1, &mut serve.seen.1, &mut serve.owned, owned, seen_room(cx)),
        ) else {
            return false;
        };
        let is_compared = serve.seen.0.is_complete() && serve.seen.1.is_complete();
        if is_compared && desired.records.nodes.is_empty() && owned.records.nodes.is_empty() {
            return self.serve_more(cx, from, session, (desired.seen, owned.seen));
        }
        let (desired, owned) = (Box::new(desired), Box::new(owned));
        self.send_step(cx, from, Exchange::Deeper { session, desired, owned });
        true
    }

    /// Tells the next chunk of what differs.
    fn serve_more(&mut self, cx: &mut Shared, from: Identity, session: u32, seen: (SeenStep, SeenStep)) -> bool {
        let Some(serve) = self.exchanges.served.get_mut(&(from.instance, session)) else { return true };
        if !serve.seen.0.is_complete() || !serve.seen.1.is_complete() {
            return false;
        }
        serve.used = cx.now;
        let gone = std::mem::take(&mut serve.gone).into_iter().collect();
        let mut room = if cx.sites.fires(Site::SmallChunk) { 1 } else { 4 * FRAME_BYTES_TARGET };
        let desired =
            list_spans(&self.desired, &self.children, serve.seen.0.theirs(), &mut serve.desired, &mut room, |value| {
                value.spec.payload_bytes() + value.spec.kind.as_str().len() + 24
            });
        let owned =
            list_spans(&self.owned, &self.children, serve.seen.1.theirs(), &mut serve.owned, &mut room, |value| {
                match value {
                    Owned::Member(member) => {
                        64 + member.kinds.iter().map(|kind| kind.as_str().len() + 1).sum::<usize>()
                    }
                    Owned::Claim(claim) => 48 + claim.last_error.as_ref().map_or(0, |error| error.len()),
                }
            });
        let last = serve.desired.is_empty() && serve.owned.is_empty();
        if last {
            cx.stats.pulls_served += 1;
            self.exchanges.served.remove(&(from.instance, session));
        }
        self.send_step(cx, from, Exchange::Spans { session, last, gone, seen: Box::new(seen), desired, owned });
        true
    }

    // What q does.

    fn pull_snap(&mut self, cx: &mut Shared, from: Identity, settled: bool, desired: Snap, owned: Snap) -> bool {
        let Some(pull) = &mut self.exchanges.pull else { return true };
        let Some((mut first_desired, first_owned)) = pull.began.take() else { return false };
        if cx.sabotage.lacks(Rule::CompareAgain) {
            first_desired = self.desired.sums_below(&self.children, 0, 0);
        }
        pull.progress = cx.now;
        pull.is_settled = settled;
        pull.depths = (pull_depth(desired.depth), pull_depth(owned.depth));
        let depths = pull.depths;
        let (Some(desired), Some(owned)) = (
            pull_snap((&mut self.desired, &self.children), first_desired, depths.0, desired, seen_room(cx)),
            pull_snap((&mut self.owned, &self.children), first_owned, depths.1, owned, seen_room(cx)),
        ) else {
            return false;
        };
        self.send_turns(cx, from, desired, owned);
        true
    }

    fn pull_deeper(&mut self, cx: &mut Shared, from: Identity, desired: Turn, owned: Turn) -> bool {
        let Some(pull) = self.exchanges.pull.as_mut().filter(|pull| pull.began.is_none()) else { return false };
        pull.progress = cx.now;
        let depths = pull.depths;
        let (Some(desired), Some(owned)) = (
            pull_turn((&mut self.desired, &self.children), depths.0, desired, seen_room(cx)),
            pull_turn((&mut self.owned, &self.children), depths.1, owned, seen_room(cx)),
        ) else {
            return false;
        };
        self.send_turns(cx, from, desired, owned);
        true
    }

    fn send_turns(&mut self, cx: &mut Shared, from: Identity, mut desired: Turn, mut owned: Turn) {
        if cx.sites.fires(Site::FullExchange) {
            (desired.records, owned.records) = (Step::everything(), Step::everything());
        }
        self.note_compared(cx);
        let Some(session) = self.exchanges.pull.as_ref().map(|pull| pull.session) else { return };
        let (desired, owned) = (Box::new(desired), Box::new(owned));
        self.send_step(cx, from, Exchange::Descend { session, desired, owned });
    }

    /// Takes the last that is said of what the other one had seen. Only then its listing can be read.
    fn end_comparison(&mut self, cx: &mut Shared, (desired, owned): (SeenStep, SeenStep)) -> bool {
        let is_taken = self.desired.compare_seen(desired, FRAME_BYTES_TARGET).is_some()
            && self.owned.compare_seen(owned, FRAME_BYTES_TARGET).is_some();
        self.note_compared(cx);
        is_taken && self.exchanges.pull.as_ref().is_some_and(|pull| pull.is_compared)
    }

    /// As soon as it is clear what the other one had seen: leaves out of it what it has no say in.
    fn note_compared(&mut self, cx: &mut Shared) {
        let Some(pull) = self.exchanges.pull.as_mut().filter(|pull| !pull.is_compared) else { return };
        let (Some(desired), Some(owned)) = (self.desired.comparison(), self.owned.comparison()) else { return };
        if !desired.is_complete() || !owned.is_complete() {
            return;
        }
        pull.is_compared = true;
        // What p has seen of members that are not active here is not ours to adopt.
        let counts = |writer: InstanceId| writer == self.me || cx.membership.identity_of(writer).is_some();
        owned.theirs().writers().into_iter().filter(|&writer| !counts(writer)).for_each(|writer| owned.forget(writer));
        self.distrust_own_writes(cx);
    }

    /// R7: of what this instance wrote, only this instance can tell; a peer that claims more must not make it look
    /// deleted.
    fn distrust_own_writes(&mut self, cx: &mut Shared) {
        let (next_desired, next_owned) = (self.desired.next_dot(), self.owned.next_dot());
        let mut forged = Vec::new();
        for (seen, next) in [(self.desired.comparison(), next_desired), (self.owned.comparison(), next_owned)] {
            if let Some(seen) = seen.filter(|seen| seen.theirs().last(self.me) >= next.n) {
                seen.forget(self.me);
                forged.push(next);
            }
        }
        forged.into_iter().for_each(|dot| self.refuse_forged(cx, dot));
    }

    fn pull_spans(
        &mut self,
        cx: &mut Shared,
        from: Identity,
        last: bool,
        desired: Vec<Span<ChildKey, Desired>>,
        owned: Vec<Span<OwnedKey, Owned>>,
    ) -> bool {
        for span in desired {
            if span.bodies.iter().any(|(_, record)| record.value.spec.is_too_large()) {
                return false;
            }
            let Some((dropped, changed)) = self.desired.take_span(&mut self.children, span) else { return false };
            let mut dropped: BTreeMap<ChildKey, _> = dropped.into_iter().collect();
            for (key, displaced) in changed {
                let displaced = dropped.remove(&key).or(displaced);
                self.desired_changed(cx, key, displaced);
            }
            for (key, record) in dropped {
                self.desired_changed(cx, key, Some(record));
            }
        }
        for mut span in owned {
            span.bodies.retain(|(key, record)| record.dot.writer == key.instance() && is_shaped(key, &record.value));
            if !self.pull_owned(cx, span) {
                return false;
            }
        }
        if let Some(pull) = &mut self.exchanges.pull {
            pull.progress = cx.now;
        }
        if last {
            self.finish_pull(cx);
        } else if let Some(pull) = &self.exchanges.pull {
            let session = pull.session;
            self.send_step(cx, from, Exchange::More { session });
        }
        true
    }

    /// Takes one span of what members own, without what is said of members that are not active here.
    fn pull_owned(&mut self, cx: &mut Shared, mut span: Span<OwnedKey, Owned>) -> bool {
        span.bodies.retain(|(key, _)| counts(cx, key.instance()));
        let me = self.me;
        span.listed.retain(|(key, ..)| counts(cx, key.instance()) || key.instance() == me);
        // Whoever went down and came back meanwhile is forgotten here, and the peer can't know that bodies are lacking.
        if let Some(seen) = self.owned.comparison() {
            span.listed.retain(|(key, ..)| !seen.has_forgotten(key.instance()));
        }
        // What the peer still holds of this node and this node has replaced since is not listed as lacking a body.
        span.listed
            .retain(|(key, dot, _)| key.instance() != me || self.children.owned(key).is_some_and(|r| r.dot == *dot));
        let Some((dropped, changed)) = self.owned.take_span(&mut self.children, span) else { return false };
        for (key, record) in dropped {
            // Whoever has only changed what it says of itself is no less a member for it.
            let is_member_changed = key.child().is_none() && self.children.owned(&key).is_some();
            if key.instance() != self.me && !is_member_changed {
                self.note_owned_gone(cx, &key, &record);
            } else if let Some(child) = key.child() {
                self.reassert_claim(cx, &child);
            } else if key.instance() == self.me {
                let Owned::Member(member) = record.value else { continue };
                self.write_member(cx, (*member).clone());
            }
        }
        for (key, displaced) in changed {
            self.note_owned(cx, &key, displaced);
        }
        true
    }

    fn finish_pull(&mut self, cx: &mut Shared) {
        let Some(pull) = self.exchanges.pull.take() else { return };
        self.desired.finish_pull();
        self.owned.finish_pull();
        cx.stats.pulls_completed += 1;
        self.exchanges.resync.remove(&pull.from);
        if pull.is_settled {
            self.settle(cx);
        }
        self.next_pull(cx);
    }

    /// The state of a settled member is here, so whoever else offered it need not be asked any more.
    pub(super) fn drop_offers(&mut self, cx: &Shared) {
        if !cx.is_small() {
            self.exchanges.queue.clear();
        }
    }

    /// This node was declared down: it compares its state with everybody's.
    pub(super) fn resync_with_all(&mut self, cx: &mut Shared) {
        self.exchanges.resync = cx.membership.active().keys().copied().collect();
        self.exchanges.resync_since = cx.now;
        for instance in self.exchanges.resync.clone() {
            self.pull_soon(cx, instance);
        }
    }

    /// Whether that is still going on; until then nothing is restarted in place.
    pub(crate) fn is_resyncing(&self) -> bool {
        !self.exchanges.resync.is_empty()
    }
}

/// How many bytes a step may say of what was seen.
fn seen_room(cx: &mut Shared) -> usize {
    if cx.sites.fires(Site::SmallChunk) { 1 } else { FRAME_BYTES_TARGET }
}

/// Lists spans until there is no room left; what remains stays queued.
fn list_spans<K: Key, V: Value + Clone>(
    replica: &Replica<K, V>,
    shelf: &impl Shelf<K, V>,
    theirs: &Seen,
    spans: &mut VecDeque<(u64, u64)>,
    room: &mut usize,
    weight: impl Fn(&V) -> usize,
) -> Vec<Span<K, V>> {
    /// The id, the dot and the note of one line.
    const LINE_BYTES: usize = 64;
    let mut listed = Vec::new();
    while *room > 0
        && let Some((first, last)) = spans.pop_front()
    {
        let span = replica.list(
            shelf,
            first..=last,
            |dot: Dot| theirs.contains(dot),
            |body| {
                *room = room.saturating_sub(LINE_BYTES + body.map_or(0, &weight));
                *room > 0
            },
        );
        if let Some(next) = span.positions.1.checked_add(1).filter(|next| *next <= last) {
            spans.push_front((next, last));
        }
        *room = room.saturating_sub(16);
        listed.push(span);
    }
    listed
}
