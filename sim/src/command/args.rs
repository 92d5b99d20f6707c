//! What a run is: the options that all commands share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use haulout::proto::{Rule, Site};
use haulout_sim::scenario::{Draw, Profile, Scenario, faults, rule_named, span};
use haulout_sim::wall::any_seed;

use super::Wrong;

/// What is given about a run; what is not is drawn from the seed.
#[derive(Args, Clone)]
pub(crate) struct Given {
    /// A scenario file; without one, the scenario is drawn from the seed.
    #[arg(long, value_name = "FILE")]
    pub(crate) scenario: Option<PathBuf>,
    /// How many nodes there are at first [default: drawn].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=2_000), conflicts_with = "scenario")]
    nodes: Option<u16>,
    /// How many ids of children are in use [default: drawn].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000), conflicts_with = "scenario")]
    children: Option<u32>,
    /// How many scopes nodes join, 1 or 2 [default: drawn].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=2), conflicts_with = "scenario")]
    scopes: Option<u8>,
    /// How long faults and calls go on, in virtual time [default: 1m, or the scenario's].
    #[arg(long, value_parser = span::parse)]
    duration: Option<Duration>,
    /// What is drawn from: swarm (at least three kinds of fault), gentle (planned changes and mild loss), storm (most
    /// faults, often) or rest (only faults that are given) [default: swarm].
    #[arg(long, value_parser = profile_named, conflicts_with = "scenario")]
    profile: Option<Profile>,
    /// The timings of failure detection: local, lan or wan [default: drawn, or the scenario's].
    #[arg(long, value_parser = timings_named)]
    timings: Option<haulout::Profile>,
    /// The `sync_interval` of every node [default: drawn, or the scenario's].
    #[arg(long, value_parser = span::parse)]
    sync_interval: Option<Duration>,
    /// Gives a fault its number, 0 to take it out; may be repeated. `list faults` says what the numbers mean.
    #[arg(long, value_name = "NAME=NUMBER", value_parser = fault_given, conflicts_with = "scenario")]
    fault: Vec<(String, f64)>,
    /// Takes out a rule of the protocols, to see what it is for; may be repeated. `list rules` names them.
    #[arg(long, value_name = "RULE", value_parser = rule_named)]
    pub(crate) without: Vec<Rule>,
}

impl Given {
    /// The scenario for a seed.
    pub(crate) fn scenario(&self, seed: Option<u64>) -> Result<Scenario, Wrong> {
        let mut scenario = match &self.scenario {
            Some(path) => {
                let mut scenario = read(path)?;
                scenario.seed = seed.unwrap_or(scenario.seed);
                scenario.duration = self.duration.unwrap_or(scenario.duration);
                scenario.config.profile = self.timings.unwrap_or(scenario.config.profile);
                scenario.config.sync_interval = self.sync_interval.unwrap_or(scenario.config.sync_interval);
                scenario
            }
            None => self.draw(seed.unwrap_or_default()).scenario(),
        };
        scenario.cluster.without.extend(self.without.iter().map(|rule| format!("{rule:?}")));
        scenario.check()?;
        Ok(scenario)
    }

    /// How a seed is drawn.
    pub(crate) fn draw(&self, seed: u64) -> Draw {
        let defaults = Draw::seeded(seed);
        Draw {
            nodes: self.nodes.map(usize::from),
            children: self.children.map(|children| children as usize),
            scopes: self.scopes.map(usize::from),
            duration: self.duration.unwrap_or(defaults.duration),
            profile: self.profile.unwrap_or_default(),
            timings: self.timings,
            sync_interval: self.sync_interval,
            faults: self.fault.iter().cloned().collect(),
            ..defaults
        }
    }

    /// Every option by name, given or derived.
    pub(crate) fn named(&self, seed: u64) -> Vec<(String, String)> {
        match &self.scenario {
            Some(path) => vec![("scenario".into(), path.display().to_string())],
            None => self.draw(seed).options(),
        }
    }

    /// The options of the command that runs a seed again.
    pub(crate) fn options(&self) -> String {
        let mut options = String::new();
        let mut add = |name: &str, value: Option<String>| {
            options.extend(value.map(|value| format!(" --{name} {value}")));
        };
        add("scenario", self.scenario.as_ref().map(|path| path.display().to_string()));
        add("nodes", self.nodes.map(|nodes| nodes.to_string()));
        add("children", self.children.map(|children| children.to_string()));
        add("scopes", self.scopes.map(|scopes| scopes.to_string()));
        add("duration", self.duration.map(span::format));
        add("profile", self.profile.map(|profile| profile.to_string()));
        add("timings", self.timings.map(|timings| format!("{timings:?}").to_lowercase()));
        add("sync-interval", self.sync_interval.map(span::format));
        self.fault.iter().for_each(|(name, number)| add("fault", Some(format!("{name}={number}"))));
        self.without.iter().for_each(|rule| add("without", Some(format!("{rule:?}"))));
        options
    }
}

/// Which run a command is about.
#[derive(Args)]
pub(crate) struct Which {
    /// Where all randomness comes from [default: the scenario's, or one that nobody chose].
    #[arg(long)]
    seed: Option<u64>,
    /// A run directory, instead of options.
    #[arg(long = "run", value_name = "DIR", conflicts_with_all = ["seed", "scenario"])]
    dir: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
}

impl Which {
    /// The scenario of the run.
    pub(crate) fn scenario(&self) -> Result<Scenario, Wrong> {
        match &self.dir {
            Some(dir) => read(dir),
            None => self.given.scenario(self.seed.or_else(|| self.given.scenario.is_none().then(any_seed))),
        }
    }

    /// The command that runs it again.
    pub(crate) fn reproduce(&self, scenario: &Scenario) -> String {
        match &self.dir {
            Some(dir) => format!("cargo run --release -p haulout-sim -- replay {}", dir.display()),
            None => reproduce("run", scenario.seed, &self.given),
        }
    }
}

/// The command that runs a seed again, as it can be pasted.
pub(crate) fn reproduce(command: &str, seed: u64, given: &Given) -> String {
    format!("cargo run --release -p haulout-sim -- {command} --seed {seed}{}", given.options())
}

/// Reads a scenario file, or the one in a run directory.
pub(crate) fn read(path: &Path) -> Result<Scenario, Wrong> {
    Ok(Scenario::read(path)?)
}

fn profile_named(text: &str) -> Result<Profile, String> {
    let named = Profile::ALL.into_iter().find(|profile| profile.to_string() == text);
    named.ok_or_else(|| format!("there are {}", Profile::ALL.map(|profile| profile.to_string()).join(", ")))
}

pub(crate) fn timings_named(text: &str) -> Result<haulout::Profile, String> {
    match text {
        "local" => Ok(haulout::Profile::Local),
        "lan" => Ok(haulout::Profile::Lan),
        "wan" => Ok(haulout::Profile::Wan),
        _ => Err("there are local, lan and wan".into()),
    }
}

pub(crate) fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..1.0).contains(&number) => Ok(number),
        _ => Err("a probability is a number from 0 up to 1".into()),
    }
}

fn fault_given(text: &str) -> Result<(String, f64), String> {
    let (name, number) = text.split_once('=').ok_or("write name=number, for instance loss=0.1")?;
    if faults::named(name).is_none() && !Site::ALL.iter().any(|site| site.to_string() == name) {
        return Err(format!("no fault is called {name}; `list faults` names them"));
    }
    match number.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok((name.into(), number)),
        _ => Err(format!("{number} is no number from 0 on")),
    }
}
