//! One start at a time in an idle cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use haulout::BoxError;
use tokio::time::sleep;

use crate::cluster::{Cluster, unexpected};
use crate::figures::{quantile, show};
use crate::limits;
use crate::node::{Answer, Request};
use crate::table::Row;

pub(crate) async fn measure(samples: usize, rows: &mut Vec<Row>) -> Result<(), BoxError> {
    eprintln!("{samples} single starts ...");
    let mut cluster = Cluster::of(3).await?;
    let latencies = latencies(&mut cluster, samples).await?;
    cluster.stop().await?;
    let limit = format!("loopback round trip {}", show(limits::round_trip()?));
    let figure = format!("one start until it runs on another node, median of {}", latencies.len());
    let (median, p99) = (quantile(&latencies, 500), quantile(&latencies, 990));
    rows.extend([
        Row::time(figure, median, Some(Duration::from_micros(500)))
            .limit(limit)
            .peers("57 ms at 100 ms interval, 2.1 s at 5 s", "0.7 ms"),
        Row::time("  99th percentile", p99, Some(Duration::from_millis(3))).peers("4.8 s (longest, 5 s)", ""),
    ]);
    Ok(())
}

/// Starts children one after another on the first node; from each call to the child's first line, for those that came
/// to run on another node.
async fn latencies(cluster: &mut Cluster, samples: usize) -> Result<Vec<Duration>, BoxError> {
    let mut called = BTreeMap::new();
    for number in 0..samples {
        let id = format!("one-{number}");
        called.insert(id.clone(), cluster.ask_first(&Request::StartOne { id }).await?);
        // So that each finds the cluster idle.
        sleep(Duration::from_millis(10)).await;
    }
    let mut latencies = Vec::new();
    for answer in cluster.ask_all(&Request::FirstLines).await?.into_iter().skip(1) {
        let Answer::FirstLines { named, .. } = answer else { return Err(unexpected(&answer)) };
        let latency = |(id, at): (String, u64)| Some(Duration::from_nanos(at.saturating_sub(*called.get(&id)?)));
        latencies.extend(named.into_iter().filter_map(latency));
    }
    match latencies.is_empty() {
        true => Err("no child came to run on another node".into()),
        false => Ok(latencies),
    }
}
