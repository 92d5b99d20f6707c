//! When a node that joined a scope may own children: after it has the state of a settled member, or when nobody has
//! settled and it has waited long enough.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use twox_hash::XxHash3_64;

use super::Scope;
use crate::child::ChildSpec;
use crate::info::Event;
use crate::proto::group::{ChildKey, Desired};
use crate::proto::shared::{Alarm, Shared};
use crate::proto::wire::{ScopeMessage, Status};
use crate::proto::{Dot, Identity, InstanceId, Rule, Time, Wakeup};

/// How often a node that waits looks again. A lost question costs one more of these.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How long after a pause what had waited in the sockets is read: the loop reads for 50 ms before anything else, and then in
/// batches of 5 ms.
const READ_WITHIN: Duration = Duration::from_millis(100);

/// How much longer a node waits for a seed that took its call: long enough for one lost packet of the handshake, and no
/// more, because something that takes calls and stays silent is no seed.
const JOIN_GRACE: Duration = Duration::from_secs(1);

/// What a node knows while it waits.
#[derive(Debug)]
pub(crate) struct Settling {
    /// When the wait began; after a pause, when what others had said before has been read.
    since: Time,
    /// What each answered last, and when.
    answers: BTreeMap<InstanceId, (Status, Time)>,
    /// This node would settle alone if older answers than this were confirmed.
    confirming: Option<Time>,
}

impl Settling {
    pub(super) fn new(now: Time) -> Self {
        Settling { since: now, answers: BTreeMap::new(), confirming: None }
    }

    /// Takes an answer; says whether it is the first to say that its sender has settled. That is not undone by a late copy
    /// of what it answered before.
    fn note(&mut self, now: Time, instance: InstanceId, status: Status) -> bool {
        let before = self.answers.get(&instance).map(|(status, _)| *status);
        let is_known = before == Some(Status::Settled);
        let status = if is_known && status == Status::Unsettled { Status::Settled } else { status };
        self.answers.insert(instance, (status, now));
        status == Status::Settled && !is_known
    }

    /// Whether this member has answered, and if it comes to settling alone, lately.
    fn has_answered(&self, instance: InstanceId) -> bool {
        self.answers.get(&instance).is_some_and(|(_, at)| self.confirming.is_none_or(|since| *at >= since))
    }
}

impl Scope {
    /// This process stood still: nobody had a chance to be heard, so the wait begins again. What comes in now may have been
    /// said at any time before, by somebody who has settled since.
    pub(crate) fn wait_anew(&mut self, now: Time) {
        if let Some(settling) = &mut self.settling {
            settling.since = now + READ_WITHIN;
            settling.confirming = None;
        }
    }

    /// Since when this node waits for the scope's state, or for all others to say that they have not got it either.
    pub(super) fn settling_since(&self) -> Option<Time> {
        self.settling.as_ref().map(|settling| settling.since)
    }

    pub(super) fn begin_settling(&mut self, cx: &mut Shared) {
        self.ask_for_status(cx);
        cx.set_timer(LOOK_INTERVAL, Wakeup::Settle, Alarm::Settle(self.id));
    }

    fn ask_for_status(&self, cx: &mut Shared) {
        /// Where members are many, those that have answered are heard of when they settle, and few are asked again.
        const ASKED_AGAIN_MAX: usize = 2;
        /// What is only to be confirmed is asked faster: everybody waits for it.
        const CONFIRMED_FACTOR: usize = 4;
        let mut asked_max = 2 * cx.fanout.max();
        let again = if cx.is_small() { asked_max } else { ASKED_AGAIN_MAX };
        let mut asked = cx.membership.sample(again);
        // Those that have not answered come first: without all answers nobody can settle alone.
        if let Some(settling) = &self.settling {
            let has_answered = |member: &Identity| settling.has_answered(member.instance);
            let unanswered: Vec<Identity> =
                cx.membership.active().values().filter(|member| !has_answered(member)).copied().collect();
            asked_max *= if settling.confirming.is_some() { CONFIRMED_FACTOR } else { 1 };
            let first = (cx.fraction() * unanswered.len() as f64) as usize;
            asked.retain(has_answered);
            asked.extend(unanswered.iter().cycle().skip(first).take(asked_max.min(unanswered.len())));
        }
        cx.outbox.push_to_all(asked.into_iter(), self.id, ScopeMessage::StatusRequest);
    }

    /// Whoever waits asks every newcomer at once. Where members are many and may all be new, each tells each instead:
    /// that is half of what asking and answering would be.
    pub(super) fn exchange_status(&self, cx: &mut Shared, identity: Identity) {
        if !cx.is_small() {
            let status = ScopeMessage::Status(self.status());
            cx.send_scoped(identity, self.id, status);
        } else if !self.is_settled() {
            cx.send_scoped(identity, self.id, ScopeMessage::StatusRequest);
        }
    }

    /// A member says of itself to all that it has settled, which it will not take back.
    pub(super) fn note_settled(&mut self, cx: &mut Shared, instance: InstanceId) {
        let Some(settling) = &mut self.settling else { return };
        if !cx.is_small() && settling.note(cx.now, instance, Status::Settled) {
            self.pull_soon(cx, instance);
        }
    }

    /// Instances are gone, and with them what they answered.
    pub(super) fn forget_answers(&mut self, gone: &BTreeSet<InstanceId>) {
        if let Some(settling) = &mut self.settling {
            settling.answers.retain(|instance, _| !gone.contains(instance));
        }
    }

    pub(super) fn handle_status(&mut self, cx: &mut Shared, from: Identity, status: Status) {
        let Some(settling) = &mut self.settling else { return };
        // It may have gone down since, in the same packet.
        if cx.membership.identity_of(from.instance).is_none() {
            return;
        }
        settling.note(cx.now, from.instance, status);
        if status == Status::Settled {
            self.pull_soon(cx, from.instance);
            if cx.sabotage.lacks(Rule::SettleByExchange) {
                self.settle(cx);
            }
        }
    }

    /// Only who has not settled asks, so the question is an answer too.
    pub(super) fn handle_status_request(&mut self, cx: &mut Shared, from: Identity) {
        cx.send_scoped(from, self.id, ScopeMessage::Status(self.status()));
        if let Some(settling) = &mut self.settling {
            settling.note(cx.now, from.instance, Status::Unsettled);
        }
    }

    /// Looks whether this node may settle by itself.
    pub(crate) fn look_whether_settled(&mut self, cx: &mut Shared) {
        let Some(settling) = &mut self.settling else { return };
        let active = cx.membership.active();
        let settled = settling.answers.iter().find(|(_, answer)| answer.0 == Status::Settled);
        if let Some((&instance, _)) = settled {
            self.pull_soon(cx, instance);
        } else {
            let has_waited = cx.config.settle_timeout.is_some_and(|timeout| cx.now >= settling.since + timeout);
            let may_hear = cx.now < settling.since + cx.config.settle_timeout.unwrap_or_default() + JOIN_GRACE;
            let is_joining = may_hear && cx.links.is_joining();
            if has_waited && settling.answers.len() == active.len() && !is_joining {
                // Whoever answered a while ago may have settled since. Where members are few, each was asked just now.
                let asked = if cx.is_small() { cx.now - LOOK_INTERVAL } else { cx.now };
                settling.confirming.get_or_insert(asked.max(settling.since));
                if active.keys().all(|&instance| settling.has_answered(instance)) {
                    cx.stats.settled_alone += 1;
                    self.settle(cx);
                    return;
                }
            }
        }
        self.begin_settling(cx);
    }

    /// This node has the scope's state: it may own children from now on.
    pub(crate) fn settle(&mut self, cx: &mut Shared) {
        if self.settling.take().is_none() {
            return;
        }
        tracing::info!(scope = ?self.id, "settled");
        self.drop_offers(cx);
        if cx.membership.active().is_empty() && !cx.membership.missing_seeds().is_empty() {
            tracing::warn!(
                seeds = ?cx.membership.missing_seeds(),
                "no seed answered, so this node begins a cluster of its own; it goes on trying. If there is a cluster, \
                 check the seeds and that their port is open for UDP and TCP"
            );
        }
        let joined = self.owned.top() + 1;
        self.change_member(cx, |record| {
            record.settled = true;
            record.joined = joined;
        });
        for spec in std::mem::take(&mut self.startup) {
            self.start_up(cx, &spec);
            self.startup.push(spec);
        }
        cx.event(self.id, Event::Settled);
        for (request, command) in std::mem::take(&mut self.queued) {
            self.call(cx, request, command);
        }
    }

    /// The dot of a start-up child: the same on every node that asks for it, so that it is one life.
    pub(super) fn startup_dot(&self, spec: &ChildSpec) -> Dot {
        let mut bytes = self.id.get().to_be_bytes().to_vec();
        let encoded = postcard::to_extend(&(spec.id(), spec.spec()), std::mem::take(&mut bytes));
        debug_assert!(encoded.is_ok(), "a spec can't fail to be encoded");
        let bytes = encoded.unwrap_or_default();
        Dot { writer: InstanceId::new(XxHash3_64::oneshot(&bytes)), n: 1 }
    }

    fn start_up(&mut self, cx: &mut Shared, spec: &ChildSpec) {
        let key = ChildKey::new(spec.id().clone());
        let dot = self.startup_dot(spec);
        match self.children.record(&key) {
            Some(live) if *live.value.spec != *spec.spec() => {
                cx.event(self.id, Event::StartupDiffers { id: spec.id().clone() });
            }
            Some(_) => {}
            None if cx.sabotage.lacks(Rule::StartupIsOneLife) => self.write_desired(cx, &key, spec.clone()),
            None => {
                let value = Desired { spec: std::sync::Arc::new(spec.spec().clone()), run: 0 };
                if self.desired.write_fixed(&mut self.children, key.clone(), dot, value) {
                    self.desired_changed(cx, key.clone(), None);
                    self.publish_desired(cx, &key);
                }
            }
        }
    }
}
