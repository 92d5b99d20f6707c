//! Hand-over: a child is never on two nodes that can talk. Judged from when its runs began and ended, from whom each
//! node told its users to be a member, and from the injected faults; never from the books of a node.

use std::collections::BTreeMap;

use haulout::proto::InstanceId;
use haulout::{ChildId, Restart};

use super::Evidence;
use super::facts::Facts;
use crate::bounds::Bounds;
use crate::cluster::Cluster;
use crate::journal::{Ending, Overlap, Run};
use crate::trace::At;
use crate::verdict::Violation;
use crate::view::View;

/// How many overlaps were excused, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Excuses {
    /// One of the two held the other for down when it began.
    pub declared_down: usize,
    /// One of the two had left an Ask of the other unanswered for `confirm_timeout`.
    pub unconfirmed: usize,
    /// One of the two had never heard of the other, or neither of the other.
    pub strangers: usize,
}

/// Why two nodes may both run a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    DeclaredDown,
    Unconfirmed,
    Strangers,
}

/// How many overlaps there were in all scopes, by what excuses them.
pub fn excuses(cluster: &Cluster, bounds: &Bounds) -> Excuses {
    let mut excuses = Excuses::default();
    for view in View::all(cluster) {
        let facts = Facts::of(&view, bounds);
        let chains = chains(facts.journal.runs());
        for overlap in facts.journal.overlaps() {
            match excuse(&facts, &chains, &overlap) {
                Some(Cause::DeclaredDown) => excuses.declared_down += 1,
                Some(Cause::Unconfirmed) => excuses.unconfirmed += 1,
                Some(Cause::Strangers) => excuses.strangers += 1,
                None => {}
            }
        }
    }
    excuses
}

pub(super) fn no_overlap(evidence: &Evidence<'_>) -> Result<(), Violation> {
    overlaps_are_excused(&Facts::of(evidence.view, evidence.bounds))
}

pub(super) fn overlaps_end(evidence: &Evidence<'_>) -> Result<(), Violation> {
    overlaps_are_resolved(&Facts::of(evidence.view, evidence.bounds))
}

fn overlaps_are_excused(facts: &Facts<'_>) -> Result<(), Violation> {
    let chains = chains(facts.journal.runs());
    let unexcused = facts.journal.overlaps().into_iter().find(|overlap| excuse(facts, &chains, overlap).is_none());
    unexcused.map_or(Ok(()), |overlap| {
        let detail = format!("{}; no recorded cause excuses it", describe(&overlap, facts));
        Err(Violation::safety("no-overlap", overlap.from, detail).on(overlap.later).of(&overlap.id))
    })
}

/// The place of the run before, where a run looks like a restart in place: a child that failed is restarted without
/// asking anybody, so whatever permitted an earlier run of such a chain may permit all later ones. From outside a chain
/// can't be told for certain (a node may have yielded while it backed off, and have been permitted anew), so every run
/// of it counts.
fn chains(runs: &[Run]) -> Vec<Option<usize>> {
    let mut last: BTreeMap<(InstanceId, &ChildId), usize> = BTreeMap::new();
    let before = |(place, run): (usize, _)| {
        let run: &Run = run;
        let before = last.insert((run.instance, &run.id), place);
        before.filter(|&before| is_restart_in_place(&runs[before], run))
    };
    runs.iter().enumerate().map(before).collect()
}

fn is_restart_in_place(before: &Run, run: &Run) -> bool {
    let failed = matches!(before.ending, Some(Ending::Exited(_))) && before.signalled.is_none();
    failed && before.spec == run.spec && before.ended.is_some_and(|ended| ended <= run.began)
}

/// What excuses an overlap: a cause that is on record and a fault that can have led to it.
fn excuse(facts: &Facts<'_>, chains: &[Option<usize>], overlap: &Overlap) -> Option<Cause> {
    /// Of a child that fails all the time the latest runs say enough.
    const LINKS_MAX: usize = 50;
    let runs = facts.journal.runs();
    let chain = |place| -> Vec<&Run> {
        let places = std::iter::successors(Some(place), |&place: &usize| chains[place]);
        places.take(LINKS_MAX).map(|place| &runs[place]).collect()
    };
    let (ones, others) = (chain(overlap.runs.0), chain(overlap.runs.1));
    if ones[0].instance == others[0].instance {
        return None;
    }
    let pairs = ones.iter().flat_map(|one| others.iter().map(move |other| (*one, *other)));
    let mut causes = pairs.filter_map(|(one, other)| Some((cause(facts, one, other)?, one.began.max(other.began))));
    let nodes = [ones[0].node, others[0].node];
    causes.find_map(|(cause, later)| {
        let is_excused = match cause {
            // Whoever could have told them of each other may have been out of reach.
            Cause::Strangers => facts.excused(nodes, later, overlap.from),
            Cause::DeclaredDown | Cause::Unconfirmed => facts.kept_apart(nodes, later, overlap.from),
        };
        is_excused.then_some(cause)
    })
}

/// Each direction counts: whoever began later may have held the other for down, and so may whoever began earlier,
/// while the other still held the permission that it had been given before; but only as long as such a permission
/// lives, if it went on counting the earlier one among the members.
fn cause<'a>(facts: &Facts<'a>, one: &'a Run, other: &'a Run) -> Option<Cause> {
    let either = |holds: &dyn Fn(&'a Run, &'a Run) -> bool| holds(one, other) || holds(other, one);
    let held_down = |by: &Run, of: &Run| facts.held_down(by.instance, of.instance, by.began);
    let silent = |by: &'a Run, of: &Run| facts.is_unconfirmed(by.instance, &by.id, by.epoch, of.instance);
    let had_met = |by: &Run, of: &Run| facts.had_met(by.instance, of.instance, by.began);
    // A newcomer that has not learnt what a member says of itself tells nobody of its death; that the other side has
    // seen the newcomer go shows that they were apart.
    let lost_newcomer = |by: &Run, of: &Run| {
        of.began <= by.began && !had_met(by, of) && facts.held_down(of.instance, by.instance, by.began)
    };
    let (earlier, later) = if one.began <= other.began { (one, other) } else { (other, one) };
    let may_use_old_permission = || {
        let counts_it = facts.view(later.instance, earlier.instance, later.began) == Some(true);
        !counts_it || later.began.since(earlier.began) <= facts.bounds.permission
    };
    let declared_down = held_down(later, earlier) || held_down(earlier, later) && may_use_old_permission();
    if declared_down {
        Some(Cause::DeclaredDown)
    } else if either(&silent) {
        Some(Cause::Unconfirmed)
    } else {
        (either(&lost_newcomer) || !either(&had_met)).then_some(Cause::Strangers)
    }
}

/// A duplicate ends once its nodes can talk: one of them is told to stop within the bound. A Temporary child is never
/// moved, so its duplicates stay.
fn overlaps_are_resolved(facts: &Facts<'_>) -> Result<(), Violation> {
    let runs = facts.journal.runs();
    for overlap in facts.journal.overlaps() {
        let pair = [&runs[overlap.runs.0], &runs[overlap.runs.1]];
        if pair.iter().any(|run| run.spec.restart == Restart::Temporary) {
            continue;
        }
        let stops = pair.iter().filter_map(|run| run.signalled.into_iter().chain(run.ended).min());
        let stopped = stops.min().unwrap_or(facts.now);
        let Some(talk) = facts.undisturbed_since([overlap.earlier, overlap.later], overlap.from, stopped) else {
            continue;
        };
        if stopped.since(talk) > facts.bounds.resolving {
            let detail = format!(
                "{}; nothing has disturbed them since {}, and neither was told to stop within {:?}",
                describe(&overlap, facts),
                At(talk),
                facts.bounds.resolving
            );
            let at = talk + facts.bounds.resolving;
            return Err(Violation::liveness("overlaps-end", at, detail).on(overlap.later).of(&overlap.id));
        }
    }
    Ok(())
}

fn describe(overlap: &Overlap, facts: &Facts<'_>) -> String {
    let runs = facts.journal.runs();
    let [earlier, later] = [overlap.runs.0, overlap.runs.1].map(|place| &runs[place]);
    format!(
        "{} ran on {} ({}, from {}) and on {} ({}, from {}) for {:?}",
        overlap.id,
        facts.name(earlier.node),
        earlier.epoch,
        At(earlier.began),
        facts.name(later.node),
        later.epoch,
        At(later.began),
        overlap.lasted(facts.now)
    )
}

#[cfg(test)]
mod tests;
