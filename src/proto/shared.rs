//! What the parts of a node share: time, membership, what is to be sent, done and woken for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chacha20::ChaCha8Rng;
use rand_core::Rng;

use super::budget::Budget;
use super::group::ChildKey;
use super::links::Links;
use super::membership::Membership;
use super::notices::Notices;
use super::outbox::{Gossip, Outbox, encode_sender};
use super::packet::Codec;
use super::questions::{Questions, TURN};
use super::sites::Sites;
use super::timer::Timers;
use super::wire::{Exchange, Message, ScopeMessage};
use super::{Identity, InstanceId, Output, Reply, RequestId, RunId, Sabotage, ScopeId, Stats, Time, Wakeup};
use crate::config::Config;
use crate::info::Event;

/// Up to so many other members hear of every change directly; in larger clusters it spreads by gossip.
const FANOUT_MAX: usize = 16;

/// From which size on a cluster is large, so that what has to get around goes from one to the next.
///
/// It is the same for every node. A test may lower it, so that small clusters take the paths of large ones; without the
/// feature `simulation` it is a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fanout(usize);

impl Default for Fanout {
    fn default() -> Self {
        Fanout(FANOUT_MAX)
    }
}

impl Fanout {
    /// Up to so many other members hear of every change directly.
    pub fn at_most(members: usize) -> Self {
        Fanout(members)
    }

    /// How many other members hear of every change directly at most.
    #[inline]
    pub fn max(self) -> usize {
        if cfg!(feature = "simulation") { self.0 } else { FANOUT_MAX }
    }
}

/// The shortest time after which an Ask is repeated: below it, a busy receiver would only be asked twice.
const ASK_RETRY_MIN: Duration = Duration::from_millis(10);
/// What an Ask and its answer are taken to need before one was measured.
pub(crate) const RTT_GUESS: Duration = Duration::from_millis(2);
/// The longest: where four of ten datagrams are lost, a dozen attempts fit into the life of a permission.
pub(crate) const ASK_RETRY_MAX: Duration = Duration::from_millis(100);

/// How often idle streams are looked for, while there are any.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What a timer is for. Whoever is woken looks whether there is still something to do.
#[derive(Clone, Debug)]
pub(crate) enum Alarm {
    /// Ask again in this round.
    Ask(ScopeId, ChildKey, u32),
    /// Begin the rounds that have gathered.
    AskTick(ScopeId),
    /// Ask the next members.
    Questions,
    /// A start that takes long gives its place in the budget up.
    Places,
    /// Tell of children that are still starting.
    Tell(ScopeId),
    /// Tell how far the starts are that are under way.
    Progress(ScopeId),
    /// Repeat a direct message.
    Direct(ScopeId, ChildKey, u32),
    /// A backoff ends.
    Backoff(ScopeId, ChildKey, RunId),
    /// The safety net.
    Sync,
    /// Pass rumours on.
    Gossip,
    /// Look whether a scope may settle.
    Settle(ScopeId),
    /// A pull may be overdue or wanted.
    Exchange(ScopeId),
    /// Close idle streams.
    Sweep,
    /// Choose watchers, and dial those that are missing.
    Watch,
    /// Go on with the look of this number.
    Look(u64),
    /// Give a sign of life.
    Pulse,
    /// Ask a member again that is doubted.
    Doubt(InstanceId),
    /// Ask a member again that was said to be dead.
    Obituary(InstanceId),
    /// A search for an unknown child is over.
    Find(ScopeId, u64),
    /// Look whether this node may leave.
    Leave,
    /// Forget writers that are long dead.
    Prune,
}

/// What this node remembers of another instance, beside its membership.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// Since when it has been asked without answering anything.
    pub(crate) unanswered_since: Option<Time>,
    /// When it was last sent this node's table, unasked members excepted.
    pub(crate) table_sent: Option<Time>,
    /// When its table was last asked for.
    pub(crate) table_asked: Option<Time>,
    /// When it became active.
    pub(crate) up_since: Time,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) now: Time,
    pub(crate) config: Config,
    pub(crate) name: Arc<str>,
    pub(crate) wall_ms_at_zero: u64,
    pub(crate) sabotage: Sabotage,
    pub(crate) sites: Sites,
    pub(crate) fanout: Fanout,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) membership: Membership,
    pub(crate) codec: Codec,
    pub(crate) links: Links,
    pub(crate) sweep_set: bool,
    pub(crate) outbox: Outbox,
    pub(crate) questions: Questions,
    pub(crate) gossip: Gossip,
    pub(crate) gossip_set: bool,
    /// When something was not passed on last because too much else was.
    pub(crate) gossip_full: Option<Time>,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) timers: Timers<Alarm>,
    pub(crate) stats: Stats,
    pub(crate) notices: Notices,
    pub(crate) peers: BTreeMap<InstanceId, Peer>,
    pub(crate) budget: Budget,
    /// Smoothed time from an Ask to its answer.
    pub(crate) rtt: Duration,
    pub(crate) runs: u64,
    /// While messages that came through another member are handled: that member.
    pub(crate) via: Option<Identity>,
    pub(crate) draining: bool,
}

impl Shared {
    pub(crate) fn me(&self) -> Identity {
        self.membership.me()
    }

    /// Milliseconds since the Unix epoch, for showing only.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.wall_ms_at_zero + self.now.as_nanos() / 1_000_000
    }

    pub(crate) fn next_run(&mut self) -> RunId {
        self.runs += 1;
        RunId(self.runs)
    }

    /// The number of members, this one included.
    pub(crate) fn size(&self) -> usize {
        self.membership.active().len() + 1
    }

    /// Whether members are so few that each may deal with every other at once. Where they are many that would be the
    /// square of their number, so what has to get around goes from one to the next.
    pub(crate) fn is_small(&self) -> bool {
        self.membership.active().len() <= self.fanout.max()
    }

    pub(crate) fn set_timer(&mut self, after: Duration, reason: Wakeup, alarm: Alarm) {
        let after = self.sites.ring_after(after, &alarm);
        self.timers.set(self.now + after, reason, alarm);
    }

    pub(crate) fn event(&mut self, scope: ScopeId, event: Event) {
        self.outputs.push_back(Output::Event { scope, event });
    }

    pub(crate) fn reply(&mut self, request: RequestId, reply: Reply) {
        self.outputs.push_back(Output::Reply { request, reply });
    }

    pub(crate) fn peer(&mut self, instance: InstanceId) -> &mut Peer {
        self.peers.entry(instance).or_default()
    }

    pub(crate) fn send(&mut self, to: Identity, message: &Message) {
        self.outbox.push(to, message);
    }

    pub(crate) fn send_scoped(&mut self, to: Identity, scope: ScopeId, message: ScopeMessage) {
        self.outbox.push_scoped(to, scope, message);
    }

    /// Asks a member something that many are asked at once.
    pub(crate) fn ask(&mut self, to: Identity, scope: ScopeId, question: ScopeMessage) {
        if self.is_small() {
            self.send_scoped(to, scope, question);
        } else {
            self.questions.push(to, scope, question);
        }
    }

    /// Asks a member something through another one.
    pub(crate) fn ask_through(&mut self, relay: Identity, question: &Message) {
        if self.is_small() {
            self.send(relay, question);
        } else {
            self.questions.push_relayed(relay, question);
        }
    }

    /// Lets the next members be asked when their turn comes.
    pub(crate) fn follow_questions(&mut self) {
        if self.questions.needs_turn() {
            self.set_timer(TURN, Wakeup::Ask, Alarm::Questions);
        }
    }

    /// How long it takes to ask all members.
    pub(crate) fn asking_time(&self) -> Duration {
        TURN * self.questions.turns(self.membership.active().len())
    }

    /// Tells every member, where they are few; says whether it did.
    pub(crate) fn send_to_all(&mut self, scope: ScopeId, message: ScopeMessage) -> bool {
        if !self.is_small() {
            return false;
        }
        let members = self.membership.active();
        self.outbox.push_to_all(members.values().copied(), scope, message);
        true
    }

    /// Sends a step of an exchange, which always takes a stream.
    pub(crate) fn send_exchange(&mut self, to: Identity, scope: ScopeId, step: Exchange) {
        let mut frame = self.frame();
        self.stats.encode(&mut frame, &Message::Scope(scope));
        self.stats.encode(&mut frame, &Message::Scoped(ScopeMessage::Exchange(step)));
        self.send_frame(to, frame);
    }

    /// A frame with nothing in it but who sends it.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(256);
        self.codec.begin(&mut frame, &[]);
        encode_sender(&mut frame, self.me());
        frame
    }

    /// Sends a frame to a member.
    pub(crate) fn send_frame(&mut self, to: Identity, frame: Vec<u8>) {
        self.links.send(self.now, to, frame, &mut self.codec, &mut self.outputs, &mut self.stats);
        if !self.sweep_set {
            self.sweep_set = true;
            self.set_timer(SWEEP_INTERVAL, Wakeup::Stream, Alarm::Sweep);
        }
    }

    /// Lets a fresh record ride on what is sent anyway, and on packets of its own while there is any.
    pub(crate) fn spread(&mut self, scope: ScopeId, message: ScopeMessage) {
        let members = self.size();
        if members == 1 {
            return;
        }
        if !self.gossip.add(scope, message, members, self.me().instance) {
            self.stats.gossip_dropped += 1;
            if self.gossip.is_full() {
                self.gossip_full = Some(self.now);
            }
        } else if !self.gossip_set {
            self.gossip_set = true;
            self.set_timer(self.config.profile.gossip_interval(), Wakeup::Gossip, Alarm::Gossip);
        }
    }

    /// How long to wait for an answer before asking again for the `attempt`th time. Members that are busy with a bulk
    /// answer late; asking them twice would make it later.
    pub(crate) fn ask_retry(&self, attempt: u32) -> Duration {
        let first = (self.rtt * 4).max(ASK_RETRY_MIN) + self.asking_time();
        first.saturating_mul(1 << attempt.saturating_sub(1).min(8)).min(ASK_RETRY_MAX.max(self.rtt * 2))
    }

    /// A fraction in [0, 1) for jitter.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.rng.next_u64() >> 40) as f64 / (1u64 << 24) as f64
    }
}
