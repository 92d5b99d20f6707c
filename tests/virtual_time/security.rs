//! Clusters with a keyring: they work as others do, and what an outsider sends or repeats changes nothing.

use std::net::SocketAddr;

use haulout::proto::packet::{Codec, DATAGRAM_BYTES_MAX, Life, Place};
use haulout::proto::wire::Message;
use haulout::proto::{Command, Identity, InstanceId, Reply};
use haulout::{Config, Event, Key, RefusalReason, Security, SetKeyringError};
use haulout_sim::{Cluster, Datagram, NodeIdx, Options};

use crate::hostile::recorded_frames;
use crate::lone::Lone;
use crate::support::*;

fn keyed(seed: u64) -> Options {
    let security = Security::Keyring { keys: ring(&[7]), file: None, env: None };
    Options { config: Config { security, ..Config::default() }, ..Options::seeded(seed) }
}

/// A datagram that somebody recorded long ago.
fn recorded(cluster: &Cluster, from: NodeIdx) -> Vec<Datagram> {
    cluster.captured().iter().filter(|sent| sent.from == from).cloned().collect()
}

/// Goal: a keyed cluster does what any other one does, and refuses nothing that its own members send.
/// Method: children are started, a node crashes and comes back, another one is cut off until it is down and heals, one
/// joins and leaves.
#[test]
fn a_keyed_cluster_lives_through_crash_partition_join_and_leave() {
    for seed in 0..3 {
        let mut cluster = cluster_with(keyed(seed), 4);
        let wanted = start_many(&mut cluster, 30);
        cluster.crash(B);
        cluster.run_for(secs(5));
        cluster.restart(B);
        converge_to(&mut cluster, REST, &wanted);
        cluster.split(&[C]);
        cluster.run_for(secs(20));
        cluster.heal();
        converge_to(&mut cluster, REST, &wanted);
        let newcomer = cluster.add_node("newcomer");
        converge_to(&mut cluster, REST, &wanted);
        let leave = cluster.leave(newcomer);
        cluster.wait(leave);
        converge_to(&mut cluster, REST, &wanted);
        let stats = cluster.total_stats();
        let refused = (stats.refused_forged, stats.refused_key, stats.refused_replay, stats.refused_malformed);
        assert_eq!(refused, (0, 0, 0, 0), "seed {seed}");
    }
}

/// Goal: what was sent once counts once. Method: every datagram of a lively minute is sent twice more; the first time a few
/// may be news, which came before their sender had proved that it lives.
#[test]
fn repeated_datagrams_are_refused_one_by_one() {
    let mut cluster = cluster_with(Options { capture: true, ..keyed(4) }, 3);
    let wanted = start_many(&mut cluster, 30);
    cluster.run_for(secs(20));
    let sent = cluster.captured().to_vec();
    assert!(sent.len() > 200);
    let mut repeat = || {
        let before = cluster.total_stats().refused_replay;
        sent.iter().for_each(|datagram| cluster.inject(datagram.from, datagram.to, &datagram.bytes));
        cluster.total_stats().refused_replay - before
    };
    let (first, second) = (repeat(), repeat());
    assert!(first + 10 > sent.len() as u64, "{first} of {}", sent.len());
    assert_eq!(second, sent.len() as u64);
    converge_to(&mut cluster, REST, &wanted);
}

/// Goal: a former life makes nobody a member, although nobody is left who knew its end.
/// Method: everything that one node of a cluster ever sent is recorded; all nodes are restarted, that one for good, and
/// hear the recording from its own address.
#[test]
fn packets_of_a_former_life_make_no_member_when_nobody_knows_its_end() {
    let mut cluster = cluster_with(Options { capture: true, ..keyed(5) }, 3);
    start_many(&mut cluster, 10);
    let old = recorded(&cluster, C);
    assert!(old.len() > 20);
    for node in [A, B, C] {
        cluster.crash(node);
    }
    cluster.run_for(secs(1));
    for node in [A, B] {
        cluster.restart(node);
    }
    cluster.converge(REST);
    let ups = cluster.stats(A).members_up;
    for datagram in old.iter().chain(&old) {
        cluster.inject(C, A, &datagram.bytes);
        cluster.run_for(millis(10));
    }
    let stats = cluster.stats(A);
    assert_eq!(stats.members_up, ups);
    assert_eq!(stats.refused_unproven, 2 * old.len() as u64);
    assert!(stats.challenges_sent > 0);
}

/// A keyring of so many keys, the first of them with this number.
fn ring(keys: &[u8]) -> Vec<Key> {
    keys.iter().map(|&n| Key::new([n; 32])).collect()
}

/// Why a node was not let in, each time that it was told.
fn refusals(cluster: &Cluster, node: NodeIdx) -> Vec<String> {
    let told = |event: &Event| match event {
        Event::JoinRefused { reason, .. } => Some(reason.to_string()),
        _ => None,
    };
    cluster.events(node).iter().filter_map(|(.., event)| told(event)).collect()
}

/// Goal: who does not belong to a keyed cluster is told why, in words that say what to change, once by each seed; the others
/// count it and go on. Method: a node in plaintext, one with another key, and one with the key and another cluster's name
/// dial the seeds for a minute.
#[test]
fn whoever_does_not_belong_is_told_why_and_disturbs_nobody() {
    let plaintext = Security::Plaintext { allow_beyond_loopback: true };
    let other_key = Security::Keyring { keys: ring(&[9]), file: None, env: None };
    let cases = [
        ("reef", plaintext, "it has a keyring and this node has none", "refused_plaintext"),
        ("reef", other_key, "does not have the first key of this node", "refused_key"),
        ("staging", keyed(6).config.security, "it belongs to cluster \"reef\"", "refused_other_cluster"),
    ];
    let mut options = keyed(6);
    options.config.cluster = "reef".into();
    let mut cluster = cluster_with(options, 3);
    let wanted = start_many(&mut cluster, 20);
    for (name, security, expected, counter) in cases {
        let mut options = cluster.node_options();
        (options.config.cluster, options.config.security) = (name.into(), security);
        let stranger = cluster.add_node_with(counter, options);
        assert_rests(&mut cluster, secs(60));
        let told = refusals(&cluster, stranger);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().all(|reason| reason.contains(expected)), "{told:?}");
        let counted = cluster.stats(A).counters().find(|(name, _)| *name == counter).expect("there is such a counter");
        assert!(counted.1 > 0, "{counter}");
        cluster.crash(stranger);
        cluster.run_for(secs(1));
    }
    assert!([A, B, C].iter().all(|&node| cluster.members(node).len() == 3));
    converge_to(&mut cluster, REST, &wanted);
}

/// Goal: a cluster is taken to another key without a gap, and the old key then opens nothing. Method: each of three rings is
/// given to one node after the other, seconds apart, while children are started and terminated; nothing of members is
/// refused. Then a node comes that has only the old key.
#[test]
fn a_node_with_the_old_key_is_refused_and_told_why() {
    let mut cluster = cluster_with(keyed(7), 3);
    let mut wanted = start_many(&mut cluster, 12);
    for (round, keys) in [ring(&[7, 8]), ring(&[8, 7]), ring(&[8])].into_iter().enumerate() {
        cluster.set_keyring_of_newcomers(&keys);
        for node in [A, B, C] {
            let set = cluster.set_keyring(node, &keys);
            assert!(matches!(cluster.wait(set), Reply::KeyringSet(Ok(()))));
            let child = format!("of-{round}-{node}");
            start(&mut cluster, node, spec(&child));
            wanted.push(child);
            terminate(&mut cluster, node, &wanted.remove(0));
            cluster.run_for(secs(3));
        }
        converge_to(&mut cluster, REST, &wanted);
    }
    assert_no_overlap(&cluster);
    let stats = cluster.total_stats();
    assert_eq!((stats.refused_key, stats.refused_forged, stats.members_down), (0, 0, 0));

    let mut options = cluster.node_options();
    options.config.security = keyed(7).config.security;
    let late = cluster.add_node_with("late", options);
    cluster.run_for(secs(10));
    assert!(refusals(&cluster, late).iter().all(|reason| reason.contains("does not have the first key")));
    assert!(!refusals(&cluster, late).is_empty() && cluster.total_stats().refused_key > 0);
    let set = cluster.set_keyring(late, &ring(&[8]));
    cluster.wait(set);
    converge_to(&mut cluster, REST, &wanted);
    assert_eq!(cluster.members(late).len(), 4, "with the new key it belongs");
}

/// Goal: a ring that can't be used leaves the one before it in place.
#[test]
fn a_keyring_without_keys_or_with_too_many_is_refused() {
    let mut cluster = cluster_with(keyed(8), 2);
    for count in [0, 17] {
        let request = cluster.send(A, Command::SetKeyring { keys: vec![Key::new([1; 32]); count] });
        let refused = cluster.wait(request);
        assert!(matches!(&refused, Reply::KeyringSet(Err(SetKeyringError::KeyCount { count: n })) if *n == count));
    }
    assert_rests(&mut cluster, secs(20));
    assert_eq!(cluster.total_stats().refused_key, 0);
    let mut plain = cluster_with(Options::seeded(8), 1);
    let request = plain.send(A, Command::SetKeyring { keys: ring(&[1]) });
    assert!(matches!(plain.wait(request), Reply::KeyringSet(Err(SetKeyringError::Plaintext))));
}

/// Goal: what was recorded of streams opens none: nobody becomes a member by it, no stream stands, none stays open.
/// Method: every frame of a lively minute, each first one alone and with all that may follow it, to a node with the key.
#[test]
fn a_recorded_hello_takes_no_place() {
    let frames = recorded_frames(keyed(9));
    let mut lone = Lone::secured_by(keyed(9).config.security);
    for frame in &frames {
        lone.held_with(&[frame]);
        lone.dialled_with(&[frame, frame]);
    }
    for pair in frames.windows(2) {
        lone.dialled_with(&[&pair[0], &pair[1]]);
    }
    assert!(lone.node.active().is_empty() && lone.standing_streams() == 0);
    assert!(lone.node.stats().refused_forged as usize > frames.len());
    assert_eq!(lone.node.stats().watches_opened, 0);
    lone.run_for(11);
    let open = lone.node.sizes().into_iter().find(|size| size.name == "accepted streams").expect("it is counted");
    assert_eq!(open.len, 0, "they are given up");
    lone.assert_works();
}

/// Somebody who seals datagrams, with the key of a cluster or without.
struct Speaker {
    me: Identity,
    codec: Codec,
}

impl Speaker {
    fn new(instance: u64, host: u8, key: &Key) -> Self {
        let addr = SocketAddr::from(([10, 0, 0, host], 7946));
        let me = Identity { addr, bump: 0, instance: InstanceId::new(instance) };
        let life = Life { instance: me.instance, salt: [3; 8] };
        Speaker { me, codec: Codec::keyed("haulout", std::slice::from_ref(key), life) }
    }

    fn says(&mut self, message: &Message) -> Vec<u8> {
        let mut packet = Vec::new();
        self.codec.begin(&mut packet, &[]);
        packet = postcard::to_extend(&self.me, packet).expect("an identity can be written");
        packet = postcard::to_extend(message, packet).expect("a message can be written");
        self.codec.seal(&mut packet, 0, Place::Datagram);
        packet
    }

    /// Sends a datagram; the number that this one is asked to send back, if it is.
    fn tells(&mut self, lone: &mut Lone, message: &Message) -> Option<u64> {
        let packet = self.says(message);
        lone.node.handle_datagram(lone.now, self.me.addr, &packet);
        let mut asked = None;
        while let Some(transmit) = lone.node.poll_transmit(lone.now).filter(|transmit| transmit.to == self.me.addr) {
            let mut opened = Vec::new();
            let packet =
                self.codec.open(transmit.bytes, Place::Datagram, &mut opened).expect("it is sealed for this one");
            if let Ok((Message::Challenge(number), _)) = postcard::take_from_bytes(packet.messages) {
                asked = Some(number);
            }
        }
        asked
    }
}

/// Goal: whoever makes datagrams up costs a node the deciphering of a bounded number, and silences no member by sending from
/// its address. Method: one that has proved that it lives; then thousands of datagrams from its address, within a second,
/// that name the cluster's key and lives that nobody knows. All but a few are refused undeciphered, and so is what a
/// newcomer at that address says; the known one is heard as before, and a second later so is the newcomer.
#[test]
fn unknown_lives_are_deciphered_at_a_bounded_rate_and_known_ones_always() {
    const FORGED: u64 = 5_000;
    let (key, other) = (Key::new([7; 32]), Key::new([8; 32]));
    let mut lone = Lone::secured_by(keyed(10).config.security);
    let mut known = Speaker::new(5, 1, &key);
    let asked = known.tells(&mut lone, &Message::Probe(1)).expect("its life is not known yet");
    known.tells(&mut lone, &Message::Proof(asked));
    assert!(lone.node.active().contains(&known.me));

    let key_name = known.says(&Message::Probe(2))[2];
    for number in 0..FORGED {
        let mut forged = Speaker::new(1_000 + number, 1, &other).says(&Message::Probe(3));
        forged[2] = key_name;
        lone.node.handle_datagram(lone.now, known.me.addr, &forged);
    }
    let refused = |lone: &Lone| (lone.node.stats().refused_forged, lone.node.stats().refused_rate);
    let (forged, rate) = refused(&lone);
    assert_eq!(forged + rate, FORGED);
    assert!((100..=1_000).contains(&forged), "{forged}");
    let mut newcomer = Speaker::new(6, 1, &key);
    assert_eq!(newcomer.tells(&mut lone, &Message::Probe(4)), None);
    assert_eq!(refused(&lone), (forged, rate + 1));

    let heard = lone.node.stats().liveness_messages_received;
    known.tells(&mut lone, &Message::Probe(5));
    assert_eq!(lone.node.stats().liveness_messages_received, heard + 1, "a known life is always heard");
    lone.drain();
    assert!(lone.refusals().contains(&(RefusalReason::Rate, 1)), "{:?}", lone.refusals());
    lone.run_for(1);
    assert!(newcomer.tells(&mut lone, &Message::Probe(6)).is_some());
}

/// Goal and method: a datagram that is longer than any member sends is refused for that alone, whatever it holds.
#[test]
fn a_datagram_longer_than_any_honest_one_is_refused_unread() {
    let mut lone = Lone::secured_by(keyed(11).config.security);
    let mut speaker = Speaker::new(5, 1, &Key::new([7; 32]));
    let identity = speaker.me;
    let mut relay = |bytes: usize| speaker.says(&Message::Relay(identity, vec![0; bytes]));
    let room = DATAGRAM_BYTES_MAX - (relay(1_000).len() - 1_000);
    for (bytes, refused) in [(room, 0), (room + 1, 1)] {
        lone.node.handle_datagram(lone.now, identity.addr, &relay(bytes));
        assert_eq!(lone.node.stats().refused_malformed, refused, "{bytes}");
    }
}

/// Goal: where the network keeps hosts from sending in each other's names, nobody speaks from elsewhere; whoever speaks from
/// where it is, is heard. Method: a cluster that looks at sources forms and works. Then one node starts anew and hears from
/// another member's address what a third one had said.
#[test]
fn with_check_source_datagrams_count_only_from_their_senders_address() {
    let mut options = Options { capture: true, ..keyed(12) };
    options.config.check_source = true;
    let mut cluster = cluster_with(options, 3);
    let wanted = start_many(&mut cluster, 10);
    assert_eq!(cluster.total_stats().refused_source, 0);
    let sent: Vec<_> = recorded(&cluster, C).into_iter().take(100).collect();
    cluster.crash(A);
    cluster.restart(A);
    let before = cluster.stats(A);
    sent.iter().for_each(|datagram| cluster.inject(B, A, &datagram.bytes));
    let after = cluster.stats(A);
    assert_eq!(after.refused_source - before.refused_source, sent.len() as u64);
    assert_eq!(after.refused_replay, before.refused_replay, "nothing of them is noted");
    converge_to(&mut cluster, REST, &wanted);
}
