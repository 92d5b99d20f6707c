use std::net::SocketAddr;

use chacha20poly1305::aead::inout::InOutBuf;

use super::*;
use crate::proto::outbox::encode_sender;

const ME: InstanceId = InstanceId::new(0x0102_0304_0506_0708);

fn key(n: u8) -> Key {
    Key::new([n; 32])
}

fn codec_with(keys: &[Key]) -> Codec {
    Codec::keyed("reef", keys, Life { instance: ME, salt: [9; 8] })
}

/// A packet with a SWIM part, a sender and messages.
fn sealed(codec: &mut Codec, place: Place) -> Vec<u8> {
    let me = Identity { addr: SocketAddr::from(([10, 0, 0, 1], 7946)), bump: 3, instance: ME };
    let mut packet = Vec::new();
    codec.begin(&mut packet, b"swim");
    encode_sender(&mut packet, me);
    packet.extend_from_slice(b"messages");
    codec.seal(&mut packet, 0, place);
    packet
}

fn open(codec: &Codec, packet: &[u8], place: Place) -> Result<Option<Stamp>, Refused> {
    let mut opened = Vec::new();
    let packet = codec.open(packet, place, &mut opened)?;
    assert_eq!((packet.swim, packet.messages), (&b"swim"[..], &b"messages"[..]));
    assert_eq!(packet.from.map(|from| from.instance), Some(ME));
    Ok(packet.stamp)
}

/// Goal: what was put together is taken apart the same, sealed or not, and no byte of what is sealed is to be seen. Each
/// packet has a counter of its own.
#[test]
fn a_packet_is_opened_as_it_was_sealed() {
    let mut plain = Codec::plaintext("reef");
    let packet = sealed(&mut plain, Place::Datagram);
    assert_eq!(open(&plain, &packet, Place::Datagram), Ok(None));
    let mut codec = codec_with(&[key(1)]);
    for counter in 1..4 {
        let packet = sealed(&mut codec, Place::Datagram);
        let stamp = Stamp { life: Life { instance: ME, salt: [9; 8] }, counter };
        assert_eq!(open(&codec_with(&[key(1)]), &packet, Place::Datagram), Ok(Some(stamp)));
        assert!(!packet.windows(4).any(|bytes| bytes == b"swim" || bytes == b"mess"));
    }
}

/// Goal: the seal is XChaCha20-Poly1305 as it is published. Method: the example of draft-irtf-cfrg-xchacha-03, A.3.1.
#[test]
fn the_cipher_is_the_published_one() {
    let key: [u8; 32] = std::array::from_fn(|n| 0x80 + n as u8);
    let nonce: [u8; 24] = std::array::from_fn(|n| 0x40 + n as u8);
    let associated = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
    let text =
        *b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen \
                  would be it.";
    let mut out = [0; 114];
    let buffer = InOutBuf::new(&text, &mut out[..]).expect("they are as long");
    let tag = XChaCha20Poly1305::new(&key.into())
        .encrypt_inout_detached(&nonce.into(), &associated, buffer)
        .expect("it is short");
    assert_eq!(out[..8], [0xbd, 0x6d, 0x17, 0x9d, 0x3e, 0x83, 0xd4, 0x3b]);
    assert_eq!(tag[..], 0xc087_5924_c1c7_9879_47de_afd8_780a_cf49_u128.to_be_bytes());
}

/// Goal: nothing of a sealed packet can be changed. Method: every bit flipped, every length cut, and one byte appended.
#[test]
fn any_flipped_bit_and_any_cut_is_refused() {
    let mut codec = codec_with(&[key(1)]);
    let packet = sealed(&mut codec, Place::Datagram);
    for bit in 0..packet.len() * 8 {
        let mut changed = packet.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let refused = open(&codec, &changed, Place::Datagram).expect_err("it was changed");
        assert!(bit < CLEAR_BYTES * 8 || refused == Refused::Forged, "bit {bit}: {refused:?}");
    }
    for len in 0..packet.len() {
        assert!(open(&codec, &packet[..len], Place::Datagram).is_err(), "{len} bytes");
    }
    assert_eq!(open(&codec, &[&packet[..], &[0]].concat(), Place::Datagram), Err(Refused::Forged));
}

/// Goal: a packet fits the place that it was sealed for and no other. Method: each at each.
#[test]
fn a_packet_fits_no_other_place() {
    let (one, two) = ([1; 16], [2; 16]);
    let turn = |dialler, acceptor, number| Turn { dialler, acceptor, number };
    let places = [
        Place::Datagram,
        Place::Hello,
        Place::Welcome(one),
        Place::Welcome(two),
        Place::Dialled(turn(one, two, 0)),
        Place::Dialled(turn(one, two, 1)),
        Place::Dialled(turn(two, one, 0)),
        Place::Accepted(turn(one, two, 0)),
        Place::Accepted(turn(one, two, 1)),
        Place::Accepted(turn(two, one, 0)),
    ];
    let mut codec = codec_with(&[key(1)]);
    for place in places {
        let packet = sealed(&mut codec, place);
        for other in places {
            assert_eq!(open(&codec, &packet, other).is_ok(), place == other, "{place:?} at {other:?}");
        }
    }
}

/// Goal: every key of the ring opens and the first one seals, also when the ring changes while a packet is put together;
/// two keys with one name are told apart. Method: 300 keys, of which two must have one name.
#[test]
fn every_key_of_the_ring_opens_and_the_first_one_seals() {
    let ring = [key(2), key(1)];
    let [mut before, mut during, after] = [codec_with(&ring[1..]), codec_with(&ring), codec_with(&ring[..1])];
    let (by_old, by_new) = (sealed(&mut before, Place::Datagram), sealed(&mut during, Place::Datagram));
    assert!(open(&during, &by_old, Place::Datagram).is_ok() && open(&during, &by_new, Place::Datagram).is_ok());
    assert!(open(&after, &by_new, Place::Datagram).is_ok());
    assert_eq!(open(&after, &by_old, Place::Datagram), Err(Refused::UnknownKey));
    assert_eq!(open(&before, &by_new, Place::Datagram), Err(Refused::UnknownKey));

    let keys: Vec<Key> = (0..300u16).map(|n| Key::new(std::array::from_fn(|at| (n >> (at % 2 * 8)) as u8))).collect();
    let name = |key: &Key| RingKey::new(key).name;
    let twin = |key: &&Key| name(key) == name(&keys[0]) && **key != keys[0];
    let twin = keys.iter().find(twin).expect("256 names are not enough for 300 keys");
    let packet = sealed(&mut codec_with(std::slice::from_ref(twin)), Place::Datagram);
    assert_eq!(open(&codec_with(&keys[..1]), &packet, Place::Datagram), Err(Refused::Forged));
    assert!(open(&codec_with(&[keys[0].clone(), twin.clone()]), &packet, Place::Datagram).is_ok());
}

/// Goal: each kind of stranger is told apart. Method: plaintext for a keyed node and the reverse, another cluster, another
/// version, noise; and who has the key can tell the name of the other cluster.
#[test]
fn strangers_are_told_apart() {
    let (mut plain, mut codec) = (Codec::plaintext("reef"), codec_with(&[key(1)]));
    let (in_plaintext, packet) = (sealed(&mut plain, Place::Datagram), sealed(&mut codec, Place::Datagram));
    assert_eq!(open(&codec, &in_plaintext, Place::Datagram), Err(Refused::Plaintext));
    assert_eq!(open(&plain, &packet, Place::Datagram), Err(Refused::Sealed));
    let other = Codec::keyed("shoal", &[key(1)], Life { instance: ME, salt: [0; 8] });
    assert_eq!(open(&other, &packet, Place::Datagram), Err(Refused::OtherCluster));
    assert!(other.open_foreign(&packet, Place::Datagram, &mut Vec::new()).is_ok());
    let mut later = packet.clone();
    later[1] = WIRE_VERSION + 1;
    assert_eq!(open(&codec, &later, Place::Datagram), Err(Refused::WireVersion(WIRE_VERSION + 1)));
    assert_eq!(open(&codec, b"GET / HTTP/1.1", Place::Datagram), Err(Refused::Malformed));
}

/// Goal: whoever has a key can't speak for another life by accident: sender and nonce name one instance.
#[test]
fn the_sender_is_the_one_who_sealed() {
    let mut codec = Codec::keyed("reef", &[key(1)], Life { instance: InstanceId::new(5), salt: [0; 8] });
    let packet = sealed(&mut codec, Place::Datagram);
    assert_eq!(open(&codec, &packet, Place::Datagram), Err(Refused::Malformed));
}
