//! Supervision: how often children are restarted, how long they wait, how they are stopped, and that what is done stays
//! done.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use haulout::proto::{Command, InstanceId, Time};
use haulout::{ChildId, Restart, Shutdown, Spec};

use super::Evidence;
use super::calls::{What, by_child};
use super::desired_state::Knowledge;
use super::facts::{Facts, paused_within};
use crate::NodeIdx;
use crate::history::{FaultKind, History, LifeEnd};
use crate::journal::{Ending, Run};
use crate::trace::At;
use crate::verdict::Violation;

pub(super) fn restart_intensity(evidence: &Evidence<'_>) -> Result<(), Violation> {
    restarts_are_rare_or_late(&Facts::of(evidence.view, evidence.bounds), |node| evidence.view.cluster.drift_ppm(node))
}

pub(super) fn stop_budget(evidence: &Evidence<'_>) -> Result<(), Violation> {
    stops_are_timely(&Facts::of(evidence.view, evidence.bounds), evidence.view.cluster.abort_delay_max())
}

pub(super) fn leaves_let_end(evidence: &Evidence<'_>) -> Result<(), Violation> {
    nothing_is_left_behind(&Facts::of(evidence.view, evidence.bounds))
}

pub(super) fn temporary_stays(evidence: &Evidence<'_>) -> Result<(), Violation> {
    temporary_runs_are_not_moved(&Facts::of(evidence.view, evidence.bounds))
}

pub(super) fn done_stays_done(evidence: &Evidence<'_>) -> Result<(), Violation> {
    no_rerun(&Facts::of(evidence.view, evidence.bounds), Wrong::Done)
}

pub(super) fn epochs_rise(evidence: &Evidence<'_>) -> Result<(), Violation> {
    no_rerun(&Facts::of(evidence.view, evidence.bounds), Wrong::Epoch)
}

/// How one node has restarted one child so far: the model of OTP's restart intensity, with pauses instead of giving up.
#[derive(Default)]
struct Intensity {
    at_once: VecDeque<Time>,
    pauses: u32,
}

impl Intensity {
    /// The shortest gap to the next run that a failed run may have.
    fn gap_min(&mut self, failed: &Run, ended: Time, backoff: (Duration, Duration)) -> Duration {
        let Spec { max_restarts, max_restart_window: window, .. } = *failed.spec;
        while self.at_once.front().is_some_and(|restart| ended.since(*restart) > window) {
            self.at_once.pop_front();
        }
        if failed.started.is_some() && ended.since(failed.began) > window {
            self.pauses = 0;
        }
        let may_restart = failed.started.is_some() && self.pauses == 0 && self.at_once.len() < max_restarts as usize;
        let doubled = backoff.0.saturating_mul(1 << self.pauses.min(20)).min(backoff.1.mul_f64(0.75));
        if may_restart { Duration::ZERO } else { doubled }
    }

    fn note(&mut self, ended: Time, gap: Duration, backoff_min: Duration) {
        if gap < backoff_min {
            self.at_once.push_back(ended);
        } else {
            self.pauses += 1;
        }
    }
}

/// A failed run is restarted at once at most `max_restarts` times per window; otherwise, and after a failed start, only
/// after a pause that doubles. Counted per node while it holds the child: consecutive runs of one life. A pause and a
/// window are as long as the clock of their node says, which drifts and may jump.
fn restarts_are_rare_or_late(facts: &Facts<'_>, drift_ppm: impl Fn(NodeIdx) -> i32) -> Result<(), Violation> {
    let backoff = (facts.bounds.backoff_min, facts.bounds.backoff_max);
    let mut last: BTreeMap<(InstanceId, &ChildId), (&Run, Intensity)> = BTreeMap::new();
    for run in facts.journal.runs() {
        let key = (run.instance, &run.id);
        let mut intensity = Intensity::default();
        if let Some((before, counted)) = last.remove(&key)
            && let Some(ended) = before.ended.filter(|_| is_next_in_place(before, run))
        {
            intensity = counted;
            let gap = by_clock(run.began.since(ended), drift_ppm(run.node));
            let gap_min = intensity.gap_min(before, ended, backoff);
            let counted_since = intensity.at_once.front().map_or(before.began, |first| before.began.min(*first));
            // Whoever lost a backing-off child to another node, if only for a moment, and got it back began to count anew.
            let may_have_moved =
                || facts.disturbed(ended - facts.bounds.reach, run.began) || newcomers(facts, ended, run.began);
            let jumped = || {
                let mut jumps = facts.history.faults_between(counted_since, run.began);
                jumps.any(|fault| fault.kind == FaultKind::ClockJump(run.node))
            };
            let owned_elsewhere = || facts.has_seen_members_change(run.instance, ended, run.began);
            let is_fresh = || owned_elsewhere() || intensity.pauses > 0 && may_have_moved();
            if gap < gap_min && !is_fresh() && !jumped() {
                let detail = format!(
                    "{} failed at {} and ran again after {gap:?}; after {} restarts at once and {} pauses it had to wait \
                     {gap_min:?}",
                    run.id,
                    At(ended),
                    intensity.at_once.len(),
                    intensity.pauses
                );
                return Err(Violation::safety("restart-intensity", run.began, detail).on(run.node).of(&run.id));
            }
            // One that waits for its turn looks like one that pauses.
            if gap < backoff.0 || !facts.bounds.are_starts_held {
                intensity.note(ended, gap, backoff.0);
            }
        }
        last.insert(key, (run, intensity));
    }
    Ok(())
}

/// What a clock that is too fast by so many millionths counts, to the nanosecond begun.
fn by_clock(gap: Duration, drift_ppm: i32) -> Duration {
    gap.mul_f64(1.0 + f64::from(drift_ppm) / 1e6) + Duration::from_nanos(u64::from(drift_ppm != 0))
}

fn newcomers(facts: &Facts<'_>, from: Time, to: Time) -> bool {
    let from = from - facts.bounds.reach;
    facts
        .history
        .lives
        .iter()
        .any(|life| life.from >= from && life.from <= to || life.to.is_some_and(|end| end >= from && end <= to))
}

fn is_next_in_place(before: &Run, run: &Run) -> bool {
    let failed = matches!(before.ending, Some(Ending::Exited(_))) && before.signalled.is_none();
    let is_next = run.epoch.birth == before.epoch.birth && run.epoch.run == before.epoch.run + 1;
    failed && is_next && run.spec == before.spec
}

/// A run is told to stop as its spec says, and has ended within that time and what it goes on after an abort, not
/// counting the time in which its process was stopped.
fn stops_are_timely(facts: &Facts<'_>, abort_delay_max: Duration) -> Result<(), Violation> {
    for run in facts.journal.runs() {
        let Some(signalled) = run.signalled else { continue };
        let violation =
            |detail: String| Err(Violation::safety("stop-budget", signalled, detail).on(run.node).of(&run.id));
        if let Some(shutdown) = run.shutdown.filter(|shutdown| *shutdown != run.spec.shutdown) {
            return violation(format!("{} was stopped by {shutdown:?} and not by {:?}", run.id, run.spec.shutdown));
        }
        let patience = match run.spec.shutdown {
            Shutdown::Timeout(patience) => patience,
            Shutdown::Brutal => Duration::ZERO,
            Shutdown::Infinity => continue,
        };
        let ended = run.ended.unwrap_or(facts.now);
        let paused = || paused_within(facts.history, run.node, signalled, ended);
        let budget = patience + abort_delay_max;
        let took = ended.since(signalled);
        if took > budget && took.saturating_sub(paused()) > budget {
            return violation(format!(
                "{} went on for {took:?} after it was told to stop, with {budget:?} to end",
                run.id
            ));
        }
    }
    Ok(())
}

/// Nothing runs on a node when it has left.
fn nothing_is_left_behind(facts: &Facts<'_>) -> Result<(), Violation> {
    let left = |run: &&Run| facts.life(run.instance).is_some_and(|life| life.end == Some(LifeEnd::Left));
    match facts.journal.runs().iter().filter(left).find(|run| run.ending == Some(Ending::Killed)) {
        Some(run) => {
            let detail = format!("{} still ran when its node had left", run.id);
            Err(Violation::safety("leaves-let-end", run.ended.unwrap_or(facts.now), detail).on(run.node).of(&run.id))
        }
        None => Ok(()),
    }
}

/// A Temporary run is told to stop only for a reason that is on record. A fault that touched any node around that time
/// is one: whoever believed that the run had died with its node ends the child.
fn temporary_runs_are_not_moved(facts: &Facts<'_>) -> Result<(), Violation> {
    let calls = by_child(facts.history);
    for run in facts.journal.runs().iter().filter(|run| run.spec.restart == Restart::Temporary) {
        let Some(stopped) = run.signalled else { continue };
        let asked = calls.get(&run.id).is_some_and(|entries| {
            let starts = entries.iter().filter(|entry| matches!(entry.what, What::Start(_)));
            starts.count() > 1
                || entries.iter().any(|entry| !matches!(entry.what, What::Start(_)) && entry.call.called <= stopped)
        });
        let leaves = facts.history.calls.iter().any(|call| {
            matches!(call.command, Command::Leave { .. })
                && call.instance == Some(run.instance)
                && call.called <= stopped
        });
        let mut runs = facts.journal.of(&run.id);
        let has_other = runs.any(|other| other.instance != run.instance && other.began <= stopped);
        let since = run.began - facts.bounds.permission;
        let touched = || facts.history.lives.iter().any(|life| facts.touched(life.node, since, stopped));
        if !asked && !leaves && !has_other && !touched() {
            let detail = format!("{} was told to stop, and nobody had asked for that", run.id);
            return Err(Violation::safety("temporary-stays", stopped, detail).on(run.node).of(&run.id));
        }
    }
    Ok(())
}

/// What can be wrong with a later run of a life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// The life was done.
    Done,
    /// An earlier run had the same number or a higher one.
    Epoch,
}

impl Wrong {
    fn holds(self, earlier: &Run, later: &Run) -> bool {
        match self {
            Wrong::Done => earlier.is_done() && earlier.ended.is_some_and(|ended| ended <= later.began),
            Wrong::Epoch => later.epoch <= earlier.epoch,
        }
    }

    fn violation(self, earlier: &Run, later: &Run) -> Violation {
        let name = if self == Wrong::Done { "done-stays-done" } else { "epochs-rise" };
        let [before, after] =
            [earlier, later].map(|run| format!("{} on {} from {}", run.epoch, run.node, At(run.began)));
        let detail = format!("{}: {before}, then {after}; no fault touched them", later.id);
        Violation::safety(name, later.began, detail).on(later.node).of(&later.id)
    }
}

/// Whether there was a moment at which no process was there to remember anything: epochs begin anew after it, and
/// start-up children have their old life again. Whoever came within `window` of it had learnt nothing yet.
fn nobody_remembered_between(history: &History, from: Time, to: Time, window: Duration) -> bool {
    let remembers = |at: Time| {
        let mut lives = history.lives.iter();
        lives.any(|life| life.from + window <= at && life.to.is_none_or(|end| end > at))
    };
    history.lives.iter().filter_map(|life| life.to).any(|end| end >= from && end < to && !remembers(end))
}

/// No run begins after its life was done, or with a number that is not higher than that of every earlier run, unless a
/// fault kept the two nodes apart or all memory was lost. Lives that began on two nodes that had not heard of each other may
/// share a birth; their specs tell them apart, if they are not the same too.
fn no_rerun(facts: &Facts<'_>, wrong: Wrong) -> Result<(), Violation> {
    let (knowledge, calls) = (Knowledge::new(facts), by_child(facts.history));
    let mut lives: BTreeMap<(&ChildId, u64), Vec<&Run>> = BTreeMap::new();
    for later in facts.journal.runs() {
        let earlier = lives.entry((&later.id, later.epoch.birth)).or_default();
        // A life has few runs, but for those that fail all the time: of these the latest hundred say enough.
        for earlier in earlier.iter().rev().take(100).filter(|earlier| earlier.spec == later.spec) {
            let entries = calls.get(&later.id).map_or(&[][..], Vec::as_slice);
            let explained = || {
                facts.excused([earlier.node, later.node], earlier.began, later.began)
                    || knowledge.may_be_two_lives(entries, earlier, later)
                    || nobody_remembered_between(facts.history, earlier.began, later.began, facts.bounds.settling)
            };
            if wrong.holds(earlier, later) && !explained() {
                return Err(wrong.violation(earlier, later));
            }
        }
        earlier.push(later);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
