//! Who is told of in numbers: tables of members, the updates in a SWIM packet, and how many of them may be new.

use foca::{Member, State};

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
        let me = self.me();
        let dead = table.iter().filter(|entry| entry.state == TableState::Down).map(|entry| entry.identity);
        let obituaries: Vec<Identity> = dead.filter(|who| self.is_obituary(from, who)).collect();
        self.obituaries.extend(obituaries);
        let mut newcomers = 0;
        let news: Vec<Member<Identity>> = table
            .iter()
            .filter(|entry| match entry.state {
                TableState::Down => {
                    self.active.get(&entry.identity.instance) == Some(&entry.identity)
                        && !self.is_obituary(from, &entry.identity)
                }
                // My own incarnation is mine to tell; that I am suspected, I refute.
                TableState::Alive => entry.identity.addr != me.addr,
                TableState::Suspect => entry.identity == me || entry.identity.addr != me.addr,
            })
            .filter(|entry| match self.standing(entry.identity) {
                Standing::Active => true,
                Standing::Gone => false,
                Standing::Unknown if entry.identity == me => true,
                Standing::Unknown => {
                    newcomers += 1;
                    newcomers <= room
                }
            })
            .map(|entry| {
                let state = match entry.state {
                    TableState::Alive => State::Alive,
                    TableState::Suspect => State::Suspect,
                    TableState::Down => State::Down,
                };
                Member::new(entry.identity, entry.incarnation, state)
            })
            .collect();
        stats.refused_newcomers += u64::from(newcomers > room);
        self.newcomers.take(newcomers.min(room));
        self.apply(now, news.into_iter(), stats);
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
