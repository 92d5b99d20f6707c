//! Children that block the thread on which they are polled, found without reading a clock in any poll.
//!
//! Each thread that polls a child counts that, once before and once after. The protocol loop looks at the counts every now
//! and then: whoever is in the same poll as before blocks its thread. So a poll costs two stores to memory of its own thread
//! and no clock, 17 ns with the look-up of the thread (measured), however many children there are.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::proto::{RunId, Time};

/// From when on a poll is told of: far above what any poll should take, so that whoever is told has something to mend.
const BLOCKS: Duration = Duration::from_secs(1);

/// How often threads are looked at, at most. The loop wakes often enough by itself.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The threads on which children of one node are polled.
#[derive(Debug, Default)]
pub(super) struct Polls {
    /// Those that the loop has not seen yet.
    new: Mutex<Vec<Weak<Thread>>>,
}

/// One of them; it alone writes.
#[derive(Debug, Default)]
struct Thread {
    /// Changes with every beginning and end of a poll, and is odd during one.
    turn: AtomicU64,
    run: AtomicU64,
}

thread_local! {
    static MINE: RefCell<Vec<(Weak<Polls>, Arc<Thread>)>> = const { RefCell::new(Vec::new()) };
}

/// One poll, until it is dropped.
struct Poll {
    thread: Arc<Thread>,
    /// The run in whose poll this one began: a child may run others itself.
    around: Option<u64>,
}

impl Polls {
    /// Polls a run on this thread.
    pub(super) fn during<T>(self: &Arc<Self>, run: RunId, poll: impl FnOnce() -> T) -> T {
        let _poll = self.begin(run);
        poll()
    }

    /// `None` while this thread ends.
    fn begin(self: &Arc<Self>, run: RunId) -> Option<Poll> {
        let thread = MINE.try_with(|mine| self.thread(&mut mine.borrow_mut())).ok()?;
        let turn = thread.turn.load(Ordering::Relaxed);
        let around = (turn % 2 == 1).then(|| thread.run.load(Ordering::Relaxed));
        thread.run.store(run.0, Ordering::Relaxed);
        thread.turn.store(turn + if around.is_some() { 2 } else { 1 }, Ordering::Release);
        Some(Poll { thread, around })
    }

    fn thread(self: &Arc<Self>, mine: &mut Vec<(Weak<Polls>, Arc<Thread>)>) -> Arc<Thread> {
        if let Some((_, thread)) = mine.iter().find(|(polls, _)| polls.as_ptr() == Arc::as_ptr(self)) {
            return thread.clone();
        }
        mine.retain(|(polls, _)| polls.strong_count() > 0);
        let thread = Arc::<Thread>::default();
        mine.push((Arc::downgrade(self), thread.clone()));
        self.new.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&thread));
        thread
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        let turn = self.thread.turn.load(Ordering::Relaxed);
        if let Some(around) = self.around {
            self.thread.run.store(around, Ordering::Relaxed);
        }
        self.thread.turn.store(turn + if self.around.is_some() { 2 } else { 1 }, Ordering::Release);
    }
}

/// What the protocol loop knows of these threads.
#[derive(Debug, Default)]
pub(super) struct Watch {
    polls: Arc<Polls>,
    threads: Vec<Watched>,
    looked: Time,
}

#[derive(Debug)]
struct Watched {
    thread: Weak<Thread>,
    turn: u64,
    /// Since when it is known to be in this turn.
    since: Time,
    /// After how long it was told of.
    told: Duration,
}

impl Watch {
    pub(super) fn polls(&self) -> Arc<Polls> {
        self.polls.clone()
    }

    /// This process stood still: nobody is to blame for the time.
    pub(super) fn forgive(&mut self, now: Time) {
        self.threads.iter_mut().for_each(|watched| watched.since = now);
    }

    /// The runs that block a thread, and for how long at least; each again when that has doubled.
    pub(super) fn look(&mut self, now: Time) -> Vec<(RunId, Duration)> {
        if now.since(self.looked) < LOOK_INTERVAL {
            return Vec::new();
        }
        self.looked = now;
        let new = std::mem::take(&mut *self.polls.new.lock().unwrap_or_else(PoisonError::into_inner));
        let watched = |thread| Watched { thread, turn: 0, since: now, told: Duration::ZERO };
        self.threads.extend(new.into_iter().map(watched));
        let mut blocking = Vec::new();
        self.threads.retain_mut(|watched| {
            let Some(thread) = watched.thread.upgrade() else { return false };
            let turn = thread.turn.load(Ordering::Acquire);
            let run = thread.run.load(Ordering::Relaxed);
            if turn != watched.turn || thread.turn.load(Ordering::Acquire) != turn {
                *watched = Watched { thread: watched.thread.clone(), turn, since: now, told: Duration::ZERO };
            }
            let lasted = now.since(watched.since);
            if turn % 2 == 1 && lasted >= BLOCKS.max(watched.told * 2) {
                watched.told = lasted;
                blocking.push((RunId(run), lasted));
            }
            true
        });
        blocking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn seconds(blocking: Vec<(RunId, Duration)>) -> Vec<(u64, f64)> {
        blocking.into_iter().map(|(run, lasted)| (run.0, lasted.as_secs_f64())).collect()
    }

    /// Goal: one long poll is told of after a second and when it has doubled, many short ones are not, however often they are
    /// seen. Method: looks at chosen times, in and between polls on this thread.
    #[test]
    fn one_long_poll_is_told_of_and_many_short_ones_are_not() {
        let mut watch = Watch::default();
        let polls = watch.polls();
        for turn in 1..20 {
            polls.during(RunId(7), || assert_eq!(watch.look(at(turn * 500)), []));
        }
        polls.during(RunId(8), || {
            assert_eq!(watch.look(at(10_000)), []);
            assert_eq!(watch.look(at(10_900)), []);
            assert_eq!(seconds(watch.look(at(11_100))), [(8, 1.1)]);
            assert_eq!(watch.look(at(12_000)), [], "not again before it has doubled");
            assert_eq!(seconds(watch.look(at(12_300))), [(8, 2.3)]);
        });
        assert_eq!(watch.look(at(60_000)), [], "it is over");
    }

    /// Goal: a child that polls another one blocks in its own name again when that one is done. Method: one poll in another.
    #[test]
    fn a_poll_within_another_gives_the_blame_back() {
        let mut watch = Watch::default();
        let polls = watch.polls();
        polls.during(RunId(1), || {
            polls.during(RunId(2), || assert_eq!(watch.look(at(1_000)), []));
            assert_eq!(watch.look(at(2_000)), []);
            assert_eq!(seconds(watch.look(at(3_000))), [(1, 1.0)]);
        });
    }

    /// Goal: a process that stood still blames nobody, and threads that have ended are forgotten. Method: forgive during a
    /// poll; polls on a thread that ends.
    #[test]
    fn standing_still_is_nobodys_fault_and_ended_threads_are_forgotten() {
        let mut watch = Watch::default();
        let polls = watch.polls();
        polls.during(RunId(1), || {
            watch.look(at(1_000));
            watch.forgive(at(9_000));
            assert_eq!(watch.look(at(9_500)), []);
            assert_eq!(seconds(watch.look(at(10_000))), [(1, 1.0)]);
        });
        std::thread::scope(|scope| {
            // Joined, because a scope waits for what a thread does and not until it is gone.
            scope.spawn(|| polls.during(RunId(2), || {})).join().expect("it ends");
        });
        watch.look(at(20_000));
        watch.look(at(21_000));
        assert_eq!(watch.threads.len(), 1);
    }

    /// Goal: measuring costs a poll next to nothing. Method: the time of a million of them; the bar is far above what it takes
    /// and far below what a poll of a child does.
    #[test]
    fn measuring_a_poll_costs_little() {
        let polls = Watch::default().polls();
        let count = 1_000_000;
        let clock = crate::runtime::clock::Clock::start();
        (0..count).for_each(|run| polls.during(RunId(run), || std::hint::black_box(())));
        let each = Duration::from_nanos(clock.now().as_nanos() / count);
        println!("{each:?} each");
        assert!(each < Duration::from_micros(2), "{each:?} each");
    }
}
