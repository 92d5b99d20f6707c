//! One node over real sockets: what it promises to the process that embeds it. No other node is needed for that.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use haulout::{
    BoxError, Child, ChildContext, ChildSpec, ChildState, Config, Event, JoinScopeError, LeaveError, Node, Outcome,
    Profile, Restart, StartError, StartNodeError, Started, Supervisor, TerminateError, Unavailable, WaitError, Which,
};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

fn config() -> Config {
    Config { profile: Profile::Local, settle_timeout: Some(Duration::from_millis(100)), ..Config::default() }
}

async fn start(config: Config) -> Node {
    Node::builder(config).start().await.unwrap()
}

/// What the test child does; `init` and `run` are where a user's code can go wrong.
#[derive(Clone, Serialize, Deserialize)]
enum Act {
    Live,
    Finish,
    Fail,
    Panic,
}

impl Child for Act {
    const KIND: &'static str = "act";

    async fn run(self, ctx: ChildContext) -> Result<(), BoxError> {
        match self {
            Act::Live => ctx.stopping().await,
            Act::Finish => {}
            Act::Fail => return Err("no luck".into()),
            Act::Panic => panic!("ouch"),
        }
        Ok(())
    }
}

async fn join(node: &Node) -> Supervisor {
    node.scope("scope").kind::<Act>().join().await.unwrap()
}

fn spec(id: &str, act: Act) -> ChildSpec {
    ChildSpec::new(id, &act).unwrap()
}

async fn event(events: &mut broadcast::Receiver<Event>, wanted: impl Fn(&Event) -> bool) -> Event {
    let found = async {
        loop {
            let event = events.recv().await.expect("the node is there");
            if wanted(&event) {
                return event;
            }
        }
    };
    timeout(SOON, found).await.expect("the event in time")
}

async fn state(supervisor: &Supervisor, id: &str) -> Option<ChildState> {
    let children = supervisor.which_children(Which::Global).await.unwrap();
    children.into_iter().find(|child| child.id.as_bytes() == id.as_bytes()).map(|child| child.state)
}

/// Waits until the port can be bound anew for UDP and TCP: the node has closed its sockets.
async fn closed(addr: SocketAddr) {
    let free = async {
        loop {
            if UdpSocket::bind(addr).is_ok() && TcpListener::bind(addr).is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, free).await.expect("the sockets are closed in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_runs_is_listed_and_ends_when_it_is_terminated() {
    let node = start(config()).await;
    let supervisor = join(&node).await;
    let mut events = supervisor.events();
    let live = spec("seal", Act::Live);
    assert_eq!(supervisor.start_child(live.clone()).running(SOON).await, Ok(Started::New));
    assert_eq!(supervisor.start_child(live.clone()).await, Ok(Started::Existing));

    let location = supervisor.whereis("seal").await.unwrap().unwrap();
    assert_eq!((&*location.node, location.addr), (node.name(), node.addr()));
    assert_eq!(supervisor.wait_until_running("seal", SOON).await.unwrap(), location);
    let local = supervisor.which_children(Which::Local).await.unwrap();
    assert_eq!(local, supervisor.which_children(Which::Global).await.unwrap());
    assert_eq!(local.len(), 1);
    assert_eq!((local[0].id.to_string().as_str(), &local[0].state), ("seal", &ChildState::Running));

    let other = supervisor.start_child(spec("seal", Act::Fail)).await.unwrap_err();
    assert!(matches!(other, StartError::AlreadyStarted { existing } if *existing == *live.spec()));

    supervisor.terminate_child("seal").await.unwrap();
    let exit = event(&mut events, |event| matches!(event, Event::ChildExited { .. })).await;
    assert!(matches!(exit, Event::ChildExited { outcome: Outcome::Stopped, .. }), "{exit:?}");
    assert_eq!(supervisor.whereis("seal").await.unwrap(), None);
    assert_eq!(supervisor.terminate_child("seal").await, Err(TerminateError::NotFound));
    node.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_receiver_of_events_begins_with_the_join() {
    let node = start(config()).await;
    let supervisor = join(&node).await;
    supervisor.start_child(spec("seal", Act::Live)).running(SOON).await.unwrap();
    let mut events = supervisor.events();
    event(&mut events, |event| matches!(event, Event::Settled)).await;
    event(&mut events, |event| matches!(event, Event::ChildStarted { .. })).await;
    let members = supervisor.members().borrow().clone();
    assert_eq!(members.iter().map(|member| &*member.name).collect::<Vec<_>>(), [node.name()]);
    node.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_that_fail_or_panic_disturb_no_sibling() {
    let node = start(config()).await;
    let supervisor = join(&node).await;
    let mut events = supervisor.events();
    supervisor.start_child(spec("well", Act::Live)).running(SOON).await.unwrap();
    let well = supervisor.whereis("well").await.unwrap();
    for (id, act) in [("fails", Act::Fail), ("panics", Act::Panic)] {
        supervisor.start_child(spec(id, act)).await.unwrap();
        event(
            &mut events,
            |event| matches!(event, Event::ChildBackoff { id: who, .. } if who.as_bytes() == id.as_bytes()),
        )
        .await;
    }
    supervisor.start_child(spec("done", Act::Finish).restart(Restart::Transient)).await.unwrap();
    event(&mut events, |event| matches!(event, Event::ChildCompleted { .. })).await;
    assert_eq!(supervisor.whereis("well").await.unwrap(), well);
    assert_eq!(state(&supervisor, "done").await, None);
    node.leave().await.unwrap();
}

/// Blocks as many threads as the runtime has; calls and the exit of another child must go through all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_that_block_every_thread_of_the_runtime_do_not_hold_up_the_node() {
    let (release, blocked) = mpsc::channel::<()>();
    let blocked = Arc::new(Mutex::new(blocked));
    let node = start(config()).await;
    let supervisor = node
        .scope("scope")
        .kind_fn("blocker", move |_, _| {
            let blocked = blocked.clone();
            async move {
                let _ = blocked.lock().unwrap().recv();
                Ok(())
            }
        })
        .join()
        .await
        .unwrap();
    for id in ["left", "right"] {
        supervisor.start_child(ChildSpec::raw(id, "blocker", vec![]).unwrap()).await.unwrap();
        supervisor.wait_until_running(id, SOON).await.unwrap();
    }
    assert_eq!(supervisor.which_children(Which::Local).await.unwrap().len(), 2);
    node.stats().await.unwrap();
    // A wait's own time-out does not depend on the runtime of the children either.
    supervisor.start_child(ChildSpec::raw("third", "blocker", vec![]).unwrap()).await.unwrap();
    assert_eq!(supervisor.wait_until_running("nobody", SOON).await, Err(WaitError::NotFound));
    drop(release);
    node.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_nobody_knows_is_accepted_and_shown_as_unplaced() {
    let node = start(config()).await;
    let supervisor = join(&node).await;
    let stranger = ChildSpec::raw("stranger", "unheard-of", vec![]).unwrap();
    let error = supervisor.start_child(stranger).running(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error, StartError::NotRunning(WaitError::Timeout));
    assert!(matches!(state(&supervisor, "stranger").await, Some(ChildState::Unplaced(_))));
    node.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_an_error_at_the_call() {
    let node = start(config()).await;
    let supervisor = join(&node).await;
    assert!(ChildSpec::new("", &Act::Live).is_err());
    assert!(ChildSpec::raw("id", "kind", vec![0; (64 << 10) + 1]).is_err());
    assert!(matches!(supervisor.terminate_child("").await, Err(TerminateError::Spec(_))));
    assert!(supervisor.whereis("x".repeat(256)).await.is_err());
    assert!(matches!(supervisor.wait_until_running("", SOON).await, Err(WaitError::Spec(_))));
    let again = node.scope("scope").join().await;
    assert!(matches!(again, Err(JoinScopeError::AlreadyJoined(_))), "{again:?}");
    let twice = node.scope("other").kind::<Act>().kind::<Act>().join().await;
    assert!(matches!(twice, Err(JoinScopeError::DuplicateKind(_))), "{twice:?}");
    // The refused join harmed neither the first supervisor nor a later join.
    supervisor.start_child(spec("seal", Act::Live)).running(SOON).await.unwrap();
    node.scope("other").kind::<Act>().join().await.unwrap();
    node.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_leaves_nothing_behind() {
    let node = start(config()).await;
    let supervisor = join(&node).await;
    for _ in 0..100 {
        let mut wait = pin!(supervisor.wait_until_running("later", SOON));
        let _ = wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    supervisor.start_child(spec("later", Act::Live)).running(SOON).await.unwrap();
    node.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leave_stops_the_children_closes_the_port_and_ends_every_handle() {
    let node = start(config()).await;
    let supervisor = join(&node).await;
    let (mut events, mut members) = (supervisor.events(), supervisor.members());
    supervisor.start_child(spec("seal", Act::Live)).running(SOON).await.unwrap();
    timeout(SOON, node.leave()).await.unwrap().unwrap();
    UdpSocket::bind(node.addr()).unwrap();
    TcpListener::bind(node.addr()).unwrap();

    event(&mut events, |event| matches!(event, Event::ChildExited { .. })).await;
    let ended = async { while !matches!(events.recv().await, Err(broadcast::error::RecvError::Closed)) {} };
    timeout(SOON, ended).await.expect("events end");
    let ended = async { while members.changed().await.is_ok() {} };
    timeout(SOON, ended).await.expect("members end");
    let gone = Unavailable::NodeGone;
    assert_eq!(node.leave().await, Err(LeaveError::Unavailable(gone)));
    assert_eq!(supervisor.which_children(Which::Global).await, Err(gone));
    assert_eq!(supervisor.start_child(spec("pup", Act::Live)).await, Err(StartError::Unavailable(gone)));
    assert_eq!(node.stats().await, Err(gone));
    assert!(matches!(supervisor.events().recv().await, Err(broadcast::error::RecvError::Closed)));
}

/// A child that tells when its future is dropped.
async fn with_a_witness(node: &Node) -> (Supervisor, tokio::sync::mpsc::UnboundedReceiver<()>) {
    let (alive, dropped) = tokio::sync::mpsc::unbounded_channel::<()>();
    let alive = Mutex::new(Some(alive));
    let run = move |ctx: ChildContext, _| {
        let alive = alive.lock().unwrap().take();
        async move {
            let _alive = alive;
            ctx.stopping().await;
            Ok(())
        }
    };
    let supervisor = node.scope("scope").kind_fn("witness", run).join().await.unwrap();
    let witness = ChildSpec::raw("witness", "witness", vec![]).unwrap();
    supervisor.start_child(witness).running(SOON).await.unwrap();
    (supervisor, dropped)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_every_handle_leaves_in_the_background() {
    let node = start(Config { leave_timeout: Duration::from_millis(100), ..config() }).await;
    let addr = node.addr();
    let (supervisor, mut dropped) = with_a_witness(&node).await;
    drop(node);
    assert!(supervisor.node().stats().await.is_ok(), "a supervisor is a handle too");
    drop(supervisor);
    assert_eq!(timeout(SOON, dropped.recv()).await.expect("the child ends"), None);
    closed(addr).await;
}

#[test]
fn shutting_the_runtime_down_ends_children_and_node() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (node, _supervisor, mut dropped) = runtime.block_on(async {
        let node = start(config()).await;
        let (supervisor, dropped) = with_a_witness(&node).await;
        (node, supervisor, dropped)
    });
    runtime.shutdown_background();
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    here.block_on(async {
        assert_eq!(timeout(SOON, dropped.recv()).await.expect("the child ends"), None);
        closed(node.addr()).await;
        assert_eq!(node.stats().await, Err(Unavailable::NodeGone));
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_can_not_start_says_why() {
    let node = start(config()).await;
    let taken = Node::builder(Config { bind: node.addr(), ..config() }).start().await;
    assert!(matches!(taken, Err(StartNodeError::AddressInUse { addr }) if addr == node.addr()), "{taken:?}");
    let wrong = Node::builder(Config { cluster: String::new(), ..config() }).start().await;
    assert!(matches!(wrong, Err(StartNodeError::Config(_))), "{wrong:?}");
    node.leave().await.unwrap();
}

#[test]
fn a_node_needs_a_runtime_for_its_children() {
    let mut starting = pin!(Node::builder(config()).start());
    let polled = starting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(polled, Poll::Ready(Err(StartNodeError::NoRuntime))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_on_both_ports_are_counted_and_nothing_more() {
    let node = start(config()).await;
    let supervisor = join(&node).await;
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut noise = 1_u32;
    for length in 0..200 {
        let bytes: Vec<u8> = (0..length * 7)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (noise >> 24) as u8
            })
            .collect();
        udp.send_to(&bytes, node.addr()).unwrap();
    }
    let mut stream = TcpStream::connect(node.addr()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // A clean end or a reset, not a time-out.
    let ended = stream.read(&mut [0; 16]);
    assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "{ended:?}");

    supervisor.start_child(spec("seal", Act::Live)).running(SOON).await.unwrap();
    let counted = async {
        while node.stats().await.unwrap().refused_malformed < 100 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, counted).await.expect("refusals are counted");
    assert!(node.stats().await.unwrap().refused_limit >= 1);
    node.leave().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_that_is_not_haulout_or_does_not_resolve_does_no_harm() {
    let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = stranger.local_addr().unwrap();
    let (called, calls) = mpsc::channel();
    #[allow(clippy::disallowed_methods, reason = "a stranger outside of the library")]
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = stranger.accept() {
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
            if called.send(()).is_err() {
                return;
            }
        }
    });
    // A label of 64 letters is no name, so nobody is asked for it.
    let seeds = vec![addr.to_string(), format!("{}.invalid:7946", "a".repeat(64))];
    let node = start(Config { seeds, ..config() }).await;
    let supervisor = join(&node).await;
    supervisor.start_child(spec("seal", Act::Live)).running(SOON).await.unwrap();
    calls.recv_timeout(SOON).expect("the seed is tried");
    drop(calls);
    node.leave().await.unwrap();
}

/// Polls once, without a runtime behind it.
fn first_poll<T>(call: impl Future<Output = T>) -> Option<T> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// Goal: where a child runs is read without a trip to the protocol loop. Method: the answer is there at the first poll,
/// unless the loop is at work just then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whereis_is_answered_at_once_while_the_node_is_idle() {
    let node = start(config()).await;
    let supervisor = join(&node).await;
    supervisor.start_child(spec("seal", Act::Live)).running(SOON).await.unwrap();
    let answer = async {
        loop {
            if let Some(answer) = first_poll(supervisor.whereis("seal")) {
                return answer.unwrap().expect("it runs");
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(timeout(SOON, answer).await.expect("an idle node").addr, node.addr());
    node.leave().await.unwrap();
    assert!(matches!(first_poll(supervisor.whereis("seal")), Some(Err(_))), "nothing is read of a node that has left");
}

/// Goal: a listing in parts has each child once and in order, and what its handle has done before, while others come
/// and go. Method: children for several parts; listings while a task starts and terminates more, and after each of this
/// handle's own calls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_listing_has_every_child_once_while_others_come_and_go() {
    const CHILDREN: usize = 3_000;
    let node = start(config()).await;
    let supervisor = join(&node).await;
    let mut ids: Vec<String> = (0..CHILDREN).map(|number| format!("child-{number}")).collect();
    for id in &ids {
        supervisor.start_child(spec(id, Act::Live)).await.unwrap();
    }
    ids.sort();
    let coming_and_going = tokio::spawn({
        let supervisor = supervisor.clone();
        async move {
            for number in (0..100).cycle() {
                let id = format!("guest-{number}");
                supervisor.start_child(spec(&id, Act::Live)).await.unwrap();
                supervisor.terminate_child(id).await.unwrap();
            }
        }
    });
    for number in 0..50 {
        let own = format!("own-{number}");
        supervisor.start_child(spec(&own, Act::Live)).await.unwrap();
        let listed: Vec<String> = listed(&supervisor, Which::Global).await;
        assert!(listed.contains(&own) && listed.is_sorted());
        assert!(listed.iter().filter(|id| id.starts_with("child")).eq(&ids));
        supervisor.terminate_child(own.as_str()).await.unwrap();
        // Until it has ended it is listed as what it is.
        assert!(matches!(state(&supervisor, &own).await, None | Some(ChildState::Stopping)));
    }
    coming_and_going.abort();
    let _ = coming_and_going.await;
    for id in &ids {
        supervisor.wait_until_running(id.as_str(), SOON).await.unwrap();
    }
    let local = listed(&supervisor, Which::Local).await;
    assert!(local.iter().filter(|id| id.starts_with("child")).eq(&ids));
    node.leave().await.unwrap();
}

async fn listed(supervisor: &Supervisor, which: Which) -> Vec<String> {
    let children = supervisor.which_children(which).await.unwrap();
    children.into_iter().map(|child| child.id.to_string()).collect()
}
