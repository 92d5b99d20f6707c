//! How long SWIM's direct probes take there and back, as far as its packets show.

use std::time::Duration;

use super::stats::nanos;
use super::{Identity, Stats, Time};

/// The probe that is on its way, and how long others took.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    last: Option<(Identity, u8, Time)>,
    rtt: Duration,
    rtt_max: Duration,
}

impl Probes {
    /// A member was probed under this number.
    pub(crate) fn sent(&mut self, now: Time, member: Identity, number: u8, stats: &mut Stats) {
        stats.probes_sent += 1;
        self.last = Some((member, number, now));
    }

    /// A member answered the probe of this number; whether it was the last one, and the first answer to it. No other
    /// counts: numbers come again.
    pub(crate) fn answered(&mut self, now: Time, member: Identity, number: u8, stats: &mut Stats) -> bool {
        let Some((_, _, sent)) = self.last.take_if(|(probed, last, _)| *probed == member && *last == number) else {
            return false;
        };
        let rtt = now.since(sent);
        stats.probes_answered += 1;
        self.rtt = if self.rtt.is_zero() { rtt } else { (self.rtt * 7 + rtt) / 8 };
        self.rtt_max = self.rtt_max.max(rtt);
        true
    }

    /// Fills in the gauges.
    pub(crate) fn measure(&self, stats: &mut Stats) {
        stats.probe_rtt_nanos = nanos(self.rtt);
        stats.probe_rtt_nanos_max = nanos(self.rtt_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::InstanceId;

    /// Goal: an answer counts once, and only for the probe that it answers. Method: answers of another member, of an
    /// earlier number, the right one, and the right one again.
    #[test]
    fn only_the_answer_to_the_last_probe_is_measured() {
        let member = |n: u16| Identity {
            addr: std::net::SocketAddr::from(([127, 0, 0, 1], n)),
            bump: 0,
            instance: InstanceId::new(n.into()),
        };
        let at = |millis: u64| Time::from_nanos(millis * 1_000_000);
        let (mut probes, mut stats) = (Probes::default(), Stats::default());
        probes.sent(at(0), member(1), 7, &mut stats);
        probes.answered(at(1), member(2), 7, &mut stats);
        probes.answered(at(2), member(1), 6, &mut stats);
        probes.answered(at(3), member(1), 7, &mut stats);
        probes.answered(at(9), member(1), 7, &mut stats);
        probes.measure(&mut stats);
        assert_eq!((stats.probes_sent, stats.probes_answered), (1, 1));
        assert_eq!((stats.probe_rtt_nanos, stats.probe_rtt_nanos_max), (3_000_000, 3_000_000));
    }
}
