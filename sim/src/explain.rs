//! The story of one child or one node, in plain sentences, in order of time: what its users asked, where it ran,
//! which faults touched the nodes concerned and whom these took for members.

mod beliefs;
mod child;
mod node;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use haulout::proto::Time;

pub use child::child;
pub use node::node;

use crate::NodeIdx;
use crate::cluster::Cluster;
use crate::history::FaultKind;
use crate::network::Class;
use crate::words;

/// What happened around a story is told so long before its beginning and after its end.
const CONTEXT: Duration = Duration::from_secs(20);

/// Sentences with their times.
struct Story {
    lines: Vec<(Time, String)>,
    /// What happens around is told from here.
    from: Time,
    /// And until here.
    to: Time,
}

impl Story {
    /// A story of what happens between these times.
    fn between(first: Time, last: Time) -> Self {
        Story { lines: Vec::new(), from: first - CONTEXT, to: last + CONTEXT }
    }

    /// Tells something that is not part of the story, if it was near.
    fn context(&mut self, at: Time, line: impl Into<String>) {
        if at >= self.from && at <= self.to {
            self.tell(at, line);
        }
    }

    /// Tells of something that lasted, if it reached into the story.
    fn span(&mut self, from: Time, to: Option<Time>, begins: String, ends: String) {
        if from > self.to || to.is_some_and(|to| to < self.from) {
            return;
        }
        self.tell(from, begins);
        if let Some(to) = to {
            self.context(to, ends);
        }
    }

    fn tell(&mut self, at: Time, line: impl Into<String>) {
        self.lines.push((at, line.into()));
    }

    /// The sentences in order of time; those of one moment stay in the order in which they were told.
    fn write(mut self, into: &mut String) {
        self.lines.sort_by_key(|(at, _)| *at);
        for (at, line) in &self.lines {
            // A String takes any text.
            let _ = writeln!(into, "{:>10}  {line}", words::clock(*at));
        }
    }

    /// The lives of these nodes.
    fn tell_lives(&mut self, cluster: &Cluster, nodes: &[NodeIdx]) {
        for life in cluster.history().lives.iter().filter(|life| nodes.contains(&life.node)) {
            let name = words::life_named(cluster, life.node, life.instance);
            self.context(life.from, format!("{name} was started (instance {}).", life.instance));
            let Some((to, end)) = life.to.zip(life.end) else { continue };
            let runs = cluster.journal().runs().iter();
            let lost = runs.filter(|run| run.instance == life.instance && run.ended == Some(to)).count();
            let with_it = if lost > 0 { format!("; {lost} runs ended with it") } else { String::new() };
            self.context(to, format!("{name} {}{with_it}.", words::life_end(end)));
        }
    }

    /// The faults that touched these nodes, and those that touched all. Cuts of a node that began and ended together
    /// are one line.
    fn tell_faults(&mut self, cluster: &Cluster, nodes: &[NodeIdx]) {
        let mut cuts: Vec<Cuts> = Vec::new();
        for fault in &cluster.history().faults {
            let lasting = words::lasting(fault.from, fault.to);
            match fault.kind {
                FaultKind::Cut(from, to, Class::All) => {
                    for &node in nodes.iter().filter(|&&node| node == from || node == to) {
                        Cuts::note(&mut cuts, node, (from, to), fault.from, fault.to);
                    }
                }
                kind => {
                    let about = words::fault_nodes(kind);
                    if about.is_empty() || about.iter().any(|node| nodes.contains(node)) {
                        let what = words::fault(cluster, kind);
                        if fault.to == Some(fault.from) {
                            self.tell(fault.from, format!("At this moment {what}."));
                            continue;
                        }
                        let begins = format!("From here on {what}, {lasting}.");
                        self.span(fault.from, fault.to, begins, format!("It is over that {what}."));
                    }
                }
            }
        }
        for cut in cuts.iter().filter(|cut| !cut.is_told_by_another(nodes)) {
            cut.tell(cluster, self);
        }
    }
}

/// The cuts around one node that began and ended together.
struct Cuts {
    node: NodeIdx,
    from: Time,
    to: Option<Time>,
    /// Those whom nothing of the node reaches.
    outbound: Vec<NodeIdx>,
    /// Those of whom nothing reaches the node.
    inbound: Vec<NodeIdx>,
}

impl Cuts {
    fn note(cuts: &mut Vec<Cuts>, node: NodeIdx, link: (NodeIdx, NodeIdx), from: Time, to: Option<Time>) {
        let place = cuts.iter().rposition(|cut| (cut.node, cut.from, cut.to) == (node, from, to));
        let place = place.unwrap_or_else(|| {
            cuts.push(Cuts { node, from, to, outbound: Vec::new(), inbound: Vec::new() });
            cuts.len() - 1
        });
        match link {
            (source, target) if source == node => cuts[place].outbound.push(target),
            (source, _) => cuts[place].inbound.push(source),
        }
    }

    /// Whether it is a cut between two, of whom the other tells it.
    fn is_told_by_another(&self, nodes: &[NodeIdx]) -> bool {
        let others: BTreeSet<NodeIdx> = self.outbound.iter().chain(&self.inbound).copied().collect();
        others.len() == 1 && others.iter().all(|other| *other < self.node && nodes.contains(other))
    }

    fn tell(&self, cluster: &Cluster, story: &mut Story) {
        let name = cluster.name(self.node);
        let both: Vec<NodeIdx> = self.outbound.iter().copied().filter(|node| self.inbound.contains(node)).collect();
        let only = |side: &[NodeIdx]| side.iter().copied().filter(|node| !both.contains(node)).collect::<Vec<_>>();
        let lasting = words::lasting(self.from, self.to);
        let sides = [
            (both.clone(), "was cut off from", "could talk again with"),
            (only(&self.outbound), "could no longer reach (but hear)", "could again reach"),
            (only(&self.inbound), "could no longer hear (but reach)", "could again hear"),
        ];
        for (others, cut, mended) in sides.iter().filter(|(others, ..)| !others.is_empty()) {
            let others = words::others(cluster, self.node, self.from, others);
            let begins = format!("{name} {cut} {others}, {lasting}.");
            story.span(self.from, self.to, begins, format!("{name} {mended} {others}."));
        }
    }
}

#[cfg(test)]
mod tests;
