//! A cluster, a client that starts children, and the flood.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use haulout::proto::{Identity, InstanceId};
use haulout::{BoxError, Key};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

use crate::cluster::{Cluster, SOON, unexpected};
use crate::datagrams::Datagrams;
use crate::forge::Forger;
use crate::node::{Answer, Request};
use crate::raw::Recorder;
use crate::report::{Loss, Report};
use crate::streams::Streams;
use crate::{Plan, clock};

/// Which node is flooded; children are started on the first one.
const VICTIM: usize = 1;

/// Between two starts, so that each finds the cluster idle where nothing floods it.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) async fn flood(plan: Plan) -> Result<Report, BoxError> {
    let key = plan.is_keyed.then(Key::generate);
    let mut cluster = Cluster::start(plan.nodes, 0, key.as_ref()).await?;
    cluster.have(plan.children).await?;
    let addr = cluster.addrs[VICTIM];
    let SocketAddr::V4(to) = addr else { return Err("nodes are expected on IPv4".into()) };
    let pid = cluster.processes[VICTIM].pid();

    eprintln!("starts without a flood, for {:?} ...", plan.calm);
    let recorder = Recorder::start(addr, cluster.addrs.clone());
    let calm = starts(&mut cluster, "calm", plan.calm).await?;
    let recorded = recorder.map(Recorder::packets).unwrap_or_else(|error| {
        eprintln!("nothing is replayed or spoofed: a raw socket can't be opened ({error}), as root it can");
        Ok(Vec::new())
    })?;

    eprintln!("{} forged datagrams per second and {} half-open streams ...", plan.datagrams_per_second, plan.streams);
    let resident_bytes = memory(pid, "VmRSS")?;
    let dropped = dropped(to)?;
    let before = counters(&mut cluster).await?;
    let used = (clock::now(), cluster.usages().await?[VICTIM].cpu_nanos, own_cpu_nanos());
    let forger = forger(&mut cluster, plan.is_keyed, recorded).await?;
    let streams = Streams::start(to, plan.streams);
    let datagrams = Datagrams::start(to, plan.datagrams_per_second, forger)?;
    let flooded = starts(&mut cluster, "flooded", plan.flood).await;
    let sent = datagrams.end()?;
    let (opened, ended) = streams.counts();
    drop(streams);
    let flooded = flooded?;
    let busy = |since: u64, now: u64| (now - since) as f64 / (clock::now() - used.0) as f64;
    let busy = (busy(used.1, cluster.usages().await?[VICTIM].cpu_nanos), busy(used.2, own_cpu_nanos()));

    let after = counters(&mut cluster).await?;
    let grown = |node: usize, name: &str| count(&after[node], name) - count(&before[node], name);
    let wanted = plan.children + calm.len() + flooded.len();
    cluster.all_listed(wanted, clock::now()).await?;
    let (restarted, _) = cluster.first_lines().await?;
    let report = Report {
        plan,
        sent,
        opened,
        ended,
        arrived: grown(VICTIM, "datagrams_received"),
        dropped: self::dropped(to)? - dropped,
        refused: refused(&before[VICTIM], &after[VICTIM]),
        busy,
        resident_bytes,
        resident_bytes_max: memory(pid, "VmHWM")?,
        calm,
        flooded,
        loss: Loss {
            downs: (0..plan.nodes).map(|node| grown(node, "members_down")).sum(),
            rejoins: (0..plan.nodes).map(|node| grown(node, "rejoins")).sum(),
            moved: (0..plan.nodes).map(|node| grown(node, "stops_for_move")).sum(),
            restarted: restarted as u64,
        },
    };
    cluster.stop().await?;
    Ok(report)
}

/// Starts children one after another on the first node, for so long; from each call to the child's first line.
async fn starts(cluster: &mut Cluster, prefix: &str, within: Duration) -> Result<Vec<Duration>, BoxError> {
    let (mut called, mut late) = (BTreeMap::new(), Vec::new());
    let until = clock::now() + within.as_nanos() as u64;
    while clock::now() < until {
        let id = format!("{prefix}-{}", called.len() + late.len());
        let first = &mut cluster.processes[0];
        let started = clock::now();
        match first.call(&Request::StartOne { id: id.clone() }, SOON).await? {
            Answer::Called { at } => {
                called.insert(id, at);
            }
            // It did not run in time. That time stands for what it took.
            Answer::Failed(_) => late.push(Duration::from_nanos(clock::now() - started)),
            other => return Err(unexpected(&other)),
        }
        sleep(PAUSE).await;
    }
    let mut latencies = late;
    for answer in cluster.ask_all(&Request::FirstLines).await? {
        let Answer::FirstLines { named, .. } = answer else { return Err(unexpected(&answer)) };
        let latency = |(id, at): (String, u64)| Some(Duration::from_nanos(at.saturating_sub(called.remove(&id)?)));
        latencies.extend(named.into_iter().filter_map(latency));
    }
    match called.is_empty() {
        true => Ok(latencies),
        false => Err(format!("{} children were said to run and do not", called.len()).into()),
    }
}

async fn forger(cluster: &mut Cluster, is_keyed: bool, recorded: Vec<Vec<u8>>) -> Result<Forger, BoxError> {
    let mut identities = Vec::new();
    for (process, &addr) in cluster.processes.iter_mut().zip(&cluster.addrs) {
        match process.call(&Request::Instance, SOON).await? {
            Answer::Instance(number) => {
                identities.push(Identity { addr, bump: 0, instance: InstanceId::new(number) });
            }
            other => return Err(unexpected(&other)),
        }
    }
    let victim = identities.remove(VICTIM);
    Ok(Forger::new(is_keyed, victim, identities, recorded))
}

type Counters = BTreeMap<String, u64>;

async fn counters(cluster: &mut Cluster) -> Result<Vec<Counters>, BoxError> {
    let answers = cluster.ask_all(&Request::Counters).await?;
    let counters = |answer| match answer {
        Answer::Counters(counters) => Ok(counters),
        other => Err(unexpected(&other)),
    };
    answers.into_iter().map(counters).collect()
}

fn count(counters: &Counters, name: &str) -> u64 {
    counters.get(name).copied().unwrap_or_default()
}

/// What the victim has refused, by name.
fn refused(before: &Counters, after: &Counters) -> Vec<(String, u64)> {
    let is_refusal = |name: &str| name.contains("refused") || name.contains("evicted") || name == "swim_errors";
    let grown = |(name, now): (&String, &u64)| (name.clone(), now - count(before, name));
    after.iter().filter(|(name, _)| is_refusal(name)).map(grown).filter(|(_, count)| *count > 0).collect()
}

/// What this process has used of the processors: the attacker, and the client that starts children.
fn own_cpu_nanos() -> u64 {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    cpu.tv_sec.unsigned_abs() * 1_000_000_000 + cpu.tv_nsec.unsigned_abs()
}

/// A line of what the kernel says of the memory of a process.
fn memory(pid: u32, field: &str) -> Result<u64, BoxError> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with(field)).ok_or_else(|| format!("no {field} in {status}"))?;
    let kibibytes = line.split_whitespace().nth(1).ok_or_else(|| format!("{line:?} has no number"))?;
    Ok(kibibytes.parse::<u64>()? * 1_024)
}

/// How many datagrams the kernel had no room for at this address.
fn dropped(at: SocketAddrV4) -> Result<u64, BoxError> {
    let sockets = std::fs::read_to_string("/proc/net/udp")?;
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(at.ip().octets()), at.port());
    let line = sockets.lines().find(|line| line.split_whitespace().nth(1) == Some(&local));
    let count = line.and_then(|line| line.split_whitespace().last()).ok_or_else(|| format!("no socket at {at}"))?;
    Ok(count.parse()?)
}
