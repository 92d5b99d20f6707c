//! What a node uses while nothing happens, without children and with many.

use haulout::BoxError;
use tokio::time::sleep;

use crate::Plan;
use crate::cluster::Cluster;
use crate::node::Usage;
use crate::table::Row;

/// Per second: the mean of all nodes.
struct Idle {
    cpu_millis: f64,
    packets: f64,
    bytes: f64,
}

pub(crate) async fn measure(plan: &Plan, rows: &mut Vec<Row>) -> Result<(), BoxError> {
    for &nodes in &plan.idle_nodes {
        eprintln!("{nodes} idle nodes, without children and with {} ...", plan.children);
        let mut cluster = Cluster::of(nodes).await?;
        let empty = idle(&mut cluster, plan).await?;
        cluster.have(plan.children).await?;
        let full = idle(&mut cluster, plan).await?;
        cluster.stop().await?;
        rows.extend(rows_of(nodes, plan.children, &empty, &full));
    }
    Ok(())
}

async fn idle(cluster: &mut Cluster, plan: &Plan) -> Result<Idle, BoxError> {
    sleep(plan.rest).await;
    let before = cluster.usages().await?;
    sleep(plan.idle).await;
    let after = cluster.usages().await?;
    let per_second = |used: fn(&Usage) -> u64| {
        let rates = before.iter().zip(&after).map(|(before, after)| {
            used(after).saturating_sub(used(before)) as f64 * 1e9 / (after.at - before.at) as f64
        });
        rates.sum::<f64>() / before.len() as f64
    };
    Ok(Idle {
        cpu_millis: per_second(|usage| usage.cpu_nanos) / 1e6,
        packets: per_second(|usage| usage.packets),
        bytes: per_second(|usage| usage.bytes),
    })
}

fn rows_of(nodes: usize, children: usize, empty: &Idle, full: &Idle) -> Vec<Row> {
    // The bars of the issue are for ten nodes.
    let bars = if nodes == 10 { [Some(1.0), None, Some(300.0)] } else { [None; 3] };
    let pogo = ["3.3 ms/s at 5 s, 100 ms/s at 100 ms (1,000)", "", ""];
    let horde = ["5.5 ms/s (1,000)", "", ""];
    let figures = [
        ("CPU", "ms/s", empty.cpu_millis, full.cpu_millis),
        ("packets that a node sends", "/s", empty.packets, full.packets),
        ("bytes that a node sends", "B/s", empty.bytes, full.bytes),
    ];
    let row = |number: usize| {
        let (what, unit, without, with) = figures[number];
        let absolute = bars[number].map(|bar: f64| (format!("<= {bar} {unit}"), with <= bar));
        let without = format!("without children {without:.2} {unit}");
        let same = with <= figures[number].2 * 1.1;
        let (bar, reached) = match absolute {
            Some((bar, reached)) => (format!("{bar}, within 10 %"), reached && same),
            None => ("within 10 %".to_owned(), same),
        };
        Row::new(format!("idle, {nodes} nodes, {children} children: {what}"), format!("{with:.2} {unit}"))
            .bar(bar, reached)
            .limit(without)
            .peers(pogo[number], horde[number])
    };
    (0..3).map(row).collect()
}
