//! Packets in and out: what a node believes, and how what it says is put together.

use std::net::SocketAddr;

use super::Node;
use super::tables::Acquaintances;
use crate::info::{Event, RefusalReason};
use crate::proto::membership::RECENT_MAX;
use crate::proto::outbox::{Batch, Turn, encode, encode_sender};
use crate::proto::packet::{DATAGRAM_BYTES_MAX, OPEN_BYTES_MAX, Packet, Place, Refused};
use crate::proto::shared::{Alarm, Shared};
use crate::proto::traffic::Topic;
use crate::proto::wire::{Ask, FRAME_BYTES_TARGET, Life, Message, ROOTS_MAX, Roots, ScopeMessage, Status, Verdict};
use crate::proto::{Identity, InstanceId, Rule, ScopeId, Site, Stats, Wakeup};

/// Replies to searches that one member may have outstanding; beyond, its requests are refused.
const REPLIES_BYTES_MAX: usize = 1 << 20;
/// What one member may have another one hand on: a message about a child with the longest spec, and who leads it.
const RELAY_BYTES_MAX: usize = 2 * FRAME_BYTES_TARGET;
/// Newcomers that fit beside an answer; whoever knows fewer sees that the hashes differ.
const RECENT_BESIDE_ANSWER_MAX: usize = 16;
/// To how many random members rumours are sent when nothing else is.
const GOSSIP_FANOUT: usize = 3;
/// In how many datagrams each: when many members change at once, as when a large cluster starts, one would keep the last
/// rumours waiting for half a minute.
const GOSSIP_PACKETS_MAX: usize = 4;

impl Node {
    /// A datagram from the network. Nothing in it is believed before its head, nothing about scopes before its sender is
    /// an active member, and nothing at all, where packets are sealed, before its sender is known to live. What can be
    /// refused before it is deciphered is.
    pub(super) fn take_datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        let mut opened = std::mem::take(&mut self.opened);
        match self.sift(from, bytes).and_then(|()| self.cx.codec.open(bytes, Place::Datagram, &mut opened)) {
            Ok(packet) if !self.may_send_from(from, &packet) => self.refuse(from, Refused::Source),
            Ok(packet) if self.believes(from, &packet) => {
                self.cx.membership.heard(self.cx.now);
                if !packet.swim.is_empty() {
                    self.cx.stats.swim_packets_received += 1;
                    self.cx.stats.swim_bytes_received += packet.swim.len() as u64;
                    let (now, sealed_by) = (self.cx.now, packet.stamp.map(|stamp| stamp.life.instance));
                    self.cx.membership.handle_packet(now, packet.swim, sealed_by, &mut self.cx.stats);
                    self.follow_membership();
                }
                self.take_messages(from, &packet, false);
            }
            Ok(_) => {}
            Err(refused) => self.refuse(from, refused),
        }
        self.opened = opened;
    }

    pub(super) fn refuse(&mut self, from: SocketAddr, refused: Refused) {
        let stats = &mut self.cx.stats;
        let (counter, reason) = match refused {
            Refused::Malformed => (&mut stats.refused_malformed, RefusalReason::Malformed),
            Refused::Corrupt => (&mut stats.refused_corrupt, RefusalReason::Corrupt),
            Refused::WireVersion(_) => (&mut stats.refused_wire_version, RefusalReason::WireVersion),
            Refused::OtherCluster => (&mut stats.refused_other_cluster, RefusalReason::OtherCluster),
            Refused::Plaintext => (&mut stats.refused_plaintext, RefusalReason::Plaintext),
            Refused::Sealed => (&mut stats.refused_sealed, RefusalReason::Sealed),
            Refused::UnknownKey => (&mut stats.refused_key, RefusalReason::UnknownKey),
            Refused::Forged => (&mut stats.refused_forged, RefusalReason::Forged),
            Refused::Replayed => (&mut stats.refused_replay, RefusalReason::Replayed),
            Refused::Unproven => (&mut stats.refused_unproven, RefusalReason::Unproven),
            Refused::Rate => (&mut stats.refused_rate, RefusalReason::Rate),
            Refused::Source => (&mut stats.refused_source, RefusalReason::Source),
        };
        *counter += 1;
        self.tell_refusal(from, reason);
    }

    pub(super) fn tell_refusal(&mut self, from: SocketAddr, reason: RefusalReason) {
        let Some(count) = self.refusals.note(self.cx.now, reason) else { return };
        tracing::warn!(%from, %reason, count, "input was refused");
        for scope in self.scopes.keys() {
            self.cx.event(*scope, Event::InputRefused { reason, count, from });
        }
    }

    pub(super) fn take_messages(&mut self, from: SocketAddr, packet: &Packet<'_>, is_stream: bool) {
        let mut rest = packet.messages;
        let first = postcard::take_from_bytes::<Message>(rest);
        // Of whomever, the operator of this very node too.
        if let (Ok((Message::Examine(number), _)), false) = (&first, is_stream) {
            return self.answer_examination(from, *number, packet);
        }
        let Some(sender) = packet.from.filter(|sender| sender.addr != self.cx.me().addr) else { return };
        if let (Ok((message @ (Message::YouAreDown(..) | Message::Challenge(_)), after)), false) = (&first, is_stream) {
            self.cx.stats.note_received(message.topic(), rest.len() - after.len());
        }
        match first {
            // Believed of whomever: the sender may regard this node as down, and so be no member here.
            Ok((Message::YouAreDown(who, bump), _)) => {
                let now = self.cx.now;
                self.cx.membership.handle_you_are_down(now, who, bump, &mut self.cx.stats);
                return self.follow_membership();
            }
            // Nor need it be one to hear that this node lives.
            Ok((Message::Challenge(number), _)) if !is_stream => return self.answer_challenge(from, number),
            _ => {}
        }
        let sender = self.present_identity(sender, is_stream);
        if !self.admit(sender) {
            return;
        }
        self.follow_membership();
        let mut reader = Reader { sender, scope: None, members: None };
        while !rest.is_empty() {
            match postcard::take_from_bytes::<Message>(rest) {
                // Rumours come in datagrams only: looking at what follows each would not end in a frame full of them.
                Ok((Message::Rumour(len), after)) if !is_stream => {
                    rest = self.skip_if_heard(&reader, after, len.into());
                }
                Ok((message, after)) => {
                    self.cx.stats.note_received(message.topic(), rest.len() - after.len());
                    rest = after;
                    self.take_message(&mut reader, message, is_stream);
                }
                Err(_) => {
                    self.cx.stats.refused_malformed += 1;
                    return;
                }
            }
        }
    }

    /// In a large cluster everybody hears of everything about ten times; what was news here before is not read again.
    fn skip_if_heard<'a>(&mut self, reader: &Reader, rest: &'a [u8], len: usize) -> &'a [u8] {
        match (reader.scope, rest.split_at_checked(len)) {
            (Some(scope), Some((rumour, after))) if self.cx.gossip.has_heard(scope, rumour) => {
                self.cx.stats.rumours_heard_again += 1;
                after
            }
            _ => rest,
        }
    }

    /// A frame may have been queued under an identity that its sender has renewed since. Frames come in order from one
    /// process, so it is that instance all the same; of a datagram this can't be known.
    pub(super) fn present_identity(&self, sender: Identity, is_stream: bool) -> Identity {
        let present = self.cx.membership.identity_of(sender.instance);
        present.filter(|present| is_stream && present.bump > sender.bump).unwrap_or(sender)
    }

    fn take_message(&mut self, reader: &mut Reader, message: Message, is_stream: bool) {
        let sender = reader.sender;
        match message {
            Message::Suspected(who, incarnation) => self.take_suspected(sender, who, incarnation),
            Message::Pulse(millis) => self.take_pulse(sender, millis),
            Message::Silent(who, incarnation) => self.take_silent(sender, who, incarnation),
            Message::Lives(who, incarnation) => self.take_lives(who, incarnation),
            Message::TableRequest => self.send_table(sender),
            Message::Table(table) => self.take_table(sender, &table),
            Message::Members(told) => reader.members = Some(self.meet(sender, told)),
            Message::Probe(number) => self.take_probe(sender, number),
            Message::Echo(number) => self.take_echo(sender, number),
            Message::Look(number, suspect) => self.take_look(sender, number, suspect),
            Message::Looked(number, gone) => self.take_looked(sender, number, gone),
            Message::Relay(to, bytes) => self.relay(sender, to, bytes),
            Message::Relayed(origin, bytes) => self.take_relayed(sender, origin, &bytes),
            Message::Roots(roots) => self.take_roots(sender, &roots, false),
            Message::LastRoots(roots) => {
                self.take_roots(sender, &roots, true);
                self.send_roots(sender);
            }
            Message::Scope(scope) => reader.scope = Some(scope),
            Message::Scoped(message) => self.take_scoped(reader, message, is_stream),
            // That its sender lives was noted when it came.
            Message::Proof(_) => {}
            Message::YouAreDown(..)
            | Message::Challenge(_)
            | Message::Examine(_)
            | Message::Examined(..)
            | Message::Hello(_)
            | Message::Welcome(_)
            | Message::Refuse(_)
            | Message::Unwatch
            | Message::Rumour(_) => {
                self.cx.stats.refused_malformed += 1;
            }
        }
    }

    fn take_scoped(&mut self, reader: &Reader, message: ScopeMessage, is_stream: bool) {
        let sender = reader.sender;
        let Some(id) = reader.scope else {
            self.cx.stats.refused_malformed += 1;
            return;
        };
        if let ScopeMessage::Answer(answer) = &message {
            self.cx.peer(sender.instance).unanswered_since = None;
            let Some(members) = reader.members else {
                self.cx.stats.refused_malformed += 1;
                return;
            };
            if !members.are_known || self.cx.sites.fires(Site::DeferAnswer) {
                return self.defer_answer(sender, members.set, id, answer.clone());
            }
        }
        let wants_reply = matches!(message, ScopeMessage::Find(..) | ScopeMessage::StatusRequest);
        if wants_reply && self.cx.outbox.backlog_bytes(sender.instance) > REPLIES_BYTES_MAX {
            self.cx.stats.refused_limit += 1;
            return;
        }
        if matches!(message, ScopeMessage::Exchange(_)) && !is_stream {
            self.cx.stats.refused_malformed += 1;
            return;
        }
        match self.scopes.get_mut(&id) {
            Some(scope) => {
                // What comes in bulk is better compared than told one by one.
                let news = if is_stream { None } else { scope.news(&self.cx, &message) };
                scope.handle(&mut self.cx, sender, message);
                scope.pass_on(&mut self.cx, news);
            }
            None => answer_for_absent_scope(&mut self.cx, sender, id, message),
        }
    }

    fn take_roots(&mut self, sender: Identity, roots: &Roots, are_last: bool) {
        for (scope, root) in roots.iter() {
            if let Some(scope) = self.scopes.get_mut(&scope) {
                scope.handle_root(&mut self.cx, sender, root, are_last);
            }
        }
        self.note_agreement(sender, roots);
    }

    fn relay(&mut self, origin: Identity, to: Identity, bytes: Vec<u8>) {
        if to == self.cx.me() {
            self.take_relayed(origin, origin, &bytes);
        } else if bytes.len() > RELAY_BYTES_MAX {
            self.cx.stats.refused_limit += 1;
        } else if self.cx.membership.standing(to) == crate::proto::membership::Standing::Active {
            self.cx.send(to, &Message::Relayed(origin, bytes));
        }
    }

    /// Messages of `origin` that came through `via`; answers go back both ways. They may not be relayed again.
    fn take_relayed(&mut self, via: Identity, origin: Identity, bytes: &[u8]) {
        if !self.admit(origin) {
            return;
        }
        self.follow_membership();
        self.cx.via = Some(via);
        let mut reader = Reader { sender: origin, scope: None, members: None };
        let mut rest = bytes;
        while let Ok((message, after)) = postcard::take_from_bytes::<Message>(rest) {
            rest = after;
            if matches!(message, Message::Members(..) | Message::Scope(_) | Message::Scoped(_)) {
                self.take_message(&mut reader, message, false);
            }
        }
        self.cx.via = None;
    }

    /// Rumours go to a few random members, for as long as there are any.
    pub(super) fn gossip(&mut self) {
        self.cx.gossip_set = false;
        let me = self.cx.me();
        let mut packet = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        for member in self.cx.membership.sample(GOSSIP_FANOUT) {
            let mut turn = self.cx.gossip.turn();
            for _ in 0..GOSSIP_PACKETS_MAX {
                self.cx.codec.begin(&mut packet, &[]);
                encode_sender(&mut packet, me);
                if self.fill_rumours(&mut packet, &mut turn) == 0 {
                    break;
                }
                self.transmits.push(&mut self.cx.codec, member.addr, &packet);
            }
        }
        if !self.cx.gossip.is_empty() && self.cx.size() > 1 {
            self.cx.gossip_set = true;
            let interval = self.cx.config.profile.gossip_interval();
            self.cx.set_timer(interval, Wakeup::Gossip, Alarm::Gossip);
        }
    }

    /// Puts everything that is to be said into packets.
    pub(super) fn flush(&mut self) {
        self.cx.membership.forget_old(self.cx.now);
        let (mut swim, mut packet) = std::mem::take(&mut self.scratch);
        while let Some(to) = self.cx.membership.poll_packet(&mut swim) {
            self.cx.stats.swim_packets_sent += 1;
            self.cx.stats.swim_bytes_sent += swim.len() as u64;
            self.cx.codec.begin(&mut packet, &swim);
            if !self.has_left {
                self.ride_along(&mut packet);
            }
            self.transmits.push(&mut self.cx.codec, to.addr, &packet);
        }
        while let Some(batch) = self.cx.outbox.pop() {
            self.send_batch(&mut packet, &batch);
            self.cx.outbox.recycle(batch);
        }
        while let Some(batch) = self.cx.questions.pop(self.cx.now) {
            self.send_batch(&mut packet, &batch);
            self.cx.questions.recycle(batch);
        }
        self.cx.follow_questions();
        self.scratch = (swim, packet);
    }

    fn send_batch(&mut self, packet: &mut Vec<u8>, batch: &Batch) {
        if batch.is_bulk() || self.cx.sites.fires(Site::StreamBatch) {
            self.send_frames(batch);
        } else {
            self.send_datagrams(packet, batch);
        }
    }

    /// Fills the room that foca left: first the roots of a few scopes, then rumours.
    fn ride_along(&mut self, packet: &mut Vec<u8>) {
        if (self.scopes.is_empty() && self.cx.gossip.is_empty()) || self.cx.sites.fires(Site::DropPiggyback) {
            return;
        }
        encode_sender(packet, self.cx.membership.me());
        let count = self.scopes.len();
        let turn = (self.cx.stats.datagrams_sent as usize).checked_rem(count).unwrap_or(0);
        let roots: Roots = self
            .scopes
            .values()
            .cycle()
            .skip(turn)
            .take(count.min(ROOTS_MAX))
            .filter(|scope| scope.is_settled())
            .map(|scope| (scope.id, scope.root()))
            .collect();
        if !roots.is_empty() {
            self.cx.stats.encode(packet, &Message::Roots(roots));
        }
        let mut turn = self.cx.gossip.turn();
        self.fill_rumours(packet, &mut turn);
    }

    /// Appends as many rumours of a turn as fit; how many.
    fn fill_rumours(&mut self, packet: &mut Vec<u8>, turn: &mut Turn) -> usize {
        let start = packet.len();
        let filled = self.cx.gossip.fill(packet, OPEN_BYTES_MAX, turn);
        self.cx.stats.note_sent(Topic::Record, filled, packet.len() - start);
        filled
    }

    fn send_datagrams(&mut self, packet: &mut Vec<u8>, batch: &Batch) {
        let mut writer = Writer::default();
        let is_single = self.cx.sites.fires(Site::SingleBatch);
        packet.clear();
        for (item, bytes) in batch.items() {
            self.cx.stats.note_sent(item.topic, 1, bytes.len());
            let (end, written) = (packet.len(), writer);
            if end > 0 {
                writer.write(self, packet, batch.to.instance, &item, bytes);
                if packet.len() <= OPEN_BYTES_MAX && !is_single {
                    continue;
                }
                packet.truncate(end);
                written.count(&mut self.cx.stats);
                self.transmits.push(&mut self.cx.codec, batch.to.addr, packet);
                packet.clear();
                writer = Writer::default();
            }
            self.cx.codec.begin(packet, &[]);
            encode_sender(packet, self.cx.membership.me());
            writer.write(self, packet, batch.to.instance, &item, bytes);
            if packet.len() > OPEN_BYTES_MAX {
                // What leads it is long: a member with many kinds or labels.
                writer.count(&mut self.cx.stats);
                self.cx.send_frame(batch.to, std::mem::take(packet));
                writer = Writer::default();
            }
        }
        if !packet.is_empty() {
            writer.count(&mut self.cx.stats);
            self.transmits.push(&mut self.cx.codec, batch.to.addr, packet);
        }
    }

    fn send_frames(&mut self, batch: &Batch) {
        let mut frame = Vec::new();
        let mut writer = Writer::default();
        let bytes_max = if self.cx.sites.fires(Site::SingleBatch) { 0 } else { FRAME_BYTES_TARGET };
        for (item, bytes) in batch.items() {
            self.cx.stats.note_sent(item.topic, 1, bytes.len());
            if frame.len() + bytes.len() > bytes_max && !frame.is_empty() {
                writer.count(&mut self.cx.stats);
                self.cx.send_frame(batch.to, std::mem::take(&mut frame));
                writer = Writer::default();
            }
            if frame.is_empty() {
                frame = self.cx.frame();
                frame.reserve(FRAME_BYTES_TARGET.min(batch.len()));
            }
            writer.write(self, &mut frame, batch.to.instance, &item, bytes);
        }
        if !frame.is_empty() {
            writer.count(&mut self.cx.stats);
            self.cx.send_frame(batch.to, frame);
        }
    }
}

/// What was said so far in a packet that is being read.
struct Reader {
    sender: Identity,
    scope: Option<ScopeId>,
    /// Whom the sender knows.
    members: Option<Acquaintances>,
}

/// What was said so far in a packet that is being written.
#[derive(Clone, Copy, Default)]
struct Writer {
    scope: Option<ScopeId>,
    has_members: bool,
    has_lead: bool,
    /// How many messages lead others, and how many bytes they have.
    leading: usize,
    leading_bytes: usize,
}

impl Writer {
    fn write(
        &mut self,
        node: &Node,
        packet: &mut Vec<u8>,
        to: InstanceId,
        item: &crate::proto::outbox::Item,
        bytes: &[u8],
    ) {
        if item.wants_members && !self.has_members {
            self.has_members = true;
            self.lead(packet, &Message::Members(node.cx.membership.told(RECENT_BESIDE_ANSWER_MAX)));
        }
        let says_scope_once = node.cx.sabotage.lacks(Rule::ScopesAreNamed);
        if let Some(scope) = item.scope
            && self.scope != Some(scope)
            && (self.scope.is_none() || !says_scope_once)
        {
            self.scope = Some(scope);
            self.has_lead = false;
            self.lead(packet, &Message::Scope(scope));
        }
        if item.wants_lead && !self.has_lead {
            self.has_lead = true;
            if let Some(scope) = item.scope.and_then(|scope| node.scopes.get(&scope)) {
                self.lead(packet, &Message::Scoped(scope.lead(to)));
            }
        }
        packet.extend_from_slice(bytes);
    }

    fn lead(&mut self, packet: &mut Vec<u8>, message: &Message) {
        let start = packet.len();
        encode(packet, message);
        self.leading += 1;
        self.leading_bytes += packet.len() - start;
    }

    /// The packet is sent: counts what leads in it.
    fn count(&self, stats: &mut Stats) {
        stats.note_sent(Topic::Handover, self.leading, self.leading_bytes);
    }
}

/// A node that has not joined a scope runs nothing of it, and says so.
fn answer_for_absent_scope(cx: &mut Shared, from: Identity, scope: ScopeId, message: ScopeMessage) {
    match message {
        ScopeMessage::Ask(Ask { key, life, round, attempt, .. }) => {
            let answer = crate::proto::wire::Answer {
                key,
                to: from.instance,
                round,
                attempt,
                verdict: Verdict::Free,
                asked: life,
                life: Life::Fine,
                run: 0,
            };
            cx.stats.answers_free += 1;
            let message = ScopeMessage::Answer(answer);
            if let Some(relay) = cx.via.filter(|relay| relay.instance != from.instance) {
                let bytes = absent_relay_bytes(cx, scope, &message);
                cx.send(relay, &Message::Relay(from, bytes));
            }
            cx.send_scoped(from, scope, message);
        }
        ScopeMessage::StatusRequest => cx.send_scoped(from, scope, ScopeMessage::Status(Status::Absent)),
        ScopeMessage::Find(token, key) => cx.send_scoped(from, scope, ScopeMessage::Found(token, key, None)),
        ScopeMessage::Exchange(crate::proto::wire::Exchange::Pull { session, .. }) => {
            cx.send_exchange(from, scope, crate::proto::wire::Exchange::Absent { session });
        }
        _ => {}
    }
}

fn absent_relay_bytes(cx: &Shared, scope: ScopeId, message: &ScopeMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, &Message::Members(cx.membership.told(RECENT_MAX)));
    encode(&mut bytes, &Message::Scope(scope));
    encode(&mut bytes, &Message::Scoped(message.clone()));
    bytes
}
