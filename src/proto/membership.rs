//! Who is alive: SWIM by foca, with the corrections that keep healthy nodes from changing identity and lossy
//! clusters from dying. No other file names foca, but those below it.
//!
//! May not: know scopes or children, or decide what a death means.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use chacha20::ChaCha8Rng;
use foca::{Foca, Member, PostcardCodec, State, Timer};
use rand_core::{Rng, SeedableRng};

use super::allowance::Allowance;
use super::health::Health;
use super::hearing::Hearing;
use super::probes::Probes;
use super::timer::Timers;
use super::wire::{Members, TableEntry};
use super::{Identity, InstanceId, Rule, Sabotage, Stats, Time, Wakeup};
use crate::config::{Config, Profile};

mod collected;
mod known;
mod parameters;
mod seeking;
mod tables;

use collected::Collected;
use known::Known;
use parameters::{REMOVE_DOWN_AFTER, foca_config, suspicion_max};

/// How many members that became active last are told along with every answer: with fewer newcomers than this at
/// once, no table has to be exchanged before a start.
pub(crate) const RECENT_MAX: usize = 40;
/// And for how long: a newcomer is known everywhere within seconds.
const RECENT_FOR: Duration = Duration::from_secs(60);

/// Own renewals within [`RENEWALS_WINDOW`] that can be explained by false alarms; more means that another live
/// process speaks from this address.
const RENEWALS_MAX: usize = 5;
const RENEWALS_WINDOW: Duration = Duration::from_secs(10);
/// How long this node stays silent after that, before it tries again.
const CONFLICT_PAUSE: Duration = Duration::from_secs(60);

/// How often suspects are told that they are suspected by those that are not among their jurors. Well below every profile's
/// time to refute.
const BUDDY_INTERVAL: Duration = Duration::from_millis(200);
/// How often a node looks for members while it has none, or for seeds while none is a member: whoever starts then
/// knows only them, and would settle apart. A third of `settle_timeout` if that is shorter.
const LONELY_INTERVAL: Duration = Duration::from_secs(1);
/// At most one unasked announce per this time.
const NUDGE_INTERVAL: Duration = Duration::from_millis(50);

impl foca::Identity for Identity {
    type Addr = SocketAddr;

    /// Doubling makes a restarted process overtake the bump of its predecessor within a few rounds.
    fn renew(&self) -> Option<Self> {
        let bump = if self.bump < 1 << 30 { self.bump * 2 + 1 } else { self.bump.checked_add(1)? };
        Some(Identity { bump, ..*self })
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Never by a clock: a clock that stepped back would lose for ever.
    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.bump, self.instance) > (adversary.bump, adversary.instance)
    }
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// An instance is active.
    Up(Identity),
    /// An active instance is under a new identity; nothing else changed.
    Renamed(Identity),
    /// An instance is down, has left, or was superseded by another one at its address.
    Down(Identity),
    /// The others had declared this node down; it has a new identity.
    Rejoined,
    /// Another process speaks from this node's address.
    AddressConflict,
}

/// How an identity stands in this node's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is active.
    Active,
    /// It is down, or another identity holds its address or instance.
    Gone,
    /// Nothing is known of it.
    Unknown,
}

/// A member that is suspected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) member: Identity,
    pub(crate) incarnation: u16,
    /// Whether it is this node whose probe it did not answer, just now.
    pub(crate) is_mine: bool,
    /// Whether this node is one of those that tell it.
    pub(crate) is_told: bool,
}

/// A timer of this module.
#[derive(Debug)]
enum Tick {
    Swim(Timer<Identity>),
    Buddy,
    Seek,
}

/// The members as this node sees them.
pub(crate) struct Membership {
    foca: Foca<Identity, PostcardCodec, ChaCha8Rng, foca::NoCustomBroadcast>,
    rng: ChaCha8Rng,
    profile: Profile,
    members_max: usize,
    newcomers: Allowance,
    sabotage: Sabotage,
    collected: Collected,
    timers: Timers<Tick>,
    /// foca's next turn to gossip while there is nothing to be gossiped: nobody need wake for it.
    resting_gossip: Option<Timer<Identity>>,
    /// Every active instance.
    active: BTreeMap<InstanceId, Identity>,
    known: Known,
    recent: VecDeque<(Time, Identity)>,
    changes: VecDeque<Change>,
    suspects: VecDeque<Suspect>,
    /// Those whose deaths others tell of.
    obituaries: BTreeSet<Identity>,
    /// A SWIM packet without them.
    believed: Vec<u8>,
    buddy_tick_set: bool,
    health: Health,
    hearing: Hearing,
    probes: Probes,
    seeds: Vec<SocketAddr>,
    wants_seeds: bool,
    lonely_interval: Duration,
    /// When members were looked for in vain last: pauses of the first seconds are short.
    seeks: u32,
    next_seek: Option<Time>,
    renewals: VecDeque<Time>,
    silent_until: Option<Time>,
    nudged: Option<Time>,
    size_class: u32,
    has_left: bool,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("me", &self.me()).field("active", &self.active).finish_non_exhaustive()
    }
}

impl Membership {
    pub(crate) fn new(me: Identity, config: &Config, sabotage: Sabotage, seed: [u8; 32], now: Time) -> Self {
        let (profile, members_max, settle_timeout) = (config.profile, config.limits.members_max, config.settle_timeout);
        let mut rng = ChaCha8Rng::from_seed(seed);
        let mut foca_seed = [0; 32];
        rng.fill_bytes(&mut foca_seed);
        let config = foca_config(profile, 0);
        let mut membership = Membership {
            foca: Foca::new(me, config, ChaCha8Rng::from_seed(foca_seed), PostcardCodec),
            rng,
            profile,
            members_max,
            newcomers: tables::newcomers(now),
            sabotage,
            collected: Collected::default(),
            timers: Timers::default(),
            resting_gossip: None,
            active: BTreeMap::new(),
            known: Known::default(),
            recent: VecDeque::new(),
            changes: VecDeque::new(),
            suspects: VecDeque::new(),
            obituaries: BTreeSet::new(),
            believed: Vec::new(),
            buddy_tick_set: false,
            health: Health::default(),
            hearing: Hearing::new(now, profile),
            probes: Probes::default(),
            seeds: Vec::new(),
            wants_seeds: false,
            lonely_interval: settle_timeout.map_or(LONELY_INTERVAL, |timeout| LONELY_INTERVAL.min(timeout / 3)),
            seeks: 0,
            next_seek: None,
            renewals: VecDeque::new(),
            silent_until: None,
            nudged: None,
            size_class: 0,
            has_left: false,
        };
        membership.seek_at(now);
        membership
    }

    pub(crate) fn me(&self) -> Identity {
        *self.foca.identity()
    }

    /// Every other active instance.
    pub(crate) fn active(&self) -> &BTreeMap<InstanceId, Identity> {
        &self.active
    }

    /// How many identities are kept, down ones included.
    pub(crate) fn known(&self) -> usize {
        self.foca.iter_membership_state().len()
    }

    /// The identity under which an instance is active.
    pub(crate) fn identity_of(&self, instance: InstanceId) -> Option<Identity> {
        self.active.get(&instance).copied()
    }

    /// Whether an instance is active under this identity.
    pub(crate) fn is_active(&self, identity: Identity) -> bool {
        self.active.get(&identity.instance) == Some(&identity)
    }

    /// How many identities have gone within a minute, whether they died, left or were replaced by newer ones.
    pub(crate) fn gone_of_late(&self) -> usize {
        self.known.gone_len()
    }

    /// A hash over the active members, this one included.
    pub(crate) fn hash(&self) -> u64 {
        self.known.active(self.me())
    }

    /// Whom this node knows, with so many of those at most that became active last, the latest first.
    pub(crate) fn told(&self, recent_max: usize) -> Members {
        let recent = self.recent.iter().rev().take(recent_max).map(|(_, who)| *who).collect();
        Members { active: self.hash(), gone: self.known.gone(), recent }
    }

    /// Whether each member of a set is known here, be it active or gone. The set is told by its hash, and by what those
    /// that have gone of late would add to it.
    pub(crate) fn knows_all(&self, (active, gone): (u64, u64)) -> bool {
        active == self.hash() || self.known.covers(active) || self.known.covers(active.wrapping_add(gone))
    }

    /// What was told of long ago is no news any more.
    pub(crate) fn forget_old(&mut self, now: Time) {
        self.known.forget_gone(now);
        while self.recent.front().is_some_and(|(since, _)| now.since(*since) >= RECENT_FOR) {
            self.recent.pop_front();
        }
    }

    pub(crate) fn standing(&self, identity: Identity) -> Standing {
        if self.is_active(identity) {
            return Standing::Active;
        }
        let held = self.foca.iter_membership_state().find(|member| member.id().addr == identity.addr);
        if tables::is_unknown_beside(&identity, held) { Standing::Unknown } else { Standing::Gone }
    }

    pub(crate) fn poll_timeout(&self) -> Option<(Time, Wakeup)> {
        self.timers.next()
    }

    pub(crate) fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// A suspect: each of them every now and then.
    pub(crate) fn poll_suspect(&mut self) -> Option<Suspect> {
        self.suspects.pop_front()
    }

    /// An active member whose death others tell of. It counts as active until it is [buried](Self::bury).
    pub(crate) fn poll_obituary(&mut self) -> Option<Identity> {
        self.obituaries.pop_first()
    }

    /// How well this node is.
    pub(crate) fn health(&mut self) -> &mut Health {
        &mut self.health
    }

    /// A datagram came that was believed.
    pub(crate) fn heard(&mut self, now: Time) {
        self.hearing.heard(now);
    }

    /// Whether this node accuses nobody, because it hears nobody and would have to hear several. Where there is only one
    /// other, its silence is all that can be known of it.
    pub(crate) fn withholds_judgement(&self, now: Time) -> bool {
        self.active.len() > 1
            && self.hearing.withholds_judgement(now, self.suspicion_max())
            && !self.sabotage.lacks(Rule::DeafAccusesNobody)
    }

    /// At which incarnation this node speaks.
    pub(crate) fn incarnation(&self) -> u16 {
        self.collected.incarnation
    }

    /// How an active member is known: its incarnation, and whether it is suspected at it.
    pub(crate) fn incarnation_of(&self, who: Identity) -> Option<(u16, bool)> {
        let member = self.foca.iter_members().find(|member| *member.id() == who)?;
        Some((member.incarnation(), member.state() == State::Suspect))
    }

    /// How long a suspicion lasts that nobody confirms.
    pub(crate) fn suspicion_max(&self) -> Duration {
        suspicion_max(self.profile, self.size_class)
    }

    /// This member is suspected at this incarnation, by this node or by another one. Says whether it is now; not if it is
    /// known to have refuted that.
    pub(crate) fn suspect(&mut self, now: Time, who: Identity, incarnation: u16, stats: &mut Stats) -> bool {
        if self.is_active(who) {
            self.apply(now, std::iter::once(Member::new(who, incarnation, State::Suspect)), stats);
        }
        self.incarnation_of(who) == Some((incarnation, true))
    }

    /// This member was heard to live at this incarnation.
    pub(crate) fn refute(&mut self, now: Time, who: Identity, incarnation: u16, stats: &mut Stats) {
        if self.is_active(who) {
            self.apply(now, std::iter::once(Member::new(who, incarnation, State::Alive)), stats);
        }
    }

    /// Whether the seeds should be resolved now.
    pub(crate) fn poll_wants_seeds(&mut self) -> bool {
        std::mem::take(&mut self.wants_seeds)
    }

    /// The next SWIM packet to send. It is copied out of one buffer that is reused.
    pub(crate) fn poll_packet(&mut self, packet: &mut Vec<u8>) -> Option<Identity> {
        let Some((to, range)) = self.collected.packets.pop_front() else {
            self.collected.bytes.clear();
            return None;
        };
        packet.clear();
        packet.extend_from_slice(&self.collected.bytes[range]);
        Some(to)
    }

    /// A random active member.
    pub(crate) fn pick(&mut self) -> Option<Identity> {
        let count = self.active.len();
        let chosen = (count > 0).then(|| self.rng.next_u64() % count as u64)?;
        self.active.values().nth(chosen as usize).copied()
    }

    /// Up to `count` random active members.
    pub(crate) fn sample(&mut self, count: usize) -> Vec<Identity> {
        let mut all: Vec<_> = self.active.values().copied().collect();
        let count = count.min(all.len());
        for chosen in 0..count {
            let other = chosen + (self.rng.next_u64() % (all.len() - chosen) as u64) as usize;
            all.swap(chosen, other);
        }
        all.truncate(count);
        all
    }

    /// A SWIM packet arrived. `sealed_by`: whose it must be, where that is known.
    pub(crate) fn handle_packet(&mut self, now: Time, packet: &[u8], sealed_by: Option<InstanceId>, stats: &mut Stats) {
        if self.is_silent(now) {
            return;
        }
        let parts = postcard::take_from_bytes::<foca::Header<Identity>>(packet).ok();
        let Some((header, updates)) = parts.filter(|(header, _)| sealed_by.is_none_or(|by| by == header.src.instance))
        else {
            stats.swim_errors += 1;
            return;
        };
        let head_len = packet.len() - updates.len();
        let room = self.room(now);
        if room == 0 && self.standing(header.src) == Standing::Unknown {
            stats.refused_newcomers += 1;
            return;
        }
        let (newcomers, obituaries) = self.read_updates(header.src.instance, updates);
        let mut believed = std::mem::take(&mut self.believed);
        let mut packet = packet;
        if obituaries > 0 {
            self.leave_out_obituaries(header.src.instance, packet, updates, &mut believed);
            packet = &believed;
        }
        if newcomers > room {
            // What it says of its sender counts all the same: an answer that is missed would make a suspect of it.
            stats.refused_newcomers += 1;
            packet = &packet[..head_len];
        }
        let known = self.known();
        self.nudge_if_meant_for_another_life(now, header.src, header.dst, stats);
        let is_answer = match header.message {
            foca::Message::Ack(number) => self.probes.answered(now, header.src, number, stats),
            _ => false,
        };
        if self.foca.handle_data(packet, &mut self.collected).is_err() {
            stats.swim_errors += 1;
        }
        if is_answer {
            self.end_probe(stats);
        }
        self.believed = believed;
        self.newcomers.take(self.known().saturating_sub(known));
        self.after_call(now, stats);
    }

    /// Fills in the gauges of membership.
    pub(crate) fn measure(&self, stats: &mut Stats) {
        for member in self.foca.iter_membership_state().filter(|member| member.id().instance != self.me().instance) {
            match member.state() {
                State::Alive => stats.members_alive += 1,
                State::Suspect => stats.members_suspected += 1,
                State::Down => stats.members_remembered_down += 1,
            }
        }
        self.probes.measure(stats);
        stats.unwell = u64::from(self.health.factor() - 1);
    }

    /// A packet for another instance or bump of this address: its sender does not know who lives here now.
    fn nudge_if_meant_for_another_life(&mut self, now: Time, src: Identity, dst: Identity, stats: &mut Stats) {
        let me = self.me();
        let rested = self.nudged.is_none_or(|last| now.since(last) >= NUDGE_INTERVAL);
        if dst.addr == me.addr && dst != me && src.addr != me.addr && rested {
            self.nudged = Some(now);
            self.rise_above(dst.bump, stats);
            self.announce(src, stats);
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Time, stats: &mut Stats) {
        while let Some(tick) = self.timers.pop(now) {
            match tick {
                Tick::Swim(timer) => self.handle_swim_timer(now, timer, stats),
                Tick::Buddy => self.find_suspects(now),
                Tick::Seek if self.next_seek.is_some_and(|next| now >= next) => self.seek(now, stats),
                // It was moved to an earlier time.
                Tick::Seek => {}
            }
        }
    }

    fn handle_swim_timer(&mut self, now: Time, timer: Timer<Identity>, stats: &mut Stats) {
        if self.is_silent(now) {
            self.timers.set(now + LONELY_INTERVAL, Wakeup::Swim, Tick::Swim(timer));
            return;
        }
        if let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = &timer
            && !self.is_still_suspect(member_id, *incarnation)
            && !self.sabotage.lacks(Rule::SuspectTimerFilter)
        {
            // foca would tell a member that refuted in time that it is down, and so make it change its identity.
            stats.suspect_timers_dropped += 1;
            if self.active.contains_key(&member_id.instance) {
                self.health.worsen();
            }
            return;
        }
        if self.withholds_judgement(now) {
            let later = match &timer {
                Timer::ProbeRandomMember(_) => Some(self.profile.probe_period()),
                Timer::ChangeSuspectToDown { .. } => Some(self.suspicion_max()),
                _ => None,
            };
            if let Some(later) = later {
                return self.timers.set(now + later, Wakeup::Swim, Tick::Swim(timer));
            }
        }
        let is_probe = matches!(timer, Timer::ProbeRandomMember(_));
        if matches!(timer, Timer::RemoveDown(_)) {
            self.known.forget_sets();
        }
        if self.foca.handle_timer(timer, &mut self.collected).is_err() {
            stats.swim_errors += 1;
        }
        if is_probe
            && !self.collected.timers.iter().any(|(_, timer)| matches!(timer, Timer::ChangeSuspectToDown { .. }))
        {
            self.health.improve();
        }
        self.after_call(now, stats);
    }

    /// The direct probe was answered. foca need not wait any longer for the time to ask others, and nobody wake for it.
    fn end_probe(&mut self, stats: &mut Stats) {
        let waits = |tick: &Tick| matches!(tick, Tick::Swim(Timer::SendIndirectProbe { .. }));
        if let Some(Tick::Swim(timer)) = self.timers.take_first(waits)
            && self.foca.handle_timer(timer, &mut self.collected).is_err()
        {
            stats.swim_errors += 1;
        }
    }

    fn is_still_suspect(&self, id: &Identity, incarnation: u16) -> bool {
        self.foca
            .iter_membership_state()
            .any(|member| member.id() == id && member.incarnation() == incarnation && member.state() == State::Suspect)
    }

    /// The clock jumped: this node was paused. Suspicions raised before count from now, because those suspected had
    /// no chance to be heard.
    pub(crate) fn handle_pause(&mut self, now: Time) {
        self.hearing.restart(now);
        let mut kept = Timers::default();
        while let Some(tick) = self.timers.pop(Time::from_nanos(u64::MAX)) {
            match tick {
                Tick::Swim(timer @ Timer::ChangeSuspectToDown { .. })
                    if !self.sabotage.lacks(Rule::PauseRenewsSuspicions) =>
                {
                    kept.set(now + self.suspicion_max(), Wakeup::Swim, Tick::Swim(timer));
                }
                Tick::Swim(timer @ Timer::RemoveDown(_)) => {
                    kept.set(now + REMOVE_DOWN_AFTER, Wakeup::Swim, Tick::Swim(timer));
                }
                Tick::Swim(timer) => kept.set(now, Wakeup::Swim, Tick::Swim(timer)),
                Tick::Seek => {}
                Tick::Buddy => kept.set(now, Wakeup::Membership, Tick::Buddy),
            }
        }
        self.timers = kept;
        self.next_seek = None;
        self.seek_at(now);
    }

    /// Announces this node to a member.
    pub(crate) fn announce(&mut self, to: Identity, stats: &mut Stats) {
        stats.announces_retried += 1;
        if self.foca.announce(to, &mut self.collected).is_err() {
            stats.swim_errors += 1;
        }
    }

    /// A seed named itself and its table: learn it, get past an earlier life at this address, announce.
    pub(crate) fn handle_welcome(&mut self, now: Time, from: Identity, table: &[TableEntry], stats: &mut Stats) {
        let me = self.me();
        let predecessor = table.iter().filter(|entry| entry.identity.addr == me.addr && entry.identity != me);
        if let Some(bump) = predecessor.map(|entry| entry.identity.bump).max() {
            self.rise_above(bump, stats);
        }
        // This node has dialled it, and has to hear of everybody: there may be more than come in a second.
        let room = self.members_max.saturating_sub(self.known());
        self.merge_table_of(now, from.instance, table, room, stats);
        self.ensure_active(now, from, stats);
        self.announce(from, stats);
        self.after_call(now, stats);
    }

    /// Somebody told this node that it is suspected: refute.
    pub(crate) fn handle_suspected(&mut self, now: Time, who: Identity, incarnation: u16, stats: &mut Stats) {
        // Of an older one it was refuted before, which whoever told it is answered.
        if who == self.me() && incarnation >= self.incarnation() {
            stats.refutations += 1;
            self.apply(now, std::iter::once(Member::new(who, incarnation, State::Suspect)), stats);
        }
    }

    /// Somebody told this node that it is down under its present identity: take one that wins there.
    pub(crate) fn handle_you_are_down(&mut self, now: Time, who: Identity, bump: u32, stats: &mut Stats) {
        if who != self.me() || self.is_silent(now) {
            return;
        }
        if self.rise_above(bump, stats) {
            self.after_call(now, stats);
        } else {
            self.apply(now, std::iter::once(Member::down(who)), stats);
        }
    }

    /// The process of this identity has ended: down at once, and told to a few members at once. Says whether it was active.
    pub(crate) fn declare_down(&mut self, now: Time, who: Identity, stats: &mut Stats) -> bool {
        if self.active.get(&who.instance) != Some(&who) || self.is_silent(now) {
            return false;
        }
        self.apply(now, std::iter::once(Member::down(who)), stats);
        if self.foca.gossip(&mut self.collected).is_err() {
            stats.swim_errors += 1;
        }
        self.after_call(now, stats);
        true
    }

    /// What others told of the death of a member is true. Says whether it was active.
    pub(crate) fn bury(&mut self, now: Time, who: Identity, stats: &mut Stats) -> bool {
        let is_active = self.is_active(who);
        if is_active {
            self.apply(now, std::iter::once(Member::down(who)), stats);
        }
        is_active
    }

    /// An earlier life at this address left a higher bump behind: passes it in one step, where foca's doubling would
    /// take many and look like a fight of two processes.
    fn rise_above(&mut self, bump: u32, stats: &mut Stats) -> bool {
        let me = self.me();
        let Some(bump) = bump.checked_add(1).filter(|bump| *bump > me.bump) else { return false };
        let changed = self.foca.change_identity(Identity { bump, ..me }, &mut self.collected).is_ok();
        stats.swim_errors += u64::from(!changed);
        self.collected.rejoined |= changed;
        changed
    }

    /// The bump of whoever is known at an address.
    pub(crate) fn bump_at(&self, addr: SocketAddr) -> u32 {
        let known = self.foca.iter_membership_state().find(|member| member.id().addr == addr);
        known.map_or(0, |member| member.id().bump)
    }

    fn apply(&mut self, now: Time, news: impl Iterator<Item = Member<Identity>>, stats: &mut Stats) {
        if self.is_silent(now) {
            return;
        }
        if self.foca.apply_many(news, true, &mut self.collected).is_err() {
            stats.swim_errors += 1;
        }
        self.after_call(now, stats);
    }

    /// Declares this node gone; what it sends from now on is only this farewell.
    pub(crate) fn leave(&mut self, now: Time, stats: &mut Stats) {
        self.has_left = true;
        if self.foca.leave_cluster(&mut self.collected).is_err() {
            stats.swim_errors += 1;
        }
        self.after_call(now, stats);
    }

    /// Whether this node says nothing about itself: it has left, or another process speaks from its address.
    pub(crate) fn is_silent(&mut self, now: Time) -> bool {
        if self.has_left {
            return true;
        }
        if self.silent_until.is_some_and(|until| now >= until) {
            self.silent_until = None;
        }
        self.silent_until.is_some()
    }

    /// Takes over what foca asked for and notices who came and went.
    fn after_call(&mut self, now: Time, stats: &mut Stats) {
        let has_news = self.foca.updates_backlog() > 0;
        let mut timers = std::mem::take(&mut self.collected.timers);
        for (after, timer) in timers.drain(..) {
            let after = match &timer {
                Timer::PeriodicGossip(_) if !has_news => {
                    self.resting_gossip = Some(timer);
                    continue;
                }
                // Whoever is unwell probes less often, and gives more time for the answer.
                Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } => after * self.health.factor(),
                Timer::ChangeSuspectToDown { member_id, incarnation, .. } => {
                    let (member, incarnation) = (*member_id, *incarnation);
                    self.suspects.push_back(Suspect { member, incarnation, is_mine: true, is_told: true });
                    after
                }
                _ => after,
            };
            self.timers.set(now + after, Wakeup::Swim, Tick::Swim(timer));
        }
        self.collected.timers = timers;
        if let Some((member, number)) = self.collected.probed.take() {
            self.probes.sent(now, member, number, stats);
        }
        if !self.collected.touched.is_empty() {
            let touched = std::mem::take(&mut self.collected.touched);
            self.notice_changes(now, &touched, stats);
        }
        if std::mem::take(&mut self.collected.rejoined) {
            self.notice_renewal(now, stats);
        }
        if has_news && let Some(timer) = self.resting_gossip.take() {
            self.timers.set(now + self.profile.gossip_interval(), Wakeup::Swim, Tick::Swim(timer));
        }
        if has_news && !self.buddy_tick_set {
            self.buddy_tick_set = true;
            self.timers.set(now + BUDDY_INTERVAL, Wakeup::Membership, Tick::Buddy);
        }
    }

    /// Follows foca in what became of these instances. Only they are looked at: in a large cluster that forms or heals
    /// every member comes by itself, and every member notices each.
    fn notice_changes(&mut self, now: Time, touched: &BTreeSet<InstanceId>, stats: &mut Stats) {
        let me = self.me();
        let mut present: BTreeMap<InstanceId, Identity> = BTreeMap::new();
        for member in self.foca.iter_members() {
            let id = *member.id();
            if id.instance != me.instance && touched.contains(&id.instance) {
                let newest = present.entry(id.instance).or_insert(id);
                *newest = if newest.bump < id.bump { id } else { *newest };
            }
        }
        let mut has_lost_seed = false;
        for instance in touched {
            if let Some(old) = self.active.get(instance).filter(|old| present.get(instance) != Some(old)).copied() {
                has_lost_seed |= self.is_seed(&old);
                self.known.went(now, &old);
                self.recent.retain(|(_, recent)| recent.instance != *instance);
                if !present.contains_key(instance) {
                    stats.members_down += 1;
                    self.active.remove(instance);
                    self.changes.push_back(Change::Down(old));
                }
            }
        }
        for (instance, new) in present {
            let change = match self.active.insert(instance, new) {
                Some(old) if old == new => continue,
                Some(_) => Change::Renamed(new),
                None => Change::Up(new),
            };
            stats.members_up += u64::from(matches!(change, Change::Up(_)));
            self.known.came(&new);
            self.recent.push_back((now, new));
            self.changes.push_back(change);
        }
        while self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
        self.known.note(me);
        if has_lost_seed && !self.active.values().any(|member| self.is_seed(member)) {
            self.seeks = 0;
            self.seek_at(now);
        }
        self.follow_size(self.active.len() + 1);
    }

    /// Whether a member is one of those through which the others are found; without seeds each is.
    fn is_seed(&self, member: &Identity) -> bool {
        self.seeds.is_empty() || self.seeds.contains(&member.addr)
    }

    fn notice_renewal(&mut self, now: Time, stats: &mut Stats) {
        self.known.note(self.me());
        stats.rejoins += 1;
        self.seeks = 0;
        self.seek_at(now);
        self.renewals.push_back(now);
        while self.renewals.front().is_some_and(|first| now.since(*first) > RENEWALS_WINDOW) {
            self.renewals.pop_front();
        }
        if self.renewals.len() > RENEWALS_MAX {
            self.renewals.clear();
            self.silent_until = Some(now + CONFLICT_PAUSE);
            stats.address_conflicts += 1;
            self.changes.push_back(Change::AddressConflict);
        } else {
            self.changes.push_back(Change::Rejoined);
        }
    }

    fn find_suspects(&mut self, now: Time) {
        self.buddy_tick_set = false;
        let suspects = self.foca.iter_members().filter(|member| member.state() == State::Suspect);
        // In a large cluster a random sixteen of the members tell each suspect, not all of them.
        let members = self.active.len().max(1) as u64;
        let mut any = false;
        for suspect in suspects {
            any = true;
            let (member, incarnation) = (*suspect.id(), suspect.incarnation());
            let is_told = self.rng.next_u64() % members < 16;
            self.suspects.push_back(Suspect { member, incarnation, is_mine: false, is_told });
        }
        if any || self.foca.updates_backlog() > 0 {
            self.buddy_tick_set = true;
            self.timers.set(now + BUDDY_INTERVAL, Wakeup::Membership, Tick::Buddy);
        }
    }

    /// Parameters that depend on the size of the cluster follow it, by powers of two.
    fn follow_size(&mut self, size: usize) {
        let class = size.next_power_of_two().ilog2();
        if class != self.size_class && self.foca.set_config(foca_config(self.profile, class)).is_ok() {
            self.size_class = class;
        }
    }
}
