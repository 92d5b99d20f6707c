//! What members say that they do with one child: nearly always one of them says something.

use crate::proto::InstanceId;
use crate::proto::group::{Owned, Record};

/// The claims on a child, ordered by member: each is the writer of what it says.
///
/// One lies here itself, in the room of the record alone: a small vector would add its length, and every child pays for it.
#[derive(Debug, Default)]
pub(super) enum Claims {
    #[default]
    None,
    One(Record<Owned>),
    /// Not fewer than two.
    Many(Vec<Record<Owned>>),
}

impl Claims {
    pub(super) fn as_slice(&self) -> &[Record<Owned>] {
        match self {
            Claims::None => &[],
            Claims::One(record) => std::slice::from_ref(record),
            Claims::Many(records) => records,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [Record<Owned>] {
        match self {
            Claims::None => &mut [],
            Claims::One(record) => std::slice::from_mut(record),
            Claims::Many(records) => records,
        }
    }

    fn place_of(&self, instance: InstanceId) -> Result<usize, usize> {
        self.as_slice().binary_search_by_key(&instance, |record| record.dot.writer)
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Claims::None)
    }

    /// What a member says.
    pub(super) fn of(&self, instance: InstanceId) -> Option<&Record<Owned>> {
        Some(&self.as_slice()[self.place_of(instance).ok()?])
    }

    /// The same, to be changed; its writer stays the same.
    pub(super) fn of_mut(&mut self, instance: InstanceId) -> Option<&mut Record<Owned>> {
        let place = self.place_of(instance).ok()?;
        Some(&mut self.as_mut_slice()[place])
    }

    /// Files what a member says, in the place of what it said before; and whether it had said nothing.
    pub(super) fn put(&mut self, record: Record<Owned>) -> (&Record<Owned>, bool) {
        let found = self.place_of(record.dot.writer);
        let place = match found {
            Ok(place) => {
                self.as_mut_slice()[place] = record;
                place
            }
            Err(place) => {
                self.insert(place, record);
                place
            }
        };
        (&self.as_slice()[place], found.is_err())
    }

    fn insert(&mut self, place: usize, record: Record<Owned>) {
        *self = match std::mem::take(self) {
            Claims::None => Claims::One(record),
            Claims::One(other) if place == 0 => Claims::Many(vec![record, other]),
            Claims::One(other) => Claims::Many(vec![other, record]),
            Claims::Many(mut records) => {
                records.insert(place, record);
                Claims::Many(records)
            }
        };
    }

    /// Forgets what a member says.
    pub(super) fn remove(&mut self, instance: InstanceId) -> Option<Record<Owned>> {
        let place = self.place_of(instance).ok()?;
        let (removed, rest) = match std::mem::take(self) {
            Claims::None => return None,
            Claims::One(record) => (record, Claims::None),
            Claims::Many(mut records) => {
                let removed = records.remove(place);
                let last = if records.len() == 1 { records.pop() } else { None };
                (removed, last.map_or(Claims::Many(records), Claims::One))
            }
        };
        *self = rest;
        Some(removed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::proto::group::{Claim, ClaimState};
    use crate::proto::hash::fmix64 as mix;
    use crate::proto::{Dot, Epoch};

    fn record(writer: InstanceId, n: u64) -> Record<Owned> {
        let dot = Dot { writer, n };
        let claim = Claim {
            state: ClaimState::Running,
            life: dot,
            epoch: Epoch::default(),
            since_ms: 0,
            restarts: 0,
            last_error: None,
        };
        Record { dot, birth: 0, over: None, value: Owned::Claim(claim) }
    }

    /// Goal: whatever members say and take back, each is found as it spoke last, in order. Method: pseudo-random puts and
    /// removals of up to five members, compared with a `BTreeMap` after each.
    #[test]
    fn claims_are_a_map_by_member() {
        let (mut claims, mut model) = (Claims::default(), BTreeMap::new());
        for n in 0..2_000 {
            let instance = InstanceId::new(1 + mix(n) % 5);
            if mix(n ^ 1 << 40).is_multiple_of(2) {
                let (filed, is_new) = claims.put(record(instance, n));
                assert_eq!(*filed, record(instance, n));
                assert_eq!(is_new, model.insert(instance, record(instance, n)).is_none());
            } else {
                assert_eq!(claims.remove(instance), model.remove(&instance));
            }
            assert!(claims.as_slice().iter().eq(model.values()), "after step {n}");
            assert_eq!(claims.is_empty(), model.is_empty());
            assert!((1..6).map(InstanceId::new).all(|one| claims.of(one) == model.get(&one)));
            assert_eq!(claims.of_mut(instance).is_some(), model.contains_key(&instance));
        }
    }

    /// Goal: the claims on a child take no more room than the one that there is. Method: their sizes.
    #[test]
    fn one_claim_costs_its_record_alone() {
        assert_eq!(size_of::<Claims>(), size_of::<Record<Owned>>());
    }
}
