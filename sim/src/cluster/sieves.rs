//! Faults that choose packets by what they say: all that tells of removals comes late, every answer comes twice.
//!
//! A network may lose, delay and repeat any packet. One that does it to those of one kind gets in a minute to orders of
//! events for which blind chance needs years.

use std::time::Duration;

use haulout::proto::packet::Codec;
use haulout::proto::wire::{Message, ScopeMessage};
use serde::{Deserialize, Serialize};

use super::{Cluster, Treatment};
use crate::NodeIdx;
use crate::history::FaultKind;
use crate::random::{Random, Range};

/// What a packet can be chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// What SWIM says, and what rides on it.
    Gossip,
    /// Tables of members.
    Tables,
    /// Children that were started or updated.
    Starts,
    /// Children that were removed.
    Removals,
    /// Who runs what.
    Claims,
    /// Who does not run it any more.
    Releases,
    /// Questions whether a child may start.
    Asks,
    /// Answers to them.
    Answers,
    /// The steps of an exchange.
    Pulls,
}

/// What becomes of a packet that was chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sifting {
    /// It is lost; a stream breaks.
    Lose,
    /// It takes longer.
    #[default]
    Delay,
    /// It arrives, and so does a copy that much later. A stream carries it once.
    Copy,
}

/// A choice of packets, and what becomes of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Sieve {
    /// Who sends them; anybody if not given.
    pub from: Option<NodeIdx>,
    /// To whom; anybody if not given.
    pub to: Option<NodeIdx>,
    /// What they tell, beside whatever else.
    pub topics: Vec<Topic>,
    /// What becomes of them.
    pub does: Sifting,
    /// How much later they or their copies arrive.
    pub by: Range,
}

/// What a good network does to a packet now and then anyway: nothing is excused by it.
const MILD_DELAY: Duration = Duration::from_millis(250);

impl Sieve {
    fn is_mild(&self) -> bool {
        match self.does {
            Sifting::Lose => false,
            Sifting::Delay => self.by.max <= MILD_DELAY,
            Sifting::Copy => true,
        }
    }

    fn chooses(&self, from: NodeIdx, to: NodeIdx, topics: &[Topic]) -> bool {
        let is = |wanted: Option<NodeIdx>, node| wanted.is_none_or(|wanted| wanted == node);
        is(self.from, from) && is(self.to, to) && self.topics.iter().any(|topic| topics.contains(topic))
    }
}

/// The sieves of a cluster, with randomness of their own.
pub(super) struct Sieves {
    all: Vec<Sieve>,
    random: Random,
}

impl Sieves {
    pub(super) fn new(seed: u64) -> Self {
        Sieves { all: Vec::new(), random: Random::stream(seed, "sieves") }
    }

    /// What becomes of a packet.
    pub(super) fn verdict(&mut self, codec: &Codec, from: NodeIdx, to: NodeIdx, bytes: &[u8]) -> Treatment {
        if self.all.is_empty() {
            return Treatment::Pass;
        }
        let topics = topics(codec, bytes);
        let Some(sieve) = self.all.iter().find(|sieve| sieve.chooses(from, to, &topics)) else {
            return Treatment::Pass;
        };
        match sieve.does {
            Sifting::Lose => Treatment::Drop,
            Sifting::Delay => Treatment::Delay(self.random.duration(sieve.by)),
            Sifting::Copy => Treatment::Again(self.random.duration(sieve.by)),
        }
    }
}

impl Cluster {
    /// Sifts packets like this from now on, and like this only. The first sieve that chooses a packet has it.
    pub fn sift(&mut self, sieves: Vec<Sieve>) {
        let nodes: Vec<NodeIdx> = self.nodes().collect();
        let mut links = Vec::new();
        for sieve in sieves.iter().filter(|sieve| !sieve.is_mild()) {
            let ends = |wanted: Option<NodeIdx>| wanted.map_or_else(|| nodes.clone(), |node| vec![node]);
            let pairs =
                ends(sieve.from).into_iter().flat_map(|from| ends(sieve.to).into_iter().map(move |to| (from, to)));
            links.extend(pairs.filter(|(from, to)| from != to));
        }
        let goes_on = |kind: FaultKind| matches!(kind, FaultKind::Sifted(from, to) if links.contains(&(from, to)));
        let is_over = |kind: FaultKind| matches!(kind, FaultKind::Sifted(..)) && !goes_on(kind);
        self.history.end_faults(self.now, is_over);
        for (from, to) in links {
            let kind = FaultKind::Sifted(from, to);
            if !self.history.faults.iter().any(|fault| fault.to.is_none() && fault.kind == kind) {
                self.history.begin_fault(kind, self.now);
            }
        }
        self.sieves.all = sieves;
    }
}

/// What a packet tells.
fn topics(codec: &Codec, bytes: &[u8]) -> Vec<Topic> {
    let (mut topics, mut opened) = (Vec::new(), Vec::new());
    if let Ok(packet) = codec.peek(bytes, &mut opened) {
        if !packet.swim.is_empty() {
            topics.push(Topic::Gossip);
        }
        read(packet.messages, &mut topics);
    }
    topics
}

fn read(mut messages: &[u8], topics: &mut Vec<Topic>) {
    while let Ok((message, rest)) = postcard::take_from_bytes(messages) {
        messages = rest;
        match &message {
            Message::Table(_) => topics.push(Topic::Tables),
            Message::Relay(_, bytes) | Message::Relayed(_, bytes) => read(bytes, topics),
            Message::Scoped(message) => topics.extend(topic(message)),
            _ => {}
        }
    }
}

fn topic(message: &ScopeMessage) -> Option<Topic> {
    match message {
        ScopeMessage::Put(..) | ScopeMessage::PutDirect(..) => Some(Topic::Starts),
        ScopeMessage::Del { .. } => Some(Topic::Removals),
        ScopeMessage::PutOwned(key, _) => key.child().map(|_| Topic::Claims),
        ScopeMessage::DelOwned(..) => Some(Topic::Releases),
        ScopeMessage::Ask(_) => Some(Topic::Asks),
        ScopeMessage::Answer(_) => Some(Topic::Answers),
        ScopeMessage::Exchange(_) => Some(Topic::Pulls),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use haulout::ChildSpec;

    /// Goal: a sieve holds back what it is for and nothing else. Method: claims are lost; the child runs, and the other
    /// node hears from an exchange only who runs it.
    #[test]
    fn a_sieve_loses_what_it_was_told_to_lose_and_is_on_record() {
        let mut cluster = Cluster::new(Options::seeded(3));
        let [a, b] = ["a", "b"].map(|name| cluster.add_node(name));
        cluster.converge(Duration::from_secs(30));
        let sieve = |does, by| Sieve { from: Some(a), to: Some(b), topics: vec![Topic::Starts], does, by };
        cluster.sift(vec![sieve(Sifting::Copy, Range::millis(500, 500))]);
        assert!(cluster.history().faults.is_empty(), "copies excuse nothing");
        cluster.sift(vec![sieve(Sifting::Lose, Range::ZERO)]);
        let start = cluster.start(a, ChildSpec::raw("child", "kind", Vec::new()).expect("a spec"));
        cluster.wait(start);
        let lost = cluster.traffic().datagrams_lost;
        assert!(lost > 0, "the start is lost on its way");
        cluster.sift(Vec::new());
        let fault = cluster.history().faults.first().expect("it is on record");
        assert!(fault.kind == FaultKind::Sifted(a, b) && fault.to.is_some());
        cluster.converge(Duration::from_secs(60));
    }
}
