//! Resolving the seeds, again at each try, and telling the operator about those that do not resolve.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use super::streams::Inbound;
use crate::proto::Time;

/// A name server that takes longer is treated as one that does not answer.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the operator is told about one seed.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Addresses of one name that are used; a name with more serves any of them.
const ADDRS_PER_SEED: usize = 16;

/// A seed, and its addresses or why it has none.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) seed: String,
    pub(super) addrs: Result<Vec<SocketAddr>, String>,
}

/// The seeds of a node.
#[derive(Debug)]
pub(super) struct Seeds {
    seeds: Vec<String>,
    resolving: bool,
    warned: BTreeMap<String, Time>,
}

impl Seeds {
    pub(super) fn new(seeds: Vec<String>) -> Self {
        Seeds { seeds, resolving: false, warned: BTreeMap::new() }
    }

    /// Resolves all seeds at once; [`Inbound::Seeds`] follows. While that goes on a second call adds nothing.
    pub(super) fn resolve(&mut self, inbox: mpsc::Sender<Inbound>) {
        if self.resolving {
            return;
        }
        self.resolving = true;
        let seeds = self.seeds.clone();
        tokio::spawn(async move {
            let lookups: JoinSet<Resolved> = seeds.into_iter().map(resolve).collect();
            let _ = inbox.send(Inbound::Seeds(lookups.join_all().await)).await;
        });
    }

    /// What was found, in order; a warning for each seed that was not, at most one a minute.
    pub(super) fn resolved(&mut self, now: Time, resolved: Vec<Resolved>) -> Vec<SocketAddr> {
        self.resolving = false;
        let mut found = Vec::new();
        for Resolved { seed, addrs } in resolved {
            match addrs {
                Ok(addrs) => found.extend(addrs),
                Err(error) => self.warn(now, seed, &error),
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn warn(&mut self, now: Time, seed: String, error: &str) {
        if self.warned.get(&seed).is_some_and(|last| now.since(*last) < WARN_INTERVAL) {
            return;
        }
        warn!(%seed, %error, "a seed does not resolve; correct `seeds`, or wait for the name service");
        self.warned.insert(seed, now);
    }
}

/// Looks a seed up, for a few seconds at most.
pub(super) async fn resolve(seed: String) -> Resolved {
    let addrs = match timeout(RESOLVE_TIMEOUT, lookup_host(&seed)).await {
        Ok(Ok(addrs)) => Ok(addrs.take(ADDRS_PER_SEED).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", RESOLVE_TIMEOUT.as_secs())),
    };
    Resolved { seed, addrs }
}
