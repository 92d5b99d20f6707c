//! A set of instances that are nearly always few, in order, without an allocation while they are.

use smallvec::SmallVec;

use super::InstanceId;

/// See the module. Searches by halves, so that many are no catastrophe either.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Few(SmallVec<[InstanceId; 2]>);

impl Few {
    /// Adds one; says whether it was new.
    pub(crate) fn insert(&mut self, instance: InstanceId) -> bool {
        let place = self.0.binary_search(&instance);
        if let Err(place) = place {
            self.0.insert(place, instance);
        }
        place.is_err()
    }

    /// Removes one; says whether it was there.
    pub(crate) fn remove(&mut self, instance: InstanceId) -> bool {
        let place = self.0.binary_search(&instance);
        if let Ok(place) = place {
            self.0.remove(place);
        }
        place.is_ok()
    }

    pub(crate) fn contains(&self, instance: InstanceId) -> bool {
        self.0.binary_search(&instance).is_ok()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = InstanceId> {
        self.0.iter().copied()
    }

    pub(crate) fn retain(&mut self, stays: impl Fn(InstanceId) -> bool) {
        self.0.retain(|instance| stays(*instance));
    }
}

impl Extend<InstanceId> for Few {
    fn extend<I: IntoIterator<Item = InstanceId>>(&mut self, instances: I) {
        for instance in instances {
            self.insert(instance);
        }
    }
}

impl FromIterator<InstanceId> for Few {
    fn from_iter<I: IntoIterator<Item = InstanceId>>(instances: I) -> Self {
        let mut few = Few(instances.into_iter().collect());
        few.0.sort_unstable();
        few.0.dedup();
        few
    }
}
