//! How a node leaves: it drains, hands over, stops the rest, says farewell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Node;
use crate::child::ChildId;
use crate::error::LeaveError;
use crate::proto::group::ChildKey;
use crate::proto::scope::Scope;
use crate::proto::shared::Alarm;
use crate::proto::wire::{Message, Roots};
use crate::proto::{Epoch, Identity, InstanceId, Output, Reply, RequestId, Rule, ScopeId, Time, Wakeup};

/// How often a leaving node looks how far it is, at most.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long it waits for each child that it hands over until it looks again: some ten times what it takes to look.
const LOOK_INTERVAL_PER_CHILD: Duration = Duration::from_micros(4);
/// How long after the last stop was ordered a child that has not ended counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// How long after those to whom its children go were told that this node leaves they are told again, as long as their claims
/// are not heard of: a datagram may be lost. Each time twice as long.
const HEIR_PATIENCE: Duration = Duration::from_millis(500);
/// Heirs that are told in one look: each asks for its children at once, and a socket buffer holds some 277 datagrams.
const HEIRS_TOLD_MAX: usize = 64;

/// How long a node that runs nothing any more waits until every member has what it wrote last. Some round trips and
/// repetitions; whoever lacks something after that would not get it in ten times as long.
const TELLING_MAX: Duration = Duration::from_secs(1);

/// How far a leave is.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Who is to be told: every call to leave takes part in the same leave.
    requests: Vec<RequestId>,
    deadline: Time,
    /// The children that ran here when the leave began, and were not yet seen to run elsewhere.
    handing_over: BTreeMap<(ScopeId, ChildKey), Epoch>,
    /// Those to whom these go and who are to be told so, when the next ones are, and how long it is waited after the last.
    heirs: BTreeSet<(InstanceId, ScopeId)>,
    next_heirs: Time,
    patience: Duration,
    /// When the rest was told to stop, and how long the longest may take.
    stopped: Option<(Time, Duration)>,
    /// When nothing ran here any more, and which members have everything since.
    done: Option<(Time, BTreeSet<InstanceId>)>,
    /// When it is looked at again.
    next_look: Option<Time>,
}

impl Node {
    pub(super) fn leave(&mut self, request: RequestId, timeout: Duration) {
        let deadline = self.cx.now + timeout;
        if let Some(leaving) = &mut self.leaving {
            leaving.deadline = leaving.deadline.min(deadline);
            if !leaving.requests.contains(&request) {
                leaving.requests.push(request);
            }
            self.look_whether_left();
            return;
        }
        tracing::info!("leaving");
        self.cx.draining = true;
        let mut handing_over = BTreeMap::new();
        for scope in self.scopes.values_mut() {
            scope.change_member(&mut self.cx, |record| record.draining = true);
            handing_over.extend(scope.running_here().into_iter().map(|(key, epoch)| ((scope.id, key), epoch)));
            scope.settle_dirty(&mut self.cx);
        }
        // In a small cluster everybody has just been told.
        self.leaving = Some(Leaving {
            requests: vec![request],
            deadline,
            handing_over,
            heirs: BTreeSet::new(),
            next_heirs: self.cx.now + if self.cx.is_small() { HEIR_PATIENCE } else { Duration::ZERO },
            patience: HEIR_PATIENCE,
            stopped: None,
            done: None,
            next_look: None,
        });
        self.look_whether_left();
    }

    fn look_again(&mut self) {
        let now = self.cx.now;
        let Some(leaving) = &mut self.leaving else { return };
        if leaving.next_look.is_none_or(|next| next <= now) {
            let left = u32::try_from(leaving.handing_over.len()).unwrap_or(u32::MAX);
            let pause =
                LOOK_INTERVAL_PER_CHILD.saturating_mul(left).min(leaving.deadline.since(now)).max(LOOK_INTERVAL);
            leaving.next_look = Some(now + pause);
            self.cx.set_timer(pause, Wakeup::Call, Alarm::Leave);
        }
    }

    /// A child has ended. Only the last one is looked at at once: a look takes as long as there are children.
    pub(super) fn look_whether_last(&mut self) {
        if self.leaving.is_some() && !self.runs_anything() {
            self.look_whether_left();
        }
    }

    fn runs_anything(&self) -> bool {
        self.scopes.values().any(|scope| scope.children.active() > 0)
    }

    /// Nobody waits for this leave any more; it goes on all the same.
    pub(super) fn cancel_leave(&mut self, request: RequestId) {
        if let Some(leaving) = &mut self.leaving {
            leaving.requests.retain(|waiting| *waiting != request);
        }
    }

    /// Looks how far the leave is, and takes the next step.
    pub(super) fn look_whether_left(&mut self) {
        let now = self.cx.now;
        let Some(leaving) = &mut self.leaving else { return };
        let scopes = &self.scopes;
        leaving
            .handing_over
            .retain(|(scope, key), epoch| scopes.get(scope).is_some_and(|scope| !scope.is_handed_over(key, *epoch)));
        let is_handed_over = leaving.handing_over.is_empty() || now >= leaving.deadline;
        if (is_handed_over && !self.runs_anything()) || self.cx.sabotage.lacks(Rule::LeaveWaitsForChildren) {
            if self.have_all_been_told() {
                self.farewell();
            }
            return;
        }
        let Some(leaving) = &mut self.leaving else { return };
        leaving.done = None;
        let is_over = now >= leaving.deadline
            || self.scopes.values().all(|scope| scope.children.active() == 0 || !scope.has_heir());
        match leaving.stopped {
            None if is_over => {
                let mut longest = Duration::ZERO;
                for scope in self.scopes.values_mut() {
                    longest = longest.max(scope.stop_everything(&mut self.cx));
                }
                leaving.stopped = Some((now, longest));
                leaving.handing_over.clear();
            }
            Some((since, longest)) if now.since(since) >= longest.saturating_add(STUCK_AFTER) => {
                let running: Vec<ChildId> = self.scopes.values().flat_map(|scope| scope.holding_here()).collect();
                tracing::error!(?running, "children have not ended after they were aborted");
                for request in std::mem::take(&mut leaving.requests) {
                    let children = running.clone();
                    self.cx.reply(request, Reply::Left(Err(LeaveError::StillRunning { children })));
                }
                self.leaving = None;
                return;
            }
            _ => {}
        }
        self.tell_heirs();
        self.look_again();
    }

    /// Tells those to whom children of this node go that it leaves, a few at a time.
    fn tell_heirs(&mut self) {
        let now = self.cx.now;
        let Some(leaving) = self.leaving.as_mut().filter(|leaving| leaving.next_heirs <= now) else { return };
        if leaving.heirs.is_empty() {
            for (scope, key) in leaving.handing_over.keys() {
                let heir = self.scopes.get(scope).and_then(|scope| scope.owner(key));
                leaving.heirs.extend(heir.map(|heir| (heir, *scope)));
            }
        }
        for _ in 0..HEIRS_TOLD_MAX {
            let Some((heir, scope)) = leaving.heirs.pop_first() else { break };
            if let (Some(heir), Some(scope)) = (self.cx.membership.identity_of(heir), self.scopes.get(&scope)) {
                scope.tell_of_me(&mut self.cx, heir);
            }
        }
        let is_round_over = leaving.heirs.is_empty();
        leaving.next_heirs = now + if is_round_over { leaving.patience } else { LOOK_INTERVAL };
        leaving.patience *= 1 + u32::from(is_round_over);
    }

    /// Whether every member has what this node wrote last; asks those that have not said so, for a bounded time.
    fn have_all_been_told(&mut self) -> bool {
        let now = self.cx.now;
        let Some(leaving) = &mut self.leaving else { return false };
        let (since, agreed) = leaving.done.get_or_insert_with(|| (now, BTreeSet::new()));
        let active = self.cx.membership.active();
        let missing: Vec<Identity> =
            active.values().filter(|member| !agreed.contains(&member.instance)).copied().collect();
        if missing.is_empty() || now.since(*since) >= TELLING_MAX || self.scopes.is_empty() {
            return true;
        }
        let roots = self.roots();
        for member in missing {
            self.cx.send(member, &Message::LastRoots(roots.clone()));
        }
        self.look_again();
        false
    }

    /// A member told its roots: once they are equal, it has everything that this node has.
    pub(super) fn note_agreement(&mut self, from: Identity, roots: &Roots) {
        // Roots that ride on other packets may name a few scopes only: every scope that both are in has to be equal.
        let shared = self.scopes.values().filter(|scope| scope.members.contains_key(&from.instance));
        let is_equal = shared.map(|scope| (scope.id, scope.root())).all(|mine| roots.iter().any(|root| root == mine));
        if let Some((_, agreed)) = self.leaving.as_mut().and_then(|leaving| leaving.done.as_mut())
            && is_equal
        {
            agreed.insert(from.instance);
        }
    }

    fn farewell(&mut self) {
        let Some(leaving) = self.leaving.take() else { return };
        for scope in self.scopes.values_mut() {
            scope.change_member(&mut self.cx, |record| record.left = true);
            scope.settle_dirty(&mut self.cx);
            scope.refuse_calls(&mut self.cx);
        }
        let now = self.cx.now;
        // foca tells three members and is mute from then on: the others hear it from this node too.
        let gone = crate::proto::wire::TableEntry {
            identity: self.cx.me(),
            incarnation: 0,
            state: crate::proto::wire::TableState::Down,
        };
        let all: Vec<_> = self.cx.membership.active().values().copied().collect();
        for member in all {
            self.cx.send(member, &Message::Table(vec![gone]));
        }
        self.unwatch_all();
        self.flush();
        self.cx.membership.leave(now, &mut self.cx.stats);
        self.has_left = true;
        for request in leaving.requests {
            self.cx.reply(request, Reply::Left(Ok(())));
        }
        self.cx.outputs.push_back(Output::Left);
        tracing::info!("left");
    }
}

impl Scope {
    fn running_here(&self) -> Vec<(ChildKey, Epoch)> {
        self.unfinished().map(|(key, run)| (key.clone(), run.epoch)).collect()
    }

    fn holding_here(&self) -> Vec<ChildId> {
        self.unfinished().map(|(key, _)| key.id().clone()).collect()
    }

    /// Whether a child that ran here need not be waited for: nobody wants it, nobody can
    /// run it, or somebody else has claimed a later run.
    fn is_handed_over(&self, key: &ChildKey, epoch: Epoch) -> bool {
        let has_successor = || self.foreign_claims(key).any(|(_, claim)| claim.epoch > epoch);
        self.children.record(key).is_none() || self.owner(key).is_none() || has_successor()
    }
}
