//! What is believed of sealed packets: that somebody with a key has made one says neither when nor that it is the first.

use haulout::proto::{Rule, Sabotage};
use haulout::{Config, Key, Security};
use haulout_sim::{Cluster, Datagram, Options};

use crate::support::*;

/// Three nodes with a keyring, at rest, and whatever they said.
fn keyed(sabotage: Sabotage) -> Cluster {
    let security = Security::Keyring { keys: vec![Key::new([7; 32])], file: None, env: None };
    let config = Config { security, ..Config::default() };
    let mut cluster = cluster_with(Options { sabotage, config, capture: true, ..Options::default() }, &["a", "b", "c"]);
    cluster.run_for(secs(10));
    cluster
}

/// What one node sent to another one.
fn sent(cluster: &Cluster) -> Vec<Datagram> {
    cluster.captured().iter().filter(|sent| (sent.from, sent.to) == (C, A)).cloned().collect()
}

/// Goal: a datagram that was recorded is not answered a second time. Method: all that one node sent to another one is sent
/// again at once, twice; the other one has no more to say than without.
#[test]
fn a_repeated_datagram_is_not_answered() {
    needs(Rule::ReplayWindow, |sabotage| {
        let mut cluster = keyed(sabotage);
        let recorded = sent(&cluster);
        let before = cluster.captured().len();
        recorded.iter().chain(&recorded).for_each(|datagram| cluster.inject(C, A, &datagram.bytes));
        match cluster.captured().len() - before {
            0..5 => Ok(()),
            answers => Err(format!("{answers} answers to {} datagrams", 2 * recorded.len())),
        }
    });
}

/// Goal: a node that is gone is not taken for a member because of what it once said. Method: all nodes are killed, two come
/// back, and hear the third one's recorded packets.
#[test]
fn a_former_life_is_no_member() {
    needs(Rule::LivesProveThemselves, |sabotage| {
        let mut cluster = keyed(sabotage);
        let recorded = sent(&cluster);
        [A, B, C].into_iter().for_each(|node| cluster.crash(node));
        [A, B].into_iter().for_each(|node| cluster.restart(node));
        cluster.converge(REST);
        let ups = cluster.stats(A).members_up;
        recorded.iter().for_each(|datagram| cluster.inject(C, A, &datagram.bytes));
        cluster.run_for(SOON);
        match cluster.stats(A).members_up - ups {
            0 => Ok(()),
            ghosts => Err(format!("{ghosts} members that are long gone")),
        }
    });
}
