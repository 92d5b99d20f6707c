//! Whom a node took for a member at some moment, from what it told its users.

use std::collections::BTreeMap;

use haulout::proto::{InstanceId, Time};
use haulout::{Event, MemberInfo};

use crate::NodeIdx;
use crate::cluster::Cluster;
use crate::history::Life;
use crate::view::View;

/// What a node believes of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// It is a member, since then.
    Up(Time),
    /// It is down, since then.
    Down(Time),
    /// Nothing was heard of it.
    Unknown,
}

/// The life of a node at a moment, if it had one.
pub(super) fn life_at<'a>(view: &'a View<'_>, node: NodeIdx, at: Time) -> Option<&'a Life> {
    let mut lives = view.history.lives.iter().rev();
    lives.find(|life| life.node == node && life.from <= at && life.to.is_none_or(|to| to > at))
}

/// Everything that a node took for members of a scope, or for down, in this life of it at this moment.
pub(super) fn beliefs(view: &View<'_>, viewer: NodeIdx, at: Time) -> BTreeMap<InstanceId, Belief> {
    let mut beliefs = BTreeMap::new();
    let Some(life) = life_at(view, viewer, at) else { return beliefs };
    for (_, when, event) in view.events(viewer).filter(|(_, when, _)| *when >= life.from && *when <= at) {
        match event {
            Event::MemberUp(member) => beliefs.insert(member.instance, Belief::Up(when)),
            Event::MemberDown(member) => beliefs.insert(member.instance, Belief::Down(when)),
            _ => None,
        };
    }
    beliefs
}

/// What one node believed of another, in the lives that both had then.
pub(super) fn belief(view: &View<'_>, viewer: NodeIdx, of: NodeIdx, at: Time) -> Belief {
    let Some(life) = life_at(view, of, at) else { return Belief::Unknown };
    beliefs(view, viewer, at).get(&life.instance).copied().unwrap_or(Belief::Unknown)
}

/// The nodes of the scope that lived at a moment, but that this one did not take for members.
pub(super) fn not_counted(view: &View<'_>, viewer: NodeIdx, at: Time) -> Vec<NodeIdx> {
    let beliefs = beliefs(view, viewer, at);
    let alive = |node: &NodeIdx| life_at(view, *node, at).map(|life| life.instance);
    view.cluster
        .nodes()
        .filter(|node| *node != viewer)
        .filter(|node| alive(node).is_some_and(|it| !matches!(beliefs.get(&it), Some(Belief::Up(_)))))
        .collect()
}

/// The member that an event of membership is about.
pub(super) fn subject<'a>(cluster: &Cluster, event: &'a Event) -> Option<(NodeIdx, &'a MemberInfo)> {
    match event {
        Event::MemberUp(member) | Event::MemberDown(member) => Some((cluster.named(&member.name)?, member)),
        _ => None,
    }
}
