//! What can be tuned, as plain data: one struct that serde reads, one check that returns every reason at once.
//!
//! No clock and no I/O: addresses are resolved by the runtime.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::key::{HOW_TO_MAKE, KEYS_MAX, Key};

/// How a node takes part in a cluster.
///
/// Every field has a default, so a file may hold only what differs:
///
/// ```
/// // with the `toml` crate: toml::from_str::<haulout::Config>(text)
/// let config = haulout::Config { seeds: vec!["10.0.0.5:7946".into()], ..haulout::Config::default() };
/// assert_eq!(config.sync_interval, std::time::Duration::from_secs(5));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The name of the cluster, 1 to 255 bytes. Packets of other clusters are counted and ignored. Default:
    /// `haulout`.
    pub cluster: String,
    /// The stable name of this node, by which children are placed; a restart under the same name moves nothing to
    /// other places. Unique in the cluster, 1 to 255 bytes. Default (`None`): the advertised `host:port`.
    pub name: Option<String>,
    /// The address for UDP and TCP. Port 0 takes a free one. Default: `127.0.0.1:0`.
    pub bind: SocketAddr,
    /// The address under which others reach this node. Needed where `bind` is unspecified (`0.0.0.0`) or behind NAT. It
    /// must end at the process itself, not at a proxy that may restart without it: its port refusing is a sign of death.
    /// Port 0 means the bound port. Default (`None`): the bound address.
    pub advertise: Option<SocketAddr>,
    /// Nodes to join through, `host:port`, resolved again at each try. Every node of a cluster lists the same ones;
    /// a node ignores its own address among them. Empty: this node waits to be joined.
    pub seeds: Vec<String>,
    /// Timings of failure detection. Default: [`Profile::Lan`].
    pub profile: Profile,
    /// How often the safety net runs: children that are not in a stable state are looked at, a slice of the others
    /// is audited, and the state is compared with a random member. It bounds the recovery from lost messages;
    /// everything else is acted on at once. 50 ms to 1 h. Default: 5 s.
    #[serde(with = "duration_text")]
    pub sync_interval: Duration,
    /// How long a node waits for a settled member before it settles by itself. `None` (in a file: `"never"`): for
    /// ever, so the first node of a cluster must set it. Default: 2 s.
    #[serde(with = "duration_or_never")]
    pub settle_timeout: Option<Duration>,
    /// How long a member that was asked and answers nothing holds up a start. `None` (`"never"`): until it is
    /// declared down. At most the profile's `ask_ttl`. Default: 1 s.
    #[serde(with = "duration_or_never")]
    pub confirm_timeout: Option<Duration>,
    /// How long a child's `init` may take. Default: 30 s.
    #[serde(with = "duration_text")]
    pub start_timeout: Duration,
    /// How long `leave` waits for others to take over before it stops the rest. Default: 10 s.
    #[serde(with = "duration_text")]
    pub leave_timeout: Duration,
    /// The first pause of a child that fails too often; doubled at each further failure. Default: 500 ms.
    #[serde(with = "duration_text")]
    pub backoff_min: Duration,
    /// The longest pause of a child that fails too often. Default: 1 min.
    #[serde(with = "duration_text")]
    pub backoff_max: Duration,
    /// Whether a datagram has to come from the address that its sender advertises, and a stream from its host; what does not
    /// is refused. Say yes where the network keeps hosts from sending in each other's names: who has a key and speaks for
    /// another member, or repeats what it said, then has to be where that one is. Default: false, because behind NAT, and on
    /// hosts with several addresses, honest packets come from others.
    pub check_source: bool,
    /// How packets are protected. Default: not at all, which is accepted on loopback only.
    pub security: Security,
    /// Bounds of tables and queues.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            cluster: "haulout".into(),
            name: None,
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            advertise: None,
            seeds: Vec::new(),
            profile: Profile::Lan,
            sync_interval: Duration::from_secs(5),
            settle_timeout: Some(Duration::from_secs(2)),
            confirm_timeout: Some(Duration::from_secs(1)),
            start_timeout: Duration::from_secs(30),
            leave_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            check_source: false,
            security: Security::default(),
            limits: Limits::default(),
        }
    }
}

/// Timings of failure detection, by how far apart the nodes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Loopback, tests, one rack: a silent node is given up after about 1.5 s.
    Local,
    /// One data centre: about 2 s.
    #[default]
    Lan,
    /// Several regions: about 12 s.
    Wan,
}

/// How packets are protected from those who are not in the cluster.
///
/// Nodes with a keyring and nodes in plaintext refuse and count each other's packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Security {
    /// Nothing: whoever can send a packet to a node owns the cluster. Accepted on loopback only.
    Plaintext {
        /// Accept it on other networks too. Say yes only where every host that can reach the port is trusted.
        #[serde(default)]
        allow_beyond_loopback: bool,
    },
    /// Every packet is sealed with the first key and opened with any of them. Keys come from the three places in this
    /// order, at most 16 in all; the same keys on every node, but for the time of a rotation.
    ///
    /// A key is made by [`Key::generate`](crate::Key) or `head -c 32 /dev/urandom | base64`.
    Keyring {
        /// Keys themselves. Default: none.
        #[serde(default)]
        keys: Vec<Key>,
        /// A file with one key per line; empty lines and what follows a `#` are passed over. Read when the node starts.
        /// Default: none.
        #[serde(default)]
        file: Option<PathBuf>,
        /// The name of an environment variable with keys, separated by commas or white space. Read when the node starts.
        /// Default: none.
        #[serde(default)]
        env: Option<String>,
    },
}

impl Security {
    /// The keys that are here, without those in a file or a variable; `None` for plaintext.
    pub(crate) fn keys(&self) -> Option<&[Key]> {
        match self {
            Security::Plaintext { .. } => None,
            Security::Keyring { keys, .. } => Some(keys),
        }
    }
}

impl Default for Security {
    fn default() -> Self {
        Security::Plaintext { allow_beyond_loopback: false }
    }
}

/// Bounds of tables and queues; each refusal is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Scopes that one node may join. Default: 64.
    pub scopes_max: usize,
    /// Members that one node keeps, down ones included. Default: 16,384.
    pub members_max: usize,
    /// Children per scope. Default: 4 million.
    pub children_max: usize,
    /// Open streams per node. At most a quarter of them, and 64, are standing ones of members that this node watches; a
    /// node has about six. Default: 1,024.
    pub streams_max: usize,
    /// Bytes queued for one stream; past that it is closed and the rest left to anti-entropy. Default: 256 MiB, the
    /// records of a million children.
    pub stream_backlog_bytes_max: usize,
    /// Bytes of datagrams that the kernel keeps until they are read, and as many that wait to be sent, 64 KiB to 1 GiB. It may
    /// grant less: the log and `datagram_buffer_bytes` of `Node::stats` say how much it is. Default: 4 MiB, a few thousand
    /// packets, which a node finds that has stalled for a second in a cluster of a thousand; what finds no room is lost and
    /// repaired later.
    pub datagram_buffer_bytes: usize,
    /// Calls that wait for the node to settle. Default: 1 million.
    pub waiting_calls_max: usize,
    /// Children that this node starts at once, or has others stop for it: as many `init`s run, or gaps of moves are open,
    /// and the others wait their turn, scope by scope. Default: 256, so that children whose `init` returns at once are
    /// not held up, and slow ones do not pile up on what they all depend on.
    pub starting_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            scopes_max: 64,
            members_max: 16_384,
            children_max: 4_000_000,
            streams_max: 1_024,
            stream_backlog_bytes_max: 256 << 20,
            datagram_buffer_bytes: 4 << 20,
            waiting_calls_max: 1_000_000,
            starting_max: 256,
        }
    }
}

/// Everything that is wrong with a [`Config`], so that it can be put right in one go.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct ConfigError {
    /// One sentence per field: what is wrong and what to change.
    pub reasons: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration can't be used: {}", self.reasons.join("; "))
    }
}

impl Config {
    /// Checks everything that can be checked without a network.
    ///
    /// # Errors
    /// [`ConfigError`] with *every* reason, each naming the field and what to change.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut reasons = Vec::new();
        let mut require = |holds: bool, reason: String| {
            if !holds {
                reasons.push(reason);
            }
        };
        let cluster_len = self.cluster.len();
        require((1..=255).contains(&cluster_len), format!("cluster has {cluster_len} bytes, give it 1 to 255"));
        if let Some(name) = &self.name {
            require((1..=255).contains(&name.len()), format!("name has {} bytes, give it 1 to 255", name.len()));
        }
        self.check_addresses(&mut require);
        self.check_durations(&mut require);
        let limits = &self.limits;
        for (field, value, max) in [
            ("scopes_max", limits.scopes_max, 1_024),
            ("members_max", limits.members_max, 1 << 20),
            ("children_max", limits.children_max, 1 << 28),
            ("streams_max", limits.streams_max, 1 << 16),
            ("stream_backlog_bytes_max", limits.stream_backlog_bytes_max, 1 << 34),
            ("waiting_calls_max", limits.waiting_calls_max, 1 << 28),
            ("starting_max", limits.starting_max, 1 << 20),
        ] {
            require((1..=max).contains(&value), format!("limits.{field} is {value}, set it to 1 to {max}"));
        }
        let (bytes, min, max) = (limits.datagram_buffer_bytes, 64 << 10, 1 << 30);
        require(
            (min..=max).contains(&bytes),
            format!("limits.datagram_buffer_bytes is {bytes}, set it to {min} to {max}"),
        );
        if reasons.is_empty() { Ok(()) } else { Err(ConfigError { reasons }) }
    }

    fn check_addresses(&self, require: &mut impl FnMut(bool, String)) {
        require(
            !(self.bind.ip().is_unspecified() && self.advertise.is_none()),
            format!(
                "bind is {} (every interface): set advertise to the address under which others reach it",
                self.bind
            ),
        );
        if let Some(advertise) = self.advertise {
            require(!advertise.ip().is_unspecified(), format!("advertise is {advertise}, set a reachable address"));
            require(
                advertise.is_ipv4() == self.bind.is_ipv4(),
                format!("advertise {advertise} and bind {} are of different IP versions, use one", self.bind),
            );
        }
        for seed in &self.seeds {
            let port =
                seed.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
            require(port.is_some_and(|port| port > 0), format!("seed {seed:?} is not host:port"));
        }
        require(self.seeds.len() <= 64, format!("{} seeds are listed, at most 64 are used", self.seeds.len()));
        let reachable = self.advertise.unwrap_or(self.bind);
        let is_local = reachable.ip().is_loopback() && self.bind.ip().is_loopback();
        match &self.security {
            Security::Plaintext { allow_beyond_loopback } => require(
                *allow_beyond_loopback || is_local,
                format!(
                    "security is plaintext and {reachable} is not loopback: whoever can send a packet to it would own the \
                     cluster; make a key with `{HOW_TO_MAKE}` (or haulout::Key::generate()) and give it to every node \
                     under [security] with mode = \"keyring\" and file or env; or, if every host on the network is \
                     trusted, say so with mode = \"plaintext\" and allow_beyond_loopback = true"
                ),
            ),
            Security::Keyring { keys, file, env } => {
                require(
                    !keys.is_empty() || file.is_some() || env.is_some(),
                    format!("security is a keyring and names no keys, file or env: make a key with `{HOW_TO_MAKE}`"),
                );
                let len = keys.len();
                require(len <= KEYS_MAX, format!("security.keys has {len} keys, at most {KEYS_MAX} are used"));
            }
        }
    }

    fn check_durations(&self, require: &mut impl FnMut(bool, String)) {
        const HOUR: Duration = Duration::from_secs(3600);
        for (field, value, min, max) in [
            ("sync_interval", Some(self.sync_interval), Duration::from_millis(50), HOUR),
            ("settle_timeout", self.settle_timeout, Duration::ZERO, HOUR),
            ("start_timeout", Some(self.start_timeout), Duration::from_millis(1), 24 * HOUR),
            ("leave_timeout", Some(self.leave_timeout), Duration::ZERO, 24 * HOUR),
            ("backoff_min", Some(self.backoff_min), Duration::from_millis(1), HOUR),
            ("backoff_max", Some(self.backoff_max), self.backoff_min, 24 * HOUR),
            ("confirm_timeout", self.confirm_timeout, Duration::from_millis(10), self.profile.ask_ttl()),
        ] {
            let Some(value) = value else { continue };
            let bound =
                if field == "confirm_timeout" { format!(" (profile {:?})", self.profile) } else { String::new() };
            require(
                (min..=max).contains(&value),
                format!("{field} is {}, set it to {} to {}{bound}", text(value), text(min), text(max)),
            );
        }
    }
}

impl Profile {
    /// How long a permission to start counts, from the sending of the question. Shorter than
    /// [`suspicion_min`](Self::suspicion_min), so that what a silent node was permitted has expired before others take
    /// over; and longer than the default of `confirm_timeout`.
    pub const fn ask_ttl(self) -> Duration {
        match self {
            Profile::Local => Duration::from_millis(1_200),
            Profile::Lan => Duration::from_millis(1_250),
            Profile::Wan => Duration::from_secs(7),
        }
    }

    /// How often a node probes a member.
    pub const fn probe_period(self) -> Duration {
        match self {
            Profile::Local => Duration::from_millis(300),
            Profile::Lan => Duration::from_secs(1),
            Profile::Wan => Duration::from_secs(5),
        }
    }

    /// How long a direct probe may take before others are asked to probe too.
    pub const fn probe_rtt(self) -> Duration {
        match self {
            Profile::Local => Duration::from_millis(150),
            Profile::Lan => Duration::from_millis(500),
            Profile::Wan => Duration::from_secs(3),
        }
    }

    /// How often a node gives one of its three watchers a sign of life. Twice as often as it probes, for half the price:
    /// nobody answers. Random probes leave a member out for a second or two, now and then for four; signs of life are missed
    /// on time.
    pub const fn pulse_period(self) -> Duration {
        match self {
            Profile::Local => Duration::from_millis(150),
            Profile::Lan => Duration::from_millis(500),
            Profile::Wan => Duration::from_millis(2_500),
        }
    }

    /// How long one that is doubted has for each answer, before it is asked again: a fifth of
    /// [`probe_rtt`](Self::probe_rtt), which also pays for detours.
    pub const fn question_period(self) -> Duration {
        match self {
            Profile::Local => Duration::from_millis(30),
            Profile::Lan => Duration::from_millis(100),
            Profile::Wan => Duration::from_millis(600),
        }
    }

    /// How long a suspect has to refute at least, however many confirm that it is silent. In `lan`, a process that stands
    /// still for a second has most of another one left: it is not suspected at once.
    pub const fn suspicion_min(self) -> Duration {
        match self {
            Profile::Local => Duration::from_millis(1_250),
            Profile::Lan => Duration::from_millis(1_300),
            Profile::Wan => Duration::from_secs(8),
        }
    }

    /// How long a suspect has to refute where nobody confirms that it is silent, in a cluster of up to 10; it grows with
    /// the logarithm of the size.
    pub const fn suspect_to_down_after(self) -> Duration {
        match self {
            Profile::Local => Duration::from_millis(1_500),
            Profile::Lan => Duration::from_secs(4),
            Profile::Wan => Duration::from_secs(25),
        }
    }

    /// How often fresh membership updates and records are passed on to a few random members.
    pub const fn gossip_interval(self) -> Duration {
        match self {
            Profile::Local => Duration::from_millis(100),
            Profile::Lan => Duration::from_millis(200),
            Profile::Wan => Duration::from_millis(500),
        }
    }
}

fn text(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// Durations as text: "5s", "250ms", "1m 30s".
mod duration_text {
    use std::fmt;
    use std::time::Duration;

    use serde::{Deserializer, Serializer, de::Error, de::Visitor};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_str(Text)
    }

    /// Says what is expected where a file has a number.
    struct Text;

    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration with its unit, like \"5s\" or \"250ms\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            let explain = |error| E::custom(format!("{text:?} is not a duration like \"5s\" or \"250ms\": {error}"));
            humantime::parse_duration(text).map_err(explain)
        }
    }
}

/// The same, with "never" for `None`.
mod duration_or_never {
    use std::fmt;
    use std::time::Duration;

    use serde::{Deserializer, Serializer, de::Error, de::Visitor};

    pub(super) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            None => serializer.serialize_str("never"),
            Some(duration) => super::duration_text::serialize(duration, serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        deserializer.deserialize_str(TextOrNever)
    }

    struct TextOrNever;

    impl Visitor<'_> for TextOrNever {
        type Value = Option<Duration>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("\"never\" or a duration with its unit, like \"2s\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Option<Duration>, E> {
            if text == "never" {
                return Ok(None);
            }
            let explain =
                |error| E::custom(format!("{text:?} is neither \"never\" nor a duration like \"2s\": {error}"));
            humantime::parse_duration(text).map(Some).map_err(explain)
        }
    }
}
