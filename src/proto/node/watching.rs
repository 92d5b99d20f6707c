//! How the death of a process is noticed at once: each node keeps a standing stream to a few watchers, and whoever sees one
//! end looks at the member at the other end.
//!
//! A standing stream carries nothing after its handshake and costs nothing while both live. That it ends is a reason to look
//! and no more; what a look needs to find is said in [`looks`](crate::proto::looks). What looks say and hear goes in datagrams
//! of their own: on a stream it would be refused or held up together with what they test.
//!
//! May not: decide what the signs prove, or what a death means to children.

use std::time::Duration;

use rand_core::Rng;

use super::Node;
use crate::info::Event;
use crate::proto::hash::fmix64;
use crate::proto::links::Ended;
use crate::proto::looks::{Look, PROBES, Verdict};
use crate::proto::membership::Membership;
use crate::proto::packet::Packet;
use crate::proto::scope::member_info;
use crate::proto::shared::Alarm;
use crate::proto::suspicion::JURORS;
use crate::proto::wire::{Message, Purpose};
use crate::proto::{ConnId, Identity, InstanceId, Output, StreamEvent, Time, Wakeup};

/// Watchers of one member. Two have to see a death; the third is for the case that one of them dies in the same moment, is
/// cut off or stands still. A stream tells both of its ends, so each node is looked after by about six.
const WATCHERS: usize = 3;
/// How long after a change of the members watchers are chosen again: once for many changes.
const CHOICE_PAUSE: Duration = Duration::from_millis(200);
/// How long after a watcher could not be reached, had no room or was soon lost again, it is tried again; twice as long after
/// each further failure, up to the second, so that a port that can never be reached costs nearly nothing.
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// A standing stream that stood for so long was no failure.
const STOOD: Duration = Duration::from_secs(30);
/// How long a member has to answer a look, at least: far longer than any round trip of a data centre, and than a process is
/// usually kept from running.
const PATIENCE_MIN: Duration = Duration::from_millis(25);

/// When watchers are chosen next, if they are.
#[derive(Debug, Default)]
pub(super) struct Choice {
    at: Option<Time>,
    /// After how many choices in a row a watcher was missing.
    failures: u32,
    /// Who was chosen.
    pub(super) watchers: Vec<Identity>,
}

impl Node {
    /// Watchers are chosen again after this time, if not before.
    fn choose_watchers_in(&mut self, after: Duration) {
        let at = self.cx.now + after;
        if self.choice.at.is_none_or(|planned| at < planned) {
            self.choice.at = Some(at);
            self.cx.set_timer(after, Wakeup::Stream, Alarm::Watch);
        }
    }

    /// The members have changed, or a stream has stood: what failed before says nothing any more.
    pub(super) fn choose_watchers_anew(&mut self) {
        self.choice.failures = 0;
        self.choose_watchers_in(CHOICE_PAUSE);
    }

    /// A watcher is missing. What fails of one choice is one failure.
    fn choose_watchers_later(&mut self) {
        if self.choice.at.is_none() {
            let after = RETRY_MIN.saturating_mul(1 << self.choice.failures.min(16)).min(RETRY_MAX);
            self.choice.failures = self.choice.failures.saturating_add(1);
            self.choose_watchers_in(after);
        }
    }

    /// Dials the watchers that are missing, and lets go those that are no longer chosen.
    pub(super) fn choose_watchers(&mut self) {
        if self.choice.at.is_none_or(|at| at > self.cx.now) {
            return;
        }
        self.choice.at = None;
        let wanted = watchers_of(self.cx.me().instance, &self.cx.membership);
        let streams: Vec<_> = self.cx.links.watches().collect();
        for &(conn, peer) in &streams {
            if !wanted.iter().any(|watcher| watcher.instance == peer) {
                self.unwatch(conn);
            }
        }
        for &watcher in wanted.iter().filter(|watcher| !streams.iter().any(|(_, peer)| *peer == watcher.instance)) {
            let cx = &mut self.cx;
            cx.links.watch(cx.now, watcher, &mut cx.outputs, &mut cx.stats);
        }
        self.choice.watchers = wanted;
        self.set_sweep();
    }

    /// The members that ask one that is suspected: its watchers and a few more, maybe this node too.
    pub(super) fn jurors_of(&self, suspect: InstanceId) -> Vec<Identity> {
        let all = self.cx.membership.active().values().copied().chain([self.cx.me()]);
        first_by_rendezvous(suspect, JURORS, all)
    }

    /// Ends a standing stream so that nobody makes anything of it.
    fn unwatch(&mut self, conn: ConnId) {
        let mut frame = self.cx.frame();
        self.cx.stats.encode(&mut frame, &Message::Unwatch);
        self.cx.links.send_on(conn, frame, &mut self.cx.codec, &mut self.cx.outputs);
        self.cx.links.close(conn, &mut self.cx.outputs);
    }

    /// The others had declared this node down and closed its streams. Where word of that was lost, one would seem to stand
    /// for ever.
    pub(super) fn unwatch_dialled(&mut self) {
        for (conn, _) in self.cx.links.watches().collect::<Vec<_>>() {
            self.unwatch(conn);
        }
    }

    /// This node leaves: nobody has to look at it.
    pub(super) fn unwatch_all(&mut self) {
        for conn in self.cx.links.all_watches() {
            self.unwatch(conn);
        }
        self.end_looks();
    }

    /// A frame on a standing stream. The only ones that make sense say that its end will mean nothing, or that the other
    /// end does not want it.
    pub(super) fn take_farewell(&mut self, conn: ConnId, packet: &Packet<'_>) {
        if !matches!(postcard::from_bytes(packet.messages), Ok(Message::Unwatch | Message::Refuse(_))) {
            self.cx.stats.refused_malformed += 1;
        }
        self.watch_failed(conn);
    }

    /// Whether this node watches a member that has dialled it for that. Only one stream of each counts, the latest.
    pub(super) fn may_watch(&mut self, watched: Identity) -> bool {
        let watched = self.present_identity(watched, true);
        let is_member = self.admit(watched);
        self.follow_membership();
        if is_member {
            self.cx.links.close_watches_from(watched.instance, &mut self.cx.outputs);
        }
        is_member && self.cx.links.has_room_to_watch()
    }

    /// A stream has ended, however.
    pub(super) fn stream_ended(&mut self, ended: Option<Ended>) {
        match ended {
            Some(ended) if ended.purpose == Purpose::Watch => self.watch_ended(ended),
            Some(ended) => self.stream_lost(ended.peer),
            None => {}
        }
    }

    fn watch_ended(&mut self, ended: Ended) {
        if ended.was_open {
            self.cx.stats.watches_lost += 1;
            if let Some(member) = self.cx.membership.identity_of(ended.peer) {
                self.look_at(member, None);
            }
        }
        let has_stood = ended.was_open && self.cx.now.since(ended.used) >= STOOD;
        match ended.was_dialled {
            true if has_stood => self.choose_watchers_anew(),
            true => self.choose_watchers_later(),
            // Its other end chooses.
            false => {}
        }
    }

    /// A watcher has no room, is not the one that was meant, or wants no more.
    pub(super) fn watch_failed(&mut self, conn: ConnId) {
        let ended = self.cx.links.close(conn, &mut self.cx.outputs);
        if ended.is_some_and(|ended| ended.was_dialled) {
            self.choose_watchers_later();
        }
    }

    /// Looks at a member, of its own accord or because another member asks.
    pub(super) fn look_at(&mut self, suspect: Identity, asker: Option<(Identity, u64)>) {
        if self.has_left || !self.cx.membership.is_active(suspect) {
            return;
        }
        let number = match self.looks.at(suspect) {
            Some(number) => number,
            None => {
                let number = self.cx.rng.next_u64();
                let pause = self.patience() / PROBES;
                let patience_max = self.cx.config.profile.suspicion_min() * 2 / 3;
                let look = Look::new(suspect, self.cx.now, pause, patience_max);
                if !self.looks.insert(self.cx.now, number, look, asker.is_some()) {
                    self.cx.stats.refused_limit += 1;
                    return;
                }
                self.cx.stats.looks += 1;
                self.try_port(number);
                self.send_alone(suspect.addr, &Message::Probe(number));
                self.cx.set_timer(pause, Wakeup::Membership, Alarm::Look(number));
                number
            }
        };
        let Some(look) = self.looks.get(number) else { return };
        match asker {
            Some(asker) => look.add_asker(asker),
            // Others are asked only of one's own accord: two who ask each other would never end.
            None if !look.accuses => {
                look.accuses = true;
                self.ask_witnesses(number);
            }
            None => {}
        }
        self.judge(number);
    }

    /// How long a member has to answer: a tenth of what a probe of SWIM has, which also pays for detours. More where round
    /// trips are long, as the opening of streams shows: four times the shortest; twice the longest, but not much more for
    /// it, since one packet lost makes it a second. What Asks take says nothing: in a bulk it is the time that members need
    /// for it. Where nobody else can contradict, as long as SWIM gives a member that may be slow.
    pub(super) fn patience(&self) -> Duration {
        let probe_rtt = self.cx.config.profile.probe_rtt();
        if self.is_pair() {
            return probe_rtt;
        }
        let usual = (probe_rtt / 10).max(PATIENCE_MIN);
        let (shortest, longest) = self.cx.links.watch_round_trips();
        usual.max(shortest * 4).max((longest * 2).min(usual * 4)).min(probe_rtt)
    }

    /// Whether nobody but this node and one other is there.
    fn is_pair(&self) -> bool {
        self.cx.membership.active().len() == 1
    }

    fn try_port(&mut self, number: u64) {
        let Some(look) = self.looks.get(number) else { return };
        let conn = self.cx.links.next_conn(&mut self.cx.stats);
        look.dialled(self.cx.now, conn);
        self.cx.outputs.push_back(Output::Connect { conn, to: look.suspect.addr });
    }

    /// Something happened to a stream; `false` if it is not one that tries a port.
    pub(super) fn look_heard(&mut self, conn: ConnId, event: StreamEvent<'_>) -> bool {
        let Some(number) = self.looks.by(conn) else { return false };
        let Some(look) = self.looks.get(number) else { return false };
        let now = self.cx.now;
        match event {
            StreamEvent::Connected => look.accepted(),
            StreamEvent::Refused => {
                look.refused(now);
                self.ask_witnesses(number);
            }
            StreamEvent::Closed => {
                if look.closed() {
                    self.try_port(number);
                }
            }
            StreamEvent::Accepted { .. } | StreamEvent::Frame(_) => {}
        }
        self.judge(number);
        true
    }

    /// The next turn of a look.
    pub(super) fn look_on(&mut self, number: u64) {
        let now = self.cx.now;
        let Some(look) = self.looks.get(number) else { return };
        if now < look.next {
            return;
        }
        look.turn(now);
        let (after, suspect, probes) = (look.next.since(now), look.suspect, look.probes());
        if probes {
            self.send_alone(suspect.addr, &Message::Probe(number));
        }
        self.cx.set_timer(after, Wakeup::Membership, Alarm::Look(number));
        self.ask_witnesses(number);
        self.judge(number);
    }

    /// Asks a few others to look too, until they have answered: those who watch the member, and so look already. Whoever
    /// dies before is replaced.
    fn ask_witnesses(&mut self, number: u64) {
        let Some(look) = self.looks.get(number).filter(|look| look.wants_witnesses(self.cx.sabotage)) else { return };
        let (suspect, membership) = (look.suspect, &self.cx.membership);
        if look.lacks_witnesses(|witness| membership.is_active(witness)) {
            let chosen = watchers_of(suspect.instance, membership);
            look.choose_witnesses(chosen, |witness| membership.is_active(witness));
        }
        for witness in look.silent_witnesses() {
            self.cx.stats.witnesses_asked += 1;
            self.send_alone(witness.addr, &Message::Look(number, suspect));
        }
    }

    /// Members are gone, and may have been asked to look.
    pub(super) fn replace_witnesses(&mut self) {
        let membership = &self.cx.membership;
        for number in self.looks.lacking_witnesses(|witness| membership.is_active(witness)) {
            self.ask_witnesses(number);
            self.judge(number);
        }
    }

    /// Whether far more members live than have gone of late or seem to be gone: less than three in eight are dead, so that a
    /// third may be.
    fn most_live(&self) -> bool {
        let seen_gone = self.looks.seen_gone(self.cx.sabotage);
        let dead = self.cx.membership.gone_of_late() + seen_gone;
        let living = (self.cx.membership.active().len() + 1).saturating_sub(seen_gone);
        3 * living > 5 * dead
    }

    pub(super) fn take_probe(&mut self, from: Identity, number: u64) {
        self.send_alone(from.addr, &Message::Echo(number));
    }

    pub(super) fn take_echo(&mut self, from: Identity, number: u64) {
        if let Some(look) = self.looks.get(number).filter(|look| look.suspect.addr == from.addr) {
            look.answered();
            self.judge(number);
        } else if !self.obituary_answered(from, number) {
            self.doubt_answered(from, number);
        }
    }

    /// Another member wants to know what this node sees of a third.
    pub(super) fn take_look(&mut self, from: Identity, number: u64, suspect: Identity) {
        if suspect == self.cx.me() {
            self.send_alone(from.addr, &Message::Looked(number, false));
        } else {
            self.look_at(suspect, Some((from, number)));
        }
    }

    /// Another member says what it saw.
    pub(super) fn take_looked(&mut self, from: Identity, number: u64, gone: bool) {
        if let Some(look) = self.looks.get(number) {
            look.witnessed(from, gone);
            self.judge(number);
        }
    }

    /// Tells what was seen to those who asked, and ends a look that has a verdict.
    fn judge(&mut self, number: u64) {
        let sabotage = self.cx.sabotage;
        let (is_pair, most_live) = (self.is_pair(), self.most_live());
        let Some(look) = self.looks.get(number) else { return };
        let suspect = look.suspect;
        // It may have begun when there were more, and been less patient.
        let suffices = is_pair && look.patience() >= self.cx.config.profile.probe_rtt();
        let verdict = look.verdict(suffices, most_live, sabotage);
        if let Some(gone) = look.sight(sabotage) {
            for (asker, request) in look.take_askers() {
                self.send_alone(asker.addr, &Message::Looked(request, gone));
            }
        }
        match verdict {
            Verdict::Open => return,
            Verdict::Lives => self.cx.stats.looks_alive += 1,
            Verdict::Unclear => self.cx.stats.looks_unclear += 1,
            Verdict::Told | Verdict::Crashed => {}
        }
        tracing::debug!(member = ?suspect, ?verdict, look = ?self.looks.get(number), "looked at a member");
        self.end_look(number);
        if verdict == Verdict::Crashed {
            self.declare_crashed(suspect);
        }
    }

    /// Says that the process of a member has ended. SWIM spreads it like any other death. If it lives after all, it hears of
    /// it and joins again.
    fn declare_crashed(&mut self, member: Identity) {
        let scopes = self.scopes.values();
        let told: Vec<_> = scopes
            .filter_map(|scope| Some((scope.id, member_info(member.instance, scope.members.get(&member.instance)?))))
            .collect();
        if self.cx.membership.declare_down(self.cx.now, member, &mut self.cx.stats) {
            self.cx.stats.crashes_declared += 1;
            told.into_iter().for_each(|(scope, info)| self.cx.event(scope, Event::MemberCrashed(info)));
            self.follow_membership();
            self.tell_down(member);
        }
    }

    /// This node may not judge any more.
    pub(super) fn end_looks(&mut self) {
        for number in self.looks.all_but(|_| false) {
            self.end_look(number);
        }
    }

    /// Whoever went, or has another identity, is not looked at any more.
    pub(super) fn end_looks_at_the_gone(&mut self) {
        let membership = &self.cx.membership;
        for number in self.looks.all_but(|suspect| membership.is_active(suspect)) {
            self.end_look(number);
        }
    }

    fn end_look(&mut self, number: u64) {
        if let Some(conn) = self.looks.remove(number).and_then(|look| look.conn) {
            self.cx.outputs.push_back(Output::Close { conn });
        }
    }
}

/// The members that watch an instance. Of those that are active here, but for itself.
fn watchers_of(watched: InstanceId, membership: &Membership) -> Vec<Identity> {
    first_by_rendezvous(watched, WATCHERS, membership.active().values().copied())
}

/// So many that look after an instance, by rendezvous: whoever comes or goes changes few choices.
fn first_by_rendezvous(of: InstanceId, count: usize, among: impl Iterator<Item = Identity>) -> Vec<Identity> {
    let score = |member: InstanceId| fmix64(fmix64(of.get()) ^ member.get().rotate_left(32));
    let mut best: Vec<(u64, Identity)> = Vec::with_capacity(count + 1);
    for member in among.filter(|member| member.instance != of) {
        let place = (score(member.instance), member);
        let at = best.partition_point(|other| (other.0, other.1.instance) > (place.0, place.1.instance));
        if at < count {
            best.insert(at, place);
            best.truncate(count);
        }
    }
    best.into_iter().map(|(_, member)| member).collect()
}
