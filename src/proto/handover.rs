//! Ask before start: the owner of a child asks every active member and starts it only when all have answered Free;
//! a runner stops only when asked by the node that it too regards as owner.
//!
//! New children, moves, failover, drain and healing are this one mechanism. What gossip says of who runs what is a
//! hint here; safety rests on the answers alone.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use smallvec::SmallVec;

use super::few::Few;
use super::gaps::Gap;
use super::group::{ChildKey, Owned, OwnedKey, Record};
use super::membership::RECENT_MAX;
use super::outbox::encode;
use super::scope::Scope;
use super::shared::{Alarm, RTT_GUESS, Shared};
use super::supervision::{Asker, Local, Phase};
use super::wire::{Answer, Ask, INLINE_SPEC_BYTES_MAX, Life, Message, ScopeMessage, Verdict};
use super::{Dot, Identity, InstanceId, Rule, Site, Time, Wakeup};
use crate::child::Restart;
use crate::info::{Event, SilentMember};

/// From this attempt on an Ask also goes through two other members: the direct way may be cut.
pub(crate) const RELAY_FROM_ATTEMPT: u32 = 3;
/// Through how many.
const RELAYS: usize = 2;
/// Rounds that ask for the first time at once. More would only queue up at those who are asked, until their answers
/// come later than the next attempt and everything is asked twice.
const ASKING_MAX: usize = 2_048;
/// More claimers of one child are left to the next attempt: nearly every answer finds that there is none.
const CLAIMERS_MAX: usize = 8;
/// A round that has asked more often waits for something else than a busy member, and counts no more.
const COUNTED_ATTEMPTS_MAX: u32 = 6;
/// In a large cluster so many rounds per [`ASK_TICK`] ask as soon as they begin. A bulk start would otherwise send every
/// member one datagram per child, as each of them comes by itself.
const ASKED_AT_ONCE_MAX: u32 = 4;
/// What is more than that asks together, at the end of the tick: so many rounds, which is about what two datagrams to
/// each member hold.
const ASKED_PER_TICK_MAX: u32 = 32;
/// Far below what a move or a failover takes, and a bulk start gains more than it loses.
const ASK_TICK: Duration = Duration::from_millis(2);
/// Attempts whose sending times are kept; older ones have expired in every profile.
const ATTEMPTS_KEPT: usize = 64;

/// How many rounds have begun to ask in the present tick.
#[derive(Debug, Default)]
pub(crate) struct AskPace {
    since: Time,
    asked: u32,
    /// Whether the end of the tick is waited for.
    is_waiting: bool,
}

/// One collection of permissions to start a child.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) number: u32,
    life: Dot,
    /// Whether it counts among those that ask at once.
    is_counted: bool,
    /// Whether it takes the place of one that had asked and was void.
    is_repeated: bool,
    attempt: u32,
    sent: SmallVec<[(u32, Time); 2]>,
    /// Who has answered Free, and until when that counts.
    frees: SmallVec<[(InstanceId, Time); 2]>,
    /// Who ran the child until it answered Free: it waits to hear who runs it next.
    pub(crate) predecessor: Option<InstanceId>,
    /// Since when nobody is known to run the child: nobody claims it, and nobody has answered Busy since.
    pub(crate) gap: Gap,
    /// Whether it will be looked at again by itself.
    is_alarmed: bool,
    /// Whether it waits for a place in the budget. It asks for nothing meanwhile.
    is_held: bool,
    /// Whether it has one: those that claim the child are asked to stop it, or permissions that expired while it waited are
    /// asked for again.
    is_moving: bool,
    /// Since which attempt.
    moving_since: u32,
    /// Whether it had one, and gave it back because they take long.
    has_moved: bool,
    /// Whether those that claim the child were asked since the last attempt, because all others had permitted it.
    are_claimers_asked: bool,
}

impl Round {
    /// One that has not asked anybody.
    pub(crate) fn new(number: u32, life: Dot) -> Self {
        Round {
            number,
            life,
            is_counted: false,
            is_repeated: false,
            attempt: 0,
            sent: SmallVec::new(),
            frees: SmallVec::new(),
            predecessor: None,
            gap: Gap::default(),
            is_alarmed: false,
            is_held: false,
            is_moving: false,
            moving_since: 0,
            has_moved: false,
            are_claimers_asked: false,
        }
    }

    fn sent_at(&self, attempt: u32) -> Option<Time> {
        self.sent.iter().find(|(sent, _)| *sent == attempt).map(|(_, at)| *at)
    }

    /// Until when a member's Free counts.
    fn free_until(&self, instance: InstanceId) -> Option<Time> {
        let place = self.frees.binary_search_by_key(&instance, |(member, _)| *member).ok()?;
        Some(self.frees[place].1)
    }

    fn take_free(&mut self, instance: InstanceId, until: Time) {
        match self.frees.binary_search_by_key(&instance, |(member, _)| *member) {
            Ok(place) => self.frees[place].1 = self.frees[place].1.max(until),
            Err(place) => self.frees.insert(place, (instance, until)),
        }
    }
}

/// While the others of a large cluster are still being asked, what begins meanwhile can gather.
fn ask_tick(cx: &Shared) -> Duration {
    ASK_TICK.max(cx.asking_time())
}

/// A bulk in which most children waited leaves a queue that is far too large.
fn give_back_room<T>(queue: &mut VecDeque<T>) {
    const ROOM_KEPT: usize = 1_024;
    if queue.capacity() > ROOM_KEPT && queue.len() < queue.capacity() / 4 {
        queue.shrink_to(2 * queue.len());
    }
}

impl Scope {
    /// Starts to collect permissions anew.
    pub(crate) fn begin_round(&mut self, cx: &mut Shared, key: &ChildKey) {
        let Some((life, ..)) = self.life(key) else { return };
        let is_unclaimed = !self.is_claimed_elsewhere(key);
        let Some(child) = self.children.get_mut(key) else { return };
        let mut gap = match &mut child.local {
            Local::Waiting(round) => std::mem::take(&mut round.gap),
            Local::Idle | Local::Active(_) => Gap::default(),
        };
        if is_unclaimed {
            self.gaps.begin(&mut gap, cx.now);
        }
        let (mut is_counted, mut is_queued, mut is_repeated) = (false, false, false);
        let (mut is_held, mut is_moving, mut has_moved) = (false, false, false);
        if let Local::Waiting(round) = &child.local {
            is_repeated = round.is_repeated || round.attempt > 0;
            cx.stats.rounds_voided += 1;
            (is_counted, is_held) = (round.is_counted, round.is_held);
            (is_moving, has_moved) = (round.is_moving, round.has_moved);
            is_queued = !is_counted && round.attempt == 0;
        }
        self.rounds = self.rounds.wrapping_add(1);
        let number = self.rounds;
        let round = Round { is_counted, is_repeated, gap, is_held, is_moving, has_moved, ..Round::new(number, life) };
        child.local = Local::Waiting(Box::new(round));
        self.children.follow(key);
        if cx.sabotage.lacks(Rule::Ask) {
            self.start_run(cx, key);
        } else if is_counted || is_moving {
            // Whoever has a place must not wait behind those that wait for one.
            self.ask_again(cx, key, number);
        } else if !is_queued {
            self.to_ask.push_back(key.clone());
        }
    }

    /// Lets as many rounds ask as may at once.
    pub(crate) fn ask_more(&mut self, cx: &mut Shared) {
        if !self.ask_pace.is_waiting {
            self.begin_to_ask(cx, ASKED_AT_ONCE_MAX);
        }
    }

    /// The tick is over: what has gathered asks together.
    pub(crate) fn ask_in_tick(&mut self, cx: &mut Shared) {
        self.ask_pace = AskPace { since: cx.now, asked: 0, is_waiting: false };
        self.begin_to_ask(cx, ASKED_PER_TICK_MAX);
    }

    fn begin_to_ask(&mut self, cx: &mut Shared, per_tick: u32) {
        if cx.now.since(self.ask_pace.since) >= ask_tick(cx) {
            self.ask_pace = AskPace { since: cx.now, ..AskPace::default() };
        }
        while self.asking < ASKING_MAX.min(cx.budget.rounds_max())
            && let Some(key) = self.to_ask.pop_front()
        {
            give_back_room(&mut self.to_ask);
            let Some(Local::Waiting(round)) = self.children.get_mut(&key).map(|child| &mut child.local) else {
                continue;
            };
            if round.is_counted || round.attempt > 0 {
                continue;
            }
            // Where members are few, what is too much for two datagrams takes a stream to each.
            if self.ask_pace.asked >= per_tick && !cx.is_small() {
                self.to_ask.push_front(key);
                self.ask_pace.is_waiting = true;
                cx.set_timer(ask_tick(cx), Wakeup::Ask, Alarm::AskTick(self.id));
                return;
            }
            round.is_counted = true;
            let number = round.number;
            self.asking += 1;
            self.ask_pace.asked += 1;
            self.ask_again(cx, &key, number);
        }
    }

    /// A round is over, or waits for something else than an answer that is on its way.
    fn stop_counting(&mut self, key: &ChildKey) {
        let Some(Local::Waiting(round)) = self.children.get_mut(key).map(|child| &mut child.local) else { return };
        if std::mem::take(&mut round.is_counted) {
            self.asking -= 1;
        }
    }

    /// A move has its place no more: the child starts, is not to start here, or is slow to stop where it runs.
    fn stop_moving(&mut self, cx: &mut Shared, key: &ChildKey) {
        if let Some(Local::Waiting(round)) = self.children.get_mut(key).map(|child| &mut child.local)
            && std::mem::take(&mut round.is_moving)
        {
            round.has_moved = true;
            cx.budget.give_back();
        }
    }

    /// A round is over.
    pub(crate) fn end_round(&mut self, cx: &mut Shared, key: &ChildKey) {
        self.stop_counting(key);
        self.stop_moving(cx, key);
    }

    /// Whether those that run a child may be asked to stop: only if it can then start here.
    fn may_ask_claimers(&mut self, cx: &mut Shared, key: &ChildKey) -> bool {
        let Some(Local::Waiting(round)) = self.children.get_mut(key).map(|child| &mut child.local) else { return true };
        // Whoever has asked for long waits for a slow stop, during which the child runs.
        if round.is_moving || round.has_moved {
            return true;
        }
        if !cx.budget.may_take() {
            self.hold(cx, key);
            return false;
        }
        self.take_place(cx, key);
        true
    }

    fn take_place(&mut self, cx: &mut Shared, key: &ChildKey) {
        if let Some(Local::Waiting(round)) = self.children.get_mut(key).map(|child| &mut child.local)
            && !round.is_moving
        {
            round.is_moving = true;
            round.moving_since = round.attempt;
            cx.budget.take();
        }
    }

    /// A child waits for a place in the budget.
    pub(crate) fn hold(&mut self, cx: &mut Shared, key: &ChildKey) {
        let is_held = match self.children.get_mut(key).map(|child| &mut child.local) {
            Some(Local::Waiting(round)) => &mut round.is_held,
            Some(Local::Active(run)) => &mut run.is_held,
            Some(Local::Idle) | None => return,
        };
        if !std::mem::replace(is_held, true) {
            self.held.push_back((cx.now, key.clone()));
            cx.budget.queue();
            cx.stats.starts_held += 1;
        }
    }

    /// Whether a round waits for a place. It goes on when it has one.
    fn is_held(&mut self, key: &ChildKey) -> bool {
        self.round_of(key).is_some_and(|round| round.is_held)
    }

    /// A place is free: goes on with the child that has waited longest.
    pub(crate) fn release_held(&mut self, cx: &mut Shared) {
        let Some((_, key)) = self.held.pop_front() else { return };
        give_back_room(&mut self.held);
        cx.budget.grant();
        match self.children.get_mut(&key).map(|child| &mut child.local) {
            // It may have gone and come back since, and wait elsewhere in the queue or not at all.
            Some(Local::Waiting(round)) if round.is_held => {
                round.is_held = false;
                let (number, has_asked) = (round.number, round.attempt > 0);
                if !self.try_to_start(cx, &key, has_asked) {
                    self.take_place(cx, &key);
                    self.ask_again(cx, &key, number);
                }
            }
            Some(Local::Active(run)) if run.is_held => {
                run.is_held = false;
                self.launch_held(cx, &key);
            }
            Some(_) | None => {}
        }
        cx.budget.granted();
    }

    /// It is time for the next attempt of a round.
    pub(crate) fn next_attempt(&mut self, cx: &mut Shared, key: &ChildKey, number: u32) {
        let Some(round) = self.round_of(key).filter(|round| round.number == number) else { return };
        round.is_alarmed = false;
        // Whoever waits for a place asks when it has one: permissions would only expire.
        if !round.is_held {
            self.ask_again(cx, key, number);
        }
    }

    /// Starts if nobody is left to ask, otherwise asks those that have not permitted it.
    pub(crate) fn ask_again(&mut self, cx: &mut Shared, key: &ChildKey, number: u32) {
        if self.round_of(key).is_none_or(|round| round.number != number) {
            return;
        }
        let is_waiting = matches!(self.children.get(key).map(|child| &child.local), Some(Local::Waiting(_)));
        if is_waiting {
            // Whoever was silent before is asked for this child all the same, and may answer by now.
            let has_asked = self.round_of(key).is_some_and(|round| round.attempt > 0);
            if self.try_to_start(cx, key, has_asked) || self.is_held(key) {
                return;
            }
        } else if !self.is_claimed_elsewhere(key) {
            self.end_challenge(key);
            return;
        }
        let targets = if is_waiting { self.whom_to_ask(cx, key) } else { self.claimers(cx, key) };
        if self.is_held(key) {
            return;
        }
        self.send_asks(cx, key, &targets);
        let Some(round) = self.round_of(key) else { return };
        round.are_claimers_asked = false;
        let attempt = round.attempt;
        let is_slow_to_stop = round.is_moving && attempt > round.moving_since + COUNTED_ATTEMPTS_MAX;
        if attempt > COUNTED_ATTEMPTS_MAX {
            self.stop_counting(key);
        }
        if is_slow_to_stop {
            self.stop_moving(cx, key);
        }
        let retry = cx.ask_retry(attempt);
        let Some(round) = self.round_of(key) else { return };
        if !cx.sabotage.lacks(Rule::RetryAsks) && !std::mem::replace(&mut round.is_alarmed, true) {
            cx.set_timer(retry, Wakeup::Ask, Alarm::Ask(self.id, key.clone(), number));
        }
    }

    /// Members without a Free that is valid and stays so for a while; those that claim the child only when all others have
    /// one.
    fn whom_to_ask(&mut self, cx: &mut Shared, key: &ChildKey) -> Vec<Identity> {
        let now = cx.now;
        let Some(round) = self.round_of(key) else { return Vec::new() };
        let lacking = |identity: &&Identity| round.free_until(identity.instance).is_none_or(|until| until <= now);
        let mut all: Vec<Identity> = cx.membership.active().values().filter(lacking).copied().collect();
        if cx.sabotage.lacks(Rule::AskAll) {
            all.retain(|identity| self.may_own(key, identity.instance));
        }
        let claimers: Few = self.foreign_claims(key).map(|(instance, _)| instance).collect();
        let last: Vec<_> = all.extract_if(.., |identity| claimers.contains(identity.instance)).collect();
        let first = all;
        if self.round_of(key).is_some_and(|round| round.is_repeated) {
            let silent = self.silent_among(cx, key, &first);
            if !silent.is_empty() {
                return silent;
            }
        }
        // Members that are excused anyway must not keep the claimers from being asked.
        let are_excused = || self.are_excused(cx, key, &first.iter().map(|id| id.instance).collect::<Vec<_>>());
        let are_next = !last.is_empty() && (first.is_empty() || are_excused());
        let mut asked = first;
        if are_next && self.may_ask_claimers(cx, key) {
            asked.extend(last);
        }
        // Where datagrams are lost or members are slow, the first permission would have expired when the last one comes.
        let soon = now + cx.config.profile.ask_ttl() / 2;
        if let Some(round) = self.round_of(key) {
            let ends_soon = |identity: &&Identity| {
                round.free_until(identity.instance).is_some_and(|until| until > now && until <= soon)
            };
            asked.extend(cx.membership.active().values().filter(ends_soon));
        }
        asked
    }

    /// Members that answer nothing and are not excused yet. Where many go at once, each that is found to be gone voids the
    /// rounds that it was asked in: until that is over, asking the others again would be in vain, and there are many.
    fn silent_among(&self, cx: &Shared, key: &ChildKey, members: &[Identity]) -> Vec<Identity> {
        let is_silent = |identity: &&Identity| {
            let since = cx.peers.get(&identity.instance).and_then(|peer| peer.unanswered_since);
            since.is_some_and(|since| cx.now.since(since) >= cx.ask_retry(1))
        };
        let silent: Vec<Identity> = members.iter().filter(is_silent).copied().collect();
        let are_excused = self.are_excused(cx, key, &silent.iter().map(|id| id.instance).collect::<Vec<_>>());
        if are_excused { Vec::new() } else { silent }
    }

    fn claimers(&self, cx: &Shared, key: &ChildKey) -> Vec<Identity> {
        self.foreign_claims(key).filter_map(|(instance, _)| cx.membership.identity_of(instance)).collect()
    }

    fn send_asks(&mut self, cx: &mut Shared, key: &ChildKey, targets: &[Identity]) {
        let now = cx.now;
        let Some(record) = self.children.record(key) else { return };
        let (life, birth, over, run) = (record.dot, record.birth, record.over, record.value.run);
        let spec = Some(record.value.spec.clone()).filter(|spec| spec.payload_bytes() <= INLINE_SPEC_BYTES_MAX);
        let Some(round) = self.round_of(key) else { return };
        round.attempt = round.attempt.saturating_add(1);
        round.sent.push((round.attempt, now));
        if round.sent.len() > ATTEMPTS_KEPT {
            round.sent.remove(0);
        }
        let permitted: SmallVec<[InstanceId; 8]> = match round.attempt >= RELAY_FROM_ATTEMPT {
            true => round.frees.iter().filter(|(_, until)| *until > now).map(|(member, _)| *member).collect(),
            false => SmallVec::new(),
        };
        let (round, attempt) = (round.number, round.attempt);
        let ask = ScopeMessage::Ask(Ask { key: key.clone(), life, birth, over, spec, round, attempt, run });
        for &target in targets {
            cx.stats.asks_sent += 1;
            cx.peer(target.instance).unanswered_since.get_or_insert(now);
            cx.ask(target, self.id, ask.clone());
            let is_silent = permitted.binary_search(&target.instance).is_err();
            if (attempt >= RELAY_FROM_ATTEMPT && is_silent) || (attempt == 1 && cx.sites.fires(Site::RelayAtOnce)) {
                cx.stats.asks_relayed += self.relay(cx, target, &ask);
            }
        }
    }

    /// Sends a message through two other members too; through how many there are.
    pub(crate) fn relay(&self, cx: &mut Shared, target: Identity, message: &ScopeMessage) -> u64 {
        let relays = cx.membership.sample(RELAYS + 1);
        let bytes = self.relayed_bytes(cx, target.instance, message);
        let mut sent = 0;
        for relay in relays.into_iter().filter(|relay| relay.instance != target.instance).take(RELAYS) {
            sent += 1;
            cx.ask_through(relay, &Message::Relay(target, bytes.clone()));
        }
        sent
    }

    /// The messages that make sense of one message on its own.
    fn relayed_bytes(&self, cx: &Shared, to: InstanceId, message: &ScopeMessage) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes, &Message::Members(cx.membership.told(RECENT_MAX)));
        encode(&mut bytes, &Message::Scope(self.id));
        encode(&mut bytes, &Message::Scoped(self.lead(to)));
        encode(&mut bytes, &Message::Scoped(message.clone()));
        bytes
    }

    /// A newcomer has to be asked too.
    pub(crate) fn ask_newcomer(&mut self, cx: &mut Shared, key: &ChildKey, newcomer: Identity) {
        if self.round_of(key).is_some_and(|round| round.attempt > 0) {
            self.send_asks(cx, key, &[newcomer]);
        }
    }

    /// A member is gone. A Free that it gave may stay; if it gave none, what it knew may have changed everything.
    pub(crate) fn void_round_unless_free(&mut self, cx: &mut Shared, key: &ChildKey, gone: &BTreeSet<InstanceId>) {
        let Some(round) = self.round_of(key) else { return };
        let is_void = gone.iter().any(|instance| round.free_until(*instance).is_none());
        if is_void && !cx.sabotage.lacks(Rule::DownVoidsRound) {
            self.begin_round(cx, key);
        } else {
            self.try_to_start(cx, key, false);
        }
    }

    /// Starts the child if every other active member permits it, or (looked at when asking again) is excused.
    fn try_to_start(&mut self, cx: &mut Shared, key: &ChildKey, may_excuse: bool) -> bool {
        let now = cx.now;
        let active = cx.membership.active();
        let Some(Local::Waiting(round)) = self.children.get_mut(key).map(|child| &mut child.local) else {
            return false;
        };
        if round.frees.len() < active.len() && !may_excuse {
            return false;
        }
        let before = round.frees.len();
        round.frees.retain(|(_, until)| *until > now);
        cx.stats.frees_expired += (before - round.frees.len()) as u64;
        let mut silent: Vec<_> =
            active.keys().copied().filter(|instance| round.free_until(*instance).is_none()).collect();
        if cx.sabotage.lacks(Rule::AskAll) {
            silent.retain(|instance| self.may_own(key, *instance));
        }
        if cx.sabotage.lacks(Rule::ClaimsAreHints) && self.is_claimed_elsewhere(key) {
            return false;
        }
        if cx.sabotage.lacks(Rule::OnlyAnswersCount) && may_excuse {
            silent.clear();
        }
        if !silent.is_empty() && (!may_excuse || !self.are_excused(cx, key, &silent)) {
            return false;
        }
        // Whoever was asked to stop for it has: now the child runs nowhere.
        let may_start = matches!(self.round_of(key), Some(round) if round.is_moving || round.has_moved);
        if !may_start && !cx.budget.may_take() {
            self.hold(cx, key);
            return false;
        }
        self.start_run(cx, key);
        self.tell_unconfirmed(cx, key, &silent);
        true
    }

    /// Whoever fears a second run has to know of this one.
    fn tell_unconfirmed(&self, cx: &mut Shared, key: &ChildKey, silent: &[InstanceId]) {
        let Some(Local::Active(run)) = self.children.get(key).map(|child| &child.local) else { return };
        if silent.is_empty() {
            return;
        }
        let (id, epoch) = (key.id().clone(), run.epoch);
        let silent = silent.iter().filter_map(|instance| cx.membership.identity_of(*instance)).map(|member| {
            let name = self.name_of(member.instance).unwrap_or_else(|| member.addr.to_string().into());
            SilentMember { name, addr: member.addr, instance: member.instance }
        });
        let event = Event::StartedUnconfirmed { id, epoch, silent: silent.collect() };
        cx.stats.starts_without_answer += 1;
        cx.event(self.id, event);
    }

    /// Members that answer nothing at all for `confirm_timeout` do not hold up a child that they do not claim.
    fn are_excused(&self, cx: &Shared, key: &ChildKey, silent: &[InstanceId]) -> bool {
        let Some(timeout) = cx.config.confirm_timeout else { return false };
        silent.iter().all(|instance| {
            let since = cx.peers.get(instance).and_then(|peer| peer.unanswered_since);
            since.is_some_and(|since| cx.now.since(since) >= timeout)
                && !self.foreign_claims(key).any(|(claimer, _)| claimer == *instance)
        })
    }

    /// This node runs a child that another one claims too, and owns it: ask that one until it has stopped.
    pub(crate) fn challenge(&mut self, cx: &mut Shared, key: &ChildKey) {
        self.rounds = self.rounds.wrapping_add(1);
        let number = self.rounds;
        let Some((life, ..)) = self.life(key) else { return };
        let Some(Local::Active(run)) = self.children.get_mut(key).map(|child| &mut child.local) else { return };
        if run.challenge.is_none() {
            run.challenge = Some(Box::new(Round::new(number, life)));
            cx.stats.challenges += 1;
            self.children.follow(key);
            self.ask_again(cx, key, number);
        }
    }

    fn end_challenge(&mut self, key: &ChildKey) {
        if let Some(Local::Active(run)) = self.children.get_mut(key).map(|child| &mut child.local) {
            run.challenge = None;
            self.children.follow(key);
        }
    }

    /// Somebody wants to start a child.
    pub(crate) fn handle_ask(&mut self, cx: &mut Shared, from: Identity, ask: Ask) {
        let key = ask.key.clone();
        self.merge_asked_life(cx, &ask);
        self.handle_ack(cx, from.instance, &key, ask.life);
        self.settle_dirty(cx);
        let Ask { round, attempt, life: asked, birth, .. } = ask;
        let asker = Asker { instance: from.instance, round, attempt, asked, birth, via: cx.via };
        let is_owner = self.owner(&key) == Some(from.instance);
        let verdict = match self.children.get_mut(&key).map(|child| &mut child.local) {
            None | Some(Local::Idle) => Verdict::Free,
            Some(Local::Waiting(_)) => {
                if self.owner(&key) == Some(self.me) {
                    Verdict::Busy
                } else {
                    self.stop_waiting(cx, &key);
                    Verdict::Free
                }
            }
            Some(Local::Active(run)) => match run.phase {
                Phase::Stopping => {
                    run.asker = Some(Box::new(asker.clone()));
                    Verdict::Busy
                }
                Phase::Backoff if is_owner => {
                    self.end_run(cx, &key);
                    Verdict::Free
                }
                Phase::Starting | Phase::Running
                    if is_owner
                        && (run.spec.restart != Restart::Temporary || cx.sabotage.lacks(Rule::TemporaryStays)) =>
                {
                    run.asker = Some(Box::new(asker.clone()));
                    cx.stats.stops_for_move += 1;
                    self.stop_run(cx, &key);
                    if cx.sabotage.lacks(Rule::FreeOnlyWhenStopped) { Verdict::Free } else { Verdict::Busy }
                }
                Phase::Starting | Phase::Running | Phase::Backoff => Verdict::Busy,
            },
        };
        self.answer(cx, &key, &asker, verdict);
    }

    /// The life that the asker means, learnt from its Ask.
    fn merge_asked_life(&mut self, cx: &mut Shared, ask: &Ask) {
        if let Some(spec) = &ask.spec {
            let value = super::group::Desired { spec: spec.clone(), run: ask.run };
            let record = Record { dot: ask.life, birth: ask.birth, over: ask.over, value };
            self.take_desired(cx, ask.key.clone(), record);
        }
        if let Some(record) = self.children.record(&ask.key)
            && record.dot == ask.life
            && let Some(value) = self.children.value_mut(&ask.key)
        {
            value.run = value.run.max(ask.run);
        }
    }

    /// Answers an Ask, now or when the child that it waited for has stopped.
    pub(crate) fn answer(&mut self, cx: &mut Shared, key: &ChildKey, asker: &Asker, verdict: Verdict) {
        let Some(to) = cx.membership.identity_of(asker.instance) else { return };
        let held = self.children.record(key);
        let is_same = held.is_some_and(|record| record.dot == asker.asked);
        let is_over = !is_same && self.desired.seen().contains(asker.asked);
        let run = held.filter(|_| is_same).map_or(0, |record| record.value.run);
        let other = held.filter(|_| is_over);
        let has_won = other.is_some_and(|other| {
            other.over == Some(asker.asked) || (other.birth, other.dot) > (asker.birth, asker.asked)
        });
        let life = match is_over {
            false => Life::Fine,
            true if has_won && !cx.sabotage.lacks(Rule::ReplacedIsNotGone) => Life::Replaced,
            true => Life::Gone(self.desired.top()),
        };
        let other = other.filter(|other| other.value.spec.payload_bytes() <= INLINE_SPEC_BYTES_MAX).cloned();
        match verdict {
            Verdict::Free => cx.stats.answers_free += 1,
            Verdict::Busy => cx.stats.answers_busy += 1,
        }
        let (round, attempt, asked) = (asker.round, asker.attempt, asker.asked);
        let key = key.clone();
        let answer = Answer { key: key.clone(), to: to.instance, round, attempt, verdict, asked, life, run };
        if let Some(other) = other {
            self.send_back(cx, to, asker.via, ScopeMessage::Put(key, other));
        }
        self.send_back(cx, to, asker.via, ScopeMessage::Answer(answer));
    }

    /// Replies directly, and through the member through which the message came.
    pub(crate) fn send_back(&self, cx: &mut Shared, to: Identity, via: Option<Identity>, message: ScopeMessage) {
        if let Some(relay) = via.filter(|relay| relay.instance != to.instance) {
            let bytes = self.relayed_bytes(cx, to.instance, &message);
            cx.send(relay, &Message::Relay(to, bytes));
        }
        cx.send_scoped(to, self.id, message);
    }

    /// A member answered, and everybody that it knows is known here too.
    pub(crate) fn handle_answer(&mut self, cx: &mut Shared, from: Identity, answer: Answer) {
        if answer.to != self.me {
            return;
        }
        let key = &answer.key;
        match answer.life {
            _ if cx.sabotage.lacks(Rule::AnswersCarryLife) => {}
            // Not removed: until what replaced it is here too, this may be the last copy of either.
            Life::Replaced => {
                if let Some(round) = self.round_of(key).filter(|round| round.number == answer.round) {
                    round.frees.retain(|(member, _)| *member != from.instance);
                }
                self.settle_dirty(cx);
                return;
            }
            Life::Gone(birth) => self.take_delete(cx, key, answer.asked, birth),
            Life::Fine => {
                let held = self.children.record(key).filter(|record| record.dot == answer.asked);
                if held.is_some_and(|record| record.value.run < answer.run)
                    && let Some(value) = self.children.value_mut(key)
                {
                    value.run = answer.run;
                }
            }
        }
        self.settle_dirty(cx);
        match answer.verdict {
            Verdict::Free => self.handle_free(cx, from, &answer),
            Verdict::Busy => {
                if let Some(Local::Waiting(round)) = self.children.get_mut(key).map(|child| &mut child.local) {
                    let _ = self.gaps.end(&mut round.gap, cx.now);
                    self.gaps.begin(&mut round.gap, cx.now);
                }
            }
        }
    }

    fn handle_free(&mut self, cx: &mut Shared, from: Identity, answer: &Answer) {
        let key = &answer.key;
        let is_bound = !cx.sabotage.lacks(Rule::AnswersBoundToRound);
        let Some(round) = self.round_of(key).filter(|round| !is_bound || round.number == answer.round) else { return };
        let Some(sent) = round.sent_at(answer.attempt).or((!is_bound).then_some(cx.now)) else { return };
        let expires = !cx.sabotage.lacks(Rule::FreeExpires);
        let until = if expires { sent + cx.config.profile.ask_ttl() } else { Time::from_nanos(u64::MAX) };
        if until <= cx.now {
            cx.stats.frees_expired += 1;
            return;
        }
        let rtt = cx.now.since(sent);
        cx.rtt = if cx.sites.fires(Site::ForgetRtt) { RTT_GUESS } else { (cx.rtt * 7 + rtt) / 8 };
        round.take_free(from.instance, until);
        self.void_claims(cx, key, from.instance);
        if !self.is_claimed_elsewhere(key)
            && let Some(Local::Waiting(round)) = self.children.get_mut(key).map(|child| &mut child.local)
        {
            self.gaps.begin(&mut round.gap, cx.now);
        }
        if matches!(self.children.get(key).map(|child| &child.local), Some(Local::Waiting(_))) {
            if !self.try_to_start(cx, key, false) {
                self.ask_claimers_last(cx, key);
            }
        } else if !self.is_claimed_elsewhere(key) {
            self.end_challenge(key);
        }
    }

    /// All others permit it: now those that claim the child are asked, without waiting for the next attempt. By then some
    /// permission may have expired, and in a larger cluster at every attempt some has.
    fn ask_claimers_last(&mut self, cx: &mut Shared, key: &ChildKey) {
        let Some(round) = self.round_of(key) else { return };
        let lacking = cx.membership.active().len().saturating_sub(round.frees.len());
        if lacking == 0 || lacking > CLAIMERS_MAX || round.are_claimers_asked {
            return;
        }
        let claimers = self.claimers(cx, key);
        if lacking == claimers.len() && self.may_ask_claimers(cx, key) {
            cx.stats.claimers_asked_last += 1;
            self.send_asks(cx, key, &claimers);
            if let Some(round) = self.round_of(key) {
                round.are_claimers_asked = true;
            }
        }
    }

    /// Whoever answers Free runs nothing, whatever it claimed before.
    fn void_claims(&mut self, cx: &mut Shared, key: &ChildKey, instance: InstanceId) {
        if cx.sabotage.lacks(Rule::ClaimsAreHints) {
            return;
        }
        let owned = OwnedKey::claim(key, instance);
        let is_live = |record: &&Record<Owned>| matches!(&record.value, Owned::Claim(claim) if claim.is_live());
        let Some(dot) = self.children.owned(&owned).filter(is_live).map(|record| record.dot) else { return };
        if let Some(round) = self.round_of(key) {
            round.predecessor = Some(instance);
        }
        if let Some(removed) = self.owned.delete(&mut self.children, &owned, dot, 0) {
            self.note_owned_gone(cx, &owned, &removed);
        }
    }

    /// This node is not the owner any more.
    pub(crate) fn stop_waiting(&mut self, cx: &mut Shared, key: &ChildKey) {
        self.end_round(cx, key);
        if let Some(child) = self.children.get_mut(key)
            && let Local::Waiting(round) = &mut child.local
        {
            let mut gap = std::mem::take(&mut round.gap);
            child.local = Local::Idle;
            self.children.follow(key);
            self.end_gap(cx, key, &mut gap);
        }
    }

    /// Whether the round was begun for the life that is held.
    pub(crate) fn is_round_for(&self, key: &ChildKey, life: Dot) -> bool {
        match self.children.get(key).map(|child| &child.local) {
            Some(Local::Waiting(round)) => round.life == life,
            _ => false,
        }
    }
}
