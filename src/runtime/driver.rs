//! The protocol loop: feeds the state machine what happened, does what it says, waits for the next thing.
//!
//! It runs on a thread of its own, with a tokio runtime of its own, because it must never be held up: on a shared
//! runtime a child that blocks its thread may hold the loop's task or the I/O driver with it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, trace, warn};

use super::clock::Clock;
use super::due_timer::DueTimer;
use super::log::Log;
use super::node::Call;
use super::scope::ScopeParts;
use super::seeds::Seeds;
use super::state::State;
use super::streams::{Ending, Inbound, Streams};
use super::tasks::Tasks;
use crate::config::Config;
use crate::error::{LeaveError, Unavailable, WaitError};
use crate::info::Event;
use crate::proto::packet::DATAGRAM_BYTES_MAX;
use crate::proto::{
    ChildEvent, Command, Output, Reply, RequestId, RunId, ScopeId, ScopeSetup, StartChild, Stats, StreamEvent, Time,
};

/// How much of each input is taken before the state machine's outputs are drained: enough that one datagram carries
/// many messages of a burst, little enough that answers are not held up for more than a few milliseconds.
const BATCH_MAX: usize = 1_024;

/// A wake-up this late means that the process was stopped or starved. What waits in the sockets is then read before
/// timers are fired that it may have answered.
const LATE: Duration = Duration::from_millis(50);

/// How long is read after a late wake-up before timers are fired all the same: enough for a full socket buffer, and far
/// less than a probe waits for its answer.
const CATCH_UP_MAX: Duration = Duration::from_millis(50);

/// How long datagrams, calls and frames of streams are taken, each, before the state machine's outputs are drained.
const BATCH_TIME_MAX: Duration = Duration::from_millis(5);

/// How long streams may take to send what is queued when the node has left.
const FAREWELL: Duration = Duration::from_secs(1);

/// How soon a node that nobody holds any more tries again to leave.
const LEAVE_RETRY: Duration = Duration::from_secs(1);

/// What is read of a datagram: one byte more than any honest one has, so that a longer one is refused by its length and costs
/// no more than that.
const READ_BYTES: usize = DATAGRAM_BYTES_MAX + 1;

/// The request under which the loop itself makes the node leave; handles count up from 0.
const OWN_LEAVE: RequestId = RequestId(u64::MAX);

/// What the loop owns.
pub(super) struct Driver {
    node: State,
    name: Arc<str>,
    clock: Clock,
    config: Config,
    datagrams: UdpSocket,
    scratch: Vec<u8>,
    streams: Streams,
    seeds: Seeds,
    tasks: Tasks,
    scopes: BTreeMap<ScopeId, ScopeParts>,
    pending: BTreeMap<RequestId, Pending>,
    /// When waits are given up.
    waits: BTreeSet<(Time, RequestId)>,
    /// What this side counts, beside the state machine's own figures.
    counted: Stats,
    log: Log,
    #[cfg(feature = "metrics")]
    metrics: super::metrics::Metrics,
    inputs: Inputs,
    exit: Exit,
}

/// Everything that can wake the loop, apart from datagrams.
pub(super) struct Inputs {
    /// Rings when something is due.
    pub(super) timer: DueTimer,
    /// From handles; closed when all of them are dropped.
    pub(super) calls: mpsc::UnboundedReceiver<Call>,
    /// From runs of children.
    pub(super) reports: mpsc::UnboundedReceiver<(RunId, ChildEvent)>,
    /// From streams.
    pub(super) inbox: mpsc::Receiver<Inbound>,
    /// The other end of `inbox`.
    pub(super) inbox_sender: mpsc::Sender<Inbound>,
    /// Closed when the user's runtime is shut down.
    pub(super) user_runtime: oneshot::Receiver<()>,
}

struct Pending {
    reply: oneshot::Sender<Reply>,
    deadline: Option<Time>,
    /// The scope that was entered for a join, to be taken back if it is refused.
    joining: Option<ScopeId>,
}

/// How far the node is on its way out.
#[derive(Default)]
struct Exit {
    handles_gone: bool,
    runtime_gone: bool,
    leave_at: Option<Time>,
    left: bool,
    farewells: Vec<oneshot::Sender<Reply>>,
}

/// Calls to `leave` that are answered when the sockets are closed.
pub(super) struct Farewells(Vec<oneshot::Sender<Reply>>);

impl Farewells {
    pub(super) fn send(self) {
        for reply in self.0 {
            let _ = reply.send(Reply::Left(Ok(())));
        }
    }
}

/// What woke the loop.
enum Woken {
    Call(Option<Call>),
    Report(RunId, ChildEvent),
    Inbound(Inbound),
    RuntimeGone,
    /// A deadline that was waited for.
    Timer,
    /// Datagrams or what is due, which are looked at anyway.
    Other,
}

impl Driver {
    pub(super) fn new(
        node: State,
        clock: Clock,
        config: Config,
        (datagrams, datagram_buffer_bytes): (UdpSocket, usize),
        streams: Streams,
        tasks: Tasks,
        inputs: Inputs,
    ) -> Self {
        let name: Arc<str> = node.read().name().into();
        Driver {
            #[cfg(feature = "metrics")]
            metrics: super::metrics::Metrics::new(name.clone()),
            node,
            name,
            clock,
            seeds: Seeds::new(config.seeds.clone()),
            config,
            datagrams,
            scratch: vec![0; READ_BYTES],
            streams,
            tasks,
            scopes: BTreeMap::new(),
            pending: BTreeMap::new(),
            waits: BTreeSet::new(),
            counted: Stats { datagram_buffer_bytes: datagram_buffer_bytes as u64, ..Stats::default() },
            log: Log::default(),
            inputs,
            exit: Exit::default(),
        }
    }

    /// Runs until the node has left.
    pub(super) async fn run(mut self) -> Farewells {
        self.flush();
        while !self.exit.left {
            let due = self.next_deadline();
            let woken = self.wait(due).await;
            let is_timer = matches!(woken, Woken::Timer);
            self.take(woken);
            if !is_timer {
                // Lets the I/O driver and the streams bring what has come, so that one drain answers all of it. Most
                // timers find nothing, and in an idle node this turn would cost as much as everything else.
                tokio::task::yield_now().await;
            }
            self.take_waiting();
            let mut now = self.clock.now();
            let late = due.filter(|due| *due <= now).map(|due| now.since(due));
            if let Some(late) = late {
                self.counted.note_wakeup(late);
                if late >= LATE {
                    self.catch_up(now).await;
                    now = self.clock.now();
                }
            }
            self.name_blockers(now, late.unwrap_or_default());
            // By the time that was found not to be late: whoever is stopped right here finds it out in the next turn.
            self.fire_timers(now);
            self.flush();
            self.streams.reap();
            #[cfg(feature = "metrics")]
            self.publish(now);
        }
        self.streams.finish(FAREWELL, self.inputs.inbox).await;
        Farewells(self.exit.farewells)
    }

    fn next_deadline(&self) -> Option<Time> {
        let protocol = self.node.read().poll_timeout().map(|(deadline, _why)| deadline);
        let wait = self.waits.first().map(|(deadline, _)| *deadline);
        [protocol, wait, self.tasks.poll_timeout(), self.exit.leave_at].into_iter().flatten().min()
    }

    async fn wait(&mut self, due: Option<Time>) -> Woken {
        if self.streams.has_broken() {
            return Woken::Other;
        }
        let inputs = &mut self.inputs;
        let is_due = due.is_some_and(|due| due <= self.clock.now());
        if !is_due {
            inputs.timer.set(&self.clock, due);
        }
        tokio::select! {
            call = inputs.calls.recv(), if !self.exit.handles_gone => Woken::Call(call),
            Some((run, event)) = inputs.reports.recv() => Woken::Report(run, event),
            Some(inbound) = inputs.inbox.recv() => Woken::Inbound(inbound),
            _ = &mut inputs.user_runtime, if !self.exit.runtime_gone => Woken::RuntimeGone,
            _ = self.datagrams.readable() => Woken::Other,
            () = inputs.timer.rung(), if !is_due => Woken::Timer,
            // Nobody has waited, so the I/O driver has not had its turn.
            () = std::future::ready(()), if is_due => Woken::Other,
        }
    }

    fn take(&mut self, woken: Woken) {
        let now = self.clock.now();
        match woken {
            Woken::Call(Some(call)) => self.on_call(now, call),
            Woken::Call(None) => {
                self.exit.handles_gone = true;
                self.leave(now, self.config.leave_timeout);
            }
            Woken::Report(run, event) => self.on_report(now, run, event),
            Woken::Inbound(inbound) => self.on_inbound(now, inbound),
            Woken::RuntimeGone => {
                self.exit.runtime_gone = true;
                warn!(node = &*self.name, "the tokio runtime of the children was shut down; the node leaves");
                self.leave(now, Duration::ZERO);
            }
            Woken::Timer | Woken::Other => {}
        }
    }

    /// Takes what else is there, a batch of each kind; how much it was.
    fn take_waiting(&mut self) -> usize {
        let now = self.clock.now();
        let began = now;
        for conn in self.streams.take_broken() {
            self.counted.refused_limit += 1;
            self.node.write().handle_stream(now, conn, StreamEvent::Closed);
        }
        let mut taken = self.take_datagrams();
        for _ in 0..BATCH_MAX {
            let Ok((run, event)) = self.inputs.reports.try_recv() else { break };
            self.on_report(now, run, event);
            taken += 1;
        }
        // A call may list every child and a frame may hold a thousand messages, so these are bounded by time: probes
        // must not wait for them.
        for _ in 0..BATCH_MAX {
            let now = self.clock.now();
            if now.since(began) >= BATCH_TIME_MAX {
                break;
            }
            let Ok(call) = self.inputs.calls.try_recv() else { break };
            self.on_call(now, call);
            taken += 1;
        }
        let began = self.clock.now();
        loop {
            let now = self.clock.now();
            if now.since(began) >= BATCH_TIME_MAX {
                break;
            }
            let Ok(inbound) = self.inputs.inbox.try_recv() else { break };
            self.on_inbound(now, inbound);
            taken += 1;
        }
        taken
    }

    async fn catch_up(&mut self, now: Time) {
        debug!(?now, "woken late; reading what waits before any timer fires");
        while self.clock.now().since(now) < CATCH_UP_MAX {
            // One turn for the I/O driver, and the next for the streams that it woke.
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
            if self.take_waiting() == 0 {
                break;
            }
        }
    }

    fn take_datagrams(&mut self) -> usize {
        let began = self.clock.now();
        for taken in 0..BATCH_MAX {
            let now = self.clock.now();
            if now.since(began) >= BATCH_TIME_MAX {
                return taken;
            }
            match self.datagrams.try_recv_from(&mut self.scratch) {
                Ok((length, from)) => {
                    trace!(%from, length, "datagram received");
                    self.node.write().handle_datagram(now, from, &self.scratch[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return taken,
                // An earlier datagram of ours could not be delivered; the socket is as good as before.
                Err(error) => trace!(%error, "receiving a datagram failed"),
            }
        }
        BATCH_MAX
    }

    fn fire_timers(&mut self, now: Time) {
        self.tasks.handle_timeout(now);
        while let Some((deadline, request)) = self.waits.first().copied()
            && deadline <= now
        {
            self.waits.remove(&(deadline, request));
            self.node.write().cancel(request);
            if let Some(Pending { reply, .. }) = self.pending.remove(&request) {
                let _ = reply.send(Reply::Running(Err(WaitError::Timeout)));
            }
        }
        if self.exit.leave_at.is_some_and(|at| at <= now) {
            self.leave(now, self.config.leave_timeout);
        }
        if self.node.read().poll_timeout().is_some_and(|(deadline, _why)| deadline <= now) {
            self.node.write().handle_timeout(now);
        }
    }

    fn on_call(&mut self, now: Time, call: Call) {
        match call {
            Call::Command { request, command, timeout, reply } => {
                let deadline = timeout.map(|timeout| now + timeout);
                self.waits.extend(deadline.map(|deadline| (deadline, request)));
                self.pending.insert(request, Pending { reply, deadline, joining: None });
                self.node.write().command(now, request, command);
            }
            Call::Join { request, setup, parts, reply } => self.on_join(now, request, setup, parts, reply),
            Call::Cancel(request) => {
                self.forget(request);
                self.node.write().cancel(request);
            }
            Call::Read(read) => read(&self.node.read()),
            Call::Stats(reply) => {
                let _ = reply.send(self.stats());
            }
        }
    }

    /// The scope is entered before the state machine knows of it, so that none of its outputs finds it missing.
    fn on_join(
        &mut self,
        now: Time,
        request: RequestId,
        setup: ScopeSetup,
        parts: ScopeParts,
        reply: oneshot::Sender<Reply>,
    ) {
        let scope = ScopeId::of(&setup.name);
        let new = !self.scopes.contains_key(&scope);
        if new {
            self.scopes.insert(scope, parts);
        }
        self.pending.insert(request, Pending { reply, deadline: None, joining: new.then_some(scope) });
        self.node.write().command(now, request, Command::JoinScope(setup));
    }

    fn forget(&mut self, request: RequestId) -> Option<Pending> {
        let pending = self.pending.remove(&request)?;
        if let Some(deadline) = pending.deadline {
            self.waits.remove(&(deadline, request));
        }
        Some(pending)
    }

    fn on_report(&mut self, now: Time, run: RunId, event: ChildEvent) {
        self.tasks.observe(run, &event);
        self.node.write().handle_child(now, run, event);
    }

    fn on_inbound(&mut self, now: Time, inbound: Inbound) {
        match inbound {
            Inbound::Accepted { stream, from } => match self.streams.accept(stream) {
                Some(conn) => self.node.write().handle_stream(now, conn, StreamEvent::Accepted { from }),
                None => {
                    debug!(%from, "a stream is refused: limits.streams_max are open");
                    self.counted.streams_refused += 1;
                }
            },
            Inbound::Connected(conn) if self.streams.is_open(conn) => {
                self.node.write().handle_stream(now, conn, StreamEvent::Connected);
            }
            Inbound::Frame(conn, bytes) if self.streams.is_open(conn) => {
                self.node.write().handle_stream(now, conn, StreamEvent::Frame(&bytes));
                if self.streams.is_stranger(conn) && self.node.read().has_shaken_hands(conn) {
                    self.streams.trust(conn);
                }
            }
            // Closed by this side meanwhile.
            Inbound::Connected(_) | Inbound::Frame(..) => {}
            Inbound::Closed(conn, ending) => {
                let mut event = StreamEvent::Closed;
                match ending {
                    Ending::Refused => event = StreamEvent::Refused,
                    Ending::Lost(error) => trace!(?conn, %error, "a stream ended"),
                    Ending::Oversized(announced) => {
                        debug!(?conn, announced, "a stream is closed: it announced a frame that is too large");
                        self.counted.refused_limit += 1;
                    }
                }
                if self.streams.ended(conn) {
                    self.node.write().handle_stream(now, conn, event);
                }
            }
            Inbound::Seeds(resolved) => {
                let found = self.seeds.resolved(now, resolved);
                self.node.write().handle_seeds(now, &found);
            }
        }
    }

    /// Does everything that the state machine wants done.
    fn flush(&mut self) {
        loop {
            // Read anew: what was wanted may have taken long, and the state machine must not take that for a pause.
            let now = self.clock.now();
            let mut idle = true;
            while let Some(transmit) = self.node.write().poll_transmit(now) {
                idle = false;
                trace!(to = %transmit.to, length = transmit.bytes.len(), "datagram sent");
                if let Err(error) = self.datagrams.try_send_to(transmit.bytes, transmit.to) {
                    trace!(to = %transmit.to, %error, "a datagram could not be sent");
                    self.counted.datagrams_unsent += 1;
                }
            }
            loop {
                // On a line of its own: the lock is free while the output is performed.
                let Some(output) = self.node.write().poll_output() else { break };
                idle = false;
                self.perform(now, output);
            }
            if idle {
                return;
            }
        }
    }

    fn perform(&mut self, now: Time, output: Output) {
        match output {
            Output::Connect { conn, to } => self.streams.connect(conn, to),
            Output::Frame { conn, bytes } => self.streams.send(conn, bytes),
            Output::Close { conn } => self.streams.close(conn),
            Output::ResolveSeeds => self.seeds.resolve(self.inputs.inbox_sender.clone()),
            Output::StartChild(start) => self.start_child(now, start),
            Output::StopChild { run, shutdown } => self.tasks.stop(now, run, shutdown),
            Output::Reply { request: OWN_LEAVE, reply } => self.on_own_leave(now, reply),
            Output::Reply { request, reply } => self.on_reply(request, reply),
            Output::Event { scope, event } => self.tell(now, scope, event),
            Output::Members { scope } => {
                if let Some(parts) = self.scopes.get(&scope) {
                    let members = self.node.read().members(scope);
                    parts.members.send_replace(members);
                }
            }
            Output::Left => self.exit.left = true,
        }
    }

    fn tell(&mut self, now: Time, scope: ScopeId, event: Event) {
        if let Some(parts) = self.scopes.get(&scope) {
            self.log.event(now, &parts.name, &event);
            // Fails only if nobody listens.
            let _ = parts.events.send(event);
        }
    }

    /// Names the children that block a thread of the user's runtime.
    fn name_blockers(&mut self, now: Time, late: Duration) {
        for (ctx, lasted) in self.tasks.blocking(now, late) {
            self.counted.blocks_noticed += 1;
            self.tell(now, ScopeId::of(ctx.scope()), Event::ChildBlocks { id: ctx.id().clone(), lasted });
        }
    }

    fn start_child(&mut self, now: Time, start: StartChild) {
        let parts = self.scopes.get(&start.scope);
        let Some((parts, runner)) = parts.and_then(|parts| Some((parts, parts.runners.get(&start.spec.kind)?))) else {
            return self.tasks.decline(start.run, "its kind is not registered on this node");
        };
        self.tasks.start(now, start, runner, &parts.name);
    }

    fn on_reply(&mut self, request: RequestId, reply: Reply) {
        let Some(pending) = self.forget(request) else { return };
        match (&reply, pending.joining) {
            (Reply::Left(Ok(())), _) => {
                self.exit.left = true;
                return self.exit.farewells.push(pending.reply);
            }
            (Reply::Joined(Ok(_)), _) | (_, None) => {}
            (_, Some(scope)) => {
                self.scopes.remove(&scope);
            }
        }
        // Fails only if the caller has gone, whose cancellation is then on its way.
        let _ = pending.reply.send(reply);
    }

    /// Leaves because nobody holds the node any more.
    fn leave(&mut self, now: Time, timeout: Duration) {
        self.exit.leave_at = None;
        let timeout = if self.exit.runtime_gone { Duration::ZERO } else { timeout };
        self.node.write().command(now, OWN_LEAVE, Command::Leave { timeout });
    }

    fn on_own_leave(&mut self, now: Time, reply: Reply) {
        match reply {
            Reply::Left(Ok(())) => return self.exit.left = true,
            Reply::Left(Err(LeaveError::StillRunning { children })) => {
                warn!(?children, "children do not end although they were aborted; the node leaves when they have");
            }
            // A user's own call to leave is under way.
            Reply::Left(Err(LeaveError::Unavailable(_))) | Reply::Unavailable(Unavailable::Leaving) => {}
            other => warn!(reply = ?other, "leaving in the background was refused; it is tried again"),
        }
        self.exit.leave_at = Some(now + LEAVE_RETRY);
    }

    /// Publishes every figure, once a second at most. An idle node wakes often enough by itself.
    #[cfg(feature = "metrics")]
    fn publish(&mut self, now: Time) {
        if self.metrics.is_due(now) {
            let scopes = self
                .scopes
                .iter()
                .filter_map(|(id, parts)| Some((parts.name.clone(), self.node.read().measured_scope(*id)?)));
            let scopes: Vec<_> = scopes.collect();
            self.metrics.publish(now, &self.stats(), &scopes);
        }
    }

    fn stats(&self) -> Stats {
        let mut stats = self.node.read().measured();
        stats.add(&self.counted);
        stats.stream_backlog_bytes += self.streams.backlog_bytes() as u64;
        stats.inputs_waiting = (self.inputs.calls.len() + self.inputs.reports.len() + self.inputs.inbox.len()) as u64;
        stats
    }
}
