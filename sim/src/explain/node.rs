//! The story of one node.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use haulout::Event;
use haulout::proto::{Command, Time};

use super::Story;
use super::beliefs::subject;
use crate::NodeIdx;
use crate::cluster::Cluster;
use crate::figures::short;
use crate::history::scope_of;
use crate::journal::{Ending, Run};
use crate::words;

/// Runs that begin or end within this time of the first of them are told together.
const TOGETHER: Duration = Duration::from_millis(500);

/// The story of one node, in plain sentences: its lives, the faults that touched it, whom it took for members and who
/// took it for one, and what it ran.
pub fn node(cluster: &Cluster, node: NodeIdx) -> String {
    let mut text = format!("The story of {} (seed {})\n\n", cluster.name(node), cluster.options().seed);
    let mut story = Story::between(Time::ZERO, cluster.now());
    story.tell_lives(cluster, &[node]);
    story.tell_faults(cluster, &[node]);
    tell_own_events(&mut story, cluster, node);
    tell_opinions(&mut story, cluster, node);
    tell_calls(&mut story, cluster, node);
    tell_runs(&mut story, cluster, node);
    tell_duplicates(&mut story, cluster, node);
    story.write(&mut text);
    let runs = cluster.journal().alive().filter(|run| run.node == node).count();
    let members = cluster.members(node).len();
    let state = format!("{:?}", cluster.state(node)).to_lowercase();
    let _ = writeln!(
        text,
        "\nIn the end ({}) it is {state}, runs {runs} children and counts {members} members.",
        words::clock(cluster.now())
    );
    text
}

/// What it told, but for what its runs and their overlaps say.
fn tell_own_events(story: &mut Story, cluster: &Cluster, node: NodeIdx) {
    for (at, scope, event) in cluster.events(node) {
        let told_by_runs = matches!(
            event,
            Event::ChildStarted { .. }
                | Event::ChildExited { .. }
                | Event::ChildStartFailed { .. }
                | Event::DuplicateResolved { .. }
        );
        if !told_by_runs {
            let scope = words::in_scope(cluster, *scope);
            story.tell(*at, format!("It {}{scope}.", words::event(cluster, event).2));
        }
    }
}

/// Who saw it come and go.
fn tell_opinions(story: &mut Story, cluster: &Cluster, node: NodeIdx) {
    for viewer in cluster.nodes().filter(|viewer| *viewer != node) {
        for (at, scope, event) in cluster.events(viewer) {
            if subject(cluster, event).is_some_and(|(about, _)| about == node) {
                let (name, scope) = (cluster.name(viewer), words::in_scope(cluster, *scope));
                story.tell(*at, format!("{name} {}{scope}.", words::event(cluster, event).2));
            }
        }
    }
}

/// The calls on the node itself, and how many there were about children.
fn tell_calls(story: &mut Story, cluster: &Cluster, node: NodeIdx) {
    for call in cluster.history().calls.iter().filter(|call| call.node == node) {
        let answer = match &call.answer {
            Some((at, reply)) => words::answer(reply, at.since(call.called)),
            None => "never answered".into(),
        };
        // The checks look at the listing again and again.
        if !matches!(call.command, Command::WhichChildren { .. }) {
            let asked = words::command(&call.command);
            let about = scope_of(&call.command).filter(|_| !matches!(call.command, Command::JoinScope(_)));
            let scope = about.map(|scope| words::in_scope(cluster, scope)).unwrap_or_default();
            story.tell(call.called, format!("It was asked to {asked}{scope} and {answer}."));
        }
    }
}

/// A run that began or ended.
struct Change<'a> {
    at: Time,
    run: &'a Run,
    did: Did,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Did {
    Began,
    Stopped,
    EndedItself,
    Failed,
}

/// Its runs: what began and ended at about the same time in one line for each.
fn tell_runs(story: &mut Story, cluster: &Cluster, node: NodeIdx) {
    let mut changes = Vec::new();
    for run in cluster.journal().runs().iter().filter(|run| run.node == node) {
        changes.push(Change { at: run.began, run, did: Did::Began });
        let did = match &run.ending {
            // Told with the life that ended.
            None | Some(Ending::Killed) => continue,
            Some(Ending::Declined) => Did::Failed,
            Some(Ending::Exited(outcome)) if outcome.error().is_some() => Did::Failed,
            Some(Ending::Exited(haulout::Outcome::Success)) => Did::EndedItself,
            Some(Ending::Exited(_)) => Did::Stopped,
        };
        changes.extend(run.ended.map(|at| Change { at, run, did }));
    }
    changes.sort_by_key(|change| (change.did, change.at));
    let together = |a: &Change<'_>, b: &Change<'_>| a.did == b.did && b.at.since(a.at) <= TOGETHER;
    for group in changes.chunk_by(together) {
        let ids: BTreeSet<String> =
            group.iter().map(|change| words::child_in(cluster, change.run.scope, &change.run.id)).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let did = match group[0].did {
            Did::Began => "began to run",
            Did::Stopped => "stopped",
            Did::EndedItself => "saw the success of",
            Did::Failed => "saw the failure of",
        };
        let span = group[group.len() - 1].at.since(group[0].at);
        let over = if span.is_zero() { String::new() } else { format!(" within {}", short(span)) };
        story.tell(group[0].at, format!("It {did} {}{over}.", words::list(&ids)));
    }
}

/// What ran here and elsewhere: what began at about the same time in one line.
fn tell_duplicates(story: &mut Story, cluster: &Cluster, node: NodeIdx) {
    let mut overlaps = cluster.journal().overlaps();
    overlaps.retain(|overlap| overlap.earlier == node || overlap.later == node);
    for group in overlaps.chunk_by(|a, b| b.from.since(a.from) <= TOGETHER) {
        let ids = group.iter().map(|overlap| words::child_in(cluster, overlap.scope, &overlap.id));
        let ids: BTreeSet<String> = ids.collect();
        let elsewhere: BTreeSet<NodeIdx> =
            group.iter().map(|it| if it.earlier == node { it.later } else { it.earlier }).collect();
        let elsewhere: Vec<NodeIdx> = elsewhere.into_iter().collect();
        let longest = group.iter().map(|overlap| overlap.lasted(cluster.now())).max().unwrap_or_default();
        story.tell(
            group[0].from,
            format!(
                "DUPLICATE: {} ran here and on {}, for up to {}.",
                words::list(&ids.iter().map(String::as_str).collect::<Vec<_>>()),
                words::others(cluster, node, group[0].from, &elsewhere),
                short(longest)
            ),
        );
    }
}
