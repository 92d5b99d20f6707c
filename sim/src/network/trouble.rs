//! The rarer faults of a link: bad periods, stragglers, late copies, damage, a narrow line, resets.
//!
//! Each kind has a stream of random numbers of its own and takes the same count of them for every datagram, whatever
//! becomes of it: adding or taking out one kind leaves the others where they were.

use std::time::Duration;

use haulout::proto::Time;

use super::{Arrival, Damage, Fate, Link, LostTo};
use crate::random::{Random, Range};

/// Bad and good periods are at least this long, so that a range of zero does not stop time.
const PERIOD_MIN: Duration = Duration::from_millis(1);

/// What the rarer faults of one link remember.
#[derive(Debug)]
pub(super) struct Trouble {
    tails: Random,
    replays: Random,
    corruptions: Random,
    truncations: Random,
    resets: Random,
    segments: Random,
    bursts: Bursts,
    line: Line,
}

impl Trouble {
    pub(super) fn new(seed: u64, link: u64) -> Self {
        let stream = |name: &str| Random::numbered(seed, name, link);
        Trouble {
            tails: stream("link tails"),
            replays: stream("link replays"),
            corruptions: stream("link corruptions"),
            truncations: stream("link truncations"),
            resets: stream("link resets"),
            segments: stream("link segments"),
            bursts: Bursts {
                periods: stream("link periods"),
                losses: stream("link bursts"),
                bad: true,
                until: Time::ZERO,
            },
            line: Line::default(),
        }
    }

    /// What becomes of a datagram with whom the link's plain faults would deal like this.
    pub(super) fn datagram(&mut self, link: &Link, now: Time, bytes: usize, plain: Fate) -> Fate {
        let tail = late(&mut self.tails, link.tail, link.tail_delay).unwrap_or_default();
        let replay = late(&mut self.replays, link.replay, link.replay_after);
        let corruption = fork(&mut self.corruptions, link.corrupt).map(Damage::Corrupted);
        let truncation = fork(&mut self.truncations, link.truncate).map(Damage::Truncated);
        let burst = self.bursts.strike(link, now);
        let mut arrival = match plain {
            Fate::Arrives(_) if burst => return Fate::Lost(LostTo::Noise),
            Fate::Arrives(_) if link.mtu.is_some_and(|mtu| bytes > mtu) => return Fate::Lost(LostTo::Mtu),
            Fate::Arrives(arrival) => arrival,
            Fate::Lost(_) => return plain,
        };
        let Some(queued) = self.line.datagram(link, now, bytes) else { return Fate::Lost(LostTo::Queue) };
        let later = queued + tail;
        arrival.after += later;
        arrival.again = arrival.again.map(|again| again + later);
        Fate::Arrives(Arrival { replay, damage: truncation.or(corruption), ..arrival })
    }

    /// How much longer a segment of a stream takes. `retransmission` says how long after its first try the copy with
    /// this number is sent.
    pub(super) fn segment(
        &mut self,
        link: &Link,
        now: Time,
        bytes: usize,
        retransmission: impl Iterator<Item = Duration>,
    ) -> Duration {
        let mut delay = late(&mut self.segments, link.tail, link.tail_delay).unwrap_or_default();
        if self.bursts.is_bad(link, now) {
            let mut draws = self.segments.fork();
            delay += retransmission.take_while(|_| draws.chance(link.burst_loss)).last().unwrap_or_default();
        }
        delay + self.line.segment(link, now, bytes)
    }

    /// Whether a stream is reset on the way of a frame: how long after it was sent either side hears of it.
    pub(super) fn reset(&mut self, link: &Link) -> Option<[Duration; 2]> {
        let mut times = fork(&mut self.resets, link.reset)?;
        // Nobody says when a middlebox forgets a stream, or to which side it says so first.
        let apart = Range::new(Duration::ZERO, link.delay.max * 4);
        Some([times.duration(apart), times.duration(apart)])
    }
}

/// A duration of the range with this probability. A fault that never happens takes no numbers of its stream.
fn late(random: &mut Random, probability: f64, range: Range) -> Option<Duration> {
    if probability == 0.0 {
        return None;
    }
    let (happens, duration) = (random.chance(probability), random.duration(range));
    happens.then_some(duration)
}

fn fork(random: &mut Random, probability: f64) -> Option<Random> {
    if probability == 0.0 {
        return None;
    }
    let (happens, fork) = (random.chance(probability), random.fork());
    happens.then_some(fork)
}

/// Good and bad periods in turn, from the beginning of time on, however much is sent.
#[derive(Debug)]
struct Bursts {
    periods: Random,
    losses: Random,
    bad: bool,
    until: Time,
}

impl Bursts {
    /// Whether a datagram is lost to a bad period.
    fn strike(&mut self, link: &Link, now: Time) -> bool {
        link.burst_loss > 0.0 && self.losses.chance(link.burst_loss) & self.is_bad(link, now)
    }

    fn is_bad(&mut self, link: &Link, now: Time) -> bool {
        if link.burst_loss == 0.0 {
            return false;
        }
        while self.until <= now {
            self.bad = !self.bad;
            let range = if self.bad { link.burst_length } else { link.burst_every };
            self.until = self.until + self.periods.duration(range).max(PERIOD_MIN);
        }
        self.bad
    }
}

/// A line that carries so many bytes a second, with a queue before it.
///
/// Datagrams are put into the queue as they come. Streams heed the congestion: what of them waits in the queue fills
/// at most half of it, the rest waits at their sender.
#[derive(Debug, Default)]
struct Line {
    datagrams_until: Time,
    streams_until: Time,
}

impl Line {
    /// How long a datagram waits and is sent; `None` if the queue has no room for it.
    fn datagram(&mut self, link: &Link, now: Time, bytes: usize) -> Option<Duration> {
        let Some(rate) = link.bandwidth.map(|rate| rate.max(1)) else { return Some(Duration::ZERO) };
        let waiting = bytes_in(self.datagrams_until.since(now), rate);
        let streams = bytes_in(self.streams_until.since(now), rate).min(link.queue_bytes / 2);
        let size = bytes as u64;
        if waiting + streams + size > link.queue_bytes {
            return None;
        }
        let sending = time_of(size, rate);
        self.datagrams_until = self.datagrams_until.max(now) + sending;
        if self.streams_until > now {
            self.streams_until = self.streams_until + sending;
        }
        Some(time_of(streams, rate) + self.datagrams_until.since(now))
    }

    /// How long a segment of a stream waits and is sent.
    fn segment(&mut self, link: &Link, now: Time, bytes: usize) -> Duration {
        let Some(rate) = link.bandwidth.map(|rate| rate.max(1)) else { return Duration::ZERO };
        self.streams_until = self.streams_until.max(self.datagrams_until).max(now) + time_of(bytes as u64, rate);
        self.streams_until.since(now)
    }
}

const NANOS: u128 = 1_000_000_000;

fn bytes_in(time: Duration, rate: u64) -> u64 {
    u64::try_from(time.as_nanos() * u128::from(rate) / NANOS).unwrap_or(u64::MAX / 4)
}

fn time_of(bytes: u64, rate: u64) -> Duration {
    Duration::from_nanos(u64::try_from(u128::from(bytes) * NANOS / u128::from(rate)).unwrap_or(u64::MAX))
}
