//! Telling how far a bulk of starts is: a bulk start, a failover of many children, a cold start of the whole cluster.

use std::time::Duration;

use super::Scope;
use crate::info::Event;
use crate::proto::Wakeup;
use crate::proto::shared::{Alarm, Shared};

/// How often it is told: what people can follow, and far longer than a bulk of children that start at once takes.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Whether somebody is to be told of the starts that are under way.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Whether a timer is set.
    is_followed: bool,
    /// Whether its end is to be told.
    is_told: bool,
}

impl Scope {
    /// Follows the starts under way if there are more than may go on at once.
    pub(super) fn follow_starts(&mut self, cx: &mut Shared) {
        if self.has_starts_queued() && !std::mem::replace(&mut self.progress.is_followed, true) {
            cx.set_timer(TOLD_EVERY, Wakeup::Ask, Alarm::Progress(self.id));
        }
    }

    fn has_starts_queued(&self) -> bool {
        !self.to_ask.is_empty() || !self.held.is_empty()
    }

    /// Tells how far they are, until none of them waits for a place. What is over sooner is not told at all.
    pub(crate) fn tell_progress(&mut self, cx: &mut Shared) {
        let measured = self.measured(cx.now);
        let left = measured.children_waiting + measured.children_starting;
        // In a large cluster each waits a moment to ask together with what comes next: where children are started all the
        // time some always do, and wait for no place.
        let are_paced = !self.held.is_empty() || left > cx.budget.max() as u64;
        let goes_on = self.has_starts_queued() && are_paced;
        if std::mem::replace(&mut self.progress.is_told, goes_on) || goes_on {
            let waited = Duration::from_nanos(measured.orphan_nanos_max);
            cx.event(self.id, Event::StartsUnderWay { left, running: measured.children_running, waited });
        }
        self.progress.is_followed = false;
        self.follow_starts(cx);
    }
}
