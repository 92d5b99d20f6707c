//! What is going to happen, in order of time; what happens at one moment keeps the order in which it was planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use haulout::proto::Time;

/// Planned happenings by (time, order of planning).
#[derive(Debug)]
pub struct Queue<T> {
    /// What is moved about while the heap is kept in order is small; what happens stays in its place.
    heap: BinaryHeap<Reverse<Entry>>,
    places: Vec<Option<T>>,
    free: Vec<u32>,
    planned: u64,
}

/// Ordered by its fields: the order of planning never repeats, so the place decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    at: Time,
    order: u64,
    place: u32,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { heap: BinaryHeap::new(), places: Vec::new(), free: Vec::new(), planned: 0 }
    }
}

impl<T> Queue<T> {
    /// Plans something.
    ///
    /// # Panics
    /// If more than 2^32 things are planned at once.
    pub fn push(&mut self, at: Time, what: T) {
        self.planned += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = Some(what);
                place
            }
            None => {
                self.places.push(Some(what));
                u32::try_from(self.places.len() - 1).expect("fewer than 2^32 things are planned")
            }
        };
        self.heap.push(Reverse(Entry { at, order: self.planned, place }));
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes the next thing.
    pub fn pop(&mut self) -> Option<(Time, T)> {
        let Reverse(entry) = self.heap.pop()?;
        self.free.push(entry.place);
        self.places[entry.place as usize].take().map(|what| (entry.at, what))
    }

    /// How much is planned.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing is planned.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_by_time_and_those_of_one_moment_in_the_order_of_planning() {
        let mut queue = Queue::default();
        for (at, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (3, 'b'), (5, 'e')] {
            queue.push(Time::from_nanos(at), what);
        }
        assert_eq!((queue.len(), queue.next_at()), (5, Some(Time::from_nanos(1))));
        let order: String = std::iter::from_fn(|| queue.pop().map(|(_, what)| what)).collect();
        assert_eq!(order, "abcde");
        assert!(queue.is_empty());
    }
}
