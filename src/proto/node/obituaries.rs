//! How a death that others tell of is checked: the member is asked, and told what is said of it if it answers.
//!
//! May not: decide what proves a death, or what it means to children.

use rand_core::Rng;

use super::Node;
use crate::proto::looks::PROBES;
use crate::proto::obituaries::Obituary;
use crate::proto::shared::Alarm;
use crate::proto::suspicion::LATE_AFTER;
use crate::proto::wire::Message;
use crate::proto::{ConnId, Identity, InstanceId, Output, StreamEvent, Wakeup};

impl Node {
    /// Checks what was told since.
    pub(super) fn take_obituaries(&mut self) {
        let mut is_any_true = false;
        while let Some(member) = self.cx.membership.poll_obituary() {
            // Whoever has asked it in vain for long enough need not ask again.
            let profile = self.cx.config.profile;
            if self.doubts.get(member.instance).is_some_and(|doubt| doubt.confirms(profile)) {
                is_any_true |= self.cx.membership.bury(self.cx.now, member, &mut self.cx.stats);
            } else if !self.has_left && !self.obituaries.contains(member.instance) {
                self.check_obituary(member);
            }
        }
        if is_any_true {
            self.follow_membership();
        }
    }

    fn check_obituary(&mut self, member: Identity) {
        self.cx.stats.obituaries += 1;
        let was_suspected = self.cx.membership.incarnation_of(member).is_some_and(|(_, is_suspect)| is_suspect);
        let (number, pause) = (self.cx.rng.next_u64(), self.patience() / PROBES);
        let mut obituary = Obituary::new(member, number, self.cx.now, pause, self.question_period() * LATE_AFTER);
        if was_suspected {
            obituary = obituary.of_suspect();
        }
        self.send_alone(member.addr, &Message::Probe(obituary.number));
        self.cx.set_timer(obituary.pause, Wakeup::Membership, Alarm::Obituary(member.instance));
        self.obituaries.insert(obituary);
        self.try_ports();
    }

    /// Tries the ports whose turn it is.
    fn try_ports(&mut self) {
        while self.obituaries.may_dial() {
            let conn = self.cx.links.next_conn(&mut self.cx.stats);
            let dialled = self.obituaries.dial(conn);
            self.cx.outputs.extend(dialled.map(|member| Output::Connect { conn, to: member.addr }));
        }
    }

    /// The next turn: it has not answered the last question.
    pub(super) fn obituary_on(&mut self, instance: InstanceId) {
        let now = self.cx.now;
        let Some(obituary) = self.obituaries.get(instance).filter(|obituary| obituary.next <= now) else { return };
        obituary.turn(now);
        let (member, number, pause) = (obituary.member, obituary.number, obituary.pause);
        if obituary.is_true() {
            self.end_obituary(instance);
            self.cx.membership.bury(now, member, &mut self.cx.stats);
            return self.follow_membership();
        }
        self.send_alone(member.addr, &Message::Probe(number));
        self.cx.set_timer(pause, Wakeup::Membership, Alarm::Obituary(instance));
    }

    /// It answers: those who hold it for dead hear of it again only under a new identity, which it takes when it is told.
    pub(super) fn obituary_answered(&mut self, from: Identity, number: u64) -> bool {
        let is_it = self.obituaries.get(from.instance).is_some_and(|obituary| obituary.number == number);
        if is_it {
            self.cx.stats.obituaries_refuted += 1;
            self.end_obituary(from.instance);
            self.try_ports();
            tracing::debug!(member = ?from, "others hold a member for dead that answers");
            self.tell_down(from);
        }
        is_it
    }

    /// Something happened to a stream; `false` if it is not one that tries the port of somebody said to be dead.
    pub(super) fn obituary_heard(&mut self, conn: ConnId, event: &StreamEvent<'_>) -> bool {
        if !self.obituaries.heard(conn, matches!(event, StreamEvent::Refused)) {
            return false;
        }
        if matches!(event, StreamEvent::Connected) {
            self.cx.outputs.push_back(Output::Close { conn });
        }
        self.try_ports();
        true
    }

    /// Whoever went, or has another identity, is not asked any more.
    pub(super) fn end_obituaries_of_the_gone(&mut self) {
        let membership = &self.cx.membership;
        for instance in self.obituaries.all_but(|member| membership.is_active(member)) {
            self.end_obituary(instance);
        }
        self.try_ports();
    }

    fn end_obituary(&mut self, instance: InstanceId) {
        if let Some(conn) = self.obituaries.remove(instance) {
            self.cx.outputs.push_back(Output::Close { conn });
        }
    }
}
