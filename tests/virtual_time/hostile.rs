//! Bytes that no honest node sends: refused and counted, and nothing is lost.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use haulout::proto::packet::{CHECKSUM_BYTES, Codec, Place, seal_plaintext};
use haulout::proto::wire::{Hello, Message, Purpose, TableEntry, TableState};
use haulout::proto::{HALF_OPEN_MAX, Identity, InstanceId, Stats, StreamEvent, placement};
use haulout::{Config, Event, RefusalReason, Security};
use haulout_sim::random::Random;
use haulout_sim::{Cluster, Datagram, NodeIdx, Options, Treatment};

use crate::lone::Lone;
use crate::support::*;

fn bytes(random: &mut Random, max: usize) -> Vec<u8> {
    let len = random.between(0, max);
    (0..len).map(|_| random.bits() as u8).collect()
}

pub(crate) fn refused(stats: &Stats) -> u64 {
    let Stats { refused_malformed, refused_corrupt, refused_wire_version, refused_other_cluster, swim_errors, .. } =
        *stats;
    refused_malformed + refused_corrupt + refused_wire_version + refused_other_cluster + swim_errors
}

/// A changed packet under a checksum that fits it, as somebody who means it would send it.
fn resealed(changed: &[u8]) -> Vec<u8> {
    let mut packet = changed[..changed.len().saturating_sub(CHECKSUM_BYTES)].to_vec();
    seal_plaintext(&mut packet, 0);
    packet
}

/// A cluster with children that keeps every datagram of a lively minute.
fn recorded(seed: u64) -> (Cluster, Vec<String>, Vec<Datagram>) {
    let mut cluster = cluster_with(Options { capture: true, ..Options::seeded(seed) }, 3);
    let mut wanted = start_many(&mut cluster, 30);
    for child in wanted.drain(..10) {
        terminate(&mut cluster, B, &child);
    }
    let newcomer = cluster.add_node("d");
    converge_to(&mut cluster, REST, &wanted);
    let leave = cluster.leave(newcomer);
    cluster.wait(leave);
    converge_to(&mut cluster, REST, &wanted);
    cluster.run_for(secs(20));
    let captured = cluster.captured().to_vec();
    (cluster, wanted, captured)
}

/// Goal: noise on the port is refused, each packet counted, and disturbs nobody.
/// Method: 2,000 datagrams of random bytes, the longest larger than any honest one.
#[test]
fn random_datagrams_are_refused_and_counted() {
    let mut cluster = cluster(1, 3);
    let all = start_many(&mut cluster, 30);
    let mut random = Random::stream(1, "noise");
    let before = refused(&cluster.stats(A));
    for _ in 0..2_000 {
        let noise = bytes(&mut random, 2_000);
        cluster.inject(B, A, &noise);
    }
    assert_eq!(refused(&cluster.stats(A)) - before, 2_000);
    assert_rests(&mut cluster, secs(20));
    converge_to(&mut cluster, SOON, &all);
}

/// Goal: noise behind a valid head gets further, and loses nothing either.
/// Method: the head of the cluster, then random bytes; with a SWIM part of random length, and without one. Ghosts
/// that it may make are given up; every child goes on running.
#[test]
fn random_bytes_behind_a_valid_head_lose_nothing() {
    let mut cluster = cluster(2, 3);
    let all = start_many(&mut cluster, 30);
    let codec = Codec::plaintext(&cluster.options().config.cluster);
    let mut random = Random::stream(2, "noise");
    for number in 0..3_000 {
        let (swim, rest) = (bytes(&mut random, 60), bytes(&mut random, 200));
        let mut packet = Vec::new();
        codec.begin(&mut packet, if number % 2 == 0 { &swim } else { &[] });
        packet.extend_from_slice(&rest);
        seal_plaintext(&mut packet, 0);
        cluster.inject(B, A, &packet);
    }
    assert!(refused(&cluster.stats(A)) > 2_000);
    let runs = cluster.journal().runs().len();
    cluster.run_for(secs(30));
    converge_to(&mut cluster, REST, &all);
    assert_eq!(cluster.journal().runs().len(), runs, "nothing restarted");
}

/// Goal: a packet that was damaged on the way is refused, whatever the damage.
/// Method: every kind of datagram and frame of a lively minute, with each single bit flipped, with some bytes exchanged
/// for noise, and cut to every length; nodes count what they refuse.
#[test]
fn packets_with_any_flipped_bit_or_cut_to_any_length_are_refused() {
    let (mut cluster, wanted, captured) = recorded(13);
    let codec = Codec::plaintext(&cluster.options().config.cluster);
    let opens = |packet: &[u8]| codec.open(packet, Place::Datagram, &mut Vec::new()).is_ok();
    let mut packets: Vec<Vec<u8>> = captured.into_iter().map(|sent| sent.bytes).collect();
    packets.extend(recorded_frames(Options::seeded(13)));
    packets.sort_by_key(Vec::len);
    packets.dedup_by_key(|packet| packet.len());
    assert!(packets.len() > 20);
    let mut random = Random::stream(13, "damage");
    for packet in &packets {
        assert!(opens(packet));
        let mut damaged = packet.clone();
        for bit in (0..packet.len() * 8).step_by(1 + packet.len() / 2_000) {
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&damaged), "bit {bit} of {}", packet.len());
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
        for _ in 0..20 {
            let (at, noise) = (random.below(packet.len()), bytes(&mut random, 8));
            let end = (at + noise.len()).min(packet.len());
            damaged[at..end].copy_from_slice(&noise[..end - at]);
            assert!(damaged == *packet || !opens(&damaged));
            damaged.clone_from(packet);
        }
        for len in (0..packet.len()).step_by(1 + packet.len() / 2_000) {
            assert!(!opens(&packet[..len]), "{len} of {}", packet.len());
        }
    }
    let before = cluster.stats(A).refused_corrupt;
    for mut damaged in packets.iter().filter(|packet| packet.len() <= 1_400).cloned() {
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        cluster.inject(B, A, &damaged);
    }
    assert!(cluster.stats(A).refused_corrupt - before > 20);
    converge_to(&mut cluster, SOON, &wanted);
}

/// Goal: a packet that was cut off by somebody who means it is refused or read as far as it goes, at every length.
/// Method: datagrams of a lively minute, cut to every length under a checksum that fits, given to those to whom they
/// were sent.
#[test]
fn datagrams_cut_off_at_every_length_lose_nothing() {
    let (mut cluster, wanted, captured) = recorded(3);
    let mut by_len: Vec<&Datagram> = captured.iter().filter(|sent| sent.from.0 < 3 && sent.to.0 < 3).collect();
    by_len.sort_by_key(|sent| sent.bytes.len());
    by_len.dedup_by_key(|sent| sent.bytes.len());
    assert!(by_len.len() > 20);
    for sent in by_len {
        for len in 0..sent.bytes.len() {
            cluster.inject(sent.from, sent.to, &resealed(&sent.bytes[..len]));
        }
    }
    assert!(cluster.up().iter().any(|&node| refused(&cluster.stats(node)) > 100));
    assert_rests(&mut cluster, secs(30));
    converge_to(&mut cluster, REST, &wanted);
}

/// Goal: old packets change nothing: no resurrection, no stop, no member.
/// Method: every datagram of a lively minute is delivered again, in random order.
#[test]
fn a_replay_of_every_datagram_changes_nothing() {
    for seed in 4..7 {
        let (mut cluster, wanted, mut captured) = recorded(seed);
        let mut random = Random::stream(seed, "replay");
        for place in (1..captured.len()).rev() {
            captured.swap(place, random.below(place + 1));
        }
        for sent in captured.iter().filter(|sent| sent.to.0 < 3) {
            cluster.inject(sent.from, sent.to, &sent.bytes);
        }
        assert_rests(&mut cluster, secs(30));
        converge_to(&mut cluster, REST, &wanted);
    }
}

/// Goal: nodes of another wire version are refused and counted.
/// Method: honest datagrams with another version byte.
#[test]
fn packets_of_another_version_are_refused_and_counted() {
    let (mut cluster, wanted, captured) = recorded(7);
    let before = cluster.stats(A).refused_wire_version;
    let to_a: Vec<_> = captured.iter().filter(|sent| sent.to == A).collect();
    for sent in &to_a {
        let mut other = sent.bytes.clone();
        other[1] = other[1].wrapping_add(1);
        cluster.inject(sent.from, A, &other);
    }
    assert_eq!(cluster.stats(A).refused_wire_version - before, to_a.len() as u64);
    assert_rests(&mut cluster, secs(20));
    converge_to(&mut cluster, SOON, &wanted);
}

/// Goal: two clusters that share seeds by mistake stay apart, and the operator is told.
/// Method: a node of another cluster dials these seeds for a minute.
#[test]
fn a_node_of_another_cluster_is_refused_with_a_reason_and_disturbs_nobody() {
    let mut cluster = cluster(8, 3);
    let all = start_many(&mut cluster, 20);
    let mut options = cluster.node_options();
    options.config.cluster = "other".into();
    let stranger = cluster.add_node_with("stranger", options);
    assert_rests(&mut cluster, secs(60));
    for node in [A, B, C] {
        assert!(cluster.members(node).iter().all(|member| &*member.name != "stranger"));
    }
    assert_eq!(cluster.members(stranger).len(), 1);
    assert!(cluster.stats(A).refused_other_cluster > 0);
    let told = cluster.events(stranger).iter().find_map(|(.., event)| match event {
        Event::JoinRefused { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    let reason = told.expect("it is told");
    assert!(reason.contains("other") && reason.contains(&cluster.options().config.cluster), "{reason}");
    start(&mut cluster, stranger, spec("child-000"));
    cluster.crash(stranger);
    converge_to(&mut cluster, SOON, &all);
}

/// Every frame that nodes sent each other in a lively minute.
pub(crate) fn recorded_frames(options: Options) -> Vec<Vec<u8>> {
    let frames = Rc::new(RefCell::new(Vec::new()));
    let mut cluster = Cluster::new(options);
    let kept = Rc::clone(&frames);
    cluster.on_packet(move |packet| {
        if packet.is_stream {
            kept.borrow_mut().push(packet.bytes.to_vec());
        }
        Treatment::Pass
    });
    (0..3).for_each(|number| {
        cluster.add_node(&name(number));
    });
    cluster.run_for(secs(3));
    // Large arguments travel over streams.
    for (number, child) in ids(12).iter().enumerate() {
        let large = haulout::ChildSpec::raw(child.as_str(), "kind", vec![number as u8; 3_000]).expect("a spec");
        start(&mut cluster, NodeIdx(number % 3), large);
    }
    cluster.add_node("d");
    cluster.run_for(secs(10));
    cluster.split(&[A]);
    cluster.run_for(secs(20));
    cluster.heal();
    cluster.run_for(secs(20));
    drop(cluster);
    let frames = frames.borrow().clone();
    assert!(frames.len() > 50, "{}", frames.len());
    frames
}

/// Goal: noise on a stream is refused, and the stream closed.
/// Method: 500 streams whose first frame is random bytes, with and without a valid head, and one of a megabyte.
#[test]
fn streams_of_random_frames_are_closed_and_counted() {
    let mut lone = Lone::new();
    let codec = Codec::plaintext("haulout");
    for number in 0..500 {
        let noise = bytes(&mut lone.random, 600);
        let mut frame = Vec::new();
        if number % 2 == 0 {
            codec.begin(&mut frame, &[]);
        }
        frame.extend_from_slice(&noise);
        if number % 4 == 0 {
            seal_plaintext(&mut frame, 0);
        }
        lone.dialled_with(&[&frame]);
    }
    lone.dialled_with(&[&vec![0; 1 << 20]]);
    assert_eq!(lone.closed, 501);
    assert!(refused(lone.node.stats()) >= 501);
    lone.assert_works();
}

/// The first frame of a stream in plaintext.
fn hello_of(dialler: Identity, purpose: Purpose) -> Vec<u8> {
    let mut frame = Vec::new();
    Codec::plaintext("haulout").begin(&mut frame, &[]);
    let (cluster, placement) = ("haulout".into(), placement::fingerprint());
    let message = Message::Hello(Hello { cluster, placement, name: "anybody".into(), purpose, nonce: [0; 16] });
    frame = postcard::to_extend(&dialler, frame).expect("an identity can be written");
    frame = postcard::to_extend(&message, frame).expect("a Hello can be written");
    seal_plaintext(&mut frame, 0);
    frame
}

/// Goal: nobody can take up streams for ever by asking to be watched.
/// Method: one says that it is a member and dials 100 standing streams: one of them is kept. When it is declared down, none
/// is, and it gets no other.
#[test]
fn one_standing_stream_is_kept_of_each_member_and_none_of_others() {
    let watched = Identity { addr: SocketAddr::from(([10, 0, 0, 1], 7946)), bump: 0, instance: InstanceId::new(5) };
    let hello = hello_of(watched, Purpose::Watch);
    let mut lone = Lone::new();
    for _ in 0..100 {
        lone.held_with(&[&hello]);
    }
    assert_eq!((lone.node.active().len(), lone.standing_streams(), lone.closed), (1, 1, 99));
    lone.run_for(60);
    assert_eq!((lone.node.active().len(), lone.standing_streams()), (0, 0));
    let refused = lone.node.stats().watches_refused;
    lone.held_with(&[&hello]);
    assert_eq!((lone.standing_streams(), lone.node.stats().watches_refused), (0, refused + 1));
    lone.assert_works();
}

/// Goal: whoever opens streams and says nothing keeps nobody out.
/// Method: 100 hosts open ten streams each and say nothing; one that comes then says its Hello and is answered. Of the
/// silent ones there are never more than may be, and after a while none.
#[test]
fn silent_streams_keep_no_member_from_dialling_in() {
    let member = Identity { addr: SocketAddr::from(([10, 0, 0, 1], 7946)), bump: 0, instance: InstanceId::new(5) };
    let mut lone = Lone::new();
    for number in 0..1_000 {
        lone.accepted_from(2 + number as u8 % 100);
        assert!(lone.size("half-open streams") <= HALF_OPEN_MAX);
    }
    lone.drain();
    assert_eq!(lone.node.stats().half_open_evicted as usize, 1_000 - HALF_OPEN_MAX);
    assert_eq!(lone.refusals(), [(RefusalReason::HalfOpenStreams, 1)], "told once");
    let conn = lone.held_with(&[&hello_of(member, Purpose::Messages)]);
    assert!(lone.node.has_shaken_hands(conn));
    for _ in 0..1_000 {
        lone.accepted_from(200);
    }
    assert!(lone.node.has_shaken_hands(conn), "streams that are open make room for none");
    lone.run_for(11);
    assert_eq!(lone.size("half-open streams"), 0);
    lone.assert_works();
}

/// Goal: one member takes no more places than it may have use for. Method: it opens a hundred streams, says its Hello on each
/// and keeps them open; the newest of them stay.
#[test]
fn one_member_has_a_bounded_number_of_streams() {
    let member = Identity { addr: SocketAddr::from(([10, 0, 0, 1], 7946)), bump: 0, instance: InstanceId::new(5) };
    let mut lone = Lone::new();
    let hello = hello_of(member, Purpose::Messages);
    let streams: Vec<_> = (0..100).map(|_| lone.held_with(&[&hello])).collect();
    let (old, new) = streams.split_at(92);
    assert!(old.iter().all(|conn| !lone.node.has_shaken_hands(*conn)));
    assert!(new.iter().all(|conn| lone.node.has_shaken_hands(*conn)));
    assert_eq!(lone.node.stats().streams_crowded_out, 92);
    assert_eq!(lone.refusals(), [(RefusalReason::PeerStreams, 1)]);
    lone.assert_works();
}

/// Goal and method: with `check_source` a Hello counts from the host that its sender advertises, whatever the port, and from no
/// other one.
#[test]
fn with_check_source_streams_count_only_from_their_senders_host() {
    let mut lone = Lone::of(Config {
        check_source: true,
        security: Security::Plaintext { allow_beyond_loopback: true },
        ..Config::default()
    });
    for (host, is_believed) in [(2, false), (1, true)] {
        let member = Identity { addr: SocketAddr::from(([10, 0, 0, 1], 7946)), bump: 0, instance: InstanceId::new(5) };
        let conn = lone.accepted_from(host);
        let hello = hello_of(member, Purpose::Messages);
        lone.node.handle_stream(lone.now, conn, StreamEvent::Frame(&hello));
        assert_eq!(lone.node.has_shaken_hands(conn), is_believed);
    }
    assert_eq!(lone.node.stats().refused_source, 1);
    lone.assert_works();
}

/// Goal: nobody makes a node hand on more than a member ever has it hand on. Method: what is to be relayed to another member
/// is as long as a message about a child may be, and twice as long.
#[test]
fn what_is_relayed_has_a_bounded_length() {
    let identity = |host: u8| Identity {
        addr: SocketAddr::from(([10, 0, 0, host], 7946)),
        bump: 0,
        instance: InstanceId::new(host.into()),
    };
    let mut lone = Lone::new();
    let greet = |lone: &mut Lone, host| lone.held_with(&[&hello_of(identity(host), Purpose::Messages)]);
    let conn = greet(&mut lone, 1);
    let say = |lone: &mut Lone, message: &Message| {
        let mut frame = Vec::new();
        Codec::plaintext("haulout").begin(&mut frame, &[]);
        frame = postcard::to_extend(&identity(1), frame).expect("an identity can be written");
        frame = postcard::to_extend(message, frame).expect("a message can be written");
        seal_plaintext(&mut frame, 0);
        lone.node.handle_stream(lone.now, conn, StreamEvent::Frame(&frame));
        lone.drain();
    };
    let other = TableEntry { identity: identity(2), incarnation: 0, state: TableState::Alive };
    say(&mut lone, &Message::Table(vec![other]));
    for (bytes, refused) in [(70_000, 0), (140_000, 1)] {
        say(&mut lone, &Message::Relay(identity(2), vec![0; bytes]));
        assert_eq!(lone.node.stats().refused_limit, refused, "{bytes}");
    }
    lone.assert_works();
}

/// Goal: a flood fills neither the log nor the queue of who listens.
/// Method: 100 packets of noise a second for three minutes: told at once and then once a minute, nothing being left out of
/// the counts.
#[test]
fn refused_input_is_told_of_once_a_minute() {
    let mut lone = Lone::new();
    let from = SocketAddr::from(([10, 0, 0, 1], 7946));
    for _ in 0..3 * 60 {
        for _ in 0..100 {
            lone.node.handle_datagram(lone.now, from, b"noise that is no packet");
        }
        lone.drain();
        lone.run_for(1);
    }
    let told: Vec<u64> = lone.refusals().into_iter().map(|(_, count)| count).collect();
    assert_eq!(told, [1, 6_000, 6_000]);
    assert_eq!(lone.node.stats().refused_malformed, 18_000);
}

/// Goal: made-up members come in no faster than a node can look at them, and what comes with them from a member still counts.
/// Method: one member gossips of fifty others in each of a hundred packets, all within a moment. So many are taken as may
/// come at once; the member is not forgotten.
#[test]
fn a_flood_of_made_up_members_is_taken_in_at_a_bounded_rate() {
    let me = SocketAddr::from(([10, 9, 9, 9], 7946));
    let identity = |number: u64| {
        let [.., high, low] = number.to_be_bytes();
        Identity {
            addr: SocketAddr::from(([10, 1, high, low], 7946)),
            bump: 0,
            instance: InstanceId::new(1_000 + number),
        }
    };
    let mut lone = Lone::new();
    let dst = Identity { addr: me, bump: 0, instance: InstanceId::new(99) };
    for number in 0..100 {
        let header = foca::Header { src: identity(0), src_incarnation: number, dst, message: foca::Message::Gossip };
        let mut swim = postcard::to_stdvec(&header).expect("a header can be written");
        swim.extend(50_u16.to_be_bytes());
        for made_up in 1..=50 {
            let update = foca::Member::alive(identity(u64::from(number) * 50 + made_up));
            swim = postcard::to_extend(&update, swim).expect("an update can be written");
        }
        let mut packet = Vec::new();
        Codec::plaintext("haulout").begin(&mut packet, &swim);
        seal_plaintext(&mut packet, 0);
        lone.node.handle_datagram(lone.now, identity(0).addr, &packet);
        lone.drain();
    }
    let active = lone.node.active();
    assert!((950..=1_024).contains(&active.len()), "{}", active.len());
    assert!(active.contains(&identity(0)));
    assert!(lone.node.stats().refused_newcomers > 70);
}

/// Goal: frames that were cut off or changed on their way crash nothing.
/// Method: every kind of frame of a lively minute: cut to many lengths, with bits flipped, repeated and out of
/// order, behind an honest greeting and without one.
#[test]
fn frames_cut_off_changed_and_out_of_order_crash_nothing() {
    let frames = recorded_frames(Options::seeded(10));
    let hello = frames[0].clone();
    let mut lone = Lone::new();
    for (number, frame) in frames.iter().take(300).enumerate() {
        lone.dialled_with(&[&hello, frame, frame]);
        lone.dialled_with(&[frame, &hello]);
        let step = 1 + frame.len() / 40;
        for len in (0..frame.len()).step_by(step) {
            lone.dialled_with(&[&hello, &resealed(&frame[..len])]);
        }
        for _ in 0..10 {
            let mut changed = frame.clone();
            let bit = lone.random.below(changed.len() * 8);
            changed[bit / 8] ^= 1 << (bit % 8);
            lone.dialled_with(&[&hello, &resealed(&changed)]);
        }
        if number % 20 == 0 {
            lone.run_for(1);
        }
    }
    assert!(refused(lone.node.stats()) > 300);
    lone.assert_works();
}

/// Goal: changed datagrams crash nothing.
/// Method: every datagram of a lively minute with a few bits flipped, given to a node that is alone.
#[test]
fn datagrams_with_changed_bits_crash_nothing() {
    let (_, _, captured) = recorded(11);
    let mut lone = Lone::new();
    let from = SocketAddr::from(([10, 0, 0, 1], 7946));
    for (number, sent) in captured.iter().take(3_000).enumerate() {
        let mut changed = sent.bytes.clone();
        for _ in 0..1 + number % 3 {
            // Behind the head, which would only have it refused.
            let bit = 88 + lone.random.below((changed.len() - 11) * 8);
            changed[bit / 8] ^= 1 << (bit % 8);
        }
        lone.node.handle_datagram(lone.now, from, &resealed(&changed));
        lone.drain();
        if number % 50 == 0 {
            lone.run_for(1);
        }
    }
    lone.assert_works();
}
