//! Asking an idle node what there is.

use std::time::Duration;

use haulout::BoxError;

use crate::cluster::{Cluster, unexpected};
use crate::figures::show;
use crate::node::{Answer, Request};
use crate::table::Row;

pub(crate) async fn measure(children: usize, rows: &mut Vec<Row>) -> Result<(), BoxError> {
    eprintln!("asking a cluster with {children} children ...");
    let mut cluster = Cluster::of(3).await?;
    cluster.have(children).await?;
    let mut asked = Vec::new();
    // One after another: three at once would take the cores from each other.
    for process in &mut cluster.processes {
        match process.call(&Request::AskOften, crate::cluster::SOON).await? {
            Answer::AskedOften(times) => asked.push(times),
            other => return Err(unexpected(&other)),
        }
    }
    cluster.stop().await?;
    let slowest =
        |nanos: fn(&crate::node::Asked) -> u64| Duration::from_nanos(asked.iter().map(nanos).max().unwrap_or_default());
    let (copy, look_up) = (slowest(|asked| asked.copy_nanos), slowest(|asked| asked.look_up_nanos));
    rows.extend([
        Row::time(
            format!("which_children(Global), {children} children, median of 20, slowest node"),
            slowest(|asked| asked.listing_nanos),
            Some(Duration::from_millis(30)),
        )
        .limit(format!("ids copied and sorted: {}", show(copy)))
        .peers("41 s (5,000)", "36 ms (5,000)"),
        Row::time(
            "whereis, median of 10000, slowest node",
            slowest(|asked| asked.whereis_nanos),
            Some(Duration::from_micros(2)),
        )
        .limit(format!("looked up in a map: {}", show(look_up))),
    ]);
    Ok(())
}
