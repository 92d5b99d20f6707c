//! How a node leaves: it drains, hands over, stops the rest, says farewell.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Node;
use crate::child::ChildId;
use crate::error::LeaveError;
use crate::proto::group::ChildKey;
use crate::proto::scope::Scope;
use crate::proto::shared::Alarm;
use crate::proto::{Output, Reply, RequestId, Time, Wakeup};

/// How often a leaving node looks how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How long after the last stop was ordered a child that has not ended counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// How far a leave is.
#[derive(Debug)]
pub(super) struct Leaving {
    request: RequestId,
    deadline: Time,
    /// The children that ran here when the leave began, and were not yet seen to run elsewhere.
    handing_over: BTreeSet<(crate::proto::ScopeId, ChildKey)>,
    /// When the rest was told to stop, and how long the longest may take.
    stopped: Option<(Time, Duration)>,
}

impl Node {
    pub(super) fn leave(&mut self, request: RequestId, timeout: Duration) {
        tracing::info!("leaving");
        self.cx.draining = true;
        let mut handing_over = BTreeSet::new();
        for scope in self.scopes.values_mut() {
            scope.change_member(&mut self.cx, |record| record.draining = true);
            handing_over.extend(scope.running_here().into_iter().map(|key| (scope.id, key)));
            scope.settle_dirty(&mut self.cx);
        }
        if let Some(earlier) = self.leaving.take() {
            self.cx.reply(earlier.request, Reply::Unavailable(crate::error::Unavailable::Leaving));
        }
        let deadline = self.cx.now + timeout;
        self.leaving = Some(Leaving { request, deadline, handing_over, stopped: None });
        self.cx.set_timer(LOOK_INTERVAL, Wakeup::Call, Alarm::Leave);
        self.look_whether_left();
    }

    /// Looks how far the leave is, and takes the next step.
    pub(super) fn look_whether_left(&mut self) {
        let now = self.cx.now;
        let Some(leaving) = &mut self.leaving else { return };
        let scopes = &self.scopes;
        leaving.handing_over.retain(|(scope, key)| scopes.get(scope).is_some_and(|scope| !scope.is_handed_over(key)));
        let running: Vec<ChildId> = scopes.values().flat_map(|scope| scope.holding_here()).collect();
        if running.is_empty() && (leaving.handing_over.is_empty() || now >= leaving.deadline) {
            self.farewell();
            return;
        }
        let is_over = now >= leaving.deadline || scopes.values().all(|scope| !scope.has_heir());
        match leaving.stopped {
            None if is_over => {
                let mut longest = Duration::ZERO;
                for scope in self.scopes.values_mut() {
                    longest = longest.max(scope.stop_everything(&mut self.cx));
                }
                leaving.stopped = Some((now, longest));
                leaving.handing_over.clear();
            }
            Some((since, longest)) if now.since(since) >= longest + STUCK_AFTER => {
                tracing::error!(?running, "children have not ended after they were aborted");
                let request = leaving.request;
                self.leaving = None;
                self.cx.reply(request, Reply::Left(Err(LeaveError::StillRunning { children: running })));
                return;
            }
            _ => {}
        }
        self.cx.set_timer(LOOK_INTERVAL, Wakeup::Call, Alarm::Leave);
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
            self.cx.send(member, &crate::proto::wire::Message::Table(vec![gone]));
        }
        self.flush();
        self.cx.membership.leave(now, &mut self.cx.stats);
        self.has_left = true;
        self.cx.reply(leaving.request, Reply::Left(Ok(())));
        self.cx.outputs.push_back(Output::Left);
        tracing::info!("left");
    }
}

impl Scope {
    fn running_here(&self) -> Vec<ChildKey> {
        self.unfinished().map(|(key, _)| key.clone()).collect()
    }

    fn holding_here(&self) -> Vec<ChildId> {
        self.unfinished().map(|(key, _)| key.id().clone()).collect()
    }

    /// Whether a child that ran here need not be waited for: nobody wants it, nobody can
    /// run it, or somebody else has claimed it.
    fn is_handed_over(&self, key: &ChildKey) -> bool {
        self.desired.get(key).is_none() || self.owner(key).is_none() || !self.foreign_claims(key).is_empty()
    }
}
