//! What an operator reads: lines about what needs attention, with their level, their node and what they are about. A test
//! binary of its own: the subscriber is for the process.

use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use haulout::{ChildSpec, Config, Event, Node, Restart, Supervisor};
use tokio::time::timeout;

/// Longer than anything here takes, on a machine that does other things too.
const LONG: Duration = Duration::from_secs(30);

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// The first line with this message.
    fn with(&self, message: &str) -> Option<String> {
        let bytes = self.0.lock().unwrap();
        String::from_utf8_lossy(&bytes).lines().find(|line| line.contains(message)).map(str::to_owned)
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for an event; whatever it is about is logged by then.
async fn told(events: &mut tokio::sync::broadcast::Receiver<Event>, is_it: impl Fn(&Event) -> bool) -> Event {
    let wait = async {
        loop {
            let event = events.recv().await.expect("the node is there");
            if is_it(&event) {
                return event;
            }
        }
    };
    timeout(LONG, wait).await.expect("it is told")
}

async fn start(supervisor: &Supervisor, id: &str, kind: &str) {
    let spec = ChildSpec::raw(id, kind, "").unwrap().restart(Restart::Temporary);
    supervisor.start_child(spec).await.unwrap();
}

/// Logs a line when it is dropped.
struct Dropped;

impl Drop for Dropped {
    fn drop(&mut self) {
        tracing::warn!("said when dropped");
    }
}

/// Goal: a child that fails and one that blocks its thread are named, with what is needed to find them; so is the node, in the
/// span around each line. What a child logs itself can be told apart by the span in which it runs. Method: one node, these
/// children, and a subscriber that keeps what it is given. The second blocks until it was told of.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_needs_attention_is_logged_with_its_node_scope_and_child() {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
    let config = Config { name: Some("n1".into()), settle_timeout: Some(Duration::ZERO), ..Config::default() };
    let node = Node::builder(config).start().await.unwrap();
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let supervisor = node
        .scope("jobs")
        .kind_fn("fails", |_, _| async { Err("no database".into()) })
        .kind_fn("blocks", move |_, _| {
            let released = released.clone();
            async move {
                let _ = released.lock().unwrap().recv_timeout(LONG);
                Ok(())
            }
        })
        .kind_fn("talks", |_, _| async {
            let _dropped = Dropped;
            tokio::task::yield_now().await;
            tracing::warn!("said while running");
            Ok(())
        })
        .join()
        .await
        .unwrap();
    let mut events = supervisor.events();

    start(&supervisor, "poor", "fails").await;
    told(&mut events, |event| matches!(event, Event::ChildExited { .. })).await;
    let line = lines.with("child failed").expect("it is logged");
    for part in ["WARN", "node{name=\"n1\"}", "scope=\"jobs\"", "child=poor", "error=no database"] {
        assert!(line.contains(part), "{part:?} in {line:?}");
    }

    start(&supervisor, "hog", "blocks").await;
    let event = told(&mut events, |event| matches!(event, Event::ChildBlocks { .. })).await;
    let Event::ChildBlocks { id, lasted } = event else { unreachable!("that was waited for") };
    assert!(id.to_string() == "hog" && lasted >= Duration::from_secs(1) && lasted < LONG, "{id} for {lasted:?}");
    let line = lines.with("child blocks its thread").expect("it is logged");
    for part in ["WARN", "node{name=\"n1\"}", "scope=\"jobs\"", "child=hog", "lasted="] {
        assert!(line.contains(part), "{part:?} in {line:?}");
    }
    release.send(()).unwrap();
    told(&mut events, |event| matches!(event, Event::ChildCompleted { id, .. } if id.to_string() == "hog")).await;
    assert!(node.stats().await.unwrap().blocks_noticed >= 1);

    start(&supervisor, "guest", "talks").await;
    let event =
        told(&mut events, |event| matches!(event, Event::ChildCompleted { id, .. } if id.to_string() == "guest"));
    event.await;
    for message in ["said while running", "said when dropped"] {
        let line = lines.with(message).expect("it is logged");
        let around = "WARN node{name=\"n1\"}:child{scope=\"jobs\" child=guest epoch=";
        assert!(line.contains(around) && line.contains("}: logging:"), "{line:?}");
    }

    node.leave().await.unwrap();
    assert!(lines.with("node has left").expect("it is logged").contains("INFO"));
}
