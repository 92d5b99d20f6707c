//! Handshakes on streams: who is at the other end, whether the two fit together, and if not, why.

use std::net::SocketAddr;

use rand_core::Rng;
use twox_hash::XxHash3_64;

use super::Node;
use crate::info::{Event, RefusalReason};
use crate::proto::hint::Hint;
use crate::proto::links::{self, Expect};
use crate::proto::notices::Cause;
use crate::proto::outbox::encode_sender;
use crate::proto::packet::{Packet, Place, Refused, StreamNonce};
use crate::proto::placement;
use crate::proto::wire::{Hello, Message, Purpose, Refusal, Welcome};
use crate::proto::{ConnId, Identity, InstanceId, Output};

/// Whom a first frame is from, and what it says.
struct First {
    sender: Identity,
    message: Message,
}

impl Hello {
    /// Why its sender can't speak with a node of this cluster, if so.
    pub(crate) fn misfit(&self, cluster: &str) -> Option<Refusal> {
        if self.cluster != cluster {
            Some(Refusal::Cluster(cluster.to_owned()))
        } else {
            (self.placement != placement::fingerprint()).then_some(Refusal::Placement)
        }
    }
}

impl Refusal {
    /// What to do about it, for the operator of a node of cluster `mine`.
    pub(crate) fn explain(&self, mine: &str) -> String {
        match self {
            Refusal::Cluster(theirs) => {
                format!("it belongs to cluster {theirs:?}, this node is configured for {mine:?}: correct one of them")
            }
            Refusal::Placement => {
                "it places children by another function: the two versions can't be mixed, deploy one of them".into()
            }
            Refusal::Full => "it has no room for more streams of this kind".into(),
            Refusal::Name(name, holder) => format!(
                "the name {name:?} belongs to the live member at {holder}: give this node another one, or wait until \
                 that one is down"
            ),
        }
    }
}

impl Node {
    pub(super) fn stream_connected(&mut self, conn: ConnId) {
        let nonce = self.stream_nonce();
        let cx = &mut self.cx;
        let mut frame = Vec::new();
        cx.codec.begin(&mut frame, &[]);
        encode_sender(&mut frame, cx.membership.me());
        let (cluster, name) = (cx.config.cluster.clone(), cx.name.to_string());
        let hello = |purpose| {
            let hello = Hello { cluster, placement: placement::fingerprint(), name, purpose, nonce };
            cx.stats.encode(&mut frame, &Message::Hello(hello));
            frame
        };
        cx.links.connected(cx.now, conn, nonce, hello, &mut cx.codec, &mut cx.outputs);
    }

    fn stream_nonce(&mut self) -> StreamNonce {
        let mut nonce = StreamNonce::default();
        if self.cx.codec.is_keyed() {
            self.cx.rng.fill_bytes(&mut nonce);
        }
        nonce
    }

    /// One frame of a stream.
    pub(super) fn take_frame(&mut self, conn: ConnId, bytes: &[u8]) {
        self.cx.stats.frames_received += 1;
        self.cx.stats.frame_bytes_received += bytes.len() as u64;
        let Some(from) = self.cx.links.addr(conn) else { return };
        match self.cx.links.expect(self.cx.now, conn) {
            Expect::Hello => self.take_hello(conn, from, bytes),
            Expect::Welcome { purpose, meant } => self.take_welcome(conn, from, bytes, purpose, meant),
            Expect::Nothing => {}
            expected => self.take_later_frame(conn, from, bytes, expected),
        }
    }

    /// A frame after the handshake. Where frames are sealed, a stream ends with the first one that does not belong there:
    /// what comes after it would come out of order.
    fn take_later_frame(&mut self, conn: ConnId, from: SocketAddr, bytes: &[u8], expected: Expect) {
        let mut opened = std::mem::take(&mut self.opened);
        let packet = self.cx.codec.open(bytes, self.cx.links.place(conn), &mut opened);
        match packet {
            Ok(packet) if !self.cx.links.heard_next(conn, packet.stamp) => {
                self.refuse_frame(conn, from, Refused::Forged);
            }
            Ok(packet) => match expected {
                Expect::Proof { purpose } => self.take_proof(conn, from, &packet, purpose),
                Expect::Farewell => self.take_farewell(conn, &packet),
                _ => self.take_messages(from, &packet, true),
            },
            Err(refused) => self.refuse_frame(conn, from, refused),
        }
        self.opened = opened;
    }

    fn refuse_frame(&mut self, conn: ConnId, from: SocketAddr, refused: Refused) {
        self.refuse(from, refused);
        if self.cx.links.is_watch(conn) {
            self.watch_failed(conn);
        } else if self.cx.codec.is_keyed() {
            self.close(conn);
        }
    }

    /// A first frame says to which cluster it belongs, so that a wrong one gets a reason and not just silence.
    fn first_message(&mut self, conn: ConnId, bytes: &[u8]) -> Result<First, Refused> {
        let mut opened = std::mem::take(&mut self.opened);
        let place = self.cx.links.place(conn);
        let packet = match self.cx.codec.open(bytes, place, &mut opened) {
            // With other keys there is no more to be known.
            Err(Refused::OtherCluster) => {
                self.cx.codec.open_foreign(bytes, place, &mut opened).map_err(|_| Refused::OtherCluster)
            }
            packet => packet,
        };
        let first = packet.and_then(|packet| {
            let message: Message = postcard::from_bytes(packet.messages).map_err(|_| Refused::Malformed)?;
            self.cx.stats.note_received(message.topic(), packet.messages.len());
            self.cx.links.heard_first(conn, packet.stamp);
            Ok(First { sender: packet.from.ok_or(Refused::Malformed)?, message })
        });
        self.opened = opened;
        first
    }

    fn take_hello(&mut self, conn: ConnId, from: SocketAddr, bytes: &[u8]) {
        let (sender, hello) = match self.first_message(conn, bytes) {
            Ok(First { sender, message: Message::Hello(hello) }) if self.may_dial_from(from, sender) => (sender, hello),
            refused => {
                let is_elsewhere = matches!(refused, Ok(First { message: Message::Hello(_), .. }));
                let otherwise = if is_elsewhere { Refused::Source } else { Refused::Malformed };
                let refused = refused.err().unwrap_or(otherwise);
                self.refuse(from, refused);
                if let Some(hint) = Hint::about(refused) {
                    self.cx.outputs.push_back(Output::Frame { conn, bytes: hint.to_frame() });
                }
                return self.close(conn);
            }
        };
        if let Some(refusal) = self.refusal_of(from, sender, &hello) {
            let is_news = hello.purpose != Purpose::Watch;
            if is_news && self.cx.notices.is_due(self.cx.now, Cause::Stranger(from.ip())) {
                tracing::warn!(%from, name = %hello.name, ?refusal, "refused a node");
            }
            return self.answer_hello(conn, hello.nonce, &Message::Refuse(refusal), true);
        }
        let nonce = self.stream_nonce();
        let is_over = hello.purpose == Purpose::Examine;
        if is_over {
            self.cx.stats.examinations += 1;
        } else if self.cx.codec.is_keyed() {
            self.cx.links.doubted(conn, hello.purpose, hello.nonce, nonce);
        } else {
            self.greeted(conn, from, sender.instance, hello.purpose);
        }
        let table = if wants_in(hello.purpose) { self.cx.membership.table() } else { Vec::new() };
        let welcome = Welcome { name: self.cx.name.to_string(), table, nonce };
        self.answer_hello(conn, hello.nonce, &Message::Welcome(welcome), is_over);
    }

    fn answer_hello(&mut self, conn: ConnId, nonce: StreamNonce, answer: &Message, is_last: bool) {
        let mut frame = self.cx.frame();
        self.cx.stats.encode(&mut frame, answer);
        links::put(conn, frame, Place::Welcome(nonce), &mut self.cx.codec, &mut self.cx.outputs);
        if is_last {
            self.close(conn);
        }
    }

    /// Why this node has nothing to do with who dialled, if so. Changes nothing where the Hello may have been recorded.
    fn refusal_of(&mut self, from: SocketAddr, sender: Identity, hello: &Hello) -> Option<Refusal> {
        if let Some(refusal) = hello.misfit(&self.cx.config.cluster) {
            if matches!(refusal, Refusal::Cluster(_)) {
                self.refuse(from, Refused::OtherCluster);
            }
            Some(refusal)
        } else if hello.purpose == Purpose::Watch {
            if self.cx.codec.is_keyed() { None } else { self.refusal_to_watch(sender) }
        } else {
            let taken = self.holder_of(&hello.name, sender);
            taken.filter(|_| wants_in(hello.purpose)).map(|holder| Refusal::Name(hello.name.clone(), holder))
        }
    }

    fn refusal_to_watch(&mut self, sender: Identity) -> Option<Refusal> {
        let is_taken = self.may_watch(sender);
        self.cx.stats.watches_refused += u64::from(!is_taken);
        (!is_taken).then_some(Refusal::Full)
    }

    /// Whoever dialled has sealed something with what was drawn for this stream: it lives.
    fn take_proof(&mut self, conn: ConnId, from: SocketAddr, packet: &Packet<'_>, purpose: Purpose) {
        let (Some(stamp), Some(sender)) = (packet.stamp, packet.from) else {
            return self.refuse_frame(conn, from, Refused::Malformed);
        };
        self.admit_life(stamp);
        let refusal = if purpose == Purpose::Watch { self.refusal_to_watch(sender) } else { None };
        if let Some(refusal) = refusal {
            let mut frame = self.cx.frame();
            self.cx.stats.encode(&mut frame, &Message::Refuse(refusal));
            self.cx.links.send_on(conn, frame, &mut self.cx.codec, &mut self.cx.outputs);
            return self.close(conn);
        }
        self.greeted(conn, from, stamp.life.instance, purpose);
        self.take_messages(from, packet, true);
    }

    /// An accepted stream is open. Whoever has opened too many of them loses the oldest.
    fn greeted(&mut self, conn: ConnId, from: SocketAddr, peer: InstanceId, purpose: Purpose) {
        self.cx.links.greeted_for(conn, peer, purpose, &mut self.cx.stats);
        if let Some(oldest) = self.cx.links.crowded_out(peer) {
            self.cx.stats.streams_crowded_out += 1;
            self.tell_refusal(from, RefusalReason::PeerStreams);
            self.close(oldest);
        }
    }

    /// The address of another live member that has this name. A new life at the old address is no other member.
    fn holder_of(&self, name: &str, sender: Identity) -> Option<SocketAddr> {
        let mine = (self.cx.name.as_ref() == name).then(|| self.cx.me().addr);
        let others = self.scopes.values().flat_map(|scope| {
            scope.members.iter().filter(|(instance, _)| **instance != sender.instance).filter_map(|(&instance, m)| {
                (m.record.name.as_ref() == name && !m.record.left).then(|| scope.addr_of(instance)).flatten()
            })
        });
        mine.into_iter().chain(others).find(|addr| *addr != sender.addr)
    }

    fn take_welcome(
        &mut self,
        conn: ConnId,
        from: SocketAddr,
        bytes: &[u8],
        purpose: Purpose,
        meant: Option<InstanceId>,
    ) {
        if let Some(hint) = Hint::from_frame(bytes) {
            self.join_refused(from, &hint.explain());
            return self.give_up(conn, purpose);
        }
        match self.first_message(conn, bytes) {
            Ok(First { sender, message: Message::Welcome(_) })
                if purpose == Purpose::Watch && meant != Some(sender.instance) =>
            {
                self.watch_failed(conn);
            }
            Ok(First { sender, message: Message::Welcome(welcome) }) => self.welcomed(conn, sender, purpose, &welcome),
            Ok(First { message: Message::Refuse(refusal), .. }) => {
                if purpose != Purpose::Watch {
                    self.join_refused(from, &refusal.explain(&self.cx.config.cluster));
                }
                self.give_up(conn, purpose);
            }
            refused => {
                self.refuse(from, refused.err().unwrap_or(Refused::Malformed));
                self.close(conn);
            }
        }
    }

    fn welcomed(&mut self, conn: ConnId, sender: Identity, purpose: Purpose, welcome: &Welcome) {
        if let Some(stamp) = self.cx.links.heard(conn) {
            self.admit_life(stamp);
        }
        let cx = &mut self.cx;
        cx.links.greeted(conn, sender.instance, &mut cx.stats);
        if cx.codec.is_keyed() {
            let proof = cx.frame();
            cx.links.prove(conn, welcome.nonce, proof, &mut cx.codec, &mut cx.outputs);
        }
        if sender.addr == cx.me().addr {
            self.close(conn);
        } else if purpose == Purpose::Join {
            cx.membership.handle_welcome(cx.now, sender, &welcome.table, &mut cx.stats);
        }
    }

    fn give_up(&mut self, conn: ConnId, purpose: Purpose) {
        match purpose {
            Purpose::Watch => self.watch_failed(conn),
            _ => self.close(conn),
        }
    }

    /// Tells the operator and the users why a node does not want this one: it is asked again every second or so, and they
    /// need not hear it as often.
    fn join_refused(&mut self, by: SocketAddr, reason: &str) {
        let cause = Cause::Unwanted(by, XxHash3_64::oneshot(reason.as_bytes()));
        if !self.cx.notices.is_due(self.cx.now, cause) {
            return;
        }
        tracing::warn!(seed = %by, %reason, "a node refused this one");
        for scope in self.scopes.keys() {
            let event = Event::JoinRefused { seed: by, reason: reason.into() };
            self.cx.outputs.push_back(Output::Event { scope: *scope, event });
        }
    }

    fn close(&mut self, conn: ConnId) {
        let ended = self.cx.links.close(conn, &mut self.cx.outputs);
        self.stream_ended(ended);
    }
}

/// Whether who dials for this has to fit in beside all members, and is told who they are.
fn wants_in(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::Join | Purpose::Examine)
}
