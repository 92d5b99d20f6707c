//! Anti-entropy: one node pulls from another what differs, by the rules R5 of the group protocol.
//!
//! An exchange is two independent pulls. In each, `q` asks and `p` tells. `p` takes the snapshot of what it has seen
//! first; `q` adopts it last, when everything that differed has been told. In between both descend their tries of
//! sums, in turns, and `p` lists the spans that differ, a chunk at a time, as `q` asks for more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::{Scope, counts, is_shaped};
use crate::proto::group::replica::{Key, Span, Value};
use crate::proto::group::seen::Bucket;
use crate::proto::group::{ChildKey, Desired, Owned, OwnedKey, Replica, Seen, Shelf, trie};
use crate::proto::shared::{Alarm, Shared};
use crate::proto::wire::{Buckets, Exchange, FRAME_BYTES_TARGET, Message, SeenSums, Snap, Status, Step};
use crate::proto::{Dot, Identity, InstanceId, Rule, Site, Time, Wakeup};

/// A pull that makes no progress for so long is given up.
const PULL_TIMEOUT: Duration = Duration::from_secs(3);
/// The same peer's root has to differ for so long before it is looked at: a change that is just spreading is none.
const DIFFER_MIN: Duration = Duration::from_millis(500);
/// At most one pull per this time, unless a member came or came back.
const PULL_INTERVAL: Duration = Duration::from_secs(1);
/// The same while news keep coming: two nodes that hear of them one after the other nearly always differ, and what is
/// on its way to both need not be compared. It is no longer than this, as something else may be missing.
const NEWS_PULL_INTERVAL: Duration = Duration::from_secs(5);
/// As long as a node has no more rumours than these to pass on, which takes it some three seconds.
const NEWS_MAX: usize = 256;
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
/// How deep a bucket level or a descent may be asked for.
const LEVEL_MAX: u8 = 5;

/// A pull of this node.
#[derive(Debug)]
struct Pull {
    from: InstanceId,
    session: u32,
    /// What this node had seen when it asked.
    base: Option<(Seen, Seen)>,
    depths: (u8, u8),
    is_settled: bool,
    progress: Time,
}

/// A pull that another node makes here.
#[derive(Debug)]
struct Serve {
    /// What this node had seen when it was asked, and then what the other one has.
    seen: (Seen, Seen),
    levels: (u8, u8),
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

fn buckets(map: BTreeMap<u32, Bucket>) -> Buckets {
    map.into_iter().collect()
}

fn is_sane(buckets: &Buckets, level: u8) -> bool {
    buckets.iter().all(|(index, _)| trie::is_node(level, *index))
}

fn snap<K: Key, V: Value + Clone>(replica: &Replica<K, V>, shelf: &impl Shelf<K, V>, theirs: &SeenSums) -> Snap {
    Snap {
        top: replica.top(),
        seen: buckets(replica.seen().differing(usize::from(theirs.level), &theirs.sums)),
        depth: replica.depth() as u8,
        sums: replica.sums_below(shelf, 0, 0),
    }
}

/// One step down: which children of the nodes that the peer named differ, and so have to be listed (at the level
/// where the lister's leaves are, or where one side is empty) or looked into.
fn descend<K: Key, V: Value + Clone>(
    replica: &Replica<K, V>,
    shelf: &impl Shelf<K, V>,
    depth: u8,
    theirs: &[(u8, u32, Vec<u64>)],
) -> Option<Step> {
    let mut step = Step::default();
    for (level, index, sums) in theirs {
        if *level >= LEVEL_MAX || !trie::is_node(*level, *index) || sums.len() != trie::ARITY {
            return None;
        }
        let below = level + 1;
        for (offset, (mine, theirs)) in replica.sums_below(shelf, *level, *index).into_iter().zip(sums).enumerate() {
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
        // A bulk does not fit into the gossip, and has to be compared.
        let is_on_its_way = now.since(self.exchanges.compared.1) < DIFFER_MIN && cx.gossip.len() < NEWS_MAX;
        // What a member that has just come, or come back, knew before is on its way to nobody.
        let is_new = cx.peers.get(&from.instance).is_some_and(|peer| now.since(peer.up_since) < 2 * PULL_INTERVAL);
        let waits = is_on_its_way && !is_new && !cx.is_small();
        let interval = if waits { NEWS_PULL_INTERVAL } else { PULL_INTERVAL };
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
        if is_last || is_first || (has_rested && now.since(since) >= DIFFER_MIN) {
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
            let base = (self.desired.seen().clone(), self.owned.seen().clone());
            let sums = |seen: &Seen| SeenSums { level: seen.depth() as u8, sums: seen.sums(seen.depth()) };
            let pull =
                Exchange::Pull { session, members: cx.membership.hash(), desired: sums(&base.0), owned: sums(&base.1) };
            self.exchanges.last_pull = Some(cx.now);
            self.exchanges.differing.remove(&from);
            self.exchanges.pull =
                Some(Pull { from, session, base: Some(base), depths: (0, 0), is_settled: false, progress: cx.now });
            self.send_step(cx, identity, pull);
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
                self.pull_descend(cx, from, &desired, &owned)
            }
            Exchange::Descend { session, seen, desired, owned } => {
                self.serve_descend(cx, from, session, seen, desired, owned)
            }
            Exchange::More { session } => self.serve_more(cx, from, session),
            Exchange::Snap { session, settled, desired, owned } if self.is_pulling(from, session) => {
                self.pull_snap(cx, from, settled, desired, owned)
            }
            Exchange::Spans { session, last, gone, desired, owned } if self.is_pulling(from, session) => {
                // The snapshot is as if p had never heard of them: what they own here stays.
                self.owned.forget_in_pull(&gone);
                self.pull_spans(cx, from, last, desired, owned)
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
        let is_in_the_middle = self.exchanges.pull.as_ref().is_some_and(|pull| pull.base.is_none());
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
        desired: &SeenSums,
        owned: &SeenSums,
    ) -> bool {
        let is_sane =
            |sums: &SeenSums| sums.level <= LEVEL_MAX && sums.sums.len() == trie::ARITY.pow(sums.level.into());
        if !is_sane(desired) || !is_sane(owned) {
            return false;
        }
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
        let serve = Serve {
            seen: (self.desired.seen().clone(), self.owned.seen().clone()),
            levels: (desired.level, owned.level),
            depths: (self.desired.depth() as u8, self.owned.depth() as u8),
            desired: VecDeque::new(),
            owned: VecDeque::new(),
            gone: BTreeSet::new(),
            used: cx.now,
        };
        self.exchanges.served.insert((from.instance, session), serve);
        let settled = self.status() == Status::Settled;
        let desired = snap(&self.desired, &self.children, desired);
        let owned = snap(&self.owned, &self.children, owned);
        self.send_step(cx, from, Exchange::Snap { session, settled, desired, owned });
        true
    }

    fn serve_descend(
        &mut self,
        cx: &mut Shared,
        from: Identity,
        session: u32,
        seen: Option<Box<(Buckets, Buckets)>>,
        desired: Step,
        owned: Step,
    ) -> bool {
        let Some(serve) = self.exchanges.served.get_mut(&(from.instance, session)) else { return true };
        serve.used = cx.now;
        if let Some(seen) = seen {
            let (theirs_desired, theirs_owned) = *seen;
            if !is_sane(&theirs_desired, serve.levels.0) || !is_sane(&theirs_owned, serve.levels.1) {
                return false;
            }
            // Where the sums were equal, what this node had seen then is what the other one had seen.
            serve.seen.0.replace(serve.levels.0.into(), &theirs_desired.into_iter().collect(), |_| true);
            serve.seen.1.replace(serve.levels.1.into(), &theirs_owned.into_iter().collect(), |_| true);
        }
        let (Some(mut next_desired), Some(mut next_owned)) = (
            descend(&self.desired, &self.children, serve.depths.0, &desired.nodes),
            descend(&self.owned, &self.children, serve.depths.1, &owned.nodes),
        ) else {
            return false;
        };
        for (step, mine, spans) in
            [(&desired, &mut next_desired, &mut serve.desired), (&owned, &mut next_owned, &mut serve.owned)]
        {
            for (level, index) in step.list.iter().chain(&mine.list) {
                if !trie::is_node(*level, *index) {
                    return false;
                }
                if spans.len() >= SPANS_MAX {
                    return false;
                }
                spans.push_back(trie::span(*level, *index));
            }
            mine.list.clear();
        }
        if next_desired.nodes.is_empty() && next_owned.nodes.is_empty() {
            return self.serve_more(cx, from, session);
        }
        let step = Exchange::Deeper { session, desired: next_desired, owned: next_owned };
        self.send_step(cx, from, step);
        true
    }

    /// Tells the next chunk of what differs.
    fn serve_more(&mut self, cx: &mut Shared, from: Identity, session: u32) -> bool {
        let Some(serve) = self.exchanges.served.get_mut(&(from.instance, session)) else { return true };
        serve.used = cx.now;
        let gone = std::mem::take(&mut serve.gone).into_iter().collect();
        let mut room = if cx.sites.fires(Site::SmallChunk) { 1 } else { 4 * FRAME_BYTES_TARGET };
        let desired =
            list_spans(&self.desired, &self.children, &serve.seen.0, &mut serve.desired, &mut room, |value| {
                value.spec.payload_bytes() + value.spec.kind.as_str().len() + 24
            });
        let owned =
            list_spans(&self.owned, &self.children, &serve.seen.1, &mut serve.owned, &mut room, |value| match value {
                Owned::Member(member) => 64 + member.kinds.iter().map(|kind| kind.as_str().len() + 1).sum::<usize>(),
                Owned::Claim(claim) => 48 + claim.last_error.as_ref().map_or(0, |error| error.len()),
            });
        let last = serve.desired.is_empty() && serve.owned.is_empty();
        if last {
            cx.stats.pulls_served += 1;
            self.exchanges.served.remove(&(from.instance, session));
        }
        self.send_step(cx, from, Exchange::Spans { session, last, gone, desired, owned });
        true
    }

    // What q does.

    fn pull_snap(&mut self, cx: &mut Shared, from: Identity, settled: bool, desired: Snap, owned: Snap) -> bool {
        let Some(pull) = &mut self.exchanges.pull else { return true };
        let Some((mut base_desired, mut base_owned)) = pull.base.take() else { return false };
        let levels = (base_desired.depth(), base_owned.depth());
        if !is_sane(&desired.seen, levels.0 as u8) || !is_sane(&owned.seen, levels.1 as u8) {
            return false;
        }
        if desired.sums.len() != trie::ARITY || owned.sums.len() != trie::ARITY {
            return false;
        }
        pull.progress = cx.now;
        pull.is_settled = settled;
        pull.depths = (desired.depth.max(1), owned.depth.max(1));
        let session = pull.session;
        let differing_desired: BTreeMap<u32, Bucket> = desired.seen.into_iter().collect();
        let differing_owned: BTreeMap<u32, Bucket> = owned.seen.into_iter().collect();
        base_desired.replace(levels.0, &differing_desired, |_| true);
        // What p has seen of members that are not active here is not ours to adopt.
        let membership = &cx.membership;
        let me = self.me;
        let counts = |writer: InstanceId| writer == me || membership.identity_of(writer).is_some();
        base_owned.replace(levels.1, &differing_owned, counts);
        let inactive: Vec<_> = base_owned.writers().filter(|&writer| !counts(writer)).collect();
        for writer in inactive {
            base_owned.forget(writer);
        }
        self.distrust_own_writes(cx, &mut base_desired, &mut base_owned);
        self.desired.open_pull(base_desired, desired.top);
        self.owned.open_pull(base_owned, owned.top);
        let depths = (desired.depth.max(1), owned.depth.max(1));
        let everything = desired.sums.iter().filter(|sum| **sum != 0).count();
        let (Some(mut desired), Some(mut owned)) = (
            descend(&self.desired, &self.children, depths.0, &[(0, 0, desired.sums)]),
            descend(&self.owned, &self.children, depths.1, &[(0, 0, owned.sums)]),
        ) else {
            return false;
        };
        if cx.sites.fires(Site::FullExchange) {
            (desired, owned) = (Step::everything(), Step::everything());
        }
        cx.stats.pulls_full += u64::from(everything > 0 && desired.list.len() >= everything);
        let seen = Box::new((
            mine_in(self.desired.seen(), levels.0, &differing_desired),
            mine_in(self.owned.seen(), levels.1, &differing_owned),
        ));
        self.send_step(cx, from, Exchange::Descend { session, seen: Some(seen), desired, owned });
        true
    }

    /// R7: of what this instance wrote, only this instance can tell; a peer that claims more must not make it look
    /// deleted.
    fn distrust_own_writes(&mut self, cx: &mut Shared, desired: &mut Seen, owned: &mut Seen) {
        let families = [(desired, self.desired.next_dot()), (owned, self.owned.next_dot())];
        for (seen, next) in families {
            if seen.last(self.me) >= next.n {
                self.refuse_forged(cx, next);
                seen.forget(self.me);
            }
        }
    }

    fn pull_descend(&mut self, cx: &mut Shared, from: Identity, desired: &Step, owned: &Step) -> bool {
        let Some(pull) = &mut self.exchanges.pull else { return true };
        pull.progress = cx.now;
        let (session, depths) = (pull.session, pull.depths);
        let (Some(desired), Some(owned)) = (
            descend(&self.desired, &self.children, depths.0, &desired.nodes),
            descend(&self.owned, &self.children, depths.1, &owned.nodes),
        ) else {
            return false;
        };
        self.send_step(cx, from, Exchange::Descend { session, seen: None, desired, owned });
        true
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

fn mine_in(seen: &Seen, level: usize, differing: &BTreeMap<u32, Bucket>) -> Buckets {
    let mut mine: BTreeMap<u32, Bucket> = differing.keys().map(|&index| (index, Bucket::new())).collect();
    seen.fill(level, &mut mine);
    buckets(mine)
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
