//! What follows from the journal and the calls: when a desired child ran nowhere, and from which run to which it went.

use std::collections::BTreeMap;

use haulout::proto::{Command, Reply, ScopeId, Time};
use haulout::{ChildId, Outcome};

use super::{Move, key_of};
use crate::cluster::Cluster;
use crate::journal::{Ending, Run};

/// A desired child that ran nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Absence {
    pub(crate) scope: ScopeId,
    pub(crate) id: ChildId,
    pub(crate) from: Time,
    /// When it ran again; `None`: not until the end, or until it was no longer desired.
    pub(crate) to: Option<Time>,
    /// The run whose end began it.
    pub(crate) after: Option<usize>,
}

/// What happened to a child, as its users see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// A start or an update of it was acknowledged. One that found it live already adds nothing: what it found may
    /// have been terminated elsewhere.
    Desired,
    Began(usize),
    Ended(usize),
    /// It was terminated, or is done.
    Undesired,
}

type Steps = BTreeMap<(ScopeId, ChildId), Vec<(Time, Step)>>;

/// The steps of all children, each in order of time. At one moment a run ends after another begins and before the
/// child is done.
pub(crate) fn desires(cluster: &Cluster) -> Steps {
    let mut steps = Steps::new();
    let mut add = |key, at, step| steps.entry(key).or_default().push((at, step));
    for call in &cluster.history().calls {
        let Some(key) = key_of(&call.command) else { continue };
        match (&call.command, &call.answer) {
            (_, Some((at, Reply::Started(Ok(true)) | Reply::Updated(Ok(true))))) => add(key, *at, Step::Desired),
            (Command::Terminate { .. }, Some((_, Reply::Terminated(Ok(()))))) => add(key, call.called, Step::Undesired),
            _ => {}
        }
    }
    for (place, run) in cluster.journal().runs().iter().enumerate() {
        let key = (run.scope, run.id.clone());
        add(key.clone(), run.began, Step::Began(place));
        let Some(ended) = run.ended else { continue };
        add(key.clone(), ended, Step::Ended(place));
        if run.is_done() {
            add(key, ended, Step::Undesired);
        }
    }
    steps.values_mut().for_each(|steps| steps.sort());
    steps
}

/// When desired children ran nowhere, by when that began.
pub(crate) fn absences(cluster: &Cluster) -> Vec<Absence> {
    let mut absences = Vec::new();
    for ((scope, id), steps) in desires(cluster) {
        let mut open: Option<Absence> = None;
        // Nobody asks for start-up children by a call: what runs before anybody spoke of it is desired. Later a
        // run says nothing: whoever began it may not have heard of the terminate.
        let (mut desired, mut spoken_of, mut running) = (false, false, 0_usize);
        let absent = |from, after| Absence { scope, id: id.clone(), from, to: None, after };
        for (at, step) in steps {
            match step {
                Step::Desired if !desired => {
                    (desired, spoken_of) = (true, true);
                    open = (running == 0).then(|| absent(at, None));
                }
                Step::Desired => {}
                Step::Began(_) => {
                    desired |= !spoken_of;
                    running += 1;
                    if let Some(mut over) = open.take().filter(|absence| absence.from < at) {
                        over.to = Some(at);
                        absences.push(over);
                    }
                }
                Step::Ended(run) => {
                    running = running.saturating_sub(1);
                    open = (desired && running == 0).then(|| absent(at, Some(run)));
                }
                Step::Undesired => {
                    (desired, spoken_of) = (false, true);
                    open = None;
                }
            }
        }
        absences.extend(open);
    }
    absences.sort_by(|a, b| (a.from, &a.id).cmp(&(b.from, &b.id)));
    absences
}

/// To each run from the one before of the same child, if that was on another node: of several, the one that ended, or
/// will end, last.
pub(super) fn moves(runs: &[Run]) -> Vec<Move> {
    let end = |place: &usize| runs[*place].ended.unwrap_or(Time::from_nanos(u64::MAX));
    let mut last: BTreeMap<(ScopeId, &ChildId), usize> = BTreeMap::new();
    let mut moves = Vec::new();
    for (to, run) in runs.iter().enumerate() {
        let key = (run.scope, &run.id);
        let Some(from) = last.get(&key).copied() else {
            last.insert(key, to);
            continue;
        };
        last.insert(key, [from, to].into_iter().max_by_key(end).unwrap_or(to));
        let before = &runs[from];
        if before.node == run.node || before.epoch.birth != run.epoch.birth {
            continue;
        }
        let why = match (&before.ending, before.ended) {
            (_, Some(ended)) if ended > run.began => "taken over",
            (_, None) => "taken over",
            (Some(Ending::Killed), _) => "failed over",
            _ => "handed over",
        };
        moves.push(Move { from, to, why });
    }
    moves
}

/// Whether a run ended by an error or a panic.
pub(super) fn failed(run: &Run) -> bool {
    matches!(run.ending, Some(Ending::Declined | Ending::Exited(Outcome::Error(_) | Outcome::Panic(_))))
}
