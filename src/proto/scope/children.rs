//! Everything that a node knows of the children of one scope: of each in one place, as whoever needs one part of it
//! mostly needs the others next.

use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use twox_hash::XxHash3_64;

use super::claims::Claims;
use crate::child::Spec;
use crate::proto::gaps::Gap;
use crate::proto::group::{BucketMap, ChildKey, Desired, Key, Owned, OwnedKey, Record, Shelf};
use crate::proto::supervision::{Local, Phase};
use crate::proto::{Dot, InstanceId, Time};

/// One child as this node sees it.
#[derive(Debug)]
pub(crate) struct Child {
    owner: Option<InstanceId>,
    pub(crate) local: Local,
    /// What this node was doing with it when that was counted.
    counted: Doing,
    /// Whether it is on the list of those that are or were in no stable state.
    is_listed: bool,
}

impl Child {
    fn idle() -> Self {
        Child { owner: None, local: Local::Idle, counted: Doing::Nothing, is_listed: false }
    }

    /// The member to which placement assigns it; `None` if nobody can run it, or it is not desired any more.
    pub(crate) fn owner(&self) -> Option<InstanceId> {
        self.owner
    }

    /// The time for which this node, which owns it, knows of no run of it.
    fn gap(&self) -> Option<&Gap> {
        match &self.local {
            Local::Idle => None,
            Local::Waiting(round) => Some(&round.gap),
            Local::Active(run) => Some(&run.gap),
        }
    }

    fn doing(&self) -> Doing {
        match &self.local {
            Local::Idle => Doing::Nothing,
            Local::Waiting(_) => Doing::Waiting,
            Local::Active(run) => match run.phase {
                Phase::Starting => Doing::Starting,
                Phase::Running if run.challenge.is_some() => Doing::Challenging,
                Phase::Running => Doing::Running,
                Phase::Stopping => Doing::Stopping,
                Phase::Backoff => Doing::BackingOff,
            },
        }
    }
}

/// What a node does with a child, as far as children are counted by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Nothing,
    Waiting,
    Starting,
    Running,
    /// It runs here, and others that claim it are asked to stop.
    Challenging,
    Stopping,
    BackingOff,
}

impl Doing {
    const COUNT: usize = 7;

    /// Whether a child is to stay so.
    fn is_stable(self) -> bool {
        matches!(self, Doing::Nothing | Doing::Running)
    }
}

/// One child. Something is known of it, or it has no entry.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    /// What users asked for, if it is desired.
    pub(crate) record: Option<Record<Desired>>,
    /// Who should run it and what this node does with it, if it is desired or runs here.
    pub(crate) child: Option<Child>,
    claims: Claims,
}

impl Entry {
    /// What members say that they do with it, ordered by member.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (InstanceId, &Record<Owned>)> {
        self.claims.as_slice().iter().map(|record| (record.dot.writer, record))
    }

    fn is_empty(&self) -> bool {
        self.record.is_none() && self.child.is_none() && self.claims.is_empty()
    }
}

/// The specs that were seen last, so that children that differ in nothing but their id share one copy.
#[derive(Debug, Default)]
struct Specs(Vec<Option<Arc<Spec>>>);

impl Specs {
    /// How many are remembered: the kinds of children of a service are few, and those with arguments of their own have
    /// nothing to share.
    const MAX: usize = 64;
    /// The most bytes of arguments of a spec that is worth looking for.
    const ARGS_BYTES_MAX: usize = 128;

    fn share(&mut self, spec: &mut Arc<Spec>) {
        if spec.payload_bytes() > Self::ARGS_BYTES_MAX {
            return;
        }
        if self.0.is_empty() {
            self.0.resize(Self::MAX, None);
        }
        let kind = XxHash3_64::oneshot(spec.kind.as_str().as_bytes());
        let hash = XxHash3_64::oneshot_with_seed(kind, &spec.args);
        let place = &mut self.0[hash as usize % Self::MAX];
        match place {
            Some(seen) if **seen == **spec => *spec = seen.clone(),
            _ => *place = Some(spec.clone()),
        }
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
    /// Those that are neither idle nor simply running here, which the safety net looks at, and some that were: they are
    /// dropped when somebody looks.
    listed: Vec<ChildKey>,
    /// How many there are of each [`Doing`].
    counts: [usize; Doing::COUNT],
    /// How many have an owner. All of them are desired.
    placed: usize,
    specs: Specs,
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
        let child = &mut self.entries.get_or_insert_with(key, Entry::default).child;
        self.counts[Doing::Nothing as usize] += usize::from(child.is_none());
        child.get_or_insert_with(Child::idle)
    }

    /// Forgets what this node does with a child.
    pub(crate) fn remove(&mut self, key: &ChildKey) {
        self.set_owner(key, None);
        if let Some(entry) = self.entries.get_mut(key)
            && let Some(child) = entry.child.take()
        {
            self.counts[child.counted as usize] -= 1;
            self.drop_if_empty(key);
        }
    }

    /// Placement assigns a child to this member, or to nobody.
    pub(crate) fn set_owner(&mut self, key: &ChildKey, owner: Option<InstanceId>) {
        let Some(child) = self.entries.get_mut(key).and_then(|entry| entry.child.as_mut()) else { return };
        self.placed += usize::from(owner.is_some());
        self.placed -= usize::from(std::mem::replace(&mut child.owner, owner).is_some());
    }

    /// This node does something else with a child than before: keeps what is counted and listed in step.
    pub(crate) fn follow(&mut self, key: &ChildKey) {
        let Some(child) = self.entries.get_mut(key).and_then(|entry| entry.child.as_mut()) else { return };
        let doing = child.doing();
        self.counts[std::mem::replace(&mut child.counted, doing) as usize] -= 1;
        self.counts[doing as usize] += 1;
        if !doing.is_stable() && !std::mem::replace(&mut child.is_listed, true) {
            self.listed.push(key.clone());
        }
    }

    /// With how many children this node does this.
    pub(crate) fn count(&self, doing: Doing) -> usize {
        self.counts[doing as usize]
    }

    /// Of how many children something runs here, or will.
    pub(crate) fn active(&self) -> usize {
        let inactive = self.count(Doing::Nothing) + self.count(Doing::Waiting);
        self.counts.iter().sum::<usize>() - inactive
    }

    /// How many children are in no stable state.
    pub(crate) fn unstable_len(&self) -> usize {
        let stable = self.count(Doing::Nothing) + self.count(Doing::Running);
        self.counts.iter().sum::<usize>() - stable
    }

    /// How many children are desired and have no owner.
    pub(crate) fn unplaced(&self) -> usize {
        self.desired - self.placed
    }

    /// Whether what is counted is what is found by looking at every child; `longest` is since when the longest gap goes on.
    pub(crate) fn is_counted_right(&self, longest: Option<Time>) -> bool {
        let children = || self.entries.iter().filter_map(|(_, entry)| entry.child.as_ref().map(|child| (entry, child)));
        let mut counts = [0; Doing::COUNT];
        children().for_each(|(_, child)| counts[child.doing() as usize] += 1);
        let unplaced = children().filter(|(entry, child)| entry.record.is_some() && child.owner.is_none()).count();
        let gaps = children().filter_map(|(_, child)| child.gap()?.since());
        (counts, unplaced, gaps.min()) == (self.counts, self.unplaced(), longest)
    }

    /// The children that are in no stable state, in the order in which they got there.
    pub(crate) fn unstable(&mut self) -> Vec<ChildKey> {
        let mut listed = std::mem::take(&mut self.listed);
        // A child that went and came back may be on the list twice.
        for key in &listed {
            if let Some(child) = self.get_mut(key) {
                child.is_listed = false;
            }
        }
        listed.retain(|key| {
            let child = self.get_mut(key).filter(|child| !child.counted.is_stable());
            child.is_some_and(|child| !std::mem::replace(&mut child.is_listed, true))
        });
        self.listed = listed.clone();
        listed
    }

    /// Those for which this node collects permissions.
    pub(crate) fn waiting(&mut self) -> Vec<ChildKey> {
        let mut keys = self.unstable();
        keys.retain(|key| self.get(key).is_some_and(|child| matches!(child.local, Local::Waiting(_))));
        keys
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
        self.entries.get(key)?.claims.of(instance)
    }

    /// What members say that they do with a child.
    pub(crate) fn claims(&self, key: &ChildKey) -> impl Iterator<Item = (InstanceId, &Record<Owned>)> {
        self.entries.get(key).into_iter().flat_map(Entry::claims)
    }

    /// Everything that an instance says.
    pub(crate) fn owned_by(&self, instance: InstanceId) -> Vec<(OwnedKey, Record<Owned>)> {
        let keys = Shelf::<OwnedKey, Owned>::written_by(self, |writer| writer == instance);
        keys.into_iter().filter_map(|key| self.owned(&key).cloned().map(|record| (key, record))).collect()
    }

    /// Of how many children something is known.
    pub(crate) fn known(&self) -> usize {
        self.entries.len()
    }

    /// Every child of which something is known, in an order that depends on what was known before, and on nothing else.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ChildKey, &Entry)> {
        self.entries.entries()
    }

    /// The same without the first ones.
    pub(crate) fn iter_from(&self, first: usize) -> impl Iterator<Item = (&ChildKey, &Entry)> {
        self.entries.entries_from(first)
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

    fn put(&mut self, key: ChildKey, mut record: Record<Desired>) -> &Record<Desired> {
        self.specs.share(&mut record.value.spec);
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

    fn dots_within(&self, span: (u64, u64)) -> impl Iterator<Item = (u64, Dot)> {
        self.entries.within(span).filter_map(|(key, entry)| Some((key.position(), entry.record.as_ref()?.dot)))
    }

    fn dots(&self) -> impl Iterator<Item = (u64, Dot)> {
        self.entries.entries().filter_map(|(key, entry)| Some((key.position(), entry.record.as_ref()?.dot)))
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
        self.entries.get_mut(&child)?.claims.of_mut(key.instance())
    }

    fn put(&mut self, key: OwnedKey, record: Record<Owned>) -> &Record<Owned> {
        let Some(child) = key.child() else {
            return match self.members.entry(key) {
                btree_map::Entry::Occupied(mut held) => {
                    held.insert(record);
                    held.into_mut()
                }
                btree_map::Entry::Vacant(place) => place.insert(record),
            };
        };
        debug_assert_eq!(record.dot.writer, key.instance(), "nobody else writes it");
        let entry = self.entries.get_or_insert_with(&child, Entry::default);
        let (filed, is_new) = entry.claims.put(record);
        self.claims += usize::from(is_new);
        filed
    }

    fn remove(&mut self, key: &OwnedKey) -> Option<Record<Owned>> {
        let Some(child) = key.child() else { return self.members.remove(key) };
        let removed = self.entries.get_mut(&child)?.claims.remove(key.instance())?;
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

    fn dots_within(&self, (first, last): (u64, u64)) -> impl Iterator<Item = (u64, Dot)> {
        let members =
            self.members.range(OwnedKey::first_at(first)..).take_while(move |(key, _)| key.position() <= last);
        let members = members.map(|(key, record)| (key.position(), record.dot));
        members.chain(self.entries.within((first, last)).flat_map(claimed))
    }

    fn dots(&self) -> impl Iterator<Item = (u64, Dot)> {
        let members = self.members.iter().map(|(key, record)| (key.position(), record.dot));
        members.chain(self.entries.entries().flat_map(claimed))
    }

    fn written_by(&self, is_one: impl Fn(InstanceId) -> bool) -> Vec<OwnedKey> {
        let members = self.members.iter().filter(|(_, record)| is_one(record.dot.writer)).map(|(key, _)| key.clone());
        let claims = self.entries.entries().flat_map(|(child, entry)| entry.claims().map(move |claim| (child, claim)));
        let claims = claims.filter(|(_, (writer, _))| is_one(*writer));
        let mut keys: Vec<OwnedKey> =
            claims.map(|(child, (writer, _))| OwnedKey::claim(child, writer)).chain(members).collect();
        keys.sort_unstable();
        keys
    }
}

/// The position and the dot of each claim on a child.
fn claimed<'a>((key, entry): (&'a ChildKey, &'a Entry)) -> impl Iterator<Item = (u64, Dot)> + use<'a> {
    entry.claims().map(|(_, record)| (key.position(), record.dot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::{ChildId, ChildSpec};
    use crate::proto::group::{Claim, ClaimState, Replica};
    use crate::proto::handover::Round;
    use crate::proto::{Epoch, Sabotage};

    fn key(n: usize) -> ChildKey {
        ChildKey::new(ChildId::new(format!("child-{n}")).unwrap())
    }

    fn claim() -> Owned {
        let (life, epoch) = (Dot { writer: InstanceId::new(1), n: 1 }, Epoch::default());
        Owned::Claim(Claim { state: ClaimState::Running, life, epoch, since_ms: 0, restarts: 0, last_error: None })
    }

    /// Goal: a million children of which this node runs none cost what is promised, 250 bytes each. Method: what lies in
    /// the map; beside it a child has 14 bytes in the buckets and a few in the tries.
    #[test]
    fn an_entry_is_small() {
        let bytes = size_of::<(ChildKey, Entry)>();
        assert!(bytes <= 216, "{bytes} bytes");
    }

    /// Goal: children that are in no stable state are listed once each and forgotten when they are stable or gone, however
    /// they came and went in between; what is counted is what a walk finds. Method: one stays, one is stable again, one goes
    /// and comes back, one goes.
    #[test]
    fn the_unstable_are_listed_once() {
        let mut children = Children::default();
        let wait = |children: &mut Children, n| {
            let round = Round::new(1, Dot { writer: InstanceId::new(1), n: 1 });
            children.get_or_make(&key(n)).local = Local::Waiting(Box::new(round));
            children.follow(&key(n));
        };
        let rest = |children: &mut Children, n| {
            children.get_mut(&key(n)).unwrap().local = Local::Idle;
            children.follow(&key(n));
        };
        for n in [0, 0, 1, 2, 3] {
            wait(&mut children, n);
        }
        rest(&mut children, 1);
        children.remove(&key(2));
        wait(&mut children, 2);
        children.remove(&key(3));
        assert_eq!((children.unstable_len(), children.count(Doing::Waiting)), (2, 2));
        assert_eq!(children.unstable(), [key(0), key(2)]);
        assert!(children.is_counted_right(None));
        rest(&mut children, 0);
        rest(&mut children, 2);
        assert_eq!(children.unstable(), []);
        assert_eq!((children.unstable_len(), children.listed.len()), (0, 0));
        assert!(children.is_counted_right(None));
    }

    /// Goal: children without an owner are counted while they are desired. Method: an owner comes, changes and goes, and the
    /// child after it.
    #[test]
    fn children_without_an_owner_are_counted() {
        let mut children = Children::default();
        let value = Desired { spec: Arc::new(ChildSpec::raw("id", "kind", "").unwrap().spec().clone()), run: 0 };
        let mut desired = Replica::new(InstanceId::new(1), Sabotage::default());
        desired.write(&mut children, key(1), value);
        children.get_or_make(&key(1));
        for (owner, unplaced) in [(None, 1), (Some(1), 0), (Some(2), 0), (None, 1), (Some(1), 0)] {
            children.set_owner(&key(1), owner.map(InstanceId::new));
            assert_eq!(children.unplaced(), unplaced, "{owner:?}");
            assert!(children.is_counted_right(None));
        }
        children.set_owner(&key(1), None);
        assert!(desired.remove(&mut children, &key(1)).is_some());
        children.remove(&key(1));
        assert_eq!(children.unplaced(), 0);
        assert!(children.is_counted_right(None));
    }

    /// Goal: what members own is in the order of its keys, as the exchange needs it, although it is kept in two places.
    /// Method: 300 claims and 40 member records; every walk from every key is the sorted rest, and what is summed up of a
    /// span, or of all, is what a walk finds there.
    #[test]
    fn claims_and_members_are_walked_in_one_order() {
        let mut children = Children::default();
        let claims = (0..300).map(|n| OwnedKey::claim(&key(n % 200), InstanceId::new(n as u64 / 200 + 1)));
        let mut keys: Vec<OwnedKey> = claims.chain((1..41).map(|n| OwnedKey::member(InstanceId::new(n)))).collect();
        for key in &keys {
            Replica::new(key.instance(), Sabotage::default()).write(&mut children, key.clone(), claim());
        }
        keys.sort();
        for from in 0..keys.len() {
            let walked = Shelf::<OwnedKey, Owned>::from(&children, keys[from].clone());
            assert!(walked.map(|(key, _)| key).eq(keys[from..].iter().cloned()), "from {from}");
        }
        let sorted = |mut dots: Vec<(u64, Dot)>| {
            dots.sort_unstable();
            dots
        };
        let walked = Shelf::<OwnedKey, Owned>::iter(&children);
        let all = sorted(walked.map(|(key, record)| (key.position(), record.dot)).collect());
        assert_eq!(sorted(Shelf::<OwnedKey, Owned>::dots(&children).collect()), all);
        for (first, last) in (0..all.len()).map(|first| (first, (first + 25).min(all.len() - 1))) {
            let span = (all[first].0, all[last].0);
            let inside = all.iter().filter(|(position, _)| (span.0..=span.1).contains(position));
            let found = Shelf::<OwnedKey, Owned>::dots_within(&children, span).collect();
            assert_eq!(sorted(found), inside.copied().collect::<Vec<_>>());
        }
        assert_eq!(children.owned_len(), keys.len());
        keys.iter().for_each(|key| assert!(Shelf::<OwnedKey, Owned>::remove(&mut children, key).is_some()));
        assert_eq!((children.owned_len(), children.iter().count()), (0, 0));
    }

    /// Goal: equal specs are kept once, different ones never taken for each other. Method: two of each.
    #[test]
    fn equal_specs_are_shared() {
        let mut specs = Specs::default();
        let spec = |args: &'static str| {
            let spec = ChildSpec::raw("id", "kind", args).unwrap();
            Arc::new(spec.spec().clone())
        };
        let mut all = ["a", "b", "a", "b"].map(spec);
        all.iter_mut().for_each(|spec| specs.share(spec));
        assert!(Arc::ptr_eq(&all[0], &all[2]) && Arc::ptr_eq(&all[1], &all[3]));
        assert_eq!([&*all[0], &*all[1]], [&*spec("a"), &*spec("b")]);
    }
}
