//! The story of one child.

use std::collections::BTreeSet;
use std::fmt::Write;

use haulout::proto::{Command, Reply, Time};
use haulout::{ChildId, Event, Kind};

use super::Story;
use super::beliefs::{Belief, belief, not_counted, subject};
use crate::NodeIdx;
use crate::cluster::Cluster;
use crate::figures::short;
use crate::history::Call;
use crate::journal::{Ending, Overlap, Run};
use crate::recording::{Absence, absences, signal};
use crate::verdict::Violation;
use crate::view::View;
use crate::words::{self, clock, lasting};

/// An answer that takes longer is told where it comes, besides where it was asked for.
const LATE: std::time::Duration = std::time::Duration::from_millis(20);

/// The story of one child in plain sentences: one after the other, if children of several scopes have this id.
pub fn child(cluster: &Cluster, id: &ChildId, violations: &[Violation]) -> String {
    let stories: Vec<String> = View::all(cluster).filter_map(|view| story_of(&view, id, violations)).collect();
    match stories.is_empty() {
        true => format!("{}Nobody ever asked for it, and it never ran.\n", title(cluster, &id.to_string())),
        false => stories.join("\n"),
    }
}

fn title(cluster: &Cluster, child: &str) -> String {
    format!("The story of {child} (seed {})\n\n", cluster.options().seed)
}

/// The story of one child in one scope; `None` if nobody ever asked for it there, and it never ran.
fn story_of(view: &View<'_>, id: &ChildId, violations: &[Violation]) -> Option<String> {
    let (cluster, scope) = (view.cluster, view.scope);
    let runs: Vec<&Run> = view.journal.of(id).collect();
    let calls: Vec<&Call> = view.history.calls.iter().filter(|call| is_about(call, id)).collect();
    if runs.is_empty() && calls.is_empty() {
        return None;
    }
    let mut text = title(cluster, &words::child_in(cluster, scope, id));
    let nodes: BTreeSet<NodeIdx> = runs.iter().map(|run| run.node).chain(calls.iter().map(|call| call.node)).collect();
    let nodes: Vec<NodeIdx> = nodes.into_iter().collect();
    let names: Vec<&str> = nodes.iter().map(|&node| cluster.name(node)).collect();
    let _ = writeln!(text, "It ran on or was asked for at {}.\n", names.join(", "));

    let times = runs.iter().flat_map(|run| [Some(run.began), run.ended]).flatten();
    let times: BTreeSet<Time> = times.chain(calls.iter().map(|call| call.called)).collect();
    let mut story =
        Story::between(times.first().copied().unwrap_or(Time::ZERO), times.last().copied().unwrap_or(Time::ZERO));
    story.tell_lives(cluster, &nodes);
    story.tell_faults(cluster, &nodes);
    tell_members(&mut story, view, &nodes);
    calls.iter().for_each(|call| tell_call(&mut story, cluster, call));
    runs.iter().for_each(|run| tell_run(&mut story, view, run));
    tell_events(&mut story, view, id);
    let absences: Vec<Absence> = absences(cluster).into_iter().filter(|it| it.id == *id && it.scope == scope).collect();
    absences.iter().for_each(|absence| tell_absence(&mut story, absence));
    for overlap in view.journal.overlaps().iter().filter(|it| it.id == *id) {
        tell_overlap(&mut story, view, overlap);
    }
    let concerns = |violation: &&Violation| {
        violation.child.as_ref().is_none_or(|child| child == id) && violation.scope.is_none_or(|of| of == scope)
    };
    for violation in violations.iter().filter(concerns) {
        let Violation { invariant, class, detail, .. } = violation;
        story.tell(violation.at, format!("BROKEN: {invariant} ({class:?}): {detail}"));
    }
    story.write(&mut text);
    let is_absent = absences.iter().any(|absence| absence.to.is_none());
    let _ = writeln!(text, "\n{}", ending(view, is_absent, &runs, &calls));
    if let Some(kind) = kind(&runs, &calls) {
        let able = able(view, kind.as_str());
        let able: Vec<&str> = able.iter().map(|&node| cluster.name(node)).collect();
        let _ = writeln!(text, "Of the members then, its kind ({kind}) could run on {}.", words::list(&able));
    }
    Some(text)
}

/// The kind that it was asked for with last, or ran as last.
fn kind<'a>(runs: &[&'a Run], calls: &[&'a Call]) -> Option<&'a Kind> {
    let asked = calls.iter().rev().find_map(|call| match &call.command {
        Command::Start { spec, .. } | Command::Update { spec, .. } => Some(&spec.spec().kind),
        _ => None,
    });
    asked.or_else(|| runs.last().map(|run| &run.spec.kind))
}

/// The nodes that are up and say of themselves that they run this kind.
fn able(view: &View<'_>, kind: &str) -> Vec<NodeIdx> {
    let runs_it = |node: &NodeIdx| {
        let name = view.cluster.name(*node);
        let mut own = view.members(*node).iter().filter(|member| *member.name == *name);
        own.any(|member| member.kinds.iter().any(|other| other.as_str() == kind))
    };
    view.cluster.up().into_iter().filter(runs_it).collect()
}

fn is_about(call: &Call, id: &ChildId) -> bool {
    words::child_called(&call.command) == Some(id)
}

fn tell_call(story: &mut Story, cluster: &Cluster, call: &Call) {
    let name = match call.instance {
        Some(instance) => words::life_named(cluster, call.node, instance),
        None => format!("{} (down)", cluster.name(call.node)),
    };
    let answer = match &call.answer {
        Some((at, reply)) => words::answer(reply, at.since(call.called)),
        None if call.cancelled => "had not answered when its user stopped waiting".into(),
        None => "never answered".into(),
    };
    story.tell(call.called, format!("{name} was asked to {} and {answer}.", words::command(&call.command)));
    if let Some((at, reply)) = call.answer.as_ref().filter(|(at, _)| at.since(call.called) > LATE) {
        let called = clock(call.called);
        story.tell(*at, format!("{name} answered the call of {called}: it {}.", words::reply(reply)));
    }
}

fn tell_run(story: &mut Story, view: &View<'_>, run: &Run) {
    let cluster = view.cluster;
    let name = words::life_named(cluster, run.node, run.instance);
    let epoch = run.epoch;
    let up = match (run.started, run.ended) {
        (Some(started), _) => format!("; it was up after {}", short(started.since(run.began))),
        (None, Some(_)) => "; it never came up".into(),
        (None, None) => "; its init has not returned yet".into(),
    };
    let unknown = not_counted(view, run.node, run.began);
    let unknown = match unknown.is_empty() {
        true => String::new(),
        false => {
            let names = words::others(cluster, run.node, run.began, &unknown);
            format!(" (Of those who lived, it did not count {names} among the members.)")
        }
    };
    story.tell(run.began, format!("{name} began to run it as {epoch} ({}){up}.{unknown}", words::spec(&run.spec)));
    if let (Some(at), how) = signal(run) {
        let how = how.map(|how| format!(" ({how:?})")).unwrap_or_default();
        story.tell(at, format!("{name} told its run {epoch} to stop{how}."));
    }
    let (Some(ended), Some(ending)) = (run.ended, &run.ending) else { return };
    let ran = short(ended.since(run.began));
    let how = match ending {
        Ending::Killed => "ended with its process".into(),
        ending => words::ending(ending),
    };
    story.tell(ended, format!("The run {epoch} on {name} {how}, after {ran}."));
}

/// What nodes told about the child beyond its runs, and what happened to them that decides where it may run.
fn tell_events(story: &mut Story, view: &View<'_>, id: &ChildId) {
    for node in view.cluster.nodes() {
        for (_, at, event) in view.events(node) {
            let from_journal = matches!(event, Event::ChildStarted { .. } | Event::ChildExited { .. });
            let (_, about, told) = words::event(view.cluster, event);
            if about.as_ref() == Some(id) && !from_journal {
                story.tell(at, format!("{} {told}.", view.cluster.name(node)));
            }
        }
    }
}

/// Whom the nodes concerned took for members, and when they settled or changed their identity.
fn tell_members(story: &mut Story, view: &View<'_>, nodes: &[NodeIdx]) {
    let cluster = view.cluster;
    for &node in nodes {
        for (_, at, event) in view.events(node) {
            let matters = match event {
                Event::Settled | Event::Rejoined | Event::AddressConflict | Event::NameConflict { .. } => true,
                event => subject(cluster, event).is_some_and(|(other, _)| other != node && nodes.contains(&other)),
            };
            if matters {
                story.context(at, format!("{} {}.", cluster.name(node), words::event(cluster, event).2));
            }
        }
    }
}

fn tell_absence(story: &mut Story, absence: &Absence) {
    let lasting = lasting(absence.from, absence.to);
    let until = absence.to.map(|to| format!(" (until {})", clock(to))).unwrap_or_default();
    story.tell(absence.from, format!("… {lasting}{until} it was desired, but ran nowhere."));
}

fn tell_overlap(story: &mut Story, view: &View<'_>, overlap: &Overlap) {
    let [earlier, later] = [overlap.earlier, overlap.later];
    let [first, second] = [earlier, later].map(|node| view.cluster.name(node));
    let until = overlap.to.map(|to| format!(" until {}", clock(to))).unwrap_or_default();
    let lasting = lasting(overlap.from, overlap.to);
    story.tell(
        overlap.from,
        format!(
            "DUPLICATE: {first} and {second} both ran it from here{until}, {lasting}. {}; {}.",
            opinion(view, later, earlier, overlap.from),
            opinion(view, earlier, later, overlap.from)
        ),
    );
    if let Some(to) = overlap.to {
        story.tell(to, format!("It no longer runs on both {first} and {second}."));
    }
}

/// What one node believed of another, in words.
fn opinion(view: &View<'_>, viewer: NodeIdx, of: NodeIdx, at: Time) -> String {
    let [viewer_name, of_name] = [viewer, of].map(|node| view.cluster.name(node));
    match belief(view, viewer, of, at) {
        _ if viewer == of => format!("both are on {viewer_name}"),
        Belief::Up(since) => format!("{viewer_name} counted {of_name} among the members, since {}", clock(since)),
        Belief::Down(since) => format!("{viewer_name} had declared {of_name} down at {}", clock(since)),
        Belief::Unknown => format!("{viewer_name} did not know {of_name} (in this life of both)"),
    }
}

/// Where it runs in the end, or why not; it may be wanted and run nowhere.
fn ending(view: &View<'_>, is_absent: bool, runs: &[&Run], calls: &[&Call]) -> String {
    let cluster = view.cluster;
    let now = clock(cluster.now());
    let alive: Vec<String> = runs
        .iter()
        .filter(|run| run.is_alive())
        .map(|run| {
            let state = if run.is_running() { "runs" } else { "is starting" };
            format!("{state} on {} as {} since {}", cluster.name(run.node), run.epoch, clock(run.began))
        })
        .collect();
    if !alive.is_empty() {
        return format!("In the end ({now}) it {}.", alive.join(", and it "));
    }
    let last = runs.iter().max_by_key(|run| run.ended);
    let terminated = calls.iter().rev().find(|call| {
        let agreed = matches!(call.answer, Some((_, Reply::Terminated(Ok(())))));
        agreed && matches!(call.command, Command::Terminate { .. })
    });
    let unable = kind(runs, calls).filter(|kind| able(view, kind.as_str()).is_empty());
    let why = match (last, terminated) {
        _ if is_absent && unable.is_some() => "no member runs its kind".into(),
        _ if is_absent => {
            let last = last.map(|run| format!("; its last run, on {}, ended", cluster.name(run.node)));
            format!("though its users asked for it and nobody terminated it{}", last.unwrap_or_default())
        }
        (Some(run), _) if run.is_done() => words::done(run).unwrap_or_default(),
        (_, Some(call)) => format!("it was terminated at {} on {}", clock(call.called), cluster.name(call.node)),
        _ => "nobody's start of it was accepted".into(),
    };
    format!("In the end ({now}) it runs nowhere: {why}.")
}
