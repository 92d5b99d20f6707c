//! One life of a node: its state machine, its clock, its children, and what waits for it while it is paused.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use haulout::Shutdown;
use haulout::proto::{ChildEvent, Command, ConnId, InstanceId, Node, RequestId, RunId, StartChild, Time, Wakeup};

use super::Clock;
use crate::NodeIdx;
use crate::children::Life;
use crate::journal::{Ending, Journal, Run};
use crate::streams::Heard;
use crate::trace::At;

/// An input of a node.
pub(super) enum Input {
    Timer,
    Datagram {
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    Stream(ConnId, Heard),
    /// A run may have got to its next step.
    Child(RunId),
    /// A run has got there a while ago.
    Report(RunId, ChildEvent),
    Seeds,
    Command(RequestId, Box<Command>),
    Cancel(RequestId),
}

/// What Linux charges a small datagram in a socket's buffer beside its bytes.
const DATAGRAM_OVERHEAD: usize = 768;

pub(super) struct Process {
    pub(super) node: Node,
    pub(super) instance: InstanceId,
    pub(super) boot: u32,
    pub(super) clock: Clock,
    runs: BTreeMap<RunId, (usize, Life)>,
    inbox: VecDeque<Input>,
    inbox_bytes: usize,
    /// Streams among what waits that the kernel has accepted for it.
    inbox_streams: usize,
    /// The earliest timer that is planned.
    pub(super) timer: Option<Time>,
    /// How many inputs wait because it is slow, or was.
    pub(super) late: u32,
    /// The last of them, until when.
    pub(super) late_until: Time,
    /// Whether a timer is among them.
    pub(super) timer_is_late: bool,
    millisecond: u64,
    inputs: u32,
}

impl Process {
    pub(super) fn new(node: Node, instance: InstanceId, boot: u32, clock: Clock) -> Self {
        Process {
            node,
            instance,
            boot,
            clock,
            runs: BTreeMap::new(),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            inbox_streams: 0,
            timer: None,
            late: 0,
            late_until: Time::ZERO,
            timer_is_late: false,
            millisecond: 0,
            inputs: 0,
        }
    }

    /// The time of its clock.
    pub(super) fn local(&self, now: Time) -> Time {
        self.clock.local(now)
    }

    /// When it wants to be called, in the time of the simulation.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.node.poll_timeout().map(|(deadline, _)| self.clock.when(deadline))
    }

    /// Keeps an input for when the process is resumed; what the socket's buffer has no room for is lost.
    pub(super) fn keep(&mut self, input: Input, buffer_bytes: usize) {
        if let Input::Datagram { bytes, .. } = &input {
            let cost = bytes.len() + DATAGRAM_OVERHEAD;
            if self.inbox_bytes + cost > buffer_bytes {
                return;
            }
            self.inbox_bytes += cost;
        }
        self.inbox_streams += usize::from(matches!(input, Input::Stream(_, Heard::Accepted(_))));
        self.inbox.push_back(input);
    }

    /// How many streams wait to be accepted by it.
    pub(super) fn unaccepted(&self) -> usize {
        self.inbox_streams
    }

    pub(super) fn take_inbox(&mut self) -> VecDeque<Input> {
        (self.inbox_bytes, self.inbox_streams) = (0, 0);
        std::mem::take(&mut self.inbox)
    }

    /// Notices a node that never comes to rest.
    pub(super) fn guard(&mut self, now: Time, at: NodeIdx, name: &str, inputs_max: u32) {
        let millisecond = now.as_nanos() / 1_000_000;
        if std::mem::replace(&mut self.millisecond, millisecond) != millisecond {
            self.inputs = 0;
        }
        self.inputs += 1;
        let wakeup: Option<Wakeup> = self.node.poll_timeout().map(|(_, wakeup)| wakeup);
        assert!(
            self.inputs <= inputs_max,
            "livelock: {at} ({name}) took more than {inputs_max} inputs in the millisecond at {}; its next wakeup is \
             {wakeup:?}",
            At(now)
        );
    }

    pub(super) fn begin_child(&mut self, now: Time, at: NodeIdx, start: StartChild, life: Life, journal: &mut Journal) {
        let entry = journal.begin(Run {
            node: at,
            instance: self.instance,
            scope: start.scope,
            id: start.id,
            epoch: start.epoch,
            spec: start.spec,
            began: now,
            started: None,
            signalled: None,
            shutdown: None,
            ended: None,
            ending: None,
        });
        let earlier = self.runs.insert(start.run, (entry, life));
        assert!(earlier.is_none(), "{at} used {:?} twice", start.run);
    }

    /// Stops a run; returns when it ends then.
    pub(super) fn stop_child(
        &mut self,
        now: Time,
        run: RunId,
        shutdown: Shutdown,
        journal: &mut Journal,
    ) -> Option<Time> {
        let (entry, life) = self.runs.get_mut(&run)?;
        journal.signalled(*entry, now, shutdown);
        life.stop(now, shutdown);
        life.due()
    }

    /// Takes the step of a run that is due, if it is; a stop may have moved it.
    pub(super) fn child_step(&mut self, now: Time, run: RunId, journal: &mut Journal) -> Option<ChildEvent> {
        let (entry, life) = self.runs.get_mut(&run)?;
        let (entry, event) = (*entry, life.step(now)?);
        let ending = match &event {
            ChildEvent::Started => {
                journal.started(entry, now);
                return Some(event);
            }
            ChildEvent::Declined(_) => Ending::Declined,
            ChildEvent::Exited(outcome) => Ending::Exited(outcome.clone()),
        };
        journal.end(entry, now, ending);
        self.runs.remove(&run);
        Some(event)
    }

    /// When a run gets to its next step.
    pub(super) fn child_due(&self, run: RunId) -> Option<Time> {
        self.runs.get(&run).and_then(|(_, life)| life.due())
    }

    /// The process has ended, and every run with it.
    pub(super) fn end(self, now: Time, journal: &mut Journal) {
        for (entry, _) in self.runs.into_values() {
            journal.end(entry, now, Ending::Killed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Cluster, Options};

    /// Goal: a process that stands still for long is not owed more streams than its kernel accepts for it. Method: a seed
    /// stands still while the other node dials it for ten minutes; then it goes on, and both are members again.
    #[test]
    fn a_paused_process_is_owed_no_more_streams_than_its_backlog_has() {
        let mut cluster = Cluster::new(Options { listen_backlog: 3, ..Options::seeded(1) });
        let [a, _] = ["a", "b"].map(|name| cluster.add_node(name));
        cluster.converge(Duration::from_secs(30));
        cluster.pause(a);
        cluster.run_for(Duration::from_secs(600));
        let unaccepted = cluster.slots[a.0].process.as_ref().map(super::Process::unaccepted);
        assert_eq!(unaccepted, Some(3));
        cluster.resume(a);
        cluster.converge(Duration::from_secs(60));
    }
}
