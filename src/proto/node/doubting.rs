//! How silence is noticed: each node gives its watchers a sign of life now and then, whoever misses one asks, and suspects a
//! member that does not answer; then a few others ask it too, and give it up together.
//!
//! SWIM goes on beside this and finds what this does not see. All messages go in datagrams of their own: in a batch they
//! would wait, or take a stream that does not open.
//!
//! May not: decide how long a member may be silent, or what a death means to children.

use std::time::Duration;

use rand_core::Rng;

use super::Node;
use crate::proto::membership::Suspect;
use crate::proto::shared::Alarm;
use crate::proto::suspicion::{Doubt, LATE_AFTER};
use crate::proto::wire::Message;
use crate::proto::{Identity, InstanceId, Rule, Wakeup};

/// How much later than it was told a sign of life may come, in questions: so much do datagrams and processes wait at times.
const GRACE: u32 = 2;
/// Nobody is waited for longer, whatever it says.
const EXPECTED_WITHIN_MAX: Duration = Duration::from_secs(60);

impl Node {
    /// Gives the next watcher a sign of life: each in its turn, so that every one of the three hears a third of them.
    pub(super) fn pulse(&mut self) {
        let period = self.cx.config.profile.pulse_period();
        self.cx.set_timer(period, Wakeup::Membership, Alarm::Pulse);
        if self.cx.membership.is_silent(self.cx.now) {
            return;
        }
        let count = self.choice.watchers.len();
        let turn = (self.cx.stats.pulses_sent as usize).checked_rem(count);
        if let Some(&watcher) = turn.and_then(|turn| self.choice.watchers.get(turn)) {
            self.cx.stats.pulses_sent += 1;
            let next = period * count as u32;
            self.send_alone(watcher.addr, &Message::Pulse(next.as_millis() as u32));
        }
    }

    pub(super) fn take_pulse(&mut self, from: Identity, millis: u32) {
        let grace = self.question_period() * GRACE * self.cx.membership.health().factor();
        let within = Duration::from_millis(millis.into()).min(EXPECTED_WITHIN_MAX);
        self.doubts.expect(from.instance, self.cx.now, within + grace);
    }

    pub(super) fn question_period(&self) -> Duration {
        self.cx.config.profile.question_period()
    }

    pub(super) fn look_who_is_overdue(&mut self) {
        let now = self.cx.now;
        let Some(at) = self.doubts.next_look().filter(|at| *at <= now) else { return };
        if now.since(at) > self.question_period() * LATE_AFTER {
            // Held up itself: first let it hear what has come meanwhile.
            self.note_lateness();
            self.doubts.looks_from = now + self.question_period();
            return;
        }
        for instance in self.doubts.take_overdue(now) {
            let Some(member) = self.cx.membership.identity_of(instance) else { continue };
            if self.doubts.get(instance).is_none() {
                self.cx.stats.pulses_missed += 1;
                let doubt = self.doubt(member);
                let number = doubt.number;
                self.doubts.insert(doubt);
                self.send_alone(member.addr, &Message::Probe(number));
            }
        }
    }

    fn note_lateness(&mut self) {
        self.cx.stats.turns_late += 1;
        self.cx.membership.health().worsen();
    }

    fn doubt(&mut self, member: Identity) -> Doubt {
        let period = self.question_period();
        self.cx.set_timer(period, Wakeup::Membership, Alarm::Doubt(member.instance));
        Doubt::new(member, self.cx.rng.next_u64(), self.cx.now, period)
    }

    /// An answer to a probe; only a doubt that is this node's alone sends them.
    pub(super) fn doubt_answered(&mut self, from: Identity, number: u64) {
        let is_it = |doubt: &&mut Doubt| doubt.suspected_at.is_none() && doubt.number == number;
        if self.doubts.get(from.instance).filter(is_it).is_some() {
            self.doubts.remove(from.instance);
            self.doubts.expect_again(from.instance, self.cx.now);
        }
    }

    /// The next turn of a doubt: the member has not answered the last question.
    pub(super) fn ask_doubted(&mut self, instance: InstanceId) {
        let now = self.cx.now;
        let Some(doubt) = self.doubts.get(instance).filter(|doubt| doubt.next <= now) else { return };
        let is_late = doubt.turn(now);
        if self.cx.membership.withholds_judgement(now) {
            doubt.restart();
        }
        let (member, number, suspected_at) = (doubt.member, doubt.number, doubt.suspected_at);
        if is_late {
            self.note_lateness();
        }
        match suspected_at {
            None => self.ask_missed(member, number),
            Some(incarnation) => self.ask_suspect(member, incarnation),
        }
        if self.doubts.get(instance).is_some() {
            self.cx.set_timer(self.question_period(), Wakeup::Membership, Alarm::Doubt(instance));
        }
    }

    /// Only this node misses it so far.
    fn ask_missed(&mut self, member: Identity, number: u64) {
        let health = self.cx.membership.health().factor();
        let is_suspicious = self.doubts.get(member.instance).is_some_and(|doubt| doubt.is_suspicious(health));
        match self.cx.membership.incarnation_of(member) {
            Some((incarnation, _)) if is_suspicious => {
                self.cx.stats.silences_suspected += 1;
                self.cx.membership.suspect(self.cx.now, member, incarnation, &mut self.cx.stats);
                self.accuse(member, incarnation);
            }
            Some(_) => self.send_alone(member.addr, &Message::Probe(number)),
            None => drop(self.doubts.remove(member.instance)),
        }
    }

    /// It is suspected: it hears so, and so do those that ask it too.
    fn ask_suspect(&mut self, member: Identity, incarnation: u16) {
        if self.end_refuted(member) {
            return;
        }
        let profile = self.cx.config.profile;
        let max = match self.cx.sabotage.lacks(Rule::SilenceIsConfirmed) {
            true => profile.suspicion_min(),
            false => self.cx.membership.suspicion_max(),
        };
        let others = self.cx.membership.active().len().saturating_sub(1);
        let Some(doubt) = self.doubts.get(member.instance) else { return };
        let (is_over, is_telling) = (doubt.is_over(profile, max, others), doubt.is_telling());
        if is_over {
            self.declare_silent(member);
            return;
        }
        if is_telling {
            self.tell_jurors(member, incarnation);
        }
        self.tell_suspect(member, incarnation);
    }

    /// It does not answer this node, which tells those who ask it then.
    fn accuse(&mut self, member: Identity, incarnation: u16) {
        self.tell_jurors(member, incarnation);
        if self.join_suspicion(member, incarnation)
            && let Some(doubt) = self.doubts.get(member.instance)
        {
            doubt.is_mine = true;
        }
    }

    /// SWIM has found somebody silent, or heard so.
    pub(super) fn take_suspect(&mut self, suspect: Suspect) {
        let Suspect { member, incarnation, is_mine, is_told } = suspect;
        let known = self.doubts.get(member.instance).and_then(|doubt| doubt.suspected_at);
        if known == Some(incarnation) || self.cx.membership.incarnation_of(member) != Some((incarnation, true)) {
            return;
        }
        if is_mine {
            self.accuse(member, incarnation);
        } else if !self.join_suspicion(member, incarnation) && is_told {
            self.tell_suspect(member, incarnation);
        }
    }

    /// If this node is one of those who ask this suspect, it does so from now on.
    fn join_suspicion(&mut self, member: Identity, incarnation: u16) -> bool {
        let me = self.cx.me().instance;
        if !self.jurors_of(member.instance).iter().any(|juror| juror.instance == me) {
            self.doubts.remove(member.instance);
            return false;
        }
        if self.doubts.get(member.instance).is_none() {
            let doubt = self.doubt(member);
            self.doubts.insert(doubt);
        }
        let now = self.cx.now;
        if let Some(doubt) = self.doubts.get(member.instance)
            && doubt.suspected_at.is_none_or(|known| known < incarnation)
        {
            doubt.suspect(now, incarnation);
            self.cx.set_timer(self.question_period(), Wakeup::Membership, Alarm::Doubt(member.instance));
            self.tell_suspect(member, incarnation);
        }
        true
    }

    fn tell_suspect(&mut self, member: Identity, incarnation: u16) {
        if !self.cx.sabotage.lacks(Rule::BuddyMessages) {
            self.cx.stats.buddy_messages += 1;
            self.send_alone(member.addr, &Message::Suspected(member, incarnation));
        }
    }

    fn tell_jurors(&mut self, member: Identity, incarnation: u16) {
        let me = self.cx.me().instance;
        for juror in self.jurors_of(member.instance).into_iter().filter(|juror| juror.instance != me) {
            self.send_alone(juror.addr, &Message::Silent(member, incarnation));
        }
    }

    /// This node is suspected: it refutes, and says so to whoever told it.
    pub(super) fn take_suspected(&mut self, from: Identity, who: Identity, incarnation: u16) {
        if who != self.cx.me() || self.has_left {
            return;
        }
        let before = self.cx.membership.incarnation();
        self.cx.membership.handle_suspected(self.cx.now, who, incarnation, &mut self.cx.stats);
        let me = self.cx.me();
        let refuted_at = self.cx.membership.incarnation();
        if refuted_at != before {
            self.cx.membership.health().worsen();
        }
        self.send_alone(from.addr, &Message::Lives(me, refuted_at));
    }

    /// Another member hears nothing of a third.
    pub(super) fn take_silent(&mut self, from: Identity, who: Identity, incarnation: u16) {
        if who == self.cx.me() {
            return self.take_suspected(from, who, incarnation);
        }
        match self.cx.membership.incarnation_of(who) {
            Some((known, _)) if known > incarnation => self.send_alone(from.addr, &Message::Lives(who, known)),
            Some(_) if self.cx.membership.suspect(self.cx.now, who, incarnation, &mut self.cx.stats) => {
                if self.join_suspicion(who, incarnation)
                    && let Some(doubt) = self.doubts.get(who.instance)
                    && doubt.suspected_at == Some(incarnation)
                {
                    doubt.confirm(from.instance);
                }
            }
            _ => {}
        }
    }

    /// Somebody that was suspected has said that it lives.
    pub(super) fn take_lives(&mut self, who: Identity, incarnation: u16) {
        self.cx.membership.refute(self.cx.now, who, incarnation, &mut self.cx.stats);
        self.end_refuted(who);
    }

    /// Whether it is not suspected any more, at least not of the same.
    fn end_refuted(&mut self, member: Identity) -> bool {
        let Some(doubt) = self.doubts.get(member.instance) else { return true };
        let Some(suspected_at) = doubt.suspected_at else { return false };
        let known = self.cx.membership.incarnation_of(member);
        if known == Some((suspected_at, true)) {
            return false;
        }
        if doubt.is_mine && known.is_some() {
            self.cx.stats.accusations_refuted += 1;
            self.cx.membership.health().worsen();
        }
        self.doubts.remove(member.instance);
        match known {
            Some((incarnation, true)) => drop(self.join_suspicion(member, incarnation)),
            _ => self.doubts.expect_again(member.instance, self.cx.now),
        }
        true
    }

    /// It has not answered this node, nor enough others. SWIM spreads it like any other death.
    fn declare_silent(&mut self, member: Identity) {
        self.doubts.remove(member.instance);
        if self.cx.membership.declare_down(self.cx.now, member, &mut self.cx.stats) {
            self.cx.stats.silences_declared += 1;
            self.follow_membership();
            self.tell_down(member);
        }
    }

    /// Whoever went, or has another identity, is not asked any more.
    pub(super) fn end_doubts_of_the_gone(&mut self) {
        let membership = &self.cx.membership;
        self.doubts.retain(|instance, member| {
            let known = membership.identity_of(instance);
            known.is_some() && member.is_none_or(|member| known == Some(member))
        });
    }
}
