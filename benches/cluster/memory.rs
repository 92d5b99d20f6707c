//! Memory for each child: what the resident sets of two processes grow by, of which one runs all children and the other
//! only knows them.

use haulout::BoxError;

use crate::cluster::Cluster;
use crate::limits::Limits;
use crate::table::Row;

pub(crate) async fn measure(sizes: &[usize], rows: &mut Vec<Row>) -> Result<(), BoxError> {
    for &children in sizes {
        eprintln!("memory of {children} children ...");
        let mut cluster = Cluster::with_bystanders(1, 2).await?;
        let before = cluster.usages().await?;
        cluster.have(children).await?;
        let after = cluster.usages().await?;
        cluster.stop().await?;
        let grown = |node: usize| {
            after[node].resident_bytes.saturating_sub(before[node].resident_bytes) as f64 / children as f64
        };
        let (runner, bystander) = (grown(0), grown(1).max(grown(2)));
        let limits = Limits::of(children).await?;
        rows.push(
            Row::new(format!("memory per child on a node that runs all {children}"), format!("{runner:.0} B"))
                .bar("<= 1000 B", runner <= 1_000.0)
                .limit(format!("bare task {} B", limits.task_bytes))
                .peers("12.2 kB (5,000)", "5.6 kB (5,000)"),
        );
        rows.push(
            Row::new("  on one that knows and runs none", format!("{bystander:.0} B"))
                .bar("<= 250 B", bystander <= 250.0)
                .limit(format!("encoded record {} B", limits.record_bytes)),
        );
    }
    Ok(())
}
