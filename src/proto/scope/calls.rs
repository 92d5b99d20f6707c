//! What users ask of a scope, and how it is made sure that it reaches who must act on it.

use std::sync::Arc;
use std::time::Duration;

use super::{Child, Command, Scope};
use crate::child::{ChildId, ChildSpec};
use crate::error::{StartError, TerminateError, Unavailable, UpdateError, WaitError};
use crate::proto::few::Few;
use crate::proto::group::{ChildKey, Desired, Record};
use crate::proto::handover::RELAY_FROM_ATTEMPT;
use crate::proto::shared::{ASK_RETRY_MAX, Alarm, Shared};
use crate::proto::wire::{INLINE_SPEC_BYTES_MAX, ScopeMessage};
use crate::proto::{Dot, Identity, InstanceId, Reply, RequestId, Rule, Wakeup};

/// How often a direct message is sent; after that it is left to gossip and anti-entropy.
const DIRECT_TRIES_MAX: u32 = 12;

/// How much later a direct message is repeated for each other one that is on its way: about what a member needs for
/// one, so that a bulk is not sent again while it is still being taken in.
const DIRECT_PACE: Duration = Duration::from_micros(20);

/// A write on its way to those who must act on it, or whose acknowledgement somebody waits for.
#[derive(Debug)]
pub(super) struct Direct {
    token: u32,
    dot: Dot,
    /// `None`: the record itself, as it stands. Otherwise its removal, with the remover's highest birth.
    removal: Option<u64>,
    pending: Few,
    acked: Few,
    tries: u32,
    /// Who is to be told after so many acknowledgements.
    waits: Option<(RequestId, usize, Reply)>,
}

/// A search for a child that this node does not hold.
#[derive(Debug)]
pub(super) struct Find {
    request: RequestId,
    key: ChildKey,
    purpose: Purpose,
    pending: Few,
}

/// What is to be done with a child that is found.
#[derive(Debug)]
enum Purpose {
    Terminate { replicated: usize },
    Update { spec: Box<ChildSpec>, replicated: usize },
    Wait,
}

impl Purpose {
    fn not_found(&self) -> Reply {
        match self {
            Purpose::Terminate { .. } => Reply::Terminated(Err(TerminateError::NotFound)),
            Purpose::Update { .. } => Reply::Updated(Err(UpdateError::NotFound)),
            Purpose::Wait => Reply::Running(Err(WaitError::NotFound)),
        }
    }
}

impl Scope {
    /// A call of a user. Until this node has settled it waits.
    pub(crate) fn call(&mut self, cx: &mut Shared, request: RequestId, command: Command) {
        if !self.is_settled() {
            if self.queued.len() < cx.config.limits.waiting_calls_max {
                self.queued.insert(request, command);
            } else {
                cx.stats.refused_limit += 1;
                cx.reply(request, Reply::Unavailable(Unavailable::Busy));
            }
            return;
        }
        match command {
            Command::Start { spec, replicated, .. } => self.start_child(cx, request, spec, replicated),
            Command::Update { spec, replicated, .. } => self.update_child(cx, request, spec, replicated),
            Command::Terminate { id, replicated, .. } => self.terminate_child(cx, request, id, replicated),
            Command::WhichChildren { which, .. } => {
                let children = self.list(which);
                cx.reply(request, Reply::Children(children));
            }
            Command::Whereis { id, .. } => {
                let location = self.locate(&ChildKey::new(id));
                cx.reply(request, Reply::Whereis(location));
            }
            Command::WaitUntilRunning { id, .. } => self.wait_until_running(cx, request, id),
            Command::JoinScope(_) | Command::SetKeyring { .. } | Command::Leave { .. } => {
                debug_assert!(false, "commands of the node do not reach a scope");
            }
        }
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn cancel(&mut self, request: RequestId) {
        self.queued.remove(&request);
        self.finds.retain(|_, find| find.request != request);
        let Some(key) = self.waits.remove(&request) else { return };
        if let Some(requests) = self.watchers.get_mut(&key) {
            requests.retain(|waiting| *waiting != request);
            if requests.is_empty() {
                self.watchers.remove(&key);
            }
        }
        if let Some(direct) = self.directs.get_mut(&key) {
            direct.waits.take_if(|(waiting, ..)| *waiting == request);
        }
    }

    /// Answers a call that had to wait.
    pub(super) fn answer_wait(&mut self, cx: &mut Shared, request: RequestId, reply: Reply) {
        self.waits.remove(&request);
        cx.reply(request, reply);
    }

    /// The node is gone: nothing more will be answered.
    pub(crate) fn refuse_calls(&mut self, cx: &mut Shared) {
        let queued = std::mem::take(&mut self.queued).into_keys();
        let finds = std::mem::take(&mut self.finds).into_values().map(|find| find.request);
        let watchers = std::mem::take(&mut self.watchers).into_values().flatten();
        let directs = std::mem::take(&mut self.directs).into_values().filter_map(|direct| direct.waits);
        let all: Vec<_> = queued.chain(finds).chain(watchers).chain(directs.map(|(request, ..)| request)).collect();
        self.waits.clear();
        for request in all {
            cx.reply(request, Reply::Unavailable(Unavailable::NodeGone));
        }
    }

    fn start_child(&mut self, cx: &mut Shared, request: RequestId, spec: ChildSpec, replicated: usize) {
        let key = ChildKey::new(spec.id.clone());
        let refusal = match self.children.record(&key) {
            Some(held) if *held.value.spec == spec.spec => {
                // Whoever asked first may have been the only one to know of it.
                self.send_desired(cx, &key, (request, replicated, Reply::Started(Ok(false))));
                return;
            }
            Some(held) => StartError::AlreadyStarted { existing: Box::new((*held.value.spec).clone()) },
            None if cx.draining => StartError::Unavailable(Unavailable::Leaving),
            None if self.children.desired() >= cx.config.limits.children_max => {
                cx.stats.refused_limit += 1;
                StartError::TooManyChildren { max: cx.config.limits.children_max }
            }
            None => {
                self.write_desired(cx, &key, spec);
                self.send_desired(cx, &key, (request, replicated, Reply::Started(Ok(true))));
                return;
            }
        };
        cx.reply(request, Reply::Started(Err(refusal)));
    }

    fn update_child(&mut self, cx: &mut Shared, request: RequestId, spec: ChildSpec, replicated: usize) {
        let key = ChildKey::new(spec.id.clone());
        match self.children.record(&key) {
            None => {
                let purpose = Purpose::Update { spec: Box::new(spec), replicated };
                self.search(cx, request, key, purpose);
            }
            Some(held) if *held.value.spec == spec.spec => cx.reply(request, Reply::Updated(Ok(false))),
            Some(_) => {
                self.write_desired(cx, &key, spec);
                self.send_desired(cx, &key, (request, replicated, Reply::Updated(Ok(true))));
            }
        }
    }

    pub(super) fn write_desired(&mut self, cx: &mut Shared, key: &ChildKey, spec: ChildSpec) {
        let displaced = self.children.record(key).cloned();
        if cx.sabotage.lacks(Rule::BirthIsNoClock) {
            self.desired.count_from(cx.wall_ms());
        }
        self.desired.write(&mut self.children, key.clone(), Desired { spec: Arc::new(spec.spec), run: 0 });
        self.desired_changed(cx, key.clone(), displaced);
    }

    fn terminate_child(&mut self, cx: &mut Shared, request: RequestId, id: ChildId, replicated: usize) {
        let key = ChildKey::new(id);
        if self.children.record(&key).is_some() {
            self.remove_desired(cx, &key, Some((request, replicated, Reply::Terminated(Ok(())))));
            return;
        }
        self.search(cx, request, key, Purpose::Terminate { replicated });
    }

    /// Asks the others for a child that this node has not heard of.
    fn search(&mut self, cx: &mut Shared, request: RequestId, key: ChildKey, purpose: Purpose) {
        let candidates =
            if cx.is_small() { cx.membership.active().keys().copied().collect() } else { self.likely_owners(&key, 3) };
        let asked: Vec<Identity> =
            candidates.iter().filter_map(|&instance| cx.membership.identity_of(instance)).collect();
        if asked.is_empty() {
            cx.reply(request, purpose.not_found());
            return;
        }
        self.find_tokens += 1;
        cx.stats.finds += 1;
        let token = self.find_tokens;
        let pending = asked.iter().map(|identity| identity.instance).collect();
        cx.outbox.push_to_all(asked.into_iter(), self.id, ScopeMessage::Find(token, key.clone()));
        self.finds.insert(token, Find { request, key, purpose, pending });
        cx.set_timer(4 * ASK_RETRY_MAX, Wakeup::Call, Alarm::Find(self.id, token));
    }

    pub(super) fn handle_found(
        &mut self,
        cx: &mut Shared,
        from: Identity,
        token: u64,
        key: ChildKey,
        record: Option<Record<Desired>>,
    ) {
        let Some(find) = self.finds.get_mut(&token).filter(|find| find.key == key) else { return };
        find.pending.remove(from.instance);
        let is_last = find.pending.is_empty();
        if let Some(record) = record {
            let (dot, birth) = (record.dot, record.birth);
            let is_taken = self.take_desired(cx, key.clone(), record);
            let Some(find) = self.finds.get(&token) else { return };
            if !is_taken && !self.desired.seen().contains(dot) {
                // It can't be taken now (a pull is open, which will bring it), but it can be removed all the same.
                if let Purpose::Terminate { replicated } = find.purpose {
                    self.remove_unheld(cx, token, replicated, dot, birth);
                }
                return;
            }
        }
        if self.children.record(&key).is_some() || is_last {
            self.end_find(cx, token);
        }
    }

    /// R4 for a child that others hold and this node can't.
    fn remove_unheld(&mut self, cx: &mut Shared, token: u64, replicated: usize, dot: Dot, birth: u64) {
        let Some(find) = self.finds.remove(&token) else { return };
        let key = find.key;
        self.take_delete(cx, &key, dot, birth);
        let birth = self.desired.top();
        let others: Few = self.members.keys().copied().filter(|instance| *instance != self.me).collect();
        cx.spread(self.id, ScopeMessage::Del { key: key.clone(), dot, birth, direct: false });
        let waits = Some((find.request, replicated, Reply::Terminated(Ok(()))));
        self.send_direct(cx, &key, dot, Some(birth), others, waits);
    }

    /// The search is over, answered or not.
    pub(crate) fn end_find(&mut self, cx: &mut Shared, token: u64) {
        let Some(Find { request, key, purpose, .. }) = self.finds.remove(&token) else { return };
        if self.children.record(&key).is_none() {
            cx.reply(request, purpose.not_found());
            return;
        }
        match purpose {
            Purpose::Terminate { replicated } => {
                self.remove_desired(cx, &key, Some((request, replicated, Reply::Terminated(Ok(())))));
            }
            Purpose::Update { spec, replicated } => self.update_child(cx, request, *spec, replicated),
            Purpose::Wait => self.wait_until_running(cx, request, key.id().clone()),
        }
    }

    fn wait_until_running(&mut self, cx: &mut Shared, request: RequestId, id: ChildId) {
        let key = ChildKey::new(id);
        if self.children.record(&key).is_none() {
            self.search(cx, request, key, Purpose::Wait);
            return;
        }
        self.watchers.get_or_insert_with(&key, Vec::new).push(request);
        self.waits.insert(request, key.clone());
        self.tell_watchers(cx, &key);
    }

    /// R2: removes a child everywhere.
    pub(crate) fn remove_desired(&mut self, cx: &mut Shared, key: &ChildKey, waits: Option<(RequestId, usize, Reply)>) {
        let owner = self.owner(key);
        let Some(removed) = self.desired.remove(&mut self.children, key) else { return };
        let (dot, birth) = (removed.dot, self.desired.top());
        let mut direct: Few = self.foreign_claims(key).map(|(instance, _)| instance).collect();
        direct.extend(owner.filter(|owner| *owner != self.me));
        self.add_witnesses(cx, &mut direct, waits.as_ref().map_or(0, |(_, count, _)| *count));
        self.desired_changed(cx, key.clone(), Some(removed));
        let del = |direct| ScopeMessage::Del { key: key.clone(), dot, birth, direct };
        let others: Vec<_> =
            cx.membership.active().values().filter(|identity| !direct.contains(identity.instance)).copied().collect();
        if cx.is_small() {
            cx.outbox.push_to_all(others.into_iter(), self.id, del(false));
        }
        cx.spread(self.id, del(false));
        self.send_direct(cx, key, dot, Some(birth), direct, waits);
    }

    fn send_desired(&mut self, cx: &mut Shared, key: &ChildKey, waits: (RequestId, usize, Reply)) {
        let Some(record) = self.children.record(key) else { return };
        let dot = record.dot;
        let mut direct: Few = self.foreign_claims(key).map(|(instance, _)| instance).collect();
        direct.extend(self.owner(key).filter(|owner| *owner != self.me));
        self.add_witnesses(cx, &mut direct, waits.1);
        self.publish_desired(cx, key);
        self.send_direct(cx, key, dot, None, direct, Some(waits));
    }

    /// Passes a record on where the owner's Asks will not: an owner tells every member in its Asks.
    pub(super) fn publish_desired(&self, cx: &mut Shared, key: &ChildKey) {
        let Some(record) = self.children.record(key) else { return };
        let is_told_by_asks = self.owner(key).is_some() && record.value.spec.payload_bytes() <= INLINE_SPEC_BYTES_MAX;
        let put = ScopeMessage::Put(key.clone(), record.clone());
        if !is_told_by_asks {
            cx.send_to_all(self.id, put.clone());
        }
        if !is_told_by_asks || !cx.is_small() {
            cx.spread(self.id, put);
        }
    }

    /// Adds members until as many are told as have to acknowledge.
    fn add_witnesses(&self, cx: &mut Shared, direct: &mut Few, count: usize) {
        if direct.len() < count {
            for identity in cx.membership.sample(cx.membership.active().len()) {
                if direct.len() >= count {
                    break;
                }
                // Members of the cluster that are not in the scope keep nothing of it.
                if self.members.get(&identity.instance).is_some_and(|member| !member.record.left) {
                    direct.insert(identity.instance);
                }
            }
        }
    }

    fn send_direct(
        &mut self,
        cx: &mut Shared,
        key: &ChildKey,
        dot: Dot,
        removal: Option<u64>,
        pending: Few,
        waits: Option<(RequestId, usize, Reply)>,
    ) {
        let waits = match waits {
            Some((request, count, reply)) if count.min(pending.len()) == 0 => {
                cx.reply(request, reply);
                None
            }
            Some((request, count, reply)) => {
                self.waits.insert(request, key.clone());
                Some((request, count.min(pending.len()), reply))
            }
            None => None,
        };
        if pending.is_empty() {
            return;
        }
        self.direct_tokens = self.direct_tokens.wrapping_add(1);
        let token = self.direct_tokens;
        if let Some(older) = self
            .directs
            .insert(key.clone(), Direct { token, dot, removal, pending, acked: Few::default(), tries: 0, waits })
            && let Some((request, _, reply)) = older.waits
        {
            // A later write took over; whoever has that one needs the earlier one no more.
            self.answer_wait(cx, request, reply);
        }
        self.repeat_direct(cx, key, token);
    }

    /// Sends a direct message to those who have not acknowledged it.
    pub(crate) fn repeat_direct(&mut self, cx: &mut Shared, key: &ChildKey, token: u32) {
        let Some(direct) = self.directs.get_mut(key).filter(|direct| direct.token == token) else { return };
        direct.tries += 1;
        direct.pending.retain(|instance| cx.membership.identity_of(instance).is_some());
        if direct.removal.is_none() && direct.tries > 1 {
            let owner = self.children.get(key).and_then(Child::owner);
            direct.pending.extend(owner.filter(|owner| *owner != self.me && !direct.acked.contains(*owner)));
        }
        let message = match direct.removal {
            Some(birth) => Some(ScopeMessage::Del { key: key.clone(), dot: direct.dot, birth, direct: true }),
            None => self
                .children
                .record(key)
                .filter(|record| record.dot == direct.dot)
                .map(|record| ScopeMessage::PutDirect(key.clone(), record.clone())),
        };
        let is_over = direct.pending.is_empty() || (direct.tries > DIRECT_TRIES_MAX && direct.waits.is_none());
        let (Some(message), false) = (message, is_over) else {
            let ended = self.directs.remove(key);
            if let Some((request, _, reply)) = ended.and_then(|direct| direct.waits) {
                self.answer_wait(cx, request, reply);
            }
            return;
        };
        let to: Vec<_> = direct.pending.iter().filter_map(|instance| cx.membership.identity_of(instance)).collect();
        let tries = direct.tries;
        cx.stats.directs_retried += u64::from(tries > 1);
        let others = u32::try_from(self.directs.len()).unwrap_or(u32::MAX);
        let retry = cx.ask_retry(tries) + DIRECT_PACE.saturating_mul(others);
        if tries >= RELAY_FROM_ATTEMPT {
            for target in &to {
                cx.stats.directs_relayed += self.relay(cx, *target, &message);
            }
        }
        if tries == RELAY_FROM_ATTEMPT
            && let ScopeMessage::PutDirect(key, record) = &message
        {
            // An owner that is silent tells nobody in its Asks, and until it is known to be down this node alone would
            // know of the start.
            let put = ScopeMessage::Put(key.clone(), record.clone());
            cx.send_to_all(self.id, put.clone());
            cx.spread(self.id, put);
        }
        cx.outbox.push_to_all(to.into_iter(), self.id, message);
        cx.set_timer(retry, Wakeup::Ask, Alarm::Direct(self.id, key.clone(), token));
    }

    /// A member has what it was told directly. An Ask for the life says so too.
    pub(crate) fn handle_ack(&mut self, cx: &mut Shared, from: InstanceId, key: &ChildKey, dot: Dot) {
        let Some(direct) = self.directs.get_mut(key).filter(|direct| direct.dot == dot) else { return };
        if !direct.pending.remove(from) {
            return;
        }
        direct.acked.insert(from);
        if let Some((_, count, _)) = &mut direct.waits {
            *count -= 1;
        }
        // Whoever was to acknowledge and is gone does not count: the last one that is left completes it.
        let is_last = direct.pending.is_empty();
        let answered = direct.waits.take_if(|(_, count, _)| *count == 0 || is_last);
        if is_last {
            self.directs.remove(key);
        }
        if let Some((request, _, reply)) = answered {
            self.answer_wait(cx, request, reply);
        }
    }
}
