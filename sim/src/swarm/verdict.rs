//! Judges a healed cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use haulout::{ChildId, ChildInfo, Event};

use super::driver::fault_count;
use super::{Failure, Report, SwarmOptions};
use crate::checks::{
    Expectation, describe, duplicate_time, expectation, orphan_time, unanswered, unexplained_overlaps,
    unexplained_reruns,
};
use crate::cluster::Cluster;
use crate::trace::At;

/// What a check says: the name of the invariant and what was seen.
type Broken = (&'static str, String);

pub(super) fn judge(
    mut cluster: Cluster,
    options: &SwarmOptions,
    seed: u64,
    startup: &[ChildId],
) -> Result<Report, Box<Failure>> {
    let bound = options.healing_bound();
    let checked = converges(&mut cluster, bound).and_then(|(children, converged_in)| {
        calls_hold(&cluster, &children, startup, options.telling())?;
        stays(&mut cluster, options)?;
        audit_finds_nothing(&cluster)?;
        no_unexplained_overlap(&cluster, options.reach())?;
        no_unexplained_rerun(&cluster, options.reach())?;
        Ok((children, converged_in))
    });
    let now = cluster.now();
    let simulated = now.since(haulout::proto::Time::ZERO);
    match checked {
        Err((invariant, detail)) => {
            Err(Box::new(Failure { seed, invariant, at: simulated, detail, digest: cluster.digest() }))
        }
        Ok((children, converged_in)) => {
            let (journal, history, traffic) = (cluster.journal(), cluster.history(), cluster.traffic());
            Ok(Report {
                seed,
                digest: cluster.digest(),
                events: cluster.trace().events(),
                datagrams: traffic.datagrams,
                frames: traffic.frames,
                simulated,
                converged_in,
                faults: fault_count(&cluster),
                runs: journal.runs().len(),
                children: children.len(),
                overlaps: journal.overlaps().len(),
                duplicate: duplicate_time(journal, history, now),
                orphan: orphan_time(journal, history),
            })
        }
    }
}

/// Every desired child runs exactly once, nothing else runs, and all nodes agree, within the bound.
fn converges(cluster: &mut Cluster, bound: Duration) -> Result<(Vec<ChildInfo>, Duration), Broken> {
    let from = cluster.now();
    cluster.try_converge(bound).map_err(|pending| ("convergence", pending))?;
    let converged_in = cluster.now().since(from);
    // Jobs may end and nodes may leave yet: what counts is the state that lasts.
    cluster.run_for(Duration::from_secs(10));
    let children = cluster.try_converge(bound).map_err(|pending| ("convergence", pending))?;
    Ok((children, converged_in))
}

/// No acknowledged start is lost, no terminated child is back, no call is forgotten.
fn calls_hold(cluster: &Cluster, children: &[ChildInfo], startup: &[ChildId], window: Duration) -> Result<(), Broken> {
    let listed: BTreeSet<&ChildId> = children.iter().map(|child| &child.id).collect();
    if let Some(id) = startup.iter().find(|id| !listed.contains(id)) {
        return Err(("startup-children", format!("{id} is gone, though nobody terminated it")));
    }
    for id in ids_called(cluster).into_iter().filter(|id| !startup.contains(id)) {
        let completed = cluster.journal().of(&id).any(|run| run.succeeded()) || is_beaten(cluster, &id);
        match expectation(cluster.history(), &id, cluster.now(), window) {
            Expectation::Present if !listed.contains(&id) && !completed => {
                return Err(("no-start-lost", format!("{id} was started and acknowledged, and is gone")));
            }
            Expectation::Absent if listed.contains(&id) => {
                return Err(("no-resurrection", format!("{id} was terminated by a node that knew it, and is back")));
            }
            _ => {}
        }
    }
    match unanswered(cluster.history()) {
        Some(call) => Err(("every-call-is-answered", format!("{:?} on {}", call.command, cluster.name(call.node)))),
        None => Ok(()),
    }
}

/// Whether a start of the id lost to a concurrent one, and its node said so.
fn is_beaten(cluster: &Cluster, id: &ChildId) -> bool {
    let told = |event: &Event| matches!(event, Event::StartLost { id: lost, .. } if lost == id);
    cluster.nodes().any(|node| cluster.events(node).iter().any(|(.., event)| told(event)))
}

fn ids_called(cluster: &Cluster) -> BTreeSet<ChildId> {
    use haulout::proto::Command;
    let calls = &cluster.history().calls;
    let ids = calls.iter().filter_map(|call| match &call.command {
        Command::Start { spec, .. } | Command::Update { spec, .. } => Some(spec.id().clone()),
        Command::Terminate { id, .. } => Some(id.clone()),
        _ => None,
    });
    ids.collect()
}

/// A converged cluster rests: no run begins or ends.
fn stays(cluster: &mut Cluster, options: &SwarmOptions) -> Result<(), Broken> {
    let alive = |cluster: &Cluster| -> Vec<_> {
        cluster.journal().alive().map(|run| (run.id.clone(), run.instance, run.epoch)).collect()
    };
    let (before, runs) = (alive(cluster), cluster.journal().runs().len());
    cluster.run_for(options.config.sync_interval * 3);
    if alive(cluster) != before || cluster.journal().runs().len() != runs {
        return Err(("rest", "runs began or ended in a converged cluster".into()));
    }
    cluster.settled_children().map(|_| ()).map_err(|pending| ("rest", pending))
}

/// The safety net has nothing to do: whatever it repairs is a bug elsewhere.
fn audit_finds_nothing(cluster: &Cluster) -> Result<(), Broken> {
    match cluster.nodes().find(|&node| cluster.stats(node).audit_repairs > 0) {
        Some(node) => Err(("audit", format!("{} put {} right", cluster.name(node), cluster.stats(node).audit_repairs))),
        None => Ok(()),
    }
}

/// Children that move between nodes that can talk are never on both.
fn no_unexplained_overlap(cluster: &Cluster, reach: Duration) -> Result<(), Broken> {
    let overlaps = unexplained_overlaps(cluster.journal(), cluster.history(), cluster.now(), reach);
    match overlaps.first() {
        Some(overlap) => Err(("no-overlap", format!("{}; no fault touched them", describe(cluster, overlap)))),
        None => Ok(()),
    }
}

/// What is done stays done, and later runs have higher numbers.
fn no_unexplained_rerun(cluster: &Cluster, reach: Duration) -> Result<(), Broken> {
    let reruns = unexplained_reruns(cluster.journal(), cluster.history(), reach);
    let Some(rerun) = reruns.first() else { return Ok(()) };
    let [earlier, later] = [&rerun.earlier, &rerun.later]
        .map(|run| format!("{} on {} from {}", run.epoch, cluster.name(run.node), At(run.began)));
    let invariant = if rerun.was_done() { "done-stays-done" } else { "epochs-rise" };
    Err((invariant, format!("{}: {earlier}, then {later}; no fault touched them", rerun.later.id)))
}
