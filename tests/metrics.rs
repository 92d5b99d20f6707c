//! The figures of a node reach whichever recorder is installed. A test binary of its own: a recorder is for the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use haulout::{ChildSpec, Config, FigureKind, Node, ScopeStats, Stats};
use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use tokio::sync::Notify;

/// What was published: by name and labels, and what each name is said to be.
#[derive(Clone, Default)]
struct Recorded {
    values: Arc<Mutex<BTreeMap<String, (FigureKind, f64)>>>,
    described: Arc<Mutex<BTreeMap<String, String>>>,
    changed: Arc<Notify>,
}

struct Slot(Recorded, String);

impl Slot {
    fn put(&self, kind: FigureKind, value: f64) {
        self.0.values.lock().unwrap().insert(self.1.clone(), (kind, value));
        self.0.changed.notify_one();
    }
}

impl CounterFn for Slot {
    fn increment(&self, _: u64) {
        panic!("figures are published as they stand, not as differences");
    }

    fn absolute(&self, value: u64) {
        self.put(FigureKind::Counter, value as f64);
    }
}

impl GaugeFn for Slot {
    fn increment(&self, _: f64) {
        panic!("figures are published as they stand, not as differences");
    }

    fn decrement(&self, _: f64) {
        panic!("figures are published as they stand, not as differences");
    }

    fn set(&self, value: f64) {
        self.put(FigureKind::Gauge, value);
    }
}

fn spelled(key: &Key) -> String {
    let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
    format!("{}{{{}}}", key.name(), labels.join(","))
}

impl Recorder for Recorded {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, help: SharedString) {
        self.described.lock().unwrap().insert(name.as_str().to_owned(), help.into_owned());
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe_counter(name, unit, help);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        panic!("{} is published as a histogram", name.as_str());
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Slot(self.clone(), spelled(key))))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Slot(self.clone(), spelled(key))))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("{} is published as a histogram", key.name());
    }
}

/// Goal: every figure is published under its name, with its labels and a description, and follows what happens.
/// Method: one node with a child, and a recorder that writes everything down.
#[tokio::test(flavor = "multi_thread")]
async fn every_figure_is_published_with_its_labels_and_follows_what_happens() {
    let recorded = Recorded::default();
    metrics::set_global_recorder(recorded.clone()).map_err(|_| "a recorder is installed already").unwrap();
    let config = Config { name: Some("n1".into()), settle_timeout: Some(Duration::ZERO), ..Config::default() };
    let node = Node::builder(config).start().await.unwrap();
    let supervisor = node
        .scope("jobs")
        .kind_fn("kind", |ctx, _| async move {
            ctx.stopping().await;
            Ok(())
        })
        .join()
        .await
        .unwrap();
    supervisor.start_child(ChildSpec::raw("a", "kind", "").unwrap()).running(Duration::from_secs(10)).await.unwrap();

    let value = |key: &str| recorded.values.lock().unwrap().get(key).copied();
    let of_node = Stats::default().figures().map(|figure| (format!("{}{{node=n1}}", figure.metric), figure));
    let of_scope = ScopeStats::default().figures();
    let of_scope = of_scope.map(|figure| (format!("{}{{node=n1,scope=jobs}}", figure.metric), figure));
    let figures: Vec<_> = of_node.chain(of_scope).collect();
    let running = "haulout_scope_children_running{node=n1,scope=jobs}";
    let is_published = async {
        while value(running) != Some((FigureKind::Gauge, 1.0)) || figures.iter().any(|(key, _)| value(key).is_none()) {
            recorded.changed.notified().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), is_published).await.expect("published within seconds");
    assert_eq!(value("haulout_starts{node=n1}"), Some((FigureKind::Counter, 1.0)));
    let described = recorded.described.lock().unwrap();
    for (key, figure) in &figures {
        let (kind, _) = value(key).expect("it is there");
        assert_eq!((kind, described[figure.metric].as_str()), (figure.kind, figure.help), "{key}");
    }
}
