//! The links between nodes: what becomes of a datagram, and how long a segment of a stream takes.
//!
//! Knows nothing of nodes but their numbers. Reordering needs no switch: it follows from the range of the delay.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::NodeIdx;
use crate::random::{Random, Range};

/// How a link treats what is sent over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// How long a datagram travels.
    pub delay: Range,
    /// How likely a datagram is lost, 0 to 1.
    pub loss: f64,
    /// How likely a datagram arrives twice, 0 to 1.
    pub duplicate: f64,
}

impl Default for Link {
    /// A good local network: 0.5 to 1.5 ms, nothing lost.
    fn default() -> Self {
        Link { delay: Range::new(Duration::from_micros(500), Duration::from_micros(1_500)), loss: 0.0, duplicate: 0.0 }
    }
}

/// What becomes of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The link is cut.
    Cut,
    /// It is lost.
    Lost,
    /// It arrives after so long, and again if there is a second time.
    Arrives(Duration, Option<Duration>),
}

/// How long after its first try a lost segment of a stream is sent again (the lower bound of Linux); it doubles.
const RETRANSMIT: Duration = Duration::from_millis(200);
const RETRANSMITS_MAX: u32 = 5;

/// All links, each with its own randomness.
#[derive(Debug)]
pub struct Network {
    seed: u64,
    default: Link,
    links: BTreeMap<(NodeIdx, NodeIdx), State>,
}

#[derive(Debug)]
struct State {
    random: Random,
    /// Where the link differs from the default.
    own: Option<Link>,
    cut: bool,
}

impl Network {
    /// A network whose links all behave like this one.
    pub fn new(seed: u64, default: Link) -> Self {
        Network { seed, default, links: BTreeMap::new() }
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
        self.state(from, to).own = link;
    }

    /// Cuts or mends the link in this direction. Returns whether that changed anything.
    pub fn set_cut(&mut self, from: NodeIdx, to: NodeIdx, cut: bool) -> bool {
        std::mem::replace(&mut self.state(from, to).cut, cut) != cut
    }

    /// Whether nothing gets through in this direction.
    pub fn is_cut(&self, from: NodeIdx, to: NodeIdx) -> bool {
        self.links.get(&(from, to)).is_some_and(|state| state.cut)
    }

    /// Every direction that is cut.
    pub fn cuts(&self) -> Vec<(NodeIdx, NodeIdx)> {
        self.links.iter().filter(|(_, state)| state.cut).map(|(&link, _)| link).collect()
    }

    /// Decides what becomes of a datagram.
    pub fn datagram(&mut self, from: NodeIdx, to: NodeIdx) -> Fate {
        let default = self.default;
        let state = self.state(from, to);
        let link = state.own.unwrap_or(default);
        let random = &mut state.random;
        // Every number is drawn for every datagram, so that changing one fault leaves the others where they were.
        let lost = random.chance(link.loss);
        let twice = random.chance(link.duplicate);
        let first = random.duration(link.delay);
        let second = random.duration(link.delay);
        match (state.cut, lost) {
            (true, _) => Fate::Cut,
            (_, true) => Fate::Lost,
            _ => Fate::Arrives(first, twice.then_some(second)),
        }
    }

    /// How long a segment of a stream travels, lost copies and their repetition included.
    pub fn segment(&mut self, from: NodeIdx, to: NodeIdx) -> Duration {
        let default = self.default;
        let state = self.state(from, to);
        let link = state.own.unwrap_or(default);
        let mut delay = state.random.duration(link.delay);
        for attempt in 0..RETRANSMITS_MAX {
            if !state.random.chance(link.loss) {
                break;
            }
            delay += RETRANSMIT * 2u32.pow(attempt);
        }
        delay
    }

    fn state(&mut self, from: NodeIdx, to: NodeIdx) -> &mut State {
        let seed = self.seed;
        self.links.entry((from, to)).or_insert_with(|| State {
            random: Random::numbered(seed, "link", (from.0 as u64) << 32 | to.0 as u64),
            own: None,
            cut: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeIdx = NodeIdx(0);
    const B: NodeIdx = NodeIdx(1);

    fn delays(network: &mut Network, count: usize) -> Vec<Fate> {
        (0..count).map(|_| network.datagram(A, B)).collect()
    }

    #[test]
    fn loss_and_duplication_come_as_often_as_asked() {
        let link = Link { loss: 0.25, duplicate: 0.1, ..Link::default() };
        let fates = delays(&mut Network::new(7, link), 10_000);
        let lost = fates.iter().filter(|fate| **fate == Fate::Lost).count();
        let twice = fates.iter().filter(|fate| matches!(fate, Fate::Arrives(_, Some(_)))).count();
        assert!((2_350..2_650).contains(&lost), "{lost}");
        assert!((650..850).contains(&twice), "{twice}");
    }

    #[test]
    fn taking_out_one_fault_does_not_shift_the_others() {
        let calm = delays(&mut Network::new(7, Link::default()), 200);
        let lossy = delays(&mut Network::new(7, Link { loss: 0.5, ..Link::default() }), 200);
        let kept: Vec<_> = calm.iter().zip(&lossy).filter(|(_, fate)| **fate != Fate::Lost).collect();
        assert!((60..140).contains(&kept.len()));
        assert!(kept.iter().all(|(calm, lossy)| calm == lossy));
    }

    #[test]
    fn a_cut_holds_in_its_direction_only_until_it_is_mended() {
        let mut network = Network::new(7, Link::default());
        assert!(network.set_cut(A, B, true));
        assert!(!network.set_cut(A, B, true));
        assert_eq!(network.datagram(A, B), Fate::Cut);
        assert!(matches!(network.datagram(B, A), Fate::Arrives(..)));
        assert_eq!(network.cuts(), [(A, B)]);
        assert!(network.set_cut(A, B, false));
        assert!(matches!(network.datagram(A, B), Fate::Arrives(..)));
    }

    #[test]
    fn a_link_may_differ_from_the_others() {
        let mut network = Network::new(7, Link::default());
        let slow = Link { delay: Range::millis(80, 80), ..Link::default() };
        network.set_link(A, B, Some(slow));
        assert_eq!(network.datagram(A, B), Fate::Arrives(Duration::from_millis(80), None));
        network.set_link(A, B, None);
        assert_ne!(network.datagram(A, B), Fate::Arrives(Duration::from_millis(80), None));
    }

    #[test]
    fn a_lossy_link_delays_streams_instead_of_losing_their_segments() {
        let mut network = Network::new(7, Link { loss: 0.25, ..Link::default() });
        let late = (0..1_000).filter(|_| network.segment(A, B) >= RETRANSMIT).count();
        assert!((190..310).contains(&late), "{late}");
    }
}
