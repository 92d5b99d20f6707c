//! Draws a random scenario from a seed: swarm testing. Each seed has faults of its own and lacks others, because a
//! fault that is always there hides what happens without it.
//!
//! Every fault, the users and every node draw from streams of their own: taking out one leaves the others where they
//! were. The scenario is drawn without running anything, from a model of who is up when.

mod long;
mod network;
mod plots;
mod process;
mod scopes;
mod users;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use haulout::proto::{Fanout, Site};
use haulout::{Config, Limits, Security};

use super::faults::{self, Family};
use super::{ClusterPlan, EndPlan, Expect, KindPlan, OutcomePlan, RunPlan, Scenario, StartPlan, config, span};
use crate::cluster::Resume;
use crate::network::Link;
use crate::random::{Random, Range};

/// What is given about a random scenario; everything else follows from the seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// Where all randomness comes from.
    pub seed: u64,
    /// How many nodes there are at first; drawn if not given.
    pub nodes: Option<usize>,
    /// How many ids of children are in use; drawn if not given.
    pub children: Option<usize>,
    /// How many scopes nodes join, one or two; drawn if not given.
    pub scopes: Option<usize>,
    /// How long faults and calls go on. Default: one minute.
    pub duration: Duration,
    /// What is drawn from.
    pub profile: Profile,
    /// The timings of failure detection; drawn if not given.
    pub timings: Option<haulout::Profile>,
    /// The `sync_interval` of every node; drawn if not given.
    pub sync_interval: Option<Duration>,
    /// Faults whose number is given; 0 takes one out.
    pub faults: BTreeMap<String, f64>,
}

/// What random scenarios are drawn from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// At least three kinds of faults out of all, at moderate rates. The default.
    #[default]
    Swarm,
    /// Planned changes and mild loss only: nothing excuses an overlap.
    Gentle,
    /// Most faults at once, often.
    Storm,
    /// No faults but those that are given.
    Rest,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 4] = [Profile::Swarm, Profile::Gentle, Profile::Storm, Profile::Rest];
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Swarm => "swarm",
            Profile::Gentle => "gentle",
            Profile::Storm => "storm",
            Profile::Rest => "rest",
        })
    }
}

/// A swarm seed knows at least so many kinds of fault.
const FAULTS_MIN: usize = 3;

impl Draw {
    /// Everything from the seed.
    pub fn seeded(seed: u64) -> Self {
        Draw {
            seed,
            nodes: None,
            children: None,
            scopes: None,
            duration: Duration::from_secs(60),
            profile: Profile::Swarm,
            timings: None,
            sync_interval: None,
            faults: BTreeMap::new(),
        }
    }

    /// The scenario that the seed expands to.
    pub fn scenario(&self) -> Scenario {
        let faults = self.faults();
        let mut sizes = self.stream("sizes");
        let drawn_nodes = *sizes.pick(&[2, 3, 3, 4, 5, 5, 6, 8]).unwrap_or(&3);
        let drawn_children = *sizes.pick(&[5, 10, 20, 30, 50, 100]).unwrap_or(&20);
        let count = self.nodes.unwrap_or(drawn_nodes).max(1);
        let long = long::Long::of(self, &faults);
        let mut config = Config { security: self.security(&faults), ..self.config() };
        if long.is_some_and(long::Long::is_days) && self.timings.is_none() {
            config.profile = haulout::Profile::Lan;
        }
        let mut plan = process::Nodes::new(self, &faults, count, &config);
        let mut plotted = plots::events(self, &faults, &mut plan);
        plotted.extend(long.into_iter().flat_map(|long| long.events(self, &mut plan)));
        let mut events = network::events(self, &faults, &plan.names(), &config);
        events.extend(plotted);
        events.extend(plan.events());
        let kinds = self.kinds(&faults);
        let ids = users::Ids { count: self.children.unwrap_or(drawn_children), faults: &faults };
        events.extend(users::events(self, &ids, &plan));
        events.sort_by_key(|timed| timed.at);
        let mut cluster = self.cluster(&faults);
        cluster.nodes = plan.plans();
        let mut scenario = Scenario {
            about: String::new(),
            seed: self.seed,
            duration: self.duration,
            cluster,
            config,
            network: self.network(&faults),
            kinds,
            end: self.end(&plan),
            expect: Expect::default(),
            events,
        };
        if let Some(long) = long {
            long.stretch(self, ids.count, &mut scenario);
        }
        if scopes::are_two(self) {
            scopes::add_second(self, &mut scenario);
        }
        scenario
    }

    /// Every fault that this seed knows, with its number.
    pub fn faults(&self) -> BTreeMap<String, f64> {
        let mut faults = BTreeMap::new();
        for fault in faults::ALL {
            let mut random = self.stream(&format!("whether {}", fault.name));
            let (chance, strength) = (random.chance(self.odds(fault.name, fault.family)), random.bits());
            if chance {
                faults.insert(fault.name.to_owned(), number(fault.name, fault.family, strength, self.profile));
            }
        }
        for site in Site::ALL {
            let mut random = self.stream(&format!("whether site {site}"));
            let chance = random.chance(self.odds("", Family::Site));
            let strength = *random.pick(&[0.001, 0.01, 0.1]).unwrap_or(&0.01);
            if chance {
                faults.insert(site.to_string(), strength);
            }
        }
        if self.profile == Profile::Swarm {
            self.add_up_to_the_least(&mut faults);
        }
        faults.extend(self.faults.iter().map(|(name, number)| (name.clone(), *number)));
        faults.retain(|_, number| *number > 0.0);
        if faults.contains_key("long") {
            // Children that fail again and again for days cost much and show nothing more.
            faults.retain(|name, _| !["fail-start", "panic", "exit", "hang-start"].contains(&name.as_str()));
        }
        faults
    }

    fn add_up_to_the_least(&self, faults: &mut BTreeMap<String, f64>) {
        let mut random = self.stream("more faults");
        // What happens to processes may find no node that can be spared.
        let lasting = |name: &str| {
            faults::named(name).is_some_and(|fault| matches!(fault.family, Family::Link | Family::Network))
        };
        while faults.keys().filter(|name| lasting(name)).count() < FAULTS_MIN {
            let Some(fault) = random.pick(faults::ALL).filter(|fault| lasting(fault.name)) else { continue };
            let strength = random.bits();
            faults.entry(fault.name.into()).or_insert_with(|| number(fault.name, fault.family, strength, self.profile));
        }
    }

    /// How likely a seed knows a fault.
    fn odds(&self, name: &str, family: Family) -> f64 {
        let rare = ["restart-all", "twin", "bandwidth", "mtu", "ring"].contains(&name);
        match (self.profile, family) {
            (Profile::Rest, _) => 0.0,
            // One costs as much as a hundred others.
            (Profile::Swarm | Profile::Storm, _) if name == "long" => 0.01,
            (_, _) if name == "keyring" => 0.2,
            (_, _) if name == "rotation" => 0.1,
            (Profile::Gentle, _) if ["leave", "join", "rolling", "loss", "mixed-kinds"].contains(&name) => 0.6,
            (Profile::Gentle, _) if ["newcomers", "old-answers", "temporary-moves"].contains(&name) => 0.3,
            (Profile::Gentle, Family::Child | Family::User) => 0.3,
            (Profile::Gentle, _) => 0.0,
            (Profile::Storm, _) => 0.7,
            (Profile::Swarm, _) if rare => 0.06,
            (Profile::Swarm, Family::Link) => 0.2,
            (Profile::Swarm, Family::Network) => 0.22,
            (Profile::Swarm, Family::Process) => 0.3,
            (Profile::Swarm, Family::Child | Family::User) => 0.35,
            (Profile::Swarm, Family::Clock) => 0.3,
            (Profile::Swarm, Family::Plot) if ["taken-over", "old-copy"].contains(&name) => 0.3,
            (Profile::Swarm, Family::Plot) => 0.15,
            (Profile::Swarm, Family::Site) => 0.12,
        }
    }

    fn stream(&self, name: &str) -> Random {
        Random::stream(self.seed, name)
    }

    fn config(&self) -> Config {
        let mut random = self.stream("configuration");
        let timings = *random
            .pick(&[haulout::Profile::Local, haulout::Profile::Local, haulout::Profile::Lan])
            .unwrap_or(&haulout::Profile::Local);
        let timings =
            self.timings.unwrap_or(if self.profile == Profile::Rest { haulout::Profile::Lan } else { timings });
        let sync = round(random.duration(Range::millis(300, 5_000)));
        let settle = round(random.duration(Range::millis(1_000, 2_000)));
        let confirm = round(random.duration(Range::millis(500, 1_000)));
        if self.profile == Profile::Rest {
            let sync_interval = self.sync_interval.unwrap_or(Config::default().sync_interval);
            return Config { profile: timings, sync_interval, ..config() };
        }
        // Tight in some runs, so that nearly every start and move has to wait for another.
        let mut random = self.stream("budget");
        let tight = random.chance(0.3).then(|| 1 + random.below(4));
        let limits = Limits::default();
        Config {
            profile: timings,
            limits: Limits { starting_max: tight.unwrap_or(limits.starting_max), ..limits },
            sync_interval: self.sync_interval.unwrap_or(sync),
            settle_timeout: Some(settle),
            confirm_timeout: Some(confirm),
            leave_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(3),
            ..config()
        }
    }

    /// In plaintext, unless packets are sealed in this seed.
    fn security(&self, faults: &BTreeMap<String, f64>) -> Security {
        match faults.contains_key("keyring") || faults.contains_key("rotation") {
            true => Security::Keyring { keys: vec![users::key(&mut self.stream("key"))], file: None, env: None },
            false => config().security,
        }
    }

    fn network(&self, faults: &BTreeMap<String, f64>) -> Link {
        let mut random = self.stream("network");
        let get = |name: &str| faults.get(name).copied().unwrap_or(0.0);
        let slowest = random.duration(Range::millis(2, 60));
        if self.profile == Profile::Rest && self.faults.is_empty() {
            return Link::default();
        }
        let slowest = if self.profile == Profile::Rest { Link::default().delay.max } else { slowest };
        Link {
            delay: Range::new(Duration::from_micros(300), round(slowest)),
            tail: get("tail"),
            tail_delay: Range::millis(20, 400),
            loss: get("loss"),
            burst_loss: get("burst-loss"),
            burst_every: Range::millis(2_000, 10_000),
            burst_length: Range::millis(100, 2_000),
            duplicate: get("duplicate"),
            replay: get("replay"),
            replay_after: Range::millis(500, 30_000),
            corrupt: get("corrupt"),
            truncate: get("truncate"),
            reset: get("reset"),
            bandwidth: faults.get("bandwidth").map(|&bytes| bytes as u64),
            mtu: faults.get("mtu").map(|&bytes| bytes as usize),
            ..Link::default()
        }
    }

    fn cluster(&self, faults: &BTreeMap<String, f64>) -> ClusterPlan {
        let mut random = self.stream("cluster");
        let lateness = round(random.duration(Range::millis(0, 5)));
        let resume = *random.pick(&[Resume::PacketsFirst, Resume::TimersFirst]).unwrap_or(&Resume::PacketsFirst);
        let startup = random.below(3);
        let sites = Site::ALL.iter().filter_map(|site| Some((site.to_string(), *faults.get(&site.to_string())?)));
        ClusterPlan {
            count: 0,
            seeds: 2,
            fanout: self.fanout(),
            startup: if self.profile == Profile::Rest { 0 } else { startup },
            scopes: Vec::new(),
            timer_lateness: match faults.contains_key("lateness") {
                true => Range::new(Duration::ZERO, lateness),
                false => Range::ZERO,
            },
            resume,
            without: Vec::new(),
            sites: sites.collect(),
            nodes: Vec::new(),
        }
    }

    /// From which size on the cluster takes the paths of large ones, which those of random runs are not: in a third of
    /// the seeds it does all the same.
    fn fanout(&self) -> usize {
        let mut random = self.stream("fanout");
        let usual = Fanout::default().max();
        match self.profile {
            Profile::Rest => usual,
            _ if random.chance(2.0 / 3.0) => usual,
            _ => *random.pick(&[1, 2, 2, 3, 3, 4, 5, 6]).unwrap_or(&usual),
        }
    }

    /// The kinds that children of this seed can have beside `steady`.
    fn kinds(&self, faults: &BTreeMap<String, f64>) -> BTreeMap<String, KindPlan> {
        let has = |name: &str| faults.contains_key(name);
        let run = |odds: u32, ends: (u64, u64), outcome: OutcomePlan| RunPlan {
            odds,
            ends_after: Some(Range::millis(ends.0, ends.1)),
            outcome,
            ..RunPlan::default()
        };
        let start = |odds: u32, start: StartPlan| RunPlan { odds, start, ..RunPlan::default() };
        let mut flaky = vec![RunPlan::default()];
        flaky.extend(has("fail-start").then(|| start(1, StartPlan::Fails)));
        flaky.extend(has("panic").then(|| run(1, (0, 2_000), OutcomePlan::Panic)));
        flaky.extend(has("panic").then(|| start(1, StartPlan::Panics)));
        flaky.extend(has("exit").then(|| run(2, (0, 20), OutcomePlan::Error)));
        let slow =
            RunPlan { start_delay: Range::millis(0, 200), stop_delay: Range::millis(0, 1_000), ..RunPlan::default() };
        let stubborn = RunPlan {
            stop_delay: Range::millis(5_000, 20_000),
            abort_delay: Duration::from_millis(150),
            ..RunPlan::default()
        };
        let plan = |for_ever: bool, runs: Vec<RunPlan>| KindPlan { for_ever, runs };
        let mut kinds = BTreeMap::from([
            ("steady".to_owned(), plan(true, vec![RunPlan::default()])),
            ("job".to_owned(), plan(true, vec![run(1, (100, 3_000), OutcomePlan::Success)])),
        ]);
        let mut add = |name: &str, wanted: bool, kind: KindPlan| {
            if wanted {
                kinds.insert(name.into(), kind);
            }
        };
        add("flaky", flaky.len() > 1, plan(false, flaky));
        // Longer than any `start_timeout`.
        let hanging = RunPlan { start_delay: Range::fixed(Duration::from_secs(3_600)), ..RunPlan::default() };
        add("hanging", has("hang-start"), plan(false, vec![RunPlan::default(), hanging]));
        add("slow", has("slow-stop"), plan(true, vec![slow]));
        add("stubborn", has("ignore-stop"), plan(true, vec![stubborn]));
        add(
            "picky",
            has("decline"),
            plan(false, vec![start(1, StartPlan::Declines), RunPlan { odds: 2, ..RunPlan::default() }]),
        );
        add(
            "fleeting",
            has("temporary"),
            plan(true, vec![run(1, (1_000, 8_000), OutcomePlan::Success), RunPlan::default()]),
        );
        let lingering =
            RunPlan { start_delay: Range::millis(0, 30), stop_delay: Range::millis(0, 1_000), ..RunPlan::default() };
        add(plots::KIND, plots::NAMES.iter().any(|name| has(name)), plan(true, vec![lingering]));
        add("special", has("mixed-kinds"), plan(true, vec![RunPlan::default()]));
        kinds
    }

    fn end(&self, nodes: &process::Nodes) -> EndPlan {
        let mut random = self.stream("end");
        let names = nodes.names();
        let stay_down = names[2.min(names.len())..].iter().filter(|_| random.chance(0.2)).cloned().collect();
        // Those that others know as seeds are among the core, so that whoever comes back finds it.
        let (alone, who) = (random.chance(0.15), random.below(names.len()));
        let (joins, leaves) = (random.chance(0.5), random.chance(0.5));
        let leaver = names.get(2 + random.below(names.len().saturating_sub(2))).cloned();
        if self.profile == Profile::Rest {
            return EndPlan::default();
        }
        EndPlan {
            heal: true,
            stay_down,
            cut_off: if alone && who >= 2 && names.len() > 3 { vec![names[who].clone()] } else { Vec::new() },
            join: joins.then(|| "latecomer".to_owned()),
            leave: leaver.filter(|name| leaves && !(alone && *name == names[who])),
        }
    }
}

/// The number of a fault, from 64 random bits.
fn number(name: &str, family: Family, strength: u64, profile: Profile) -> f64 {
    let of = |choices: &[f64]| choices[(strength % choices.len() as u64) as usize];
    match (name, family) {
        ("loss", _) if profile == Profile::Gentle => of(&[0.01, 0.03, 0.05]),
        ("loss", _) => of(&[0.01, 0.05, 0.1, 0.25]),
        ("burst-loss", _) => of(&[0.3, 0.6, 0.95]),
        ("tail" | "duplicate", _) => of(&[0.01, 0.05, 0.2]),
        ("replay", _) => of(&[0.001, 0.01, 0.05]),
        ("corrupt" | "truncate", _) => of(&[0.001, 0.01, 0.05]),
        ("reset", _) => of(&[0.001, 0.01, 0.05]),
        ("bandwidth", _) => of(&[100_000.0, 300_000.0, 1_000_000.0]),
        ("mtu", _) => of(&[1_300.0, 1_350.0]),
        ("rolling" | "restart-all" | "twin", _) => of(&[1.0, 1.0, 2.0]),
        (_, Family::Network | Family::Process) if profile == Profile::Storm => of(&[4.0, 8.0, 12.0]),
        (_, Family::Network | Family::Process) => of(&[1.0, 2.0, 4.0, 6.0]),
        (_, Family::User) => of(&[2.0, 4.0, 8.0]),
        (_, Family::Plot) => of(&[1.0, 2.0, 3.0]),
        (_, Family::Clock | Family::Child | Family::Link | Family::Site) => 1.0,
    }
}

/// Times in files are for people: tenths of a millisecond are exact enough.
fn round(duration: Duration) -> Duration {
    Duration::from_micros(duration.as_micros() as u64 / 100 * 100)
}

/// When something happens that happens so often per minute.
fn times(random: &mut Random, per_minute: f64, duration: Duration) -> Vec<Duration> {
    let gap = Duration::from_secs(60).div_f64(per_minute.clamp(0.001, 100_000.0));
    let mut at = Duration::ZERO;
    let mut times = Vec::new();
    loop {
        at += round(random.duration(Range::new(Duration::ZERO, gap * 2))).max(Duration::from_micros(100));
        if at >= duration {
            break;
        }
        times.push(at);
    }
    if times.is_empty() && per_minute >= 1.0 {
        // A fault that a seed knows is one that it sees.
        times.push(round(random.duration(Range::new(Duration::ZERO, duration))));
    }
    times
}

/// How long a fault lasts: some are over before anybody notices, some last beyond the detection of failures.
fn lasting(random: &mut Random) -> Duration {
    let ranges = [Range::millis(20, 500), Range::millis(500, 4_000), Range::millis(4_000, 20_000)];
    let range = *random.pick(&ranges).unwrap_or(&ranges[0]);
    round(random.duration(range))
}

impl Draw {
    /// Every option that was given or derived, by name.
    pub fn options(&self) -> Vec<(String, String)> {
        let scenario = self.scenario();
        let (nodes, config) = (scenario.nodes(), &scenario.config);
        let newcomers = nodes.iter().filter(|node| node.name.starts_with("newcomer")).count();
        let optional = |duration: Option<Duration>| duration.map_or("never".into(), span::format);
        let list = |names: &[String]| if names.is_empty() { "nobody".into() } else { names.join("+") };
        let mut options = vec![
            ("profile", self.profile.to_string()),
            ("nodes", (nodes.len() - newcomers).to_string()),
            ("newcomers", newcomers.to_string()),
            ("fanout", scenario.cluster.fanout.to_string()),
            ("startup", scenario.cluster.startup.to_string()),
            ("scopes", (1 + scenario.cluster.scopes.len()).to_string()),
            ("duration", span::format(scenario.duration)),
            ("timings", format!("{:?}", config.profile).to_lowercase()),
            ("sync_interval", span::format(config.sync_interval)),
            ("settle_timeout", optional(config.settle_timeout)),
            ("confirm_timeout", optional(config.confirm_timeout)),
            ("starting_max", config.limits.starting_max.to_string()),
            ("delay", scenario.network.delay.to_string()),
            ("timer_lateness", scenario.cluster.timer_lateness.to_string()),
            ("resume", format!("{:?}", scenario.cluster.resume)),
            ("events", scenario.events.len().to_string()),
            ("stay_down", list(&scenario.end.stay_down)),
            ("cut_off", list(&scenario.end.cut_off)),
            ("joins_in_the_end", list(scenario.end.join.as_slice())),
            ("leaves_in_the_end", list(scenario.end.leave.as_slice())),
        ];
        let faults = self.faults();
        options.extend(faults.iter().map(|(name, number)| (name.as_str(), number.to_string())));
        options.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl fmt::Display for Draw {
    /// Every option that was given or derived, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options: Vec<String> = self.options().iter().map(|(name, value)| format!("{name}={value}")).collect();
        f.write_str(&options.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each swarm seed spends a minute under three kinds of fault. Method: of what the seeds know, what is a
    /// property of all links, or an event of the scenario, is counted.
    #[test]
    fn every_swarm_seed_spends_a_minute_under_at_least_three_kinds_of_fault() {
        for seed in 0..1_000 {
            let draw = Draw::seeded(seed);
            let (faults, scenario) = (draw.faults(), draw.scenario());
            assert!(scenario.duration >= Duration::from_secs(60));
            let of = |family| faults.keys().filter(move |name| faults::named(name).is_some_and(|f| f.family == family));
            let struck = super::network::events(&draw, &faults, &["a".into(), "b".into()], &scenario.config).len();
            let network = of(Family::Network).count();
            assert!(struck >= network, "seed {seed}: every fault of the network strikes");
            assert!(of(Family::Link).count() + network >= FAULTS_MIN, "seed {seed}: {faults:?}");
        }
    }

    #[test]
    fn taking_out_one_fault_leaves_the_others_where_they_were() {
        let draw = Draw { profile: Profile::Storm, ..Draw::seeded(5) };
        let without = Draw { faults: BTreeMap::from([("split".into(), 0.0)]), ..draw.clone() };
        let cuts = |draw: &Draw| -> Vec<String> {
            let cut = |timed: &&super::super::Timed| matches!(timed.act, super::super::Act::Cut { .. });
            draw.scenario().events.iter().filter(cut).map(ToString::to_string).collect()
        };
        assert!(!cuts(&draw).is_empty());
        assert_eq!(cuts(&draw), cuts(&without));
    }

    #[test]
    fn a_fault_that_is_given_takes_the_place_of_a_drawn_one() {
        let given = BTreeMap::from([("loss".into(), 0.33), ("crash".into(), 0.0)]);
        let draw = Draw { faults: given, profile: Profile::Storm, ..Draw::seeded(9) };
        assert_eq!(draw.scenario().network.loss, 0.33);
        assert!(!draw.faults().contains_key("crash"));
    }

    #[test]
    fn a_scenario_at_rest_has_no_fault_and_the_default_configuration() {
        let scenario = Draw { profile: Profile::Rest, nodes: Some(4), ..Draw::seeded(3) }.scenario();
        assert_eq!((scenario.network, scenario.nodes().len()), (Link::default(), 4));
        assert!(scenario.events.iter().all(|timed| timed.act.is_call()));
        assert_eq!(scenario.config.sync_interval, Config::default().sync_interval);
    }
}
