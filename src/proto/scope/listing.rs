//! What users are shown of the children of a scope.

use std::time::{Duration, SystemTime};

use super::Scope;
use super::children::Entry;
use crate::info::{ChildInfo, ChildState, Location, Which};
use crate::proto::group::{ChildKey, Claim, ClaimState};
use crate::proto::shared::Shared;
use crate::proto::supervision::Local;
use crate::proto::{Dot, Epoch, InstanceId, Page, Reply};

fn state_of(claim: &Claim) -> ChildState {
    match claim.state {
        ClaimState::Starting => ChildState::Starting,
        ClaimState::Running => ChildState::Running,
        ClaimState::Stopping => ChildState::Stopping,
        ClaimState::Backoff => ChildState::Backoff,
        ClaimState::Declined => ChildState::Pending,
    }
}

/// The claim that says best what a child is doing: what runs comes before what does not, then the latest run.
fn best<'a>(claims: impl Iterator<Item = (InstanceId, &'a Claim)>) -> Option<(InstanceId, &'a Claim)> {
    claims
        .filter(|(_, claim)| claim.is_live())
        .max_by_key(|(instance, claim)| (claim.state == ClaimState::Running, claim.epoch, *instance))
}

/// Brings something into the cache.
fn read(bytes: &[u8]) {
    std::hint::black_box(bytes.first().copied());
}

impl Scope {
    /// The children that a user asked for, ordered by id.
    pub(super) fn list(&self, which: Which) -> Vec<ChildInfo> {
        ChildInfo::sorted(self.page(which, None, usize::MAX).children)
    }

    /// A part of a listing: of `max` children as they lie in memory, before `end`. From the last to the first, because
    /// whenever one goes, the last takes its place: it is listed by then, or lies where it will be.
    pub(crate) fn page(&self, which: Which, end: Option<usize>, max: usize) -> Page {
        let end = end.unwrap_or(usize::MAX).min(self.children.known());
        let first = end.saturating_sub(max);
        let row: Vec<_> = self.children.iter_from(first).take(end - first).collect();
        let next = Some(first).filter(|&first| first > 0);
        let children = match which {
            Which::Global => self.infos(&row),
            Which::Local => {
                let runs =
                    |entry: &Entry| matches!(&entry.child, Some(child) if matches!(child.local, Local::Active(_)));
                let local = row.into_iter().filter(|(_, entry)| runs(entry));
                local.filter_map(|(key, entry)| self.local_info(key, entry)).collect()
            }
        };
        Page { children, next }
    }

    fn infos(&self, row: &[(&ChildKey, &Entry)]) -> Vec<ChildInfo> {
        let mut found = Vec::with_capacity(row.len());
        for (key, entry) in row {
            let claims = entry.claims().filter_map(|(instance, record)| Some((instance, record.value.claim()?)));
            found.push((key, entry, best(claims)));
            // Reads overlap, but each copy of something shared waits for all that were begun before it. So what will be
            // copied is read first: a third less time.
            read(key.id().as_bytes());
            read(entry.record.as_ref().map_or(&[], |record| record.value.spec.kind.as_str().as_bytes()));
        }
        found.into_iter().filter_map(|(key, entry, claim)| self.info(key, entry, claim)).collect()
    }

    fn local_info(&self, key: &ChildKey, entry: &Entry) -> Option<ChildInfo> {
        let mine = entry.claims().filter(|(instance, _)| *instance == self.me);
        self.info(key, entry, best(mine.filter_map(|(instance, record)| Some((instance, record.value.claim()?)))))
    }

    fn info(&self, key: &ChildKey, entry: &Entry, claim: Option<(InstanceId, &Claim)>) -> Option<ChildInfo> {
        let (record, child) = (entry.record.as_ref(), entry.child.as_ref()?);
        let running = match &child.local {
            Local::Active(run) => Some(run),
            Local::Idle | Local::Waiting(_) => None,
        };
        let spec = record.map(|record| &record.value.spec).or(running.map(|run| &run.spec))?;
        let Some((instance, claim)) = claim else {
            let record = record?;
            let state = match child.owner() {
                Some(_) => ChildState::Pending,
                None => ChildState::Unplaced(self.unplaced_reason(key, spec, record.dot)),
            };
            return Some(ChildInfo {
                id: key.id().clone(),
                kind: spec.kind.clone(),
                node: None,
                state,
                epoch: Epoch::default(),
                since: None,
                restarts: 0,
                last_error: None,
            });
        };
        Some(ChildInfo {
            id: key.id().clone(),
            kind: spec.kind.clone(),
            node: self.name_of(instance),
            state: state_of(claim),
            epoch: claim.epoch,
            since: SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(claim.since_ms)),
            restarts: claim.restarts,
            last_error: claim.last_error.as_ref().map(|error| error.as_str().into()),
        })
    }

    /// Where a child runs.
    pub(crate) fn locate(&self, key: &ChildKey) -> Option<Location> {
        let (instance, claim) = best(self.claims(key))?;
        self.location(instance, claim)
    }

    fn location(&self, instance: InstanceId, claim: &Claim) -> Option<Location> {
        if claim.state != ClaimState::Running {
            return None;
        }
        let node = self.name_of(instance)?;
        Some(Location { node, addr: self.addr_of(instance)?, epoch: claim.epoch })
    }

    /// Where a child runs in the life that is held. A run of an earlier one may have another spec, and is about to
    /// stop; whoever adopts it says so in a new claim.
    fn locate_life(&self, key: &ChildKey, life: Dot) -> Option<Location> {
        let claims = self.claims(key).filter(|(_, claim)| claim.life == life);
        claims.filter_map(|(instance, claim)| self.location(instance, claim)).next()
    }

    /// Answers those that wait for a child to run, and those whose child was terminated.
    pub(super) fn tell_watchers(&mut self, cx: &mut Shared, key: &ChildKey) {
        if !self.watchers.contains_key(key) {
            return;
        }
        let reply = match self.children.record(key).map(|record| self.locate_life(key, record.dot)) {
            None => Err(crate::error::WaitError::NotFound),
            Some(Some(location)) => Ok(location),
            Some(None) => return,
        };
        for request in self.watchers.remove(key).unwrap_or_default() {
            self.answer_wait(cx, request, Reply::Running(reply.clone()));
        }
    }
}
