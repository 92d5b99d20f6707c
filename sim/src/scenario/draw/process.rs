//! The nodes of a random scenario: what each is like, when it goes and comes back.

use std::collections::BTreeMap;
use std::time::Duration;

use haulout::Config;

use super::super::{Act, How, NodePlan, Timed};
use super::{Draw, lasting, round, times};
use crate::cluster::Resume;
use crate::random::{Random, Range};

/// How many nodes may join beside the first ones.
const NEWCOMERS_MAX: usize = 3;
/// A restart that is over before failure detection could notice.
const FAST_RESTART: Range = Range::millis(1, 200);
/// A year, in milliseconds.
const YEAR_MS: u64 = 31_557_600_000;

/// A plan of the nodes, and a model of who is away when.
pub(super) struct Nodes {
    plans: Vec<NodePlan>,
    events: Vec<Timed>,
    /// Which node is away from when to when.
    away: Vec<(usize, Duration, Duration)>,
    seeds: usize,
    leave_timeout: Duration,
}

impl Nodes {
    pub(super) fn new(draw: &Draw, faults: &BTreeMap<String, f64>, count: usize, config: &Config) -> Self {
        let mut start = draw.stream("first starts");
        let stagger = if start.chance(0.5) { Range::ZERO } else { Range::millis(0, 1_500 * count.min(8) as u64) };
        let mut nodes = Nodes {
            plans: (0..count).map(|number| plan(draw, faults, &format!("node-{number}"), number)).collect(),
            events: Vec::new(),
            away: Vec::new(),
            seeds: 2.min(count),
            leave_timeout: config.leave_timeout,
        };
        for plan in nodes.plans.iter_mut().skip(1) {
            plan.at = round(start.duration(stagger)).min(draw.duration);
        }
        nodes.join(draw, faults);
        nodes.go(draw, faults);
        nodes.clocks(draw, faults);
        nodes
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.plans.iter().map(|plan| plan.name.clone()).collect()
    }

    pub(super) fn plans(&self) -> Vec<NodePlan> {
        self.plans.clone()
    }

    pub(super) fn events(&mut self) -> Vec<Timed> {
        std::mem::take(&mut self.events)
    }

    /// The nodes that are up at a time, as far as the plan goes.
    pub(super) fn up(&self, at: Duration) -> Vec<&str> {
        let is_away = |node: usize| self.away.iter().any(|&(away, from, to)| away == node && from <= at && at < to);
        let up = self.plans.iter().enumerate().filter(|(node, plan)| plan.at <= at && !is_away(*node));
        up.map(|(_, plan)| plan.name.as_str()).collect()
    }

    /// One more node, that joins then; its name.
    pub(super) fn newcomer(&mut self, draw: &Draw, faults: &BTreeMap<String, f64>, name: &str, at: Duration) -> String {
        let mut plan = plan(draw, faults, &format!("newcomer-{name}"), self.plans.len());
        plan.at = at.min(draw.duration);
        let name = plan.name.clone();
        self.plans.push(plan);
        name
    }

    /// Takes a node away for this time, if that leaves enough others.
    pub(super) fn take_away(&mut self, name: &str, from: Duration, to: Duration) -> bool {
        let node = self.plans.iter().position(|plan| plan.name == name);
        let may = node.is_some_and(|node| self.may_go(node, from, to));
        self.away.extend(node.filter(|_| may).map(|node| (node, from, to)));
        may
    }

    fn join(&mut self, draw: &Draw, faults: &BTreeMap<String, f64>) {
        let Some(&rate) = faults.get("join") else { return };
        let mut random = draw.stream("fault join");
        for (number, at) in times(&mut random, rate, draw.duration).into_iter().take(NEWCOMERS_MAX).enumerate() {
            let node = self.plans.len();
            let mut plan = plan(draw, faults, &format!("newcomer-{number}"), node);
            plan.at = at;
            self.plans.push(plan);
        }
    }

    /// Draws every fault by itself, then takes those that leave enough nodes, in order of time.
    fn go(&mut self, draw: &Draw, faults: &BTreeMap<String, f64>) {
        let mut wanted = Vec::new();
        for name in ["crash", "fast-restart", "power", "pause", "slow", "leave", "rolling", "restart-all", "twin"] {
            let Some(&rate) = faults.get(name) else { continue };
            let mut random = draw.stream(&format!("fault {name}"));
            for at in times(&mut random, rate, draw.duration) {
                let node = random.below(self.plans.len());
                let lasts = lasting(&mut random);
                wanted.push((at, node, self.act(name, node, lasts, &mut random)));
            }
        }
        wanted.sort_by_key(|(at, ..)| *at);
        for (at, node, act) in wanted {
            let (until, whole) = match &act {
                Act::Down { how: How::Leave, lasting, .. } => {
                    (at + self.leave_timeout * 2 + lasting.unwrap_or_default(), false)
                }
                Act::Down { lasting, .. } | Act::Pause { lasting, .. } | Act::Twin { lasting, .. } => {
                    (at + lasting.unwrap_or_default(), false)
                }
                Act::Rolling { every, lasting, .. } => (at + (*every + *lasting) * self.plans.len() as u32, true),
                Act::RestartAll { lasting, .. } => (at + *lasting, true),
                _ => (at, false),
            };
            let may = if whole { self.away.iter().all(|&(_, _, to)| to <= at) } else { self.may_go(node, at, until) };
            if may && whole {
                self.away.extend((0..self.plans.len()).map(|node| (node, at, until)));
            } else if may && until > at {
                self.away.push((node, at, until));
            }
            if may {
                self.events.push(Timed::new(at, act));
            }
        }
    }

    fn act(&self, fault: &str, node: usize, lasts: Duration, random: &mut Random) -> Act {
        let node = self.plans[node].name.clone();
        let short = round(random.duration(FAST_RESTART));
        let how = *random.pick(&[How::Leave, How::Leave, How::Crash]).unwrap_or(&How::Leave);
        let gap = round(random.duration(Range::millis(500, 4_000)));
        match fault {
            "crash" => Act::Down { node, how: How::Crash, lasting: Some(lasts) },
            "fast-restart" => Act::Down { node, how: How::Crash, lasting: Some(short) },
            "power" => Act::Down { node, how: How::Power, lasting: Some(lasts) },
            "leave" => Act::Down { node, how: How::Leave, lasting: Some(lasts) },
            "pause" => {
                let resume =
                    *random.pick(&[Resume::PacketsFirst, Resume::TimersFirst]).unwrap_or(&Resume::PacketsFirst);
                Act::Pause { node, resume: Some(resume), lasting: Some(lasts) }
            }
            "slow" => {
                let most = round(random.duration(Range::millis(5, 500)));
                Act::Slow { node, by: Range::new(Duration::ZERO, most), lasting: Some(lasts) }
            }
            "rolling" => Act::Rolling { how, every: gap, lasting: short.max(Duration::from_millis(20)) },
            "restart-all" => {
                Act::RestartAll { how: if how == How::Leave { How::Crash } else { How::Power }, lasting: lasts }
            }
            _ => Act::Twin { node, lasting: Some(lasts) },
        }
    }

    /// Two nodes stay up, so that there is somebody to remember, and one seed does: whoever starts while there is none
    /// can only settle apart, which is no fault of the library.
    fn may_go(&self, node: usize, from: Duration, to: Duration) -> bool {
        let busy = |node: usize| self.away.iter().any(|&(away, a, b)| away == node && a < to && from < b);
        let stays = |other: &usize| *other != node && self.plans[*other].at < from && !busy(*other);
        let staying: Vec<usize> = (0..self.plans.len()).filter(stays).collect();
        let here = self.plans[node].at < from && !busy(node);
        here && staying.len() >= 2 && staying.iter().any(|&other| other < self.seeds)
    }

    fn clocks(&mut self, draw: &Draw, faults: &BTreeMap<String, f64>) {
        for name in ["wall-step", "clock-jump"] {
            if !faults.contains_key(name) {
                continue;
            }
            let mut random = draw.stream(&format!("fault {name}"));
            for at in times(&mut random, 2.0, draw.duration) {
                let node = self.plans[random.below(self.plans.len())].name.clone();
                let by = lasting(&mut random);
                let signed = far(&mut random);
                let act = match name {
                    "wall-step" => Act::SetWallClock { node, by_ms: signed },
                    _ => Act::JumpClock { node, by },
                };
                self.events.push(Timed::new(at, act));
            }
        }
    }
}

/// What a node is like, from a stream of its own.
fn plan(draw: &Draw, faults: &BTreeMap<String, f64>, name: &str, number: usize) -> NodePlan {
    let mut random = Random::numbered(draw.seed, "node", number as u64);
    let weight = *random.pick(&[100, 100, 100, 50, 300]).unwrap_or(&100);
    let (special, offset, drift) = (random.chance(0.5), far(&mut random), random.below(4_001) as i32 - 2_000);
    let ahead = round(random.duration(Range::millis(0, 100_000_000)));
    let mut plan = NodePlan::named(name);
    if draw.profile != super::Profile::Rest {
        plan.weight = weight;
    }
    if faults.contains_key("mixed-kinds") && !special {
        plan.kinds = ["steady", "job", "flaky", "slow", "stubborn", "picky", "fleeting", "hanging", super::plots::KIND]
            .map(String::from)
            .to_vec();
    }
    if faults.contains_key("mixed-labels") {
        plan.labels = [("zone".to_owned(), if number.is_multiple_of(2) { "even" } else { "odd" }.to_owned())].into();
    }
    if faults.contains_key("offset") {
        plan.wall_offset_ms = offset;
        plan.clock_ahead = Some(ahead);
    }
    if faults.contains_key("drift") {
        plan.drift_ppm = drift;
    }
    plan
}

/// Milliseconds by which a clock is wrong: seconds, days or years, either way.
fn far(random: &mut Random) -> i64 {
    let most = *random.pick(&[10_000, 86_400_000, 5 * YEAR_MS]).unwrap_or(&10_000);
    random.below(2 * most as usize) as i64 - most as i64
}
