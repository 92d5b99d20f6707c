//! Hours or days in the middle of a minute: whatever goes on then lasts that much longer. What happens within seconds is
//! drawn as in any other run; what protocols forget, time out or believe after hours shows only in between.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Act, Scenario, SpecPlan, Timed};
use super::process::Nodes;
use super::{Draw, round};
use crate::network::Class;
use crate::random::{Random, Range};

/// How long the time in between is. Most are short enough to be cheap, and longer than any timeout; the last ones are
/// longer than members are remembered.
const HOURS: [u64; 8] = [1, 1, 2, 4, 6, 26, 26, 50];
/// So many calls come in that time.
const CALLS: usize = 40;

/// The time in between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Long {
    from: Duration,
    lasts: Duration,
}

impl Long {
    pub(super) fn of(draw: &Draw, faults: &BTreeMap<String, f64>) -> Option<Self> {
        faults.get("long")?;
        let mut random = draw.stream("long");
        let from = round(random.duration(Range::new(draw.duration / 4, draw.duration / 4 * 3)));
        let hours = *random.pick(&HOURS).unwrap_or(&1);
        Some(Long { from, lasts: Duration::from_secs(3_600 * hours) })
    }

    /// Whether it is so long that the timings `local` would cost minutes: they probe three times as often as `lan`, and what
    /// is forgotten after a day is forgotten after the same day.
    pub(super) fn is_days(self) -> bool {
        self.lasts > Duration::from_secs(2 * 3_600)
    }

    /// A node that is paused all the while, or a split with nodes on both sides, or both.
    pub(super) fn events(self, draw: &Draw, plan: &mut Nodes) -> Vec<Timed> {
        let mut random = draw.stream("long faults");
        let [before, after] =
            [Range::millis(100, 3_000), Range::millis(100, 5_000)].map(|range| random.duration(range));
        let at = round(self.from.saturating_sub(before));
        let lasting = Some(round(before + after));
        let names = plan.names();
        let (pauses, splits) = *random.pick(&[(true, false), (false, true), (true, true)]).unwrap_or(&(true, true));
        let paused = names[random.below(names.len())].clone();
        let mut events = Vec::new();
        if pauses && plan.take_away(&paused, at, at + before + after) {
            events.push(Timed::new(at, Act::Pause { node: paused, resume: None, lasting }));
        }
        let sides = names.len().min(2) + random.below(names.len().saturating_sub(3).max(1));
        if splits && names.len() > 1 {
            let (one, other) = names.split_at((sides / 2).max(1));
            let sides = vec![one.to_vec(), other.to_vec()];
            events.push(Timed::new(at, Act::Split { sides, class: Default::default(), flap: None, lasting }));
        }
        events
    }

    /// Makes room for the time in between, and lets users call now and then in it.
    pub(super) fn stretch(self, draw: &Draw, children: usize, scenario: &mut Scenario) {
        let mut random = draw.stream("long calls");
        let names: Vec<String> = scenario.nodes().into_iter().map(|node| node.name).collect();
        for timed in &mut scenario.events {
            if timed.at > self.from {
                timed.at += self.lasts;
                continue;
            }
            let left = self.from.saturating_sub(timed.at);
            let may_last = may_last(&timed.act, names.len());
            if let Some(lasting) = timed.act.lasting_mut().filter(|lasting| may_last && **lasting > left) {
                *lasting += self.lasts;
            }
        }
        for node in scenario.cluster.nodes.iter_mut().filter(|node| node.at > self.from) {
            node.at += self.lasts;
        }
        scenario.duration += self.lasts;
        let calls = (0..CALLS).map(|_| self.call(&mut random, &names, children));
        scenario.events.extend(calls);
        scenario.events.sort_by_key(|timed| timed.at);
        let replays = &mut scenario.network.replay_after;
        replays.max = replays.max.max(self.lasts);
    }

    fn call(self, random: &mut Random, names: &[String], children: usize) -> Timed {
        let at = self.from + round(random.duration(Range::new(Duration::ZERO, self.lasts)));
        let on = random.pick(names).cloned().unwrap_or_default();
        let id = format!("child-{}", random.below(children));
        let act = match random.chance(0.5) {
            true => Act::Start { id, on, replicated: 0, spec: SpecPlan::default() },
            false => Act::Terminate { id, on, replicated: 0 },
        };
        Timed::new(at, act)
    }
}

/// Whether a fault may go on for days: whoever is away is forgotten, and sides that can't talk at all come to rest. Where
/// some can talk and others can't, or only sometimes, members come and go for as long as that lasts, which costs minutes of
/// wall time and shows nothing that its first minute has not shown.
fn may_last(act: &Act, nodes: usize) -> bool {
    match act {
        Act::Pause { .. } | Act::Down { .. } => true,
        Act::Split { sides, class: Class::All, flap: None, .. } => sides.concat().len() == nodes,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Goal: a long seed lasts for hours, in which something is wrong and users call, and can be run. Method: of twenty, the
    /// acts that go on for an hour or more, and the calls in between.
    #[test]
    fn in_a_long_seed_faults_last_for_hours_and_users_call_meanwhile() {
        let drawn = |seed| {
            let faults = BTreeMap::from([("long".to_owned(), 1.0)]);
            Draw { faults, ..Draw::seeded(seed) }.scenario()
        };
        let mut lasted = 0;
        for scenario in (0..20).map(drawn) {
            assert_eq!(scenario.check(), Ok(()));
            assert!(scenario.duration > HOUR && scenario.network.replay_after.max >= HOUR);
            let later = |timed: &&Timed| timed.at > Duration::from_secs(60) && timed.at + HOUR / 2 < scenario.duration;
            assert!(scenario.events.iter().filter(later).any(|timed| timed.act.is_call()));
            let lasts = |timed: &Timed| timed.act.lasting().is_some_and(|lasting| lasting >= HOUR);
            lasted += usize::from(scenario.events.iter().any(lasts));
        }
        assert!(lasted >= 15, "in {lasted} of 20");
    }
}
