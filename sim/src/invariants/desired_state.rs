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
use crate::NodeIdx;
use crate::history::{History, Life};
use crate::journal::{Ending, Run};
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

    /// Whether `who` must know of a call by then: it could hear of it, or acknowledged it before the call was answered.
    fn told(&self, entry: &Entry<'_>, who: InstanceId, by: Time) -> bool {
        let has_acknowledged = || entry.done() <= by && self.witnesses(entry).contains(&who);
        self.reaches(entry.instance, entry.done(), who, by) || has_acknowledged()
    }

    /// Who has acknowledged a call to its node: all that it counted among the members, if so many had to.
    fn witnesses(&self, entry: &Entry<'_>) -> Vec<InstanceId> {
        if entry.done() == END || !(entry.made() || entry.removed()) || entry.replicated() == 0 {
            return Vec::new();
        }
        let holds = |of: &InstanceId, at: Time| self.facts.view(entry.instance, *of, at) == Some(true);
        let all: Vec<InstanceId> = self
            .facts
            .history
            .lives
            .iter()
            .map(|life| life.instance)
            .filter(|of| holds(of, entry.call.called))
            .collect();
        if all.len() > entry.replicated() || all.iter().any(|of| !holds(of, entry.done())) { Vec::new() } else { all }
    }

    /// Whether an instance lives among those who have converged: what only those know who stay cut off from them for
    /// ever, they can't have heard of.
    fn lives(&self, instance: InstanceId, core: &[NodeIdx]) -> bool {
        self.facts.life(instance).is_some_and(|life| life.to.is_none() && core.contains(&life.node))
    }

    /// Whether an instance that lives now among those who have converged must know of a call.
    fn survives(&self, entry: &Entry<'_>, core: &[NodeIdx]) -> bool {
        let knowers = self.knowledge.knowers(entry.instance, entry.done());
        let mut all = knowers.keys().copied().chain([entry.instance]).chain(self.witnesses(entry));
        all.any(|instance| self.lives(instance, core))
    }

    /// Whether whoever ended a child knew the life that a start or an update has made: it had found that spec just
    /// before, which nobody else had asked for.
    fn proves(&self, end: &Entry<'_>, made: &Entry<'_>, all: &[Entry<'_>]) -> bool {
        let Some(spec) = made.may_have_made() else { return false };
        let is_only_one = all.iter().filter(|entry| entry.may_have_made() == Some(spec)).count() == 1;
        let has_found = |entry: &Entry<'_>| entry.instance == end.instance && entry.found(spec) && entry.precedes(end);
        is_only_one && all.iter().any(has_found)
    }

    /// Whether between two runs of one child a start may have made a second life of the same birth and the same spec: on a
    /// node that had not heard of the first.
    pub(super) fn may_be_two_lives(&self, all: &[Entry<'_>], earlier: &Run, later: &Run) -> bool {
        let made = || all.iter().filter(|entry| entry.may_have_made() == Some(&*later.spec));
        let is_between = |entry: &&Entry<'_>| entry.done() >= earlier.began && entry.call.called <= later.began;
        made().filter(is_between).any(|second| {
            let had_heard =
                |first: &Entry<'_>| self.reaches(first.instance, first.done(), second.instance, second.call.called);
            let before = made().filter(|first| first.call.request != second.call.request);
            before.filter(|first| first.call.called <= earlier.began).any(|first| !had_heard(first))
        })
    }

    /// Whether whoever made a call must have known of a start: itself, because it ended a life and there was no other
    /// one, or as what an update replaced that it knew of, made when that start was all there was.
    fn covers(&self, end: &Entry<'_>, start: &Entry<'_>, all: &[Entry<'_>]) -> bool {
        let ended_the_only_life =
            || end.removed() && all.iter().filter(|entry| entry.may_have_made().is_some()).count() == 1;
        let knows = |entry: &Entry<'_>| {
            self.proves(end, entry, all) || entry.precedes(end) && self.told(entry, end.instance, end.call.called)
        };
        let is_only_start = |update: &Entry<'_>| {
            let before = |other: &&Entry<'_>| other.may_have_written() && other.call.request < update.call.request;
            all.iter().filter(before).all(|other| other.call.request == start.call.request)
        };
        let mut updates =
            all.iter().filter(|entry| matches!(entry.what, What::Update(_)) && entry.may_have_made().is_some());
        knows(start)
            || start.precedes(end) && ended_the_only_life()
            || updates.any(|update| start.precedes(update) && is_only_start(update) && knows(update))
    }
}

/// What a run has come to.
struct AtEnd<'a> {
    /// The children that the core lists.
    listed: BTreeSet<&'a ChildId>,
    startup: &'a [ChildId],
    core: &'a [NodeIdx],
}

impl<'a> AtEnd<'a> {
    /// `None` if the core has not converged.
    fn of(evidence: &Evidence<'a>) -> Option<Self> {
        let listed = evidence.converged?.iter().map(|child| &child.id).collect();
        Some(AtEnd { listed, startup: evidence.startup, core: evidence.core })
    }
}

pub(super) fn no_start_lost(evidence: &Evidence<'_>) -> Result<(), Violation> {
    AtEnd::of(evidence)
        .map_or(Ok(()), |end| acknowledged_starts_stand(&Facts::of(evidence.view, evidence.bounds), &end))
}

pub(super) fn no_resurrection(evidence: &Evidence<'_>) -> Result<(), Violation> {
    AtEnd::of(evidence)
        .map_or(Ok(()), |end| terminated_children_are_gone(&Facts::of(evidence.view, evidence.bounds), &end))
}

pub(super) fn terminated_stays_terminated(evidence: &Evidence<'_>) -> Result<(), Violation> {
    no_run_of_a_terminated_life(&Facts::of(evidence.view, evidence.bounds))
}

pub(super) fn whoever_takes_over_asks_anew(evidence: &Evidence<'_>) -> Result<(), Violation> {
    takers_ask_anew(&Facts::of(evidence.view, evidence.bounds))
}

pub(super) fn newcomers_know_what_is_there(evidence: &Evidence<'_>) -> Result<(), Violation> {
    newcomers_know(&Facts::of(evidence.view, evidence.bounds))
}

pub(super) fn read_your_writes(evidence: &Evidence<'_>) -> Result<(), Violation> {
    answers_follow_from_earlier_ones(&Facts::of(evidence.view, evidence.bounds))
}

pub(super) fn runs_are_asked_for(evidence: &Evidence<'_>) -> Result<(), Violation> {
    specs_were_asked_for(&evidence.view.history, evidence.view.journal.runs())
}

/// An acknowledged start stands unless a call crossed it or came later, its knowers crashed, it lost to a concurrent
/// start (its node says so), or its child is done. Where it lost, beyond a split, to a life that was terminated before
/// the two sides met, nobody is left who could say so: a start whose node need not have heard of another start nor of a
/// terminate is not judged.
fn acknowledged_starts_stand(facts: &Facts<'_>, end: &AtEnd<'_>) -> Result<(), Violation> {
    let AtEnd { listed, startup, core } = end;
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
        let is_heard = |other: &Entry<'_>, by: &Entry<'_>| {
            knowledge.reaches(other.instance, other.done(), by.instance, by.call.called)
        };
        let may_have_lost = |start: &Entry<'_>| {
            let is_beside = |other: &&Entry<'_>| {
                other.call.request != start.call.request && !is_heard(other, start) && !is_heard(start, other)
            };
            ends().any(|end| !is_heard(end, start))
                && entries.iter().filter(|entry| entry.may_have_made().is_some()).any(|other| is_beside(&other))
        };
        let stands = |start: &&Entry<'_>| {
            start.made()
                && ends().all(|end| end.done() < start.call.called)
                && knowledge.survives(start, core)
                && !may_have_lost(start)
        };
        if let Some(start) = entries.iter().find(stands) {
            let detail = format!("{id} was started and acknowledged, nobody terminated it, and it is gone");
            return Err(Violation::safety("no-start-lost", start.done(), detail).on(start.call.node).of(id));
        }
    }
    Ok(())
}

/// A child is gone once somebody terminated it who must have known of every start of it and who has been heard. A
/// start-up child is one life however many nodes bring it along, so for that one nobody has to be asked.
fn terminated_children_are_gone(facts: &Facts<'_>, end: &AtEnd<'_>) -> Result<(), Violation> {
    let AtEnd { listed, startup, core } = end;
    let knowledge = Knowledge::new(facts);
    let calls = by_child(facts.history);
    for id in listed.iter().copied() {
        let entries = calls.get(id).map_or(&[][..], Vec::as_slice);
        let starts = || entries.iter().filter(|entry| entry.may_have_made().is_some());
        let ended_all = |end: &&Entry<'_>| {
            end.removed()
                && starts().all(|start| knowledge.covers(end, start, entries))
                && knowledge.survives(end, core)
        };
        if starts().next().is_none() && !startup.contains(id) {
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
                let starts = || entries.iter().filter(|entry| entry.may_have_made().is_some());
                let is_only_life = || of_child.iter().all(|other| other.epoch.birth == run.epoch.birth);
                let knew_all = || {
                    is_only_life()
                        && starts().next().is_some()
                        && starts().all(|start| knowledge.covers(end, start, entries))
                };
                let knew = before.iter().filter(is_same).any(was_known) || knew_all();
                if knew && knowledge.told(end, run.instance, run.began) && is_one_life(entries, run, &knowledge) {
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

/// A life that was ended on a node which its runner did not outlive by a word is not taken over: whoever does so has
/// asked that node anew after the runner was gone, and has heard that it is over.
fn takers_ask_anew(facts: &Facts<'_>) -> Result<(), Violation> {
    let knowledge = Knowledge::new(facts);
    let calls = by_child(facts.history);
    for dead in facts.journal.runs().iter().filter(|run| run.ending == Some(Ending::Killed)) {
        let (Some(gone), Some(entries)) = (dead.ended, calls.get(&dead.id)) else { continue };
        let starts = || entries.iter().filter(|entry| entry.may_have_made().is_some());
        let ended_it = |end: &&Entry<'_>| {
            end.removed()
                && end.done() < gone
                && end.call.called > dead.began
                && end.instance != dead.instance
                && starts().all(|start| knowledge.covers(end, start, entries))
        };
        for end in entries.iter().filter(ended_it) {
            let mut runs = facts.journal.of(&dead.id);
            let takes_over = |run: &&Run| {
                let counts = |at| facts.view(run.instance, end.instance, at) == Some(true);
                run.began > gone
                    && run.epoch.birth == dead.epoch.birth
                    && run.instance != end.instance
                    && counts(gone)
                    && counts(run.began)
                    && !facts.is_unconfirmed_at_all(run.instance, &run.id, run.epoch)
                    && !facts.journal.of(&dead.id).any(|other| other.instance == run.instance && other.began < gone)
            };
            if let Some(run) = runs.find(takes_over) {
                let detail = format!("{} was taken over from {}, and its end was known", dead.id, dead.instance);
                return Err(Violation::safety("takers-ask-anew", run.began, detail).on(run.node).of(&run.id));
            }
        }
    }
    Ok(())
}

/// Whoever joins learns what is there before it accepts anything: it never accepts anew what all others must have known
/// when it came, unless a fault touched it. Nobody may have joined since the start but itself, or it may have asked
/// somebody who knew as little; and no other node may be down, or it may have found nobody to ask, for want of a seed.
fn newcomers_know(facts: &Facts<'_>) -> Result<(), Violation> {
    let knowledge = Knowledge::new(facts);
    for (id, entries) in by_child(facts.history) {
        for (place, second) in entries.iter().enumerate().filter(|(_, entry)| entry.made()) {
            let (What::Start(spec), Some(life)) = (second.what, facts.life(second.instance)) else { continue };
            // Its call may have waited until it had settled, while others wrote what ends a life.
            let came_first = |other: usize, entry: &Entry<'_>| {
                let may_end = entry.instance != second.instance && !matches!(entry.what, What::Start(_));
                other < place || (may_end && other != place && entry.call.called < second.done())
            };
            let before = entries.iter().enumerate().filter(|(other, entry)| came_first(*other, entry));
            let others = before.filter(|(_, entry)| entry.may_have_written());
            let [first] = others.map(|(_, entry)| entry).collect::<Vec<_>>()[..] else { continue };
            let stays = first.made() && first.done() <= life.from && spec.restart == Restart::Permanent;
            let (from, to) = (first.call.called, second.done());
            let others = || {
                let lives = facts.history.lives.iter().filter(|other| other.instance != second.instance);
                lives.filter(|other| other.from <= to && other.to.is_none_or(|end| end >= life.from))
            };
            let all_knew = || {
                others().all(|other| {
                    let knows = other.instance == first.instance || knowledge.told(first, other.instance, life.from);
                    knows && !facts.touched(other.node, from, to)
                })
            };
            let is_down = |gone: &Life| {
                gone.node != life.node && gone.from < life.from && others().all(|other| other.node != gone.node)
            };
            let may_lack_seed = || facts.history.lives.iter().any(is_down);
            let is_at_rest = !facts.touched(life.node, life.from, to) && !may_lack_seed();
            if stays && is_at_rest && others().next().is_some() && all_knew() {
                let detail = format!("{id} was there when {} joined, and could be started there anew", life.instance);
                return Err(Violation::safety("newcomers-know", to, detail).on(life.node).of(id));
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
                let before = other.precedes(write)
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
