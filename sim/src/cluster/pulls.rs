//! Which pulls were completed, as far as the network and the counters of the nodes show it. A node that has pulled
//! another one's state knows what that one knew when it took its snapshot.

use std::collections::{BTreeMap, BTreeSet};

use haulout::proto::packet::Codec;
use haulout::proto::wire::{Exchange, Message, ScopeMessage};
use haulout::proto::{InstanceId, ScopeId, Time};

use super::Cluster;
use crate::NodeIdx;
use crate::history::Pull;
use crate::streams::End;

/// When each node was last asked for its state of a scope by each other one, and in which life. Its snapshot was taken then
/// or later.
pub(super) type Asked = BTreeMap<(NodeIdx, NodeIdx, ScopeId), (InstanceId, Time)>;

/// Larger frames carry records. A question that is passed over makes only for an older one, so that less is known.
const QUESTION_BYTES_MAX: usize = 4 * 1024;

impl Cluster {
    /// Notes that a frame arrives which asks for the state of its receiver.
    pub(super) fn note_asked(&mut self, by: NodeIdx, of: NodeIdx, frame: &[u8]) {
        if !self.options.contacts || frame.len() > QUESTION_BYTES_MAX {
            return;
        }
        let Some(instance) = self.instance(of) else { return };
        for scope in scopes_with(&self.observer, frame, |step| matches!(step, Exchange::Pull { .. })) {
            self.asked.insert((of, by, scope), (instance, self.now));
        }
    }

    /// How many pulls the process of a node has completed.
    pub(super) fn pulls_completed(&self, node: NodeIdx) -> u64 {
        self.slots[node.0].process.as_ref().map_or(0, |process| process.node.stats().pulls_completed)
    }

    /// This frame of this sender has completed a pull.
    pub(super) fn note_pull(&mut self, sender: End, to: NodeIdx, frame: &[u8]) {
        let Some(instance) = self.instance(to).filter(|_| self.options.contacts) else { return };
        for scope in scopes_with(&self.observer, frame, |step| matches!(step, Exchange::Spans { last: true, .. })) {
            if let Some(&(from, knew)) = self.asked.get(&(sender.node, to, scope)) {
                self.history.pulls.push(Pull { scope, from, knew, to: instance, at: self.now });
            }
        }
    }
}

/// The scopes in which a frame has such a step of an exchange.
fn scopes_with(codec: &Codec, frame: &[u8], is_wanted: impl Fn(&Exchange) -> bool) -> BTreeSet<ScopeId> {
    let mut opened = Vec::new();
    let mut rest = codec.peek(frame, &mut opened).map_or(&[][..], |packet| packet.messages);
    let (mut scopes, mut scope) = (BTreeSet::new(), None);
    while let Ok((message, after)) = postcard::take_from_bytes(rest) {
        match &message {
            Message::Scope(named) => scope = Some(*named),
            Message::Scoped(ScopeMessage::Exchange(step)) if is_wanted(step) => scopes.extend(scope),
            _ => {}
        }
        rest = after;
    }
    scopes
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
