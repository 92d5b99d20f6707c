//! What long lives leave behind: a million children that were started and terminated, and a year of daily deploys.
//!
//! ```text
//! cargo run --release -p haulout-sim --example endurance -- cycles [COUNT] [NODES]
//! cargo run --release -p haulout-sim --example endurance -- year [NODES] [MINUTES_PER_DAY]
//! ```
//!
//! The size of a node's state is measured: the bytes that the allocator gets back when its process ends. That of an
//! exchange is measured on the streams, between nodes that are otherwise at rest.

use std::process::ExitCode;
use std::time::Duration;

use haulout::ChildSpec;
use haulout::proto::{FaultSites, Site};
use haulout_sim::{Cluster, NodeIdx, NodeState, Options, PacketClass};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Children that run all the while: what memory is compared with.
const STANDING: usize = 1_000;
/// Cycles that go on at once.
const AT_ONCE: usize = 500;
/// How often the table gets a row.
const ROWS: usize = 20;
/// Memory has returned to its base line if it is not further from it than this.
const TOLERANCE: f64 = 0.05;
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, default: usize| args.get(place).and_then(|arg| arg.parse().ok()).unwrap_or(default);
    match args.first().map(String::as_str) {
        Some("cycles") => cycles(number(1, 1_000_000), number(2, 4)),
        Some("year") => year(number(1, 5), number(2, 10)),
        Some("--quick") | None => cycles(20_000, 3),
        Some(other) => {
            eprintln!("{other}: cycles or year");
            ExitCode::from(64)
        }
    }
}

/// Starts and terminates so many children of distinct ids, and restarts a node at every row.
fn cycles(count: usize, nodes: usize) -> ExitCode {
    let mut cluster = cluster(nodes);
    println!("{HEAD}");
    let (mut base, mut last) = (None, 0.0);
    for row in 0..=ROWS {
        let from = count * row / ROWS;
        let node = NodeIdx(row % nodes);
        let measured = measure(&mut cluster, node);
        println!("| {from} {measured}");
        last = measured.state_bytes as f64;
        // The first life of a node has not yet seen what every later one does: growing tables, a full exchange.
        base = base.or((row >= nodes).then_some(last));
        let to = if row < ROWS { count * (row + 1) / ROWS } else { from };
        for first in (from..to).step_by(AT_ONCE) {
            cycle(&mut cluster, first..(first + AT_ONCE).min(to), nodes);
        }
    }
    let base = base.unwrap_or(last);
    let off = (last - base) / base;
    println!("state of a node: {base:.0} B after {nodes} rows, {last:.0} B in the end: {:+.1} %", off * 100.0);
    if off.abs() <= TOLERANCE { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn cycle(cluster: &mut Cluster, ids: std::ops::Range<usize>, nodes: usize) {
    for id in ids.clone() {
        let _ = cluster.start(NodeIdx(id % nodes), spec(&format!("cycle-{id}")));
    }
    cluster.run_for(Duration::from_millis(50));
    for id in ids {
        let _ = cluster.terminate(NodeIdx((id + 1) % nodes), &format!("cycle-{id}"));
    }
    cluster.run_for(Duration::from_millis(50));
}

/// Every node restarts every day, one after the other. A day has less than 24 hours here: nothing happens in the rest of it.
fn year(nodes: usize, minutes: usize) -> ExitCode {
    let mut cluster = cluster(nodes);
    println!("{HEAD}");
    for day in 0..=365 {
        if day % 28 == 0 || day == 365 {
            let measured = measure(&mut cluster, NodeIdx(day / 28 % nodes));
            println!("| day {day} {measured}");
        }
        for node in 0..nodes {
            deploy(&mut cluster, NodeIdx(node));
            let id = format!("day-{day}-{node}");
            let _ = cluster.start(NodeIdx(node), spec(&id));
            cluster.run_for(Duration::from_secs(1));
            let _ = cluster.terminate(NodeIdx(node), &id);
        }
        cluster.run_for(Duration::from_secs(60) * minutes as u32);
    }
    ExitCode::SUCCESS
}

fn deploy(cluster: &mut Cluster, node: NodeIdx) {
    let _ = cluster.leave(node);
    cluster.expect(PATIENCE, "to leave", |cluster| cluster.state(node) == NodeState::Down);
    cluster.run_for(Duration::from_secs(1));
    cluster.restart(node);
    cluster.converge(PATIENCE);
}

/// A converged cluster with its standing children. Now and then nodes that agree compare states all the same.
fn cluster(nodes: usize) -> Cluster {
    let fault_sites = FaultSites::seeded(1).with(Site::NeedlessPull, 0.02);
    let mut cluster = Cluster::new(Options { fault_sites, ..Options::seeded(1) });
    for node in 0..nodes {
        cluster.add_node(&format!("node-{node}"));
    }
    cluster.converge(PATIENCE);
    for child in 0..STANDING {
        let _ = cluster.start(NodeIdx(child % nodes), spec(&format!("standing-{child}")));
    }
    cluster.run_for(Duration::from_secs(1));
    cluster
}

fn spec(id: &str) -> ChildSpec {
    ChildSpec::raw(id, "kind", Vec::new()).expect("a short id")
}

const HEAD: &str = "| after | records | writers seen | ranges seen | state of a node | exchange of equal states | of one \
                    record more |\n|---|---|---|---|---|---|---|";

struct Measured {
    records: usize,
    writers: usize,
    ranges: usize,
    state_bytes: usize,
    equal_bytes: f64,
    one_more_bytes: f64,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "| {} | {} | {} | {:.1} kB | {:.0} B | {:.0} B |",
            self.records,
            self.writers,
            self.ranges,
            self.state_bytes as f64 / 1e3,
            self.equal_bytes,
            self.one_more_bytes
        )
    }
}

/// Measures a cluster at rest. The node whose state is weighed restarts.
fn measure(cluster: &mut Cluster, node: NodeIdx) -> Measured {
    let children = cluster.converge(PATIENCE);
    assert_eq!(children.len(), STANDING, "what was terminated is gone, and what was not is there");
    cluster.run_for(Duration::from_secs(15));
    let equal_bytes = bytes_per_pull(cluster, |cluster| cluster.run_for(Duration::from_secs(120)));
    let one_more_bytes = differ(cluster);
    let sizes = cluster.node(node).map(|node| node.sizes()).unwrap_or_default();
    let size = |name: &str| sizes.iter().find(|size| size.name == name).map_or(0, |size| size.len);
    let before = ALLOCATOR.current_usage();
    cluster.crash(node);
    let state_bytes = before.saturating_sub(ALLOCATOR.current_usage());
    cluster.run_for(Duration::from_secs(5));
    cluster.restart(node);
    cluster.converge(PATIENCE);
    Measured {
        records: size("records"),
        writers: size("writers seen"),
        ranges: size("ranges seen"),
        state_bytes,
        equal_bytes,
        one_more_bytes,
    }
}

/// One node writes a record that no datagram tells of, so that the others have to find it.
fn differ(cluster: &mut Cluster) -> f64 {
    let nodes: Vec<NodeIdx> = cluster.nodes().collect();
    let pairs = || nodes.iter().flat_map(|&from| nodes.iter().map(move |&to| (from, to))).filter(|(a, b)| a != b);
    pairs().for_each(|(from, to)| cluster.cut_class(from, to, PacketClass::Datagrams));
    let unwanted = ChildSpec::raw("unwanted", "of no node", Vec::new()).expect("a short id");
    let _ = cluster.start(NodeIdx(0), unwanted);
    // Longer than rumours are repeated, and shorter than it takes to suspect anybody to death.
    cluster.run_for(Duration::from_millis(1_500));
    pairs().for_each(|(from, to)| cluster.mend_class(from, to, PacketClass::Datagrams));
    let scope = cluster.scope();
    let bytes = bytes_per_pull(cluster, |cluster| {
        let root = |cluster: &Cluster, node: NodeIdx| cluster.node(node).and_then(|node| node.root(scope));
        cluster.expect(PATIENCE, "equal states", |cluster| {
            nodes.iter().all(|&node| root(cluster, node) == root(cluster, nodes[0]))
        });
    });
    let _ = cluster.terminate(NodeIdx(0), "unwanted");
    cluster.run_for(Duration::from_secs(5));
    bytes
}

fn bytes_per_pull(cluster: &mut Cluster, run: impl FnOnce(&mut Cluster)) -> f64 {
    let (bytes, pulls) = (cluster.traffic().frame_bytes, cluster.total_stats().pulls_completed);
    run(cluster);
    let pulls = cluster.total_stats().pulls_completed - pulls;
    (cluster.traffic().frame_bytes - bytes) as f64 / pulls as f64
}
