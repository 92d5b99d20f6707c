//! Tables of members, and the answers that wait until whoever their senders know is known here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Node;
use crate::proto::allowance::Allowance;
use crate::proto::membership::RECENT_MAX;
use crate::proto::wire::{Answer, Members, Message, TableEntry};
use crate::proto::{Identity, Rule, ScopeId, Time};

/// A member's table is asked for at most once per this time.
const TABLE_INTERVAL: Duration = Duration::from_millis(50);
/// So many tables are asked for within a second. What one of them tells is what most others would, and in a cluster of a
/// thousand each has 30 kB.
const TABLES_PER_SECOND_MAX: usize = 64;
/// Answers that wait; further ones are left to the next attempt.
const DEFERRED_MAX: usize = 65_536;

/// The hashes of a set of members, with and without those that have gone of late.
type SetHash = (u64, u64);

/// Whom the sender of a packet knows.
#[derive(Clone, Copy)]
pub(super) struct Acquaintances {
    pub(super) set: SetHash,
    /// Whether each of them is known here.
    pub(super) are_known: bool,
}

/// Answers that count only when each member that their senders know is known here. Whoever knows the same members waits
/// for the same, so they are kept by that, and one table may set all of them free.
#[derive(Debug)]
pub(super) struct Deferred {
    by_set: BTreeMap<SetHash, Waiting>,
    count: usize,
    tables: Allowance,
}

#[derive(Debug)]
struct Waiting {
    latest: Time,
    answers: Vec<(Identity, ScopeId, Answer)>,
}

impl Deferred {
    pub(super) fn new(now: Time) -> Self {
        Deferred { by_set: BTreeMap::new(), count: 0, tables: Allowance::per_second(TABLES_PER_SECOND_MAX, now) }
    }

    /// Whether there was room.
    fn add(&mut self, now: Time, ttl: Duration, set: SetHash, answer: (Identity, ScopeId, Answer)) -> bool {
        if self.count >= DEFERRED_MAX {
            self.forget_old(now, ttl);
        }
        if self.count >= DEFERRED_MAX {
            return false;
        }
        let waiting = self.by_set.entry(set).or_insert_with(|| Waiting { latest: now, answers: Vec::new() });
        waiting.latest = now;
        waiting.answers.push(answer);
        self.count += 1;
        true
    }

    /// A permission that is as old as it may be permits nothing, whoever is known by then.
    fn forget_old(&mut self, now: Time, ttl: Duration) {
        drop(self.take_if(|_, waiting| now.since(waiting.latest) >= ttl));
    }

    fn take_if(&mut self, mut is_taken: impl FnMut(&SetHash, &Waiting) -> bool) -> Vec<(Identity, ScopeId, Answer)> {
        let mut taken = Vec::new();
        self.by_set.retain(|set, waiting| {
            let is_kept = !is_taken(set, waiting);
            if !is_kept {
                taken.append(&mut waiting.answers);
            }
            is_kept
        });
        self.count -= taken.len();
        taken
    }
}

impl Node {
    /// A member tells whom it knows.
    pub(super) fn meet(&mut self, from: Identity, told: Members) -> Acquaintances {
        let set = (told.active, told.gone);
        if self.cx.sabotage.lacks(Rule::AnswersCarryMembers) {
            return Acquaintances { set, are_known: true };
        }
        // That is what nearly every answer says.
        if told.active == self.cx.membership.hash() {
            return Acquaintances { set, are_known: true };
        }
        if !self.cx.membership.knows_all(set) {
            let now = self.cx.now;
            for identity in told.recent.into_iter().take(RECENT_MAX) {
                self.cx.membership.ensure_active(now, identity, &mut self.cx.stats);
            }
            self.follow_membership();
        }
        if told.active != self.cx.membership.hash() {
            self.ask_for_table(from);
        }
        Acquaintances { set, are_known: self.cx.membership.knows_all(set) }
    }

    /// An answer counts only when whoever its sender knows is known here.
    pub(super) fn defer_answer(&mut self, from: Identity, set: SetHash, scope: ScopeId, answer: Answer) {
        let (now, ttl) = (self.cx.now, self.cx.config.profile.ask_ttl());
        self.cx.stats.frees_deferred += 1;
        self.cx.stats.refused_limit += u64::from(!self.deferred.add(now, ttl, set, (from, scope, answer)));
        self.ask_for_table(from);
    }

    /// Tables are exchanged with a member that knows others than this node.
    fn ask_for_table(&mut self, from: Identity) {
        let now = self.cx.now;
        let peer = self.cx.peer(from.instance);
        let is_due = peer.table_asked.is_none_or(|asked| now.since(asked) >= TABLE_INTERVAL);
        if is_due && self.deferred.tables.allows(now) {
            peer.table_asked = Some(now);
            let table = Message::Table(self.cx.membership.table());
            self.cx.send(from, &table);
            self.cx.send(from, &Message::TableRequest);
        }
    }

    pub(super) fn send_table(&mut self, to: Identity) {
        let now = self.cx.now;
        let peer = self.cx.peer(to.instance);
        if peer.table_sent.is_some_and(|sent| now.since(sent) < TABLE_INTERVAL / 2) {
            self.cx.stats.refused_limit += 1;
            return;
        }
        peer.table_sent = Some(now);
        let table = Message::Table(self.cx.membership.table());
        self.cx.send(to, &table);
    }

    pub(super) fn take_table(&mut self, from: Identity, table: &[TableEntry]) {
        self.cx.membership.merge_table(self.cx.now, from.instance, table, &mut self.cx.stats);
        if let Some(peer) = self.cx.peers.get_mut(&from.instance) {
            peer.table_asked = None;
        }
        self.follow_membership();
        self.count_deferred();
    }

    /// More is known of the members: lets those answers count that waited for it.
    pub(super) fn count_deferred(&mut self) {
        if self.deferred.count == 0 {
            return;
        }
        self.deferred.forget_old(self.cx.now, self.cx.config.profile.ask_ttl());
        let membership = &self.cx.membership;
        for (from, scope, answer) in self.deferred.take_if(|set, _| membership.knows_all(*set)) {
            if self.cx.membership.identity_of(from.instance).is_some()
                && let Some(scope) = self.scopes.get_mut(&scope)
            {
                scope.handle_answer(&mut self.cx, from, answer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::group::ChildKey;
    use crate::proto::wire::{Life, Verdict};
    use crate::proto::{Dot, InstanceId};

    const TTL: Duration = Duration::from_secs(1);

    fn free(from: u64) -> (Identity, ScopeId, Answer) {
        let addr = format!("10.0.0.{from}:7946").parse().expect("an address");
        let identity = Identity { addr, bump: 0, instance: InstanceId::new(from) };
        let key = ChildKey::new("child".try_into().expect("an id"));
        let asked = Dot { writer: identity.instance, n: 1 };
        let (verdict, life) = (Verdict::Free, Life::Fine);
        let answer = Answer { key, to: identity.instance, round: 1, attempt: 1, verdict, asked, life, run: 0 };
        (identity, ScopeId::of("scope"), answer)
    }

    /// Goal: one table sets free whatever waits for the same set of members, and nothing else.
    /// Method: answers of three members, two of which know the same ones.
    #[test]
    fn answers_wait_by_the_set_that_their_senders_know() {
        let mut deferred = Deferred::new(Time::ZERO);
        for (from, set) in [(2, (7, 0)), (3, (8, 1)), (4, (7, 0))] {
            assert!(deferred.add(Time::ZERO, TTL, set, free(from)));
        }
        let freed = deferred.take_if(|set, _| *set == (7, 0));
        assert_eq!(freed, [free(2), free(4)]);
        assert_eq!(deferred.take_if(|_, _| true), [free(3)]);
        assert_eq!(deferred.count, 0);
    }

    /// Goal: so many answers wait and no more, but those that are too old to count make room.
    /// Method: one more than there is room for, at once and when the others' time is over.
    #[test]
    fn answers_that_wait_are_bounded_and_old_ones_make_room() {
        let mut deferred = Deferred::new(Time::ZERO);
        assert!((0..DEFERRED_MAX).all(|set| deferred.add(Time::ZERO, TTL, (set as u64 % 4, 0), free(2))));
        assert!(!deferred.add(Time::ZERO, TTL, (9, 0), free(2)));
        assert!(deferred.add(Time::ZERO + TTL, TTL, (9, 0), free(2)));
        assert_eq!(deferred.count, 1);
    }
}
