//! What users are shown of the children of a scope.

use std::ops::Bound;
use std::time::{Duration, SystemTime};

use super::Scope;
use crate::child::ChildId;
use crate::info::{ChildInfo, ChildState, Location, Which};
use crate::proto::group::{ChildKey, Claim, ClaimState, Desired, Owned, OwnedKey, Record};
use crate::proto::shared::Shared;
use crate::proto::supervision::{Child, Local};
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

fn claim_of<'a>((key, record): (&OwnedKey, &'a Record<Owned>)) -> Option<(InstanceId, &'a Claim)> {
    match &record.value {
        Owned::Claim(claim) => Some((key.instance(), claim)),
        Owned::Member(_) => None,
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

/// Everything after a key.
fn beyond<K>(key: Option<&K>) -> (Bound<&K>, Bound<&K>) {
    (key.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

impl Scope {
    /// The children that a user asked for, ordered by id.
    pub(super) fn list(&self, which: Which) -> Vec<ChildInfo> {
        let mut children = self.page(which, None, usize::MAX).children;
        ChildInfo::sort(&mut children);
        children
    }

    /// The next part of a listing: `max` children are looked at, those that follow `after` in the order of their keys.
    pub(crate) fn page(&self, which: Which, after: Option<&ChildId>, max: usize) -> Page {
        let after = after.cloned().map(ChildKey::new);
        let row: Vec<_> = self.children.range(beyond(after.as_ref())).take(max).collect();
        let last = row.last().filter(|_| row.len() == max);
        let next = last.map(|(key, _)| key.id().clone());
        let children = match which {
            Which::Global => self.infos(&row, after.as_ref()),
            Which::Local => {
                let local = row.into_iter().filter(|(_, child)| matches!(child.local, Local::Active(_)));
                local.filter_map(|(key, child)| self.local_info(key, child)).collect()
            }
        };
        Page { children, next }
    }

    /// Children in a row: one walk over the three maps, which are in one order.
    fn infos(&self, row: &[(&ChildKey, &Child)], after: Option<&ChildKey>) -> Vec<ChildInfo> {
        let mut records = self.desired.range(beyond(after)).peekable();
        let claimed = after.map(|key| OwnedKey::claim(key, self.me));
        let mut owned = self.owned.range(beyond(claimed.as_ref())).peekable();
        let mut found = Vec::with_capacity(row.len());
        for (key, child) in row {
            while records.next_if(|(other, _)| other < key).is_some() {}
            let record = records.next_if(|(other, _)| other == key).map(|(_, record)| record);
            while owned.next_if(|(other, _)| other.order(key).is_lt()).is_some() {}
            let claims = std::iter::from_fn(|| owned.next_if(|(other, _)| other.order(key).is_eq()));
            found.push((key, child, record, best(claims.filter_map(claim_of))));
            // Reads overlap, but each copy of something shared waits for all that were begun before it. So what will be
            // copied is read first: a third less time.
            read(key.id().as_bytes());
            read(record.map_or(&[], |record| record.value.spec.kind.as_str().as_bytes()));
        }
        found.into_iter().filter_map(|(key, child, record, claim)| self.info(key, child, record, claim)).collect()
    }

    fn local_info(&self, key: &ChildKey, child: &Child) -> Option<ChildInfo> {
        let mine = OwnedKey::claim(key, self.me);
        let claim = self.owned.get(&mine).and_then(|record| claim_of((&mine, record)));
        self.info(key, child, self.desired.get(key), best(claim.into_iter()))
    }

    fn info(
        &self,
        key: &ChildKey,
        child: &Child,
        record: Option<&Record<Desired>>,
        claim: Option<(InstanceId, &Claim)>,
    ) -> Option<ChildInfo> {
        let running = match &child.local {
            Local::Active(run) => Some(run),
            Local::Idle | Local::Waiting(_) => None,
        };
        let spec = record.map(|record| &record.value.spec).or(running.map(|run| &run.spec))?;
        let Some((instance, claim)) = claim else {
            let record = record?;
            let state = match child.owner {
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
            last_error: claim.last_error.clone(),
        })
    }

    /// Where a child runs.
    pub(crate) fn locate(&self, key: &ChildKey) -> Option<Location> {
        let (instance, claim) = best(self.owned.range(OwnedKey::claims(key)).filter_map(claim_of))?;
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
        let mut claims = self.claims(key);
        claims.retain(|(_, _, claim)| claim.life == life);
        claims.iter().find_map(|(instance, _, claim)| self.location(*instance, claim))
    }

    /// Answers those that wait for a child to run, and those whose child was terminated.
    pub(super) fn tell_watchers(&mut self, cx: &mut Shared, key: &ChildKey) {
        if !self.watchers.contains_key(key) {
            return;
        }
        let reply = match self.desired.get(key).map(|record| self.locate_life(key, record.dot)) {
            None => Err(crate::error::WaitError::NotFound),
            Some(Some(location)) => Ok(location),
            Some(None) => return,
        };
        for request in self.watchers.remove(key).unwrap_or_default() {
            self.answer_wait(cx, request, Reply::Running(reply.clone()));
        }
    }
}
