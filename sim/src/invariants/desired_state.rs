//! Desired state: what was acknowledged stays, what was terminated stays away, and a node reads what it wrote.
//!
//! That a replica keeps to the rules is shown by the reference model ([`crate::reference`]); here a run as a whole is
//! judged from the calls with their answers, the runs of the children and the faults.

use std::collections::{BTreeMap, BTreeSet};

use haulout::proto::{InstanceId, Reply, Time};
use haulout::{ChildId, Event, Restart, StartError, TerminateError, UpdateError};

use super::calls::{Entry, What, by_child, startup_specs};
use super::facts::Facts;
use super::{END, Evidence};
use crate::history::History;
use crate::journal::Run;
use crate::knowledge;
use crate::verdict::Violation;

/// Who must have heard of what by when.
pub(super) struct Knowledge<'a> {
    facts: &'a Facts<'a>,
    knowledge: knowledge::Knowledge<'a>,
}

impl<'a> Knowledge<'a> {
    pub(super) fn new(facts: &'a Facts<'a>) -> Self {
        let knowledge = knowledge::Knowledge::new(facts.history, facts.now, facts.bounds.telling);
        Knowledge { facts, knowledge }
    }

    /// Whether `who` must know at `by` what `source` knew at `at`.
    fn reaches(&self, source: InstanceId, at: Time, who: InstanceId, by: Time) -> bool {
        if source == who {
            at <= by
        } else {
            self.knowledge.knowers(source, at).get(&who).is_some_and(|since| *since <= by)
        }
    }

    /// Whether an instance that lives now must know what `source` knew at `at`.
    fn survives(&self, source: InstanceId, at: Time) -> bool {
        let lives = |instance: &InstanceId| self.facts.life(*instance).is_some_and(|life| life.to.is_none());
        lives(&source) || self.knowledge.knowers(source, at).keys().any(lives)
    }
}

pub(super) fn no_start_lost(evidence: &Evidence<'_>) -> Result<(), Violation> {
    let Some(converged) = evidence.converged else { return Ok(()) };
    let facts = Facts::of(evidence);
    let listed: BTreeSet<&ChildId> = converged.iter().map(|child| &child.id).collect();
    acknowledged_starts_stand(&facts, &listed, evidence.startup)
}

pub(super) fn no_resurrection(evidence: &Evidence<'_>) -> Result<(), Violation> {
    let Some(converged) = evidence.converged else { return Ok(()) };
    let facts = Facts::of(evidence);
    let listed: BTreeSet<&ChildId> = converged.iter().map(|child| &child.id).collect();
    terminated_children_are_gone(&facts, &listed, evidence.startup)
}

pub(super) fn terminated_stays_terminated(evidence: &Evidence<'_>) -> Result<(), Violation> {
    no_run_of_a_terminated_life(&Facts::of(evidence))
}

pub(super) fn read_your_writes(evidence: &Evidence<'_>) -> Result<(), Violation> {
    answers_follow_from_earlier_ones(&Facts::of(evidence))
}

pub(super) fn runs_are_asked_for(evidence: &Evidence<'_>) -> Result<(), Violation> {
    specs_were_asked_for(evidence.cluster.history(), evidence.cluster.journal().runs())
}

/// An acknowledged start stands unless a call crossed it or came later, its knowers crashed, it lost to a concurrent
/// start (its node says so), or its child is done. Where it lost, beyond a split, to a life that was terminated before
/// the two sides met, nobody is left who could say so; that terminate crosses the start, so this judges neither.
fn acknowledged_starts_stand(
    facts: &Facts<'_>,
    listed: &BTreeSet<&ChildId>,
    startup: &[ChildId],
) -> Result<(), Violation> {
    let knowledge = Knowledge::new(facts);
    // A Temporary child that has run is done when it does not run any more, however it ended, and whoever runs it may
    // have been lost with it.
    let is_done = |run: &&Run| run.succeeded() || run.is_done() || run.spec.restart == Restart::Temporary;
    let done: BTreeSet<&ChildId> = facts.journal.runs().iter().filter(is_done).map(|run| &run.id).collect();
    let beaten: BTreeSet<&ChildId> = facts
        .told
        .iter()
        .filter_map(|told| if let Event::StartLost { id, .. } = told.event { Some(id) } else { None })
        .collect();
    let calls = by_child(facts.history);
    if let Some(id) = startup.iter().find(|id| !listed.contains(id) && !calls.contains_key(id)) {
        let detail = format!("{id} is a start-up child and gone, though nobody terminated it");
        return Err(Violation::safety("no-start-lost", facts.now, detail).of(id));
    }
    for (id, entries) in calls {
        if listed.contains(id) || done.contains(id) || beaten.contains(id) {
            continue;
        }
        let ends = || entries.iter().filter(|entry| entry.what == What::Terminate);
        let stands = |start: &&Entry<'_>| {
            start.made()
                && ends().all(|end| end.done() < start.call.called)
                && knowledge.survives(start.instance, start.done())
        };
        if let Some(start) = entries.iter().find(stands) {
            let detail = format!("{id} was started and acknowledged, nobody terminated it, and it is gone");
            return Err(Violation::safety("no-start-lost", start.done(), detail).on(start.call.node).of(id));
        }
    }
    Ok(())
}

/// A child is gone once somebody terminated it who must have known of every start of it and who has been heard.
fn terminated_children_are_gone(
    facts: &Facts<'_>,
    listed: &BTreeSet<&ChildId>,
    startup: &[ChildId],
) -> Result<(), Violation> {
    let knowledge = Knowledge::new(facts);
    let calls = by_child(facts.history);
    for &id in listed.iter().filter(|id| !startup.contains(id)) {
        let entries = calls.get(id).map_or(&[][..], Vec::as_slice);
        let starts = || entries.iter().filter(|entry| entry.may_have_made().is_some());
        let ended_all = |end: &&Entry<'_>| {
            end.removed()
                && starts().all(|start| start.done() <= end.call.called)
                && starts().all(|start| knowledge.reaches(start.instance, start.done(), end.instance, end.call.called))
                && knowledge.survives(end.instance, end.done())
        };
        if starts().next().is_none() {
            let detail = format!("{id} is there, and nobody started it");
            return Err(Violation::safety("no-resurrection", facts.now, detail).of(id));
        }
        if let Some(end) = entries.iter().find(ended_all) {
            let detail = format!("{id} was terminated by a node that knew every start of it, and is back");
            return Err(Violation::safety("no-resurrection", end.done(), detail).on(end.call.node).of(id));
        }
    }
    Ok(())
}

/// A life that its terminator must have known is over: no instance that must know of the terminate begins a run of it.
///
/// A life is told by its birth and its spec. Two starts with equal specs on nodes that did not know of each other may
/// share both, so lives of which that may be so are left out.
fn no_run_of_a_terminated_life(facts: &Facts<'_>) -> Result<(), Violation> {
    let knowledge = Knowledge::new(facts);
    let calls = by_child(facts.history);
    let mut runs: BTreeMap<&ChildId, Vec<&Run>> = BTreeMap::new();
    facts.journal.runs().iter().for_each(|run| runs.entry(&run.id).or_default().push(run));
    for (id, entries) in &calls {
        let of_child = runs.get(id).map_or(&[][..], Vec::as_slice);
        for end in entries.iter().filter(|entry| entry.what == What::Terminate && entry.removed()) {
            let first_after = of_child.partition_point(|run| run.began <= end.done());
            let (before, after) = of_child.split_at(first_after);
            for run in after {
                let is_same = |other: &&&Run| other.epoch.birth == run.epoch.birth && other.spec == run.spec;
                let was_known = |other: &&Run| {
                    let by = end.call.called;
                    other.began <= by && knowledge.reaches(other.instance, other.began, end.instance, by)
                };
                let knew = before.iter().filter(is_same).any(was_known);
                if knew
                    && knowledge.reaches(end.instance, end.done(), run.instance, run.began)
                    && is_one_life(entries, run, &knowledge)
                {
                    let detail = format!("{id} ran again as {} after that life was terminated", run.epoch);
                    return Err(Violation::safety("terminated-stays-terminated", run.began, detail)
                        .on(run.node)
                        .of(id));
                }
            }
        }
    }
    Ok(())
}

/// Whether no two starts can have made lives with the spec and the birth of this run.
fn is_one_life(entries: &[Entry<'_>], run: &Run, knowledge: &Knowledge<'_>) -> bool {
    let made: Vec<_> = entries.iter().filter(|entry| entry.may_have_made() == Some(&*run.spec)).collect();
    let differ = |one: &Entry<'_>, other: &Entry<'_>| {
        one.done() != END && knowledge.reaches(one.instance, one.done(), other.instance, other.call.called)
    };
    made.iter()
        .enumerate()
        .all(|(place, one)| made[..place].iter().all(|other| differ(other, one) || differ(one, other)))
}

/// Two calls about one child on one instance, the second made after the first was answered, with nothing in between:
/// the second must find what the first has left. It may be judged if no other call on the child crossed the two and the
/// instance must have known of every earlier one, if the child never ends by itself, and if no start of it was beaten.
fn answers_follow_from_earlier_ones(facts: &Facts<'_>) -> Result<(), Violation> {
    let knowledge = Knowledge::new(facts);
    for (id, entries) in by_child(facts.history) {
        for (place, read) in entries.iter().enumerate() {
            let Some(write) = entries[..place].iter().rev().find(|entry| entry.may_have_written()) else { continue };
            let follows = write.instance == read.instance && write.done() <= read.call.called;
            let Some(wrong) = follows.then(|| contradiction(write, read)).flatten() else { continue };
            let crosses = |other: &Entry<'_>| {
                let before = other.done() <= write.call.called
                    && knowledge.reaches(other.instance, other.done(), write.instance, write.call.called);
                !before && other.call.called <= read.done()
            };
            let others = entries.iter().filter(|other| {
                let request = other.call.request;
                other.may_have_written() && request != write.call.request && request != read.call.request
            });
            let ends_itself =
                entries.iter().filter_map(Entry::may_have_made).any(|spec| spec.restart != Restart::Permanent);
            if !ends_itself && !others.clone().any(crosses) {
                let detail = format!("{wrong} (request {} after {})", read.call.request.0, write.call.request.0);
                return Err(Violation::safety("read-your-writes", read.done(), detail).on(read.call.node).of(id));
            }
        }
    }
    Ok(())
}

/// What is wrong with an answer right after another one on the same instance.
fn contradiction(write: &Entry<'_>, read: &Entry<'_>) -> Option<&'static str> {
    let (_, reply) = read.call.answer.as_ref()?;
    let spec = write.may_have_made().filter(|_| write.made());
    match (spec, read.what, reply) {
        (Some(_), What::Start(_), Reply::Started(Ok(true))) => Some("a child just started could be started anew"),
        (Some(held), What::Start(_), Reply::Started(Err(StartError::AlreadyStarted { existing }))) => {
            (**existing != *held).then_some("a child just started is said to have another spec")
        }
        (Some(_), What::Terminate, Reply::Terminated(Err(TerminateError::NotFound)))
        | (Some(_), What::Update(_), Reply::Updated(Err(UpdateError::NotFound))) => {
            Some("a child just started is said not to be there")
        }
        (None, What::Start(_), Reply::Started(Ok(false) | Err(StartError::AlreadyStarted { .. }))) => {
            write.removed().then_some("a child just terminated is said to be there")
        }
        (None, What::Terminate, Reply::Terminated(Ok(()))) | (None, What::Update(_), Reply::Updated(Ok(_))) => {
            write.removed().then_some("a child just terminated could be changed")
        }
        _ => None,
    }
}

/// A run's spec is one that somebody asked for before it began.
fn specs_were_asked_for(history: &History, runs: &[Run]) -> Result<(), Violation> {
    let (calls, startup) = (by_child(history), startup_specs(history));
    for run in runs {
        let at_start = || startup.get(&run.id).is_some_and(|specs| specs.contains(&&*run.spec));
        let asked = calls.get(&run.id).is_some_and(|entries| {
            entries.iter().any(|entry| entry.call.called <= run.began && entry.may_have_made() == Some(&*run.spec))
        });
        if !asked && !at_start() {
            let detail = format!("{} runs as {} with a spec that nobody asked for", run.id, run.epoch);
            return Err(Violation::safety("runs-are-asked-for", run.began, detail).on(run.node).of(&run.id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
