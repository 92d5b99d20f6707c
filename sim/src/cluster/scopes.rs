//! The scopes of a cluster: the one that every node joins, and others that nodes join beside it.

use haulout::proto::{Command, ScopeId, ScopeSetup};
use haulout::{Kind, MemberInfo};

use super::Cluster;
use crate::NodeIdx;

impl Cluster {
    /// The scope that every node joins.
    pub fn scope(&self) -> ScopeId {
        ScopeId::of(&self.options.scope)
    }

    /// Every scope that nodes join by themselves: first the one that all join.
    pub fn scopes(&self) -> Vec<ScopeId> {
        [&self.options.scope].into_iter().chain(&self.options.scopes).map(|name| ScopeId::of(name)).collect()
    }

    /// What a scope beside the first one is called; `None` for the first one, which goes without saying, and for one that
    /// no node joins by itself.
    pub fn scope_name(&self, scope: ScopeId) -> Option<&str> {
        self.options.scopes.iter().find(|name| ScopeId::of(name) == scope).map(String::as_str)
    }

    /// Whether a node joins a scope by itself, whenever it starts.
    pub fn takes_part(&self, node: NodeIdx, scope: ScopeId) -> bool {
        scope == self.scope() || self.slots[node.0].options.scopes.keys().any(|name| ScopeId::of(name) == scope)
    }

    /// Those of some nodes that take part in a scope.
    pub fn taking_part(&self, nodes: &[NodeIdx], scope: ScopeId) -> Vec<NodeIdx> {
        nodes.iter().copied().filter(|&node| self.takes_part(node, scope)).collect()
    }

    /// The members of the scope that every node joins, as a node last told them.
    pub fn members(&self, node: NodeIdx) -> &[MemberInfo] {
        self.members_in(node, self.scope())
    }

    /// The members of a scope, as a node last told them.
    pub fn members_in(&self, node: NodeIdx, scope: ScopeId) -> &[MemberInfo] {
        self.slots[node.0].members(scope)
    }

    pub(super) fn join_own_scopes(&mut self, node: NodeIdx) {
        let options = self.slots[node.0].options.clone();
        let kinds: Vec<Kind> = options.kinds.iter().map(|kind| Kind::new(kind).expect("a kind")).collect();
        let first = (self.options.scope.clone(), options.weight);
        for (name, weight) in [first].into_iter().chain(options.scopes) {
            let setup = ScopeSetup {
                name,
                kinds: kinds.clone(),
                weight,
                labels: options.labels.clone().into_iter().collect(),
                version: "1".into(),
                children: options.children.clone(),
            };
            let _ = self.send(node, Command::JoinScope(setup));
        }
    }
}
