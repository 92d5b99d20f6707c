//! One scope on one node: its replicated state, its members, its children.
//!
//! The parts of what it does are in the files below it: [`calls`](self) of users, settling, exchanges, placement.
//! Which child runs here is decided in `supervision`, whether it may start in `handover`. Whatever changes state
//! only marks children as dirty; [`Scope::settle_dirty`] acts on them once, at the end of each input.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use super::gaps::Gaps;
use super::group::{
    BucketMap, ChildKey, Claim, ClaimState, Desired, MemberRecord, Merge, Owned, OwnedKey, Record, Replica,
};
use super::handover::{AskPace, Round};
use super::hash::fmix64;
use super::placement::Candidate;
use super::shared::Shared;
use super::supervision::Local;
use super::wire::{ScopeMessage, Status};
use super::{Command, Dot, Identity, InstanceId, Output, RequestId, Rule, Runs, ScopeId, ScopeSetup, Time};
use crate::child::{ChildSpec, Spec};
use crate::info::{Event, MemberInfo};

mod calls;
mod children;
mod claims;
mod exchange;
mod figures;
mod listing;
mod placing;
mod progress;
mod settling;

use calls::{Direct, Find};
use children::Children;
pub(crate) use children::{Child, Doing};
use exchange::Exchanges;
use progress::Progress;
use settling::Settling;

/// What is known of an active member of the scope.
#[derive(Debug)]
pub(crate) struct ScopeMember {
    pub(crate) record: Arc<MemberRecord>,
    addr: SocketAddr,
    /// The serial number of its record.
    version: u64,
    pub(crate) candidate: Candidate,
    /// The serial number of this node's record that it is known to have.
    echoed: u64,
    /// Another live member has its name and came first.
    is_shadowed: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) id: ScopeId,
    pub(crate) me: InstanceId,
    pub(crate) desired: Replica<ChildKey, Desired>,
    pub(crate) owned: Replica<OwnedKey, Owned>,
    pub(crate) members: BTreeMap<InstanceId, ScopeMember>,
    /// Those of them that may own children, in order.
    candidates: Vec<(InstanceId, Candidate)>,
    /// The members by name: more than one only where a name is held twice.
    names: BTreeMap<Arc<str>, BTreeSet<InstanceId>>,
    /// Their records, and every child that is desired or runs here.
    pub(crate) children: Children,
    pub(crate) runs: Runs<ChildKey>,
    /// Since when children that this node owns do not run.
    pub(crate) gaps: Gaps,
    pub(crate) rounds: u32,
    /// Rounds that have not asked yet, in the order in which they may.
    pub(crate) to_ask: VecDeque<ChildKey>,
    /// How many rounds ask at once.
    pub(crate) asking: usize,
    pub(crate) ask_pace: AskPace,
    /// Children that could start, or be asked for where they run, and wait for a place in the budget of this node: since when,
    /// the longest first.
    pub(crate) held: VecDeque<(Time, ChildKey)>,
    progress: Progress,
    /// First claims of this node of which nobody was told yet.
    pub(crate) untold: Vec<(ChildKey, Dot)>,
    /// The claims that say that their member declined.
    pub(crate) declined: BTreeSet<OwnedKey>,
    settling: Option<Settling>,
    startup: Vec<ChildSpec>,
    /// Calls that wait for this node to settle, in the order in which they came.
    queued: BTreeMap<RequestId, Command>,
    directs: BucketMap<ChildKey, Direct>,
    direct_tokens: u32,
    finds: BTreeMap<u64, Find>,
    find_tokens: u64,
    watchers: BucketMap<ChildKey, Vec<RequestId>>,
    /// Calls that wait for acknowledgements or for a run, with their child.
    waits: BTreeMap<RequestId, ChildKey>,
    exchanges: Exchanges,
    dirty: Vec<ChildKey>,
    /// Whether any member changed in what users see of it.
    are_members_changed: bool,
    /// Members that may own other children than before.
    dirty_members: BTreeSet<InstanceId>,
    /// Names that others hold than before, or with other rights.
    dirty_names: BTreeSet<Arc<str>>,
    /// How many children the audit has passed, in the order in which they lie in memory.
    pub(crate) audited: usize,
    forged: u32,
}

impl Scope {
    pub(crate) fn new(cx: &mut Shared, setup: ScopeSetup) -> Self {
        let me = cx.me().instance;
        let id = ScopeId::of(&setup.name);
        let mut kinds = setup.kinds;
        kinds.sort();
        let record = MemberRecord {
            name: cx.name.clone(),
            weight: setup.weight.max(1),
            kinds,
            labels: setup.labels,
            version: setup.version,
            settled: false,
            joined: u64::MAX,
            draining: cx.draining,
            left: false,
        };
        let mut scope = Scope {
            id,
            me,
            desired: Replica::new(me, cx.sabotage),
            owned: Replica::new(me, cx.sabotage),
            members: BTreeMap::new(),
            candidates: Vec::new(),
            names: BTreeMap::new(),
            children: Children::default(),
            runs: Runs::default(),
            gaps: Gaps::default(),
            rounds: 0,
            to_ask: VecDeque::new(),
            asking: 0,
            ask_pace: AskPace::default(),
            held: VecDeque::new(),
            progress: Progress::default(),
            untold: Vec::new(),
            declined: BTreeSet::new(),
            settling: Some(Settling::new(cx.now)),
            startup: setup.children,
            queued: BTreeMap::new(),
            directs: BucketMap::default(),
            direct_tokens: 0,
            finds: BTreeMap::new(),
            find_tokens: 0,
            watchers: BucketMap::default(),
            waits: BTreeMap::new(),
            exchanges: Exchanges::default(),
            dirty: Vec::new(),
            are_members_changed: false,
            dirty_members: BTreeSet::new(),
            dirty_names: BTreeSet::new(),
            audited: 0,
            forged: 0,
        };
        scope.write_member(cx, record);
        scope.begin_settling(cx);
        scope
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settling.is_none()
    }

    /// How many calls wait for this node to settle.
    pub(crate) fn calls_queued(&self) -> usize {
        self.queued.len()
    }

    /// How many searches and direct messages are on their way.
    pub(crate) fn calls_pending(&self) -> usize {
        self.finds.len() + self.directs.len()
    }

    pub(crate) fn status(&self) -> Status {
        if self.is_settled() { Status::Settled } else { Status::Unsettled }
    }

    /// A hash over everything that is replicated.
    pub(crate) fn root(&self) -> u64 {
        self.desired.root().wrapping_add(fmix64(self.owned.root()))
    }

    /// A hash over the records alone.
    pub(crate) fn records_root(&self) -> u64 {
        self.desired.records_root().wrapping_add(fmix64(self.owned.records_root()))
    }

    /// What this node says of itself.
    pub(crate) fn my_record(&self) -> Option<&Record<Owned>> {
        self.children.owned(&OwnedKey::member(self.me))
    }

    /// Changes what this node says of itself, and tells everybody.
    pub(crate) fn change_member(&mut self, cx: &mut Shared, change: impl FnOnce(&mut MemberRecord)) {
        let Some(member) = self.members.get(&self.me) else { return };
        let mut record = MemberRecord::clone(&member.record);
        change(&mut record);
        self.write_member(cx, record);
    }

    fn write_member(&mut self, cx: &mut Shared, record: MemberRecord) {
        let key = OwnedKey::member(self.me);
        let record = self.owned.write(&mut self.children, key.clone(), Owned::Member(Arc::new(record))).clone();
        self.note_member(cx, self.me, &record);
        self.publish_owned(cx, key, record);
    }

    /// Tells the others of a record of one's own.
    pub(crate) fn publish_owned(&self, cx: &mut Shared, key: OwnedKey, record: Record<Owned>) {
        let message = ScopeMessage::PutOwned(key, record);
        if !cx.send_to_all(self.id, message.clone()) {
            cx.spread(self.id, message);
        }
    }

    /// Tells a member what this node says of itself.
    pub(crate) fn tell_of_me(&self, cx: &mut Shared, member: Identity) {
        if let Some(record) = self.my_record() {
            let put = ScopeMessage::PutOwned(OwnedKey::member(self.me), record.clone());
            cx.send_scoped(member, self.id, put);
        }
    }

    /// An instance became active: tell it who is here, and find out what it has.
    pub(crate) fn member_up(&mut self, cx: &mut Shared, identity: Identity) {
        self.tell_of_me(cx, identity);
        self.exchange_status(cx, identity);
        for key in self.children.waiting() {
            self.ask_newcomer(cx, &key, identity);
        }
        if cx.is_small() {
            self.pull_soon(cx, identity.instance);
        }
    }

    /// Instances are not active any more: what they said of themselves is void.
    pub(crate) fn members_down(&mut self, cx: &mut Shared, gone: &BTreeSet<InstanceId>) {
        let is_void = |writer| gone.contains(&writer) && !cx.sabotage.lacks(Rule::DownVoidsClaims);
        let forgotten = self.owned.forget_writers(&mut self.children, is_void);
        for (key, record) in forgotten {
            self.note_owned_gone(cx, &key, &record);
        }
        if cx.sabotage.lacks(Rule::NeverPrune) {
            self.desired.prune(&gone.iter().copied().collect::<Vec<_>>());
        }
        self.forget_answers(gone);
        for &instance in gone {
            self.forget_member(cx, instance);
            self.peer_lost(cx, instance);
        }
        for key in self.children.waiting() {
            self.void_round_unless_free(cx, &key, gone);
        }
    }

    fn forget_member(&mut self, cx: &mut Shared, instance: InstanceId) {
        if let Some(member) = self.members.remove(&instance) {
            cx.event(self.id, Event::MemberDown(member_info(instance, &member)));
            self.forget_name(instance, &member.record.name);
            self.member_changed(instance, false);
        }
    }

    /// Where children belong is looked at anew only if this makes a difference to it: most of what members say of
    /// themselves, as that they are there but have not settled, makes none.
    fn member_changed(&mut self, instance: InstanceId, is_suited_otherwise: bool) {
        self.are_members_changed = true;
        if self.follow_candidate(instance) || is_suited_otherwise {
            self.dirty_members.insert(instance);
        }
    }

    /// What is to be passed on of a message if it turns out to be new, with the state that it may change. In clusters in
    /// which not everybody is told directly, most would otherwise hear of a change only when they compare states.
    pub(crate) fn news(&self, cx: &Shared, message: &ScopeMessage) -> Option<(u64, ScopeMessage)> {
        if cx.is_small() {
            return None;
        }
        let told = match message {
            ScopeMessage::Put(..) | ScopeMessage::PutOwned(..) | ScopeMessage::DelOwned(..) => message.clone(),
            ScopeMessage::PutDirect(key, record) => ScopeMessage::Put(key.clone(), record.clone()),
            ScopeMessage::Del { key, dot, birth, .. } => {
                ScopeMessage::Del { key: key.clone(), dot: *dot, birth: *birth, direct: false }
            }
            _ => return None,
        };
        Some((self.root(), told))
    }

    /// Whoever hears of something for the first time tells others.
    pub(crate) fn pass_on(&mut self, cx: &mut Shared, news: Option<(u64, ScopeMessage)>) {
        if let Some((before, message)) = news
            && self.root() != before
        {
            cx.spread(self.id, message);
        }
    }

    fn forget_name(&mut self, instance: InstanceId, name: &Arc<str>) {
        if let Some(holders) = self.names.get_mut(name) {
            holders.remove(&instance);
            if holders.is_empty() {
                self.names.remove(name);
            } else {
                self.dirty_names.insert(name.clone());
            }
        }
    }

    /// A message about this scope from an active member.
    pub(crate) fn handle(&mut self, cx: &mut Shared, from: Identity, message: ScopeMessage) {
        match message {
            ScopeMessage::Lead { echo, record, .. } => self.handle_lead(cx, from, echo, record),
            ScopeMessage::Put(key, record) => {
                self.take_desired(cx, key, record);
            }
            ScopeMessage::PutDirect(key, record) => {
                let dot = record.dot;
                if self.take_desired(cx, key.clone(), record) {
                    self.send_back(cx, from, cx.via, ScopeMessage::Ack(key, dot));
                }
            }
            ScopeMessage::Del { key, dot, birth, direct } => {
                self.take_delete(cx, &key, dot, birth);
                if direct {
                    self.send_back(cx, from, cx.via, ScopeMessage::Ack(key, dot));
                }
            }
            ScopeMessage::Ack(key, dot) => self.handle_ack(cx, from.instance, &key, dot),
            ScopeMessage::PutOwned(key, record) => self.take_owned(cx, key, record),
            ScopeMessage::DelOwned(key, dot) => self.take_owned_delete(cx, &key, dot),
            ScopeMessage::Ask(ask) => self.handle_ask(cx, from, ask),
            ScopeMessage::Answer(answer) => self.handle_answer(cx, from, answer),
            ScopeMessage::StatusRequest => self.handle_status_request(cx, from),
            ScopeMessage::Status(status) => self.handle_status(cx, from, status),
            ScopeMessage::Find(token, key) => {
                let found = self.children.record(&key).cloned();
                cx.send_scoped(from, self.id, ScopeMessage::Found(token, key, found));
            }
            ScopeMessage::Found(token, key, record) => self.handle_found(cx, from, token, key, record),
            ScopeMessage::Exchange(step) => self.handle_exchange(cx, from, step),
        }
    }

    fn handle_lead(&mut self, cx: &mut Shared, from: Identity, echo: u64, record: Option<Box<Record<Owned>>>) {
        if let Some(record) = record {
            self.take_owned(cx, OwnedKey::member(from.instance), *record);
        }
        if let Some(member) = self.members.get_mut(&from.instance) {
            member.echoed = member.echoed.max(echo);
        }
    }

    /// What leads asks and answers to a member: the versions of both records, and this node's until it was echoed.
    pub(crate) fn lead(&self, to: InstanceId) -> ScopeMessage {
        let mine = self.my_record();
        let version = mine.map_or(0, |record| record.dot.n);
        let (echo, echoed) = self.members.get(&to).map_or((0, 0), |member| (member.version, member.echoed));
        let record = mine.filter(|_| echoed < version).cloned().map(Box::new);
        ScopeMessage::Lead { version, echo, record }
    }

    /// R3 for a desired child; `false` if it was refused or has to be learnt by the pull that is open.
    pub(crate) fn take_desired(&mut self, cx: &mut Shared, key: ChildKey, record: Record<Desired>) -> bool {
        if self.desired.is_forged(record.dot) {
            self.refuse_forged(cx, record.dot);
            return false;
        }
        if record.value.spec.is_too_large() {
            cx.stats.refused_limit += 1;
            return false;
        }
        if self.children.desired() >= cx.config.limits.children_max && self.children.record(&key).is_none() {
            cx.stats.refused_limit += 1;
            return false;
        }
        match self.desired.put(&mut self.children, key.clone(), record) {
            Merge::Ignored => {
                cx.stats.puts_ignored_in_pull += 1;
                false
            }
            Merge::Known | Merge::Lost => true,
            Merge::Won(displaced) => {
                self.desired_changed(cx, key, displaced);
                true
            }
        }
    }

    /// R4 for a desired child.
    pub(crate) fn take_delete(&mut self, cx: &mut Shared, key: &ChildKey, dot: Dot, birth: u64) {
        if self.desired.is_forged(dot) {
            self.refuse_forged(cx, dot);
            return;
        }
        cx.stats.removed_unheld += u64::from(!self.desired.seen().contains(dot));
        if let Some(removed) = self.desired.delete(&mut self.children, key, dot, birth) {
            self.desired_changed(cx, key.clone(), Some(removed));
        }
    }

    /// The record of a child changed or went; `displaced` is what was held before.
    pub(crate) fn desired_changed(&mut self, cx: &mut Shared, key: ChildKey, displaced: Option<Record<Desired>>) {
        let held = self.children.record(&key);
        let over = held.filter(|new| new.dot.writer != self.me).and_then(|new| new.over);
        cx.stats.replaced_over += u64::from(over.is_some() && over == displaced.as_ref().map(|old| old.dot));
        if let Some(old) = &displaced
            && old.dot.writer == self.me
            && let Some(new) = held
            && new.over != Some(old.dot)
            && new.value.spec != old.value.spec
        {
            let lost = Box::new(Spec::clone(&old.value.spec));
            cx.stats.starts_lost += 1;
            cx.event(self.id, Event::StartLost { id: key.id().clone(), lost });
        }
        let is_same_kind = matches!((&displaced, held), (Some(old), Some(new)) if old.value.spec == new.value.spec);
        if held.is_none() {
            self.children.set_owner(&key, None);
        } else if !is_same_kind || !self.declined.is_empty() {
            self.place(&key);
        }
        self.dirty.push(key);
    }

    pub(super) fn refuse_forged(&mut self, cx: &mut Shared, dot: Dot) {
        cx.stats.refused_serial += 1;
        self.forged += 1;
        if self.forged.is_power_of_two() {
            tracing::error!(%dot.n, "somebody used a serial number of this instance: state is corrupt or an id is shared");
        }
        if self.forged == 1 {
            cx.event(self.id, Event::SerialConflict);
        }
    }

    /// A claim or a member record, taken only from the instance that it is about, and only while that is active.
    pub(crate) fn take_owned(&mut self, cx: &mut Shared, key: OwnedKey, record: Record<Owned>) {
        let writer = key.instance();
        if writer == self.me {
            if self.owned.is_forged(record.dot) {
                self.refuse_forged(cx, record.dot);
            }
            return;
        }
        if record.dot.writer != writer || !is_shaped(&key, &record.value) || !counts(cx, writer) {
            cx.stats.refused_not_member += 1;
            return;
        }
        if self.children.owned_len() >= cx.config.limits.children_max.saturating_mul(2)
            && self.children.owned(&key).is_none()
        {
            cx.stats.refused_limit += 1;
            return;
        }
        match self.owned.put(&mut self.children, key.clone(), record) {
            Merge::Ignored => cx.stats.puts_ignored_in_pull += 1,
            Merge::Known | Merge::Lost => {}
            Merge::Won(displaced) => self.note_owned(cx, &key, displaced),
        }
    }

    fn take_owned_delete(&mut self, cx: &mut Shared, key: &OwnedKey, dot: Dot) {
        if dot.writer == key.instance()
            && dot.writer != self.me
            && cx.membership.identity_of(dot.writer).is_some()
            && let Some(removed) = self.owned.delete_until(&mut self.children, key, dot)
        {
            self.note_owned_gone(cx, key, &removed);
        }
    }

    /// A record that a member owns is new here, or has only ended what was held: its removal may have come before it.
    pub(crate) fn note_owned(&mut self, cx: &mut Shared, key: &OwnedKey, displaced: Option<Record<Owned>>) {
        let Some(record) = self.children.owned(key).cloned() else {
            return displaced.into_iter().for_each(|ended| self.note_owned_gone(cx, key, &ended));
        };
        match (&record.value, key.child()) {
            (Owned::Member(_), None) => self.note_member(cx, key.instance(), &record),
            (Owned::Claim(claim), Some(child)) => self.note_claim(cx, key, &child, claim),
            _ => cx.stats.refused_malformed += 1,
        }
    }

    /// The highest run of a life outlives the claim that told of it, so that epochs rise across a failover.
    fn note_run(&mut self, cx: &Shared, child: &ChildKey, claim: &Claim) {
        let held = self.children.record(child).filter(|record| record.birth == claim.epoch.birth);
        let is_higher = held.is_some_and(|record| record.value.run < claim.epoch.run);
        if is_higher
            && !cx.sabotage.lacks(Rule::RunOutlivesClaim)
            && let Some(value) = self.children.value_mut(child)
        {
            value.run = claim.epoch.run;
        }
    }

    fn note_claim(&mut self, cx: &Shared, key: &OwnedKey, child: &ChildKey, claim: &Claim) {
        self.note_run(cx, child, claim);
        let is_declined = claim.state == ClaimState::Declined;
        let was_declined = if is_declined { !self.declined.insert(key.clone()) } else { self.declined.remove(key) };
        // A member that declined one life and then the next looks no different, but counts for the next only now.
        if is_declined || was_declined {
            self.place(child);
            self.dirty.push(child.clone());
        } else if self.watchers.contains_key(child)
            || self.directs.contains_key(child)
            || self.children.get(child).is_some_and(|child| !matches!(child.local, Local::Idle))
        {
            self.dirty.push(child.clone());
        }
    }

    /// A record that a member owned is gone.
    pub(crate) fn note_owned_gone(&mut self, cx: &mut Shared, key: &OwnedKey, record: &Record<Owned>) {
        match (&record.value, key.child()) {
            (Owned::Claim(claim), Some(child)) => {
                self.note_run(cx, &child, claim);
                if self.declined.remove(key) {
                    self.place(&child);
                }
                self.dirty.push(child);
            }
            _ if key.instance() != self.me => self.forget_member(cx, key.instance()),
            _ => {}
        }
    }

    fn note_member(&mut self, cx: &mut Shared, instance: InstanceId, record: &Record<Owned>) {
        let Owned::Member(member) = &record.value else { return };
        let old = self.members.get(&instance);
        if old.is_some_and(|old| old.version >= record.dot.n) {
            return;
        }
        let echoed = old.map_or(0, |old| old.echoed);
        let is_new = old.is_none();
        let identity = if instance == self.me { Some(cx.me()) } else { cx.membership.identity_of(instance) };
        let Some(identity) = identity else { return };
        let entry = ScopeMember {
            record: member.clone(),
            addr: identity.addr,
            version: record.dot.n,
            candidate: Candidate::new(member.name.clone(), member.weight),
            echoed,
            is_shadowed: false,
        };
        if is_new && instance != self.me {
            cx.event(self.id, Event::MemberUp(member_info(instance, &entry)));
        }
        let name = member.name.clone();
        let old = self.members.insert(instance, entry);
        let is_other = |old: &ScopeMember| old.record.kinds != member.kinds || old.record.labels != member.labels;
        let is_suited_otherwise = old.as_ref().is_some_and(is_other);
        if let Some(old) = old.filter(|old| old.record.name != name) {
            self.forget_name(instance, &old.record.name);
        }
        self.names.entry(name.clone()).or_default().insert(instance);
        self.dirty_names.insert(name);
        self.member_changed(instance, is_suited_otherwise);
        if member.settled {
            self.note_settled(cx, instance);
        }
    }

    /// Acts on everything that changed since the last input.
    pub(crate) fn settle_dirty(&mut self, cx: &mut Shared) {
        if self.are_members_changed {
            self.find_shadowed(cx);
            self.are_members_changed = false;
            let changed = std::mem::take(&mut self.dirty_members);
            if !changed.is_empty() {
                self.place_all(&changed);
            }
            cx.outputs.push_back(Output::Members { scope: self.id });
            // A run may have been told of before its member was.
            self.dirty.extend(self.watchers.keys().cloned());
        }
        loop {
            while let Some(key) = self.dirty.pop() {
                self.reconcile(cx, &key);
                self.tell_watchers(cx, &key);
            }
            // Whoever has nobody to ask starts at once, or finds that there is nothing to start.
            self.ask_more(cx);
            if self.dirty.is_empty() {
                break;
            }
        }
        self.follow_starts(cx);
    }

    /// Of two live members with one name the one that came later owns nothing.
    fn find_shadowed(&mut self, cx: &mut Shared) {
        for name in std::mem::take(&mut self.dirty_names) {
            let holders: Vec<InstanceId> = self.names.get(&name).into_iter().flatten().copied().collect();
            let joined = |instance: &InstanceId| self.members.get(instance).map(|member| member.record.joined);
            let first = holders.iter().map(|instance| (joined(instance), *instance)).min().map(|(_, first)| first);
            for instance in holders {
                let Some(member) = self.members.get_mut(&instance) else { continue };
                let is_shadowed = first != Some(instance);
                if std::mem::replace(&mut member.is_shadowed, is_shadowed) == is_shadowed {
                    continue;
                }
                let loser = member.addr;
                self.member_changed(instance, false);
                if is_shadowed {
                    cx.stats.name_conflicts += 1;
                    tracing::warn!(%name, %loser, "two live members have one name");
                    cx.event(self.id, Event::NameConflict { name: name.clone(), loser });
                }
            }
        }
    }

    /// Every live member, ordered by name.
    pub(crate) fn member_infos(&self) -> Vec<MemberInfo> {
        let holders = self.names.values().flatten();
        holders.filter_map(|&instance| Some(member_info(instance, self.members.get(&instance)?))).collect()
    }

    /// The others had declared this node down: nothing that was permitted before counts, and what this node says of
    /// itself has been forgotten there.
    pub(crate) fn rejoined(&mut self, cx: &mut Shared) {
        if !cx.sabotage.lacks(Rule::RejoinVoidsRounds) {
            self.void_all_rounds(cx);
        }
        for (key, record) in self.children.owned_by(self.me) {
            self.publish_owned(cx, key, record);
        }
        self.resync_with_all(cx);
        cx.event(self.id, Event::Rejoined);
    }

    /// The clock jumped, or this node is new to the others: every permission is void.
    pub(crate) fn void_all_rounds(&mut self, cx: &mut Shared) {
        for key in self.children.waiting() {
            self.begin_round(cx, &key);
        }
    }

    /// The live claims of others on a child.
    pub(crate) fn foreign_claims(&self, key: &ChildKey) -> impl Iterator<Item = (InstanceId, &Claim)> {
        self.claims(key).filter(|(instance, claim)| *instance != self.me && claim.is_live())
    }

    /// Whether another node says that it runs a child.
    pub(crate) fn is_claimed_elsewhere(&self, key: &ChildKey) -> bool {
        self.foreign_claims(key).next().is_some()
    }

    /// Every claim on a child.
    pub(crate) fn claims(&self, key: &ChildKey) -> impl Iterator<Item = (InstanceId, &Claim)> {
        self.children.claims(key).filter_map(|(instance, record)| Some((instance, record.value.claim()?)))
    }

    /// What is replicated of a child.
    pub(crate) fn life(&self, key: &ChildKey) -> Option<(Dot, u64, Arc<Spec>, u32)> {
        let record = self.children.record(key)?;
        Some((record.dot, record.birth, record.value.spec.clone(), record.value.run))
    }

    /// Marks a child whose claim this node changed, if somebody waits for it.
    pub(crate) fn mark_watched(&mut self, key: &ChildKey) {
        if self.watchers.contains_key(key) {
            self.mark(key);
        }
    }

    /// Marks a child to be looked at, at the end of this input.
    pub(crate) fn mark(&mut self, key: &ChildKey) {
        self.dirty.push(key.clone());
    }

    /// Whether a member is active; the node itself always is.
    pub(crate) fn is_active(&self, cx: &Shared, instance: InstanceId) -> bool {
        instance == self.me || cx.membership.identity_of(instance).is_some()
    }

    /// R6: forgets what dead writers without a record have written, beyond the bound, those heard of first.
    pub(crate) fn prune(&mut self, cx: &mut Shared) {
        const DEAD_WRITERS_MAX: usize = 65_536;
        if self.desired.seen().len() <= DEAD_WRITERS_MAX {
            return;
        }
        let live: BTreeSet<InstanceId> =
            self.children.iter().filter_map(|(_, entry)| Some(entry.record.as_ref()?.dot.writer)).collect();
        let startup: BTreeSet<InstanceId> = self.startup.iter().map(|spec| self.startup_dot(spec).writer).collect();
        let mut dead: Vec<_> = self
            .desired
            .seen()
            .writers()
            .into_iter()
            .filter(|writer| !live.contains(writer) && !startup.contains(writer) && !self.is_active(cx, *writer))
            .collect();
        dead.sort_unstable_by_key(|writer| self.desired.seen().arrival(*writer));
        let excess = dead.len().saturating_sub(DEAD_WRITERS_MAX);
        cx.stats.seen_pruned += excess as u64;
        self.desired.prune(&dead[..excess]);
    }

    /// The round of a child, waiting or challenging.
    pub(crate) fn round_of(&mut self, key: &ChildKey) -> Option<&mut Round> {
        match &mut self.children.get_mut(key)?.local {
            Local::Idle => None,
            Local::Waiting(round) => Some(round),
            Local::Active(run) => run.challenge.as_deref_mut(),
        }
    }
}

/// Whether a record is one that its key can hold, and that its writer's own node would have let through.
pub(crate) fn is_shaped(key: &OwnedKey, value: &Owned) -> bool {
    match value {
        Owned::Claim(_) => key.child().is_some(),
        Owned::Member(member) => key.child().is_none() && !member.is_too_large(),
    }
}

/// Whether what is said of a member counts: only as long as it is active, because nothing would take it back later.
pub(crate) fn counts(cx: &Shared, member: InstanceId) -> bool {
    cx.membership.identity_of(member).is_some() || cx.sabotage.lacks(Rule::ClaimsOfActiveOnly)
}

pub(crate) fn member_info(instance: InstanceId, member: &ScopeMember) -> MemberInfo {
    let record = &member.record;
    MemberInfo {
        name: record.name.clone(),
        addr: member.addr,
        instance,
        weight: record.weight,
        kinds: record.kinds.clone(),
        labels: record.labels.clone(),
        version: record.version.clone(),
        settled: record.settled,
        draining: record.draining,
    }
}
