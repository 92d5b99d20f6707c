//! The swarm with one rule of the protocols taken out at a time: which promises break, and in how many seeds. A rule
//! that no seed misses is either covered by another one or shows in time only; the tests of the rules say which.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use haulout::proto::{Rule, Sabotage};

use crate::swarm::{SwarmOptions, swarm};

/// What is tried on each rule.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Seeds 1 to this.
    pub seeds: u64,
    /// How many nodes there are at first.
    pub nodes: usize,
    /// How many children are started and terminated.
    pub children: usize,
    /// How long faults go on, in virtual time.
    pub duration: Duration,
}

/// What the seeds found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// In how many seeds an invariant failed.
    pub by: BTreeMap<&'static str, u64>,
    /// The first seed in which one did.
    pub first: Option<u64>,
}

impl Findings {
    /// In how many seeds anything was found.
    pub fn seeds(&self) -> u64 {
        self.by.values().sum()
    }

    fn add(&mut self, seed: u64, invariant: &'static str) {
        *self.by.entry(invariant).or_default() += 1;
        self.first = Some(self.first.map_or(seed, |first| first.min(seed)));
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5}  {:>5}  ", self.seeds(), self.first.map_or("-".into(), |seed| seed.to_string()))?;
        let by: Vec<String> = self.by.iter().map(|(invariant, seeds)| format!("{invariant} {seeds}")).collect();
        f.write_str(&by.join(", "))
    }
}

/// Runs every seed of a trial on all cores.
pub fn findings(sabotage: Sabotage, trial: Trial) -> Findings {
    let next = AtomicU64::new(1);
    let work = || {
        let mut found = Findings::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > trial.seeds {
                return found;
            }
            if let Some(invariant) = broken(sabotage, trial, seed) {
                found.add(seed, invariant);
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut all = Findings::default();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for found in workers.into_iter().filter_map(|worker| worker.join().ok()) {
            for (invariant, seeds) in found.by {
                *all.by.entry(invariant).or_default() += seeds;
            }
            all.first = all.first.into_iter().chain(found.first).min();
        }
    });
    all
}

/// Which invariant fails, if one does. A node that panics has found its own bug.
fn broken(sabotage: Sabotage, trial: Trial, seed: u64) -> Option<&'static str> {
    let mut options = SwarmOptions::draw(seed, trial.nodes, trial.children);
    options.duration = trial.duration;
    options.sabotage = sabotage;
    match catch_unwind(AssertUnwindSafe(|| swarm(seed, options))) {
        Ok(Ok(_)) => None,
        Ok(Err(failure)) => Some(failure.invariant),
        Err(_) => Some("panic"),
    }
}

/// The rule with this name, in any of the usual spellings: `AskAll`, `ask-all`, `ask_all`.
///
/// # Errors
/// All names there are.
pub fn rule_named(text: &str) -> Result<Rule, String> {
    let plain = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
    let named = |rule: &Rule| plain(&format!("{rule:?}")) == plain(text);
    Sabotage::ALL.into_iter().find(named).ok_or_else(|| {
        let all: Vec<String> = Sabotage::ALL.iter().map(|rule| format!("{rule:?}")).collect();
        format!("no rule has this name; there are {}", all.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_by_name_in_any_spelling() {
        for spelling in ["AskAll", "ask-all", "ask_all", "askall"] {
            assert_eq!(rule_named(spelling), Ok(Rule::AskAll));
        }
        assert!(rule_named("ask-none").expect_err("no such rule").contains("AskAll"));
    }

    #[test]
    fn seeds_find_a_rule_whose_absence_breaks_everything_and_nothing_where_all_rules_hold() {
        let trial = Trial { seeds: 4, nodes: 3, children: 10, duration: Duration::from_secs(10) };
        assert_eq!(findings(Sabotage::default(), trial), Findings::default());
        assert!(findings(Sabotage::without(Rule::RetryAsks).and(Rule::Ask), trial).seeds() > 0);
    }
}
