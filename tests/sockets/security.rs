//! Keyrings over real sockets: where keys come from, who is kept out, and how a key is changed.

use std::fs;
use std::net::SocketAddr;

use haulout::{ChildState, Config, Event, Key, Node, Security, Stats};

use crate::processes::Processes;
use crate::support::cluster::{SCOPE, event, ids};
use crate::support::process::variable_key;
use crate::support::{Act, Cluster, Member, Worker, config, require, until};

fn key(n: u8) -> Key {
    Key::new([n; 32])
}

fn keyring(keys: &[u8]) -> Security {
    Security::Keyring { keys: keys.iter().map(|&n| key(n)).collect(), file: None, env: None }
}

/// A cluster of so many nodes with this security.
async fn secured(security: Security, count: usize) -> Cluster {
    let mut cluster = Cluster::empty();
    cluster.config.security = security;
    cluster.grow(count).await;
    cluster
}

/// A node that is told to join a cluster, and why it was not let in.
async fn refused(cluster: &mut Cluster, security: Security) -> (Member, String) {
    let config = Config { security, ..cluster.config_of(9) };
    let node = Node::builder(config).start().await.expect("it starts");
    let supervisor = node.scope(SCOPE).join().await.expect("it joins a scope of its own");
    let mut events = supervisor.events();
    let member = Member { node, supervisor };
    match event(&mut events, "it is refused", |event| matches!(event, Event::JoinRefused { .. })).await {
        Event::JoinRefused { seed, reason } => {
            assert!(cluster.config.seeds.contains(&seed.to_string()));
            (member, reason.to_string())
        }
        other => panic!("{other:?}"),
    }
}

/// Goal: keys are read from a file and from an environment variable, and nodes that have them from different places hear
/// each other. Method: two processes with one key from a file and one from a variable, and a node here that seals with the
/// second; a process is killed, and its children are taken over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_keys_from_a_file_a_variable_and_a_configuration_are_one_cluster() {
    let file = std::env::temp_dir().join(format!("haulout-test-keys-{}", std::process::id()));
    fs::write(&file, format!("# of this test\n{}\n", key(1).to_base64())).expect("a file can be written");
    let (variable, second) = variable_key();
    let security = Security::Keyring { keys: Vec::new(), file: Some(file.clone()), env: Some(variable.into()) };
    let mut processes = Processes::of(2, Config { security, ..config() }).await;
    fs::remove_file(&file).expect("it is there");

    let security = Security::Keyring { keys: vec![second, key(1)], file: None, env: None };
    let seeds = processes.addrs.iter().map(SocketAddr::to_string).collect();
    let config = Config { name: Some("here".into()), seeds, security, ..config() };
    let here = Member::start(config, |scope| scope.kind::<Worker>()).await;
    here.knows(&["here", "p0", "p1"]).await;
    let ids = ids(9);
    for id in &ids {
        here.start_running(processes.journal.spec(id, Act::Live)).await;
    }
    let killed = processes.take("p1");
    killed.kill(&processes.journal).await;
    here.knows(&["here", "p0"]).await;
    for id in &ids {
        here.lists(id, |state| *state == ChildState::Running).await;
    }
    let stats = here.node.stats().await.expect("it is there");
    assert_eq!((stats.refused_key, stats.refused_forged, stats.refused_plaintext), (0, 0, 0));
    here.node.leave().await.expect("it leaves");
}

/// Goal: a node in plaintext beside a keyed cluster, and one with another key, stay out, are told why, and are counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_lacks_the_key_stays_out_and_is_told_why() {
    let mut cluster = secured(keyring(&[1]), 2).await;
    for (security, expected) in [
        (Security::default(), "it has a keyring and this node has none"),
        (keyring(&[2]), "does not have the first key"),
    ] {
        let (stranger, reason) = refused(&mut cluster, security).await;
        assert!(reason.contains(expected), "{reason}");
        stranger.node.leave().await.expect("it leaves");
    }
    let counted = async |stats: fn(&Stats) -> u64| {
        let mut sum = 0;
        for member in &cluster.members {
            sum += stats(&member.node.stats().await.expect("it is there"));
        }
        sum
    };
    assert!(counted(|stats| stats.refused_plaintext).await > 0 && counted(|stats| stats.refused_key).await > 0);
    cluster.know_each_other().await;
    cluster.end().await;
}

/// Goal: the handle takes a cluster to another key while children run. Method: the three steps on every node; then a node
/// with the new key alone joins, and one with the old key does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_changed_through_the_handle_without_a_gap() {
    let mut cluster = secured(keyring(&[1]), 3).await;
    let ids = ids(6);
    cluster.run_children(&ids, &Act::Live).await;
    for ring in [[1, 2].as_slice(), &[2, 1], &[2]] {
        for member in &cluster.members {
            let keys = ring.iter().map(|&n| key(n)).collect();
            member.node.set_keyring(keys).await.expect("it is a keyring");
        }
        cluster.quiet(&ids).await;
    }
    cluster.config.security = keyring(&[2]);
    cluster.grow(1).await;
    let (late, reason) = refused(&mut cluster, keyring(&[1])).await;
    assert!(reason.contains("does not have the first key"), "{reason}");
    late.node.set_keyring(vec![key(2)]).await.expect("it is a keyring");
    until("it is let in with the new key", async || {
        let members = late.supervisor.members().borrow().len();
        require(members == 5, || format!("it knows {members}"))
    })
    .await;
    cluster.journal.assert_no_overlap();
    late.node.leave().await.expect("it leaves");
    cluster.end().await;
}
