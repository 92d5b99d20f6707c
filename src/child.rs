//! What a child is: its id, its kind, its spec, and the policies by which it is restarted and stopped.
//!
//! Plain data. How a child *runs* is in [`crate::runtime`]; who runs it is decided in `proto`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::SpecError;

/// The longest child id and the longest kind, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// The largest serialized argument of a child, in bytes. It must fit, with its id and kind, into one stream frame
/// many times over, so that one spec never holds up the others.
pub const ARGS_BYTES_MAX: usize = 64 * 1024;
/// The most labels that a spec may ask of a node.
pub const NODE_SELECTOR_MAX: usize = 8;
/// The most bytes that all of them may have.
const NODE_SELECTOR_BYTES_MAX: usize = 1024;

/// The name of a child, unique in its scope: 1 to 255 bytes chosen by the user.
///
/// Cheap to clone. Shown as text where it is UTF-8, otherwise in hexadecimal.
///
/// ```
/// use haulout::ChildId;
///
/// let id = ChildId::new("sensor-7")?;
/// assert_eq!(id.to_string(), "sensor-7");
/// assert!(ChildId::new("").is_err());
/// # Ok::<(), haulout::SpecError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ChildId(IdBytes);

/// The longest id that needs no allocation of its own: what fits beside a length into the room that a pointer, a count
/// and their padding would take. Ids are read from every message and kept of every child.
const SHORT_BYTES_MAX: usize = 22;

/// The bytes of an id. The short ones are always `Short`, padded with zeros.
#[derive(Clone, PartialEq, Eq, Hash)]
enum IdBytes {
    Short { len: u8, bytes: [u8; SHORT_BYTES_MAX] },
    Long(Arc<[u8]>),
}

impl ChildId {
    /// Makes an id of these bytes.
    ///
    /// # Errors
    /// [`SpecError::IdLength`] unless there are 1 to 255 of them.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Self, SpecError> {
        let bytes = bytes.as_ref();
        if bytes.is_empty() || bytes.len() > NAME_BYTES_MAX {
            return Err(SpecError::IdLength { len: bytes.len() });
        }
        if bytes.len() > SHORT_BYTES_MAX {
            return Ok(ChildId(IdBytes::Long(Arc::from(bytes))));
        }
        let mut id = ChildId::lowest();
        if let IdBytes::Short { len, bytes: short } = &mut id.0 {
            *len = bytes.len() as u8;
            short[..bytes.len()].copy_from_slice(bytes);
        }
        Ok(id)
    }

    /// The bytes of the id.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            IdBytes::Short { len, bytes } => &bytes[..usize::from(*len)],
            IdBytes::Long(bytes) => bytes,
        }
    }

    /// A number that orders ids by their first 16 bytes.
    pub(crate) fn prefix(&self) -> u128 {
        let mut first = [0; 16];
        let bytes = self.as_bytes();
        let shared = bytes.len().min(first.len());
        first[..shared].copy_from_slice(&bytes[..shared]);
        u128::from_be_bytes(first)
    }

    /// Smaller than every id; only a bound for searches.
    pub(crate) fn lowest() -> Self {
        ChildId(IdBytes::Short { len: 0, bytes: [0; SHORT_BYTES_MAX] })
    }
}

impl Ord for ChildId {
    /// By their bytes.
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl PartialOrd for ChildId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(self.as_bytes()) {
            Ok(text) => f.write_str(text),
            Err(_) => {
                f.write_str("0x")?;
                self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

impl fmt::Debug for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<&str> for ChildId {
    type Error = SpecError;

    fn try_from(text: &str) -> Result<Self, SpecError> {
        ChildId::new(text)
    }
}

impl TryFrom<String> for ChildId {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        ChildId::new(text)
    }
}

impl TryFrom<&[u8]> for ChildId {
    type Error = SpecError;

    fn try_from(bytes: &[u8]) -> Result<Self, SpecError> {
        ChildId::new(bytes)
    }
}

impl TryFrom<&ChildId> for ChildId {
    type Error = SpecError;

    fn try_from(id: &ChildId) -> Result<Self, SpecError> {
        Ok(id.clone())
    }
}

impl Serialize for ChildId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.as_bytes())
    }
}

impl<'de> Deserialize<'de> for ChildId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(IdVisitor)
    }
}

/// Reads an id where it stands, as ids are read more often than anything else.
struct IdVisitor;

impl<'de> Visitor<'de> for IdVisitor {
    type Value = ChildId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1 to {NAME_BYTES_MAX} bytes")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<ChildId, E> {
        ChildId::new(bytes).map_err(E::custom)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ChildId, E> {
        self.visit_bytes(text.as_bytes())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ChildId, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
            if bytes.len() > NAME_BYTES_MAX {
                break;
            }
        }
        self.visit_bytes(&bytes)
    }
}

/// The name under which a node registers how to run a child: 1 to 255 bytes of text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Kind(Arc<str>);

impl Kind {
    /// Makes a kind of this text.
    ///
    /// # Errors
    /// [`SpecError::KindLength`] unless it has 1 to 255 bytes.
    pub fn new(text: impl AsRef<str>) -> Result<Self, SpecError> {
        let text = text.as_ref();
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err(SpecError::KindLength { len: text.len() });
        }
        Ok(Kind(Arc::from(text)))
    }

    /// The text of the kind.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KindVisitor)
    }
}

/// Reads a kind where it stands.
struct KindVisitor;

impl Visitor<'_> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a text of 1 to {NAME_BYTES_MAX} bytes")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Kind, E> {
        Kind::new(text).map_err(E::custom)
    }
}

/// When a child that ended is started again, as in OTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restart {
    /// Always. The default.
    #[default]
    Permanent,
    /// Only after an error or a panic. After success it is done: removed everywhere, started nowhere again.
    Transient,
    /// Never, and it is never moved either. After any exit it is done.
    Temporary,
}

/// How a child is stopped, as in OTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shutdown {
    /// Signal it, wait so long, then abort it. The default, with 5 s.
    Timeout(Duration),
    /// Abort it at once. Its future is dropped at its next await point.
    Brutal,
    /// Signal it and wait for as long as it takes. A child that never ends holds up its own move for ever.
    Infinity,
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown::Timeout(Duration::from_secs(5))
    }
}

/// Everything about a child except its id. Two starts of one id are the same request if this is equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// What runs it.
    pub kind: Kind,
    /// Its serialized arguments, at most [`ARGS_BYTES_MAX`].
    pub args: Bytes,
    /// When it is started again.
    pub restart: Restart,
    /// How it is stopped.
    pub shutdown: Shutdown,
    /// How many restarts within [`max_restart_window`](Self::max_restart_window) are immediate; past that the child
    /// backs off.
    pub max_restarts: u32,
    /// The window in which restarts are counted.
    pub max_restart_window: Duration,
    /// The labels that a node must have to run it, in order. Empty: any node that knows its kind may.
    pub node_selector: NodeSelector,
}

/// Labels and the values that a node must have given them, ordered by label.
pub type NodeSelector = Box<[(Box<str>, Box<str>)]>;

impl Spec {
    /// Whether a node with these labels may run it. Costs a comparison per pair, of at most 8 and 16 labels.
    pub fn selects(&self, labels: &[(String, String)]) -> bool {
        let has = |(key, value): &(Box<str>, Box<str>)| {
            labels.iter().any(|(label, text)| **key == **label && **value == **text)
        };
        self.node_selector.iter().all(has)
    }

    /// What this node would not have let through, and somebody else has sent.
    pub(crate) fn is_too_large(&self) -> bool {
        self.args.len() > ARGS_BYTES_MAX || selector_error(&self.node_selector).is_some()
    }

    /// The bytes of what users chose freely, besides its kind.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.args.len() + selector_bytes(&self.node_selector)
    }
}

fn selector_bytes(selector: &NodeSelector) -> usize {
    selector.iter().map(|(key, value)| key.len() + value.len()).sum()
}

fn selector_error(selector: &NodeSelector) -> Option<SpecError> {
    let bytes = selector_bytes(selector);
    let fits = selector.len() <= NODE_SELECTOR_MAX && bytes <= NODE_SELECTOR_BYTES_MAX;
    (!fits).then_some(SpecError::NodeSelector { labels: selector.len(), bytes })
}

/// What a user asks for: a child id, what runs it, with which arguments and policies.
///
/// ```
/// use haulout::{ChildSpec, Restart};
///
/// // From raw bytes; `ChildSpec::new(id, &child)` does it from a value of a type that implements `Child`.
/// let spec = ChildSpec::raw("mail-42", "mailer", b"to: seal".to_vec())?.restart(Restart::Transient);
/// assert_eq!(spec.id().to_string(), "mail-42");
/// # Ok::<(), haulout::SpecError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildSpec {
    pub(crate) id: ChildId,
    pub(crate) spec: Spec,
}

impl ChildSpec {
    /// A spec for a kind by name, with arguments that are already bytes.
    ///
    /// # Errors
    /// [`SpecError`] if id or kind are empty or longer than 255 bytes, or the arguments longer than 64 kB.
    pub fn raw<I>(id: I, kind: impl AsRef<str>, args: impl Into<Bytes>) -> Result<Self, SpecError>
    where
        I: TryInto<ChildId>,
        SpecError: From<I::Error>,
    {
        let args = args.into();
        if args.len() > ARGS_BYTES_MAX {
            return Err(SpecError::ArgsLength { len: args.len() });
        }
        let spec = Spec {
            kind: Kind::new(kind)?,
            args,
            restart: Restart::default(),
            shutdown: Shutdown::default(),
            max_restarts: 3,
            max_restart_window: Duration::from_secs(5),
            node_selector: NodeSelector::default(),
        };
        Ok(ChildSpec { id: id.try_into()?, spec })
    }

    /// Sets when the child is started again. Default: [`Restart::Permanent`].
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.spec.restart = restart;
        self
    }

    /// Sets how the child is stopped. Default: signalled, aborted after 5 s.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Shutdown) -> Self {
        self.spec.shutdown = shutdown;
        self
    }

    /// Sets how many restarts within `window` are immediate; past that the child backs off, visibly and without an
    /// effect on its siblings. 0: it backs off from the first. Default: OTP's 3 in 5 s.
    #[must_use]
    pub fn max_restarts(mut self, restarts: u32, window: Duration) -> Self {
        self.spec.max_restarts = restarts;
        self.spec.max_restart_window = window;
        self
    }

    /// Lets the child run only on nodes that have all of these labels, with these values, in its scope
    /// (`ScopeBuilder::label`). Default: none, so that any node that knows its kind may.
    /// While no live node has them the child is [`Unplaced`](crate::Unplaced). Of a label that is named twice the last
    /// value counts.
    ///
    /// What it costs: the labels travel with the spec, and every placement of such a child compares them.
    ///
    /// ```
    /// use haulout::ChildSpec;
    ///
    /// let spec = ChildSpec::raw("render-7", "renderer", Vec::new())?.node_selector([("gpu", "yes"), ("zone", "b")])?;
    /// assert!(spec.spec().selects(&[("zone".into(), "b".into()), ("gpu".into(), "yes".into())]));
    /// assert!(!spec.spec().selects(&[("gpu".into(), "yes".into())]));
    /// # Ok::<(), haulout::SpecError>(())
    /// ```
    ///
    /// # Errors
    /// [`SpecError::NodeSelector`] for more than 8 labels, or more than 1,024 bytes of them.
    pub fn node_selector<K, V>(mut self, labels: impl IntoIterator<Item = (K, V)>) -> Result<Self, SpecError>
    where
        K: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let labels: BTreeMap<Box<str>, Box<str>> =
            labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        self.spec.node_selector = labels.into_iter().collect();
        selector_error(&self.spec.node_selector).map_or(Ok(self), Err)
    }

    /// The id of the child.
    pub fn id(&self) -> &ChildId {
        &self.id
    }

    /// Everything else about the child.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }
}
