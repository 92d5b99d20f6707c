//! How much memory bytes from the network can make a decoder ask for. A test of its own, because the allocator that counts
//! is that of the whole process.

use haulout::proto::packet::{Codec, Place, seal_plaintext};
use haulout::proto::wire::Message;
use haulout::proto::{Identity, InstanceId};
use peak_alloc::PeakAlloc;

#[path = "virtual_time/golden/samples.rs"]
mod samples;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What one byte may cost: a record is a hundred bytes or two and takes a few on the wire, and a list that grows holds
/// half as much again for a moment. (Measured: 69.)
const BYTES_PER_BYTE_MAX: usize = 96;
/// What may be spent whatever the length.
const BYTES_MAX: usize = 1_024;

/// The most that was held at once meanwhile, beyond what was held before.
fn peak_of(work: impl FnOnce()) -> usize {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    work();
    ALLOCATOR.peak_usage() - before
}

/// Reads messages, one after the other, as a node does.
fn read(mut bytes: &[u8]) {
    while let Ok((_, rest)) = postcard::take_from_bytes::<Message>(bytes) {
        bytes = rest;
    }
}

fn packet() -> Vec<u8> {
    let from = Identity { addr: ([10, 0, 0, 1], 7946).into(), bump: 0, instance: InstanceId::new(1) };
    let mut packet = Vec::new();
    Codec::plaintext("haulout").begin(&mut packet, &[7; 100]);
    packet = postcard::to_extend(&from, packet).expect("an identity can be written");
    seal_plaintext(&mut packet, 0);
    packet
}

/// Goal: whoever sends a few bytes can't make a node ask for much memory, and the head of a packet costs none.
/// Method: every sample, and every sample with a length of up to four thousand millions written over each of its places,
/// as it is and with 6 kB behind it that a list could be made of; the allocator says what was held. Then a packet.
#[test]
fn no_bytes_make_a_decoder_allocate_more_than_a_small_multiple_of_them() {
    let lengths: [&[u8]; 4] = [&[0x7f], &[0xff, 0x7f], &[0xff, 0xff, 0x7f], &[0xff, 0xff, 0xff, 0xff, 0x0f]];
    let mut greatest = 0;
    for (name, message) in samples::samples() {
        let bytes = postcard::to_stdvec(&message).expect("a message can be written");
        for place in 0..bytes.len() {
            for length in lengths {
                for (filler, count) in [(0, 0), (1, 6_000)] {
                    let mut forged = [&bytes[..place], length, &bytes[place + 1..]].concat();
                    forged.extend(std::iter::repeat_n(filler, count));
                    let peak = peak_of(|| read(&forged));
                    greatest = greatest.max(peak);
                    let max = BYTES_MAX + forged.len() * BYTES_PER_BYTE_MAX;
                    assert!(peak <= max, "{name}: {} bytes cost {peak}", forged.len());
                }
            }
        }
    }
    assert!(greatest > 6_000, "what is read is counted: {greatest}");
    let (codec, packet) = (Codec::plaintext("haulout"), packet());
    assert_eq!(peak_of(|| assert!(codec.open(&packet, Place::Datagram, &mut Vec::new()).is_ok())), 0);
}
