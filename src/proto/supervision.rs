//! What this node does with a child: waits for permission, starts, runs, stops, restarts, backs off.
//!
//! Spawns nothing: starts and stops are outputs, and what became of them comes back as [`ChildEvent`]s.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::gaps::Gap;
use super::group::{ChildKey, Claim, ClaimState, Desired, Owned, OwnedKey, Record};
use super::handover::Round;
use super::scope::{Child, Scope};
use super::shared::{Alarm, Shared};
use super::stats::nanos;
use super::wire::{ScopeMessage, Verdict};
use super::{ChildEvent, Dot, Epoch, Identity, InstanceId, Output, Rule, RunId, StartChild, Time, Wakeup};
use crate::child::{Restart, Spec};
use crate::info::{Event, Outcome};

/// Children that the audit looks at in one sync: see [`Scope::sync`]. At the default interval 100,000 children are looked at
/// in less than two hours, for little beside what an idle node costs without any.
const AUDIT_PER_SYNC: usize = 80;

/// Placement costs one score per child and member; beyond 10 members the audit looks at fewer children instead.
const AUDIT_SCORES_PER_SYNC: usize = 800;

/// How long others are not told that a child starts here for the first time: far longer than an `init` that does nothing
/// takes, and far shorter than anything that depends on claims, which are hints.
const START_PATIENCE: Duration = Duration::from_millis(2);

/// What this node does with a child.
#[derive(Debug)]
pub(crate) enum Local {
    /// Nothing.
    Idle,
    /// It collects permissions to start it.
    Waiting(Box<Round>),
    /// It starts, runs, stops it, or backs off with it.
    Active(Box<Run>),
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Running,
    Stopping,
    Backoff,
}

/// Who wants the child when it has stopped.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) instance: InstanceId,
    pub(crate) round: u32,
    pub(crate) attempt: u32,
    pub(crate) asked: Dot,
    pub(crate) birth: u64,
    pub(crate) via: Option<Identity>,
}

/// A child that this node runs, and what it remembers from one run to the next.
#[derive(Debug)]
pub(crate) struct Run {
    run: RunId,
    pub(crate) phase: Phase,
    pub(crate) spec: Arc<Spec>,
    life: Dot,
    pub(crate) epoch: Epoch,
    started: Time,
    restarts: u32,
    /// What most runs have none of.
    troubles: Option<Box<Troubles>>,
    pub(crate) asker: Option<Box<Asker>>,
    /// Who ran the child before.
    predecessor: Option<InstanceId>,
    /// The round in which other claimers are asked to stop.
    pub(crate) challenge: Option<Box<Round>>,
    /// Since when no run of it is known, until this one is up.
    pub(crate) gap: Gap,
    /// Whether it waits for a place in the budget.
    pub(crate) is_held: bool,
}

/// What went wrong with a child while this node had it.
#[derive(Debug, Default)]
struct Troubles {
    last_error: Option<Arc<str>>,
    /// When it was restarted at once, within the window.
    recent: VecDeque<Time>,
    /// Pauses in a row.
    backoffs: u32,
    /// Since when another node's run may have been alive beside this one.
    duplicate_since: Option<Time>,
}

impl Run {
    fn troubles(&mut self) -> &mut Troubles {
        self.troubles.get_or_insert_default()
    }

    fn last_error(&self) -> Option<&Arc<str>> {
        self.troubles.as_ref()?.last_error.as_ref()
    }

    fn duplicate_since(&self) -> Option<Time> {
        self.troubles.as_ref()?.duplicate_since
    }

    /// Passes to another phase. A run that starts has a place in the budget.
    fn enter(&mut self, cx: &mut Shared, phase: Phase) {
        let was_starting = std::mem::replace(&mut self.phase, phase) == Phase::Starting;
        match (was_starting, phase == Phase::Starting) {
            (false, true) => cx.budget.start(self.started, self.run),
            (true, false) => cx.budget.started(self.started, self.run),
            (true, true) | (false, false) => {}
        }
    }
}

/// What matters of another node's claim on a child that runs here.
struct Rival {
    is_running: bool,
    epoch: Epoch,
    since_ms: u64,
}

impl Rival {
    fn of(claim: &Claim) -> Self {
        Rival { is_running: claim.state == ClaimState::Running, epoch: claim.epoch, since_ms: claim.since_ms }
    }
}

impl Scope {
    /// Brings what this node does with a child in line with what is desired and who should run it.
    pub(crate) fn reconcile(&mut self, cx: &mut Shared, key: &ChildKey) {
        let life = self.life(key);
        let Some(child) = self.children.get(key) else { return };
        if !self.is_settled() && life.is_some() {
            return;
        }
        let is_owner = child.owner() == Some(self.me);
        match (&child.local, life) {
            (Local::Idle, None) => {
                self.children.remove(key);
                self.withdraw_decline(cx, key, None);
            }
            (Local::Idle, Some((dot, _, spec, _))) => {
                self.withdraw_decline(cx, key, Some(dot));
                if is_owner && !self.stays_elsewhere(key, &spec) {
                    self.begin_round(cx, key);
                }
            }
            (Local::Waiting(_), None) => {
                self.stop_waiting(cx, key);
                self.children.remove(key);
            }
            (Local::Waiting(_), Some((dot, _, spec, _))) => {
                if !is_owner || self.stays_elsewhere(key, &spec) {
                    self.stop_waiting(cx, key);
                } else if !self.is_round_for(key, dot) {
                    self.begin_round(cx, key);
                }
            }
            (Local::Active(_), life) => {
                self.reconcile_run(cx, key, life.map(|(dot, _, spec, _)| (dot, spec)), is_owner)
            }
        }
    }

    /// A Temporary child is never moved, so there is nothing to ask for while somebody runs it.
    fn stays_elsewhere(&self, key: &ChildKey, spec: &Spec) -> bool {
        spec.restart == Restart::Temporary && self.is_claimed_elsewhere(key)
    }

    fn reconcile_run(&mut self, cx: &mut Shared, key: &ChildKey, life: Option<(Dot, Arc<Spec>)>, is_owner: bool) {
        let foreign: SmallVec<[_; 2]> =
            self.foreign_claims(key).map(|(instance, claim)| (instance, Rival::of(claim))).collect();
        let now = cx.now;
        let wall_ms = cx.wall_ms();
        let Some(Local::Active(run)) = self.children.get_mut(key).map(|child| &mut child.local) else { return };
        let is_replaced = |spec: &Arc<Spec>| *spec != run.spec && !cx.sabotage.lacks(Rule::UpdateEndsRun);
        let Some((dot, _)) = life.filter(|(_, spec)| !is_replaced(spec)) else {
            self.stop_run(cx, key);
            return;
        };
        if run.phase == Phase::Stopping {
            return;
        }
        if !is_owner && cx.sabotage.lacks(Rule::StopOnlyWhenAsked) {
            self.stop_run(cx, key);
            return;
        }
        if run.life != dot {
            run.life = dot;
            let state = run.phase.claim_state();
            self.write_claim(cx, key, state);
            self.mark(key);
            return;
        }
        if foreign.is_empty() {
            if let Some(troubles) = &mut run.troubles {
                troubles.duplicate_since = None;
            }
            return;
        }
        if run.duplicate_since().is_none() {
            let running = foreign.iter().map(|(_, rival)| rival.since_ms).min().unwrap_or(wall_ms);
            cx.stats.claim_conflicts += u64::from(is_owner);
            let ago = Duration::from_millis(wall_ms.saturating_sub(running));
            let since = (now - ago).max(run.started);
            run.troubles().duplicate_since = Some(since);
        }
        let mine = (run.epoch, self.me);
        let is_superseded = !cx.sabotage.lacks(Rule::YieldToLaterRun)
            && foreign.iter().any(|(instance, rival)| rival.is_running && (rival.epoch, *instance) > mine);
        if is_superseded && run.phase != Phase::Backoff {
            // A Temporary child yields to nobody who only wants to run it, but to a run that there is: two would stay.
            // Whoever holds the epoch of this run may have been fenced off already: the later run is the one to keep
            // until the owner, if that is this node, starts a still later one.
            cx.stats.yields += 1;
            self.stop_run(cx, key);
        } else if is_owner && run.spec.restart != Restart::Temporary && !cx.sabotage.lacks(Rule::Challenge) {
            self.challenge(cx, key);
        }
    }

    /// Every permission is there: runs the child.
    pub(crate) fn start_run(&mut self, cx: &mut Shared, key: &ChildKey) {
        let Some((life, birth, spec, run)) = self.life(key) else { return };
        if spec.restart == Restart::Temporary && run > 0 {
            cx.stats.temporaries_ended += 1;
            self.stop_waiting(cx, key);
            self.remove_desired(cx, key, None);
            return;
        }
        self.end_round(cx, key);
        let (predecessor, mut gap) = self
            .round_of(key)
            .map_or_else(Default::default, |round| (round.predecessor, std::mem::take(&mut round.gap)));
        self.gaps.begin(&mut gap, cx.now);
        let epoch = Epoch { birth, run };
        let run = Run {
            run: RunId(0),
            phase: Phase::Backoff,
            spec,
            life,
            epoch,
            started: cx.now,
            restarts: 0,
            troubles: None,
            asker: None,
            predecessor,
            challenge: None,
            gap,
            is_held: false,
        };
        if let Some(child) = self.children.get_mut(key) {
            child.local = Local::Active(Box::new(run));
        }
        self.launch(cx, key);
    }

    /// Starts the next run of a child that this node holds.
    fn launch(&mut self, cx: &mut Shared, key: &ChildKey) {
        let Some((life, birth, _, heard)) = self.life(key) else { return };
        let rises = !cx.sabotage.lacks(Rule::RestartRaisesEpoch);
        let Some(Local::Active(run)) = self.children.get_mut(key).map(|child| &mut child.local) else { return };
        run.run = cx.next_run();
        run.life = life;
        run.started = cx.now;
        run.enter(cx, Phase::Starting);
        run.epoch = Epoch { birth, run: heard.saturating_add(u32::from(rises || run.restarts == 0)) };
        let start =
            StartChild { scope: self.id, run: run.run, id: key.id().clone(), spec: run.spec.clone(), epoch: run.epoch };
        if let Some(value) = self.children.value_mut(key) {
            value.run = start.epoch.run;
        }
        self.runs.insert(start.run, key.clone());
        self.children.follow(key);
        cx.stats.starts += 1;
        cx.outputs.push_back(Output::StartChild(start));
        self.write_claim(cx, key, ClaimState::Starting);
    }

    /// Tells a run to stop; one that only waits for its next start is over at once.
    pub(crate) fn stop_run(&mut self, cx: &mut Shared, key: &ChildKey) {
        let Some(Local::Active(run)) = self.children.get_mut(key).map(|child| &mut child.local) else { return };
        match run.phase {
            Phase::Stopping => {}
            Phase::Backoff => self.end_run(cx, key),
            Phase::Starting | Phase::Running => {
                run.enter(cx, Phase::Stopping);
                run.challenge = None;
                cx.outputs.push_back(Output::StopChild { run: run.run, shutdown: run.spec.shutdown });
                self.children.follow(key);
                self.write_claim(cx, key, ClaimState::Stopping);
            }
        }
    }

    /// This node holds nothing of the child any more: releases the claim and permits whoever asked last.
    pub(crate) fn end_run(&mut self, cx: &mut Shared, key: &ChildKey) {
        let Some(child) = self.children.get_mut(key) else { return };
        let Local::Active(mut run) = std::mem::replace(&mut child.local, Local::Idle) else { return };
        run.enter(cx, Phase::Stopping);
        self.children.follow(key);
        self.release_claim(cx, key);
        if let Some(since) = run.duplicate_since() {
            cx.stats.duplicates_resolved += 1;
            cx.stats.duplicate_nanos += nanos(cx.now.since(since));
            let lasted = cx.now.since(since);
            cx.event(self.id, Event::DuplicateResolved { id: key.id().clone(), lasted });
        }
        self.end_gap(cx, key, &mut run.gap);
        self.reconcile(cx, key);
        let is_waiting = self.children.get(key).is_some_and(|child| !matches!(child.local, Local::Idle));
        if let Some(asker) = run.asker.filter(|_| !is_waiting) {
            self.answer(cx, key, &asker, Verdict::Free);
        }
    }

    /// The child starts elsewhere, or not at all: how long it did not run counts as long as it is desired.
    pub(crate) fn end_gap(&mut self, cx: &mut Shared, key: &ChildKey, gap: &mut Gap) {
        let lasted = self.gaps.end(gap, cx.now);
        if self.children.record(key).is_some() {
            cx.stats.orphan_nanos += nanos(lasted);
        }
    }

    /// Something happened to a run.
    pub(crate) fn handle_child(&mut self, cx: &mut Shared, run: RunId, event: ChildEvent) {
        let Some(key) = self.runs.get(run).cloned() else { return };
        match event {
            ChildEvent::Started => self.run_started(cx, &key),
            ChildEvent::Declined(error) => {
                self.runs.remove(run);
                self.run_declined(cx, &key, error);
            }
            ChildEvent::Exited(outcome) => {
                self.runs.remove(run);
                self.run_exited(cx, &key, outcome);
            }
        }
        self.settle_dirty(cx);
    }

    fn run_started(&mut self, cx: &mut Shared, key: &ChildKey) {
        let Some(Local::Active(run)) = self.children.get_mut(key).map(|child| &mut child.local) else { return };
        if run.phase != Phase::Starting {
            return;
        }
        run.enter(cx, Phase::Running);
        cx.stats.orphan_nanos += nanos(self.gaps.end(&mut run.gap, cx.now));
        let epoch = run.epoch;
        self.children.follow(key);
        cx.event(self.id, Event::ChildStarted { id: key.id().clone(), epoch });
        self.write_claim(cx, key, ClaimState::Running);
        self.mark(key);
    }

    fn run_declined(&mut self, cx: &mut Shared, key: &ChildKey, error: Arc<str>) {
        let Some(child) = self.children.get_mut(key) else { return };
        let Local::Active(run) = &mut child.local else { return };
        if run.phase == Phase::Stopping {
            self.end_run(cx, key);
            return;
        }
        cx.stats.declines += 1;
        tracing::warn!(child = %key.id(), %error, "this node does not understand a child's arguments");
        run.troubles().last_error = Some(error.clone());
        run.enter(cx, Phase::Stopping);
        self.write_claim(cx, key, ClaimState::Declined);
        if let Some(child) = self.children.get_mut(key)
            && let Local::Active(mut run) = std::mem::replace(&mut child.local, Local::Idle)
        {
            let _ = self.gaps.end(&mut run.gap, cx.now);
        }
        self.children.follow(key);
        self.declined.insert(OwnedKey::claim(key, self.me));
        cx.event(self.id, Event::ChildDeclined { id: key.id().clone(), error });
        self.place(key);
        self.mark(key);
    }

    fn run_exited(&mut self, cx: &mut Shared, key: &ChildKey, outcome: Outcome) {
        let Some(Local::Active(run)) = self.children.get_mut(key).map(|child| &mut child.local) else { return };
        let (phase, epoch, restart) = (run.phase, run.epoch, run.spec.restart);
        if let Some(error) = outcome.error() {
            run.troubles().last_error = Some(error.clone());
        }
        if phase != Phase::Stopping {
            self.gaps.begin(&mut run.gap, cx.now);
        }
        if phase == Phase::Starting {
            let error = run.last_error().cloned().unwrap_or_else(|| Arc::from("ended before it had started"));
            cx.event(self.id, Event::ChildStartFailed { id: key.id().clone(), epoch, error });
        } else {
            cx.event(self.id, Event::ChildExited { id: key.id().clone(), epoch, outcome: outcome.clone() });
        }
        let is_done = match restart {
            _ if cx.sabotage.lacks(Rule::CompletedIsDone) => false,
            Restart::Permanent => false,
            Restart::Transient => outcome == Outcome::Success,
            Restart::Temporary => true,
        };
        match phase {
            Phase::Stopping if !(is_done && outcome == Outcome::Success) => self.end_run(cx, key),
            Phase::Starting if restart != Restart::Temporary => {
                cx.stats.start_failures += 1;
                self.back_off(cx, key);
            }
            Phase::Starting | Phase::Running | Phase::Stopping if is_done => self.complete(cx, key, outcome),
            Phase::Starting | Phase::Running | Phase::Stopping => self.restart(cx, key),
            Phase::Backoff => debug_assert!(false, "a child that backs off has no run"),
        }
    }

    /// The child is done: nothing may ever start it again.
    fn complete(&mut self, cx: &mut Shared, key: &ChildKey, outcome: Outcome) {
        let Some(Local::Active(run)) = self.children.get(key).map(|child| &child.local) else { return };
        let spec = run.spec.clone();
        let is_same = self.children.record(key).is_some_and(|record| record.value.spec == spec);
        if is_same {
            self.remove_desired(cx, key, None);
            cx.event(self.id, Event::ChildCompleted { id: key.id().clone(), outcome });
        }
        self.end_run(cx, key);
    }

    /// Restarts a child that crashed, at once while that is rare, otherwise after a pause.
    fn restart(&mut self, cx: &mut Shared, key: &ChildKey) {
        let now = cx.now;
        let is_resyncing = self.is_resyncing();
        let is_limited = !cx.sabotage.lacks(Rule::IntensityIsLimited);
        let Some(Local::Active(run)) = self.children.get_mut(key).map(|child| &mut child.local) else { return };
        let (window, max_restarts, started) = (run.spec.max_restart_window, run.spec.max_restarts, run.started);
        let troubles = run.troubles();
        while troubles.recent.front().is_some_and(|restart| now.since(*restart) > window) {
            troubles.recent.pop_front();
        }
        if now.since(started) > window {
            troubles.backoffs = 0;
        }
        // A child that has had to wait gets one try per pause until a run has outlasted the window.
        let is_too_often = troubles.backoffs > 0 || troubles.recent.len() >= max_restarts as usize;
        if is_resyncing || (is_too_often && is_limited) {
            self.back_off(cx, key);
            return;
        }
        run.troubles().recent.push_back(now);
        self.launch_again(cx, key);
    }

    /// Restarts a child in place, or has it wait for its turn.
    fn launch_again(&mut self, cx: &mut Shared, key: &ChildKey) {
        let Some(Local::Active(run)) = self.children.get_mut(key).map(|child| &mut child.local) else { return };
        if cx.budget.may_take() {
            run.restarts += 1;
            cx.stats.restarts += 1;
            self.launch(cx, key);
            return;
        }
        if run.phase != Phase::Backoff {
            run.enter(cx, Phase::Backoff);
            self.children.follow(key);
            self.write_claim(cx, key, ClaimState::Backoff);
        }
        self.hold(cx, key);
    }

    /// A place in the budget is free for a child that waits to be restarted.
    pub(crate) fn launch_held(&mut self, cx: &mut Shared, key: &ChildKey) {
        let Some(Local::Active(run)) = self.children.get(key).map(|child| &child.local) else { return };
        if run.phase == Phase::Backoff {
            let of = run.run;
            self.end_backoff(cx, key, of);
        }
    }

    fn back_off(&mut self, cx: &mut Shared, key: &ChildKey) {
        let fraction = cx.fraction();
        let (min, max) = (cx.config.backoff_min, cx.config.backoff_max);
        let Some(Local::Active(run)) = self.children.get_mut(key).map(|child| &mut child.local) else { return };
        let backoffs = &mut run.troubles().backoffs;
        let doubled = min.saturating_mul(1u32.checked_shl((*backoffs).min(20)).unwrap_or(u32::MAX)).min(max);
        // Between three quarters and five quarters, so that children that failed together do not return together.
        let delay = doubled.mul_f64(0.75 + fraction / 2.0);
        *backoffs = backoffs.saturating_add(1);
        run.enter(cx, Phase::Backoff);
        let id = run.run;
        cx.stats.backoffs += 1;
        self.children.follow(key);
        cx.event(self.id, Event::ChildBackoff { id: key.id().clone(), delay });
        cx.set_timer(delay, Wakeup::Backoff, Alarm::Backoff(self.id, key.clone(), id));
        self.write_claim(cx, key, ClaimState::Backoff);
    }

    /// A pause is over.
    pub(crate) fn end_backoff(&mut self, cx: &mut Shared, key: &ChildKey, of: RunId) {
        let is_resyncing = self.is_resyncing();
        let Some(Local::Active(run)) = self.children.get_mut(key).map(|child| &mut child.local) else { return };
        if run.phase != Phase::Backoff || run.run != of {
            return;
        }
        if is_resyncing {
            cx.set_timer(Duration::from_millis(100), Wakeup::Backoff, Alarm::Backoff(self.id, key.clone(), of));
            return;
        }
        self.launch_again(cx, key);
    }

    /// Says what this node does with a child.
    pub(crate) fn write_claim(&mut self, cx: &mut Shared, key: &ChildKey, state: ClaimState) {
        let Some(Local::Active(run)) = self.children.get(key).map(|child| &child.local) else { return };
        let claim = Claim {
            state,
            life: run.life,
            epoch: run.epoch,
            since_ms: cx.wall_ms(),
            restarts: run.restarts,
            last_error: run.last_error().map(|error| Arc::new(error.to_string())),
        };
        let predecessor = run.predecessor.and_then(|instance| cx.membership.identity_of(instance));
        let owned = OwnedKey::claim(key, self.me);
        let record = self.owned.write(&mut self.children, owned.clone(), Owned::Claim(claim)).clone();
        if let Some(predecessor) = predecessor.filter(|_| !cx.is_small()) {
            // Where not everybody is told directly, whoever waits to be succeeded is.
            cx.send_scoped(predecessor, self.id, ScopeMessage::PutOwned(owned.clone(), record.clone()));
        }
        if state == ClaimState::Starting && record.over.is_none() && cx.is_small() {
            self.tell_later(cx, key, record.dot);
        } else {
            self.publish_owned(cx, owned, record);
        }
        self.mark_watched(key);
    }

    /// A first claim is told only if it lasts: most children are up before anybody would have read that they start, and
    /// the claim that follows names this one. Not one that itself replaced another: whoever hears of that one late would
    /// not learn that it is over. In large clusters the gossip does the same.
    fn tell_later(&mut self, cx: &mut Shared, key: &ChildKey, dot: Dot) {
        if self.untold.is_empty() {
            cx.set_timer(START_PATIENCE, Wakeup::Ask, Alarm::Tell(self.id));
        }
        self.untold.push((key.clone(), dot));
    }

    /// Tells which children have been starting since a moment.
    pub(crate) fn tell_starting(&mut self, cx: &mut Shared) {
        for (key, dot) in std::mem::take(&mut self.untold) {
            let record = self.children.claim(&key, self.me).filter(|record| record.dot == dot).cloned();
            if let Some(record) = record {
                self.publish_owned(cx, OwnedKey::claim(&key, self.me), record);
            }
        }
    }

    fn release_claim(&mut self, cx: &mut Shared, key: &ChildKey) {
        let owned = OwnedKey::claim(key, self.me);
        let Some(removed) = self.owned.remove(&mut self.children, &owned) else { return };
        let message = ScopeMessage::DelOwned(owned, removed.dot);
        if !cx.send_to_all(self.id, message.clone()) {
            cx.spread(self.id, message);
        }
        self.mark(key);
    }

    /// A claim that this node declined a life goes when that life does.
    fn withdraw_decline(&mut self, cx: &mut Shared, key: &ChildKey, life: Option<Dot>) {
        if self.declined.is_empty() {
            return;
        }
        let owned = OwnedKey::claim(key, self.me);
        let is_stale = match self.children.owned(&owned).map(|record| &record.value) {
            Some(Owned::Claim(claim)) => claim.state == ClaimState::Declined && Some(claim.life) != life,
            _ => false,
        };
        if is_stale {
            self.declined.remove(&owned);
            self.release_claim(cx, key);
            self.place(key);
        }
    }

    /// A claim of this node that somebody else's state lost: say it again.
    pub(crate) fn reassert_claim(&mut self, cx: &mut Shared, key: &ChildKey) {
        if let Some(Local::Active(run)) = self.children.get(key).map(|child| &child.local) {
            let state = run.phase.claim_state();
            self.write_claim(cx, key, state);
        }
    }

    /// The safety net for this scope: children that are in no stable state, and a slice of the others.
    pub(crate) fn sync(&mut self, cx: &mut Shared) {
        for key in self.children.unstable() {
            self.mark(&key);
        }
        self.settle_dirty(cx);
        self.audit(cx);
    }

    /// Looks at the next children; each that is not as it should be is a bug, counted and put right. Costs the same at any
    /// number of children and members, and nothing but one walk for those that are fine. They are taken as they lie in
    /// memory, in which an idle node finds nothing cached: in the order of their hashes each costs ten times as much. One
    /// that takes the place of another, which went, may wait for the next round, which begins when no new ones come faster
    /// than it gets on.
    fn audit(&mut self, cx: &mut Shared) {
        let count = (AUDIT_SCORES_PER_SYNC / self.members.len().max(1)).clamp(1, AUDIT_PER_SYNC);
        let (wrong, looked_at) = self.look_at(self.audited, count);
        self.audited = if looked_at < count { 0 } else { self.audited + count };
        cx.stats.audited += looked_at as u64;
        for key in wrong {
            cx.stats.audit_repairs += 1;
            tracing::error!(child = %key.id(), "the audit found a child in a wrong state: this is a bug");
            self.place(&key);
            self.mark(&key);
        }
        self.settle_dirty(cx);
    }

    /// The children of one audit: those that are wrong, and how many there were at all.
    fn look_at(&self, first: usize, count: usize) -> (Vec<ChildKey>, usize) {
        let (mut wrong, mut looked_at) = (Vec::new(), 0);
        for (key, entry) in self.children.iter_from(first).take(count) {
            looked_at += 1;
            let Some(child) = &entry.child else { continue };
            if !self.is_as_it_should_be(key, child, entry.record.as_ref()) {
                wrong.push(key.clone());
            }
        }
        (wrong, looked_at)
    }

    fn is_as_it_should_be(&self, key: &ChildKey, child: &Child, record: Option<&Record<Desired>>) -> bool {
        let Some(record) = record else {
            return matches!(&child.local, Local::Active(run) if run.phase == Phase::Stopping);
        };
        let spec = &record.value.spec;
        let is_owner = child.owner() == Some(self.me);
        let is_placed = child.owner() == self.find_owner(key, spec, record.dot);
        is_placed
            && match &child.local {
                Local::Idle => !is_owner || self.stays_elsewhere(key, spec),
                Local::Waiting(_) => is_owner && !self.stays_elsewhere(key, spec),
                Local::Active(run) => run.phase == Phase::Stopping || (run.life == record.dot && run.spec == *spec),
            }
    }

    /// Children of which something runs here, or will.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = (&ChildKey, &Run)> {
        self.children.iter().filter_map(|(key, entry)| match &entry.child.as_ref()?.local {
            Local::Active(run) => Some((key, run.as_ref())),
            Local::Idle | Local::Waiting(_) => None,
        })
    }

    /// Whether another member could take over anything.
    pub(crate) fn has_heir(&self) -> bool {
        let can_own = |record: &super::group::MemberRecord| record.settled && !record.draining && !record.left;
        self.members.iter().any(|(instance, member)| *instance != self.me && can_own(&member.record))
    }

    /// Stops whatever runs here; how long the slowest child may take.
    pub(crate) fn stop_everything(&mut self, cx: &mut Shared) -> Duration {
        let keys: Vec<ChildKey> = self.unfinished().map(|(key, _)| key.clone()).collect();
        let mut longest = Duration::ZERO;
        for key in keys {
            if let Some(Local::Active(run)) = self.children.get(&key).map(|child| &child.local) {
                longest = longest.max(match run.spec.shutdown {
                    crate::child::Shutdown::Timeout(timeout) => timeout,
                    crate::child::Shutdown::Brutal => Duration::ZERO,
                    // Whoever wants to wait for ever has said so; the node can't leave before.
                    crate::child::Shutdown::Infinity => Duration::from_secs(365 * 24 * 3600),
                });
            }
            self.stop_run(cx, &key);
        }
        self.settle_dirty(cx);
        longest
    }
}

impl Phase {
    fn claim_state(self) -> ClaimState {
        match self {
            Phase::Starting => ClaimState::Starting,
            Phase::Running => ClaimState::Running,
            Phase::Stopping => ClaimState::Stopping,
            Phase::Backoff => ClaimState::Backoff,
        }
    }
}
