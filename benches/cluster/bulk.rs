//! Many children started on one node, and terminated again.

use std::time::Duration;

use haulout::BoxError;

use crate::cluster::Cluster;
use crate::figures::show;
use crate::limits::Limits;
use crate::table::Row;

struct Bulk {
    count: usize,
    /// How often a child began; more than `count` would be restarts or copies.
    first_lines: usize,
    /// Until the last first line.
    running: Duration,
    /// Until every node listed all as running.
    listed: Duration,
    /// Until all were gone again, on every node.
    terminated: Duration,
}

/// Sizes in ascending order.
pub(crate) async fn measure(sizes: &[usize], rows: &mut Vec<Row>) -> Result<(), BoxError> {
    let mut bulks = Vec::new();
    for &count in sizes {
        eprintln!("{count} children at once ...");
        let bulk = bulk(count).await?;
        rows.extend(rows_of(&bulk, &Limits::of(count).await?));
        bulks.push(bulk);
    }
    rows.extend(bulks.windows(2).map(|pair| growth(&pair[0], &pair[1])));
    Ok(())
}

async fn bulk(count: usize) -> Result<Bulk, BoxError> {
    let mut cluster = Cluster::of(3).await?;
    let called = cluster.start_many("bulk", count).await?;
    let listed = cluster.all_listed(count, called).await?;
    let (first_lines, last) = cluster.first_lines().await?;
    let running = Duration::from_nanos(last.saturating_sub(called));
    let terminated = cluster.terminate_many("bulk", count).await?;
    cluster.stop().await?;
    Ok(Bulk { count, first_lines, running, listed, terminated })
}

fn rows_of(bulk: &Bulk, limits: &Limits) -> Vec<Row> {
    let Bulk { count, first_lines, running, listed, terminated } = bulk;
    let (start_bar, terminate_bar) = match count {
        10_000 => (Some(Duration::from_millis(250)), None),
        100_000 => (Some(Duration::from_millis(1_500)), Some(Duration::from_millis(1_500))),
        1_000_000 => (Some(Duration::from_secs(20)), None),
        _ => (None, None),
    };
    let stream = format!("streamed and filed once: {}", show(limits.stream()));
    let tasks = format!("bare tasks spawned: {}", show(limits.spawn()));
    let mut rows = vec![
        Row::time(format!("{count} started on one node until all run"), *running, None).limit(tasks),
        Row::time("  and all 3 nodes list all as running", *listed, start_bar)
            .limit(stream)
            .peers("9.0 s (10,000; quadratic)", "10 s (10,000)"),
        Row::time("  terminated, until no node runs or lists any", *terminated, terminate_bar)
            .limit(format!("bare tasks ended: {}", show(limits.end())))
            .peers("9.2 s (2,000; quadratic)", ""),
    ];
    if first_lines != count {
        rows.push(Row::new("  first lines", first_lines.to_string()).bar(count.to_string(), false));
    }
    rows
}

fn growth(small: &Bulk, large: &Bulk) -> Row {
    let per_child = |bulk: &Bulk| bulk.listed.as_secs_f64() / bulk.count as f64;
    let growth = per_child(large) / per_child(small);
    let figure = format!("time per child, {} against {}", large.count, small.count);
    // Twice the time per child for ten times the children is n to the power of 1.3, where linear begins to end.
    Row::new(figure, format!("x {growth:.2}")).bar("linear (x <= 2)", growth <= 2.0).peers("quadratic", "")
}
