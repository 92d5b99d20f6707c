//! The surface of the state machine, and the only place where its parts meet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use chacha20::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::allowance::Allowance;
use super::budget::Budget;
use super::group::ChildKey;
use super::group::records::{LABELS_MAX, RECORD_BYTES_MAX, record_bytes};
use super::links::{IDLE_TIMEOUT, Links};
use super::lives::Lives;
use super::looks::Looks;
use super::membership::{Change, Membership, Standing};
use super::notices::Notices;
use super::obituaries::Obituaries;
use super::outbox::{Gossip, Outbox};
use super::packet::{Codec, Life};
use super::questions::Questions;
use super::refusals::Refusals;
use super::scope::Scope;
use super::shared::{Alarm, RTT_GUESS, Shared};
use super::sites::Sites;
use super::sources::Sources;
use super::suspicion::Doubts;
use super::timer::Timers;
use super::transmits::Transmits;
use super::wire::{Message, Roots};
use super::{
    ChildEvent, Command, ConnId, Fanout, FaultSites, Identity, InstanceId, Output, Page, Reply, RequestId, Rule, RunId,
    Sabotage, ScopeId, ScopeSetup, Site, Stats, StreamEvent, Time, Transmit, Wakeup,
};
use crate::child::{ChildId, NAME_BYTES_MAX};
use crate::config::{Config, ConfigError};
use crate::error::{JoinScopeError, Unavailable};
use crate::info::{Event, Location, MemberInfo, Which};

mod believing;
mod doubting;
mod examining;
mod figures;
mod handshakes;
mod leaving;
mod obituaries;
mod packets;
mod sizes;
mod tables;
mod watching;

use leaving::Leaving;
pub use sizes::Size;
use tables::Deferred;
use watching::Choice;

/// Those that are told within a second that they are down: enough to wake whoever slept, too few to be an amplifier.
const YOU_ARE_DOWN_PER_SECOND_MAX: usize = 20;
/// How often writers that are long dead are looked for.
const PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// One node as a deterministic state machine.
///
/// Inputs are the `handle_*` methods and [`command`](Self::command). After an input (or a batch of them: what is
/// handled together is sent together) the caller drains [`poll_transmit`](Self::poll_transmit) until it is empty,
/// then [`poll_output`](Self::poll_output), and asks [`poll_timeout`](Self::poll_timeout) when to call
/// [`handle_timeout`](Self::handle_timeout).
#[derive(Debug)]
pub struct Node {
    cx: Shared,
    scopes: BTreeMap<ScopeId, Scope>,
    transmits: Transmits,
    /// The scope whose turn it was last to go on with a child that was held.
    released: ScopeId,
    /// When the longest start is looked at.
    places_due: Option<Time>,
    /// A SWIM packet and a datagram while they are put together.
    scratch: (Vec<u8>, Vec<u8>),
    /// What was sealed, while it is read.
    opened: Vec<u8>,
    leaving: Option<Leaving>,
    has_left: bool,
    you_are_down: Allowance,
    examinations: Allowance,
    refusals: Refusals,
    lives: Lives,
    sources: Sources,
    looks: Looks,
    choice: Choice,
    doubts: Doubts,
    obituaries: Obituaries,
    deferred: Deferred,
    /// The identity under which everything so far was sent.
    known_as: Identity,
}

/// What a node is, beside its [`Config`].
#[derive(Clone, Debug)]
pub struct Birth {
    /// The advertised address.
    pub addr: SocketAddr,
    /// This life of the node: random, never used before.
    pub instance: InstanceId,
    /// The seed of every random choice.
    pub seed: [u8; 32],
    /// The wall clock at `Time::ZERO`, in milliseconds since the Unix epoch; only for showing "since when".
    pub wall_ms_at_zero: u64,
    /// Test switches, all off in production.
    pub sabotage: Sabotage,
    /// Fault sites, all off in production.
    pub fault_sites: FaultSites,
    /// From which size on a cluster is large; the same for every node.
    pub fanout: Fanout,
}

impl Node {
    /// A node that has not spoken to anybody yet.
    ///
    /// # Errors
    /// Everything that is wrong with `config`.
    pub fn new(config: &Config, birth: Birth, now: Time) -> Result<Node, ConfigError> {
        config.check()?;
        let name: Arc<str> = config.name.clone().unwrap_or_else(|| birth.addr.to_string()).into();
        let mut rng = ChaCha8Rng::from_seed(birth.seed);
        let mut swim_seed = [0; 32];
        rng.fill_bytes(&mut swim_seed);
        let me = Identity { addr: birth.addr, bump: 0, instance: birth.instance };
        let limits = &config.limits;
        let codec = match config.security.keys() {
            None => Codec::plaintext(&config.cluster),
            // Never in plaintext for want of a key.
            Some([]) => return Err(ConfigError { reasons: vec!["security is a keyring and has no keys".into()] }),
            Some(keys) => {
                let life = Life { instance: birth.instance, salt: rng.next_u64().to_be_bytes() };
                Codec::keyed(&config.cluster, keys, life)
            }
        };
        let mut cx = Shared {
            now,
            name,
            wall_ms_at_zero: birth.wall_ms_at_zero,
            sabotage: birth.sabotage,
            sites: Sites::new(birth.fault_sites, birth.instance),
            fanout: birth.fanout,
            rng,
            membership: Membership::new(me, config, birth.sabotage, swim_seed, now),
            codec,
            links: Links::new(limits.streams_max, limits.stream_backlog_bytes_max),
            sweep_set: false,
            outbox: Outbox::default(),
            questions: Questions::new(birth.instance, birth.fanout),
            gossip: Gossip::default(),
            gossip_set: false,
            gossip_full: None,
            outputs: VecDeque::new(),
            timers: Timers::default(),
            stats: Stats::default(),
            notices: Notices::default(),
            peers: BTreeMap::new(),
            budget: Budget::new(config.limits.starting_max),
            rtt: RTT_GUESS,
            runs: 0,
            via: None,
            draining: false,
            config: config.clone(),
        };
        // Nodes that start together must not compare states together for ever.
        let jitter = cx.config.sync_interval.mul_f64(0.5 + cx.fraction() / 2.0);
        cx.set_timer(jitter, Wakeup::Sync, Alarm::Sync);
        cx.set_timer(PRUNE_INTERVAL, Wakeup::Sync, Alarm::Prune);
        let jitter = cx.config.profile.pulse_period().mul_f64(cx.fraction());
        cx.set_timer(jitter, Wakeup::Membership, Alarm::Pulse);
        Ok(Node {
            cx,
            scopes: BTreeMap::new(),
            transmits: Transmits::default(),
            released: ScopeId::of(""),
            places_due: None,
            scratch: Default::default(),
            opened: Vec::new(),
            leaving: None,
            has_left: false,
            you_are_down: Allowance::per_second(YOU_ARE_DOWN_PER_SECOND_MAX, now),
            examinations: Allowance::per_second(examining::PER_SECOND_MAX, now),
            refusals: Refusals::default(),
            lives: Lives::new(limits.members_max),
            sources: Sources::new(birth.instance, now),
            looks: Looks::default(),
            choice: Choice::default(),
            doubts: Doubts::default(),
            obituaries: Obituaries::default(),
            deferred: Deferred::new(now),
            known_as: me,
        })
    }

    /// A datagram arrived.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, bytes: &[u8]) {
        self.advance(now);
        self.cx.stats.datagrams_received += 1;
        self.cx.stats.datagram_bytes_received += bytes.len() as u64;
        self.take_datagram(from, bytes);
        self.after_input();
    }

    /// Something happened to a stream.
    pub fn handle_stream(&mut self, now: Time, conn: ConnId, event: StreamEvent<'_>) {
        self.advance(now);
        if self.obituary_heard(conn, &event) || self.look_heard(conn, event) {
            return self.after_input();
        }
        match event {
            StreamEvent::Connected => self.stream_connected(conn),
            StreamEvent::Accepted { from } => {
                if let Some(reason) = self.cx.links.accepted(now, conn, from, &mut self.cx.outputs, &mut self.cx.stats)
                {
                    self.tell_refusal(from, reason);
                }
                self.set_sweep();
            }
            StreamEvent::Frame(bytes) => self.take_frame(conn, bytes),
            StreamEvent::Refused | StreamEvent::Closed => {
                let ended = self.cx.links.closed(conn);
                self.stream_ended(ended);
            }
        }
        self.after_input();
    }

    /// Something happened to a run of a child.
    pub fn handle_child(&mut self, now: Time, run: RunId, event: ChildEvent) {
        self.advance(now);
        if let Some(scope) = self.scopes.values_mut().find(|scope| scope.runs.get(run).is_some()) {
            scope.handle_child(&mut self.cx, run, event);
        }
        self.look_whether_last();
        self.after_input();
    }

    /// The seeds were resolved (empty if none could be).
    pub fn handle_seeds(&mut self, now: Time, seeds: &[SocketAddr]) {
        self.advance(now);
        self.cx.membership.set_seeds(seeds);
        for seed in self.cx.membership.missing_seeds() {
            self.cx.links.join(now, seed, &mut self.cx.outputs, &mut self.cx.stats);
        }
        self.set_sweep();
        self.after_input();
    }

    /// The deadline of [`poll_timeout`](Self::poll_timeout) has come. Early or late calls do no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        self.advance(now);
        self.cx.membership.handle_timeout(now, &mut self.cx.stats);
        self.follow_membership();
        while let Some(alarm) = self.cx.timers.pop(now) {
            self.ring(alarm);
        }
        self.look_who_is_overdue();
        self.after_input();
    }

    /// A user calls.
    pub fn command(&mut self, now: Time, request: RequestId, command: Command) {
        self.advance(now);
        if self.has_left {
            self.cx.reply(request, Reply::Unavailable(Unavailable::NodeGone));
            return;
        }
        match command {
            Command::JoinScope(setup) => {
                let joined = self.join_scope(setup);
                self.cx.reply(request, Reply::Joined(joined));
            }
            Command::SetKeyring { keys } => {
                let set = self.set_keyring(&keys);
                self.cx.reply(request, Reply::KeyringSet(set));
            }
            Command::Leave { timeout } => self.leave(request, timeout),
            Command::Start { scope, .. }
            | Command::Update { scope, .. }
            | Command::Terminate { scope, .. }
            | Command::WhichChildren { scope, .. }
            | Command::Whereis { scope, .. }
            | Command::WaitUntilRunning { scope, .. } => match self.scopes.get_mut(&scope) {
                Some(scope) => scope.call(&mut self.cx, request, command),
                None => self.cx.reply(request, Reply::Unavailable(Unavailable::NodeGone)),
            },
        }
        self.after_input();
    }

    /// The user does not wait for the answer any more.
    pub fn cancel(&mut self, request: RequestId) {
        self.cancel_leave(request);
        for scope in self.scopes.values_mut() {
            scope.cancel(request);
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit<'_>> {
        if self.transmits.is_empty() {
            self.cx.now = self.cx.now.max(now);
            self.transmits.clear();
            self.flush();
        }
        self.transmits.pop(&mut self.cx.stats)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        // The answer to a listing and the farewell end the input that they belong to: callers may rely on that.
        match self.cx.outputs.front() {
            None => self.cx.sites.outputs_taken(),
            Some(Output::Reply { .. }) => {}
            Some(_) if self.has_left => {}
            Some(_) => {
                let outputs = &self.cx.outputs;
                let holds_news = || outputs.iter().any(|output| matches!(output, Output::Event { .. }));
                if self.cx.sites.withholds_output(holds_news) {
                    return None;
                }
            }
        }
        let output = self.cx.outputs.pop_front();
        if let Some(Output::Frame { bytes, .. }) = &output {
            self.cx.stats.frames_sent += 1;
            self.cx.stats.frame_bytes_sent += bytes.len() as u64;
        }
        output
    }

    /// When to call `handle_timeout`, and why.
    pub fn poll_timeout(&self) -> Option<(Time, Wakeup)> {
        let withheld = self.cx.sites.is_withholding().then_some((self.cx.now, Wakeup::Call));
        let overdue = self.doubts.next_look().map(|at| (at, Wakeup::Membership));
        let earliest = [withheld, self.cx.timers.next(), self.cx.membership.poll_timeout(), overdue];
        if self.has_left { None } else { earliest.into_iter().flatten().min() }
    }

    /// Whether both ends of a stream know each other. Until then its other end has no reason to send a frame above
    /// [`HELLO_BYTES_MAX`](super::HELLO_BYTES_MAX).
    pub fn has_shaken_hands(&self, conn: ConnId) -> bool {
        self.cx.links.is_open(conn)
    }

    /// Counters since the start; the gauges are zero, [`measured`](Self::measured) has them.
    pub fn stats(&self) -> &Stats {
        &self.cx.stats
    }

    /// How often each fault site fired.
    pub fn sites_fired(&self) -> impl Iterator<Item = (Site, u64)> + use<> {
        self.cx.sites.fired()
    }

    /// The identity under which the others know this node.
    pub fn identity(&self) -> Identity {
        self.cx.me()
    }

    /// This node's stable name.
    pub fn name(&self) -> &str {
        &self.cx.name
    }

    /// Every other instance that this node regards as active, for tests and the simulator.
    pub fn active(&self) -> Vec<Identity> {
        self.cx.membership.active().values().copied().collect()
    }

    /// Where a child runs, as far as this node knows; `None` if a command has to be given instead, which waits until the
    /// scope has settled, or is refused.
    pub fn whereis(&self, scope: ScopeId, id: &ChildId) -> Option<Option<Location>> {
        Some(self.open_scope(scope)?.locate(&ChildKey::new(id.clone())))
    }

    /// A part of a listing, for which `max` children are looked at: the first one if `end` is `None`, or the one that
    /// [`Page::next`] of the one before led to; `None` as for [`whereis`](Self::whereis). All parts together are no
    /// snapshot: a child that comes or goes meanwhile is in them or not, every other one is. Where children go meanwhile,
    /// others may be in two parts; what the later one says is younger.
    pub fn page(&self, scope: ScopeId, which: Which, end: Option<usize>, max: usize) -> Option<Page> {
        Some(self.open_scope(scope)?.page(which, end, max))
    }

    /// A scope that answers at once.
    fn open_scope(&self, scope: ScopeId) -> Option<&Scope> {
        self.scopes.get(&scope).filter(|scope| scope.is_settled() && !self.has_left)
    }

    /// The live members of a scope, ordered by name. Copied when asked for and not with every change: in a large
    /// cluster that forms, they change far more often than anybody looks.
    pub fn members(&self, scope: ScopeId) -> Vec<MemberInfo> {
        self.scopes.get(&scope).map(Scope::member_infos).unwrap_or_default()
    }

    /// The root of a scope's replicated state, for tests and the simulator.
    pub fn root(&self, scope: ScopeId) -> Option<u64> {
        self.scopes.get(&scope).map(Scope::root)
    }

    /// A sum over the records that a scope holds, without what was only seen, for tests and the simulator.
    pub fn records_root(&self, scope: ScopeId) -> Option<u64> {
        self.scopes.get(&scope).map(Scope::records_root)
    }

    /// How many writers this node remembers in a scope and how many ranges of their serial numbers, for tests and
    /// the simulator.
    pub fn seen_size(&self, scope: ScopeId) -> Option<(usize, usize)> {
        let seen = self.scopes.get(&scope)?.desired.seen();
        Some((seen.len(), seen.ranges()))
    }

    /// Whether this node waits for nothing in any scope: no round, no stop, no backoff is pending.
    pub fn is_quiet(&self) -> bool {
        self.scopes.values().all(|scope| scope.is_settled() && scope.children.unstable_len() == 0)
    }

    /// Time passes. A call that comes later than the deadline asked for, by half the life of a permission, means that
    /// this process stood still, and then nothing that was permitted before counts.
    fn advance(&mut self, now: Time) {
        let due = self.poll_timeout().map_or(now, |(at, _)| at);
        let lateness = now.since(due.max(self.cx.now));
        self.cx.now = self.cx.now.max(now);
        self.cx.sites.release_outputs();
        if lateness >= self.cx.config.profile.ask_ttl() / 2 && !self.has_left {
            self.cx.stats.pauses += 1;
            tracing::warn!(?lateness, "this process stood still");
            self.begin_anew();
        }
    }

    /// This process stood still: what it had found out of others counts no more, and nobody had a chance to be heard.
    fn begin_anew(&mut self) {
        let (now, sabotage) = (self.cx.now, self.cx.sabotage);
        self.cx.membership.handle_pause(now);
        if !sabotage.lacks(Rule::PauseEndsLooks) {
            self.end_looks();
        }
        if !sabotage.lacks(Rule::PauseRestartsDoubts) {
            self.doubts.restart();
        }
        for scope in self.scopes.values_mut() {
            if !sabotage.lacks(Rule::PauseRestartsWait) {
                scope.wait_anew(now);
            }
            if !sabotage.lacks(Rule::PauseVoidsRounds) {
                scope.void_all_rounds(&mut self.cx);
            }
        }
    }

    fn join_scope(&mut self, setup: ScopeSetup) -> Result<ScopeId, JoinScopeError> {
        if self.cx.draining {
            return Err(Unavailable::Leaving.into());
        }
        let len = setup.name.len();
        if len == 0 || len > NAME_BYTES_MAX {
            return Err(JoinScopeError::NameLength { len });
        }
        let id = ScopeId::of(&setup.name);
        let name: Arc<str> = setup.name.as_str().into();
        if self.scopes.contains_key(&id) {
            return Err(JoinScopeError::AlreadyJoined(name));
        }
        let max = self.cx.config.limits.scopes_max;
        if self.scopes.len() >= max {
            return Err(JoinScopeError::TooManyScopes(max));
        }
        let mut kinds = BTreeSet::new();
        if let Some(twice) = setup.kinds.iter().find(|kind| !kinds.insert(*kind)) {
            return Err(JoinScopeError::DuplicateKind(twice.as_str().into()));
        }
        let record_bytes = record_bytes(&setup.version, &setup.kinds, &setup.labels);
        if record_bytes > RECORD_BYTES_MAX || setup.labels.len() > LABELS_MAX {
            return Err(JoinScopeError::RecordTooLarge { bytes: record_bytes, labels: setup.labels.len() });
        }
        let mut ids = BTreeSet::new();
        if let Some(twice) = setup.children.iter().find(|child| !ids.insert(child.id())) {
            return Err(JoinScopeError::DuplicateChild(twice.id().to_string().into()));
        }
        let scope = Scope::new(&mut self.cx, setup);
        self.scopes.insert(id, scope);
        Ok(id)
    }

    fn ring(&mut self, alarm: Alarm) {
        let cx = &mut self.cx;
        match alarm {
            Alarm::Ask(scope, key, round) => {
                self.scopes.get_mut(&scope).into_iter().for_each(|scope| scope.next_attempt(cx, &key, round));
            }
            Alarm::AskTick(scope) => {
                self.scopes.get_mut(&scope).into_iter().for_each(|scope| scope.ask_in_tick(cx));
            }
            Alarm::Questions => cx.questions.begin_turn(),
            // What is to be done is done after every input.
            Alarm::Places => {}
            Alarm::Tell(scope) => {
                self.scopes.get_mut(&scope).into_iter().for_each(|scope| scope.tell_starting(cx));
            }
            Alarm::Progress(scope) => {
                self.scopes.get_mut(&scope).into_iter().for_each(|scope| scope.tell_progress(cx));
            }
            Alarm::Direct(scope, key, token) => {
                self.scopes.get_mut(&scope).into_iter().for_each(|scope| scope.repeat_direct(cx, &key, token));
            }
            Alarm::Backoff(scope, key, run) => {
                self.scopes.get_mut(&scope).into_iter().for_each(|scope| scope.end_backoff(cx, &key, run));
            }
            Alarm::Settle(scope) => {
                self.scopes.get_mut(&scope).into_iter().for_each(|scope| scope.look_whether_settled(cx));
            }
            Alarm::Exchange(scope) => {
                self.scopes.get_mut(&scope).into_iter().for_each(|scope| scope.look_after_exchanges(cx));
            }
            Alarm::Find(scope, token) => {
                self.scopes.get_mut(&scope).into_iter().for_each(|scope| scope.end_find(cx, token));
            }
            Alarm::Watch => self.choose_watchers(),
            Alarm::Look(number) => self.look_on(number),
            Alarm::Pulse => self.pulse(),
            Alarm::Doubt(instance) => self.ask_doubted(instance),
            Alarm::Obituary(instance) => self.obituary_on(instance),
            Alarm::Sync => self.sync(),
            Alarm::Gossip => self.gossip(),
            Alarm::Sweep => self.sweep(),
            Alarm::Leave => self.look_whether_left(),
            Alarm::Prune => {
                self.scopes.values_mut().for_each(|scope| scope.prune(cx));
                cx.set_timer(PRUNE_INTERVAL, Wakeup::Sync, Alarm::Prune);
            }
        }
    }

    /// The safety net.
    fn sync(&mut self) {
        let interval = self.cx.config.sync_interval;
        self.cx.set_timer(interval, Wakeup::Sync, Alarm::Sync);
        for scope in self.scopes.values_mut() {
            scope.sync(&mut self.cx);
            scope.look_after_exchanges(&mut self.cx);
        }
        if let Some(member) = self.cx.membership.pick()
            && !self.scopes.is_empty()
        {
            self.send_roots(member);
        }
    }

    fn sweep(&mut self) {
        self.cx.sweep_set = false;
        let idle_max = if self.cx.sites.fires(Site::CloseStream) { Duration::from_secs(1) } else { IDLE_TIMEOUT };
        for ended in self.cx.links.sweep(self.cx.now, idle_max, &mut self.cx.outputs) {
            self.stream_ended(Some(ended));
        }
        self.set_sweep();
    }

    fn set_sweep(&mut self) {
        if !self.cx.sweep_set && !self.cx.links.is_at_rest() {
            self.cx.sweep_set = true;
            self.cx.set_timer(super::shared::SWEEP_INTERVAL, Wakeup::Stream, Alarm::Sweep);
        }
    }

    fn stream_lost(&mut self, peer: InstanceId) {
        for scope in self.scopes.values_mut() {
            scope.stream_lost(&mut self.cx, peer);
        }
    }

    /// Whatever an input changed is acted on once, here.
    fn after_input(&mut self) {
        self.follow_membership();
        self.take_obituaries();
        for scope in self.scopes.values_mut() {
            scope.settle_dirty(&mut self.cx);
        }
        self.release_held();
    }

    /// Gives places in the budget that are free to children that wait for one, one to each scope in turn.
    fn release_held(&mut self) {
        if let Some(due) = self.cx.budget.expire(self.cx.now)
            && self.places_due.is_none_or(|set| set <= self.cx.now || set > due)
        {
            self.places_due = Some(due);
            self.cx.set_timer(due.since(self.cx.now), Wakeup::Ask, Alarm::Places);
        }
        while self.cx.budget.has_room() {
            let holds = |scope: &ScopeId| self.scopes.get(scope).is_some_and(|scope| !scope.held.is_empty());
            let turn = (Bound::Excluded(self.released), Bound::Unbounded);
            let later = self.scopes.range(turn).map(|(id, _)| *id).find(holds);
            let Some(id) = later.or_else(|| self.scopes.keys().copied().find(holds)) else { return };
            self.released = id;
            if let Some(scope) = self.scopes.get_mut(&id) {
                scope.release_held(&mut self.cx);
                scope.settle_dirty(&mut self.cx);
            }
        }
    }

    /// Takes over what membership noticed.
    fn follow_membership(&mut self) {
        let mut gone = BTreeSet::new();
        let mut has_changed = false;
        while let Some(change) = self.cx.membership.poll_change() {
            has_changed = true;
            match change {
                Change::Up(identity) => {
                    tracing::info!(member = ?identity, "member up");
                    let now = self.cx.now;
                    self.cx.peers.insert(
                        identity.instance,
                        super::shared::Peer { up_since: now, ..super::shared::Peer::default() },
                    );
                    self.members_gone(&mut gone);
                    for scope in self.scopes.values_mut() {
                        scope.member_up(&mut self.cx, identity);
                    }
                    self.send_roots(identity);
                }
                Change::Renamed(identity) => {
                    tracing::debug!(member = ?identity, "member has a new identity");
                    self.send_roots(identity);
                }
                Change::Down(identity) => {
                    tracing::info!(member = ?identity, "member down");
                    gone.insert(identity.instance);
                }
                Change::Rejoined => self.rejoined(),
                Change::AddressConflict => {
                    tracing::error!("another process speaks from this node's address: give each its own");
                    for scope in self.scopes.keys() {
                        self.cx.outputs.push_back(Output::Event { scope: *scope, event: Event::AddressConflict });
                    }
                }
            }
        }
        self.members_gone(&mut gone);
        if has_changed {
            self.count_deferred();
            self.end_looks_at_the_gone();
            self.replace_witnesses();
            self.end_doubts_of_the_gone();
            self.end_obituaries_of_the_gone();
            self.choose_watchers_anew();
        }
        if self.known_as != self.cx.me() {
            self.known_as = self.cx.me();
            for scope in self.scopes.values_mut() {
                scope.restart_pull(&mut self.cx);
            }
        }
        while let Some(suspect) = self.cx.membership.poll_suspect() {
            self.take_suspect(suspect);
        }
        if self.cx.membership.poll_wants_seeds() && !self.cx.config.seeds.is_empty() {
            self.cx.outputs.push_back(Output::ResolveSeeds);
        }
    }

    fn members_gone(&mut self, gone: &mut BTreeSet<InstanceId>) {
        if gone.is_empty() {
            return;
        }
        self.cx.gossip.forget_heard();
        for instance in gone.iter() {
            self.cx.peers.remove(instance);
            self.lives.forget(*instance);
            self.cx.links.close_peer(*instance, &mut self.cx.outputs);
        }
        for scope in self.scopes.values_mut() {
            scope.members_down(&mut self.cx, gone);
        }
        gone.clear();
    }

    /// The others had declared this node down.
    fn rejoined(&mut self) {
        tracing::warn!(identity = ?self.cx.me(), "the others had declared this node down; it is back");
        self.end_looks();
        self.unwatch_dialled();
        for scope in self.scopes.values_mut() {
            scope.rejoined(&mut self.cx);
        }
    }

    /// Tells a member the roots of all scopes; nobody who has none is left waiting for them.
    fn send_roots(&mut self, to: Identity) {
        let roots = self.roots();
        self.cx.send(to, &Message::Roots(roots));
    }

    fn roots(&self) -> Roots {
        self.scopes.values().map(|scope| (scope.id, scope.root())).collect()
    }

    /// Whether somebody may speak here, and whether it has to be told that it is down.
    fn admit(&mut self, identity: Identity) -> bool {
        let now = self.cx.now;
        match self.cx.membership.ensure_active(now, identity, &mut self.cx.stats) {
            Standing::Active => true,
            Standing::Unknown => {
                self.cx.stats.refused_limit += 1;
                false
            }
            Standing::Gone => {
                self.cx.stats.refused_not_member += 1;
                self.tell_down(identity);
                false
            }
        }
    }

    /// Tells somebody that it is down here.
    fn tell_down(&mut self, identity: Identity) {
        if identity.addr != self.cx.me().addr && self.you_are_down.allows(self.cx.now) {
            self.cx.stats.you_are_down_sent += 1;
            let bump = self.cx.membership.bump_at(identity.addr);
            self.send_alone(identity.addr, &Message::YouAreDown(identity, bump));
        }
    }

    /// Sends a message at once in a datagram of its own, whatever else there is to say.
    fn send_alone(&mut self, to: SocketAddr, message: &Message) {
        let cx = &mut self.cx;
        self.transmits.push_message(&mut cx.codec, cx.membership.me(), to, message, &mut cx.stats);
    }
}
