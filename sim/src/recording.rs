//! What a run was like, as plain data for the reports: lanes of nodes, runs of children, faults, calls, and what went
//! wrong. Times are microseconds since the beginning; nodes, children and runs are places in their lists.

mod bands;
mod figures;
mod spans;

use std::collections::BTreeMap;
use std::time::Duration;

use haulout::proto::{Command, ScopeId, Time};
use haulout::{ChildId, Event, Shutdown};
use serde::Serialize;

pub use figures::Figures;
pub(crate) use spans::{Absence, absences};

use crate::cluster::Cluster;
use crate::history::{FaultKind, LifeEnd, scope_of};
use crate::journal::Run;
use crate::verdict::{Class, Violation};
use crate::words::{self, Excuse, micros};

/// What the cluster itself does not know about the run.
#[derive(Clone)]
pub struct Summary<'a> {
    /// The line that says how it ended: `PASSED`, or `FAILED` and why.
    pub verdict: String,
    /// Every option of the run, derived ones included, by name.
    pub options: Vec<(String, String)>,
    /// The command that runs it again.
    pub reproduce: String,
    /// How long it took by the wall clock.
    pub wall: Duration,
    /// When the last fault was over.
    pub healed: Option<Time>,
    /// How long it took from there until everybody agreed.
    pub converged_in: Option<Duration>,
    /// What excuses an overlap, in words.
    pub excuse: Excuse<'a>,
}

impl Default for Summary<'_> {
    fn default() -> Self {
        Summary {
            verdict: String::new(),
            options: Vec::new(),
            reproduce: String::new(),
            wall: Duration::ZERO,
            healed: None,
            converged_in: None,
            excuse: &|_| None,
        }
    }
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Recording {
    /// The line that says how it ended.
    pub verdict: String,
    /// Where its randomness came from.
    pub seed: u64,
    /// Every option by name.
    pub options: Vec<(String, String)>,
    /// The command that runs it again.
    pub reproduce: String,
    /// When it ended.
    pub end: u64,
    /// When the last fault was over.
    pub healed: Option<u64>,
    /// It in figures.
    pub figures: Figures,
    /// The ids of all children, in their order.
    pub children: Vec<String>,
    /// The nodes.
    pub nodes: Vec<Lane>,
    /// The faults, by when they began.
    pub faults: Vec<Band>,
    /// The runs of children, by when they began.
    pub runs: Vec<Bar>,
    /// When children ran twice.
    pub overlaps: Vec<Double>,
    /// When desired children ran nowhere.
    pub orphans: Vec<Orphan>,
    /// How children came from one run to the next elsewhere.
    pub moves: Vec<Move>,
    /// The users' calls.
    pub calls: Vec<CallMade>,
    /// What nodes told, without what the runs say.
    pub events: Vec<Told>,
    /// The promises that were broken.
    pub violations: Vec<Broken>,
}

/// A node over time.
#[derive(Clone, Debug, Serialize)]
pub struct Lane {
    /// Its name.
    pub name: String,
    /// Its lives.
    pub lives: Vec<LifeSpan>,
    /// When it was paused.
    pub pauses: Vec<(u64, Option<u64>)>,
}

/// One life of a node.
#[derive(Clone, Debug, Serialize)]
pub struct LifeSpan {
    /// From when.
    pub from: u64,
    /// Until when, if it ended.
    pub to: Option<u64>,
    /// How it ended.
    pub end: Option<&'static str>,
}

/// A fault over time; those of many links that began and ended together are one.
#[derive(Clone, Debug, Serialize)]
pub struct Band {
    /// Its kind, in a word.
    pub kind: &'static str,
    /// What it is, in words.
    pub label: String,
    /// The nodes that it is about; none if it is about all.
    pub nodes: Vec<usize>,
    /// From when.
    pub from: u64,
    /// Until when, if it ended.
    pub to: Option<u64>,
}

/// One run of a child.
#[derive(Clone, Debug, Serialize)]
pub struct Bar {
    /// Which child.
    pub child: usize,
    /// Where.
    pub node: usize,
    /// Its number.
    pub epoch: String,
    /// When its `init` began.
    pub began: u64,
    /// When its `init` had returned.
    pub started: Option<u64>,
    /// When its node told it to stop, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signalled: Option<u64>,
    /// When its last code had run.
    pub ended: Option<u64>,
    /// How it ended.
    pub ending: Option<String>,
    /// Whether it failed.
    pub failed: bool,
}

/// A child that ran twice.
#[derive(Clone, Debug, Serialize)]
pub struct Double {
    /// Which child.
    pub child: usize,
    /// Where the run that began first was.
    pub earlier: usize,
    /// Where the run that began later was.
    pub later: usize,
    /// From when.
    pub from: u64,
    /// Until when, if it ended.
    pub to: Option<u64>,
    /// What excuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excuse: Option<String>,
}

/// A desired child that ran nowhere.
#[derive(Clone, Debug, Serialize)]
pub struct Orphan {
    /// Which child.
    pub child: usize,
    /// From when.
    pub from: u64,
    /// Until when, if it ran again.
    pub to: Option<u64>,
    /// The run that was its last before; none if it had not run since it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<usize>,
}

/// From one run of a child to the next on another node.
#[derive(Clone, Debug, Serialize)]
pub struct Move {
    /// The earlier run.
    pub from: usize,
    /// The later run.
    pub to: usize,
    /// Why, in a word: `handed over`, `failed over`, or `taken over` while the earlier ran on.
    pub why: &'static str,
}

/// A call of a user.
#[derive(Clone, Debug, Serialize)]
pub struct CallMade {
    /// On which node.
    pub node: usize,
    /// About which child, if about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child: Option<usize>,
    /// What was asked.
    pub asked: String,
    /// When.
    pub at: u64,
    /// When it was answered.
    pub answered: Option<u64>,
    /// How.
    pub answer: Option<String>,
}

/// Something that a node told.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// When.
    pub at: u64,
    /// By which node.
    pub node: usize,
    /// What, in a word.
    pub kind: String,
    /// About which child, if about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub child: Option<usize>,
    /// In words.
    pub text: String,
}

/// A promise that was broken.
#[derive(Clone, Debug, Serialize)]
pub struct Broken {
    /// Which promise.
    pub invariant: &'static str,
    /// `safety` or `liveness`.
    pub class: &'static str,
    /// When.
    pub at: u64,
    /// On which node.
    pub node: Option<usize>,
    /// About which child.
    pub child: Option<usize>,
    /// In words.
    pub detail: String,
}

impl Recording {
    /// Takes down everything that people look at.
    pub fn of(cluster: &Cluster, violations: &[Violation], summary: &Summary<'_>) -> Self {
        let children = Children::of(cluster, violations);
        let (journal, history) = (cluster.journal(), cluster.history());
        let absences: Vec<Absence> = absences(cluster);
        let moves = spans::moves(journal.runs());
        let faults = bands::bands(cluster);
        Recording {
            verdict: summary.verdict.clone(),
            seed: cluster.options().seed,
            options: summary.options.clone(),
            reproduce: summary.reproduce.clone(),
            end: micros(cluster.now()),
            healed: summary.healed.map(micros),
            figures: Figures::of(cluster, summary, &faults, &absences, &moves),
            nodes: lanes(cluster),
            faults,
            runs: journal.runs().iter().map(|run| bar(&children, run)).collect(),
            overlaps: doubles(cluster, &children, summary.excuse),
            orphans: absences.iter().map(|absence| orphan(&children, absence)).collect(),
            moves,
            calls: history.calls.iter().filter_map(|call| made(&children, call)).collect(),
            events: events(cluster, &children),
            violations: violations.iter().map(|violation| broken(cluster, &children, violation)).collect(),
            children: children.names,
        }
    }
}

/// The places of all children: of every scope, since a node may be in several.
struct Children {
    places: BTreeMap<(ScopeId, ChildId), usize>,
    names: Vec<String>,
}

impl Children {
    fn of(cluster: &Cluster, violations: &[Violation]) -> Self {
        let scope = cluster.scope();
        let ran = cluster.journal().runs().iter().map(|run| (run.scope, run.id.clone()));
        let called = cluster.history().calls.iter().filter_map(|call| key_of(&call.command));
        let of = |violation: &Violation| violation.scope.unwrap_or(scope);
        let broken = violations.iter().filter_map(|violation| Some((of(violation), violation.child.clone()?)));
        let told = cluster.nodes().flat_map(|node| cluster.events(node));
        let told = told.filter_map(|(_, scope, event)| Some((*scope, words::event(cluster, event).1?)));
        let keys: std::collections::BTreeSet<_> = ran.chain(called).chain(broken).chain(told).collect();
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_by_key(|(_, id)| natural(&id.to_string()));
        let names = keys.iter().map(|(scope, id)| words::child_in(cluster, *scope, id)).collect();
        Children { places: keys.into_iter().zip(0..).collect(), names }
    }

    fn place(&self, scope: ScopeId, id: &ChildId) -> Option<usize> {
        self.places.get(&(scope, id.clone())).copied()
    }
}

/// A key by which `child-10` comes after `child-9`.
fn natural(name: &str) -> (String, u64, String) {
    let text = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (text.to_owned(), name[text.len()..].parse().unwrap_or_default(), name.to_owned())
}

/// The scope and the child that a call is about.
pub(crate) fn key_of(command: &Command) -> Option<(ScopeId, ChildId)> {
    Some((scope_of(command)?, words::child_called(command)?.clone()))
}

fn lanes(cluster: &Cluster) -> Vec<Lane> {
    let history = cluster.history();
    let mut lanes: Vec<Lane> = cluster
        .nodes()
        .map(|node| Lane { name: cluster.name(node).to_owned(), lives: Vec::new(), pauses: Vec::new() })
        .collect();
    for life in &history.lives {
        let end: Option<LifeEnd> = life.end;
        let span = LifeSpan { from: micros(life.from), to: life.to.map(micros), end: end.map(words::life_end) };
        lanes[life.node.0].lives.push(span);
    }
    for fault in &history.faults {
        if let FaultKind::Paused(node) = fault.kind {
            lanes[node.0].pauses.push((micros(fault.from), fault.to.map(micros)));
        }
    }
    lanes
}

/// A child that ran or was called has its place; 0 stands in for one that can't be.
fn place(children: &Children, scope: ScopeId, id: &ChildId) -> usize {
    children.place(scope, id).unwrap_or_default()
}

fn bar(children: &Children, run: &Run) -> Bar {
    let (signalled, _): (Option<Time>, Option<Shutdown>) = signal(run);
    Bar {
        child: place(children, run.scope, &run.id),
        node: run.node.0,
        epoch: run.epoch.to_string(),
        began: micros(run.began),
        started: run.started.map(micros),
        signalled: signalled.map(micros),
        ended: run.ended.map(micros),
        ending: run.ending.as_ref().map(words::ending),
        failed: spans::failed(run),
    }
}

/// When a run was told to stop, and how, as far as the journal knows.
pub(crate) fn signal(_run: &Run) -> (Option<Time>, Option<Shutdown>) {
    (None, None)
}

fn doubles(cluster: &Cluster, children: &Children, excuse: Excuse<'_>) -> Vec<Double> {
    let double = |overlap: &crate::journal::Overlap| Double {
        child: place(children, overlap.scope, &overlap.id),
        earlier: overlap.earlier.0,
        later: overlap.later.0,
        from: micros(overlap.from),
        to: overlap.to.map(micros),
        excuse: excuse(overlap),
    };
    cluster.journal().overlaps().iter().map(double).collect()
}

fn orphan(children: &Children, absence: &Absence) -> Orphan {
    Orphan {
        child: place(children, absence.scope, &absence.id),
        from: micros(absence.from),
        to: absence.to.map(micros),
        after: absence.after,
    }
}

/// Calls that change something or wait for it: the checks' own looks would hide them.
fn made(children: &Children, call: &crate::history::Call) -> Option<CallMade> {
    if matches!(call.command, Command::WhichChildren { .. }) {
        return None;
    }
    let key = key_of(&call.command);
    Some(CallMade {
        node: call.node.0,
        child: key.and_then(|(scope, id)| children.place(scope, &id)),
        asked: words::command(&call.command),
        at: micros(call.called),
        answered: call.answer.as_ref().map(|(at, _)| micros(*at)),
        answer: call.answer.as_ref().map(|(_, reply)| words::reply(reply)),
    })
}

fn events(cluster: &Cluster, children: &Children) -> Vec<Told> {
    let mut all = Vec::new();
    for node in cluster.nodes() {
        for (at, scope, event) in cluster.events(node) {
            if matches!(event, Event::ChildStarted { .. } | Event::ChildExited { .. }) {
                continue;
            }
            let (kind, child, text) = words::event(cluster, event);
            let child = child.and_then(|id| children.place(*scope, &id));
            all.push(Told { at: micros(*at), node: node.0, kind, child, text });
        }
    }
    all.sort_by_key(|told| told.at);
    all
}

fn broken(cluster: &Cluster, children: &Children, violation: &Violation) -> Broken {
    let scope = violation.scope.unwrap_or(cluster.scope());
    Broken {
        invariant: violation.invariant,
        class: match violation.class {
            Class::Safety => "safety",
            Class::Liveness => "liveness",
        },
        at: micros(violation.at),
        node: violation.node.map(|node| node.0),
        child: violation.child.as_ref().and_then(|id| children.place(scope, id)),
        detail: violation.detail.clone(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
