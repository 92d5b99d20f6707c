//! What the supervisor wants of a run, and whoever waits to hear of it. Every child has one of these and nearly every
//! child waits for it, so it is small: 16 bytes in what waits, where a future of `tokio::sync::Notify` takes 72.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use smallvec::SmallVec;

/// What the supervisor wants of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// To go on.
    Run = 0,
    /// To end by itself.
    Stop = 1,
    /// Aborted after it was told to stop, or instead.
    Abort = 2,
    /// Aborted because its `init` took too long.
    GiveUp = 3,
}

/// Who waits, each in a place of its own. Most children wait once.
type Waiting = SmallVec<[Option<Waker>; 1]>;

/// The order that a run is under.
#[derive(Debug)]
pub(super) struct Orders {
    order: AtomicU8,
    waiting: Mutex<Waiting>,
}

impl Orders {
    pub(super) fn new() -> Self {
        Orders { order: AtomicU8::new(Order::Run as u8), waiting: Mutex::default() }
    }

    pub(super) fn get(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Run,
            1 => Order::Stop,
            2 => Order::Abort,
            _ => Order::GiveUp,
        }
    }

    /// Gives an order. It only ever gets stricter.
    pub(super) fn give(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::AcqRel);
        // Woken without the lock: a waker runs code of whoever waits.
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// Resolves when the run is to end, in whichever way.
    pub(super) fn stopping(&self) -> Stopping<'_> {
        Stopping { orders: self, place: None }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Orders::stopping`].
pub(super) struct Stopping<'a> {
    orders: &'a Orders,
    /// Where its waker is kept.
    place: Option<u32>,
}

impl Future for Stopping<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let orders = self.orders;
        let waker = cx.waker().clone();
        let mut waiting = orders.waiting();
        // Looked at under the lock: an order that comes now finds the waker.
        if orders.get() != Order::Run {
            return Poll::Ready(());
        }
        let place = self.place.map(|place| place as usize).or_else(|| waiting.iter().position(Option::is_none));
        let place = place.unwrap_or_else(|| {
            waiting.push(None);
            waiting.len() - 1
        });
        let old = waiting[place].replace(waker);
        // A waker that is dropped may run code as well.
        drop(waiting);
        drop(old);
        self.place = Some(place as u32);
        Poll::Pending
    }
}

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        // Gone with all others if an order was given.
        let waker = self.orders.waiting().get_mut(place as usize).and_then(Option::take);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn poll(stopping: &mut Stopping<'_>, counter: &Arc<Counter>) -> Poll<()> {
        Pin::new(stopping).poll(&mut Context::from_waker(&counter.clone().into()))
    }

    /// Goal: whoever waits is woken by the first order, once, and whoever comes later need not wait. Method: three wait,
    /// one of them was polled twice, one is dropped before the order.
    #[test]
    fn everybody_who_waits_is_woken_once() {
        let (orders, counters) = (Orders::new(), [(); 3].map(|()| Arc::new(Counter::default())));
        let mut waiting = [(); 3].map(|()| orders.stopping());
        for (stopping, counter) in waiting.iter_mut().zip(&counters) {
            assert!(poll(stopping, counter).is_pending());
        }
        let [mut first, second, mut third] = waiting;
        assert!(poll(&mut first, &counters[0]).is_pending());
        drop(second);
        orders.give(Order::Stop);
        assert_eq!(counters.each_ref().map(|counter| counter.0.load(Ordering::SeqCst)), [1, 0, 1]);
        assert!(poll(&mut first, &counters[0]).is_ready());
        orders.give(Order::Abort);
        assert!(poll(&mut third, &counters[2]).is_ready());
        assert!(poll(&mut orders.stopping(), &counters[1]).is_ready());
        assert_eq!(counters.each_ref().map(|counter| counter.0.load(Ordering::SeqCst)), [1, 0, 1]);
    }

    /// Goal: a child that waits anew for each piece of its work keeps no more wakers than it has futures that wait. Method:
    /// a thousand futures one after the other beside one that stays.
    #[test]
    fn places_are_used_again() {
        let (orders, counter) = (Orders::new(), Arc::new(Counter::default()));
        let mut stays = orders.stopping();
        assert!(poll(&mut stays, &counter).is_pending());
        for _ in 0..1_000 {
            assert!(poll(&mut orders.stopping(), &counter).is_pending());
        }
        assert_eq!(orders.waiting().len(), 2);
        assert_eq!(Arc::strong_count(&counter), 2);
    }

    /// Goal: an order is never taken back. Method: milder ones after a strict one.
    #[test]
    fn an_order_only_gets_stricter() {
        let orders = Orders::new();
        for (given, expected) in [(Order::Abort, Order::Abort), (Order::Stop, Order::Abort), (Order::Run, Order::Abort)]
        {
            orders.give(given);
            assert_eq!(orders.get(), expected);
        }
    }
}
