//! Who should run what: rendezvous order over the eligible members, with the winner of each child cached.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Child, Scope, ScopeMember};
use crate::child::Spec;
use crate::info::Unplaced;
use crate::proto::group::{ChildKey, ClaimState};
use crate::proto::placement::{self, Candidate};
use crate::proto::{Dot, InstanceId};

impl ScopeMember {
    /// Whether it may own any child of this spec.
    fn is_eligible(&self, spec: &Spec) -> bool {
        self.is_candidate() && self.knows(spec) && spec.selects(&self.record.labels)
    }

    fn knows(&self, spec: &Spec) -> bool {
        self.record.kinds.binary_search(&spec.kind).is_ok()
    }

    /// Whether it may own children at all.
    fn is_candidate(&self) -> bool {
        let record = &self.record;
        record.settled && !record.draining && !record.left && !self.is_shadowed
    }
}

impl Scope {
    /// The member to which placement assigns a child now.
    pub(crate) fn owner(&self, key: &ChildKey) -> Option<InstanceId> {
        self.children.get(key).and_then(Child::owner)
    }

    /// Finds the owner of one child anew.
    pub(crate) fn place(&mut self, key: &ChildKey) {
        let Some(record) = self.children.record(key) else { return };
        let owner = self.find_owner(key, &record.value.spec, record.dot);
        self.children.get_or_make(key);
        self.children.set_owner(key, owner);
    }

    /// Whether a member is one of those that placement considers for a child.
    pub(crate) fn may_own(&self, key: &ChildKey, instance: InstanceId) -> bool {
        let Some(record) = self.children.record(key) else { return false };
        self.members.get(&instance).is_some_and(|member| member.is_eligible(&record.value.spec))
    }

    pub(crate) fn find_owner(&self, key: &ChildKey, spec: &Spec, life: Dot) -> Option<InstanceId> {
        let decliners = self.decliners(key, life);
        let candidates = self.candidates.iter().map(|(instance, candidate)| (candidate, *instance));
        placement::owner_among(key.hash(), candidates, |instance| {
            let is_eligible = self.members.get(&instance).is_some_and(|member| member.is_eligible(spec));
            is_eligible && !decliners.contains(&instance)
        })
    }

    /// Keeps the list of those that may own anything in step with a member that changed; says whether the list did. A
    /// search looks at all of them, and searches are the most frequent thing that a large cluster does at rest.
    pub(super) fn follow_candidate(&mut self, instance: InstanceId) -> bool {
        let now = self.members.get(&instance).filter(|member| member.is_candidate()).map(|member| &member.candidate);
        match (self.candidates.binary_search_by_key(&instance, |(instance, _)| *instance), now) {
            (Ok(place), Some(candidate)) if self.candidates[place].1 == *candidate => return false,
            (Ok(place), Some(candidate)) => self.candidates[place].1.clone_from(candidate),
            (Ok(place), None) => {
                self.candidates.remove(place);
            }
            (Err(place), Some(candidate)) => self.candidates.insert(place, (instance, candidate.clone())),
            (Err(_), None) => return false,
        }
        true
    }

    /// Members that declined this life. Nearly always none, so the search is skipped while nobody declined anything.
    fn decliners(&self, key: &ChildKey, life: Dot) -> Vec<InstanceId> {
        if self.declined.is_empty() {
            return Vec::new();
        }
        self.claims(key)
            .filter(|(_, claim)| claim.state == ClaimState::Declined && claim.life == life)
            .map(|(instance, _)| instance)
            .collect()
    }

    /// Follows changed members: one comparison per child and member that is eligible, and a full search only for the
    /// children of those that were owners.
    pub(super) fn place_all(&mut self, changed: &BTreeSet<InstanceId>) {
        let present = changed.iter().filter_map(|instance| self.members.get(instance));
        let challengers: Vec<&Candidate> =
            present.filter(|member| member.is_candidate()).map(|member| &member.candidate).collect();
        let (mut unsure, is_any_declined) = (Vec::new(), !self.declined.is_empty());
        for (key, entry) in self.children.iter() {
            let (Some(child), Some(_)) = (&entry.child, &entry.record) else { continue };
            // Nearly every child stays where it is, and for those nothing else is looked up.
            if challengers.is_empty() && !is_any_declined && child.owner().is_some_and(|o| !changed.contains(&o)) {
                continue;
            }
            let owner =
                child.owner().filter(|owner| !changed.contains(owner)).and_then(|owner| self.members.get(&owner));
            if let Some(owner) = owner
                && !is_any_declined
                && !challengers.iter().any(|challenger| placement::beats(key.hash(), challenger, &owner.candidate))
            {
                continue;
            }
            unsure.push(key.clone());
        }
        for key in unsure {
            let before = self.owner(&key);
            self.place(&key);
            if self.owner(&key) != before {
                self.dirty.push(key);
            }
        }
    }

    /// Why a child has no owner.
    pub(crate) fn unplaced_reason(&self, key: &ChildKey, spec: &Spec, life: Dot) -> Unplaced {
        let declined = self
            .claims(key)
            .filter(|(_, claim)| claim.state == ClaimState::Declined && claim.life == life)
            .find_map(|(_, claim)| claim.last_error.as_ref());
        let mut knowing = self.members.values().filter(|member| member.knows(spec)).peekable();
        match declined {
            Some(error) => Unplaced::Declined(error.as_str().into()),
            None if knowing.peek().is_none() => Unplaced::UnknownKind,
            None if knowing.any(|member| spec.selects(&member.record.labels)) => Unplaced::Draining,
            None => Unplaced::NodeSelector,
        }
    }

    /// The members that would be owners of an id, the likeliest first, whatever its kind.
    pub(super) fn likely_owners(&self, key: &ChildKey, count: usize) -> Vec<InstanceId> {
        let others = self
            .members
            .iter()
            .filter(|(instance, _)| **instance != self.me)
            .map(|(&instance, member)| (&member.candidate, instance));
        let mut order = placement::order(key.hash(), others);
        order.truncate(count);
        order
    }

    /// The stable name of a member.
    pub(crate) fn name_of(&self, instance: InstanceId) -> Option<Arc<str>> {
        self.members.get(&instance).map(|member| member.record.name.clone())
    }

    /// Where a member is.
    pub(crate) fn addr_of(&self, instance: InstanceId) -> Option<std::net::SocketAddr> {
        self.members.get(&instance).map(|member| member.addr)
    }
}
