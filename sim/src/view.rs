//! One scope of a run, as if there were no other. Scopes have nothing to do with each other but the nodes, their network and
//! their budgets, so each is judged and told of by itself: what leaks from one into another is there without a cause.

use std::borrow::Cow;

use haulout::proto::{ScopeId, Time};
use haulout::{Event, MemberInfo};

use crate::NodeIdx;
use crate::cluster::Cluster;
use crate::history::{History, scope_of};
use crate::journal::Journal;

/// One scope of a run, as if there were no other.
pub struct View<'a> {
    /// Everything there is, for what concerns no scope: nodes, names, times.
    pub cluster: &'a Cluster,
    /// Which scope.
    pub scope: ScopeId,
    /// The runs in it.
    pub journal: Cow<'a, Journal>,
    /// The calls about it and about nodes, the lives of those that take part in it, the pulls of its state, and all faults.
    pub history: Cow<'a, History>,
}

impl<'a> View<'a> {
    /// What there is of a scope.
    pub fn of(cluster: &'a Cluster, scope: ScopeId) -> Self {
        let (journal, history) = (cluster.journal(), cluster.history());
        let takes_part = |node| cluster.takes_part(node, scope);
        let is_only_one = journal.runs().iter().all(|run| run.scope == scope)
            && history.calls.iter().all(|call| scope_of(&call.command).is_none_or(|of| of == scope))
            && cluster.nodes().all(takes_part);
        match is_only_one {
            true => View { cluster, scope, journal: Cow::Borrowed(journal), history: Cow::Borrowed(history) },
            false => View {
                cluster,
                scope,
                journal: Cow::Owned(journal.within(scope)),
                history: Cow::Owned(history.within(scope, takes_part)),
            },
        }
    }

    /// What there is of every scope that nodes join by themselves: first of the one that all join.
    pub fn all(cluster: &'a Cluster) -> impl Iterator<Item = Self> {
        cluster.scopes().into_iter().map(|scope| View::of(cluster, scope))
    }

    /// What a node told its users of the scope, and how much it had told before, of this and of all others.
    pub fn events(&self, node: NodeIdx) -> impl Iterator<Item = (usize, Time, &'a Event)> + use<'a> {
        let scope = self.scope;
        let all = self.cluster.events(node).iter().enumerate();
        all.filter(move |(_, (_, of, _))| *of == scope).map(|(before, (at, _, event))| (before, *at, event))
    }

    /// The members of the scope, as a node last told them.
    pub fn members(&self, node: NodeIdx) -> &'a [MemberInfo] {
        self.cluster.members_in(node, self.scope)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use haulout::ChildSpec;
    use haulout::proto::Command;

    use super::*;
    use crate::Options;

    /// Goal: a scope is seen as if there were no other, and the only one as it is. Method: a child of one id in two scopes,
    /// of which one node joins only the first.
    #[test]
    fn a_view_has_the_runs_calls_lives_and_pulls_of_its_scope_only() {
        let options = Options { scopes: vec!["second".into()], contacts: true, ..Options::seeded(1) };
        let mut cluster = Cluster::new(options);
        let [a, b] = ["a", "b"].map(|name| cluster.add_node(name));
        let outside = crate::NodeOptions { scopes: Default::default(), ..cluster.node_options() };
        let c = cluster.add_node_with("c", outside);
        cluster.converge(Duration::from_secs(30));
        let [first, second] = cluster.scopes()[..] else { panic!("two scopes") };
        for (scope, args) in [(first, vec![1]), (second, vec![2])] {
            let spec = ChildSpec::raw("x", "kind", args).expect("a spec");
            let start = cluster.send(a, Command::Start { scope, spec, replicated: 0 });
            cluster.wait(start);
        }
        cluster.converge(Duration::from_secs(30));
        for (scope, args, nodes) in [(first, [1], vec![a, b, c]), (second, [2], vec![a, b])] {
            let View { journal, history, .. } = View::of(&cluster, scope);
            assert_eq!(journal.runs().iter().map(|run| &run.spec.args[..]).collect::<Vec<_>>(), [args]);
            assert_eq!(history.lives.iter().map(|life| life.node).collect::<Vec<_>>(), nodes);
            assert_eq!(history.calls.len(), nodes.len() + 1, "a join of each and the start");
            assert!(!history.pulls.is_empty() && history.pulls.iter().all(|pull| pull.scope == scope));
        }
        assert!(cluster.members_in(c, second).is_empty() && cluster.members_in(a, second).len() == 2);
        let alone = Cluster::new(Options::seeded(1));
        assert!(matches!(View::of(&alone, alone.scope()).journal, Cow::Borrowed(_)));
    }
}
