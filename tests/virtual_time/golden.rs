//! Every message that travels, as bytes in a file: what is released once is read for ever, or refused by its version.

mod samples;
mod variants;

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use haulout::proto::Output;
use haulout::proto::group::{ClaimState, Owned};
use haulout::proto::packet::{Codec, Life as SenderLife, Place, seal_plaintext};
use haulout::proto::wire::{
    Exchange, Life, Message, Purpose, Refusal, ScopeMessage, Status, TableState, Verdict, WIRE_VERSION,
};
use haulout::{Event, Key, Restart, Security, Shutdown};
use haulout_sim::random::Random;
use samples::{Sample, identity, samples, scope};
use variants::variants;

use crate::determinism::{UPDATE, is_set};
use crate::hostile::refused;
use crate::lone::Lone;

fn golden(version: u8, file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}/{file}.txt"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let byte = |place| u8::from_str_radix(&hex[place..place + 2], 16).expect("two hexadecimal digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// The lines of a golden file, written anew if that is asked for.
#[track_caller]
fn compared(file: &str, lines: &str) -> Vec<(String, Vec<u8>)> {
    let path = golden(WIRE_VERSION, file);
    if is_set(UPDATE) {
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory can be made");
        std::fs::write(&path, lines).expect("a golden file can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = kept.lines().zip(lines.lines()).find(|(kept, written)| kept != written);
    assert!(
        kept == lines,
        "{}: what travels has changed (first: {differing:?}). Nodes of a release with wire version {WIRE_VERSION} would \
         misread it: raise WIRE_VERSION, unless there is no such release, and write the file with {UPDATE}=1",
        path.display()
    );
    let parted = kept.lines().map(|line| line.split_once(' ').expect("a name and bytes"));
    parted.map(|(name, hex)| (name.to_owned(), bytes_of(hex))).collect()
}

fn encoded(message: &Message) -> Vec<u8> {
    postcard::to_stdvec(message).expect("a message can be written")
}

fn packet_of(messages: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    Codec::plaintext("haulout").begin(&mut packet, &[]);
    packet = postcard::to_extend(&identity(2), packet).expect("an identity can be written");
    packet.extend_from_slice(messages);
    seal_plaintext(&mut packet, 0);
    packet
}

/// A message as a node takes it: behind the name of its scope, if it is about one.
fn heard(lone: &mut Lone, message: &[u8]) {
    let mut messages = encoded(&Message::Scope(scope()));
    messages.extend_from_slice(message);
    let from = SocketAddr::from(([10, 0, 0, 2], 7946));
    lone.node.handle_datagram(lone.now, from, &packet_of(&messages));
    lone.drain();
}

/// Goal: nothing travels without a sample.
/// Method: the code that reads each enum is asked for its variants; each must have a sample that says its name.
#[test]
fn every_variant_of_what_travels_has_a_golden_message() {
    let samples = samples();
    let enums = [
        ("Message", variants::<Message>()),
        ("ScopeMessage", variants::<ScopeMessage>()),
        ("Exchange", variants::<Exchange>()),
        ("Purpose", variants::<Purpose>()),
        ("Refusal", variants::<Refusal>()),
        ("TableState", variants::<TableState>()),
        ("Verdict", variants::<Verdict>()),
        ("Life", variants::<Life>()),
        ("Status", variants::<Status>()),
        ("Owned", variants::<Owned>()),
        ("ClaimState", variants::<ClaimState>()),
        ("Restart", variants::<Restart>()),
        ("Shutdown", variants::<Shutdown>()),
    ];
    for (of, variants) in enums {
        assert!(variants.len() > 1, "{of}");
        for variant in variants {
            let is_named = |(name, _): &&Sample| name.eq_ignore_ascii_case(&format!("{of}::{variant}"));
            let (name, message) =
                samples.iter().find(is_named).unwrap_or_else(|| panic!("{of}::{variant} has no sample"));
            let variant = name.rsplit("::").next().unwrap_or_default();
            assert!(format!("{message:?}").contains(variant), "{name} is something else: {message:?}");
        }
    }
}

/// Goal: what travels does not change unnoticed.
/// Method: each sample is written and compared with the file of this wire version, which is then read.
#[test]
fn messages_are_written_and_read_as_the_golden_files_have_them() {
    let samples = samples();
    let lines: String = samples.iter().map(|(name, message)| format!("{name} {}\n", hex(&encoded(message)))).collect();
    for ((name, bytes), (_, message)) in compared("messages", &lines).iter().zip(&samples) {
        assert_eq!(postcard::from_bytes::<Message>(bytes).as_ref(), Ok(message), "{name}");
    }
}

/// Goal: a message that was cut off is none.
/// Method: every sample at every length.
#[test]
fn messages_cut_off_at_any_length_are_errors() {
    let mut lone = Lone::new();
    for (name, message) in samples() {
        let bytes = encoded(&message);
        for len in 0..bytes.len() {
            assert!(postcard::from_bytes::<Message>(&bytes[..len]).is_err(), "{name} of {len} bytes");
            let before = refused(lone.node.stats());
            heard(&mut lone, &bytes[..len]);
            assert_eq!(refused(lone.node.stats()) - before, u64::from(len > 0), "{name} of {len} bytes");
        }
    }
    lone.assert_works();
}

/// Goal: whatever a member says, its hearer goes on, and runs and lists its own child.
/// Method: every sample with each bit flipped, from somebody who seals it as an honest member does; then any two bytes
/// exchanged for the ends of the scale.
#[test]
fn messages_with_any_bit_flipped_crash_nothing() {
    let mut random = Random::stream(1, "flips");
    for (_, message) in samples() {
        let mut lone = Lone::new();
        let bytes = encoded(&message);
        let mut changed = bytes.clone();
        for bit in 0..bytes.len() * 8 {
            changed[bit / 8] ^= 1 << (bit % 8);
            heard(&mut lone, &changed);
            changed.clone_from(&bytes);
        }
        for _ in 0..100 {
            for _ in 0..2 {
                changed[random.below(bytes.len())] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)];
            }
            heard(&mut lone, &changed);
            changed.clone_from(&bytes);
        }
        lone.run_for(1);
        lone.assert_works();
    }
}

/// The text of a key that is used for nothing else.
const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// A datagram that brings roots, put together by somebody with these keys.
fn datagram(keys: &[Key]) -> Vec<u8> {
    let life = SenderLife { instance: identity(2).instance, salt: [9; 8] };
    let (mut codec, mut packet) = (Codec::keyed("haulout", keys, life), Vec::new());
    codec.begin(&mut packet, &[]);
    packet = postcard::to_extend(&identity(2), packet).expect("an identity can be written");
    packet.extend(encoded(&Message::Roots([(scope(), 7)].into_iter().collect())));
    codec.seal(&mut packet, 0, Place::Datagram);
    packet
}

/// Goal: the layout of packets does not change unnoticed, and nothing that was changed on its way reaches a keyed node.
/// Method: a packet in plaintext and a sealed one are compared with their file. The sealed one is given to a node that has
/// the key, cut to every length and with every bit flipped, each from another host, so that none is refused for its rate: it
/// believes what it did before, answers nothing, and tells its user at most that it refused something. The whole one is opened: its sender is asked whether it lives.
#[test]
fn sealed_packets_with_any_bit_flipped_change_nothing() {
    let key: Key = KEY.parse().expect("a key");
    let sealed = datagram(std::slice::from_ref(&key));
    compared("packets", &format!("plaintext {}\nsealed {}\n", hex(&datagram(&[])), hex(&sealed)));
    let mut lone = Lone::secured_by(Security::Keyring { keys: vec![key], file: None, env: None });
    let view = |lone: &Lone| (lone.node.active(), lone.node.root(scope()), lone.node.sizes(), lone.node.poll_timeout());
    let before = view(&lone);
    let flipped = (0..sealed.len() * 8).map(|bit| {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    });
    let cut = (0..sealed.len()).map(|len| sealed[..len].to_vec());
    for (number, changed) in flipped.chain(cut).enumerate() {
        let from = SocketAddr::from(([10, 2, (number / 256) as u8, number as u8], 7946));
        lone.node.handle_datagram(lone.now, from, &changed);
        assert!(lone.node.poll_transmit(lone.now).is_none(), "{}", hex(&changed));
        while let Some(output) = lone.node.poll_output() {
            let is_notice = matches!(output, Output::Event { event: Event::InputRefused { .. }, .. });
            assert!(is_notice, "{output:?}");
        }
        assert_eq!(view(&lone), before, "{}", hex(&changed));
    }
    assert_eq!(lone.node.stats().refused_unproven, 0);
    lone.node.handle_datagram(lone.now, identity(2).addr, &sealed);
    assert!(lone.node.poll_transmit(lone.now).is_some());
    assert_eq!(lone.node.stats().refused_unproven, 1);
}
