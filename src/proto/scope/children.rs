//! Everything that a node knows of the children of one scope: of each in one place, as whoever needs one part of it
//! mostly needs the others next.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::proto::InstanceId;
use crate::proto::group::{BucketMap, ChildKey, Desired, Key, Owned, OwnedKey, Record, Shelf};
use crate::proto::supervision::Child;

/// One child. Something is known of it, or it has no entry.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// What users asked for, if it is desired.
    pub(crate) record: Option<Record<Desired>>,
    /// Who should run it and what this node does with it, if it is desired or runs here.
    pub(crate) child: Option<Child>,
    /// What members say that they do with it, ordered by member.
    claims: SmallVec<[(InstanceId, Record<Owned>); 1]>,
}

impl Entry {
    /// What members say that they do with it, ordered by member.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (InstanceId, &Record<Owned>)> {
        self.claims.iter().map(|(instance, record)| (*instance, record))
    }

    fn claim_of(&self, instance: InstanceId) -> Result<usize, usize> {
        self.claims.binary_search_by_key(&instance, |(member, _)| *member)
    }

    fn is_empty(&self) -> bool {
        self.record.is_none() && self.child.is_none() && self.claims.is_empty()
    }
}

/// See the module. Beside the children, what members say of themselves: it is replicated together with their claims.
#[derive(Debug, Default)]
pub(crate) struct Children {
    entries: BucketMap<ChildKey, Entry>,
    members: BTreeMap<OwnedKey, Record<Owned>>,
    /// How many children are desired.
    desired: usize,
    /// How many claims there are.
    claims: usize,
}

impl Children {
    /// A child that is desired or runs here.
    pub(crate) fn get(&self, key: &ChildKey) -> Option<&Child> {
        self.entries.get(key)?.child.as_ref()
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, key: &ChildKey) -> Option<&mut Child> {
        self.entries.get_mut(key)?.child.as_mut()
    }

    /// The same; made if there is none.
    pub(crate) fn get_or_make(&mut self, key: &ChildKey) -> &mut Child {
        self.entries.get_or_insert_with(key, Entry::default).child.get_or_insert_with(Child::idle)
    }

    /// Forgets what this node does with a child.
    pub(crate) fn remove(&mut self, key: &ChildKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.child = None;
            self.drop_if_empty(key);
        }
    }

    /// What users asked for.
    pub(crate) fn record(&self, key: &ChildKey) -> Option<&Record<Desired>> {
        self.entries.get(key)?.record.as_ref()
    }

    /// The content of it, for changes that are not replicated.
    pub(crate) fn value_mut(&mut self, key: &ChildKey) -> Option<&mut Desired> {
        Some(&mut self.entries.get_mut(key)?.record.as_mut()?.value)
    }

    /// How many children are desired.
    pub(crate) fn desired(&self) -> usize {
        self.desired
    }

    /// How much members say of themselves and of children.
    pub(crate) fn owned_len(&self) -> usize {
        self.members.len() + self.claims
    }

    /// What a member says of itself, or of a child.
    pub(crate) fn owned(&self, key: &OwnedKey) -> Option<&Record<Owned>> {
        let Some(child) = key.child() else { return self.members.get(key) };
        self.claim(&child, key.instance())
    }

    /// What a member says that it does with a child.
    pub(crate) fn claim(&self, key: &ChildKey, instance: InstanceId) -> Option<&Record<Owned>> {
        let entry = self.entries.get(key)?;
        Some(&entry.claims[entry.claim_of(instance).ok()?].1)
    }

    /// What members say that they do with a child.
    pub(crate) fn claims(&self, key: &ChildKey) -> impl Iterator<Item = (InstanceId, &Record<Owned>)> {
        self.entries.get(key).into_iter().flat_map(Entry::claims)
    }

    /// Everything that an instance says.
    pub(crate) fn owned_by(&self, instance: InstanceId) -> Vec<(OwnedKey, Record<Owned>)> {
        let owned = Shelf::<OwnedKey, Owned>::iter(self);
        owned.filter(|(key, _)| key.instance() == instance).map(|(key, record)| (key, record.clone())).collect()
    }

    /// Every child of which something is known, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ChildKey, &Entry)> {
        self.entries.iter()
    }

    /// The same from a key on, which need not be there.
    pub(crate) fn from(&self, key: &ChildKey) -> impl Iterator<Item = (&ChildKey, &Entry)> + use<'_> {
        self.entries.from(key)
    }

    fn drop_if_empty(&mut self, key: &ChildKey) {
        if self.entries.get(key).is_some_and(Entry::is_empty) {
            self.entries.remove(key);
        }
    }
}

impl Shelf<ChildKey, Desired> for Children {
    fn len(&self) -> usize {
        self.desired
    }

    fn get(&self, key: &ChildKey) -> Option<&Record<Desired>> {
        self.record(key)
    }

    fn get_mut(&mut self, key: &ChildKey) -> Option<&mut Record<Desired>> {
        self.entries.get_mut(key)?.record.as_mut()
    }

    fn put(&mut self, key: ChildKey, record: Record<Desired>) -> &Record<Desired> {
        let entry = self.entries.get_or_insert_with(&key, Entry::default);
        self.desired += usize::from(entry.record.is_none());
        entry.record.insert(record)
    }

    fn remove(&mut self, key: &ChildKey) -> Option<Record<Desired>> {
        let removed = self.entries.get_mut(key)?.record.take()?;
        self.desired -= 1;
        self.drop_if_empty(key);
        Some(removed)
    }

    fn from<'a>(&'a self, key: ChildKey) -> impl Iterator<Item = (ChildKey, &'a Record<Desired>)>
    where
        ChildKey: 'a,
        Desired: 'a,
    {
        self.entries.from(&key).filter_map(|(key, entry)| Some((key.clone(), entry.record.as_ref()?)))
    }
}

impl Shelf<OwnedKey, Owned> for Children {
    fn len(&self) -> usize {
        self.owned_len()
    }

    fn get(&self, key: &OwnedKey) -> Option<&Record<Owned>> {
        self.owned(key)
    }

    fn get_mut(&mut self, key: &OwnedKey) -> Option<&mut Record<Owned>> {
        let Some(child) = key.child() else { return self.members.get_mut(key) };
        let entry = self.entries.get_mut(&child)?;
        let place = entry.claim_of(key.instance()).ok()?;
        Some(&mut entry.claims[place].1)
    }

    fn put(&mut self, key: OwnedKey, record: Record<Owned>) -> &Record<Owned> {
        let Some(child) = key.child() else {
            return self.members.entry(key).insert_entry(record).into_mut();
        };
        let entry = self.entries.get_or_insert_with(&child, Entry::default);
        let place = match entry.claim_of(key.instance()) {
            Ok(place) => {
                entry.claims[place].1 = record;
                place
            }
            Err(place) => {
                self.claims += 1;
                entry.claims.insert(place, (key.instance(), record));
                place
            }
        };
        &entry.claims[place].1
    }

    fn remove(&mut self, key: &OwnedKey) -> Option<Record<Owned>> {
        let Some(child) = key.child() else { return self.members.remove(key) };
        let entry = self.entries.get_mut(&child)?;
        let place = entry.claim_of(key.instance()).ok()?;
        let (_, removed) = entry.claims.remove(place);
        self.claims -= 1;
        self.drop_if_empty(&child);
        Some(removed)
    }

    /// Members stand among the claims, wherever the hash of each puts it: two walks in one order.
    fn from<'a>(&'a self, key: OwnedKey) -> impl Iterator<Item = (OwnedKey, &'a Record<Owned>)>
    where
        OwnedKey: 'a,
        Owned: 'a,
    {
        let first = key.child().unwrap_or_else(|| ChildKey::first_at(key.position()));
        let claims = self.entries.from(&first).flat_map(|(child, entry)| {
            entry.claims().map(move |(instance, record)| (OwnedKey::claim(child, instance), record))
        });
        let mut members = self.members.range(key.clone()..).map(|(key, record)| (key.clone(), record)).peekable();
        let mut claims = claims.skip_while(move |(claim, _)| *claim < key).peekable();
        std::iter::from_fn(move || match (claims.peek(), members.peek()) {
            (Some((claim, _)), Some((member, _))) if claim < member => claims.next(),
            (_, Some(_)) => members.next(),
            (_, None) => claims.next(),
        })
    }
}
