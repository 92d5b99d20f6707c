//! Shrinks a scenario for as long as it does what it did: delta debugging over its events, then over everything else
//! that is not as simple as it could be.

use std::time::Duration;

use crate::network::Link;
use crate::random::Range;
use crate::scenario::{ClusterPlan, EndPlan, NodePlan, Scenario};

/// Shrinks a scenario. `fails` says whether a smaller one still does what the first one did; `more` whether there is
/// time to go on.
pub fn minimise(scenario: &Scenario, fails: impl FnMut(&Scenario) -> bool, more: impl FnMut() -> bool) -> Scenario {
    let mut search = Search { best: scenario.clone(), fails, more };
    loop {
        let before = search.best.clone();
        search.fewer_events();
        search.fewer_nodes();
        search.simpler();
        search.shorter();
        if search.best == before || !(search.more)() {
            return search.best;
        }
    }
}

impl Scenario {
    /// Nobody joins a scope any more.
    fn leave_out(&mut self, scope: &str) {
        self.cluster.scopes.retain(|name| name != scope);
        self.cluster.nodes.iter_mut().filter_map(|node| node.scopes.as_mut()).for_each(|scopes| {
            scopes.remove(scope);
        });
    }
}

struct Search<F, M> {
    best: Scenario,
    fails: F,
    more: M,
}

impl<F: FnMut(&Scenario) -> bool, M: FnMut() -> bool> Search<F, M> {
    /// Takes a smaller scenario if it can be run and still fails.
    fn try_change(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        if !(self.more)() {
            return false;
        }
        let mut smaller = self.best.clone();
        change(&mut smaller);
        let better = smaller != self.best && smaller.check().is_ok() && (self.fails)(&smaller);
        if better {
            self.best = smaller;
        }
        better
    }

    /// Takes out runs of events, long ones first.
    fn fewer_events(&mut self) {
        let mut size = self.best.events.len().div_ceil(2);
        while size > 0 {
            let mut from = 0;
            while from < self.best.events.len() {
                let to = (from + size).min(self.best.events.len());
                if !self.try_change(|scenario| drop(scenario.events.drain(from..to))) {
                    from = to;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    fn fewer_nodes(&mut self) {
        for node in self.best.nodes().into_iter().rev() {
            self.try_change(|scenario| {
                let nodes = scenario.nodes().into_iter().filter(|other| other.name != node.name);
                scenario.cluster.nodes = nodes.collect();
                scenario.cluster.count = 0;
                scenario.events.retain(|timed| !timed.act.nodes().contains(&node.name.as_str()));
                let end = &mut scenario.end;
                end.stay_down.retain(|name| *name != node.name);
                end.cut_off.retain(|name| *name != node.name);
                end.leave.take_if(|name| *name == node.name);
            });
        }
    }

    /// Puts everything that can be at its default there, all at once or one by one.
    fn simpler(&mut self) {
        self.try_change(|scenario| scenario.network = Link::default());
        let zero: [fn(&mut Link); 10] = [
            |link| link.loss = 0.0,
            |link| link.burst_loss = 0.0,
            |link| link.tail = 0.0,
            |link| link.duplicate = 0.0,
            |link| link.replay = 0.0,
            |link| link.corrupt = 0.0,
            |link| link.truncate = 0.0,
            |link| link.reset = 0.0,
            |link| link.bandwidth = None,
            |link| link.delay = Link::default().delay,
        ];
        for zero in zero {
            self.try_change(|scenario| zero(&mut scenario.network));
        }
        self.try_change(|scenario| scenario.end = EndPlan { heal: scenario.end.heal, ..EndPlan::default() });
        self.try_change(|scenario| scenario.end.join = None);
        self.try_change(|scenario| scenario.end.leave = None);
        self.try_change(|scenario| scenario.end.cut_off.clear());
        self.try_change(|scenario| scenario.end.stay_down.clear());
        for scope in self.best.cluster.scopes.clone() {
            self.try_change(|scenario| {
                scenario.events.retain(|timed| timed.scope != scope);
                scenario.leave_out(&scope);
            });
            self.try_change(|scenario| {
                scenario.events.iter_mut().filter(|timed| timed.scope == scope).for_each(|timed| timed.scope.clear());
                scenario.leave_out(&scope);
            });
        }
        self.try_change(|scenario| scenario.cluster.startup = 0);
        self.try_change(|scenario| scenario.cluster.timer_lateness = Range::ZERO);
        self.try_change(|scenario| scenario.cluster.resume = ClusterPlan::default().resume);
        self.try_change(|scenario| scenario.kinds.clear());
        for kind in self.best.kinds.clone().into_keys() {
            self.try_change(|scenario| {
                scenario.kinds.remove(&kind);
            });
        }
        for site in self.best.cluster.sites.clone().into_keys() {
            self.try_change(|scenario| {
                scenario.cluster.sites.remove(&site);
            });
        }
        for number in 0..self.best.cluster.nodes.len() {
            self.try_change(|scenario| {
                let node = &mut scenario.cluster.nodes[number];
                *node = NodePlan { at: node.at, kinds: node.kinds.clone(), ..NodePlan::named(node.name.clone()) };
            });
            self.try_change(|scenario| scenario.cluster.nodes[number].at = Duration::ZERO);
        }
    }

    /// Halves how long faults last, and ends soon after the last event.
    fn shorter(&mut self) {
        for number in 0..self.best.events.len() {
            let halve = |scenario: &mut Scenario| {
                if let Some(lasting) = scenario.events[number].act.lasting_mut() {
                    *lasting = Duration::from_millis((*lasting / 2).as_millis() as u64).max(Duration::from_millis(1));
                }
            };
            while self.try_change(halve) {}
        }
        let last = self.best.events.iter().map(|timed| timed.at + timed.act.lasting().unwrap_or_default()).max();
        let end = last.unwrap_or_default().max(Duration::from_secs(1));
        self.try_change(|scenario| scenario.duration = end.min(scenario.duration));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Act, Draw, Profile};

    /// Goal: what matters stays, everything else goes. Method: a failure that needs one crash and one start of one
    /// child, in a scenario with hundreds of events.
    #[test]
    fn only_what_the_failure_needs_is_left() {
        let scenario = Draw { profile: Profile::Storm, nodes: Some(6), ..Draw::seeded(2) }.scenario();
        let crash = scenario.events.iter().find(|timed| matches!(timed.act, Act::Down { .. })).cloned();
        let crash = crash.expect("a storm has crashes");
        let start = scenario.events.iter().find(|timed| matches!(timed.act, Act::Start { .. })).cloned();
        let start = start.expect("users start children");
        let same = |one: &Act, other: &Act| one.nodes() == other.nodes() && one.child() == other.child();
        let fails = |scenario: &Scenario| {
            let has = |wanted: &Act| scenario.events.iter().any(|timed| same(&timed.act, wanted));
            has(&crash.act) && has(&start.act)
        };
        let smallest = minimise(&scenario, fails, || true);
        assert_eq!(smallest.events.len(), 2, "{smallest}");
        assert!(smallest.nodes().len() <= 2);
        assert_eq!((smallest.network, smallest.kinds.len()), (Link::default(), 0));
    }

    #[test]
    fn without_time_nothing_is_changed() {
        let scenario = Draw::seeded(1).scenario();
        assert_eq!(minimise(&scenario, |_| true, || false), scenario);
    }
}
