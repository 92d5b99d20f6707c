//! `mutants`: the test of the tester. Each rule of the protocols is taken out, and the invariants alone must notice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use clap::Args;
use haulout::proto::{Rule, Sabotage};
use haulout_sim::crew;
use haulout_sim::scenario::span;
use haulout_sim::wall::Stopwatch;

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
    /// Only rules that are found within few seeds: a short form, which shows that failures are seen at all.
    #[arg(long)]
    only_quick: bool,
    /// Only the rules given with `--without`, each on its own.
    #[command(flatten)]
    given: Given,
}

/// Rules without which no promise is broken, and why.
const HARMLESS: &[(Rule, &str)] = &[
    (Rule::StopOnlyWhenAsked, "a child that moves stops before its successor may start: it runs nowhere for longer"),
    (
        Rule::ClaimsAreHints,
        "a release that was lost blocks the start until the next exchange: the child runs nowhere for longer",
    ),
    (
        Rule::ExchangeTable,
        "a death that a member missed is found by its own probes: members agree later, within the bound for healing",
    ),
    (
        Rule::ReplacedIsNotGone,
        "of two starts of one id either may win; both are lost only if the node with the winner dies right then",
    ),
    (
        Rule::BuddyMessages,
        "a suspect that is not told may be given up under loss though it lives: a false death, which only a fault leads \
         to, and which the rules for rejoining heal",
    ),
    (
        Rule::ReplayWindow,
        "every rule holds when any packet arrives again at any time; what counts once is only cheaper and says less",
    ),
    (
        Rule::LivesProveThemselves,
        "a former life that is taken for a member is given up a few seconds later, and nothing runs on it",
    ),
    (
        Rule::DeafAccusesNobody,
        "healthy members take new identities because of a node that hears nobody: false deaths, which only a fault leads to, \
         and which the rules for rejoining heal",
    ),
    (
        Rule::SilenceIsConfirmed,
        "a node that hears nothing itself gives healthy members up sooner: false deaths, which only a fault leads to, and \
         which the rules for rejoining heal",
    ),
    (
        Rule::PauseRenewsSuspicions,
        "a node that was cut off and then stood still gives up the only other one too soon: a false death, which only a \
         fault leads to, and which the rules for rejoining heal",
    ),
    (Rule::PauseRestartsDoubts, "as without PauseRenewsSuspicions, some questions later"),
    (
        Rule::PauseRestartsWait,
        "a newcomer that stood still before it heard of anybody runs its start-up children beside others until it does: \
         strangers whom a fault kept apart",
    ),
    (
        Rule::PauseEndsLooks,
        "a member that was cut off from two others is taken for crashed although it is back: a false death, which only a \
         fault leads to, and which the rules for rejoining heal",
    ),
    (
        Rule::MostLiveToReplace,
        "a few that share a broken network take more of the others for crashed before they would give them up anyway: false \
         deaths, which only a fault leads to, and which the rules for rejoining heal",
    ),
];

/// Rules of which either keeps a promise alone, and why. Both taken out together must be missed.
const TOGETHER: &[(Rule, Rule, &str)] = &[
    (
        Rule::FreeExpires,
        Rule::PauseVoidsRounds,
        "whoever stood still forgets its permissions; whoever is cut off can talk to nobody, so that its run is a \
         duplicate of a partition",
    ),
    (Rule::PauseVoidsRounds, Rule::FreeExpires, "permissions expire before anybody may take over"),
    (
        Rule::RejoinVoidsRounds,
        Rule::FreeExpires,
        "whoever was declared down was silent for longer than its permissions live",
    ),
    (Rule::Challenge, Rule::YieldToLaterRun, "of two runs the earlier one yields as soon as it hears of the other"),
    (Rule::YieldToLaterRun, Rule::Challenge, "the owner asks whoever else runs its child to stop"),
];

/// Rules that a few seeds find.
const QUICK: &[Rule] = &[
    Rule::Ask,
    Rule::AskAll,
    Rule::FreeOnlyWhenStopped,
    Rule::OnlyAnswersCount,
    Rule::CompletedIsDone,
    Rule::DownVoidsClaims,
    Rule::RestartRaisesEpoch,
    Rule::UpdateEndsRun,
    Rule::HigherBirthWins,
    Rule::TiesByDot,
    Rule::RemovedStaysRemoved,
    Rule::ExchangeRemoves,
    Rule::SeenAsRanges,
    Rule::CrashIsSilent,
    Rule::CrashIsRefused,
    Rule::CrashHasTwoWitnesses,
    Rule::ObituariesAreChecked,
    Rule::ScopesAreNamed,
];

/// In how many seeds which invariant was broken.
#[derive(Default)]
struct Findings {
    by: BTreeMap<&'static str, u64>,
    seeds: BTreeSet<u64>,
    tried: u64,
    took: Duration,
}

impl Mutants {
    /// Fails if the seeds are not clean with every rule in place, or if a rule that keeps a promise was not missed.
    pub(crate) fn execute(&self) -> Result<u8, Wrong> {
        // A mutant that panics is counted; hundreds of backtraces would hide the table.
        std::panic::set_hook(Box::new(|_| {}));
        println!("{:<34}  {:>5}  {:>5}  {:>5}  {:>7}  broken", "taken out", "found", "tried", "first", "wall");
        let clean = self.findings(&[], &Findings::default())?;
        println!("{:<34}  {clean}", "nothing");
        let mut missed = Vec::new();
        for mutant in self.mutants() {
            let findings = self.findings(&mutant, &clean)?;
            let name: Vec<String> = mutant.iter().map(|rule| format!("{rule:?}")).collect();
            println!("{:<34}  {findings}", name.join("+"));
            if findings.seeds.is_empty() && !self.excused(&mutant) {
                missed.push(name.join("+"));
            }
        }
        if missed.is_empty() && clean.seeds.is_empty() {
            println!("PASSED every rule that keeps a promise was missed");
            return Ok(0);
        }
        println!("FAILED not found: {missed:?}; found with every rule in place: {}", clean.seeds.len());
        Ok(1)
    }

    /// Every rule on its own, then those together of which one would do.
    fn mutants(&self) -> Vec<Vec<Rule>> {
        if !self.given.without.is_empty() {
            return self.given.without.iter().map(|&rule| vec![rule]).collect();
        }
        if self.only_quick {
            return QUICK.iter().map(|&rule| vec![rule]).collect();
        }
        let alone = Sabotage::ALL.iter().map(|&rule| vec![rule]);
        let together = TOGETHER.iter().filter(|(rule, other, _)| {
            let mirrored = TOGETHER.iter().any(|(a, b, _)| (a, b) == (other, rule));
            !mirrored || (*rule as u64) < *other as u64
        });
        alone.chain(together.map(|&(rule, other, _)| vec![rule, other])).collect()
    }

    /// Whether it was to be expected that nothing is broken; says why.
    fn excused(&self, mutant: &[Rule]) -> bool {
        let [rule] = mutant else { return false };
        let harmless = HARMLESS.iter().filter(|(harmless, _)| harmless == rule);
        let why: Vec<String> = harmless
            .map(|(_, why)| format!("breaks no promise: {why}"))
            .chain(
                TOGETHER
                    .iter()
                    .filter(|(one, ..)| one == rule)
                    .map(|(_, other, why)| format!("{other:?} keeps the promise too: {why}")),
            )
            .collect();
        why.iter().for_each(|why| println!("    {why}"));
        !why.is_empty()
    }

    /// What comes of the seeds without these rules. What is broken with every rule in place says nothing.
    fn findings(&self, without: &[Rule], clean: &Findings) -> Result<Findings, Wrong> {
        let began = Stopwatch::start();
        let mut given = self.given.clone();
        given.without = without.to_vec();
        let mut findings = Findings::default();
        let scenario = |seed| given.scenario(Some(seed)).map_err(|error| error.to_string());
        crew::run_all(crew::cores(), self.from..self.from + self.seeds, scenario, |seed, ended| {
            findings.tried += 1;
            if let Some(invariant) = ended.verdict.broken().filter(|name| !clean.by.contains_key(name)) {
                *findings.by.entry(invariant).or_default() += 1;
                findings.seeds.insert(seed);
            }
            without.is_empty() || !self.first || findings.seeds.is_empty()
        })?;
        findings.took = began.elapsed();
        Ok(findings)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.seeds.first().map_or("-".into(), |seed| seed.to_string());
        let wall = span::format(Duration::from_secs(self.took.as_secs()));
        write!(f, "{:>5}  {:>5}  {first:>5}  {wall:>7}  ", self.seeds.len(), self.tried)?;
        let by: Vec<String> = self.by.iter().map(|(invariant, seeds)| format!("{invariant} {seeds}")).collect();
        f.write_str(&by.join(", "))
    }
}
