//! Faults as people see them: a split is one fault, not a cut of each link between its sides.

use std::collections::{BTreeMap, BTreeSet};

use super::Band;
use crate::NodeIdx;
use crate::cluster::Cluster;
use crate::history::Fault;
use crate::words::{self, micros};

/// The links that failed in one way from one moment to another.
type Links = BTreeSet<(NodeIdx, NodeIdx)>;

/// The faults, by when they began.
pub(super) fn bands(cluster: &Cluster) -> Vec<Band> {
    let mut together: BTreeMap<_, (&Fault, Links)> = BTreeMap::new();
    let mut bands = Vec::new();
    for fault in &cluster.history().faults {
        match words::fault_link(fault.kind) {
            Some(link) => {
                let key = (fault.from, fault.to, words::fault_name(fault.kind));
                together.entry(key).or_insert_with(|| (fault, Links::new())).1.insert(link);
            }
            None => {
                let label = words::fault(cluster, fault.kind);
                bands.push(band(fault, label, words::fault_nodes(fault.kind)));
            }
        }
    }
    for (fault, links) in together.into_values() {
        let nodes: BTreeSet<NodeIdx> = links.iter().flat_map(|&(from, to)| [from, to]).collect();
        bands.push(band(fault, label(cluster, fault, &links, &nodes), nodes));
    }
    bands.sort_by_key(|band| (band.from, band.kind));
    bands
}

fn band(fault: &Fault, label: String, nodes: impl IntoIterator<Item = NodeIdx>) -> Band {
    Band {
        kind: words::fault_name(fault.kind),
        label,
        nodes: nodes.into_iter().map(|node| node.0).collect(),
        from: micros(fault.from),
        to: fault.to.map(micros),
    }
}

fn label(cluster: &Cluster, fault: &Fault, links: &Links, nodes: &BTreeSet<NodeIdx>) -> String {
    let names = |nodes: &BTreeSet<NodeIdx>| words::list(&nodes.iter().map(|&it| cluster.name(it)).collect::<Vec<_>>());
    let kind = words::fault_name(fault.kind);
    match sides(links, nodes) {
        _ if links.len() == 1 => words::fault(cluster, fault.kind),
        Some((one, other)) => format!("{kind} between {} on one side and {} on the other", names(&one), names(&other)),
        None => format!("{kind} of {} links of {}", links.len(), names(nodes)),
    }
}

/// The two groups between which every link failed in both directions, if that is what the links are.
fn sides(links: &Links, nodes: &BTreeSet<NodeIdx>) -> Option<(BTreeSet<NodeIdx>, BTreeSet<NodeIdx>)> {
    let first = *nodes.first()?;
    let (other, one): (BTreeSet<_>, BTreeSet<_>) = nodes.iter().partition(|&&node| links.contains(&(first, node)));
    let all = one.iter().flat_map(|&a| other.iter().flat_map(move |&b| [(a, b), (b, a)]));
    (links.len() == 2 * one.len() * other.len() && all.into_iter().all(|link| links.contains(&link)))
        .then_some((one, other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use std::time::Duration;

    #[test]
    fn a_split_is_one_fault_with_two_sides_and_a_one_way_cut_says_its_direction() {
        let mut cluster = Cluster::new(Options::seeded(1));
        let nodes = ["a", "b", "c", "d"].map(|name| cluster.add_node(name));
        cluster.split(&nodes[..2]);
        cluster.run_for(Duration::from_secs(1));
        cluster.heal();
        cluster.cut_one_way(nodes[0], nodes[1]);
        let bands = bands(&cluster);
        let shown: Vec<_> = bands.iter().map(|band| (&*band.label, band.nodes.len(), band.to)).collect();
        assert_eq!(
            shown,
            [
                ("cut between a and b on one side and c and d on the other", 4, Some(1_000_000)),
                ("nothing gets from a to b", 2, None),
            ]
        );
    }
}
