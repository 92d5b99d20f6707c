//! Who must have heard of a write: a lower bound from the faults and from the pulls that were seen to be completed.
//!
//! A write is acknowledged by one instance. Another must have it once the two were both up, not paused and not cut off
//! from each other for a whole `window`. What every instance of this kind took to its grave may be lost (STATE.md,
//! "What it gives"); everything else may not.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use haulout::proto::{InstanceId, Time};

use crate::NodeIdx;
use crate::history::{CONFLICT_PAUSE, FaultKind, History, Life, Pull};

/// Since when each instance must know something.
pub type Knowers = Rc<BTreeMap<InstanceId, Time>>;

/// Who must know what at the end of a run. Each question is answered once.
#[derive(Debug)]
pub struct Knowledge<'a> {
    lives: &'a [Life],
    /// The place of each life.
    places: BTreeMap<InstanceId, usize>,
    now: Time,
    window: Duration,
    /// When a node stood still, was late or shared its address, in the order in which that began.
    pauses: BTreeMap<NodeIdx, Vec<Span>>,
    /// When a link between two nodes was cut, jammed or bad, in the order in which that began.
    cuts: BTreeMap<Pair, Vec<Span>>,
    /// When all links were so bad that nobody may have heard of anything in time.
    weather: Vec<Span>,
    /// The pulls that were seen, by whose state was pulled.
    pulls: BTreeMap<InstanceId, Vec<Pull>>,
    disturbances: RefCell<BTreeMap<Pair, Rc<[Span]>>>,
    answered: RefCell<BTreeMap<(InstanceId, Time), Knowers>>,
}

/// Two nodes, the lower one first.
type Pair = (NodeIdx, NodeIdx);

/// From when until when a fault lasted.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: Time,
    to: Option<Time>,
}

impl<'a> Knowledge<'a> {
    /// What follows from the history by `now`; two nodes that can talk tell each other everything within `window`.
    pub fn new(history: &'a History, now: Time, window: Duration) -> Self {
        let (mut pauses, mut cuts) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        let mut weather = Vec::new();
        for fault in &history.faults {
            let span = Span { from: fault.from, to: fault.to };
            match fault.kind {
                // Streams carry what gossip does not, and the other way round: of two that lack either, no window is
                // quiet.
                FaultKind::Cut(a, b, _)
                | FaultKind::Rejects(a, b)
                | FaultKind::Clogged(a, b)
                | FaultKind::Degraded(a, b)
                | FaultKind::Sifted(a, b) => {
                    cuts.entry((a.min(b), a.max(b))).or_default().push(span);
                }
                FaultKind::Paused(node)
                | FaultKind::Slow(node)
                | FaultKind::ClockJump(node)
                | FaultKind::Ghost(node) => {
                    pauses.entry(node).or_default().push(span);
                }
                FaultKind::Twin(one, other) => {
                    // Whoever found another process at its address is heard by nobody for that long.
                    let span = Span { to: span.to.map(|to| to + CONFLICT_PAUSE), ..span };
                    [one, other].into_iter().for_each(|node| pauses.entry(node).or_default().push(span));
                }
                FaultKind::Weather(severity) if severity.is_heavy() => weather.push(span),
                FaultKind::Weather(_) | FaultKind::Loss(_) => {}
            }
        }
        let mut pulls: BTreeMap<InstanceId, Vec<Pull>> = BTreeMap::new();
        history.pulls.iter().for_each(|pull| pulls.entry(pull.from).or_default().push(*pull));
        let places = history.lives.iter().enumerate().map(|(place, life)| (life.instance, place)).collect();
        Knowledge {
            lives: &history.lives,
            places,
            now,
            window,
            pauses,
            cuts,
            weather,
            pulls,
            disturbances: RefCell::default(),
            answered: RefCell::default(),
        }
    }

    /// The instances that must know by now what `source` knew at `at`, and from when on.
    pub fn knowers(&self, source: InstanceId, at: Time) -> Knowers {
        let known = self.answered.borrow().get(&(source, at)).cloned();
        known.unwrap_or_else(|| {
            let knowers = Rc::new(self.spread(source, at));
            self.answered.borrow_mut().insert((source, at), knowers.clone());
            knowers
        })
    }

    /// Whether an instance that lives now must know what `source` knew at `at`.
    pub fn survives(&self, source: InstanceId, at: Time) -> bool {
        self.knowers(source, at).keys().any(|&instance| self.life(instance).is_some_and(|life| life.to.is_none()))
    }

    fn life(&self, instance: InstanceId) -> Option<&Life> {
        self.places.get(&instance).map(|&place| &self.lives[place])
    }

    /// Dijkstra's shortest paths: who hears it first passes it on first.
    fn spread(&self, source: InstanceId, at: Time) -> BTreeMap<InstanceId, Time> {
        let mut open = BTreeMap::from([(source, at)]);
        let mut known = BTreeMap::new();
        while let Some((instance, since)) = open.iter().map(|(&instance, &since)| (instance, since)).min_by_key(|e| e.1)
        {
            open.remove(&instance);
            known.insert(instance, since);
            for pull in self.pulls.get(&instance).into_iter().flatten().filter(|pull| pull.knew >= since) {
                if !known.contains_key(&pull.to) {
                    let heard = open.entry(pull.to).or_insert(pull.at);
                    *heard = pull.at.min(*heard);
                }
            }
            let Some(teller) = self.life(instance) else { continue };
            // Nobody hears of it sooner than a window later.
            let is_news = |open: &BTreeMap<_, Time>, life: &Life| {
                !known.contains_key(&life.instance)
                    && open.get(&life.instance).is_none_or(|&heard| heard > since + self.window)
            };
            for hearer in self.lives.iter().filter(|life| life.to.is_none_or(|to| to >= since + self.window)) {
                if is_news(&open, hearer)
                    && let Some(heard) = self.heard(teller, hearer, since)
                {
                    let entry = open.entry(hearer.instance).or_insert(heard);
                    *entry = heard.min(*entry);
                }
            }
        }
        known
    }

    /// When the first quiet window between the two is over.
    fn heard(&self, teller: &Life, hearer: &Life, since: Time) -> Option<Time> {
        let mut from = since.max(hearer.from);
        let end = teller.to.unwrap_or(self.now).min(hearer.to.unwrap_or(self.now));
        // In order of their beginning, so one pass pushes the window behind each that reaches into it.
        for span in self.disturbances(teller.node, hearer.node).iter() {
            if span.from > from + self.window || from + self.window > end {
                break;
            }
            if span.to.is_none_or(|to| to >= from) {
                from = span.to?;
            }
        }
        (from + self.window <= end).then(|| from + self.window)
    }

    /// Whatever kept two nodes from talking, in the order in which it began.
    fn disturbances(&self, a: NodeIdx, b: NodeIdx) -> Rc<[Span]> {
        let pair = (a.min(b), a.max(b));
        let known = self.disturbances.borrow().get(&pair).cloned();
        known.unwrap_or_else(|| {
            let lists = [self.cuts.get(&pair), self.pauses.get(&a), self.pauses.get(&b), Some(&self.weather)];
            let mut spans: Vec<Span> = lists.into_iter().flatten().flatten().copied().collect();
            spans.sort_by_key(|span| span.from);
            let spans: Rc<[Span]> = spans.into();
            self.disturbances.borrow_mut().insert(pair, spans.clone());
            spans
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::LifeEnd;
    use crate::network::{Class, Link};
    use crate::random::Range;

    const WINDOW: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn instance(number: usize) -> InstanceId {
        InstanceId::new(number as u64 + 1)
    }

    fn knowledge(history: &History) -> Knowledge<'_> {
        Knowledge::new(history, at(100), WINDOW)
    }

    /// Three nodes, up from the beginning.
    fn history() -> History {
        let mut history = History::default();
        for node in 0..3 {
            let (node, instance) = (NodeIdx(node), instance(node));
            let life = Life { node, instance, from: at(0), told_before: 0, to: None, end: None };
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
        let known = knowledge(&history).knowers(instance(0), at(3));
        assert_eq!(known.values().copied().collect::<Vec<_>>(), [at(3), at(13), at(13)]);
        assert!(knowledge(&history).survives(instance(0), at(3)));
        assert!(!knowledge(&history).survives(instance(0), at(6)), "no window before the crash");
    }

    #[test]
    fn a_write_goes_round_a_cut_and_waits_out_a_pause() {
        let mut history = history();
        cut(&mut history, 2, 0, 0, 90);
        let known = knowledge(&history).knowers(instance(0), at(3));
        assert_eq!(known[&instance(2)], at(23), "through the third node");

        history.begin_fault(FaultKind::Paused(NodeIdx(1)), at(15));
        history.end_faults(at(40), |kind| matches!(kind, FaultKind::Paused(_)));
        let known = knowledge(&history).knowers(instance(0), at(3));
        assert_eq!((known[&instance(1)], known[&instance(2)]), (at(13), at(50)));
    }

    #[test]
    fn whatever_disturbs_one_of_two_nodes_disturbs_their_talk() {
        let (a, b) = (NodeIdx(0), NodeIdx(1));
        let link = Link { delay: Range::millis(1, 60), ..Link::default() };
        for (kind, expected) in [
            (FaultKind::Cut(a, b, Class::Streams), 17),
            (FaultKind::Cut(b, a, Class::Datagrams), 17),
            (FaultKind::Clogged(b, a), 17),
            (FaultKind::Degraded(a, b), 17),
            (FaultKind::Slow(b), 17),
            (FaultKind::Twin(b, NodeIdx(3)), 77),
            (FaultKind::ClockJump(a), 17),
            (FaultKind::Ghost(b), 17),
            (FaultKind::Loss(0.5), 13),
            (FaultKind::Weather(link.severity()), 13),
            (FaultKind::Weather(Link { burst_loss: 0.9, ..link }.severity()), 17),
        ] {
            let mut history = history();
            history.begin_fault(kind, at(5));
            history.end_faults(at(7), |_| true);
            let heard = knowledge(&history).knowers(instance(0), at(3))[&instance(1)];
            // The third node is no way round: it tells what it knows, too late to be noticed here, at 23 s at best.
            assert_eq!(heard, at(expected), "{kind:?}");
        }
    }

    #[test]
    fn a_writer_that_was_cut_off_until_it_crashed_took_its_write_along() {
        let mut history = history();
        cut(&mut history, 0, 1, 5, 60);
        cut(&mut history, 2, 0, 5, 60);
        history.end_life(instance(0), at(50), LifeEnd::Crashed);
        assert_eq!(knowledge(&history).knowers(instance(0), at(6)).len(), 1);
    }
}
