//! A second scope beside the first one. Users call in both, many children have the same id in both, and some nodes join the
//! first only. Everything else of the seed stays as it was: who goes when, and what users call when and where.

use std::collections::BTreeMap;

use twox_hash::XxHash3_64;

use super::super::{NodePlan, Scenario, Timed};
use super::{Draw, Profile};
use crate::random::Random;

/// What the second scope is called.
const NAME: &str = "second";
/// So many of the seeds have it: enough that in a few hundred seeds each rare fault meets it several times; the others stay
/// as fast, and as easy to read, as one scope is.
const SHARE: f64 = 0.25;
/// So many of the nodes join the first only. They answer questions about the second all the same.
const OUTSIDERS: f64 = 0.15;

/// Where an id is in use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    First,
    Second,
    /// A call is in either, or at the same time in both.
    Both,
}

/// Whether nodes join a second scope.
pub(super) fn are_two(draw: &Draw) -> bool {
    let drawn = draw.stream("scopes").chance(SHARE) && draw.profile != Profile::Rest;
    draw.scopes.map_or(drawn, |scopes| scopes > 1)
}

/// Lets nodes join a second scope, and users call there.
pub(super) fn add_second(draw: &Draw, scenario: &mut Scenario) {
    let mut random = draw.stream("second scope");
    scenario.cluster.scopes.push(NAME.into());
    for (number, node) in scenario.cluster.nodes.iter_mut().enumerate() {
        let weight = *random.pick(&[100, 100, 50, 300]).unwrap_or(&100);
        // Everybody's seeds are there in the end, and so is somebody of the scope.
        let joins = !random.chance(OUTSIDERS) || number < scenario.cluster.seeds;
        node.scopes = Some(joins.then(|| (NAME.to_owned(), weight)).into_iter().collect());
    }
    let is_outside = |node: &NodePlan| node.scopes.as_ref().is_some_and(BTreeMap::is_empty);
    let outside = |name: &str| scenario.cluster.nodes.iter().any(|node| node.name == name && is_outside(node));
    let mut events = Vec::with_capacity(scenario.events.len());
    for timed in &scenario.events {
        let (is_first, is_second) = match timed.act.child() {
            Some(id) if !timed.act.nodes().into_iter().any(outside) => home(draw, id).draw(&mut random),
            _ => (true, false),
        };
        events.extend(is_first.then(|| timed.clone()));
        events.extend(is_second.then(|| in_second(draw, timed)));
    }
    scenario.events = events;
}

/// All calls about an id go by the same, so that what belongs together stays together.
fn home(draw: &Draw, id: &str) -> Home {
    let mut random = Random::numbered(draw.seed, "home", XxHash3_64::oneshot(id.as_bytes()));
    *random.pick(&[Home::First, Home::Second, Home::Both]).unwrap_or(&Home::Both)
}

impl Home {
    /// Whether a call is in the first scope, and whether it is in the second.
    fn draw(self, random: &mut Random) -> (bool, bool) {
        let either = [(true, false), (false, true), (true, true)];
        let drawn = *random.pick(&either).unwrap_or(&either[2]);
        match self {
            Home::First => (true, false),
            Home::Second => (false, true),
            Home::Both => drawn,
        }
    }
}

/// The same call in the second scope. Of two children of one id, half have the same spec and half have not: what leaks from
/// one to the other then shows by its arguments.
fn in_second(draw: &Draw, timed: &Timed) -> Timed {
    let mut timed = Timed { scope: NAME.into(), ..timed.clone() };
    let number = timed.act.child().map_or(0, |id| XxHash3_64::oneshot(id.as_bytes()));
    let differs = Random::numbered(draw.seed, "second spec", number).chance(0.5);
    if let Some(spec) = timed.act.spec_mut().filter(|_| differs) {
        spec.args.push_str("-second");
    }
    timed
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use haulout::proto::ScopeId;

    use super::*;

    /// Goal: a seed has the same nodes, faults and users whether or not it has a second scope. Method: seeds with one and
    /// with two, and what of the second one is neither a scope nor a call.
    #[test]
    fn a_quarter_of_the_seeds_have_a_second_scope_and_the_rest_of_a_seed_does_not_depend_on_it() {
        let drawn = |seed| Draw::seeded(seed).scenario();
        let two = (0..400).filter(|&seed| !drawn(seed).cluster.scopes.is_empty()).count();
        assert!((80..120).contains(&two), "{two} of 400");
        for seed in 0..40 {
            let [one, two] = [1, 2].map(|scopes| Draw { scopes: Some(scopes), ..Draw::seeded(seed) }.scenario());
            assert!([&one, &two].contains(&&drawn(seed)));
            let faults = |scenario: &Scenario| -> Vec<Timed> {
                scenario.events.iter().filter(|timed| timed.act.child().is_none()).cloned().collect()
            };
            assert_eq!(faults(&one), faults(&two));
            let mut alike = two.clone();
            alike.events = one.events.clone();
            alike.cluster.scopes.clear();
            alike.cluster.nodes.iter_mut().for_each(|node| node.scopes = None);
            assert_eq!(alike, one);
            assert_eq!(two.check(), Ok(()));
        }
    }

    /// Goal: ids are in use in either scope and in both, with the same spec or not. Method: the starts of some seeds.
    #[test]
    fn some_ids_are_in_use_in_both_scopes() {
        let (mut first, mut second, mut marked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for seed in 0..10 {
            let scenario = Draw { scopes: Some(2), ..Draw::seeded(seed) }.scenario();
            for mut timed in scenario.events {
                let Some(key) = timed.act.child().map(|id| (seed, id.to_owned())) else { continue };
                let is_marked = timed.act.spec_mut().is_some_and(|spec| spec.args.ends_with("-second"));
                marked.extend(is_marked.then(|| key.clone()));
                if timed.scope.is_empty() {
                    first.insert(key)
                } else {
                    second.insert(key)
                };
            }
        }
        let both: BTreeSet<_> = first.intersection(&second).collect();
        assert!(both.len() > 50 && both.len() < first.len() && both.len() < second.len());
        assert!(both.iter().any(|key| marked.contains(key)) && both.iter().any(|key| !marked.contains(key)));
    }

    /// Goal: what leaks from one scope into another is noticed, in both. Method: seeds of small clusters with two scopes, as
    /// they are, and without the rule that a packet says which scope it goes on with.
    #[test]
    fn what_leaks_from_one_scope_into_another_is_noticed() {
        let mut broken = BTreeSet::new();
        for seed in 3..=6 {
            let draw = Draw {
                scopes: Some(2),
                nodes: Some(3),
                children: Some(10),
                duration: Duration::from_secs(20),
                ..Draw::seeded(seed)
            };
            let mut scenario = draw.scenario();
            scenario.run().assert_passed();
            scenario.cluster.without.push("scopes-are-named".into());
            let violations = scenario.run().violations;
            broken.extend(violations.first().map(|violation| (seed, violation.scope == Some(ScopeId::of(NAME)))));
        }
        assert!(broken.len() >= 3, "{broken:?}");
        assert!(
            [true, false].iter().all(|is_second| broken.iter().any(|(_, second)| second == is_second)),
            "{broken:?}"
        );
    }
}
