//! How a link treats what is sent over it. Only data.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::random::Range;

/// How a link treats what is sent over it. Reordering needs no switch: it follows from the range of the delay.
///
/// Probabilities are from 0 to 1. Those of datagrams hold for each of them on its own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// How long a datagram travels.
    pub delay: Range,
    /// How likely a datagram, or a segment of a stream, takes `tail_delay` more.
    #[serde(deserialize_with = "chance")]
    pub tail: f64,
    /// How much more the slowest take.
    pub tail_delay: Range,
    /// How likely a datagram is lost.
    #[serde(deserialize_with = "chance")]
    pub loss: f64,
    /// How likely a datagram is lost besides, in bad periods (Gilbert and Elliott's channel, in time).
    #[serde(deserialize_with = "chance")]
    pub burst_loss: f64,
    /// How long the link is good between two bad periods.
    pub burst_every: Range,
    /// How long a bad period lasts.
    pub burst_length: Range,
    /// How likely a datagram arrives twice.
    #[serde(deserialize_with = "chance")]
    pub duplicate: f64,
    /// How likely a copy of a datagram arrives once more long after it.
    #[serde(deserialize_with = "chance")]
    pub replay: f64,
    /// How long after it was sent.
    pub replay_after: Range,
    /// How likely one to three bits of a datagram flip. A stream knows no such thing.
    #[serde(deserialize_with = "chance")]
    pub corrupt: f64,
    /// How likely a datagram loses its end. A stream knows no such thing.
    #[serde(deserialize_with = "chance")]
    pub truncate: f64,
    /// How many bytes a second it carries; `None`: any number. Datagrams beyond that wait in a queue, streams are
    /// slowed down.
    pub bandwidth: Option<u64>,
    /// How many bytes its queue holds; datagrams for which there is no room are lost.
    pub queue_bytes: u64,
    /// Larger datagrams are lost; `None`: none is too large.
    pub mtu: Option<usize>,
    /// How likely a frame of a stream is the one on whose way the stream is reset.
    #[serde(deserialize_with = "chance")]
    pub reset: f64,
}

impl Default for Link {
    /// A good local network: 0.5 to 1.5 ms, nothing lost. Ranges whose fault never happens have the values that the
    /// fault would usually be given.
    fn default() -> Self {
        Link {
            delay: Range::new(Duration::from_micros(500), Duration::from_micros(1_500)),
            tail: 0.0,
            tail_delay: Range::millis(50, 500),
            loss: 0.0,
            burst_loss: 0.0,
            burst_every: Range::millis(5_000, 30_000),
            burst_length: Range::millis(100, 2_000),
            duplicate: 0.0,
            replay: 0.0,
            replay_after: Range::millis(2_000, 120_000),
            corrupt: 0.0,
            truncate: 0.0,
            bandwidth: None,
            queue_bytes: 64 * 1024,
            mtu: None,
            reset: 0.0,
        }
    }
}

impl Link {
    /// Whether it does nothing but delay, lose and duplicate.
    pub fn is_plain(&self) -> bool {
        let rare = [self.tail, self.burst_loss, self.replay, self.corrupt, self.truncate, self.reset];
        rare == [0.0; 6] && self.bandwidth.is_none() && self.mtu.is_none()
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        let tail = if self.tail > 0.0 { self.tail_delay.max } else { Duration::ZERO };
        Severity {
            loss: self.loss,
            burst_loss: self.burst_loss,
            damage: 1.0 - (1.0 - self.corrupt) * (1.0 - self.truncate),
            reset: self.reset,
            delay_max: self.delay.max + tail,
            bandwidth: self.bandwidth,
            mtu: self.mtu,
        }
    }
}

/// How bad a link is, for judging what it may excuse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Severity {
    /// How likely a datagram is lost.
    pub loss: f64,
    /// How likely it is lost besides in bad periods.
    pub burst_loss: f64,
    /// How likely it arrives damaged, which its receiver refuses.
    pub damage: f64,
    /// How likely a frame is the last of its stream.
    pub reset: f64,
    /// The longest delay, without a queue.
    pub delay_max: Duration,
    /// How many bytes a second get through.
    pub bandwidth: Option<u64>,
    /// The largest datagram that gets through.
    pub mtu: Option<usize>,
}

/// Of the tries to ask something and to hear the answer one in four succeeds.
const HEAVY_LOSS: f64 = 0.5;
/// A round trip takes as long as `confirm_timeout` is by default.
const HEAVY_DELAY: Duration = Duration::from_millis(500);

impl Severity {
    /// How likely a datagram does not arrive whole, when the link is at its worst.
    pub fn loss_max(&self) -> f64 {
        1.0 - (1.0 - self.loss) * (1.0 - self.burst_loss) * (1.0 - self.damage)
    }

    /// Whether two nodes may fail to hear of each other in time for anything, retries and detours included.
    pub fn is_heavy(&self) -> bool {
        self.loss_max() >= HEAVY_LOSS || self.delay_max >= HEAVY_DELAY || self.bandwidth.is_some() || self.mtu.is_some()
    }

    /// Whether it is worse than another in something.
    pub fn is_worse_than(&self, other: &Severity) -> bool {
        // Nothing said means that anything gets through.
        let room = |severity: &Severity| (severity.bandwidth.unwrap_or(u64::MAX), severity.mtu.unwrap_or(usize::MAX));
        let ((bandwidth, mtu), (other_bandwidth, other_mtu)) = (room(self), room(other));
        self.loss > other.loss
            || self.burst_loss > other.burst_loss
            || self.damage > other.damage
            || self.reset > other.reset
            || self.delay_max > other.delay_max
            || bandwidth < other_bandwidth
            || mtu < other_mtu
    }
}

fn chance<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let chance = f64::deserialize(deserializer)?;
    let is_one = (0.0..=1.0).contains(&chance);
    is_one.then_some(chance).ok_or_else(|| de::Error::custom(format!("{chance} is no probability: it is from 0 to 1")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_from_the_fields_that_differ_and_written_with_all() {
        let text = "delay = \"1ms..60ms\"\nloss = 0.25\nreplay = 1\nbandwidth = 65536\nreplay_after = \"3s\"\n";
        let link: Link = toml::from_str(text).expect("a link");
        let expected = Link {
            delay: Range::millis(1, 60),
            loss: 0.25,
            replay: 1.0,
            bandwidth: Some(65_536),
            replay_after: Range::millis(3_000, 3_000),
            ..Link::default()
        };
        assert_eq!(link, expected);
        let written = toml::to_string(&link).expect("it can be written");
        assert_eq!(toml::from_str(&written), Ok(link), "{written}");
        assert!(toml::from_str::<Link>("lost = 0.25").is_err(), "a misspelt fault is no fault");
        assert!(toml::from_str::<Link>("delay = \"60ms..1ms\"").is_err());
        for wrong in ["nan", "-0.5", "1.5", "inf"] {
            assert!(toml::from_str::<Link>(&format!("loss = {wrong}")).is_err(), "{wrong} is no probability");
        }
    }

    #[test]
    fn a_link_is_as_severe_as_its_faults() {
        let good = Link::default().severity();
        assert_eq!(good.loss_max(), 0.0);
        assert!(!good.is_worse_than(&good));
        let halves = Link { loss: 0.5, burst_loss: 0.5, corrupt: 0.5, ..Link::default() };
        assert_eq!(halves.severity().loss_max(), 0.875);
        for worse in [
            Link { loss: 0.1, ..Link::default() },
            Link { truncate: 0.1, ..Link::default() },
            Link { tail: 0.1, ..Link::default() },
            Link { bandwidth: Some(1_000_000), ..Link::default() },
            Link { mtu: Some(1_400), ..Link::default() },
        ] {
            assert!(worse.severity().is_worse_than(&good) && !good.is_worse_than(&worse.severity()), "{worse:?}");
            assert_eq!(worse.is_plain(), worse.loss > 0.0);
        }
    }
}
