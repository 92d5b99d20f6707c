//! Which events the operator is told, and how loudly.

use tracing::{debug, error, info, warn};

use crate::info::Event;

/// Logs an event of a scope: WARN asks the operator for something, INFO is the life-cycle, ERROR is a bug.
pub(super) fn event(scope: &str, event: &Event) {
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
        Event::ChildStartFailed { id, epoch, error } => {
            warn!(scope, child = %id, %epoch, %error, "child could not be started; it is retried");
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
        Event::MemberUp(member) => info!(scope, node = %member.name, addr = %member.addr, "member is up"),
        Event::MemberCrashed(member) => {
            info!(scope, node = %member.name, addr = %member.addr, "the process of a member has ended");
        }
        Event::MemberDown(member) => info!(scope, node = %member.name, addr = %member.addr, "member is down"),
        Event::NameConflict { name, loser } => {
            warn!(scope, %name, %loser, "two live nodes have one name; rename the one named here");
        }
        Event::AddressConflict => warn!(scope, "another process speaks from this node's address; stop one of them"),
        Event::Rejoined => warn!(scope, "the others had declared this node down; it is back"),
        Event::JoinRefused { seed, reason } => warn!(scope, %seed, %reason, "a seed refused this node"),
        Event::SerialConflict => error!(scope, "another process writes under this node's instance id"),
    }
}
