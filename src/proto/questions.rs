//! Questions to all members of a large cluster leave a few at a time: their answers would all come at once, and more than a
//! few hundred do not fit into the socket buffer of whoever asked.
//!
//! What one member is asked while it waits for its turn travels together. Each node begins with the members that follow
//! itself in the order of instances: where many ask all others at once, no member is asked by all of them first.

use std::collections::BTreeMap;
use std::time::Duration;

use super::outbox::{Batch, MESSAGES_BYTES_MAX, Outbox};
use super::shared::Fanout;
use super::wire::{Message, ScopeMessage};
use super::{Identity, InstanceId, ScopeId, Time};

/// How long a turn is. An operating system's timers are hardly finer.
pub(crate) const TURN: Duration = Duration::from_millis(1);
/// Datagrams of questions per turn for each member that may hear of a change directly, so 64 in all, each question that is to
/// be passed on counted as one: some 128 answers are outstanding then. 277 small datagrams fit into a receive buffer of
/// Linux's default size; answers of two turns may come together, each way around a silent member brings more, and others ask
/// meanwhile: with 96 per turn up to 318 were sent to one of 300 members within a millisecond (simulated, a tenth lost).
const PER_FANOUT: usize = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct Questions {
    queued: Outbox,
    /// How many questions each member is to pass on: each is answered by somebody else, in a datagram of its own.
    relayed: BTreeMap<InstanceId, usize>,
    /// The member that was asked last.
    last: InstanceId,
    per_turn: usize,
    since: Time,
    asked: usize,
    /// Whether the next turn is waited for.
    is_waiting: bool,
}

impl Questions {
    pub(crate) fn new(me: InstanceId, fanout: Fanout) -> Self {
        let per_turn = PER_FANOUT * fanout.max().max(1);
        Questions {
            queued: Outbox::default(),
            relayed: BTreeMap::new(),
            last: me,
            per_turn,
            since: Time::default(),
            asked: 0,
            is_waiting: false,
        }
    }

    /// Queues a question for a member.
    pub(crate) fn push(&mut self, to: Identity, scope: ScopeId, message: ScopeMessage) {
        self.queued.push_scoped(to, scope, message);
    }

    /// Queues a question that a member is to pass on.
    pub(crate) fn push_relayed(&mut self, relay: Identity, message: &Message) {
        self.queued.push(relay, message);
        *self.relayed.entry(relay.instance).or_default() += 1;
    }

    /// How many members are still to be asked.
    pub(crate) fn len(&self) -> usize {
        self.queued.len()
    }

    /// How many turns it takes to ask so many members.
    pub(crate) fn turns(&self, members: usize) -> u32 {
        u32::try_from(members / self.per_turn).unwrap_or(u32::MAX)
    }

    /// What leaves next, if it may leave now; give it back with [`recycle`](Self::recycle).
    pub(crate) fn pop(&mut self, now: Time) -> Option<Batch> {
        if now.since(self.since) >= TURN {
            (self.since, self.asked) = (now, 0);
        }
        if self.asked >= self.per_turn {
            return None;
        }
        let batch = self.queued.pop_after(self.last)?;
        self.last = batch.to.instance;
        let relayed = self.relayed.remove(&self.last).unwrap_or_default();
        self.asked += relayed.max(batch.len().div_ceil(MESSAGES_BYTES_MAX));
        Some(batch)
    }

    /// Keeps the buffers of a batch that has left.
    pub(crate) fn recycle(&mut self, batch: Batch) {
        self.queued.recycle(batch);
    }

    /// Whether somebody has to be woken for the next turn who is not yet.
    pub(crate) fn needs_turn(&mut self) -> bool {
        self.len() > 0 && !std::mem::replace(&mut self.is_waiting, true)
    }

    /// The next turn has come.
    pub(crate) fn begin_turn(&mut self) {
        self.is_waiting = false;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::proto::wire::Message;

    fn member(number: u64) -> Identity {
        let addr = SocketAddr::from((Ipv4Addr::from(number as u32), 7946));
        Identity { addr, bump: 0, instance: InstanceId::new(number) }
    }

    fn questions(me: u64, fanout: usize) -> Questions {
        Questions::new(InstanceId::new(me), Fanout::at_most(fanout))
    }

    fn ask(questions: &mut Questions, members: impl Iterator<Item = u64>) {
        let scope = ScopeId::of("scope");
        members.for_each(|number| questions.push(member(number), scope, ScopeMessage::StatusRequest));
    }

    /// Who is asked at a time, in that order.
    fn asked(questions: &mut Questions, now: Time) -> Vec<u64> {
        let mut asked = Vec::new();
        while let Some(batch) = questions.pop(now) {
            asked.push(batch.to.instance.get());
            questions.recycle(batch);
        }
        asked
    }

    /// Goal: so many members are asked per turn and no more, all in the end, and those first that follow whoever asks.
    /// Method: one of a thousand asks the others; turns are taken on time, early and late.
    #[test]
    fn so_many_are_asked_per_turn_and_all_in_the_end() {
        let (mut questions, mut now) = (questions(700, 16), Time::from_nanos(7_000_000));
        ask(&mut questions, (1..=1_000).filter(|number| *number != 700));
        let mut all = asked(&mut questions, now);
        assert_eq!(all, (701..=764).collect::<Vec<_>>());
        assert!(asked(&mut questions, now + TURN / 2).is_empty());
        for turn in 1.. {
            now = now + TURN * (1 + turn % 2);
            let more = asked(&mut questions, now);
            assert!(more.len() <= 64);
            all.extend(&more);
            if more.len() < 64 {
                break;
            }
        }
        assert_eq!(questions.len(), 0);
        assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len());
        assert_eq!((all.len(), questions.turns(all.len())), (999, 15));
    }

    /// Goal: what one member is asked while it waits travels together, and counts by the datagrams that it fills. Method: four
    /// per turn; the fifth waits, is asked more meanwhile, and then as much as fills three datagrams.
    #[test]
    fn what_waits_travels_together_and_counts_by_its_datagrams() {
        let (mut questions, now) = (questions(0, 1), Time::from_nanos(7_000_000));
        ask(&mut questions, 1..=5);
        assert_eq!(asked(&mut questions, now), [1, 2, 3, 4]);
        ask(&mut questions, 5..=6);
        let later = now + TURN;
        assert_eq!(questions.pop(later).map(|batch| batch.items().count()), Some(2));
        questions.push_relayed(member(7), &Message::Relay(member(1), vec![0; 2 * MESSAGES_BYTES_MAX]));
        ask(&mut questions, 8..=12);
        assert_eq!(asked(&mut questions, later), [6, 7]);
    }

    /// Goal: questions to be passed on count each, because each is answered by somebody else. Method: four per turn; one member
    /// is to pass on three, and another one two.
    #[test]
    fn what_is_to_be_passed_on_counts_each() {
        let (mut questions, now) = (questions(0, 1), Time::from_nanos(7_000_000));
        let relayed = |to| Message::Relay(member(to), vec![0; 8]);
        (10..13).for_each(|to| questions.push_relayed(member(1), &relayed(to)));
        (13..15).for_each(|to| questions.push_relayed(member(2), &relayed(to)));
        ask(&mut questions, 3..=5);
        assert_eq!(asked(&mut questions, now), [1, 2]);
        assert_eq!(asked(&mut questions, now + TURN), [3, 4, 5]);
    }

    /// Goal: one wake-up is asked for as long as somebody waits, and another one only when it has come.
    #[test]
    fn one_turn_is_waited_for_at_a_time() {
        let (mut questions, now) = (questions(0, 1), Time::from_nanos(7_000_000));
        assert!(!questions.needs_turn());
        ask(&mut questions, 1..=9);
        asked(&mut questions, now);
        assert!(questions.needs_turn() && !questions.needs_turn());
        questions.begin_turn();
        asked(&mut questions, now + TURN);
        assert!(questions.needs_turn());
        questions.begin_turn();
        asked(&mut questions, now + TURN * 2);
        assert!(!questions.needs_turn());
    }
}
