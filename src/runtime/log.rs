//! Which events the operator is told, and how loudly: ERROR is a bug or lost work, WARN asks the operator to look, INFO is the
//! life-cycle, DEBUG is what was decided. The node's name is in the span around them; see the operator's guide.

use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::info::Event;
use crate::proto::Time;

/// Lines about events in one second: enough for whatever people read. A bulk that goes wrong would fill a disk.
const LINES_PER_SECOND_MAX: u32 = 50;

/// The lines about events of one node.
#[derive(Debug, Default)]
pub(super) struct Log {
    since: Time,
    lines: u32,
    left_out: u64,
}

impl Log {
    /// Logs an event of a scope.
    pub(super) fn event(&mut self, now: Time, scope: &str, event: &Event) {
        if now.since(self.since) >= Duration::from_secs(1) {
            if self.left_out > 0 {
                warn!(left_out = self.left_out, "more happened than was logged; see the counters");
            }
            *self = Log { since: now, ..Log::default() };
        }
        if self.lines < LINES_PER_SECOND_MAX {
            self.lines += 1;
            write(scope, event);
        } else {
            self.left_out += 1;
        }
    }
}

fn write(scope: &str, event: &Event) {
    match event {
        Event::Settled => info!(scope, "settled"),
        Event::ChildStarted { id, epoch } => debug!(scope, child = %id, %epoch, "child runs"),
        Event::StartedUnconfirmed { id, epoch, silent } => {
            let silent: Vec<&str> = silent.iter().map(|member| &*member.name).collect();
            warn!(scope, child = %id, %epoch, ?silent, "child is started although members are silent; it may run twice");
        }
        Event::ChildExited { id, epoch, outcome } => match outcome.error() {
            Some(error) => warn!(scope, child = %id, %epoch, %error, "child failed"),
            None => debug!(scope, child = %id, %epoch, ?outcome, "child ended"),
        },
        Event::StartsUnderWay { left, running, waited } => {
            info!(scope, left, running, ?waited, "children are starting")
        }
        Event::ChildStartFailed { id, epoch, error } => {
            warn!(scope, child = %id, %epoch, %error, "child could not be started; it is retried");
        }
        Event::ChildBlocks { id, lasted } => {
            warn!(scope, child = %id, ?lasted, "child blocks its thread; let it await, or use spawn_blocking");
        }
        Event::ChildBackoff { id, delay } => warn!(scope, child = %id, ?delay, "child fails too often and backs off"),
        Event::ChildCompleted { id, outcome } => info!(scope, child = %id, ?outcome, "child is done"),
        Event::ChildDeclined { id, error } => {
            warn!(scope, child = %id, %error, "this node does not understand a child's arguments");
        }
        Event::DuplicateResolved { id, lasted } => {
            warn!(scope, child = %id, ?lasted, "child ran on two nodes; this one stopped it");
        }
        Event::StartLost { id, .. } => {
            warn!(scope, child = %id, "a start lost to a concurrent one with another spec");
        }
        Event::StartupDiffers { id } => {
            warn!(scope, child = %id, "a start-up child is live with another spec, which stays");
        }
        Event::MemberUp(member) => info!(scope, member = %member.name, addr = %member.addr, "member is up"),
        Event::MemberCrashed(member) => {
            info!(scope, member = %member.name, addr = %member.addr, "the process of a member has ended");
        }
        Event::MemberDown(member) => info!(scope, member = %member.name, addr = %member.addr, "member is down"),
        Event::NameConflict { name, loser } => {
            warn!(scope, %name, %loser, "two live nodes have one name; rename the one named here");
        }
        Event::AddressConflict => warn!(scope, "another process speaks from this node's address; stop one of them"),
        Event::Rejoined => warn!(scope, "the others had declared this node down; it is back"),
        Event::JoinRefused { seed, reason } => warn!(scope, %seed, %reason, "a seed refused this node"),
        // Said where it was refused, once and not for each scope.
        Event::InputRefused { reason, count, from } => debug!(scope, ?reason, count, %from, "input was refused"),
        Event::SerialConflict => error!(scope, "another process writes under this node's instance id"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a bulk that goes wrong does not fill the log, and what is left out is said. Method: more events than fit into a
    /// second, then one in the next.
    #[test]
    fn a_second_has_so_many_lines_and_no_more() {
        let mut log = Log::default();
        let now = Time::from_nanos(5_000_000_000);
        (0..LINES_PER_SECOND_MAX + 7).for_each(|_| log.event(now, "jobs", &Event::Settled));
        assert_eq!((log.lines, log.left_out), (LINES_PER_SECOND_MAX, 7));
        log.event(now + Duration::from_secs(1), "jobs", &Event::Settled);
        assert_eq!((log.lines, log.left_out), (1, 0));
    }
}
