//! Who is told of in numbers: tables of members, the updates in a SWIM packet, and how many of them may be new.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use foca::{Member, State};

use super::known::identity_hash;
use super::{Membership, Standing};
use crate::proto::allowance::Allowance;
use crate::proto::wire::{TableEntry, TableState};
use crate::proto::{Identity, InstanceId, Rule, Stats, Time};

/// So many members may come within a second. More than any cluster has that starts at once or heals, up to a thousand nodes;
/// in larger ones members are told again, and come a second later. Whoever makes members up, which takes a key where there
/// is one, needs so much longer, and a node that works on them does other things in between.
const NEWCOMERS_PER_SECOND_MAX: usize = 1_024;

pub(super) fn newcomers(now: Time) -> Allowance {
    Allowance::per_second(NEWCOMERS_PER_SECOND_MAX, now)
}

impl Membership {
    /// This node's table: active members always, down ones too (the receiver applies those that it holds active).
    pub(crate) fn table(&self) -> Vec<TableEntry> {
        let entry = |member: &Member<Identity>| TableEntry {
            identity: *member.id(),
            incarnation: member.incarnation(),
            state: match member.state() {
                State::Alive => TableState::Alive,
                State::Suspect => TableState::Suspect,
                State::Down => TableState::Down,
            },
        };
        let me = TableEntry { identity: self.me(), incarnation: 0, state: TableState::Alive };
        self.foca.iter_membership_state().map(entry).chain([me]).collect()
    }

    /// Takes over what another member knows. A death counts only for an identity that is active here: otherwise two
    /// nodes would teach each other their dead for ever.
    pub(crate) fn merge_table(&mut self, now: Time, from: InstanceId, table: &[TableEntry], stats: &mut Stats) {
        let room = self.room(now);
        self.merge_table_of(now, from, table, room, stats);
    }

    /// The same, with room for so many that are not known.
    pub(super) fn merge_table_of(
        &mut self,
        now: Time,
        from: InstanceId,
        table: &[TableEntry],
        room: usize,
        stats: &mut Stats,
    ) {
        let (news, newcomers) = self.news(from, table, room);
        stats.refused_newcomers += u64::from(newcomers > room);
        self.newcomers.take(newcomers.min(room));
        self.apply(now, news.into_iter(), stats);
        if newcomers <= room && !self.is_silent(now) {
            self.known.note_set(hash_of(table));
        }
    }

    /// What of a table is new here, and how many it names of whom nothing is known; only so many of those as there is room
    /// for are among the news. Tables are nearly equal nearly always, and foca looks for each member that it is told of
    /// among all.
    fn news(&mut self, from: InstanceId, table: &[TableEntry], room: usize) -> (Vec<Member<Identity>>, usize) {
        let me = self.me();
        let held: BTreeMap<SocketAddr, &Member<Identity>> =
            self.foca.iter_membership_state().map(|member| (member.id().addr, member)).collect();
        let (mut news, mut newcomers) = (Vec::new(), 0);
        for entry in table {
            let told = Member::new(entry.identity, entry.incarnation, entry.state.into());
            let held = held.get(&entry.identity.addr).copied();
            if held == Some(&told) {
                continue;
            }
            let is_active = self.active.get(&entry.identity.instance) == Some(&entry.identity);
            let is_news = match entry.state {
                TableState::Down if is_active && self.is_obituary(from, &entry.identity) => {
                    self.obituaries.insert(entry.identity);
                    false
                }
                TableState::Down => is_active,
                // My own incarnation is mine to tell; that I am suspected, I refute.
                TableState::Suspect if entry.identity == me => true,
                TableState::Alive | TableState::Suspect => entry.identity.addr != me.addr,
            };
            let is_new = is_news && entry.identity != me && !is_active && is_unknown_beside(&entry.identity, held);
            newcomers += usize::from(is_new);
            if is_news && (is_active || entry.identity == me || is_new && newcomers <= room) {
                news.push(told);
            }
        }
        (news, newcomers)
    }

    /// Somebody unknown speaks for itself, or is vouched for: it is a member.
    pub(crate) fn ensure_active(&mut self, now: Time, identity: Identity, stats: &mut Stats) -> Standing {
        let me = self.me();
        if identity.addr == me.addr || identity.instance == me.instance {
            return Standing::Gone;
        }
        match self.standing(identity) {
            Standing::Unknown if self.room(now) > 0 => {
                self.newcomers.take(1);
                self.apply(now, std::iter::once(Member::alive(identity)), stats);
                self.standing(identity)
            }
            standing => standing,
        }
    }

    /// How many members may come now.
    pub(super) fn room(&mut self, now: Time) -> usize {
        self.newcomers.left(now).min(self.members_max.saturating_sub(self.known()))
    }

    /// Who says to have sent a SWIM packet.
    pub(crate) fn sender_of(packet: &[u8]) -> Option<Identity> {
        postcard::take_from_bytes::<foca::Header<Identity>>(packet).ok().map(|(header, _)| header.src)
    }

    /// Whether a member tells of the death of another one that is active here: not its own, by which it leaves.
    fn is_obituary(&self, from: InstanceId, who: &Identity) -> bool {
        let is_active = self.active.get(&who.instance) == Some(who);
        is_active && who.instance != from && !self.sabotage.lacks(Rule::ObituariesAreChecked)
    }

    /// How many members that are not active here a packet tells of, and of how many deaths, which are noted.
    pub(super) fn read_updates(&mut self, from: InstanceId, updates: &[u8]) -> (usize, usize) {
        let (mut newcomers, mut obituaries) = (0, 0);
        for (update, _) in each(updates) {
            if update.state() != State::Down {
                newcomers += usize::from(!self.active.contains_key(&update.id().instance));
            } else if self.is_obituary(from, update.id()) {
                obituaries += 1;
                self.obituaries.insert(*update.id());
            }
        }
        (newcomers, obituaries)
    }

    /// Writes a packet without the deaths that are to be checked first.
    pub(super) fn leave_out_obituaries(&self, from: InstanceId, packet: &[u8], updates: &[u8], left: &mut Vec<u8>) {
        let is_left = |update: &Member<Identity>| update.state() != State::Down || !self.is_obituary(from, update.id());
        left.clear();
        left.extend_from_slice(&packet[..packet.len() - updates.len()]);
        let kept = each(updates).filter(|(update, _)| is_left(update));
        let count = kept.clone().count() as u16;
        left.extend_from_slice(&count.to_be_bytes());
        kept.for_each(|(_, bytes)| left.extend_from_slice(bytes));
    }
}

impl From<TableState> for State {
    fn from(state: TableState) -> State {
        match state {
            TableState::Alive => State::Alive,
            TableState::Suspect => State::Suspect,
            TableState::Down => State::Down,
        }
    }
}

/// Whether an identity that is not active is unknown where this member is held at its address.
pub(super) fn is_unknown_beside(identity: &Identity, held: Option<&Member<Identity>>) -> bool {
    held.is_none_or(|held| held.id() != identity && foca::Identity::win_addr_conflict(identity, held.id()))
}

/// The hash of those that are active in a table. An instance has one identity, as [active](Membership::active) has it.
fn hash_of(table: &[TableEntry]) -> u64 {
    let mut newest: BTreeMap<InstanceId, Identity> = BTreeMap::new();
    for entry in table.iter().filter(|entry| entry.state != TableState::Down) {
        let known = newest.entry(entry.identity.instance).or_insert(entry.identity);
        *known = if known.bump < entry.identity.bump { entry.identity } else { *known };
    }
    newest.values().map(identity_hash).fold(0, u64::wrapping_add)
}

/// The updates in a SWIM packet as foca writes them, each with its bytes; a datagram holds some 60 at most.
fn each(updates: &[u8]) -> impl Iterator<Item = (Member<Identity>, &[u8])> + Clone {
    let (count, mut rest) =
        updates.split_first_chunk().map_or((0, updates), |(count, rest)| (u16::from_be_bytes(*count), rest));
    (0..count).map_while(move |_| {
        let (update, after) = postcard::take_from_bytes(rest).ok()?;
        let bytes = &rest[..rest.len() - after.len()];
        rest = after;
        Some((update, bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::proto::Sabotage;

    fn entry(number: u64, state: TableState) -> TableEntry {
        let addr = SocketAddr::from(([10, 0, number as u8, 1], 7946));
        let identity = Identity { addr, bump: 0, instance: InstanceId::new(number) };
        TableEntry { identity, incarnation: 0, state }
    }

    fn membership() -> Membership {
        Membership::new(
            entry(1, TableState::Alive).identity,
            &Config::default(),
            Sabotage::default(),
            [0; 32],
            Time::ZERO,
        )
    }

    fn set(table: &[TableEntry]) -> (u64, u64) {
        (hash_of(table), 0)
    }

    /// Goal: of a table only what is not known goes to foca, which looks for each member among all.
    /// Method: a table of a hundred; then the same with one suspect, one death and one newcomer.
    #[test]
    fn only_what_is_new_in_a_table_is_applied() {
        let (mut membership, mut stats) = (membership(), Stats::default());
        let mut table: Vec<TableEntry> = (2..102).map(|number| entry(number, TableState::Alive)).collect();
        membership.merge_table(Time::ZERO, InstanceId::new(2), &table, &mut stats);
        assert_eq!(membership.active().len(), 100);
        assert_eq!(membership.news(InstanceId::new(2), &table, 9), (Vec::new(), 0));
        table[10].state = TableState::Suspect;
        table[20].state = TableState::Down;
        table.push(entry(200, TableState::Alive));
        let (news, newcomers) = membership.news(table[20].identity.instance, &table, 9);
        let expected = [table[10], table[20], table[100]].map(|entry| entry.identity);
        assert_eq!((news.iter().map(|member| *member.id()).collect::<Vec<_>>(), newcomers), (expected.to_vec(), 1));
    }

    /// Goal: the set of a table counts as known when its members are, not while there was no room for one of them.
    /// Method: a table of three with room for two, then with room for all.
    #[test]
    fn the_set_of_a_table_is_known_when_all_of_it_was_merged() {
        let (mut membership, mut stats) = (membership(), Stats::default());
        let table: Vec<TableEntry> = (2..5).map(|number| entry(number, TableState::Alive)).collect();
        membership.merge_table_of(Time::ZERO, InstanceId::new(2), &table, 2, &mut stats);
        assert!(!membership.knows_all(set(&table)));
        membership.merge_table_of(Time::ZERO, InstanceId::new(2), &table, 2, &mut stats);
        assert!(membership.knows_all(set(&table)));
        assert_eq!(stats.refused_newcomers, 1);
    }
}
