//! A scenario as the steps by which it is played on processes, each with its time.

use std::time::Duration;

use haulout_sim::Scenario;
use haulout_sim::scenario::{Act, How};

use super::links::{Links, links};

/// Something that is done at a certain time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// A node goes.
    Go(String, How),
    /// A host that has lost its node gets another address.
    Readdress(String),
    /// A node that went comes back.
    Back(String),
    Pause(String),
    Resume(String),
    /// The links are like this from now on.
    Links(Links),
    /// A user asks a node to start a child.
    Start {
        id: String,
        on: String,
    },
    /// A user asks a node to terminate a child.
    Terminate {
        id: String,
        on: String,
    },
}

impl Step {
    /// Whether it begins or ends a fault.
    pub(crate) fn is_fault(&self) -> bool {
        !matches!(self, Step::Start { .. } | Step::Terminate { .. })
    }
}

/// Everything that happens until the time of the scenario is over, in order.
///
/// # Errors
/// What can't be done to a process.
pub(crate) fn steps(scenario: &Scenario) -> Result<Vec<(Duration, Step)>, String> {
    let nodes: Vec<String> = scenario.nodes().into_iter().map(|node| node.name).collect();
    let mut steps = Vec::new();
    for timed in &scenario.events {
        match steps_of(&timed.act, timed.at, &nodes) {
            Some(more) => steps.extend(more),
            None if timed.act.about_a_process() => return Err(impossible(&timed.act)),
            None => {}
        }
    }
    steps.extend(link_steps(scenario, &nodes)?);
    steps.retain(|(at, _)| *at < scenario.duration);
    steps.sort_by_key(|(at, _)| *at);
    Ok(steps)
}

fn impossible(act: &Act) -> String {
    match act {
        Act::SetWallClock { .. } => "all processes of a machine share its wall clock".into(),
        Act::JumpClock { .. } => "a time namespace is given its clock before its first process, and never again".into(),
        other => format!("nobody has written how a process does {other:?}"),
    }
}

/// What is done to processes and by users; `None` if it is about something else.
fn steps_of(act: &Act, at: Duration, nodes: &[String]) -> Option<Vec<(Duration, Step)>> {
    let away = |node: &String, how: How, at: Duration, lasting: Option<Duration>| {
        let back = lasting.map(|lasting| (at + lasting, Step::Back(node.clone())));
        [Some((at, Step::Go(node.clone(), how))), back].into_iter().flatten()
    };
    Some(match act {
        Act::Start { id, on, .. } => vec![(at, Step::Start { id: id.clone(), on: on.clone() })],
        Act::Terminate { id, on, .. } => vec![(at, Step::Terminate { id: id.clone(), on: on.clone() })],
        Act::StartMany { id, on, count, .. } => {
            (0..*count).map(|number| (at, Step::Start { id: format!("{id}-{number}"), on: on.clone() })).collect()
        }
        Act::TerminateMany { id, on, count } => {
            (0..*count).map(|number| (at, Step::Terminate { id: format!("{id}-{number}"), on: on.clone() })).collect()
        }
        Act::Storm { id, on, count, every, .. } => {
            let calls = (0..*count).zip(on.iter().cycle()).map(|(number, on)| {
                let (id, on) = (id.clone(), on.clone());
                let call = if number % 2 == 0 { Step::Start { id, on } } else { Step::Terminate { id, on } };
                (at + *every * number as u32, call)
            });
            calls.collect()
        }
        Act::Down { node, how, lasting } => away(node, *how, at, *lasting).collect(),
        Act::Readdress { node, lasting } => {
            let mut steps: Vec<_> = away(node, How::Crash, at, *lasting).collect();
            steps.insert(1, (at, Step::Readdress(node.clone())));
            steps
        }
        Act::Rolling { how, every, lasting } => {
            let begins = (0..).map(|order| at + (*every + *lasting) * order);
            nodes.iter().zip(begins).flat_map(|(node, at)| away(node, *how, at, Some(*lasting))).collect()
        }
        Act::RestartAll { how, lasting } => {
            nodes.iter().flat_map(|node| away(node, *how, at, Some(*lasting))).collect()
        }
        Act::Pause { node, lasting, .. } => {
            let resumed = lasting.map(|lasting| (at + lasting, Step::Resume(node.clone())));
            [Some((at, Step::Pause(node.clone()))), resumed].into_iter().flatten().collect()
        }
        _ => return None,
    })
}

/// What the links are like, from each time at which that changes.
fn link_steps(scenario: &Scenario, nodes: &[String]) -> Result<Vec<(Duration, Step)>, String> {
    let faults: Vec<(Duration, Option<Duration>, &Act)> = scenario
        .events
        .iter()
        .filter(|timed| steps_of(&timed.act, timed.at, nodes).is_none())
        .map(|timed| (timed.at, timed.act.lasting().map(|lasting| timed.at + lasting), &timed.act))
        .collect();
    let mut times: Vec<Duration> = faults.iter().flat_map(|(from, to, _)| [Some(*from), *to]).flatten().collect();
    times.sort();
    times.dedup();
    let at = |time: Duration| {
        let active = faults.iter().filter(|(from, to, _)| *from <= time && to.is_none_or(|to| time < to));
        let acts: Vec<&Act> = active.map(|(_, _, act)| *act).collect();
        Ok((time, Step::Links(links(&acts, nodes)?)))
    };
    times.into_iter().map(at).collect()
}
