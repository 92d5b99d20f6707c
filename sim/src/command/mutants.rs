//! `mutants`: the test of the tester. Each rule of the protocols is taken out, and the invariants alone must notice.

use std::collections::BTreeMap;
use std::fmt;

use clap::Args;
use haulout::proto::{Rule, Sabotage};
use haulout_sim::crew;

use super::Wrong;
use super::args::Given;

/// The arguments of `mutants`.
#[derive(Args)]
pub(crate) struct Mutants {
    /// How many seeds are tried on each rule.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Goes on to the next rule as soon as a seed has found one.
    #[arg(long)]
    first: bool,
    /// Only the rules given with `--without`, each on its own.
    #[command(flatten)]
    given: Given,
}

/// Rules without which a cluster is slower, but breaks no promise, and why.
const HARMLESS: &[(Rule, &str)] = &[(
    Rule::StopOnlyWhenAsked,
    "a child that moves stops earlier than its successor can start: it runs nowhere for longer",
)];

/// In how many seeds which invariant was broken.
#[derive(Default)]
struct Findings {
    by: BTreeMap<&'static str, u64>,
    tried: u64,
    first: Option<u64>,
}

impl Mutants {
    /// Fails if the seeds are not clean with every rule in place, or if a rule that keeps a promise was not missed.
    pub(crate) fn execute(&self) -> Result<u8, Wrong> {
        // A mutant that panics is counted; hundreds of backtraces would hide the table.
        std::panic::set_hook(Box::new(|_| {}));
        println!("{:<22}  {:>5}  {:>5}  {:>5}  broken", "taken out", "found", "tried", "first");
        let clean = self.findings(None)?;
        println!("{:<22}  {clean}", "nothing");
        let rules = if self.given.without.is_empty() { Sabotage::ALL.to_vec() } else { self.given.without.clone() };
        let mut survivors = Vec::new();
        for rule in rules {
            let findings = self.findings(Some(rule))?;
            println!("{:<22}  {findings}", format!("{rule:?}"));
            if findings.found() == 0 {
                survivors.push(rule);
            }
        }
        let (harmless, missed): (Vec<Rule>, Vec<Rule>) =
            survivors.into_iter().partition(|rule| HARMLESS.iter().any(|(harmless, _)| harmless == rule));
        for (rule, why) in HARMLESS.iter().filter(|(rule, _)| harmless.contains(rule)) {
            println!("not found, and breaks no promise: {rule:?}: {why}");
        }
        if missed.is_empty() && clean.found() == 0 {
            println!("PASSED every rule that keeps a promise was missed");
            return Ok(0);
        }
        println!("FAILED not found: {missed:?}; found with every rule in place: {}", clean.found());
        Ok(1)
    }

    fn findings(&self, rule: Option<Rule>) -> Result<Findings, Wrong> {
        let mut given = self.given.clone();
        given.without = rule.into_iter().collect();
        let mut findings = Findings::default();
        let scenario = |seed| given.scenario(Some(seed)).map_err(|error| error.to_string());
        crew::run_all(crew::cores(), self.from..self.from + self.seeds, scenario, |seed, ended| {
            findings.tried += 1;
            if let Some(invariant) = ended.verdict.broken() {
                *findings.by.entry(invariant).or_default() += 1;
                findings.first = Some(findings.first.map_or(seed, |first| first.min(seed)));
            }
            rule.is_none() || !self.first || findings.first.is_none()
        })?;
        Ok(findings)
    }
}

impl Findings {
    fn found(&self) -> u64 {
        self.by.values().sum()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.first.map_or("-".into(), |seed| seed.to_string());
        write!(f, "{:>5}  {:>5}  {first:>5}  ", self.found(), self.tried)?;
        let by: Vec<String> = self.by.iter().map(|(invariant, seeds)| format!("{invariant} {seeds}")).collect();
        f.write_str(&by.join(", "))
    }
}
