//! The figures of a node as metrics, for whichever recorder of the facade `metrics` the service has installed.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Label, SharedString, Unit, counter, describe_counter, describe_gauge, gauge};

use crate::proto::{Figure, FigureKind, ScopeStats, Stats, Time};

/// How often figures are published at most: scrapers come less often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Publishes the figures of one node.
#[derive(Debug)]
pub(super) struct Metrics {
    node: Arc<str>,
    published: Option<Time>,
}

impl Metrics {
    pub(super) fn new(node: Arc<str>) -> Self {
        Metrics { node, published: None }
    }

    /// Whether it is time to publish again.
    pub(super) fn is_due(&self, now: Time) -> bool {
        self.published.is_none_or(|last| now.since(last) >= INTERVAL)
    }

    /// Publishes all figures. Counters and gauges are looked up anew each time, so that a recorder may be installed after
    /// the node was started; descriptions are given once.
    pub(super) fn publish(&mut self, now: Time, stats: &Stats, scopes: &[(Arc<str>, ScopeStats)]) {
        if self.published.replace(now).is_none() {
            stats.figures().chain(ScopeStats::default().figures()).for_each(describe);
        }
        let node = Label::new("node", SharedString::from(self.node.clone()));
        stats.figures().for_each(|figure| set(figure, vec![node.clone()]));
        for (scope, stats) in scopes {
            let labels = vec![node.clone(), Label::new("scope", SharedString::from(scope.clone()))];
            stats.figures().for_each(|figure| set(figure, labels.clone()));
        }
    }
}

fn describe(figure: Figure) {
    let unit = match figure.name {
        name if name.ends_with("_nanos") || name.ends_with("_nanos_max") => Unit::Nanoseconds,
        name if name.contains("bytes") => Unit::Bytes,
        _ => Unit::Count,
    };
    match figure.kind {
        FigureKind::Counter => describe_counter!(figure.metric, unit, figure.help),
        FigureKind::Gauge => describe_gauge!(figure.metric, unit, figure.help),
    }
}

fn set(figure: Figure, labels: Vec<Label>) {
    match figure.kind {
        FigureKind::Counter => counter!(figure.metric, labels).absolute(figure.value),
        FigureKind::Gauge => gauge!(figure.metric, labels).set(figure.value as f64),
    }
}
