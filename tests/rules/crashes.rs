//! What has to be seen before a member is taken for crashed: each sign alone has another explanation.

use haulout::Event;
use haulout::proto::Rule;
use haulout_sim::{Cluster, NodeIdx, Options, PacketClass};

use crate::support::*;

const D: NodeIdx = NodeIdx(3);

/// Nodes at rest that watch each other: watchers are chosen a moment after the members have changed.
fn watching(sabotage: haulout::proto::Sabotage, names: &[&str]) -> Cluster {
    let mut cluster = cluster(sabotage, names);
    cluster.run_for(SOON);
    cluster
}

/// Nobody was said to have crashed, for all live.
fn no_crash(cluster: &Cluster) -> Promise {
    let said =
        cluster.nodes().flat_map(|node| cluster.events(node).iter().map(move |(at, _, event)| (node, at, event)));
    let mut crashes = said.filter(|(.., event)| matches!(event, Event::MemberCrashed(_)));
    crashes.next().map_or(Ok(()), |(node, at, event)| Err(format!("{node} said at {at:?}: {event:?}")))
}

/// Nothing gets from one node to the other or back: streams seem to be refused, datagrams are lost.
fn reject_all(cluster: &mut Cluster, from: NodeIdx, to: NodeIdx) {
    cluster.cut_class(from, to, PacketClass::Datagrams);
    cluster.cut_class(to, from, PacketClass::Datagrams);
    cluster.reject(from, to);
}

/// Goal: a member behind a firewall is not taken for crashed.
/// Method: the firewall comes up, breaks every stream to one of three nodes and refuses new ones; datagrams pass.
#[test]
fn whoever_answers_has_not_crashed_though_its_port_refuses() {
    needs(Rule::CrashIsSilent, |sabotage| {
        let mut cluster = watching(sabotage, &["a", "b", "c"]);
        [A, B].into_iter().for_each(|from| cluster.reject(from, C));
        cluster.run_for(secs(10));
        no_crash(&cluster)
    });
}

/// Goal: a process that is stopped is not taken for crashed.
/// Method: it is stopped for a second, which is too short for a suspicion to end, and meanwhile its streams break.
#[test]
fn whoever_listens_has_not_crashed_though_it_is_silent() {
    needs(Rule::CrashIsRefused, |sabotage| {
        let mut cluster = watching(sabotage, &["a", "b", "c"]);
        cluster.pause(C);
        [A, B].into_iter().for_each(|other| cluster.reset_streams(other, C));
        cluster.run_for(secs(1));
        cluster.resume(C);
        cluster.run_for(secs(10));
        no_crash(&cluster)
    });
}

/// One of three nodes has a broken network of its own: whatever it dials seems to refuse, and no datagram gets through.
fn unwell(sabotage: haulout::proto::Sabotage) -> Promise {
    let mut cluster = watching(sabotage, &["a", "b", "c"]);
    [B, C].into_iter().for_each(|other| reject_all(&mut cluster, A, other));
    cluster.run_for(secs(2));
    no_crash(&cluster)
}

/// Goal: what one member sees alone is not believed.
#[test]
fn one_who_sees_a_crash_alone_is_not_believed() {
    needs(Rule::CrashHasTwoWitnesses, unwell);
}

/// Goal: a member that hears nothing from those it asks does not judge.
#[test]
fn one_who_reaches_nobody_accuses_nobody() {
    needs(Rule::UnwellAccusesNobody, unwell);
}

/// Goal: two members that share a broken network do not accuse those whom neither of them reaches.
/// Method: two of five nodes can't reach the other three. They reach each other, and see the same.
#[test]
fn two_who_reach_nobody_else_accuse_nobody() {
    needs(Rule::UnwellAccusesNobody, |sabotage| {
        let mut cluster = watching(sabotage, &["a", "b", "c", "d", "e"]);
        for other in [C, D, NodeIdx(4)] {
            [A, B].into_iter().for_each(|from| reject_all(&mut cluster, from, other));
        }
        cluster.run_for(secs(2));
        no_crash(&cluster)
    });
}

/// Goal: two members behind the same broken line do not bring down one that the others reach.
/// Method: two of four nodes can't reach a third one. The fourth one can.
#[test]
fn whoever_is_reached_by_one_has_not_crashed() {
    needs(Rule::OneWhoReachesItSuffices, |sabotage| {
        let mut cluster = watching(sabotage, &["a", "b", "c", "d"]);
        [A, B].into_iter().for_each(|from| reject_all(&mut cluster, from, D));
        cluster.run_for(secs(2));
        no_crash(&cluster)
    });
}

/// Goal: a few that share a broken network do not, one after the other, replace all who could contradict them.
/// Method: four of ten nodes can't reach the other six for less than silence takes to judge. By chance two witnesses are on
/// their side for some; that all of the six are held for dead must not come of it.
#[test]
fn a_few_who_share_a_broken_network_do_not_bring_down_all_others() {
    needs(Rule::MostLiveToReplace, |sabotage| {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let mut worst = 0;
        for seed in 1..=10 {
            let options = Options { sabotage, ..Options::seeded(seed) };
            let mut cluster = cluster_with(options, &names);
            cluster.run_for(SOON);
            let (few, others): (Vec<_>, Vec<_>) = cluster.nodes().partition(|node| node.0 < 4);
            for &from in &few {
                others.iter().for_each(|&other| reject_all(&mut cluster, from, other));
            }
            cluster.run_for(secs(1));
            let left = few.iter().map(|&node| cluster.members(node).len()).min().unwrap_or_default();
            worst = worst.max(names.len() - left);
        }
        if worst <= 4 { Ok(()) } else { Err(format!("{worst} of six were held for dead")) }
    });
}
