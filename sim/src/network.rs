//! The links between nodes: what becomes of a datagram, and how long a segment of a stream takes.
//!
//! Knows nothing of nodes but their numbers.

mod link;
mod trouble;

use std::time::Duration;

use haulout::proto::Time;
use serde::{Deserialize, Serialize};

use crate::NodeIdx;
use crate::random::Random;
pub use link::{Link, Severity};
use trouble::Trouble;

/// What of the traffic between two nodes a cut concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Everything.
    #[default]
    All,
    /// Datagrams only.
    Datagrams,
    /// Streams only.
    Streams,
}

impl Class {
    const DATAGRAMS: u8 = 1;
    const STREAMS: u8 = 2;

    const fn bits(self) -> u8 {
        match self {
            Class::All => Class::DATAGRAMS | Class::STREAMS,
            Class::Datagrams => Class::DATAGRAMS,
            Class::Streams => Class::STREAMS,
        }
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => None,
            Class::DATAGRAMS => Some(Class::Datagrams),
            Class::STREAMS => Some(Class::Streams),
            _ => Some(Class::All),
        }
    }
}

/// What becomes of one datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It does not arrive.
    Lost(LostTo),
    /// It arrives.
    Arrives(Arrival),
}

/// What a datagram was lost to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostTo {
    /// The link is cut.
    Cut,
    /// Chance, or a bad period.
    Noise,
    /// It is larger than the link takes.
    Mtu,
    /// There is no room for it in the link's queue.
    Queue,
}

/// When and how a datagram arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// After how long.
    pub after: Duration,
    /// When a second copy arrives, if one does.
    pub again: Option<Duration>,
    /// When a copy arrives long after it, if one does.
    pub replay: Option<Duration>,
    /// What happens to the first copy on its way.
    pub damage: Option<Damage>,
}

/// What happens to a datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One to three of its bits flip.
    Corrupted(Random),
    /// It loses its end.
    Truncated(Random),
}

impl Damage {
    /// Does it.
    pub fn apply(&self, bytes: &mut Vec<u8>) {
        match self.clone() {
            Damage::Corrupted(mut random) => {
                for _ in 0..random.between(1, 3) {
                    let bit = random.below(bytes.len() * 8);
                    if let Some(byte) = bytes.get_mut(bit / 8) {
                        *byte ^= 1 << (bit % 8);
                    }
                }
            }
            Damage::Truncated(mut random) => bytes.truncate(random.below(bytes.len())),
        }
    }
}

/// How long after its first try a lost segment of a stream is sent again (the lower bound of Linux); it doubles.
const RETRANSMIT: Duration = Duration::from_millis(200);
const RETRANSMITS_MAX: u32 = 5;

/// All links, each with its own randomness.
#[derive(Debug)]
pub struct Network {
    seed: u64,
    default: Link,
    /// By sender, then by receiver.
    links: Vec<Vec<State>>,
    /// Where each node lives that shares the machine, and so the links, of another.
    machines: Vec<NodeIdx>,
}

#[derive(Debug)]
struct State {
    random: Random,
    /// The classes that are cut, as bits.
    cut: u8,
    clogged: bool,
    /// Whether a firewall refuses streams.
    rejects: bool,
    /// Where the link differs from the default.
    own: Option<Box<Link>>,
    /// Of links that are or were more than plain.
    trouble: Option<Box<Trouble>>,
}

/// One link with how it behaves at present.
struct Open<'a> {
    random: &'a mut Random,
    cut: u8,
    link: &'a Link,
    /// `None` if it is plain.
    trouble: Option<&'a mut Trouble>,
}

impl Network {
    /// A network whose links all behave like this one.
    pub fn new(seed: u64, default: Link) -> Self {
        Network { seed, default, links: Vec::new(), machines: Vec::new() }
    }

    /// How links behave that have no behaviour of their own.
    pub fn default_link(&self) -> Link {
        self.default
    }

    /// Changes how links behave that have no behaviour of their own.
    pub fn set_default(&mut self, link: Link) {
        self.default = link;
    }

    /// Gives the link in this direction a behaviour of its own, or takes it away.
    pub fn set_link(&mut self, from: NodeIdx, to: NodeIdx, link: Option<Link>) {
        self.state(from, to).own = link.map(Box::new);
    }

    /// From now on this node shares the links of another: its process is on the same machine.
    pub fn share_machine(&mut self, node: NodeIdx, with: NodeIdx) {
        let machine = self.machine(with);
        let known = self.machines.len();
        self.machines.extend((known..=node.0).map(NodeIdx));
        self.machines[node.0] = machine;
    }

    /// On whose machine a node lives; mostly its own.
    pub fn machine(&self, node: NodeIdx) -> NodeIdx {
        self.machines.get(node.0).copied().unwrap_or(node)
    }

    /// Cuts a class of the traffic in this direction, beside what is cut already. Returns whether that changed anything.
    pub fn cut(&mut self, from: NodeIdx, to: NodeIdx, class: Class) -> bool {
        let cut = &mut self.state(from, to).cut;
        let more = *cut | class.bits();
        std::mem::replace(cut, more) != more
    }

    /// Mends a class of the traffic in this direction. Returns whether that changed anything.
    pub fn mend(&mut self, from: NodeIdx, to: NodeIdx, class: Class) -> bool {
        let cut = &mut self.state(from, to).cut;
        let less = *cut & !class.bits();
        std::mem::replace(cut, less) != less
    }

    /// What is cut in this direction, if anything is.
    pub fn cut_between(&self, from: NodeIdx, to: NodeIdx) -> Option<Class> {
        self.known(from, to).and_then(|state| Class::from_bits(state.cut))
    }

    /// Whether nothing of this class gets through in this direction because of a cut; of [`Class::All`], whether
    /// something does not.
    pub fn is_cut(&self, from: NodeIdx, to: NodeIdx, class: Class) -> bool {
        self.known(from, to).is_some_and(|state| state.cut & class.bits() != 0)
    }

    /// Every direction in which something is cut, and what.
    pub fn cuts(&self) -> Vec<(NodeIdx, NodeIdx, Class)> {
        self.pairs().filter_map(|(from, to, state)| Some((from, to, Class::from_bits(state.cut)?))).collect()
    }

    /// Clogs the link in this direction, or not. Returns whether that changed anything.
    pub fn set_clogged(&mut self, from: NodeIdx, to: NodeIdx, clogged: bool) -> bool {
        std::mem::replace(&mut self.state(from, to).clogged, clogged) != clogged
    }

    /// Whether what is sent in this direction waits until that is over.
    pub fn is_clogged(&self, from: NodeIdx, to: NodeIdx) -> bool {
        self.known(from, to).is_some_and(|state| state.clogged)
    }

    /// Every direction that is clogged.
    pub fn clogs(&self) -> Vec<(NodeIdx, NodeIdx)> {
        self.pairs().filter(|(.., state)| state.clogged).map(|(from, to, _)| (from, to)).collect()
    }

    /// Lets a firewall refuse streams that are dialled in this direction, or not. Returns whether that changed anything.
    pub fn set_rejects(&mut self, from: NodeIdx, to: NodeIdx, rejects: bool) -> bool {
        std::mem::replace(&mut self.state(from, to).rejects, rejects) != rejects
    }

    /// Whether a firewall refuses streams that are dialled in this direction.
    pub fn rejects(&self, from: NodeIdx, to: NodeIdx) -> bool {
        self.known(from, to).is_some_and(|state| state.rejects)
    }

    /// Every direction in which a firewall refuses streams.
    pub fn rejections(&self) -> Vec<(NodeIdx, NodeIdx)> {
        self.pairs().filter(|(.., state)| state.rejects).map(|(from, to, _)| (from, to)).collect()
    }

    /// Whether streams get nothing through in this direction, for whatever reason.
    pub fn stops_streams(&self, from: NodeIdx, to: NodeIdx) -> bool {
        self.known(from, to).is_some_and(|state| state.clogged || state.cut & Class::STREAMS != 0)
    }

    /// Decides what becomes of a datagram.
    pub fn datagram(&mut self, now: Time, from: NodeIdx, to: NodeIdx, bytes: usize) -> Fate {
        let Open { random, cut, link, trouble } = self.open(from, to);
        // Every number is drawn for every datagram, so that changing one fault leaves the others where they were.
        let lost = random.chance(link.loss);
        let twice = random.chance(link.duplicate);
        let after = random.duration(link.delay);
        let second = random.duration(link.delay);
        let plain = match (cut & Class::DATAGRAMS != 0, lost) {
            (true, _) => Fate::Lost(LostTo::Cut),
            (_, true) => Fate::Lost(LostTo::Noise),
            _ => Fate::Arrives(Arrival { after, again: twice.then_some(second), replay: None, damage: None }),
        };
        match trouble {
            None => plain,
            Some(trouble) => trouble.datagram(link, now, bytes, plain),
        }
    }

    /// How long a segment of a stream travels, lost copies and their repetition included.
    pub fn segment(&mut self, now: Time, from: NodeIdx, to: NodeIdx, bytes: usize) -> Duration {
        let Open { random, link, trouble, .. } = self.open(from, to);
        let delay = random.duration(link.delay);
        let repeated = retransmissions().take_while(|_| random.chance(link.loss)).last().unwrap_or_default();
        let more = trouble.map(|trouble| trouble.segment(link, now, bytes, retransmissions()));
        delay + repeated + more.unwrap_or_default()
    }

    /// Decides whether a stream is reset on the way of a frame; then says after how long either side, the sender
    /// first, hears of it.
    pub fn reset(&mut self, from: NodeIdx, to: NodeIdx) -> Option<[Duration; 2]> {
        let Open { link, trouble, .. } = self.open(from, to);
        trouble?.reset(link)
    }

    fn pairs(&self) -> impl Iterator<Item = (NodeIdx, NodeIdx, &State)> {
        self.links
            .iter()
            .enumerate()
            .flat_map(|(from, row)| row.iter().enumerate().map(move |(to, state)| (NodeIdx(from), NodeIdx(to), state)))
    }

    fn known(&self, from: NodeIdx, to: NodeIdx) -> Option<&State> {
        self.links.get(self.machine(from).0)?.get(self.machine(to).0)
    }

    fn state(&mut self, from: NodeIdx, to: NodeIdx) -> &mut State {
        let (from, to) = (self.machine(from), self.machine(to));
        state_in(&mut self.links, self.seed, from, to)
    }

    fn open(&mut self, from: NodeIdx, to: NodeIdx) -> Open<'_> {
        let (from, to) = (self.machine(from), self.machine(to));
        let Network { seed, default, links, .. } = self;
        let State { random, cut, own, trouble, .. } = state_in(links, *seed, from, to);
        let link = own.as_deref().unwrap_or(default);
        let troubled = || Box::new(Trouble::new(*seed, number(from, to)));
        let trouble = (!link.is_plain()).then(|| &mut **trouble.get_or_insert_with(troubled));
        Open { random, cut: *cut, link, trouble }
    }
}

fn state_in(links: &mut Vec<Vec<State>>, seed: u64, from: NodeIdx, to: NodeIdx) -> &mut State {
    if links.len() <= from.0 {
        links.resize_with(from.0 + 1, Vec::new);
    }
    let row = &mut links[from.0];
    if row.len() <= to.0 {
        row.extend((row.len()..=to.0).map(|to| State {
            random: Random::numbered(seed, "link", number(from, NodeIdx(to))),
            cut: 0,
            clogged: false,
            rejects: false,
            own: None,
            trouble: None,
        }));
    }
    &mut row[to.0]
}

/// The number of a link's streams of random numbers.
fn number(from: NodeIdx, to: NodeIdx) -> u64 {
    (from.0 as u64) << 32 | to.0 as u64
}

/// After how long in all each further copy of a segment is sent.
fn retransmissions() -> impl Iterator<Item = Duration> {
    (0..RETRANSMITS_MAX).map(|attempt| RETRANSMIT * (2u32.pow(attempt + 1) - 1))
}

#[cfg(test)]
mod tests;
