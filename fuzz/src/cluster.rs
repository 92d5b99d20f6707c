//! Three real nodes in virtual time, of which the fuzzer plays the network, the machines and, if it likes, a liar.

use std::time::Duration;

use haulout::ChildSpec;
use haulout::proto::InstanceId;
use haulout::proto::wire::Message;
use haulout_sim::{Cluster, NodeIdx, NodeState, Options, invariants};
use serde::{Deserialize, Serialize};

use crate::script::read;
use crate::voices::{Said, Voices};

/// Long enough for three nodes to come to rest whatever has happened to them.
const REST: Duration = Duration::from_secs(90);

/// One thing that happens to a cluster. Nodes are counted modulo three.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Deed {
    /// A datagram of any bytes arrives at a node.
    Noise { at: u8, bytes: Vec<u8> },
    /// A datagram arrives that passes for one of this peer's: what it says need not be true.
    Lie { at: u8, from: u8, swim: Vec<u8>, messages: Vec<Message> },
    /// A user starts a child.
    Start { on: u8, child: u8 },
    /// A user terminates a child.
    Terminate { on: u8, child: u8 },
    /// A process dies, or a new one is started in its place.
    Crash(u8),
    /// A process stands still, or goes on.
    Pause(u8),
    /// The path from one node to the other is cut.
    Cut { from: u8, to: u8 },
    /// All paths are whole again.
    Heal,
    /// So many milliseconds pass.
    Wait(u16),
}

/// Anything that can happen to a cluster. Whatever members say, tables stay within their limits and no node gets into a
/// livelock. Where none of them lies, every promise is kept, and in the end everything converges.
pub fn cluster(bytes: &[u8]) {
    let mut cluster = Cluster::new(Options::seeded(1));
    for number in 0..3u64 {
        let mut options = cluster.node_options();
        options.instance = Some(InstanceId::new(number + 1));
        cluster.add_node_with(&format!("n{number}"), options);
    }
    // So that a process that is started again is a new life.
    cluster.nodes().for_each(|node| cluster.node_options_mut(node).instance = None);
    cluster.run_for(Duration::from_secs(3));
    let deeds: Vec<Deed> = read(bytes);
    let is_honest = !deeds.iter().any(|deed| matches!(deed, Deed::Lie { .. }));
    deeds.into_iter().for_each(|deed| happen(&mut cluster, deed));
    if is_honest {
        for node in cluster.nodes() {
            match cluster.state(node) {
                NodeState::Up => {}
                NodeState::Paused => cluster.resume(node),
                NodeState::Down | NodeState::Off => cluster.restart(node),
            }
        }
        cluster.heal();
        cluster.converge(REST);
        if let Err(violation) = invariants::check_safety(&cluster) {
            panic!("{violation:?}");
        }
    } else {
        cluster.run_for(Duration::from_secs(3));
    }
    check(&cluster);
}

fn happen(cluster: &mut Cluster, deed: Deed) {
    let node = |number: u8| NodeIdx(usize::from(number % 3));
    match deed {
        Deed::Noise { at, bytes } => cluster.inject(node(at.wrapping_add(1)), node(at), &bytes),
        Deed::Lie { at, from, swim, messages } => {
            let said = Said { swim: &swim, messages: &messages, noise: &[] };
            cluster.inject(node(from), node(at), &Voices::new(&[]).datagram(from, said));
        }
        Deed::Start { on, child } if cluster.state(node(on)) == NodeState::Up => {
            let id = format!("child-{}", child % 16);
            let spec = ChildSpec::raw(id.as_str(), "kind", id.clone().into_bytes()).expect("a spec");
            let _ = cluster.start(node(on), spec);
        }
        Deed::Terminate { on, child } if cluster.state(node(on)) == NodeState::Up => {
            let _ = cluster.terminate(node(on), &format!("child-{}", child % 16));
        }
        Deed::Start { .. } | Deed::Terminate { .. } => {}
        Deed::Crash(number) => match cluster.state(node(number)) {
            NodeState::Up | NodeState::Paused => cluster.crash(node(number)),
            NodeState::Down | NodeState::Off => cluster.restart(node(number)),
        },
        Deed::Pause(number) => match cluster.state(node(number)) {
            NodeState::Up => cluster.pause(node(number)),
            NodeState::Paused => cluster.resume(node(number)),
            NodeState::Down | NodeState::Off => {}
        },
        Deed::Cut { from, to } => cluster.cut_one_way(node(from), node(to)),
        Deed::Heal => cluster.heal(),
        Deed::Wait(millis) => cluster.run_for(Duration::from_millis(u64::from(millis) % 10_000)),
    }
    check(cluster);
}

fn check(cluster: &Cluster) {
    for node in cluster.nodes().filter_map(|node| cluster.node(node)) {
        for size in node.sizes() {
            assert!(size.max.is_none_or(|max| size.len <= max), "{size:?}");
        }
    }
}
