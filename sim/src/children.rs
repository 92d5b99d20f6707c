//! How children behave: how long they take to start and to stop, whether they fail, when they end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use haulout::proto::{ChildEvent, StartChild, Time};
use haulout::{Outcome, Shutdown};

use crate::NodeIdx;
use crate::random::{Random, Range};

/// How a run of a child goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How long its `init` takes.
    pub start_delay: Range,
    /// How its `init` ends.
    pub start: Start,
    /// When and how it ends by itself; `None`: never.
    pub end: Option<(Range, Outcome)>,
    /// How long it takes to end once signalled. Longer than the patience of its shutdown: it ignores the signal until
    /// it is aborted, for ever if it is never.
    pub stop_delay: Range,
    /// How long it goes on after an abort (code that never yields).
    pub abort_delay: Duration,
}

/// How the start of a run ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The run begins.
    Succeeds,
    /// `init` returns this error.
    Fails(String),
    /// `init` panics with this message.
    Panics(String),
    /// The arguments do not decode.
    Declines(String),
}

impl Default for Plan {
    /// Starts at once, runs for ever, stops within 2 ms.
    fn default() -> Self {
        Plan {
            start_delay: Range::fixed(Duration::from_micros(20)),
            start: Start::Succeeds,
            end: None,
            stop_delay: Range::new(Duration::from_micros(20), Duration::from_millis(2)),
            abort_delay: Duration::ZERO,
        }
    }
}

impl Plan {
    /// A run that ends by itself after `after`.
    pub fn ending(after: Range, outcome: Outcome) -> Self {
        Plan { end: Some((after, outcome)), ..Plan::default() }
    }

    /// A run whose `init` returns an error.
    pub fn failing(error: &str) -> Self {
        Plan { start: Start::Fails(error.into()), ..Plan::default() }
    }

    /// A run whose arguments do not decode.
    pub fn declining(error: &str) -> Self {
        Plan { start: Start::Declines(error.into()), ..Plan::default() }
    }
}

/// A function that plans runs, for what tables can't say; `None` leaves it to the tables.
pub type Planner = Box<dyn FnMut(NodeIdx, &StartChild, &mut Random) -> Option<Plan>>;

/// The plans of all children: by function, else by argument bytes, else by kind, else the default.
pub struct Children {
    random: Random,
    planner: Option<Planner>,
    by_args: BTreeMap<Vec<u8>, Plan>,
    /// Each run draws one, as likely as its number says.
    by_kind: BTreeMap<String, Vec<(u32, Plan)>>,
    default: Plan,
    /// The longest that any run so far may go on after an abort.
    abort_delay_max: Duration,
}

impl Children {
    pub(crate) fn new(seed: u64) -> Self {
        Children {
            random: Random::stream(seed, "children"),
            planner: None,
            by_args: BTreeMap::new(),
            by_kind: BTreeMap::new(),
            default: Plan::default(),
            abort_delay_max: Duration::ZERO,
        }
    }

    /// The longest that any run so far may go on after an abort.
    pub fn abort_delay_max(&self) -> Duration {
        self.abort_delay_max
    }

    /// Plans runs from now on that nothing else plans.
    pub fn plan(&mut self, plan: Plan) {
        self.default = plan;
    }

    /// Plans runs of a kind from now on.
    pub fn plan_kind(&mut self, kind: &str, plan: Plan) {
        self.plan_kind_among(kind, vec![(1, plan)]);
    }

    /// Plans runs of a kind from now on: each draws one of these plans, as likely as its number says relative to the
    /// others. Without plans, runs of this kind go as those that nothing plans.
    pub fn plan_kind_among(&mut self, kind: &str, plans: Vec<(u32, Plan)>) {
        self.by_kind.insert(kind.into(), plans);
    }

    /// Plans runs with these arguments from now on.
    pub fn plan_args(&mut self, args: &[u8], plan: Plan) {
        self.by_args.insert(args.into(), plan);
    }

    /// Plans runs by a function from now on.
    pub fn plan_with(&mut self, planner: impl FnMut(NodeIdx, &StartChild, &mut Random) -> Option<Plan> + 'static) {
        self.planner = Some(Box::new(planner));
    }

    pub(crate) fn begin(&mut self, node: NodeIdx, start: &StartChild, now: Time, timeout: Duration) -> Life {
        let planned = self.planner.as_mut().and_then(|planner| planner(node, start, &mut self.random));
        let plan = planned.as_ref().unwrap_or_else(|| {
            let by_args = self.by_args.get(&start.spec.args[..]);
            let by_kind = || draw(&mut self.random, self.by_kind.get(start.spec.kind.as_str())?);
            by_args.or_else(by_kind).unwrap_or(&self.default)
        });
        self.abort_delay_max = self.abort_delay_max.max(plan.abort_delay);
        Life::new(plan, &mut self.random, now, timeout)
    }
}

/// One of several plans. A single one takes no randomness.
fn draw<'a>(random: &mut Random, plans: &'a [(u32, Plan)]) -> Option<&'a Plan> {
    if let [(_, only)] = plans {
        return Some(only);
    }
    let mut left = random.below(plans.iter().map(|(odds, _)| *odds as usize).sum());
    let drawn = plans.iter().find(|(odds, _)| match left.checked_sub(*odds as usize) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    });
    drawn.map(|(_, plan)| plan)
}

/// A run under way: a plan with its times drawn.
#[derive(Debug)]
pub(crate) struct Life {
    phase: Phase,
    /// When it gets to its next step; `None` if it just runs.
    due: Option<Time>,
    end: Option<(Duration, Outcome)>,
    stop_delay: Duration,
    abort_delay: Duration,
}

#[derive(Debug)]
enum Phase {
    Starting(ChildEvent),
    /// Until it ends by itself, if it does.
    Running(Outcome),
    Stopping(Outcome),
}

impl Life {
    fn new(plan: &Plan, random: &mut Random, now: Time, timeout: Duration) -> Self {
        let mut start_delay = random.duration(plan.start_delay);
        let stop_delay = random.duration(plan.stop_delay);
        let end = plan.end.as_ref().map(|(after, outcome)| (random.duration(*after), outcome.clone()));
        let mut first = match &plan.start {
            Start::Succeeds => ChildEvent::Started,
            Start::Fails(text) => ChildEvent::Exited(Outcome::Error(text.as_str().into())),
            Start::Panics(text) => ChildEvent::Exited(Outcome::Panic(text.as_str().into())),
            Start::Declines(text) => ChildEvent::Declined(text.as_str().into()),
        };
        if start_delay > timeout {
            start_delay = timeout;
            first = ChildEvent::Exited(Outcome::Error(Arc::from("init took longer than start_timeout")));
        }
        let due = Some(now + start_delay);
        Life { phase: Phase::Starting(first), due, end, stop_delay, abort_delay: plan.abort_delay }
    }

    pub(crate) fn due(&self) -> Option<Time> {
        self.due
    }

    /// Its node stops it; a second stop can only make it end earlier.
    pub(crate) fn stop(&mut self, now: Time, shutdown: Shutdown) {
        let (after, outcome) = match shutdown {
            Shutdown::Brutal => (self.abort_delay, Outcome::Aborted),
            Shutdown::Timeout(patience) if patience < self.stop_delay => {
                (patience + self.abort_delay, Outcome::Aborted)
            }
            Shutdown::Timeout(_) | Shutdown::Infinity => (self.stop_delay, Outcome::Stopped),
        };
        let at = now + after;
        let ends_first = match self.phase {
            Phase::Starting(_) => false,
            Phase::Running(_) | Phase::Stopping(_) => self.due.is_some_and(|due| due <= at),
        };
        if !ends_first {
            self.phase = Phase::Stopping(outcome);
            self.due = Some(at);
        }
    }

    /// Takes the step that is due.
    pub(crate) fn step(&mut self, now: Time) -> Option<ChildEvent> {
        self.due.take_if(|due| *due <= now)?;
        match &self.phase {
            Phase::Starting(ChildEvent::Started) => {
                let (after, outcome) = self.end.clone().unzip();
                self.phase = Phase::Running(outcome.unwrap_or(Outcome::Success));
                self.due = after.map(|after| now + after);
                Some(ChildEvent::Started)
            }
            Phase::Starting(failure) => Some(failure.clone()),
            Phase::Running(outcome) | Phase::Stopping(outcome) => Some(ChildEvent::Exited(outcome.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use haulout::ChildSpec;
    use haulout::proto::{Epoch, RunId, ScopeId};

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn life(plan: &Plan) -> Life {
        Life::new(plan, &mut Random::stream(1, "test"), Time::ZERO, TIMEOUT)
    }

    fn ms(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn slow_stop() -> Plan {
        Plan { start_delay: Range::millis(5, 5), stop_delay: Range::millis(100, 100), ..Plan::default() }
    }

    fn exited(event: Option<ChildEvent>) -> Outcome {
        match event {
            Some(ChildEvent::Exited(outcome)) => outcome,
            other => panic!("not an exit: {other:?}"),
        }
    }

    #[test]
    fn a_run_starts_and_runs_until_it_is_stopped() {
        let mut life = life(&slow_stop());
        assert!(life.step(ms(4)).is_none());
        assert!(matches!(life.step(ms(5)), Some(ChildEvent::Started)));
        assert_eq!(life.due(), None);
        life.stop(ms(50), Shutdown::default());
        assert_eq!(life.due(), Some(ms(150)));
        assert_eq!(exited(life.step(ms(150))), Outcome::Stopped);
    }

    #[test]
    fn an_impatient_shutdown_aborts_and_a_second_stop_only_hastens_the_end() {
        let mut life = life(&slow_stop());
        life.step(ms(5));
        life.stop(ms(10), Shutdown::Infinity);
        life.stop(ms(20), Shutdown::Timeout(Duration::from_millis(30)));
        assert_eq!(life.due(), Some(ms(50)));
        life.stop(ms(21), Shutdown::Infinity);
        assert_eq!(exited(life.step(ms(50))), Outcome::Aborted);
    }

    #[test]
    fn a_run_that_ends_by_itself_says_how_even_while_it_is_stopped() {
        let plan = Plan { end: Some((Range::millis(40, 40), Outcome::Success)), ..slow_stop() };
        let mut life = life(&plan);
        life.step(ms(5));
        life.stop(ms(10), Shutdown::Infinity);
        assert_eq!(exited(life.step(ms(45))), Outcome::Success);
    }

    #[test]
    fn an_init_that_takes_too_long_is_a_failed_start() {
        let mut life = life(&Plan { start_delay: Range::fixed(TIMEOUT * 2), ..Plan::default() });
        assert!(exited(life.step(Time::ZERO + TIMEOUT)).error().is_some());
    }

    #[test]
    fn plans_are_found_by_function_arguments_kind_and_default_in_this_order() {
        let mut children = Children::new(1);
        children.plan_kind("job", Plan::failing("kind"));
        children.plan_args(b"odd", Plan::declining("args"));
        children.plan_with(|node, start, _| (node.0 == 9 && start.id.as_bytes() == b"f").then(|| Plan::failing("fn")));
        let mut outcome = |node, id: &str, kind: &str, args: &str| {
            let child = ChildSpec::raw(id, kind, args.to_owned()).expect("a spec");
            let start = StartChild {
                scope: ScopeId::of("s"),
                run: RunId(1),
                id: child.id().clone(),
                spec: Arc::new(child.spec().clone()),
                epoch: Epoch::default(),
            };
            let mut life = children.begin(NodeIdx(node), &start, Time::ZERO, TIMEOUT);
            format!("{:?}", life.step(ms(1)))
        };
        assert!(outcome(9, "f", "job", "odd").contains("fn"));
        assert!(outcome(0, "f", "job", "odd").contains("args"));
        assert!(outcome(0, "f", "job", "").contains("kind"));
        assert!(outcome(0, "f", "other", "").contains("Started"));
    }
}
