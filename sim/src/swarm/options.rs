//! What a swarm run is like: everything that is not given is drawn from the seed.

use std::fmt;
use std::time::Duration;

use haulout::proto::{FaultSites, Sabotage};
use haulout::{Config, Profile};

use crate::cluster::Resume;
use crate::network::Link;
use crate::random::{Random, Range};

/// What a swarm run is like.
#[derive(Clone, Debug)]
pub struct SwarmOptions {
    /// How many nodes there are at first.
    pub nodes: usize,
    /// How many ids of children are in use.
    pub children: usize,
    /// How long faults and calls go on.
    pub duration: Duration,
    /// The configuration of every node.
    pub config: Config,
    /// How links behave while faults go on.
    pub link: Link,
    /// How late timers fire at most.
    pub timer_lateness_max: Duration,
    /// What a resumed process sees first.
    pub resume: Resume,
    /// How long it is between two faults on average.
    pub fault_every: Duration,
    /// The faults that happen, each as likely as it is listed often.
    pub faults: Vec<SwarmFault>,
    /// Rules that are taken out. Never drawn.
    pub sabotage: Sabotage,
    /// Fault sites inside the nodes that fire now and then; their seed is that of the run.
    pub fault_sites: FaultSites,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwarmFault {
    /// Two nodes can't talk for a while.
    Cut,
    /// One node can't talk to another for a while.
    CutOneWay,
    /// The nodes fall into two groups for a while.
    Split,
    /// A process is stopped for a while.
    Pause,
    /// A process is killed and started again at once or after a while.
    Crash,
    /// A machine loses power for a while.
    PowerLoss,
    /// A node leaves; it comes back after a while.
    Leave,
    /// A new node joins.
    Join,
    /// Links get much worse for a while.
    BadWeather,
}

const ALL: [SwarmFault; 9] = [
    SwarmFault::Cut,
    SwarmFault::CutOneWay,
    SwarmFault::Split,
    SwarmFault::Pause,
    SwarmFault::Crash,
    SwarmFault::PowerLoss,
    SwarmFault::Leave,
    SwarmFault::Join,
    SwarmFault::BadWeather,
];

impl SwarmOptions {
    /// Draws what is not given from the seed.
    pub fn draw(seed: u64, nodes: usize, children: usize) -> Self {
        let mut random = Random::stream(seed, "swarm options");
        let profile = *random.pick(&[Profile::Local, Profile::Local, Profile::Lan]).unwrap_or(&Profile::Local);
        let config = Config {
            profile,
            sync_interval: random.duration(Range::millis(300, 5_000)),
            settle_timeout: Some(random.duration(Range::millis(1_000, 2_000))),
            confirm_timeout: Some(random.duration(Range::millis(500, 1_000))),
            leave_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(3),
            ..Config::default()
        };
        let loss = *random.pick(&[0.0, 0.0, 0.01, 0.05, 0.1, 0.25]).unwrap_or(&0.0);
        let duplicate = *random.pick(&[0.0, 0.01, 0.1]).unwrap_or(&0.0);
        let slowest = random.duration(Range::millis(2, 60));
        let timer_lateness_max = random.duration(Range::millis(0, 3));
        let resume = *random.pick(&[Resume::PacketsFirst, Resume::TimersFirst]).unwrap_or(&Resume::PacketsFirst);
        let fault_every = random.duration(Range::millis(800, 6_000));
        // One seed in five knows planned changes and mild loss only: there nothing excuses an overlap.
        let gentle = random.chance(0.2);
        let likely = |fault: &SwarmFault| match fault {
            SwarmFault::Leave | SwarmFault::Join => 0.6,
            _ if gentle => 0.0,
            _ => 0.6,
        };
        let faults = ALL.into_iter().filter(|fault| random.chance(likely(fault))).collect();
        let loss = if gentle { f64::min(loss, 0.05) } else { loss };
        SwarmOptions {
            nodes,
            children,
            duration: Duration::from_secs(60),
            config,
            link: Link { delay: Range::new(Duration::from_micros(300), slowest), loss, duplicate, ..Link::default() },
            timer_lateness_max,
            resume,
            fault_every,
            faults,
            sabotage: Sabotage::default(),
            fault_sites: FaultSites::default(),
        }
    }

    /// How long a fault may have consequences after its end: a suspicion that it caused may still end in a Down, and
    /// those who believe each other down try again every ten seconds.
    pub fn reach(&self) -> Duration {
        let config = &self.config;
        let suspicion = config.profile.suspect_to_down_after() + config.profile.probe_period();
        suspicion * 2 + Duration::from_secs(10) + config.sync_interval
    }

    /// How long two nodes that can talk may take to tell each other everything.
    pub fn telling(&self) -> Duration {
        self.reach() + self.config.sync_interval * 4
    }

    /// How long a healed cluster may take to converge: every way of finding out about each other, one after the
    /// other, with room.
    pub fn healing_bound(&self) -> Duration {
        let config = &self.config;
        let nodes = self.nodes as u32 + 4;
        let suspicion = config.profile.suspect_to_down_after() * (1 + nodes.ilog2());
        let probing = config.profile.probe_period() * 2 * nodes;
        let timeouts = config.settle_timeout.unwrap_or_default() + config.leave_timeout + config.backoff_max;
        Duration::from_secs(30) + suspicion + probing + timeouts + config.sync_interval * 8
    }
}

impl fmt::Display for SwarmOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        write!(
            f,
            "nodes={} children={} duration={:?} profile={:?} sync_interval={:?} settle_timeout={:?} \
             confirm_timeout={:?} loss={} duplicate={} delay={:?}..{:?} timer_lateness={:?} resume={:?} \
             fault_every={:?} faults={:?}",
            self.nodes,
            self.children,
            self.duration,
            config.profile,
            config.sync_interval,
            config.settle_timeout.unwrap_or_default(),
            config.confirm_timeout.unwrap_or_default(),
            self.link.loss,
            self.link.duplicate,
            self.link.delay.min,
            self.link.delay.max,
            self.timer_lateness_max,
            self.resume,
            self.fault_every,
            self.faults,
        )
    }
}
