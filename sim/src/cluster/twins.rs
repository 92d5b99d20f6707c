//! Several processes on one address: somebody started a node twice.

use super::{Cluster, NodeState};
use crate::NodeIdx;
use crate::history::FaultKind;
use crate::random::Random;

/// The processes that share the address of a machine with the first one there.
pub(super) struct Twins {
    nodes: Vec<NodeIdx>,
    /// Decides who gets what.
    random: Random,
}

impl Cluster {
    /// Starts a second process on the address and the machine of a node, with its name and configuration but an
    /// instance of its own. Each datagram and each dialled stream to that address gets to one of the living processes
    /// there at random; what they send is told apart by nobody but its content, and they share their links.
    ///
    /// When either ends, the other has the address for itself. A twin that has ended stays so.
    ///
    /// # Panics
    /// If its configuration can't be used.
    #[track_caller]
    pub fn add_twin(&mut self, of: NodeIdx) -> NodeIdx {
        let of = self.network.machine(of);
        let Self { slots, options, .. } = self;
        let (name, node_options) = (slots[of.0].name.clone(), slots[of.0].options.clone());
        let addr = slots[of.0].addr;
        let twin = NodeIdx(slots.len());
        let random = || Random::numbered(options.seed, "twins", of.0 as u64);
        let twins = slots[of.0].twins.get_or_insert_with(|| Box::new(Twins { nodes: Vec::new(), random: random() }));
        twins.nodes.push(twin);
        self.network.share_machine(twin, of);
        self.push_slot(&name, addr, node_options);
        self.history.begin_fault(FaultKind::Twin(of, twin), self.now);
        self.boot(twin);
        twin
    }

    /// Of which node this is a twin, if it is one.
    pub fn twin_of(&self, node: NodeIdx) -> Option<NodeIdx> {
        Some(self.network.machine(node)).filter(|&machine| machine != node)
    }

    /// Every process that ever was on the machine of a node.
    pub(super) fn on_machine(&self, node: NodeIdx) -> Vec<NodeIdx> {
        let machine = self.network.machine(node);
        let twins = self.slots[machine.0].twins.as_ref().map(|twins| &twins.nodes[..]).unwrap_or_default();
        [machine].into_iter().chain(twins.iter().copied()).collect()
    }

    /// Which process gets something that is sent to the address of this machine.
    pub(super) fn recipient(&mut self, machine: NodeIdx) -> NodeIdx {
        if self.slots[machine.0].twins.is_none() {
            return machine;
        }
        let lives = |node: &NodeIdx| matches!(self.slots[node.0].state, NodeState::Up | NodeState::Paused);
        let living: Vec<NodeIdx> = self.on_machine(machine).into_iter().filter(lives).collect();
        let twins = self.slots[machine.0].twins.as_mut();
        twins.and_then(|twins| twins.random.pick(&living)).copied().unwrap_or(machine)
    }
}
