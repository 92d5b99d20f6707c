//! Deadlines in a total order: by time, then by reason, then by age.

use std::collections::BTreeMap;

use super::{Time, Wakeup};

/// Timers of one kind of payload.
#[derive(Debug)]
pub(crate) struct Timers<T> {
    queue: BTreeMap<(Time, Wakeup, u64), T>,
    inserted: u64,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Timers { queue: BTreeMap::new(), inserted: 0 }
    }
}

impl<T> Timers<T> {
    /// Sets a timer. Few are ever taken back: whoever is woken looks whether there is still something to do.
    pub(crate) fn set(&mut self, at: Time, reason: Wakeup, what: T) {
        self.inserted += 1;
        self.queue.insert((at, reason, self.inserted), what);
    }

    /// The first deadline and its reason.
    pub(crate) fn next(&self) -> Option<(Time, Wakeup)> {
        self.queue.first_key_value().map(|(&(at, reason, _), _)| (at, reason))
    }

    /// The first timer for which this holds, due or not. Looks at all that are due before it.
    pub(crate) fn take_first(&mut self, holds: impl Fn(&T) -> bool) -> Option<T> {
        let at = self.queue.iter().find(|(_, what)| holds(what)).map(|(at, _)| *at)?;
        self.queue.remove(&at)
    }

    /// The next timer that is due.
    pub(crate) fn pop(&mut self, now: Time) -> Option<T> {
        let (&(at, ..), _) = self.queue.first_key_value()?;
        if at > now { None } else { self.queue.pop_first().map(|(_, what)| what) }
    }
}
