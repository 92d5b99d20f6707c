//! What users are shown of the children of a scope.

use std::time::{Duration, SystemTime};

use super::Scope;
use crate::info::{ChildInfo, ChildState, Location, Which};
use crate::proto::group::{ChildKey, Claim, ClaimState};
use crate::proto::shared::Shared;
use crate::proto::supervision::Local;
use crate::proto::{Dot, Epoch, InstanceId, Reply};

fn state_of(claim: &Claim) -> ChildState {
    match claim.state {
        ClaimState::Starting => ChildState::Starting,
        ClaimState::Running => ChildState::Running,
        ClaimState::Stopping => ChildState::Stopping,
        ClaimState::Backoff => ChildState::Backoff,
        ClaimState::Declined => ChildState::Pending,
    }
}

impl Scope {
    /// The children that a user asked for, ordered by id.
    pub(super) fn list(&self, which: Which) -> Vec<ChildInfo> {
        let mut children: Vec<ChildInfo> = match which {
            Which::Global => self.children.keys().filter_map(|key| self.info(key, None)).collect(),
            Which::Local => {
                let local = self.children.iter().filter(|(_, child)| matches!(child.local, Local::Active(_)));
                local.filter_map(|(key, _)| self.info(key, Some(self.me))).collect()
            }
        };
        children.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        children
    }

    /// The claim that says best what a child is doing: what runs comes before what does not, then the latest run.
    fn best_claim(&self, key: &ChildKey, only: Option<InstanceId>) -> Option<(InstanceId, std::sync::Arc<Claim>)> {
        self.claims(key)
            .into_iter()
            .filter(|(instance, _, claim)| claim.is_live() && only.is_none_or(|only| only == *instance))
            .max_by_key(|(instance, _, claim)| (claim.state == ClaimState::Running, claim.epoch, *instance))
            .map(|(instance, _, claim)| (instance, claim))
    }

    fn info(&self, key: &ChildKey, only: Option<InstanceId>) -> Option<ChildInfo> {
        let record = self.desired.get(key);
        let claim = self.best_claim(key, only);
        let running = match &self.children.get(key)?.local {
            Local::Active(run) => Some(run),
            Local::Idle | Local::Waiting(_) => None,
        };
        let spec = record.map(|record| &record.value.spec).or(running.map(|run| &run.spec))?;
        let Some((instance, claim)) = claim else {
            let record = record?;
            let state = match self.owner(key) {
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
            state: state_of(&claim),
            epoch: claim.epoch,
            since: SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(claim.since_ms)),
            restarts: claim.restarts,
            last_error: claim.last_error.clone(),
        })
    }

    /// Where a child runs.
    pub(super) fn locate(&self, key: &ChildKey) -> Option<Location> {
        let (instance, claim) = self.best_claim(key, None)?;
        self.location(instance, &claim)
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
