//! A node that is killed or falls silent, until its children run elsewhere.

use std::net::SocketAddr;
use std::time::Duration;

use haulout::BoxError;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::clock;
use crate::cluster::{AT_LAST, Cluster};
use crate::figures::{quantile, show};
use crate::table::Row;

/// How a node is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// SIGKILL: its kernel closes what it had open.
    Killed,
    /// SIGSTOP: nobody is told anything.
    Stopped,
}

/// One node that was lost.
struct Lost {
    /// How many children it had.
    children: usize,
    /// Until the last child's first line elsewhere.
    running: Duration,
    /// Until the kernel had closed a stream of the node.
    closed: Option<Duration>,
}

pub(crate) async fn crashes(times: usize, rows: &mut Vec<Row>) -> Result<(), BoxError> {
    for children in [1_000, 10_000] {
        let losses = lose_often(Loss::Killed, 3, children, times).await?;
        let (bar, pogo, horde) = match children {
            ..=1_000 => (Duration::from_millis(150), "104 ms at 100 ms interval, 2.6 s at 5 s", "232 ms"),
            _ => (Duration::from_millis(400), "446 ms (5,000)", "1.3 s (5,000)"),
        };
        let closed: Vec<_> = losses.iter().filter_map(|lost| lost.closed).collect();
        let limit = format!("its kernel closed a stream: {}", show(quantile(&closed, 500)));
        let [median, longest] = rows_of("SIGKILL of one of 3 nodes", children, &losses, (bar, None));
        rows.extend([median.limit(limit).peers(pogo, horde), longest]);
    }
    Ok(())
}

pub(crate) async fn silences(times: usize, rows: &mut Vec<Row>) -> Result<(), BoxError> {
    let losses = lose_often(Loss::Stopped, 10, 1_000, times).await?;
    let bars = (Duration::from_millis(2_500), Some(Duration::from_secs(5)));
    let [median, longest] = rows_of("SIGSTOP of one of 10 nodes", 1_000, &losses, bars);
    rows.extend([median.limit("foca's defaults: 5.6 s").peers("70 s", "70 s"), longest]);
    Ok(())
}

/// The median and the longest, with their bars.
fn rows_of(what: &str, children: usize, losses: &[Lost], bars: (Duration, Option<Duration>)) -> [Row; 2] {
    let running: Vec<_> = losses.iter().map(|lost| lost.running).collect();
    let moved = losses.iter().map(|lost| lost.children).sum::<usize>() / losses.len().max(1);
    let figure = format!("{what}, {moved} of {children} children run elsewhere, median of {}", losses.len());
    [
        Row::time(figure, quantile(&running, 500), Some(bars.0)),
        Row::time("  longest", quantile(&running, 1_000), bars.1),
    ]
}

async fn lose_often(loss: Loss, nodes: usize, children: usize, times: usize) -> Result<Vec<Lost>, BoxError> {
    eprintln!("one of {nodes} nodes with {children} children is {loss:?}, {times} times ...");
    let mut losses = Vec::new();
    for _ in 0..times {
        let mut cluster = Cluster::of(nodes).await?;
        cluster.have(children).await?;
        let lost = lose(&mut cluster, loss).await?;
        cluster.stop().await?;
        eprintln!("  {} of {children} run elsewhere after {}", lost.children, show(lost.running));
        losses.push(lost);
    }
    Ok(losses)
}

/// Loses the last node.
async fn lose(cluster: &mut Cluster, loss: Loss) -> Result<Lost, BoxError> {
    let children = cluster.usages().await?.last().map_or(0, |usage| usage.children);
    let (victim, addr) = (cluster.processes.pop().ok_or("no process")?, cluster.addrs.pop().ok_or("no address")?);
    let closing = tokio::spawn(until_closed(addr));
    // The stream is open a moment after the spawn; the children are where they are.
    sleep(Duration::from_millis(100)).await;
    let lost_at = clock::now();
    let mut stopped = None;
    match loss {
        Loss::Killed => drop(victim.kill().await?),
        Loss::Stopped => {
            let pid = Pid::from_raw(victim.pid().try_into()?).ok_or("no process id")?;
            kill_process(pid, Signal::STOP)?;
            stopped = Some(victim);
        }
    }
    let (moved, last) = until_moved(cluster, children, lost_at).await?;
    if let Some(victim) = stopped {
        victim.kill().await?;
    }
    let closed = closing.await?.ok().filter(|_| loss == Loss::Killed);
    let closed = closed.map(|at| Duration::from_nanos(at.saturating_sub(lost_at)));
    Ok(Lost { children: moved, running: Duration::from_nanos(last.saturating_sub(lost_at)), closed })
}

/// Listings are of no use for this: until the loss is noticed they count its children as running.
async fn until_moved(cluster: &mut Cluster, children: usize, since: u64) -> Result<(usize, u64), BoxError> {
    let (mut moved, mut last) = (0, 0);
    while moved < children {
        if clock::now() > since + AT_LAST.as_nanos() as u64 {
            return Err(format!("{moved} of {children} children of the lost node came back").into());
        }
        sleep(Duration::from_millis(20)).await;
        let (lines, at) = cluster.first_lines().await?;
        (moved, last) = (moved + lines, last.max(at));
    }
    Ok((moved, last))
}

/// When a stream to this address ended.
async fn until_closed(addr: SocketAddr) -> Result<u64, std::io::Error> {
    let mut stream = TcpStream::connect(addr).await?;
    let mut bytes = [0; 64];
    while stream.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
    Ok(clock::now())
}
