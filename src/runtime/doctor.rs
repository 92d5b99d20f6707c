//! Finds out whether the nodes of a configuration can reach each other, before anything rests on it or when something is
//! wrong. The program `haulout-doctor` is made of this; a service that keeps its configuration elsewhere can call it.
//!
//! [`check`] takes the place of the node that the configuration is for, examines the seeds and the members that they
//! tell of, and becomes a member of nothing. A node that runs is looked at from outside: its port for TCP, the handshake
//! (cluster, versions, key, name), datagrams there and back up to the largest, its clock. Where [`serve`] runs in place of
//! a node it also examines who asks in its turn, at the address that the other one advertises, and sends back what it
//! found. Both need what a node needs: the configuration, and the keys.

mod examination;
mod reception;
mod station;
mod talk;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::examination::{Examined, examine};
use self::reception::receive;
use self::station::Station;
use crate::config::Config;
use crate::error::StartNodeError;
use crate::runtime::seeds::{Resolved, resolve};

/// How many addresses one check looks at. A cluster that is larger is looked at from several nodes.
const ADDRS_MAX: usize = 256;

/// What was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Check {
    /// Whether this node's own address is free for it.
    Address,
    /// Whether a seed has an address.
    Seed,
    /// Whether a port takes a TCP stream.
    Tcp,
    /// Whether who answers there is of this cluster: its name, version, placement and key, and the name of this node.
    Handshake,
    /// Whether small datagrams come there and back.
    Udp,
    /// Whether the largest datagrams do, of 1,400 bytes.
    Size,
    /// How far the clocks are apart, which nothing but timestamps in listings depends on.
    Clock,
    /// Whether the way back could be examined.
    Return,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Check::Address => "address",
            Check::Seed => "seed",
            Check::Tcp => "tcp",
            Check::Handshake => "handshake",
            Check::Udp => "udp",
            Check::Size => "size",
            Check::Clock => "clock",
            Check::Return => "return",
        })
    }
}

/// What a look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is as it should be.
    Passed,
    /// It is not, and a cluster would suffer from it.
    Failed,
    /// It could not be looked at, which says nothing about it.
    Skipped,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Outcome::Passed => "ok",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        })
    }
}

/// One line of what was found.
///
/// As text, `FAILED  udp        to 10.0.0.11:7946: no answer to 5 datagrams; ...`: the outcome, the check, the way, and
/// what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// What it came to.
    pub outcome: Outcome,
    /// Which way: `here`, or `to` or `from` an address.
    pub way: String,
    /// What was found and, where it failed or was skipped, what to do.
    pub detail: String,
}

impl Finding {
    fn new(check: Check, outcome: Outcome, way: impl Into<String>, detail: impl Into<String>) -> Self {
        Finding { check, outcome, way: way.into(), detail: detail.into() }
    }

    fn here(check: Check, outcome: Outcome, detail: impl Into<String>) -> Self {
        Finding::new(check, outcome, "here", detail)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<7} {:<9} {}: {}", self.outcome, self.check, self.way, self.detail)
    }
}

/// Examines the nodes of a configuration from where its node runs, or is to run.
///
/// Calls `tell` with each finding, in order, and returns how many failed. While the port of the configuration is free it is
/// taken for as long as this goes on. Some seconds, however many seeds do not answer; at most 256 addresses are looked at.
///
/// # Errors
/// [`StartNodeError`] where a node could not start with this configuration for other reasons than that its port is in use,
/// which is what it is while the node runs.
///
/// # Example
/// ```no_run
/// # async fn example(config: haulout::Config) -> Result<(), haulout::StartNodeError> {
/// let failed = haulout::doctor::check(config, |finding| println!("{finding}")).await?;
/// assert_eq!(failed, 0, "the network is not ready");
/// # Ok(())
/// # }
/// ```
pub async fn check(config: Config, mut tell: impl FnMut(&Finding)) -> Result<usize, StartNodeError> {
    let seeds = config.seeds.clone();
    let (station, listener) = Station::open(config)?;
    let mut failed = 0;
    let mut note = |finding: &Finding| {
        failed += usize::from(finding.outcome == Outcome::Failed);
        tell(finding);
    };
    note(&station.describe());
    let station = Arc::new(station);
    // What is found of others on their request is theirs to print.
    let (found, _) = mpsc::unbounded_channel();
    tokio::select! {
        () = examine_all(&station, seeds, &mut note) => {}
        () = receive(&station, listener, found) => {}
    }
    Ok(failed)
}

/// Takes the place of the node of a configuration, for [`check`]s elsewhere to examine, and examines each of them in turn.
///
/// Calls `tell` with each finding. Does not return: drop it to end it.
///
/// # Errors
/// [`StartNodeError`] where the node could not start with this configuration, and where it runs already.
pub async fn serve(config: Config, mut tell: impl FnMut(&Finding)) -> Result<(), StartNodeError> {
    let addr = config.bind;
    let (station, Some(listener)) = Station::open(config)? else {
        return Err(StartNodeError::AddressInUse { addr });
    };
    tell(&station.describe());
    let (found, mut findings) = mpsc::unbounded_channel();
    let station = Arc::new(station);
    let telling = async {
        while let Some(finding) = findings.recv().await {
            tell(&finding);
        }
    };
    tokio::select! {
        () = receive(&station, Some(listener), found) => {}
        () = telling => {}
    }
    Ok(())
}

/// The seeds first, then the members that they tell of.
async fn examine_all(station: &Arc<Station>, seeds: Vec<String>, note: &mut impl FnMut(&Finding)) {
    let mut known = BTreeSet::from([station.addr()]);
    let mut next = BTreeSet::new();
    let lookups: JoinSet<Resolved> = seeds.into_iter().map(resolve).collect();
    for Resolved { seed, addrs } in lookups.join_all().await {
        match addrs {
            Ok(addrs) => next.extend(addrs),
            Err(error) => {
                let detail = format!("{seed:?} does not resolve: {error}; correct seeds, or the name service");
                note(&Finding::here(Check::Seed, Outcome::Failed, detail));
            }
        }
    }
    next.remove(&station.addr());
    if next.is_empty() {
        let detail = "no seed but this node itself, so there is nobody to examine: list the others in seeds";
        note(&Finding::here(Check::Seed, Outcome::Skipped, detail));
    }
    while !next.is_empty() {
        let room = ADDRS_MAX.saturating_sub(known.len());
        let addrs: Vec<_> =
            std::mem::take(&mut next).into_iter().filter(|addr| known.insert(*addr)).take(room).collect();
        for Examined { findings, members } in examine_at_once(station, addrs).await {
            findings.iter().for_each(&mut *note);
            next.extend(members.into_iter().filter(|member| !known.contains(member)));
        }
    }
}

/// In the order of the addresses.
async fn examine_at_once(station: &Arc<Station>, addrs: Vec<SocketAddr>) -> Vec<Examined> {
    let mut tasks = JoinSet::new();
    for (place, addr) in addrs.into_iter().enumerate() {
        let station = station.clone();
        tasks.spawn(async move { (place, examine(&station, addr, true).await) });
    }
    let mut examined = tasks.join_all().await;
    examined.sort_by_key(|(place, _)| *place);
    examined.into_iter().map(|(_, examined)| examined).collect()
}
