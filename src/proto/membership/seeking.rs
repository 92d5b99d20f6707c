//! Looking for members: for any while there are none, for lost seeds now and then.

use std::net::SocketAddr;
use std::time::Duration;

use rand_core::Rng;

use super::{Membership, Tick};
use crate::proto::{Rule, Stats, Time, Wakeup};

/// Never more often than this, however short `settle_timeout` is.
const SEEK_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// How often a node with members looks after seeds that are not among them, so that parts which started apart meet.
const SEEDS_INTERVAL: Duration = Duration::from_secs(15);

impl Membership {
    /// The seeds were resolved.
    pub(crate) fn set_seeds(&mut self, seeds: &[SocketAddr]) {
        let me = self.me().addr;
        self.seeds.clear();
        self.seeds.extend(seeds.iter().filter(|seed| **seed != me));
    }

    /// Seeds that hold no active member.
    pub(crate) fn missing_seeds(&self) -> Vec<SocketAddr> {
        let is_active = |seed: &SocketAddr| self.active.values().any(|member| member.addr == *seed);
        self.seeds.iter().copied().filter(|seed| !is_active(seed)).collect()
    }

    /// Looks for members at this time, if not before.
    pub(super) fn seek_at(&mut self, at: Time) {
        if self.next_seek.is_none_or(|next| at < next) {
            self.next_seek = Some(at);
            self.timers.set(at, Wakeup::Membership, Tick::Seek);
        }
    }

    /// Goes on looking for members: at once and often while there are none, now and then for lost seeds.
    pub(super) fn seek(&mut self, now: Time, stats: &mut Stats) {
        self.next_seek = None;
        if self.has_left {
            return;
        }
        let lonely = self.active.is_empty();
        let has_seed = self.active.values().any(|member| self.seeds.contains(&member.addr));
        let is_cut_off = lonely || !(self.seeds.is_empty() || has_seed);
        // In a large cluster without a seed sixteen of the members look for one, not all of them.
        self.wants_seeds = lonely || self.rng.next_u64() % self.active.len() as u64 <= 16;
        if lonely {
            let me = self.me();
            let known: Vec<_> =
                self.foca.iter_membership_state().map(|member| *member.id()).filter(|id| id.addr != me.addr).collect();
            for _ in 0..2.min(known.len()) {
                let chosen = known[(self.rng.next_u64() % known.len() as u64) as usize];
                self.announce(chosen, stats);
            }
        } else if self.seeks < 8 {
            // The first feed may have been lost or short; the periodic announce would be half a minute away.
            if let Some(member) = self.pick() {
                self.announce(member, stats);
            }
        }
        self.seeks = self.seeks.saturating_add(1);
        let pause = match (is_cut_off, self.seeks) {
            (_, ..=4) => self.lonely_interval / 4,
            (true, _) | (_, ..=8) => self.lonely_interval,
            (false, _) => SEEDS_INTERVAL,
        };
        let pause = pause.max(SEEK_INTERVAL_MIN);
        if self.sabotage.lacks(Rule::KeepSeeking) && self.seeks > 1 {
            return;
        }
        let jitter = pause.mul_f64((self.rng.next_u64() % 256) as f64 / 1024.0);
        self.seek_at(now + pause + jitter);
        self.after_call(now, stats);
    }
}
