//! What the doctor finds, on loopback and over real sockets: each way in which two nodes can fail to reach each other,
//! made here and named there.

mod network;
#[path = "../sockets/ports.rs"]
mod ports;
mod program;

use std::net::SocketAddr;
use std::time::Duration;

use haulout::doctor::{self, Check, Finding, Outcome};
use haulout::{Config, Key, Node, Profile, Security, Stats};
use tokio::sync::mpsc;
use tokio::time::timeout;

use network::{Tunnel, hinting_port};
use ports::free_addr;

/// How long anything may take before a test gives up on it: far more than the doctor's own patience.
const DEADLINE: Duration = Duration::from_secs(60);

fn keyring(keys: &[u8]) -> Security {
    let keys = keys.iter().map(|&byte| Key::new([byte; 32])).collect();
    Security::Keyring { keys, file: None, env: None }
}

fn config(name: &str, seeds: &[SocketAddr]) -> Config {
    let seeds = seeds.iter().map(SocketAddr::to_string).collect();
    let settle_timeout = Some(Duration::from_millis(200));
    Config { name: Some(name.into()), seeds, profile: Profile::Local, settle_timeout, ..Config::default() }
}

async fn start(config: Config) -> Node {
    Node::builder(config).start().await.expect("it starts")
}

/// What a check of this configuration finds; the number that failed is what it returns.
async fn examined(config: Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let check = doctor::check(config, |finding| findings.push(finding.clone()));
    let failed = timeout(DEADLINE, check).await.expect("it ends").expect("it can be used");
    assert_eq!(failed, findings.iter().filter(|finding| finding.outcome == Outcome::Failed).count());
    findings
}

/// What was found of one check on one way.
#[track_caller]
fn found<'a>(findings: &'a [Finding], way: &str, check: Check) -> &'a Finding {
    let found = findings.iter().find(|finding| finding.way == way && finding.check == check);
    found.unwrap_or_else(|| panic!("no {check} {way} in {findings:#?}"))
}

#[track_caller]
fn expect(findings: &[Finding], way: &str, check: Check, outcome: Outcome, says: &str) {
    let found = found(findings, way, check);
    assert!(found.outcome == outcome && found.detail.contains(says), "{found}");
}

#[track_caller]
fn expect_all_well(findings: &[Finding], way: &str) {
    for check in [Check::Tcp, Check::Handshake, Check::Udp, Check::Size, Check::Clock] {
        expect(findings, way, check, Outcome::Passed, "");
    }
}

/// Waits until the figures of a node are as they shall be.
async fn until(node: &Node, holds: impl Fn(&Stats) -> bool) -> Stats {
    let look = async {
        loop {
            let stats = node.stats().await.expect("it runs");
            if holds(&stats) {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, look).await.expect("it comes to that")
}

/// Goal: where all is well nothing fails, members that no seed names are looked at too, and the doctor is nothing to the
/// nodes that it looked at. Method: two nodes, in plaintext and with a keyring; a third one's configuration names one.
#[tokio::test]
async fn where_all_is_well_every_node_is_found_and_none_takes_the_doctor_for_a_member() {
    for security in [Security::default(), keyring(&[1])] {
        let first = start(Config { security: security.clone(), ..config("first", &[]) }).await;
        let second = start(Config { security: security.clone(), ..config("second", &[first.addr()]) }).await;
        until(&first, |stats| stats.members_alive == 1).await;
        let findings = examined(Config { security, ..config("third", &[first.addr()]) }).await;
        for node in [&first, &second] {
            let way = format!("to {}", node.addr());
            expect_all_well(&findings, &way);
            expect(&findings, &way, Check::Handshake, Outcome::Passed, "2 live members");
            expect(&findings, &format!("from {}", node.addr()), Check::Return, Outcome::Skipped, "examines nobody");
            let stats = node.stats().await.expect("it runs");
            assert!(stats.members_alive == 1 && stats.examinations >= 3, "{stats:?}");
        }
        expect(&findings, "here", Check::Address, Outcome::Passed, "free");
    }
}

/// Goal: the doctor can look from where a node runs. Method: the configuration of a node that runs, beside another one.
#[tokio::test]
async fn beside_the_node_that_runs_the_ways_from_there_are_examined() {
    let other = start(config("other", &[])).await;
    let mut mine = config("mine", &[other.addr()]);
    mine.bind = free_addr();
    let node = start(mine.clone()).await;
    let findings = examined(mine).await;
    expect(&findings, "here", Check::Address, Outcome::Skipped, "in use");
    expect_all_well(&findings, &format!("to {}", other.addr()));
    expect(&findings, &format!("from {}", other.addr()), Check::Return, Outcome::Skipped, "while it runs");
    drop(node);
}

/// Goal: a node that does not run and a name that does not resolve are named. Method: a port at which nobody listens.
#[tokio::test]
async fn a_port_that_refuses_and_a_seed_without_address_are_named() {
    let closed = free_addr();
    let mut config = config("here", &[closed]);
    // Longer than a part of a name may be, so that no name service is asked.
    config.seeds.push(format!("{}.invalid:7946", "a".repeat(64)));
    let findings = examined(config).await;
    expect(&findings, "here", Check::Seed, Outcome::Failed, "does not resolve");
    let way = format!("to {closed}");
    expect(&findings, &way, Check::Tcp, Outcome::Failed, "start the node");
    expect(&findings, &way, Check::Handshake, Outcome::Skipped, "");
    expect(&findings, &way, Check::Udp, Outcome::Failed, "for UDP");
}

/// Goal: a port that is open for TCP only is told apart from one at which nothing answers. Method: a node behind a
/// forwarder that passes streams and swallows datagrams.
#[tokio::test]
async fn a_port_that_takes_streams_and_no_datagrams_is_named() {
    let node = start(config("node", &[])).await;
    let tunnel = Tunnel::open(node.addr(), 0).await;
    let findings = examined(config("here", &[tunnel.addr])).await;
    let way = format!("to {}", tunnel.addr);
    expect(&findings, &way, Check::Handshake, Outcome::Passed, "node");
    expect(&findings, &way, Check::Udp, Outcome::Failed, "for UDP");
    expect_all_well(&findings, &format!("to {}", node.addr()));
}

/// Goal: a way that loses what is long is named, with how long it may be. Method: a forwarder that passes 1,200 bytes.
#[tokio::test]
async fn a_way_that_loses_large_datagrams_is_named_with_its_size() {
    let node = start(Config { security: keyring(&[1]), ..config("node", &[]) }).await;
    let tunnel = Tunnel::open(node.addr(), 1_200).await;
    let findings = examined(Config { security: keyring(&[1]), ..config("here", &[tunnel.addr]) }).await;
    let way = format!("to {}", tunnel.addr);
    expect(&findings, &way, Check::Udp, Outcome::Passed, "128 bytes");
    expect(&findings, &way, Check::Size, Outcome::Failed, "MTU");
    let detail = &found(&findings, &way, Check::Size).detail;
    let largest = detail.split_whitespace().filter_map(|word| word.parse::<usize>().ok()).next_back();
    assert!(largest.is_some_and(|largest| (1_184..=1_200).contains(&largest)), "{detail}");
}

/// Goal: whatever keeps a node out of the cluster is named with what to do. Method: nodes with another key, without one,
/// of another cluster and under the same name, and a port that speaks another version.
#[tokio::test]
async fn what_keeps_a_node_out_is_named() {
    let plain = start(config("plain", &[])).await;
    let sealed = start(Config { security: keyring(&[1]), ..config("sealed", &[]) }).await;
    let rotated = start(Config { security: keyring(&[2, 1]), ..config("rotated", &[]) }).await;
    let foreign = start(Config { cluster: "prod".into(), ..config("foreign", &[]) }).await;
    let newer = hinting_port([b'h', 0, 1, 9, 9]).await;
    let cases = [
        (sealed.addr(), keyring(&[3]), "does not have the first key"),
        (rotated.addr(), keyring(&[1]), "this node's keyring lacks"),
        (sealed.addr(), Security::default(), "this node has none"),
        (plain.addr(), keyring(&[1]), "it has no keyring"),
        (foreign.addr(), Security::default(), "cluster \"prod\""),
        (newer, Security::default(), "versions 9 to 9"),
    ];
    for (addr, security, says) in cases {
        let findings = examined(Config { security, ..config("here", &[addr]) }).await;
        let way = format!("to {addr}");
        expect(&findings, &way, Check::Tcp, Outcome::Passed, "");
        expect(&findings, &way, Check::Handshake, Outcome::Failed, says);
        expect(&findings, &way, Check::Udp, Outcome::Skipped, "mend that first");
    }
    let findings = examined(config("plain", &[plain.addr()])).await;
    expect(&findings, &format!("to {}", plain.addr()), Check::Handshake, Outcome::Failed, "the name \"plain\"");
}

/// Runs the doctor in place of a node until the test ends; where, and what it prints.
async fn served(config: Config) -> (SocketAddr, mpsc::UnboundedReceiver<Finding>) {
    let (told, mut findings) = mpsc::unbounded_channel();
    let bind = free_addr();
    let config = Config { bind, ..config };
    tokio::spawn(async move {
        doctor::serve(config, |finding| told.send(finding.clone()).unwrap_or_default()).await.expect("it can be used")
    });
    let first = timeout(DEADLINE, findings.recv()).await.expect("in time").expect("it serves");
    assert_eq!((first.check, first.outcome), (Check::Address, Outcome::Passed));
    (bind, findings)
}

/// Goal: between two doctors both ways are examined, at the addresses that are advertised, and both sides print it.
/// Method: one serves and one checks, in plaintext and with a keyring; then one whose advertised address leads nowhere.
#[tokio::test]
async fn two_doctors_examine_both_ways_between_them() {
    for security in [Security::default(), keyring(&[1])] {
        let (addr, mut printed) = served(Config { security: security.clone(), ..config("there", &[]) }).await;
        let mine = Config { security, ..config("here", &[addr]) };
        let findings = examined(mine.clone()).await;
        let (to, from) = (format!("to {addr}"), format!("from {addr}"));
        expect_all_well(&findings, &to);
        expect_all_well(&findings, &from);
        let there = timeout(DEADLINE, printed.recv()).await.expect("in time").expect("it prints");
        assert_eq!(there.detail, found(&findings, &from, Check::Tcp).detail);

        let nowhere = free_addr();
        let findings = examined(Config { advertise: Some(nowhere), ..mine }).await;
        expect_all_well(&findings, &to);
        expect(&findings, &from, Check::Tcp, Outcome::Failed, "its port refuses");
        expect(&findings, &from, Check::Udp, Outcome::Failed, "for UDP");
    }
}

/// Goal: nobody takes a serving doctor for a member. Method: a node whose only seed is one dials it again and again.
#[tokio::test]
async fn a_node_does_not_join_through_a_doctor() {
    let (addr, _findings) = served(config("there", &[])).await;
    let node = start(config("node", &[addr])).await;
    let stats = until(&node, |stats| stats.streams_opened >= 3).await;
    assert_eq!(stats.members_up, 0);
}
