//! Healing: once faults are over, all that should agree does, every child runs exactly once, and nothing is pending.

use std::collections::BTreeSet;

use haulout::MemberInfo;
use haulout::proto::{Command, InstanceId, Time};

use super::Evidence;
use crate::NodeIdx;
use crate::bounds::Bounds;
use crate::converge::Pending;
use crate::history::{Call, History};
use crate::journal::Journal;
use crate::verdict::Violation;

pub(super) fn members_agree(evidence: &Evidence<'_>) -> Result<(), Violation> {
    if_converged("members-agree", evidence, |evidence| {
        evidence.view.cluster.members_agree(evidence.core, evidence.view.scope)
    })
}

pub(super) fn states_agree(evidence: &Evidence<'_>) -> Result<(), Violation> {
    if_converged("states-agree", evidence, |evidence| {
        evidence.view.cluster.roots_agree(evidence.core, evidence.view.scope)
    })
}

pub(super) fn runs_once(evidence: &Evidence<'_>) -> Result<(), Violation> {
    let listed = evidence.converged.unwrap_or_default();
    let scope = evidence.view.scope;
    if_converged("runs-once", evidence, |evidence| evidence.view.cluster.runs_agree(evidence.core, scope, listed))
}

fn if_converged(
    name: &'static str,
    evidence: &Evidence<'_>,
    check: impl Fn(&Evidence<'_>) -> Result<(), Pending>,
) -> Result<(), Violation> {
    if evidence.converged.is_none() {
        return Ok(());
    }
    check(evidence).map_err(|pending| Violation::liveness(name, evidence.view.cluster.now(), pending.to_string()))
}

pub(super) fn nothing_pending(evidence: &Evidence<'_>) -> Result<(), Violation> {
    let cluster = evidence.view.cluster;
    let busy = |node: &crate::NodeIdx| cluster.node(*node).is_some_and(|node| !node.is_quiet());
    match evidence.core.iter().find(|node| evidence.converged.is_some() && busy(node)) {
        Some(&node) => {
            let detail = format!("{} waits for something", cluster.name(node));
            Err(Violation::liveness("nothing-pending", cluster.now(), detail).on(node))
        }
        None => Ok(()),
    }
}

pub(super) fn audit_finds_nothing(evidence: &Evidence<'_>) -> Result<(), Violation> {
    let cluster = evidence.view.cluster;
    match cluster.nodes().find(|&node| cluster.stats(node).audit_repairs > 0) {
        Some(node) => {
            let detail = format!("the audit put {} children right", cluster.stats(node).audit_repairs);
            Err(Violation::safety("audit-finds-nothing", cluster.now(), detail).on(node))
        }
        None => Ok(()),
    }
}

pub(super) fn calls_are_answered(evidence: &Evidence<'_>) -> Result<(), Violation> {
    if evidence.converged.is_none() {
        return Ok(());
    }
    match unanswered(&evidence.view.history).find(|call| !is_stranded(evidence, call.node)) {
        Some(call) => {
            let detail = format!("{:?} was never answered", call.command);
            Err(Violation::liveness("calls-are-answered", call.called, detail).on(call.node))
        }
        None => Ok(()),
    }
}

/// Whether a node was cut off for good before it had settled: it waits for those that it knows, and its callers with it.
fn is_stranded(evidence: &Evidence<'_>, node: NodeIdx) -> bool {
    let (cluster, scope) = (evidence.view.cluster, evidence.view.scope);
    let has_settled = |member: &MemberInfo| *member.name == *cluster.name(node) && member.settled;
    !evidence.core.contains(&node) && !cluster.members_in(node, scope).iter().any(has_settled)
}

/// Calls whose node still lives, but which nobody has answered.
pub fn unanswered(history: &History) -> impl Iterator<Item = &Call> {
    let alive: BTreeSet<InstanceId> =
        history.lives.iter().filter(|life| life.to.is_none()).map(|life| life.instance).collect();
    history.calls.iter().filter(move |call| {
        let waits = call.answer.is_none() && !call.cancelled && call.instance.is_some_and(|at| alive.contains(&at));
        waits && !matches!(call.command, Command::WaitUntilRunning { .. })
    })
}

pub(super) fn rests(evidence: &Evidence<'_>) -> Result<(), Violation> {
    match evidence.converged {
        Some(_) => nothing_stirs(&evidence.view.journal, evidence.core, evidence.bounds, evidence.view.cluster.now()),
        None => Ok(()),
    }
}

/// Whoever stays cut off goes on finding out who is gone.
fn nothing_stirs(journal: &Journal, core: &[NodeIdx], bounds: &Bounds, now: Time) -> Result<(), Violation> {
    let since = now - bounds.rest;
    for run in journal.runs().iter().filter(|run| core.contains(&run.node)) {
        let stirs = [("began", Some(run.began)), ("ended", run.ended)];
        if let Some((what, at)) = stirs.into_iter().find_map(|(what, at)| Some((what, at.filter(|at| *at > since)?))) {
            let detail = format!("{} {what} in a converged cluster", run.id);
            return Err(Violation::liveness("rests", at, detail).on(run.node).of(&run.id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
