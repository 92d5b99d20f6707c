//! The runs of children on this node: one task each on the user's runtime, with its deadlines kept here.
//!
//! A run reports `Started` at most once and exactly one end, which is sent when its future has been dropped, however
//! that came about. A run that nothing happens to costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::{debug, warn};

use super::context::{ChildContext, Desk, Home};
use super::kinds::{Failure, Runner, panic_text};
use super::orders::Order;
use super::polls::Watch;
use crate::child::Shutdown;
use crate::info::Outcome;
use crate::proto::{ChildEvent, RunId, Runs, ScopeId, StartChild, Time};

/// The longest error text that is kept and sent to others.
const ERROR_BYTES_MAX: usize = 256;

/// A loop that is woken so late was held up by what held up the children too.
const STOOD_STILL: Duration = Duration::from_millis(500);

/// The runs of children on this node. Dropped, it aborts them: a node that is gone takes its children with it.
#[derive(Debug)]
pub(super) struct Tasks {
    user: Handle,
    desk: Arc<Desk>,
    /// What the runs of each scope share.
    homes: BTreeMap<ScopeId, Arc<Home>>,
    runs: Runs<Run>,
    deadlines: BTreeSet<(Time, RunId)>,
    watch: Watch,
}

#[derive(Debug)]
struct Run {
    ctx: ChildContext,
    task: AbortHandle,
    phase: Phase,
    deadline: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Running,
    Stopping,
}

impl Tasks {
    pub(super) fn new(
        node: Arc<str>,
        user: Handle,
        reports: mpsc::UnboundedSender<(RunId, ChildEvent)>,
        start_timeout: Duration,
    ) -> Self {
        let watch = Watch::default();
        let desk = Arc::new(Desk { node, reports, start_timeout, polls: watch.polls() });
        Tasks { user, desk, homes: BTreeMap::new(), runs: Runs::default(), deadlines: BTreeSet::new(), watch }
    }

    /// Runs a child of the scope of this name.
    pub(super) fn start(&mut self, now: Time, start: StartChild, runner: &Runner, scope: &Arc<str>) {
        let desk = &self.desk;
        let home = || Arc::new(Home { scope: scope.clone(), desk: desk.clone() });
        let ctx = ChildContext::new(&start, self.homes.entry(start.scope).or_insert_with(home).clone());
        let task = runner(&self.user, Report { ctx: ctx.clone(), is_sent: false }, start.spec);
        let deadline = now + self.desk.start_timeout;
        self.deadlines.insert((deadline, start.run));
        self.runs.insert(start.run, Run { ctx, task, phase: Phase::Starting, deadline: Some(deadline) });
    }

    /// Reports a child that can't be run here.
    pub(super) fn decline(&mut self, run: RunId, why: &str) {
        let _ = self.desk.reports.send((run, ChildEvent::Declined(shortened(why))));
    }

    /// Stops a run by a shutdown policy; a later call with another policy overrides. A run that ended is no error.
    pub(super) fn stop(&mut self, now: Time, run: RunId, shutdown: Shutdown) {
        let Some(Run { ctx, task, phase, deadline }) = self.runs.get_mut(run) else { return };
        let starting = *phase == Phase::Starting;
        *phase = Phase::Stopping;
        let new_deadline = match shutdown {
            Shutdown::Brutal => {
                ctx.give(Order::Abort);
                task.abort();
                None
            }
            Shutdown::Timeout(patience) => {
                ctx.give(Order::Stop);
                Some(now + patience)
            }
            Shutdown::Infinity => {
                ctx.give(Order::Stop);
                // However patient the policy, an `init` has its own bound.
                if starting { *deadline } else { None }
            }
        };
        let old_deadline = std::mem::replace(deadline, new_deadline);
        self.replace_deadline(run, old_deadline, new_deadline);
    }

    /// Takes note of a report before it is passed on.
    pub(super) fn observe(&mut self, run: RunId, event: &ChildEvent) {
        match event {
            ChildEvent::Started => {
                let Some(running) = self.runs.get_mut(run) else { return };
                if running.phase == Phase::Starting {
                    running.phase = Phase::Running;
                    let old_deadline = running.deadline.take();
                    self.replace_deadline(run, old_deadline, None);
                }
            }
            ChildEvent::Declined(_) | ChildEvent::Exited(_) => {
                let ended = self.runs.remove(run);
                self.replace_deadline(run, ended.and_then(|ended| ended.deadline), None);
            }
        }
    }

    fn replace_deadline(&mut self, run: RunId, old: Option<Time>, new: Option<Time>) {
        if let Some(old) = old {
            self.deadlines.remove(&(old, run));
        }
        if let Some(new) = new {
            self.deadlines.insert((new, run));
        }
    }

    /// The children that block a thread, and for how long at least: each after a second and whenever that has doubled. Call
    /// it whenever the loop is awake, with how late it was woken: who stood still itself blames nobody.
    pub(super) fn blocking(&mut self, now: Time, late: Duration) -> Vec<(ChildContext, Duration)> {
        if late >= STOOD_STILL {
            self.watch.forgive(now);
        }
        let blocking = self.watch.look(now).into_iter();
        blocking.filter_map(|(run, lasted)| Some((self.runs.get(run)?.ctx.clone(), lasted))).collect()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Aborts runs that were to be up, or to have ended, by now.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        while let Some((deadline, run)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.remove(&(deadline, run));
            let Some(overdue) = self.runs.get_mut(run) else { continue };
            overdue.deadline = None;
            let order = if overdue.phase == Phase::Stopping { Order::Abort } else { Order::GiveUp };
            debug!(child = %overdue.ctx.id(), ?order, "a run is overdue and aborted");
            overdue.ctx.give(order);
            overdue.task.abort();
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for run in self.runs.values() {
            run.ctx.give(Order::Abort);
            run.task.abort();
        }
    }
}

/// Runs a child to its end, as all that a task does. The report is dropped last, whatever happens to the rest.
#[allow(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps what it is given twice, and there is a task for every child"
)]
pub(super) fn supervise<F>(
    mut report: Report,
    start: impl FnOnce(ChildContext) -> F + Send,
) -> impl Future<Output = ()> + Send
where
    F: Future<Output = Result<(), Failure>> + Send,
{
    async move {
        let mut run = pin!(Some(start(report.ctx.clone())));
        let ended = caught(run.as_mut(), &report.ctx).await;
        let dropped = catch_unwind(AssertUnwindSafe(|| report.ctx.polled(|| run.set(None))));
        let ended = match (ended, dropped) {
            (Err(panic), _) | (Ok(_), Err(panic)) => Err(panic_text(&*panic).to_owned()),
            (Ok(result), Ok(())) => Ok(result),
        };
        report.end(ended);
    }
}

/// Awaits a run, with its panic as an error.
fn caught<F>(
    mut run: Pin<&mut Option<F>>,
    ctx: &ChildContext,
) -> impl Future<Output = std::thread::Result<Result<(), Failure>>>
where
    F: Future<Output = Result<(), Failure>>,
{
    poll_fn(move |cx| {
        // It is there until it has ended.
        let poll = || run.as_mut().as_pin_mut().map_or(Poll::Ready(Ok(())), |run| run.poll(cx));
        match catch_unwind(AssertUnwindSafe(|| ctx.polled(poll))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
}

/// Sends the end of a run, at the latest when it is dropped: with the task when that is aborted or its runtime shut down.
pub(super) struct Report {
    ctx: ChildContext,
    is_sent: bool,
}

impl Report {
    fn end(&mut self, ended: Result<Result<(), Failure>, String>) {
        let event = self.event_of(ended);
        self.send(event);
    }

    fn event_of(&self, ended: Result<Result<(), Failure>, String>) -> ChildEvent {
        let outcome = match ended {
            Ok(Err(Failure::Declined(why))) => return ChildEvent::Declined(shortened(&why)),
            Ok(Ok(())) => Outcome::Success,
            Ok(Err(Failure::Error(error))) => Outcome::Error(shortened(&error.to_string())),
            Err(panic) => Outcome::Panic(shortened(&panic)),
        };
        ChildEvent::Exited(match self.ctx.order() {
            Order::Run => outcome,
            Order::GiveUp => self.not_started(),
            Order::Stop | Order::Abort => {
                if let Some(error) = outcome.error() {
                    warn!(child = %self.ctx.id(), %error, "a child failed while it was stopping");
                }
                Outcome::Stopped
            }
        })
    }

    fn not_started(&self) -> Outcome {
        let limit = humantime::format_duration(self.ctx.start_timeout());
        Outcome::Error(format!("init did not return within {limit}").into())
    }

    fn send(&mut self, event: ChildEvent) {
        self.is_sent = true;
        self.ctx.report(event);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if !self.is_sent {
            let outcome = match self.ctx.order() {
                Order::GiveUp => self.not_started(),
                Order::Run | Order::Stop | Order::Abort => Outcome::Aborted,
            };
            self.send(ChildEvent::Exited(outcome));
        }
    }
}

/// The text of an error, cut to what is kept of it.
fn shortened(text: &str) -> Arc<str> {
    let mut end = text.len().min(ERROR_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

#[cfg(test)]
mod tests;
