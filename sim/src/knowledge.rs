//! Who must have heard of a write: a lower bound from the faults alone, without looking at what nodes sent.
//!
//! A write is acknowledged by one instance. Another must have it once the two were both up, not paused and not cut off
//! from each other for a whole `window`. What every instance of this kind took to its grave may be lost (STATE.md,
//! "What it gives"); everything else may not.

use std::collections::BTreeMap;
use std::time::Duration;

use haulout::proto::{InstanceId, Time};

use crate::history::{FaultKind, History, Life};

/// The instances that must know by now what `source` knew at `at`, and from when on.
pub fn knowers(
    history: &History,
    source: InstanceId,
    at: Time,
    now: Time,
    window: Duration,
) -> BTreeMap<InstanceId, Time> {
    let mut open = BTreeMap::from([(source, at)]);
    let mut known = BTreeMap::new();
    while let Some((instance, since)) = open.iter().map(|(&instance, &since)| (instance, since)).min_by_key(|e| e.1) {
        open.remove(&instance);
        known.insert(instance, since);
        let Some(teller) = life(history, instance) else { continue };
        for hearer in history.lives.iter().filter(|life| !known.contains_key(&life.instance)) {
            let Some(heard) = heard(history, teller, hearer, since, now, window) else { continue };
            let entry = open.entry(hearer.instance).or_insert(heard);
            *entry = heard.min(*entry);
        }
    }
    known
}

/// Whether an instance that lives now must know what `source` knew at `at`.
pub fn survives(history: &History, source: InstanceId, at: Time, now: Time, window: Duration) -> bool {
    let knowers = knowers(history, source, at, now, window);
    knowers.keys().any(|&instance| life(history, instance).is_some_and(|life| life.to.is_none()))
}

fn life(history: &History, instance: InstanceId) -> Option<&Life> {
    history.lives.iter().find(|life| life.instance == instance)
}

/// When the first quiet window between the two is over.
fn heard(history: &History, teller: &Life, hearer: &Life, since: Time, now: Time, window: Duration) -> Option<Time> {
    let mut from = since.max(hearer.from);
    let end = teller.to.unwrap_or(now).min(hearer.to.unwrap_or(now));
    let disturbs = |kind: FaultKind| match kind {
        // Streams carry what gossip does not, and the other way round: of two that lack either, no window is quiet.
        FaultKind::Cut(a, b, _) | FaultKind::Clogged(a, b) | FaultKind::Degraded(a, b) => {
            [(a, b), (b, a)].contains(&(teller.node, hearer.node))
        }
        FaultKind::Paused(node) | FaultKind::Slow(node) | FaultKind::ClockJump(node) => {
            node == teller.node || node == hearer.node
        }
        FaultKind::Twin(a, b) => [a, b].iter().any(|&node| node == teller.node || node == hearer.node),
        FaultKind::Weather(severity) => severity.is_heavy(),
        FaultKind::Loss(_) => false,
    };
    // Faults are ordered by their beginning, so one pass pushes the window behind each that reaches into it.
    for fault in history.faults.iter().filter(|fault| disturbs(fault.kind)) {
        if fault.from <= from + window && fault.to.is_none_or(|to| to >= from) {
            from = fault.to?;
        }
    }
    (from + window <= end).then(|| from + window)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeIdx;
    use crate::history::LifeEnd;
    use crate::network::{Class, Link};
    use crate::random::Range;

    const WINDOW: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn instance(number: usize) -> InstanceId {
        InstanceId::new(number as u64)
    }

    /// Three nodes, up from the beginning.
    fn history() -> History {
        let mut history = History::default();
        for node in 0..3 {
            let life = Life { node: NodeIdx(node), instance: instance(node), from: at(0), to: None, end: None };
            history.lives.push(life);
        }
        history
    }

    fn cut(history: &mut History, a: usize, b: usize, from: u64, to: u64) {
        let kind = FaultKind::Cut(NodeIdx(a), NodeIdx(b), Class::All);
        history.begin_fault(kind, at(from));
        history.end_faults(at(to), |other| other == kind);
    }

    #[test]
    fn a_quiet_window_spreads_a_write_and_its_writer_may_then_go() {
        let mut history = history();
        history.end_life(instance(0), at(15), LifeEnd::Crashed);
        let known = knowers(&history, instance(0), at(3), at(100), WINDOW);
        assert_eq!(known.values().copied().collect::<Vec<_>>(), [at(3), at(13), at(13)]);
        assert!(survives(&history, instance(0), at(3), at(100), WINDOW));
        assert!(!survives(&history, instance(0), at(6), at(100), WINDOW), "no window before the crash");
    }

    #[test]
    fn a_write_goes_round_a_cut_and_waits_out_a_pause() {
        let mut history = history();
        cut(&mut history, 2, 0, 0, 90);
        let known = knowers(&history, instance(0), at(3), at(100), WINDOW);
        assert_eq!(known[&instance(2)], at(23), "through the third node");

        history.begin_fault(FaultKind::Paused(NodeIdx(1)), at(15));
        history.end_faults(at(40), |kind| matches!(kind, FaultKind::Paused(_)));
        let known = knowers(&history, instance(0), at(3), at(100), WINDOW);
        assert_eq!((known[&instance(1)], known[&instance(2)]), (at(13), at(50)));
    }

    #[test]
    fn whatever_disturbs_one_of_two_nodes_disturbs_their_talk() {
        let (a, b) = (NodeIdx(0), NodeIdx(1));
        let link = Link { delay: Range::millis(1, 60), ..Link::default() };
        for (kind, disturbs) in [
            (FaultKind::Cut(a, b, Class::Streams), true),
            (FaultKind::Cut(b, a, Class::Datagrams), true),
            (FaultKind::Clogged(b, a), true),
            (FaultKind::Degraded(a, b), true),
            (FaultKind::Slow(b), true),
            (FaultKind::Twin(b, NodeIdx(3)), true),
            (FaultKind::ClockJump(a), true),
            (FaultKind::Loss(0.5), false),
            (FaultKind::Weather(link.severity()), false),
            (FaultKind::Weather(Link { burst_loss: 0.9, ..link }.severity()), true),
        ] {
            let mut history = history();
            history.begin_fault(kind, at(5));
            history.end_faults(at(7), |_| true);
            let heard = knowers(&history, instance(0), at(3), at(100), WINDOW)[&instance(1)];
            // The third node is no way round: it tells what it knows, too late to be noticed here, at 23 s at best.
            assert_eq!(heard, if disturbs { at(17) } else { at(13) }, "{kind:?}");
        }
    }

    #[test]
    fn a_writer_that_was_cut_off_until_it_crashed_took_its_write_along() {
        let mut history = history();
        cut(&mut history, 0, 1, 5, 60);
        cut(&mut history, 2, 0, 5, 60);
        history.end_life(instance(0), at(50), LifeEnd::Crashed);
        assert_eq!(knowers(&history, instance(0), at(6), at(100), WINDOW).len(), 1);
    }
}
