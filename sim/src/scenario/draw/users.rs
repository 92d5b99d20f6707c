//! What users call.

use std::collections::BTreeMap;
use std::time::Duration;

use haulout::{Key, Restart, Shutdown};
use twox_hash::XxHash3_64;

use super::super::{Act, SpecPlan, Timed};
use super::process::Nodes;
use super::{Draw, Profile, round, times};
use crate::random::{Random, Range};

/// How often each id is called about on average.
const CALLS_PER_CHILD: usize = 4;

/// The ids that are in use.
pub(super) struct Ids<'a> {
    pub(super) count: usize,
    pub(super) faults: &'a BTreeMap<String, f64>,
}

/// Everything that users call.
pub(super) fn events(draw: &Draw, ids: &Ids<'_>, nodes: &Nodes) -> Vec<Timed> {
    let mut events = match draw.profile {
        Profile::Rest => starts(draw, ids, nodes),
        _ => daily_life(draw, ids, nodes),
    };
    for name in ["conflict", "storm", "churn", "bulk", "huge-spec"] {
        let Some(&rate) = ids.faults.get(name) else { continue };
        let mut random = draw.stream(&format!("users {name}"));
        for at in times(&mut random, rate, draw.duration) {
            unusual(name, at, ids, nodes, &mut random, &mut events);
        }
    }
    events.extend(rotations(draw, ids, nodes));
    events.retain(|timed| timed.at <= draw.duration);
    events
}

/// One rotation after the other, each through before the next begins.
fn rotations(draw: &Draw, ids: &Ids<'_>, nodes: &Nodes) -> Vec<Timed> {
    let Some(&rate) = ids.faults.get("rotation") else { return Vec::new() };
    let mut random = draw.stream("users rotation");
    let mut through = Duration::ZERO;
    let mut events = Vec::new();
    for at in times(&mut random, rate, draw.duration) {
        let every = round(random.duration(Range::millis(1, 500)));
        let to = key(&mut random);
        if at >= through {
            through = at + every * (3 * nodes.names().len() as u32 + 3);
            events.push(Timed::new(at, Act::Rotate { to, every }));
        }
    }
    events
}

/// A key, as random as everything here.
pub(super) fn key(random: &mut Random) -> Key {
    Key::new(std::array::from_fn(|_| random.bits() as u8))
}

/// Every child is started once, early on; nothing else.
fn starts(draw: &Draw, ids: &Ids<'_>, nodes: &Nodes) -> Vec<Timed> {
    let mut random = draw.stream("users");
    let mut at = Duration::from_secs(3).min(draw.duration / 4);
    let gap = draw.duration / 4 / (ids.count as u32).max(1);
    let mut events = Vec::new();
    for child in 0..ids.count {
        let id = format!("child-{child}");
        let on = one_of(&mut random, &nodes.up(at));
        events.push(Timed::new(at, Act::Start { replicated: 0, spec: SpecPlan::default(), id, on }));
        at += gap;
    }
    events
}

fn daily_life(draw: &Draw, ids: &Ids<'_>, nodes: &Nodes) -> Vec<Timed> {
    let mut random = draw.stream("users");
    let rate = 60.0 * (ids.count * CALLS_PER_CHILD) as f64 / draw.duration.as_secs_f64().max(1.0);
    let mut events = Vec::new();
    for at in times(&mut random, rate, draw.duration) {
        let up = nodes.up(at);
        let (on, other) = (one_of(&mut random, &up), one_of(&mut random, &up));
        let id = format!("child-{}", random.below(ids.count));
        let variants = [random.below(2), random.below(2)].map(|variant| ids.spec(&id, variant));
        let soon = at + round(random.duration(Range::millis(0, 500)));
        let [spec, another] = variants;
        match random.below(20) {
            0..10 => {
                events.push(Timed::new(at, Act::Start { replicated: 0, id: id.clone(), on: on.clone(), spec }));
                events.push(Timed::new(soon, Act::Read { id, on }));
            }
            10..16 => events.push(Timed::new(at, Act::Terminate { id, on, replicated: 0 })),
            16..18 => events.push(Timed::new(at, Act::Update { id, on, replicated: 0, spec })),
            // The same id from two nodes at once, with equal or different specs.
            _ => {
                events.push(Timed::new(at, Act::Start { replicated: 0, id: id.clone(), on, spec }));
                events.push(Timed::new(at, Act::Start { replicated: 0, id, on: other, spec: another }));
            }
        }
    }
    events
}

/// What users seldom do.
fn unusual(name: &str, at: Duration, ids: &Ids<'_>, nodes: &Nodes, random: &mut Random, events: &mut Vec<Timed>) {
    let up = nodes.up(at);
    let (on, other) = (one_of(random, &up), one_of(random, &up));
    let id = format!("child-{}", random.below(ids.count));
    let count = random.between(3, 30);
    let every = round(random.duration(Range::millis(1, 200)));
    let unique = format!("{name}-{}", at.as_micros());
    let mut push = |after: Duration, act: Act| events.push(Timed::new(at + after, act));
    match name {
        // Terminated on one node, started and updated on another, all within a few messages.
        "conflict" => {
            push(Duration::ZERO, Act::Start { replicated: 0, spec: ids.spec(&id, 0), id: id.clone(), on: on.clone() });
            push(every, Act::Terminate { id: id.clone(), on: other.clone(), replicated: 0 });
            push(every, Act::Update { spec: ids.spec(&id, 1), id: id.clone(), on: on.clone(), replicated: 0 });
            push(every * 2, Act::Start { replicated: 0, spec: ids.spec(&id, 1), id: id.clone(), on: other });
            push(every * 2, Act::Terminate { id, on, replicated: 0 });
        }
        "storm" => push(Duration::ZERO, Act::Storm { spec: ids.spec(&id, 0), id, on: vec![on, other], count, every }),
        "churn" => {
            for number in 0..count as u32 {
                let id = format!("{unique}-{number}");
                push(
                    every * number,
                    Act::Start { replicated: 0, spec: ids.spec(&id, 0), id: id.clone(), on: on.clone() },
                );
                push(every * (number + 3), Act::Terminate { id, on: other.clone(), replicated: 0 });
            }
        }
        "bulk" => {
            let spec = SpecPlan::default();
            push(Duration::ZERO, Act::StartMany { id: unique.clone(), on, count: count * 10, spec });
            push(Duration::from_secs(5), Act::TerminateMany { id: unique, on: other, count: count * 10 });
        }
        _ => {
            let spec = SpecPlan { bytes: random.between(1_000, 60_000), ..SpecPlan::default() };
            push(Duration::ZERO, Act::Start { replicated: 0, id: unique.clone(), on, spec });
            push(Duration::from_secs(10), Act::Terminate { id: unique, on: other, replicated: 0 });
        }
    }
}

fn one_of(random: &mut Random, names: &[&str]) -> String {
    (*random.pick(names).unwrap_or(&"node-0")).to_owned()
}

impl Ids<'_> {
    /// The spec of an id: its kind and policies follow from the id, so that a variant differs in its arguments only.
    fn spec(&self, id: &str, variant: usize) -> SpecPlan {
        let has = |name: &str| self.faults.contains_key(name);
        let number = XxHash3_64::oneshot(id.as_bytes()) % 12;
        let (kind, restart, shutdown) = match number {
            0 => ("job", Restart::Transient, Shutdown::default()),
            1 if has("fail-start") || has("panic") || has("exit") => ("flaky", Restart::Permanent, Shutdown::default()),
            2 if has("slow-stop") => ("slow", Restart::Permanent, Shutdown::default()),
            3 if has("mixed-kinds") => ("special", Restart::Permanent, Shutdown::default()),
            4 if has("ignore-stop") => ("stubborn", Restart::Permanent, Shutdown::Timeout(Duration::from_millis(300))),
            5 if has("decline") => ("picky", Restart::Permanent, Shutdown::default()),
            6 if has("temporary") => ("fleeting", Restart::Temporary, Shutdown::default()),
            9 if has("hang-start") => ("hanging", Restart::Permanent, Shutdown::default()),
            7 => ("steady", Restart::Permanent, Shutdown::Brutal),
            8 => ("steady", Restart::Permanent, Shutdown::Infinity),
            _ => ("steady", Restart::Permanent, Shutdown::default()),
        };
        let mut node_selector = BTreeMap::new();
        if has("mixed-labels") && XxHash3_64::oneshot_with_seed(1, id.as_bytes()).is_multiple_of(3) {
            // Other arguments may be wanted elsewhere.
            let zone = if variant.is_multiple_of(2) { "even" } else { "odd" };
            node_selector.insert("zone".into(), zone.into());
        }
        SpecPlan { kind: kind.into(), args: variant.to_string(), bytes: 0, restart, shutdown, node_selector }
    }
}
