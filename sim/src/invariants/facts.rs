//! What the invariants look at, indexed once: who held whom for a member when, who renewed itself, which faults touched
//! which node when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use haulout::proto::{Epoch, InstanceId, Time};
use haulout::{ChildId, Event, SilentMember};

use crate::NodeIdx;
use crate::bounds::Bounds;
use crate::cluster::Cluster;
use crate::history::{CONFLICT_PAUSE, FaultKind, History, Life, LifeEnd};
use crate::journal::Journal;
use crate::network::Class;
use crate::view::View;

/// Loss from which on a member may fail to answer within `confirm_timeout`, retries and detours included.
const LOSS_THAT_EXCUSES: f64 = 0.1;

/// Loss from which on a member that lives may be declared down, though it is told that it is suspected.
const LOSS_THAT_KILLS: f64 = 0.3;

/// A member that answers this late, each way, may be taken for silent by who looks at it.
const SLOW_TO_ANSWER: Duration = Duration::from_millis(100);

/// Something that a node told its users, with the life in which it did.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    pub(super) at: Time,
    pub(super) node: NodeIdx,
    pub(super) by: InstanceId,
    pub(super) event: &'a Event,
}

/// See the module.
pub(crate) struct Facts<'a> {
    pub(super) journal: &'a Journal,
    pub(super) history: &'a History,
    pub(super) bounds: &'a Bounds,
    pub(super) now: Time,
    pub(super) told: Vec<Told<'a>>,
    /// When an observer saw a member come (`true`) and go.
    views: BTreeMap<(InstanceId, InstanceId), Vec<(Time, bool)>>,
    /// When an instance told that it has taken a new identity.
    renewals: BTreeMap<InstanceId, Vec<Time>>,
    /// Runs that began without the permission of silent members.
    unconfirmed: BTreeMap<(InstanceId, &'a ChildId, Epoch), &'a [SilentMember]>,
    lives: BTreeMap<InstanceId, &'a Life>,
    touched: Touched,
    /// Knows the names of the nodes, where there is more than hand-made evidence.
    cluster: Option<&'a Cluster>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(view: &'a View<'a>, bounds: &'a Bounds) -> Self {
        let cluster = view.cluster;
        let told = cluster
            .nodes()
            .flat_map(|node| view.events(node).map(move |(before, at, event)| (node, before, at, event)));
        // Whoever takes no part in the scope is a node like any other: what it knew of nodes may be lost with it.
        let touched = Touched::new(cluster.history());
        let facts = Facts::new(&view.journal, &view.history, touched, told, bounds, cluster.now());
        Facts { cluster: Some(cluster), ..facts }
    }

    /// What a node is called.
    pub(super) fn name(&self, node: NodeIdx) -> String {
        self.cluster.map_or_else(|| node.to_string(), |cluster| cluster.name(node).to_owned())
    }

    /// From what each node told, in the order in which it did, and how much it had told before each.
    pub(super) fn new(
        journal: &'a Journal,
        history: &'a History,
        touched: Touched,
        told: impl Iterator<Item = (NodeIdx, usize, Time, &'a Event)>,
        bounds: &'a Bounds,
        now: Time,
    ) -> Self {
        let mut by_node: BTreeMap<NodeIdx, Vec<&Life>> = BTreeMap::new();
        history.lives.iter().for_each(|life| by_node.entry(life.node).or_default().push(life));
        let teller = |node: NodeIdx, before: usize, at: Time| {
            let lives = by_node.get(&node).map_or(&[][..], Vec::as_slice);
            lives.iter().rev().find(|life| life.from <= at && life.told_before <= before).map(|life| life.instance)
        };
        let told: Vec<Told<'a>> = told
            .filter_map(|(node, before, at, event)| teller(node, before, at).map(|by| Told { at, node, by, event }))
            .collect();
        let mut facts = Facts {
            journal,
            history,
            bounds,
            now,
            told: Vec::new(),
            views: BTreeMap::new(),
            renewals: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            lives: history.lives.iter().map(|life| (life.instance, life)).collect(),
            touched,
            cluster: None,
        };
        for entry in &told {
            facts.note(*entry);
        }
        facts.told = told;
        facts
    }

    fn note(&mut self, Told { at, by, event, .. }: Told<'a>) {
        match event {
            Event::MemberUp(member) => self.views.entry((by, member.instance)).or_default().push((at, true)),
            Event::MemberDown(member) => self.views.entry((by, member.instance)).or_default().push((at, false)),
            // A node that finds another process at its address has changed its identity too.
            Event::Rejoined | Event::AddressConflict => self.renewals.entry(by).or_default().push(at),
            Event::StartedUnconfirmed { id, epoch, silent } => {
                self.unconfirmed.insert((by, id, *epoch), silent);
            }
            _ => {}
        }
    }

    /// Every pair of observer and member, with what the observer saw of it.
    pub(super) fn views(&self) -> impl Iterator<Item = (InstanceId, InstanceId, &[(Time, bool)])> {
        self.views.iter().map(|(&(observer, member), seen)| (observer, member, seen.as_slice()))
    }

    /// What an observer last saw of a member until then; `None` if it never was one.
    pub(super) fn view(&self, observer: InstanceId, member: InstanceId, at: Time) -> Option<bool> {
        let seen = self.views.get(&(observer, member))?;
        let until = seen.partition_point(|(when, _)| *when <= at);
        seen[..until].last().map(|(_, up)| *up)
    }

    /// Whether an observer held a member for down then, if only for a part of that very moment: in one moment a member
    /// may go, a run begin for that, and the member come back; or the run may begin just before it comes back.
    pub(super) fn held_down(&self, observer: InstanceId, member: InstanceId, at: Time) -> bool {
        let seen = self.views.get(&(observer, member)).map_or(&[][..], Vec::as_slice);
        let before = seen[..seen.partition_point(|(when, _)| *when < at)].last();
        before.is_some_and(|(_, up)| !up) || seen.contains(&(at, false))
    }

    /// Whether an observer had had a member at all before then; what it told in that very moment may have come after.
    pub(super) fn had_met(&self, observer: InstanceId, member: InstanceId, at: Time) -> bool {
        self.views.get(&(observer, member)).is_some_and(|seen| seen.first().is_some_and(|(when, _)| *when < at))
    }

    /// Whether an observer saw anybody come or go in this time.
    pub(super) fn has_seen_members_change(&self, observer: InstanceId, from: Time, to: Time) -> bool {
        let seen = self.views.range((observer, InstanceId::LOWEST)..=(observer, InstanceId::new(u64::MAX)));
        let mut times = seen.flat_map(|(_, changes)| changes).map(|(at, _)| *at);
        times.any(|at| at >= from && at <= to)
    }

    /// How often an instance had changed its identity until then.
    pub(super) fn renewed(&self, instance: InstanceId, until: Time) -> usize {
        self.renewals.get(&instance).map_or(0, |all| all.partition_point(|at| *at <= until))
    }

    /// Whether some other instance lived at this time that did not count this one among the members.
    pub(super) fn is_missed_by_somebody(&self, instance: InstanceId, at: Time) -> bool {
        let others = self.lives.values().filter(|life| life.instance != instance && life.from <= at);
        let mut others = others.filter(|life| life.to.is_none_or(|to| to >= at));
        others.any(|life| self.view(life.instance, instance, at) != Some(true))
    }

    /// Everybody who changed its identity, and when.
    pub(super) fn renewals(&self) -> impl Iterator<Item = (InstanceId, &[Time])> {
        self.renewals.iter().map(|(&instance, times)| (instance, times.as_slice()))
    }

    /// Whether a run began though this member had not answered.
    pub(super) fn is_unconfirmed(&self, by: InstanceId, id: &'a ChildId, epoch: Epoch, silent: InstanceId) -> bool {
        self.unconfirmed.get(&(by, id, epoch)).is_some_and(|all| all.iter().any(|member| member.instance == silent))
    }

    /// Whether a run began though somebody had not answered.
    pub(super) fn is_unconfirmed_at_all(&self, by: InstanceId, id: &'a ChildId, epoch: Epoch) -> bool {
        self.unconfirmed.contains_key(&(by, id, epoch))
    }

    pub(super) fn life(&self, instance: InstanceId) -> Option<&'a Life> {
        self.lives.get(&instance).copied()
    }

    pub(super) fn node_of(&self, instance: InstanceId) -> Option<NodeIdx> {
        self.life(instance).map(|life| life.node)
    }

    /// Whether a fault touched the node in this time, or all nodes.
    pub(super) fn touched(&self, node: NodeIdx, from: Time, to: Time) -> bool {
        self.touched.node(node, from, to) || self.touched.bad_weather.meets(from, to)
    }

    /// Whether a fault touched the node in this time that may keep others from hearing that it lives.
    pub(super) fn muted(&self, node: NodeIdx, from: Time, to: Time) -> bool {
        self.touched.node(node, from, to) || self.touched.storms.meets(from, to)
    }

    /// Whether in this time faults kept a node from opening streams to another, as if nobody listened there, and from
    /// hearing it.
    pub(super) fn is_lost_to(&self, observer: NodeIdx, other: NodeIdx, from: Time, to: Time) -> bool {
        let faults = || self.history.faults_between(from, to).map(|fault| fault.kind);
        let (here, there) = (self.machine(observer), self.machine(other));
        let is_refused = faults().any(|kind| kind == FaultKind::Rejects(here, there));
        let between = |a: NodeIdx, b: NodeIdx| [a, b].contains(&here) && [a, b].contains(&there);
        let is_deaf = faults().any(|kind| match kind {
            FaultKind::Cut(a, b, class) => class != Class::Streams && between(a, b),
            FaultKind::Clogged(a, b) | FaultKind::Degraded(a, b) | FaultKind::Sifted(a, b) => between(a, b),
            FaultKind::Paused(node) | FaultKind::Slow(node) | FaultKind::ClockJump(node) | FaultKind::Ghost(node) => {
                [observer, other].contains(&node)
            }
            FaultKind::Twin(one, _) => [here, there].contains(&one),
            FaultKind::Loss(loss) => loss >= LOSS_THAT_EXCUSES,
            FaultKind::Weather(severity) => {
                severity.loss_max() >= LOSS_THAT_EXCUSES || severity.is_heavy() || severity.delay_max >= SLOW_TO_ANSWER
            }
            FaultKind::Rejects(..) => false,
        });
        is_refused && is_deaf
    }

    /// Whose links a node has: those of the first process at its address.
    fn machine(&self, node: NodeIdx) -> NodeIdx {
        let mut twins = self.history.faults.iter().filter_map(|fault| match fault.kind {
            FaultKind::Twin(one, twin) if twin == node => Some(one),
            _ => None,
        });
        twins.next().unwrap_or(node)
    }

    /// The nodes that had a process then.
    pub(super) fn living(&self, at: Time) -> impl Iterator<Item = NodeIdx> {
        let lives = self.lives.values().filter(move |life| life.from <= at && life.to.is_none_or(|to| to >= at));
        lives.map(|life| life.node)
    }

    /// Whether an observer held anybody but this one for a member then.
    pub(super) fn sees_another(&self, observer: InstanceId, than: InstanceId, at: Time) -> bool {
        let others = self.lives.keys().filter(|&&other| other != than && other != observer);
        others.into_iter().any(|&other| self.view(observer, other, at) == Some(true))
    }

    /// Whom an observer held for a member at the beginning or at the end of this time.
    pub(super) fn members_of(&self, observer: InstanceId, from: Time, to: Time) -> impl Iterator<Item = &Life> + Clone {
        let holds = move |member, at| self.view(observer, member, at) == Some(true);
        self.lives.values().filter(move |life| [from, to].into_iter().any(|at| holds(life.instance, at))).copied()
    }

    /// Whether there was any fault at all in this time, however small and wherever.
    pub(super) fn disturbed(&self, from: Time, to: Time) -> bool {
        self.touched.any.meets(from, to)
    }

    /// Whether a fault can explain what two nodes did apart: it touched one of them, or one of them was new and the
    /// crash of a third may have taken away the only node that knew it.
    pub(super) fn excused(&self, nodes: [NodeIdx; 2], from: Time, to: Time) -> bool {
        let from = from - self.bounds.reach;
        let is_new = |life: &Life| nodes.contains(&life.node) && life.from >= from && life.from <= to;
        nodes.iter().any(|&node| self.touched(node, from, to))
            || (self.touched.crashes.meets(from, to) && self.history.lives.iter().any(is_new))
    }

    /// Whether a fault kept two nodes from talking: it lay between them, or touched one of them as a whole. One between one
    /// of them and a third is none: the two can talk, whatever a third says of either.
    pub(super) fn kept_apart(&self, nodes: [NodeIdx; 2], from: Time, to: Time) -> bool {
        let from = from - self.bounds.reach;
        let lies_between = |kind: FaultKind| kind.link().is_some_and(|ends| ends.iter().all(|end| nodes.contains(end)));
        nodes.iter().any(|&node| self.touched.whole(node, from, to))
            || self.touched.bad_weather.meets(from, to)
            || self.history.faults_between(from, to).any(|fault| lies_between(fault.kind))
    }

    /// When the last fault that touched one of these nodes and had begun before `until` was over; `None` while it lasts.
    pub(super) fn undisturbed_since(&self, nodes: [NodeIdx; 2], from: Time, until: Time) -> Option<Time> {
        let all = nodes.iter().filter_map(|node| self.touched.nodes.get(node)).chain([&self.touched.bad_weather]);
        all.map(|spans| spans.last_end(from, until)).try_fold(from, |latest, end| Some(end?.max(latest)))
    }
}

/// When a fault lasted, per node.
#[derive(Debug, Default)]
pub(super) struct Touched {
    nodes: BTreeMap<NodeIdx, Spans>,
    /// Not the faults of a link between two of them.
    whole: BTreeMap<NodeIdx, Spans>,
    bad_weather: Spans,
    /// Weather in which even a node that lives may be given up.
    storms: Spans,
    crashes: Spans,
    any: Spans,
}

impl Touched {
    pub(super) fn new(history: &History) -> Self {
        let mut touched = Touched::default();
        let nodes: BTreeSet<NodeIdx> = history.lives.iter().map(|life| life.node).collect();
        for fault in &history.faults {
            let mut span = (fault.from, fault.to.unwrap_or(END));
            if let (FaultKind::Twin(..), Some(to)) = (fault.kind, fault.to) {
                // Whoever found another process at its address takes no part for that long.
                span.1 = to + CONFLICT_PAUSE;
            }
            touched.any.0.push(span);
            let is_heavy = match fault.kind {
                FaultKind::Loss(loss) => loss >= LOSS_THAT_EXCUSES,
                FaultKind::Weather(severity) => severity.loss_max() >= LOSS_THAT_EXCUSES || severity.is_heavy(),
                _ => false,
            };
            let is_storm = match fault.kind {
                FaultKind::Loss(loss) => loss >= LOSS_THAT_KILLS,
                FaultKind::Weather(severity) => severity.loss_max() >= LOSS_THAT_KILLS || severity.is_heavy(),
                _ => false,
            };
            if is_storm {
                touched.storms.0.push(span);
            }
            if is_heavy {
                touched.bad_weather.0.push(span);
            }
            for &node in nodes.iter().filter(|&&node| fault.touches(node)) {
                touched.nodes.entry(node).or_default().0.push(span);
                if fault.kind.link().is_none() {
                    touched.whole.entry(node).or_default().0.push(span);
                }
            }
        }
        for life in &history.lives {
            if let (Some(LifeEnd::Crashed | LifeEnd::PowerLost), Some(to)) = (life.end, life.to) {
                touched.nodes.entry(life.node).or_default().0.push((to, to));
                touched.whole.entry(life.node).or_default().0.push((to, to));
                touched.crashes.0.push((to, to));
                touched.any.0.push((to, to));
            }
        }
        touched.nodes.values_mut().chain(touched.whole.values_mut()).for_each(Spans::merge);
        [&mut touched.bad_weather, &mut touched.storms, &mut touched.crashes, &mut touched.any]
            .into_iter()
            .for_each(Spans::merge);
        touched
    }

    fn node(&self, node: NodeIdx, from: Time, to: Time) -> bool {
        self.nodes.get(&node).is_some_and(|spans| spans.meets(from, to))
    }

    fn whole(&self, node: NodeIdx, from: Time, to: Time) -> bool {
        self.whole.get(&node).is_some_and(|spans| spans.meets(from, to))
    }
}

/// Later than everything.
pub(super) const END: Time = Time::from_nanos(u64::MAX);

/// Spans of time, in order and disjoint once merged.
#[derive(Debug, Default)]
struct Spans(Vec<(Time, Time)>);

impl Spans {
    fn merge(&mut self) {
        self.0.sort_unstable();
        self.0.dedup_by(|next, last| {
            let meets = next.0 <= last.1;
            if meets {
                last.1 = last.1.max(next.1);
            }
            meets
        });
    }

    /// Whether one of them has a moment from `from` to `to`.
    fn meets(&self, from: Time, to: Time) -> bool {
        let next = self.0.partition_point(|span| span.1 < from);
        self.0.get(next).is_some_and(|span| span.0 <= to)
    }

    /// When the last of those that meet the time from `from` to `to` ends: `from` if none does, `None` if it has not.
    fn last_end(&self, from: Time, to: Time) -> Option<Time> {
        let before = self.0.partition_point(|span| span.0 <= to);
        let end = self.0[..before].last().map_or(from, |span| span.1.max(from));
        (end != END).then_some(end)
    }
}

/// How much of a span lies in the spans of a fault kind, for times that do not count.
pub(super) fn paused_within(history: &History, node: NodeIdx, from: Time, to: Time) -> Duration {
    let paused = history.faults_between(from, to).filter(|fault| fault.kind == FaultKind::Paused(node));
    paused.map(|fault| fault.to.unwrap_or(to).min(to).since(fault.from.max(from))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn spans_merge_and_say_what_they_meet_and_when_they_end() {
        let mut spans = Spans([(10, 20), (15, 30), (50, 50), (5, 7)].map(|(from, to)| (at(from), at(to))).to_vec());
        spans.merge();
        assert_eq!(spans.0.len(), 3);
        for (from, to, expected) in
            [(0, 4, false), (0, 5, true), (8, 9, false), (31, 49, false), (50, 60, true), (51, 99, false)]
        {
            assert_eq!(spans.meets(at(from), at(to)), expected, "{from} to {to}");
        }
        assert_eq!(spans.last_end(at(12), at(40)), Some(at(30)));
        assert_eq!(spans.last_end(at(60), at(70)), Some(at(60)));
        spans.0.push((at(80), END));
        assert_eq!(spans.last_end(at(60), at(90)), None);
    }
}
