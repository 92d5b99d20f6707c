//! Which pulls were completed, as far as the network and the counters of the nodes show it. A node that has pulled
//! another one's state knows what that one knew when it took its snapshot.

use std::collections::BTreeMap;

use haulout::proto::packet::Codec;
use haulout::proto::wire::{Exchange, Message, ScopeMessage};
use haulout::proto::{InstanceId, Time};

use super::Cluster;
use crate::NodeIdx;
use crate::history::Pull;
use crate::streams::End;

/// When each node was last asked for its state by each other one, and in which life. Its snapshot was taken then or
/// later.
pub(super) type Asked = BTreeMap<(NodeIdx, NodeIdx), (InstanceId, Time)>;

/// Larger frames carry records. A question that is passed over makes only for an older one, so that less is known.
const QUESTION_BYTES_MAX: usize = 4 * 1024;

impl Cluster {
    /// Notes that a frame arrives which asks for the state of its receiver.
    pub(super) fn note_asked(&mut self, by: NodeIdx, of: NodeIdx, frame: &[u8]) {
        if !self.options.contacts || frame.len() > QUESTION_BYTES_MAX {
            return;
        }
        if let Some(instance) = self.instance(of).filter(|_| asks(&self.observer, frame)) {
            self.asked.insert((of, by), (instance, self.now));
        }
    }

    /// How many pulls the process of a node has completed.
    pub(super) fn pulls_completed(&self, node: NodeIdx) -> u64 {
        self.slots[node.0].process.as_ref().map_or(0, |process| process.node.stats().pulls_completed)
    }

    /// A frame of this sender has completed a pull.
    pub(super) fn note_pull(&mut self, sender: End, to: NodeIdx) {
        let Some(&(from, knew)) = self.asked.get(&(sender.node, to)) else { return };
        if let Some(to) = self.instance(to) {
            self.history.pulls.push(Pull { from, knew, to, at: self.now });
        }
    }
}

fn asks(codec: &Codec, frame: &[u8]) -> bool {
    let mut opened = Vec::new();
    let mut rest = codec.peek(frame, &mut opened).map_or(&[][..], |packet| packet.messages);
    while let Ok((message, after)) = postcard::take_from_bytes(rest) {
        if matches!(message, Message::Scoped(ScopeMessage::Exchange(Exchange::Pull { .. }))) {
            return true;
        }
        rest = after;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Cluster, Options};

    /// Goal: a newcomer's first pull is seen, with a snapshot that was taken before it was through.
    #[test]
    fn a_completed_pull_is_on_record() {
        let mut cluster = Cluster::new(Options { contacts: true, ..Options::seeded(4) });
        cluster.add_node("a");
        cluster.converge(Duration::from_secs(30));
        let newcomer = cluster.add_node("b");
        cluster.converge(Duration::from_secs(30));
        let pull = cluster.history().pulls.iter().find(|pull| Some(pull.to) == cluster.instance(newcomer));
        let pull = pull.expect("the newcomer has pulled");
        assert!(pull.knew < pull.at && Some(pull.from) != cluster.instance(newcomer));
    }
}
