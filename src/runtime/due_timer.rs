//! The one timer of the protocol loop: rings when the next thing is due.
//!
//! An idle node does little else than wait for it. The timers of tokio are made for thousands of them: one that is more than
//! 64 ms away wakes its thread once on the way, and each that is set makes the thread write to itself and wake from that. Where
//! the system offers a timer of its own, a new deadline costs one system call and nothing else.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use timer::DueTimer;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) use sleep::DueTimer;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod timer {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    use crate::proto::Time;
    use crate::runtime::clock::Clock;

    /// What is due within the same millisecond wakes the loop once.
    const STEP_NANOS: u64 = 1_000_000;

    /// See the module.
    #[derive(Debug)]
    pub(in crate::runtime) struct DueTimer {
        timer: AsyncFd<OwnedFd>,
        /// The step at which it rings; 0 if it does not.
        step: u64,
    }

    impl DueTimer {
        /// One that is not set. By the clock that counts suspension, so that it rings at once after it.
        #[allow(
            deprecated,
            reason = "what replaces it came with tokio 1.54, and is unsafe, for descriptors that may be closed meanwhile; this one is owned"
        )]
        pub(in crate::runtime) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
            Ok(DueTimer { timer: AsyncFd::with_interest(timer, Interest::READABLE)?, step: 0 })
        }

        /// Rings at this time or up to a millisecond later; `None`: not at all.
        pub(in crate::runtime) fn set(&mut self, clock: &Clock, due: Option<Time>) {
            let step = due.map_or(0, |due| clock.reading_at(due).div_ceil(STEP_NANOS).max(1));
            if step == self.step {
                return;
            }
            self.step = step;
            let at = Duration::from_nanos(step.saturating_mul(STEP_NANOS));
            let once = Itimerspec {
                it_interval: Timespec::default(),
                // All zeros switch it off.
                it_value: Timespec::try_from(at).expect("five centuries of seconds fit"),
            };
            timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &once)
                .expect("a timer can be set to any time");
        }

        /// Waits until it rings. It may ring early after a ring that nobody heard.
        pub(in crate::runtime) async fn rung(&mut self) {
            match self.timer.readable().await {
                // Setting it takes back what there is to be read, so nobody has to read it.
                Ok(mut ready) => ready.clear_ready(),
                // The runtime is being shut down, and this task with it.
                Err(_) => std::future::pending().await,
            }
            // It rang early or in time: whatever is due next, the same again or not, it has to be set for.
            self.step = 0;
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod sleep {
    use std::io;
    use std::time::Duration;

    use crate::proto::Time;
    use crate::runtime::clock::Clock;

    /// See the module.
    #[derive(Debug)]
    pub(in crate::runtime) struct DueTimer {
        pause: Option<Duration>,
    }

    impl DueTimer {
        /// One that is not set.
        pub(in crate::runtime) fn new() -> io::Result<Self> {
            Ok(DueTimer { pause: None })
        }

        /// Rings at this time or a little later; `None`: not at all.
        pub(in crate::runtime) fn set(&mut self, clock: &Clock, due: Option<Time>) {
            self.pause = due.map(|due| due.since(clock.now()));
        }

        /// Waits until it rings.
        pub(in crate::runtime) async fn rung(&mut self) {
            match self.pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use super::DueTimer;
    use crate::proto::Time;
    use crate::runtime::clock::Clock;

    /// It rings, and something else happens first.
    async fn ring_unheard(timer: &mut DueTimer, clock: &Clock) {
        timer.set(clock, Some(clock.now() + Duration::from_millis(1)));
        let mut other = DueTimer::new().expect("a timer");
        other.set(clock, Some(clock.now() + Duration::from_millis(3)));
        other.rung().await;
    }

    fn has_rung(timer: &mut DueTimer) -> bool {
        let rung = std::pin::pin!(timer.rung());
        rung.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    /// Goal: it rings no sooner than it was set to, again for each setting, at once for what is over, and not when it is
    /// switched off; one ring that nobody heard makes it ring early once and not miss the next. Method: it is set to a few times
    /// in turn, the last but one farther away than the test lasts.
    #[tokio::test]
    async fn it_rings_when_it_was_set_to_and_not_before() {
        let clock = Clock::start();
        let mut timer = DueTimer::new().expect("a timer");
        for pause in [3, 1, 70, 0].map(Duration::from_millis) {
            let due = clock.now() + pause;
            timer.set(&clock, Some(due));
            timer.rung().await;
            assert!(clock.now() >= due, "{pause:?}");
        }
        timer.set(&clock, Some(Time::ZERO));
        timer.rung().await;
        ring_unheard(&mut timer, &clock).await;
        let due = clock.now() + Duration::from_millis(20);
        while clock.now() < due {
            timer.set(&clock, Some(due));
            tokio::time::timeout(Duration::from_secs(10), timer.rung()).await.expect("it is set again");
        }
        timer.set(&clock, Some(Time::from_nanos(u64::MAX)));
        assert!(!has_rung(&mut timer));
        timer.set(&clock, Some(clock.now() + Duration::from_millis(1)));
        timer.set(&clock, None);
        let mut later = DueTimer::new().expect("a timer");
        later.set(&clock, Some(clock.now() + Duration::from_millis(5)));
        tokio::select! {
            () = timer.rung() => panic!("it was switched off"),
            () = later.rung() => {}
        }
    }
}
