//! Overloaded processes: everything reaches them late.

use std::time::Duration;

use super::{Cluster, Happening, Input, NodeState};
use crate::NodeIdx;
use crate::history::FaultKind;
use crate::random::Range;

impl Cluster {
    /// Makes a node slow, or not: everything that it hears, from the network, its users, its timers and its children,
    /// reaches it that much later, in the order in which it came. Holds over restarts.
    pub fn slow(&mut self, node: NodeIdx, range: Option<Range>) {
        self.slots[node.0].slow = range;
        self.trace.show(self.now, node, "slow", &range);
        self.history.end_faults(self.now, |kind| kind == FaultKind::Slow(node));
        if range.is_some() {
            self.history.begin_fault(FaultKind::Slow(node), self.now);
        }
    }

    /// Whether what a node hears now has to wait: as long as it is slow, and then behind what waits already.
    pub(super) fn is_behind(&self, node: NodeIdx) -> bool {
        let slot = &self.slots[node.0];
        slot.slow.is_some() || slot.process.as_ref().is_some_and(|process| process.late > 0)
    }

    /// An input of a living process waits for its time.
    pub(super) fn feed_late(&mut self, at: NodeIdx, boot: u32, input: Input) {
        let input = match input {
            // The child does not wait; only what its node hears of it does.
            Input::Child(run) => match self.child_steps(at, boot, run) {
                Some(event) => Input::Report(run, event),
                None => return,
            },
            other => other,
        };
        let (now, slot) = (self.now, &mut self.slots[at.0]);
        let Some(process) = slot.process.as_mut() else { return };
        let delay = slot.slow.map_or(Duration::ZERO, |range| slot.slowness.duration(range));
        let due = process.late_until.max(now + delay);
        process.late_until = due;
        process.late += 1;
        process.timer_is_late |= matches!(input, Input::Timer);
        self.queue.push(due, Happening::Late(at, boot, Box::new(input)));
    }

    /// The time of an input has come.
    pub(super) fn late_input(&mut self, at: NodeIdx, boot: u32, input: Input) {
        let slot = &mut self.slots[at.0];
        let Some(process) = slot.process.as_mut().filter(|process| process.boot == boot) else { return };
        process.late -= 1;
        process.timer_is_late &= !matches!(input, Input::Timer);
        if slot.state == NodeState::Paused {
            process.keep(input, self.options.socket_buffer_bytes);
        } else {
            self.take(at, boot, input);
        }
    }
}
