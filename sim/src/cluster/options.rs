//! What a simulated cluster is like.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use haulout::proto::{Fanout, FaultSites, InstanceId, Sabotage};
use haulout::{ChildSpec, Config, Security};

use serde::{Deserialize, Serialize};

use crate::NodeIdx;
use crate::network::Link;
use crate::random::Range;
use crate::streams::StreamOptions;
use crate::trace::TraceText;

/// What a simulated cluster is like. Every field has a default.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where all randomness comes from.
    pub seed: u64,
    /// The configuration of every node; name, addresses and seeds are filled in. Plaintext is allowed.
    pub config: Config,
    /// The scope that every node joins.
    pub scope: String,
    /// The scopes that nodes join beside it. Default: none.
    pub scopes: Vec<String>,
    /// The kinds that every node can run.
    pub kinds: Vec<String>,
    /// So many of the first nodes are everybody's seeds. Default: 2.
    pub seed_nodes: usize,
    /// How links behave.
    pub link: Link,
    /// How streams behave.
    pub streams: StreamOptions,
    /// How long it takes to resolve the seeds.
    pub resolve_delay: Range,
    /// How late timers fire. Default: not at all.
    pub timer_lateness: Range,
    /// How far the clock of a node is ahead of the simulation at most: nodes must not compare clocks.
    pub clock_ahead_max: Duration,
    /// How many bytes of datagrams wait for a paused process; as Linux counts them, each costs 768 besides.
    pub socket_buffer_bytes: usize,
    /// How many streams a paused process's kernel accepts for it; whoever dials then hears nothing.
    pub listen_backlog: usize,
    /// What a resumed process sees first.
    pub resume: Resume,
    /// A node that takes more inputs than this within a virtual millisecond is in a livelock.
    pub inputs_per_ms_max: u32,
    /// Whether every datagram is kept, for replay.
    pub capture: bool,
    /// Whether it is noted when nodes heard of each other, for [`Cluster::contacts`](super::Cluster::contacts).
    pub contacts: bool,
    /// What becomes of the text of the trace.
    pub trace: TraceText,
    /// Rules that are taken out.
    pub sabotage: Sabotage,
    /// Fault sites inside the nodes that fire now and then. Default: none.
    pub fault_sites: FaultSites,
    /// From which size on the nodes take a cluster for large. Default: that of the library.
    pub fanout: Fanout,
}

/// What a process sees first when it is resumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resume {
    /// What has arrived, as the real runtime does it. The default.
    #[default]
    PacketsFirst,
    /// Its overdue timers.
    TimersFirst,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            seed: 0,
            config: Config::default(),
            scope: "scope".into(),
            scopes: Vec::new(),
            kinds: vec!["kind".into()],
            seed_nodes: 2,
            link: Link::default(),
            streams: StreamOptions::default(),
            resolve_delay: Range::new(Duration::from_micros(100), Duration::from_millis(1)),
            timer_lateness: Range::ZERO,
            clock_ahead_max: Duration::from_secs(1_000),
            socket_buffer_bytes: 212_992,
            listen_backlog: 1_024,
            resume: Resume::default(),
            inputs_per_ms_max: 100_000,
            capture: false,
            contacts: false,
            trace: TraceText::Off,
            sabotage: Sabotage::default(),
            fault_sites: FaultSites::default(),
            fanout: Fanout::default(),
        }
    }
}

impl Options {
    /// The defaults with this seed.
    pub fn seeded(seed: u64) -> Self {
        Options { seed, ..Options::default() }
    }

    /// How the nodes protect their packets: as configured, and in plaintext beyond loopback too.
    pub(super) fn security(&self) -> Security {
        match &self.config.security {
            Security::Plaintext { .. } => Security::Plaintext { allow_beyond_loopback: true },
            keyed => keyed.clone(),
        }
    }
}

/// How one node takes part; kept over its restarts.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The kinds that it can run.
    pub kinds: Vec<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its weight.
    pub weight: u16,
    /// Its start-up children.
    pub children: Vec<ChildSpec>,
    /// Whether it joins scopes by itself as soon as it starts.
    pub joins: bool,
    /// Those that it joins beside the one that all join, and its weight in each; with the same kinds, labels and start-up
    /// children.
    pub scopes: BTreeMap<String, u16>,
    /// Its configuration.
    pub config: Config,
    /// Its instance at every start, to see why that is wrong. Default (`None`): a new one each time.
    pub instance: Option<InstanceId>,
    /// How far its monotonic clock is ahead of the simulation when it starts. Default (`None`): drawn at every start,
    /// up to [`Options::clock_ahead_max`].
    pub clock_ahead: Option<Duration>,
    /// How many millionths of a second its monotonic clock counts too many in each, or too few.
    pub drift_ppm: i32,
    /// How far its wall clock is from the right time when it starts, seconds to years.
    pub wall_offset_ms: i64,
}

/// The address of a node in virtual space.
pub(crate) fn address(node: NodeIdx) -> SocketAddr {
    let number = node.0 as u32 + 1;
    SocketAddr::from((Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number), 7946))
}
