//! Runs of children without a protocol: what they report, in which order, and how often. Deadlines are virtual.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as std_mpsc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::*;
use crate::child::{ChildId, ChildSpec};
use crate::proto::{Epoch, ScopeId};
use crate::runtime::context::{BoxError, Child};
use crate::runtime::kinds;

const START_TIMEOUT: Duration = Duration::from_secs(30);
const RUN: RunId = RunId(1);

/// What a test child does.
#[derive(Serialize, Deserialize)]
enum Act {
    Return,
    FailInit,
    PanicInit,
    HangInit,
    FinishInitWhenStopping,
    FailRun(String),
    PanicRun,
    PanicDrop,
    UntilStopping,
    FailWhenStopping,
    Hang,
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("dropped badly");
    }
}

impl Child for Act {
    const KIND: &'static str = "act";

    async fn init(&mut self, ctx: &ChildContext) -> Result<(), BoxError> {
        match self {
            Act::FailInit => Err("no luck".into()),
            Act::PanicInit => panic!("bad init of {}", ctx.id()),
            Act::HangInit => std::future::pending().await,
            Act::FinishInitWhenStopping => {
                ctx.stopping().await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn run(self, ctx: ChildContext) -> Result<(), BoxError> {
        match self {
            Act::FailRun(text) => Err(text.into()),
            Act::PanicRun => panic!("bad run"),
            Act::PanicDrop => {
                let _bad = PanicsOnDrop;
                std::future::pending().await
            }
            Act::UntilStopping => {
                ctx.stopping().await;
                Ok(())
            }
            Act::FailWhenStopping => {
                ctx.stopping().await;
                Err("could not tidy up".into())
            }
            Act::Hang => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

struct Bench {
    tasks: Tasks,
    reports: UnboundedReceiver<(RunId, ChildEvent)>,
}

impl Bench {
    fn new() -> Self {
        Bench::on(Handle::current())
    }

    fn on(user: Handle) -> Self {
        let (sender, reports) = mpsc::unbounded_channel();
        Bench { tasks: Tasks::new("node".into(), user, sender, START_TIMEOUT), reports }
    }

    fn act(&mut self, act: &Act) {
        let args = postcard::to_stdvec(act).unwrap();
        self.start(RUN, kinds::typed::<Act>(), args);
    }

    fn start(&mut self, run: RunId, runner: Runner, args: Vec<u8>) {
        let spec = Arc::new(ChildSpec::raw("x", "act", args).unwrap().spec().clone());
        let id = ChildId::new("x").unwrap();
        let start = StartChild { scope: ScopeId::of("scope"), run, id, spec, epoch: Epoch::default() };
        self.tasks.start(Time::ZERO, start, &runner, &"scope".into());
    }

    async fn report(&mut self) -> (RunId, ChildEvent) {
        let report = timeout(Duration::from_secs(20), self.reports.recv()).await.expect("a report in time");
        let (run, event) = report.expect("the channel is open");
        self.tasks.observe(run, &event);
        (run, event)
    }

    async fn started(&mut self) {
        let (_, event) = self.report().await;
        assert!(matches!(event, ChildEvent::Started), "{event:?}");
    }

    async fn exited(&mut self) -> Outcome {
        match self.report().await.1 {
            ChildEvent::Exited(outcome) => outcome,
            other => panic!("{other:?} instead of an exit"),
        }
    }

    /// Asserts that nothing else was or will be reported, and that nothing is kept.
    async fn silent(mut self) {
        assert!(self.tasks.runs.is_empty() && self.tasks.deadlines.is_empty());
        drop(self.tasks);
        let more = timeout(Duration::from_secs(20), self.reports.recv()).await.expect("every sender is dropped");
        assert!(more.is_none(), "{more:?}");
    }
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_returns_is_started_once_and_succeeds_once() {
    let mut bench = Bench::new();
    bench.act(&Act::Return);
    bench.started().await;
    assert_eq!(bench.exited().await, Outcome::Success);
    bench.silent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_init_is_an_exit_without_a_start() {
    let mut bench = Bench::new();
    bench.act(&Act::FailInit);
    assert_eq!(bench.exited().await, Outcome::Error("no luck".into()));
    bench.act(&Act::PanicInit);
    assert_eq!(bench.exited().await, Outcome::Panic("bad init of x".into()));
    bench.silent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_that_takes_too_long_is_aborted_and_says_so() {
    let mut bench = Bench::new();
    bench.act(&Act::HangInit);
    assert_eq!(bench.tasks.poll_timeout(), Some(at(30)));
    bench.tasks.handle_timeout(at(30));
    assert_eq!(bench.exited().await, Outcome::Error("init did not return within 30s".into()));
    bench.silent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_that_returned_has_no_deadline_any_more() {
    let mut bench = Bench::new();
    bench.act(&Act::UntilStopping);
    bench.started().await;
    assert_eq!(bench.tasks.poll_timeout(), None);
    bench.tasks.handle_timeout(at(3_600));
    bench.tasks.stop(at(3_600), RUN, Shutdown::default());
    assert_eq!(bench.exited().await, Outcome::Stopped);
    bench.silent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_or_a_panic_of_run_is_reported_with_its_text() {
    let mut bench = Bench::new();
    bench.act(&Act::FailRun("é".repeat(200)));
    bench.started().await;
    assert_eq!(bench.exited().await, Outcome::Error("é".repeat(128).into()));
    bench.act(&Act::PanicRun);
    bench.started().await;
    assert_eq!(bench.exited().await, Outcome::Panic("bad run".into()));
    bench.silent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_that_do_not_decode_are_declined() {
    #[derive(Serialize)]
    struct Bomb;
    impl<'de> Deserialize<'de> for Bomb {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("boom");
        }
    }
    impl Child for Bomb {
        const KIND: &'static str = "bomb";
        async fn run(self, _: ChildContext) -> Result<(), BoxError> {
            Ok(())
        }
    }
    let mut bench = Bench::new();
    let cases = [
        (kinds::typed::<Act>(), vec![], "do not decode"),
        (kinds::typed::<Act>(), vec![99], "do not decode"),
        (kinds::typed::<Act>(), vec![0, 0, 0], "2 bytes too many"),
        (kinds::typed::<Bomb>(), vec![], "panicked: boom"),
    ];
    for (runner, args, expected) in cases {
        bench.start(RUN, runner, args);
        match bench.report().await.1 {
            ChildEvent::Declined(why) => assert!(why.contains(expected), "{why}"),
            other => panic!("{other:?} instead of a refusal"),
        }
    }
    bench.tasks.decline(RUN, "unknown here");
    assert!(matches!(bench.report().await.1, ChildEvent::Declined(_)));
    bench.silent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_is_told_to_stop_and_ends_is_stopped_whatever_it_returns() {
    for act in [Act::UntilStopping, Act::FailWhenStopping] {
        let mut bench = Bench::new();
        bench.act(&act);
        bench.started().await;
        bench.tasks.stop(at(1), RUN, Shutdown::Timeout(Duration::from_secs(5)));
        assert_eq!(bench.exited().await, Outcome::Stopped);
        bench.silent().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_ignores_the_signal_is_aborted_at_its_deadline() {
    let mut bench = Bench::new();
    bench.act(&Act::Hang);
    bench.started().await;
    bench.tasks.stop(at(1), RUN, Shutdown::Timeout(Duration::from_secs(5)));
    bench.tasks.handle_timeout(at(5));
    assert!(bench.reports.try_recv().is_err());
    assert_eq!(bench.tasks.poll_timeout(), Some(at(6)));
    bench.tasks.handle_timeout(at(6));
    assert_eq!(bench.exited().await, Outcome::Aborted);
    bench.silent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn infinity_waits_and_brutal_overrides_it() {
    let mut bench = Bench::new();
    bench.act(&Act::Hang);
    bench.started().await;
    bench.tasks.stop(at(1), RUN, Shutdown::Infinity);
    assert_eq!(bench.tasks.poll_timeout(), None);
    bench.tasks.handle_timeout(at(1_000_000));
    bench.tasks.stop(at(2), RUN, Shutdown::Brutal);
    assert_eq!(bench.exited().await, Outcome::Aborted);
    bench.silent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_is_told_to_stop_during_init_never_runs() {
    let mut bench = Bench::new();
    bench.act(&Act::FinishInitWhenStopping);
    bench.tasks.stop(at(1), RUN, Shutdown::Infinity);
    assert_eq!(bench.exited().await, Outcome::Stopped);
    bench.silent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_infinitely_patient_stop_does_not_wait_for_an_init_that_hangs() {
    let mut bench = Bench::new();
    bench.act(&Act::HangInit);
    bench.tasks.stop(at(1), RUN, Shutdown::Infinity);
    bench.tasks.handle_timeout(at(30));
    assert_eq!(bench.exited().await, Outcome::Aborted);
    bench.silent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_is_reported_after_the_future_was_dropped_even_if_that_panics() {
    let mut bench = Bench::new();
    bench.act(&Act::PanicDrop);
    bench.started().await;
    bench.tasks.stop(at(1), RUN, Shutdown::Brutal);
    assert_eq!(bench.exited().await, Outcome::Aborted);

    struct SetsOnDrop(Arc<AtomicBool>);
    impl Drop for SetsOnDrop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = dropped.clone();
    let runner = kinds::closure(move |_, _| {
        let guard = SetsOnDrop(flag.clone());
        async move {
            let _guard = guard;
            std::future::pending().await
        }
    });
    bench.start(RUN, runner, vec![]);
    bench.started().await;
    bench.tasks.stop(at(1), RUN, Shutdown::Brutal);
    assert_eq!(bench.exited().await, Outcome::Aborted);
    assert!(dropped.load(Ordering::SeqCst));
    bench.silent().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_never_yields_harms_no_other_and_is_reported_when_it_ends() {
    let mut bench = Bench::new();
    let (release, blocked) = std_mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let runner = kinds::closure(move |_, _| {
        let blocked = blocked.clone();
        async move {
            // Returns when the test lets go of the other end.
            let _ = blocked.lock().unwrap().recv();
            std::future::pending().await
        }
    });
    bench.start(RUN, runner, vec![]);
    bench.started().await;
    bench.tasks.stop(at(1), RUN, Shutdown::Brutal);

    let sibling = RunId(2);
    bench.start(sibling, kinds::typed::<Act>(), postcard::to_stdvec(&Act::Return).unwrap());
    assert_eq!(bench.report().await.0, sibling);
    assert!(matches!(bench.report().await, (run, ChildEvent::Exited(Outcome::Success)) if run == sibling));

    drop(release);
    assert!(matches!(bench.report().await, (RUN, ChildEvent::Exited(Outcome::Aborted))));
    bench.silent().await;
}

#[test]
fn a_runtime_that_is_shut_down_ends_its_children_and_takes_no_more() {
    let user = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut bench = Bench::on(user.handle().clone());
    bench.act(&Act::Hang);
    here.block_on(bench.started());
    drop(user);
    assert_eq!(here.block_on(bench.exited()), Outcome::Aborted);
    bench.act(&Act::Return);
    assert_eq!(here.block_on(bench.exited()), Outcome::Aborted);
    here.block_on(bench.silent());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_gone_takes_its_children_with_it() {
    let mut bench = Bench::new();
    bench.act(&Act::Hang);
    bench.started().await;
    drop(bench.tasks);
    let (_, event) = timeout(Duration::from_secs(20), bench.reports.recv()).await.unwrap().unwrap();
    assert!(matches!(event, ChildEvent::Exited(Outcome::Aborted)));
    assert!(timeout(Duration::from_secs(20), bench.reports.recv()).await.unwrap().is_none());
}

#[test]
fn a_text_is_cut_at_a_character() {
    assert_eq!(&*shortened("short"), "short");
    assert_eq!(shortened(&"a".repeat(300)).len(), 256);
    assert_eq!(shortened(&format!("a{}", "é".repeat(200))).len(), 255);
}

/// Goal: a child is not blamed for the time for which the whole process stood still, and is for what it blocks after that.
/// Method: a poll that goes on, looked at by a loop that was on time, far too late, and on time again.
#[tokio::test]
async fn nobody_is_blamed_while_the_process_stood_still() {
    let mut bench = Bench::new();
    bench.act(&Act::Hang);
    let polls = bench.tasks.watch.polls();
    polls.during(RUN, || {
        let mut blamed = |secs, late| {
            let blocking = bench.tasks.blocking(at(secs), late);
            blocking.into_iter().map(|(_, lasted)| lasted).collect::<Vec<_>>()
        };
        assert_eq!(blamed(1, Duration::ZERO), []);
        assert_eq!(blamed(60, Duration::from_secs(59)), []);
        assert_eq!(blamed(62, Duration::ZERO), [Duration::from_secs(2)]);
    });
}
