//! Resources: every table and queue stays within its limit, and is empty at rest where it only holds what is under way.

use haulout::proto::Size;

use super::Evidence;
use crate::NodeIdx;
use crate::verdict::Violation;

pub(super) fn limits_hold(evidence: &Evidence<'_>) -> Result<(), Violation> {
    let wrong = |size: &Size| size.max.is_some_and(|max| size.len > max);
    first_wrong(evidence, &evidence.view.cluster.up(), wrong).map_or(Ok(()), |(node, size)| {
        let detail = format!("{} has {} of at most {:?}", size.name, size.len, size.max.unwrap_or_default());
        Err(Violation::safety("limits-hold", evidence.view.cluster.now(), detail).on(node))
    })
}

pub(super) fn nothing_left_over(evidence: &Evidence<'_>) -> Result<(), Violation> {
    if evidence.converged.is_none() {
        return Ok(());
    }
    let wrong = |size: &Size| size.rests_empty && size.len > 0;
    first_wrong(evidence, evidence.core, wrong).map_or(Ok(()), |(node, size)| {
        let detail = format!("{} still has {} at rest", size.name, size.len);
        Err(Violation::liveness("nothing-left-over", evidence.view.cluster.now(), detail).on(node))
    })
}

fn first_wrong(evidence: &Evidence<'_>, nodes: &[NodeIdx], wrong: impl Fn(&Size) -> bool) -> Option<(NodeIdx, Size)> {
    let sizes = nodes.iter().filter_map(|&node| Some((node, evidence.view.cluster.node(node)?.sizes())));
    sizes.flat_map(|(node, sizes)| sizes.into_iter().map(move |size| (node, size))).find(|(_, size)| wrong(size))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use haulout::ChildSpec;

    use super::*;
    use crate::bounds::Bounds;
    use crate::view::View;
    use crate::{Cluster, Options};

    /// Goal: tables that are full or not empty are seen. Method: a cluster at rest, then one with calls under way, whose
    /// limit is then taken for lower than it is.
    #[test]
    fn what_is_under_way_is_seen_and_at_rest_there_is_nothing() {
        let mut cluster = Cluster::new(Options::seeded(1));
        let [a, b] = ["a", "b"].map(|name| cluster.add_node(name));
        let children = cluster.converge(Duration::from_secs(30));
        let bounds = Bounds::new(&cluster.options().config, 2, cluster.options().link);
        let core = [a, b];
        fn evidence<'a>(
            view: &'a View<'a>,
            bounds: &'a Bounds,
            core: &'a [NodeIdx],
            children: &'a [haulout::ChildInfo],
        ) -> Evidence<'a> {
            Evidence { view, bounds, startup: &[], core, converged: Some(children) }
        }
        let (bounds, children, core) = (&bounds, &children[..], &core);
        let check = |evidence: &Evidence<'_>| nothing_left_over(evidence).is_ok() && limits_hold(evidence).is_ok();
        assert!(check(&evidence(&View::of(&cluster, cluster.scope()), bounds, core, children)));
        for number in 0..10 {
            let _ = cluster.start(a, ChildSpec::raw(format!("x{number}"), "kind", Vec::new()).expect("a spec"));
        }
        let view = View::of(&cluster, cluster.scope());
        let evidence = evidence(&view, bounds, core, children);
        let violation = nothing_left_over(&evidence).expect_err("rounds are under way");
        assert!(violation.detail.contains("still has"), "{}", violation.detail);
        let full = first_wrong(&evidence, core, |size| size.name == "desired children" && size.len > 9);
        assert_eq!(full.map(|(node, size)| (node, size.len)), Some((a, 10)));
    }
}
