//! What happens in a scenario: faults and the calls of users. A fault says itself how long it lasts, so that taking out
//! one line takes out all of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use haulout::{ChildSpec, Key, Restart, Shutdown};
use serde::{Deserialize, Serialize};

use super::{ScenarioError, span};
use crate::cluster::{Resume, Sifting, Topic};
use crate::network::{Class, Link};

/// Something that happens at some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "toml::Table", into = "toml::Table")]
pub struct Timed {
    /// When, from the beginning.
    pub at: Duration,
    /// In which scope a user calls; empty: in the one that every node joins.
    pub scope: String,
    /// What.
    pub act: Act,
}

impl Timed {
    /// A fault, or a call in the scope that every node joins.
    pub fn new(at: Duration, act: Act) -> Self {
        Timed { at, scope: String::new(), act }
    }
}

/// What happens. `for` is how long a fault lasts; without it, until everything heals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are nodes, children and times; each variant says what they are to it")]
pub enum Act {
    /// A user of node `on` starts a child, and is answered when so many other nodes know of it.
    Start {
        id: String,
        on: String,
        #[serde(default, skip_serializing_if = "is_zero")]
        replicated: usize,
        #[serde(default, skip_serializing_if = "SpecPlan::is_default")]
        spec: SpecPlan,
    },
    /// A user replaces a child's spec, and is answered when so many other nodes know of it.
    Update {
        id: String,
        on: String,
        #[serde(default, skip_serializing_if = "is_zero")]
        replicated: usize,
        #[serde(default, skip_serializing_if = "SpecPlan::is_default")]
        spec: SpecPlan,
    },
    /// A user terminates a child, and is answered when so many other nodes know of it.
    Terminate {
        id: String,
        on: String,
        #[serde(default, skip_serializing_if = "is_zero")]
        replicated: usize,
    },
    /// A user asks where a child is.
    Read { id: String, on: String },
    /// A user starts `count` children at once: `id-0`, `id-1` and so on.
    StartMany {
        id: String,
        on: String,
        count: usize,
        #[serde(default, skip_serializing_if = "SpecPlan::is_default")]
        spec: SpecPlan,
    },
    /// A user terminates them all at once.
    TerminateMany { id: String, on: String, count: usize },
    /// Users start and terminate one child by turns, `count` times, from one of the nodes after the other.
    Storm {
        id: String,
        on: Vec<String>,
        count: usize,
        #[serde(with = "span")]
        every: Duration,
        #[serde(default, skip_serializing_if = "SpecPlan::is_default")]
        spec: SpecPlan,
    },
    /// Links are cut, `a=b` in both directions, `a>b` in one. With `flap`, they are cut and mended by turns, so long each.
    Cut {
        links: Vec<LinkName>,
        #[serde(default, skip_serializing_if = "is_all")]
        class: Class,
        #[serde(default, with = "span::option", skip_serializing_if = "Option::is_none")]
        flap: Option<Duration>,
        #[serde(default, with = "span::option", rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<Duration>,
    },
    /// The nodes fall into groups that can't talk; who is in no group can talk to all (a bridge).
    Split {
        sides: Vec<Vec<String>>,
        #[serde(default, skip_serializing_if = "is_all")]
        class: Class,
        #[serde(default, with = "span::option", skip_serializing_if = "Option::is_none")]
        flap: Option<Duration>,
        #[serde(default, with = "span::option", rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<Duration>,
    },
    /// Every node can talk to its two neighbours only.
    Ring {
        #[serde(default, with = "span::option", rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<Duration>,
    },
    /// Links jam: what is sent waits, and comes at once when the time is over.
    Clog {
        links: Vec<LinkName>,
        #[serde(default, with = "span::option", rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<Duration>,
    },
    /// Firewalls refuse streams, whoever listens behind them; those that there are break. Datagrams pass, or not.
    Reject {
        links: Vec<LinkName>,
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        datagrams_pass: bool,
        #[serde(default, with = "span::option", rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<Duration>,
    },
    /// The network of one node is broken on its own side: whoever it dials seems to refuse, and no datagram gets through.
    Unwell {
        node: String,
        #[serde(default, with = "span::option", rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<Duration>,
    },
    /// Something on the way forgets its connections: the streams of these links break, and new ones can be opened at once.
    Reset { links: Vec<LinkName> },
    /// All links behave like this.
    Weather {
        link: Link,
        #[serde(default, with = "span::option", rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<Duration>,
    },
    /// Some links behave like this.
    Degrade {
        links: Vec<LinkName>,
        link: Link,
        #[serde(default, with = "span::option", rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<Duration>,
    },
    /// Packets that tell of such things, from one node (or all) to another (or all), are lost, late, or come again.
    Sift {
        #[serde(default, skip_serializing_if = "String::is_empty")]
        from: String,
        #[serde(default, skip_serializing_if = "String::is_empty")]
        to: String,
        what: Vec<Topic>,
        #[serde(default)]
        how: Sifting,
        #[serde(default)]
        by: crate::random::Range,
        #[serde(default, with = "span::option", rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<Duration>,
    },
    /// An operator takes the cluster to another key: three times through all nodes, which are `every` apart, so that the new
    /// one is added, put first, and left alone. The configuration must have a keyring.
    Rotate {
        to: Key,
        #[serde(with = "span")]
        every: Duration,
    },
    /// A node goes, and comes back as a new instance on the same address.
    Down {
        node: String,
        #[serde(default)]
        how: How,
        #[serde(default, with = "span::option", rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<Duration>,
    },
    /// A host is given another address: its process is killed, and comes back under its name at the new one.
    Readdress {
        node: String,
        #[serde(default, with = "span::option", rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<Duration>,
    },
    /// One node after the other goes and comes back, every `every`.
    Rolling {
        #[serde(default)]
        how: How,
        #[serde(with = "span")]
        every: Duration,
        #[serde(with = "span", rename = "for")]
        lasting: Duration,
    },
    /// All nodes go at once and come back together.
    RestartAll {
        #[serde(default)]
        how: How,
        #[serde(with = "span", rename = "for")]
        lasting: Duration,
    },
    /// A process is stopped (SIGSTOP) and continued.
    Pause {
        node: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resume: Option<Resume>,
        #[serde(default, with = "span::option", rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<Duration>,
    },
    /// A process is overloaded: everything reaches it that much later.
    Slow {
        node: String,
        by: crate::random::Range,
        #[serde(default, with = "span::option", rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<Duration>,
    },
    /// A second process speaks from a node's address.
    Twin {
        node: String,
        #[serde(default, with = "span::option", rename = "for", skip_serializing_if = "Option::is_none")]
        lasting: Option<Duration>,
    },
    /// The wall clock of a node is set; what it does to a node shows at its next start.
    SetWallClock { node: String, by_ms: i64 },
    /// The monotonic clock of a node jumps forward, as after a suspension.
    JumpClock {
        node: String,
        #[serde(with = "span")]
        by: Duration,
    },
}

/// How a node goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Its process is killed; its kernel closes its streams and refuses new ones.
    #[default]
    Crash,
    /// Its machine loses power: nobody hears anything of it.
    Power,
    /// It leaves; it comes back when it has left and `for` is over.
    Leave,
}

/// What a child is, beside its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpecPlan {
    /// Its kind. Default: `steady`.
    pub kind: String,
    /// Its arguments.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub args: String,
    /// So many more bytes of arguments.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes: usize,
    /// When it is restarted.
    #[serde(skip_serializing_if = "is_permanent")]
    pub restart: Restart,
    /// How it is stopped: `brutal`, `infinity`, or after how long it is aborted. Default: `5s`.
    #[serde(with = "shutdown_text", skip_serializing_if = "is_default_shutdown")]
    pub shutdown: Shutdown,
    /// The labels that a node must have to run it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
}

impl Default for SpecPlan {
    fn default() -> Self {
        SpecPlan {
            kind: "steady".into(),
            args: String::new(),
            bytes: 0,
            restart: Restart::default(),
            shutdown: Shutdown::default(),
            node_selector: BTreeMap::new(),
        }
    }
}

impl SpecPlan {
    /// With this id, as a user hands it to a supervisor.
    ///
    /// # Errors
    /// If id, kind, arguments or labels are not allowed.
    pub fn spec(&self, id: &str) -> Result<ChildSpec, ScenarioError> {
        let mut args = self.args.clone().into_bytes();
        args.resize(args.len() + self.bytes, b'x');
        let labels = self.node_selector.iter().map(|(label, value)| (label.as_str(), value.as_str()));
        let spec = ChildSpec::raw(id, &self.kind, args).and_then(|spec| spec.node_selector(labels));
        let spec = spec.map_err(|error| ScenarioError(error.to_string()))?;
        Ok(spec.restart(self.restart).shutdown(self.shutdown))
    }

    fn is_default(&self) -> bool {
        *self == SpecPlan::default()
    }
}

/// A link by the names of its ends: `a=b` for both directions, `a>b` for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName {
    /// One end; where it matters, the sender.
    pub from: String,
    /// The other end.
    pub to: String,
    /// Whether one or both directions are meant.
    pub direction: Direction,
}

/// Which directions of a link are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Both.
    Both,
    /// What the first end sends to the other.
    OneWay,
}

impl LinkName {
    /// Both directions between two nodes.
    pub fn both(from: &str, to: &str) -> Self {
        LinkName { from: from.into(), to: to.into(), direction: Direction::Both }
    }

    /// One direction.
    pub fn one_way(from: &str, to: &str) -> Self {
        LinkName { from: from.into(), to: to.into(), direction: Direction::OneWay }
    }
}

impl TryFrom<String> for LinkName {
    type Error = ScenarioError;

    fn try_from(text: String) -> Result<Self, ScenarioError> {
        let ends = text.split_once('=').map(|ends| (ends, Direction::Both));
        let ends = ends.or_else(|| text.split_once('>').map(|ends| (ends, Direction::OneWay)));
        match ends {
            Some(((from, to), direction)) if from != to && !from.is_empty() && !to.is_empty() => {
                Ok(LinkName { from: from.into(), to: to.into(), direction })
            }
            _ => Err(ScenarioError(format!("{text:?} is no link; write a=b for both directions or a>b for one"))),
        }
    }
}

impl From<LinkName> for String {
    fn from(link: LinkName) -> String {
        let between = if link.direction == Direction::Both { '=' } else { '>' };
        format!("{}{between}{}", link.from, link.to)
    }
}

impl Act {
    /// The names of nodes that it uses.
    pub fn nodes(&self) -> Vec<&str> {
        match self {
            Act::Start { on, .. }
            | Act::Update { on, .. }
            | Act::Terminate { on, .. }
            | Act::Read { on, .. }
            | Act::StartMany { on, .. }
            | Act::TerminateMany { on, .. } => vec![on],
            Act::Storm { on, .. } => on.iter().map(String::as_str).collect(),
            Act::Cut { links, .. }
            | Act::Clog { links, .. }
            | Act::Reject { links, .. }
            | Act::Reset { links }
            | Act::Degrade { links, .. } => {
                links.iter().flat_map(|link| [link.from.as_str(), link.to.as_str()]).collect()
            }
            Act::Split { sides, .. } => sides.iter().flatten().map(String::as_str).collect(),
            Act::Sift { from, to, .. } => {
                [from, to].into_iter().filter(|end| !end.is_empty()).map(String::as_str).collect()
            }
            Act::Ring { .. }
            | Act::Weather { .. }
            | Act::Rotate { .. }
            | Act::Rolling { .. }
            | Act::RestartAll { .. } => Vec::new(),
            Act::Down { node, .. }
            | Act::Readdress { node, .. }
            | Act::Unwell { node, .. }
            | Act::Pause { node, .. }
            | Act::Slow { node, .. }
            | Act::Twin { node, .. }
            | Act::SetWallClock { node, .. }
            | Act::JumpClock { node, .. } => vec![node],
        }
    }

    /// Whether a user does it.
    pub fn is_call(&self) -> bool {
        matches!(
            self,
            Act::Start { .. }
                | Act::Update { .. }
                | Act::Terminate { .. }
                | Act::Read { .. }
                | Act::StartMany { .. }
                | Act::TerminateMany { .. }
                | Act::Storm { .. }
        )
    }

    /// The spec that a user's call asks for.
    pub(super) fn spec_mut(&mut self) -> Option<&mut SpecPlan> {
        match self {
            Act::Start { spec, .. }
            | Act::Update { spec, .. }
            | Act::StartMany { spec, .. }
            | Act::Storm { spec, .. } => Some(spec),
            _ => None,
        }
    }

    /// The id of the child that a user's call is about.
    pub fn child(&self) -> Option<&str> {
        match self {
            Act::Start { id, .. }
            | Act::Update { id, .. }
            | Act::Terminate { id, .. }
            | Act::Read { id, .. }
            | Act::StartMany { id, .. }
            | Act::TerminateMany { id, .. }
            | Act::Storm { id, .. } => Some(id),
            _ => None,
        }
    }

    /// How long it lasts, if it is a fault that ends by itself.
    pub fn lasting(&self) -> Option<Duration> {
        self.clone().lasting_mut().copied()
    }

    /// As [`lasting`](Self::lasting), to be changed.
    pub fn lasting_mut(&mut self) -> Option<&mut Duration> {
        match self {
            Act::Cut { lasting, .. }
            | Act::Split { lasting, .. }
            | Act::Ring { lasting }
            | Act::Clog { lasting, .. }
            | Act::Reject { lasting, .. }
            | Act::Unwell { lasting, .. }
            | Act::Weather { lasting, .. }
            | Act::Degrade { lasting, .. }
            | Act::Sift { lasting, .. }
            | Act::Down { lasting, .. }
            | Act::Readdress { lasting, .. }
            | Act::Pause { lasting, .. }
            | Act::Slow { lasting, .. }
            | Act::Twin { lasting, .. } => lasting.as_mut(),
            Act::Rolling { lasting, .. } | Act::RestartAll { lasting, .. } => Some(lasting),
            _ => None,
        }
    }

    /// How long it holds and how long it pauses by turns, if it flaps.
    pub fn flap(&self) -> Option<Duration> {
        match self {
            Act::Cut { flap, .. } | Act::Split { flap, .. } => flap.map(|flap| flap.max(Duration::from_millis(1))),
            _ => None,
        }
    }

    /// Whether it is a fault of one node, not of links.
    pub fn about_a_process(&self) -> bool {
        matches!(
            self,
            Act::Down { .. }
                | Act::Readdress { .. }
                | Act::Pause { .. }
                | Act::Slow { .. }
                | Act::Twin { .. }
                | Act::SetWallClock { .. }
                | Act::JumpClock { .. }
        )
    }

    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        match self {
            Act::Start { id, spec, .. } | Act::Update { id, spec, .. } | Act::Storm { id, spec, .. } => {
                spec.spec(id).map(|_| ())
            }
            Act::StartMany { id, spec, .. } => spec.spec(&format!("{id}-0")).map(|_| ()),
            Act::Terminate { id, .. } | Act::Read { id, .. } => SpecPlan::default().spec(id).map(|_| ()),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", toml::Value::Table(self.clone().into()))
    }
}

impl TryFrom<toml::Table> for Timed {
    type Error = ScenarioError;

    fn try_from(mut table: toml::Table) -> Result<Self, ScenarioError> {
        let at = match table.remove("at") {
            Some(toml::Value::String(at)) => span::parse(&at).map_err(ScenarioError)?,
            Some(other) => return Err(ScenarioError(format!("an event is `at` a duration, not {other}"))),
            None => return Err(ScenarioError(format!("an event needs `at`: {}", toml::Value::Table(table)))),
        };
        let shown = toml::Value::Table(table.clone());
        let wrong = |what: String| ScenarioError(format!("event {shown}: {what}"));
        let scope = match table.remove("scope") {
            None => String::new(),
            Some(toml::Value::String(scope)) if !scope.is_empty() => scope,
            Some(other) => return Err(wrong(format!("a scope has a name, not {other}"))),
        };
        let act: Act = table.try_into().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
        if !scope.is_empty() && !act.is_call() {
            return Err(wrong("only calls are in a scope".into()));
        }
        Ok(Timed { at, scope, act })
    }
}

impl From<Timed> for toml::Table {
    fn from(timed: Timed) -> toml::Table {
        let mut table = toml::Table::new();
        table.insert("at".into(), span::format(timed.at).into());
        if !timed.scope.is_empty() {
            table.insert("scope".into(), timed.scope.into());
        }
        if let Ok(act) = toml::Table::try_from(&timed.act) {
            table.extend(act);
        }
        table
    }
}

fn is_all(class: &Class) -> bool {
    *class == Class::All
}

const fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_yes(passes: &bool) -> bool {
    *passes
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn is_permanent(restart: &Restart) -> bool {
    *restart == Restart::Permanent
}

fn is_default_shutdown(shutdown: &Shutdown) -> bool {
    *shutdown == Shutdown::default()
}

mod shutdown_text {
    use haulout::Shutdown;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::span;

    pub(super) fn serialize<S: Serializer>(shutdown: &Shutdown, serializer: S) -> Result<S::Ok, S::Error> {
        match shutdown {
            Shutdown::Brutal => serializer.serialize_str("brutal"),
            Shutdown::Infinity => serializer.serialize_str("infinity"),
            Shutdown::Timeout(patience) => span::serialize(patience, serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Shutdown, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "brutal" => Ok(Shutdown::Brutal),
            "infinity" => Ok(Shutdown::Infinity),
            patience => span::parse(patience).map(Shutdown::Timeout).map_err(D::Error::custom),
        }
    }
}
