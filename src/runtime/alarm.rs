//! The one timer of the protocol loop: rings when the next thing is due.
//!
//! An idle node does little else than wait for it, some ten times a second. The timers of tokio are made for thousands: one
//! that is more than 64 ms away wakes its thread once on the way, and setting it wakes the thread once more, by a system call
//! and another one. Where the system offers a timer of its own, that costs one call for each new deadline and nothing else.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use timer::Alarm;

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) use sleep::Alarm;

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
    pub(in crate::runtime) struct Alarm {
        timer: AsyncFd<OwnedFd>,
        /// What it is set to; `None` if it does not ring.
        due: Option<Time>,
    }

    impl Alarm {
        /// One that is not set. By the clock that counts suspension, so that it rings at once after it.
        #[allow(
            deprecated,
            reason = "what replaces it came with tokio 1.54; this descriptor stays open for as long as it"
        )]
        pub(in crate::runtime) fn new() -> io::Result<Self> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
            Ok(Alarm { timer: AsyncFd::with_interest(timer, Interest::READABLE)?, due: None })
        }

        /// Rings at this time or up to a millisecond later; `None`: not at all.
        pub(in crate::runtime) fn set(&mut self, clock: &Clock, due: Option<Time>) {
            if due == self.due {
                return;
            }
            self.due = due;
            let step = due.map_or(0, |due| clock.reading_at(due).div_ceil(STEP_NANOS).max(1));
            let at = Duration::from_nanos(step.saturating_mul(STEP_NANOS));
            let once = Itimerspec {
                it_interval: Timespec::default(),
                // All zeros switch it off.
                it_value: Timespec::try_from(at).expect("five centuries of seconds fit"),
            };
            timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &once)
                .expect("a timer can be set to any time");
        }

        /// Waits until it rings. It may ring early where it was set again in the moment in which it rang.
        pub(in crate::runtime) async fn rung(&mut self) {
            match self.timer.readable().await {
                // Setting it takes back what there is to be read, so nobody has to read it.
                Ok(mut ready) => ready.clear_ready(),
                // The runtime is being shut down, and this task with it.
                Err(_) => std::future::pending().await,
            }
            self.due = None;
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
    pub(in crate::runtime) struct Alarm {
        pause: Option<Duration>,
    }

    impl Alarm {
        /// One that is not set.
        pub(in crate::runtime) fn new() -> io::Result<Self> {
            Ok(Alarm { pause: None })
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

    use super::Alarm;
    use crate::proto::Time;
    use crate::runtime::clock::Clock;

    fn has_rung(alarm: &mut Alarm) -> bool {
        let rung = std::pin::pin!(alarm.rung());
        rung.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    /// Goal: it rings no sooner than it was set to, again for each setting, at once for what is over, and not when it is
    /// switched off. Method: it is set to a few times in turn, the last but one farther away than the test lasts.
    #[tokio::test]
    async fn it_rings_when_it_was_set_to_and_not_before() {
        let clock = Clock::start();
        let mut alarm = Alarm::new().expect("a timer");
        for pause in [3, 1, 70, 0].map(Duration::from_millis) {
            let due = clock.now() + pause;
            alarm.set(&clock, Some(due));
            alarm.rung().await;
            assert!(clock.now() >= due, "{pause:?}");
        }
        alarm.set(&clock, Some(Time::ZERO));
        alarm.rung().await;
        alarm.set(&clock, Some(Time::from_nanos(u64::MAX)));
        assert!(!has_rung(&mut alarm));
        alarm.set(&clock, Some(clock.now() + Duration::from_millis(1)));
        alarm.set(&clock, None);
        let mut later = Alarm::new().expect("a timer");
        later.set(&clock, Some(clock.now() + Duration::from_millis(5)));
        tokio::select! {
            () = alarm.rung() => panic!("it was switched off"),
            () = later.rung() => {}
        }
    }
}
