//! Packets: how they are put together, sealed and opened, and what is refused of them unread.
//!
//! A packet, on UDP or as a frame on a stream, is
//!
//! ```text
//! 'h'  version  key  cluster tag (8)   length of SWIM part (u16)   SWIM part   sender   messages ...   checksum (4)
//! ```
//!
//! in plaintext, where `key` is 0. The checksum is the low half of the XXH3-64 of everything before it: UDP and TCP check
//! 16 bits, which lets one damaged packet in some ten thousands pass, and what passes would be replicated. It says nothing
//! about who sent a packet. Hashing costs 70 ns for a full datagram and 3 us for 64 kB (measured, x86-64).
//!
//! With a keyring it is
//!
//! ```text
//! 'h'  version  key  cluster tag (8)   nonce (24)   sealed { length of SWIM part   SWIM part   sender   messages ... }   tag (16)
//! ```
//!
//! sealed by XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), everything before the sealed part being authenticated with
//! it. `key` is a short name that follows from the key and does not tell it. The nonce is the sender's instance, eight
//! bytes drawn at its start, and how many packets it has sealed: no two packets are sealed with one nonce, and the first
//! two parts name a [`Life`] that only a holder of a key can speak for.
//!
//! The SWIM part is foca's own datagram, on UDP only. Sender and messages are postcard and may be absent.

use std::fmt;

use chacha20::hchacha;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use twox_hash::XxHash3_64;

use super::wire::WIRE_VERSION;
use super::{Identity, InstanceId};
use crate::key::Key;

/// The largest datagram: fits the 1,500 bytes of Ethernet with room for IPv6, UDP and a tunnel's headers.
pub const DATAGRAM_BYTES_MAX: usize = 1_400;

/// The largest datagram before it gets its end. Plaintext leaves a little more room than is used: batches are the same
/// with and without keys.
pub const OPEN_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - TAG_BYTES;

/// Room that foca leaves us in every datagram: the packet head, the sender, and the roots of a few scopes.
pub const SWIM_BYTES_MAX: usize = OPEN_BYTES_MAX - HEAD_BYTES - 128;

/// Bytes before the SWIM part, where a packet is sealed.
pub const HEAD_BYTES: usize = CLEAR_BYTES + NONCE_BYTES + LEN_BYTES;

/// Bytes of the tag at the end of a sealed packet.
pub const TAG_BYTES: usize = 16;

/// Bytes of the checksum at the end of a packet in plaintext.
pub const CHECKSUM_BYTES: usize = 4;

const MAGIC: u8 = b'h';
const PLAINTEXT: u8 = 0;
/// The magic, the version, the key and the tag of the cluster.
const CLEAR_BYTES: usize = 11;
const LEN_BYTES: usize = 2;
const NONCE_BYTES: usize = 24;

/// One life of a sender, as only a holder of a key can name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// Its instance.
    pub instance: InstanceId,
    /// Drawn at its start: were an instance ever drawn twice, no nonce would be.
    pub salt: [u8; 8],
}

/// Which packet of which life it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Who sealed it.
    pub life: Life,
    /// Its how-manieth it is.
    pub counter: u64,
}

impl Stamp {
    fn to_nonce(self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce[..8].copy_from_slice(&self.life.instance.get().to_be_bytes());
        nonce[8..16].copy_from_slice(&self.life.salt);
        nonce[16..].copy_from_slice(&self.counter.to_be_bytes());
        nonce
    }

    fn from_nonce(nonce: &[u8; NONCE_BYTES]) -> Self {
        let part = |at: usize| std::array::from_fn(|n| nonce[at + n]);
        let instance = InstanceId::new(u64::from_be_bytes(part(0)));
        Stamp { life: Life { instance, salt: part(8) }, counter: u64::from_be_bytes(part(16)) }
    }
}

/// What a node draws for the frames of one stream, so that they fit no other one.
pub type StreamNonce = [u8; 16];

/// One of the frames that follow a handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// What the dialling node drew for this stream.
    pub dialler: StreamNonce,
    /// What the other one drew.
    pub acceptor: StreamNonce,
    /// How many frames went before it in its direction.
    pub number: u64,
}

/// Where a packet belongs: sealed for one place, it can't be opened at another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On UDP.
    Datagram,
    /// The first frame of a stream.
    Hello,
    /// The answer to the Hello that brought this.
    Welcome(StreamNonce),
    /// A later frame from who dialled.
    Dialled(Turn),
    /// A later frame from who accepted.
    Accepted(Turn),
}

const PLACE_BYTES: usize = 41;

impl Place {
    fn to_bytes(self) -> [u8; PLACE_BYTES] {
        let (kind, turn) = match self {
            Place::Datagram => (0, Turn::default()),
            Place::Hello => (1, Turn::default()),
            Place::Welcome(dialler) => (2, Turn { dialler, ..Turn::default() }),
            Place::Dialled(turn) => (3, turn),
            Place::Accepted(turn) => (4, turn),
        };
        let mut bytes = [0; PLACE_BYTES];
        bytes[0] = kind;
        bytes[1..17].copy_from_slice(&turn.dialler);
        bytes[17..33].copy_from_slice(&turn.acceptor);
        bytes[33..].copy_from_slice(&turn.number.to_be_bytes());
        bytes
    }
}

/// A packet taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// For foca; empty if there is nothing.
    pub swim: &'a [u8],
    /// Who sent the messages.
    pub from: Option<Identity>,
    /// The messages, one after the other.
    pub messages: &'a [u8],
    /// Who sealed it, where it was.
    pub stamp: Option<Stamp>,
}

/// Why a packet was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// It is not one of ours.
    Malformed,
    /// Its checksum is wrong.
    Corrupt,
    /// It is of this version, which we do not speak.
    WireVersion(u8),
    /// It is of another cluster.
    OtherCluster,
    /// It is not sealed, and this node has a keyring.
    Plaintext,
    /// It is sealed, and this node has no keyring.
    Sealed,
    /// It is sealed with a key that is not in the ring.
    UnknownKey,
    /// It names a key of the ring and was not sealed with it, or was changed since, or is out of place.
    Forged,
    /// It came before, or is too old to know.
    Replayed,
    /// It is of a life that no member knows and that has not shown that it goes on.
    Unproven,
    /// It does not come from where its sender says that it is.
    Source,
    /// It names a life of which nothing is known, and its source sends too many of these.
    Rate,
}

/// A key in use.
struct RingKey {
    /// What packets call it.
    name: u8,
    cipher: XChaCha20Poly1305,
}

impl RingKey {
    fn new(key: &Key) -> Self {
        let bytes = (*key.bytes()).into();
        // One way: who sees the name has one bit in 255 of what tells keys apart, and nothing of the key.
        let name = hchacha::<chacha20::R20>(&bytes, &(*b"name of this key").into())[0] % 255 + 1;
        RingKey { name, cipher: XChaCha20Poly1305::new(&bytes) }
    }
}

/// Puts the packets of one node together and takes those of others apart.
pub struct Codec {
    cluster: [u8; 8],
    /// The first one seals. None: plaintext.
    keys: Vec<RingKey>,
    life: Life,
    sealed: u64,
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec").field("keys", &self.keys.len()).field("sealed", &self.sealed).finish_non_exhaustive()
    }
}

impl Codec {
    /// For packets in plaintext.
    pub fn plaintext(cluster: &str) -> Self {
        Codec::keyed(cluster, &[], Life { instance: InstanceId::new(0), salt: [0; 8] })
    }

    /// For packets that are sealed with the first of these keys and opened with any. `life` must be new.
    pub fn keyed(cluster: &str, keys: &[Key], life: Life) -> Self {
        let cluster = XxHash3_64::oneshot(cluster.as_bytes()).to_be_bytes();
        Codec { cluster, keys: keys.iter().map(RingKey::new).collect(), life, sealed: 0 }
    }

    /// Seals with the first of these keys from now on, and opens with any. The counter goes on: no nonce is used again under
    /// a key that comes back.
    pub fn set_keys(&mut self, keys: &[Key]) {
        self.keys = keys.iter().map(RingKey::new).collect();
    }

    /// Whether packets are sealed.
    pub fn is_keyed(&self) -> bool {
        !self.keys.is_empty()
    }

    /// How many bytes longer [`seal`](Self::seal) makes a packet.
    #[cfg(feature = "doctor")]
    pub fn end_bytes(&self) -> usize {
        if self.is_keyed() { TAG_BYTES } else { CHECKSUM_BYTES }
    }

    /// Starts a packet with this SWIM part in `packet`, which is emptied first; [`seal`](Self::seal) ends it.
    pub fn begin(&self, packet: &mut Vec<u8>, swim: &[u8]) {
        packet.clear();
        self.extend(packet, swim);
    }

    /// Appends the head and a SWIM part.
    pub fn extend(&self, packet: &mut Vec<u8>, swim: &[u8]) {
        let key = self.keys.first().map_or(PLAINTEXT, |key| key.name);
        packet.extend_from_slice(&[MAGIC, WIRE_VERSION, key]);
        packet.extend_from_slice(&self.cluster);
        if self.is_keyed() {
            packet.extend_from_slice(&[0; NONCE_BYTES]);
        }
        let len = u16::try_from(swim.len()).unwrap_or(u16::MAX);
        packet.extend_from_slice(&len.to_be_bytes());
        packet.extend_from_slice(&swim[..usize::from(len)]);
    }

    /// Ends the packet that begins at `start`, for this place.
    pub fn seal(&mut self, bytes: &mut Vec<u8>, start: usize, place: Place) {
        let Some(key) = self.keys.first() else { return seal_plaintext(bytes, start) };
        self.sealed += 1;
        let nonce = Stamp { life: self.life, counter: self.sealed }.to_nonce();
        let Some((head, body)) = bytes[start..].split_first_chunk_mut::<{ CLEAR_BYTES + NONCE_BYTES }>() else {
            return;
        };
        // The ring may have changed since the packet was begun.
        head[2] = key.name;
        head[CLEAR_BYTES..].copy_from_slice(&nonce);
        match key.cipher.encrypt_inout_detached(&nonce.into(), &associated(head, place), body.into()) {
            Ok(tag) => bytes.extend_from_slice(&tag),
            // Only 256 GB are too long to be sealed; if it happens, nothing may leave in plaintext.
            Err(_) => bytes.truncate(start),
        }
    }

    /// Who sealed a datagram, by its own account: nobody has looked at its tag. `None` in plaintext.
    ///
    /// # Errors
    /// Why it is refused without that.
    pub fn look_at(&self, datagram: &[u8]) -> Result<Option<Stamp>, Refused> {
        if datagram.len() > DATAGRAM_BYTES_MAX {
            return Err(Refused::Malformed);
        }
        match self.is_sealed(datagram)? {
            true => Ok(Some(self.take_apart(self.cluster, datagram)?.stamp())),
            false => Ok(None),
        }
    }

    /// Takes a packet apart that came at this place. What was sealed is opened into `scratch`.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn open<'a>(&self, packet: &'a [u8], place: Place, scratch: &'a mut Vec<u8>) -> Result<Packet<'a>, Refused> {
        self.open_of(self.cluster, packet, place, scratch)
    }

    /// Takes the first frame of a stream apart that may be of another cluster, so that it can be told apart by name.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn open_foreign<'a>(
        &self,
        packet: &'a [u8],
        place: Place,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Packet<'a>, Refused> {
        let cluster = packet.get(3..CLEAR_BYTES).and_then(|tag| tag.try_into().ok()).ok_or(Refused::Malformed)?;
        self.open_of(cluster, packet, place, scratch)
    }

    fn open_of<'a>(
        &self,
        cluster: [u8; 8],
        packet: &'a [u8],
        place: Place,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Packet<'a>, Refused> {
        match self.is_sealed(packet)? {
            true => self.open_sealed(&self.take_apart(cluster, packet)?, place, scratch),
            false => open_plaintext(cluster, packet),
        }
    }

    /// What another version may lay out differently is told apart before anything else is looked at.
    fn is_sealed(&self, packet: &[u8]) -> Result<bool, Refused> {
        match packet {
            [MAGIC, WIRE_VERSION, PLAINTEXT, ..] if self.is_keyed() => Err(Refused::Plaintext),
            [MAGIC, WIRE_VERSION, PLAINTEXT, ..] => Ok(false),
            [MAGIC, WIRE_VERSION, _, ..] if !self.is_keyed() => Err(Refused::Sealed),
            [MAGIC, WIRE_VERSION, ..] => Ok(true),
            [MAGIC, version, ..] => Err(Refused::WireVersion(*version)),
            _ => Err(Refused::Malformed),
        }
    }

    fn take_apart<'a>(&self, cluster: [u8; 8], packet: &'a [u8]) -> Result<Sealed<'a>, Refused> {
        let sealed = Sealed::split(packet).ok_or(Refused::Malformed)?;
        if sealed.head[3..CLEAR_BYTES] != cluster {
            return Err(Refused::OtherCluster);
        }
        let is_known = self.keys.iter().any(|key| key.name == sealed.head[2]);
        if is_known { Ok(sealed) } else { Err(Refused::UnknownKey) }
    }

    fn open_sealed<'a>(
        &self,
        packet: &Sealed<'_>,
        place: Place,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Packet<'a>, Refused> {
        let Sealed { head, body, tag } = *packet;
        let (nonce, associated) = (packet.nonce(), associated(head, place));
        scratch.resize(body.len(), 0);
        for key in self.keys.iter().filter(|key| key.name == head[2]) {
            let Ok(buffer) = InOutBuf::new(body, &mut scratch[..]) else { break };
            if key.cipher.decrypt_inout_detached(&nonce.into(), &associated, buffer, &(*tag).into()).is_ok() {
                return Packet::parse(scratch, Some(packet.stamp()));
            }
        }
        Err(Refused::Forged)
    }
}

/// The parts of a sealed packet, none of which is believed yet.
struct Sealed<'a> {
    /// What is in the clear.
    head: &'a [u8; CLEAR_BYTES + NONCE_BYTES],
    body: &'a [u8],
    tag: &'a [u8; TAG_BYTES],
}

impl<'a> Sealed<'a> {
    fn split(packet: &'a [u8]) -> Option<Self> {
        let (head, rest) = packet.split_first_chunk()?;
        let (body, tag) = rest.split_last_chunk()?;
        Some(Sealed { head, body, tag })
    }

    fn nonce(&self) -> [u8; NONCE_BYTES] {
        std::array::from_fn(|n| self.head[CLEAR_BYTES + n])
    }

    fn stamp(&self) -> Stamp {
        Stamp::from_nonce(&self.nonce())
    }
}

#[cfg(feature = "simulation")]
impl Codec {
    /// Takes a packet apart whatever place it is for, as a test that has the keys may: the tag is not looked at.
    ///
    /// # Errors
    /// What it would be refused for in plaintext.
    pub fn peek<'a>(&self, packet: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Packet<'a>, Refused> {
        let Some(key) = packet.get(2).and_then(|name| self.keys.iter().find(|key| key.name == *name)) else {
            return self.open(packet, Place::Datagram, scratch);
        };
        let sealed = Sealed::split(packet).ok_or(Refused::Malformed)?;
        scratch.clear();
        scratch.extend_from_slice(sealed.body);
        // A stream cipher seals and opens by the same step.
        let step = key.cipher.encrypt_inout_detached(&sealed.nonce().into(), &[], (&mut scratch[..]).into());
        step.map_err(|_| Refused::Malformed)?;
        Packet::parse(scratch, Some(sealed.stamp()))
    }
}

/// Ends the packet in plaintext that begins at `start` with its checksum.
pub fn seal_plaintext(bytes: &mut Vec<u8>, start: usize) {
    let checksum = checksum(&bytes[start..]);
    bytes.extend_from_slice(&checksum);
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    (XxHash3_64::oneshot(bytes) as u32).to_be_bytes()
}

fn open_plaintext(cluster: [u8; 8], packet: &[u8]) -> Result<Packet<'_>, Refused> {
    let (body, tail) = packet.split_last_chunk::<CHECKSUM_BYTES>().ok_or(Refused::Malformed)?;
    let (head, rest) = body.split_at_checked(CLEAR_BYTES).ok_or(Refused::Malformed)?;
    if *tail != checksum(body) {
        return Err(Refused::Corrupt);
    }
    if head[3..] != cluster {
        return Err(Refused::OtherCluster);
    }
    Packet::parse(rest, None)
}

impl<'a> Packet<'a> {
    /// Takes apart what stands behind the clear head.
    fn parse(bytes: &'a [u8], stamp: Option<Stamp>) -> Result<Self, Refused> {
        let (len, rest) = bytes.split_first_chunk::<LEN_BYTES>().ok_or(Refused::Malformed)?;
        let (swim, rest) = rest.split_at_checked(u16::from_be_bytes(*len).into()).ok_or(Refused::Malformed)?;
        if rest.is_empty() {
            return Ok(Packet { swim, from: None, messages: rest, stamp });
        }
        let (from, messages): (Identity, _) = postcard::take_from_bytes(rest).map_err(|_| Refused::Malformed)?;
        if stamp.is_some_and(|stamp| stamp.life.instance != from.instance) {
            return Err(Refused::Malformed);
        }
        Ok(Packet { swim, from: Some(from), messages, stamp })
    }
}

/// What is authenticated beside what is sealed.
fn associated(head: &[u8; CLEAR_BYTES + NONCE_BYTES], place: Place) -> [u8; CLEAR_BYTES + NONCE_BYTES + PLACE_BYTES] {
    let mut bytes = [0; CLEAR_BYTES + NONCE_BYTES + PLACE_BYTES];
    bytes[..head.len()].copy_from_slice(head);
    bytes[head.len()..].copy_from_slice(&place.to_bytes());
    bytes
}

#[cfg(test)]
mod tests;
