//! A process that is killed is noticed by what its kernel does, and not by its silence; one that is stopped is not.
//!
//! With the profile `wan`, where silence takes half a minute to judge: nothing here waits for it.

use std::net::SocketAddr;

use haulout::proto::packet::{Codec, seal_plaintext};
use haulout::proto::wire::{Hello, Message, Purpose};
use haulout::proto::{Identity, InstanceId, placement};
use haulout::{Config, Profile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::processes::Processes;
use crate::support::cluster::ids;
use crate::support::process::Counts;
use crate::support::{config, require, soon, until};

/// Processes that have opened the standing streams by which they watch each other.
async fn watching(count: usize) -> Processes {
    let mut processes = Processes::of(count, Config { profile: Profile::Wan, ..config() }).await;
    until("everybody is watched by all others", async || {
        for process in &mut processes.all {
            let Counts { watches_opened, .. } = process.counts().await;
            // One to each other member, and one from each.
            require(watches_opened >= 2 * (count as u64 - 1), || format!("{} has {watches_opened}", process.name))?;
        }
        Ok(())
    })
    .await;
    processes
}

/// Goal: the death of a process is noticed at once. Method: SIGKILL one of `count`; its children must run elsewhere,
/// which by silence would take as long as this test waits for anything, and a survivor must say that it saw the crash.
async fn the_death_of_one_of(count: usize) {
    let ids = ids(12);
    let mut processes = watching(count).await;
    let before = processes.run_children(&ids).await;
    let lost = Processes::of_node(&before, "p1");
    processes.take("p1").kill(&processes.journal).await;
    processes.quiet(&ids).await;
    processes.journal.assert_no_overlap();
    for id in &ids {
        assert_eq!(processes.journal.runs_of(id).len(), 1 + usize::from(lost.contains(id)), "{id}");
    }
    let mut declared = 0;
    for process in &mut processes.all {
        let counts = process.counts().await;
        assert_eq!((counts.members_down, counts.rejoins), (1, 0), "{}", process.name);
        declared += counts.crashes_declared;
    }
    assert!(declared > 0, "it was noticed in another way");
    processes.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_is_noticed_at_once_by_the_others() {
    the_death_of_one_of(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_is_noticed_at_once_by_the_only_other_one() {
    the_death_of_one_of(2).await;
}

/// A standing stream from a member that did not ask for it.
async fn forged_watch(watcher: SocketAddr, watched: Identity) -> TcpStream {
    let mut frame = Vec::new();
    let cluster = Config::default().cluster;
    Codec::plaintext(&cluster).begin(&mut frame, &[]);
    let mut frame = postcard::to_extend(&watched, frame).expect("an identity can be written");
    let hello = Hello {
        cluster,
        placement: placement::fingerprint(),
        name: "anybody".into(),
        purpose: Purpose::Watch,
        nonce: [0; 16],
    };
    frame = postcard::to_extend(&Message::Hello(hello), frame).expect("a Hello can be written");
    seal_plaintext(&mut frame, 0);
    let mut stream = soon("the watcher takes a stream", TcpStream::connect(watcher)).await.expect("it listens");
    let length = u32::try_from(frame.len()).expect("it is short").to_be_bytes();
    stream.write_all(&[&length[..], &frame].concat()).await.expect("it can be sent");
    soon("the watcher greets", stream.read_u32()).await.expect("a greeting");
    stream
}

/// Goal: a stopped process is not taken for a dead one, whatever becomes of its streams. Method: SIGSTOP one of three and
/// let a stream that stands in its name end at both others: they look at it, find that its kernel accepts, and leave it
/// a member. It goes on as if nothing had been.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_process_is_not_taken_for_a_dead_one() {
    let ids = ids(6);
    let mut processes = watching(3).await;
    let before = processes.run_children(&ids).await;
    let mut stopped = processes.take("p1");
    let identity = Identity { addr: processes.addrs[1], bump: 0, instance: InstanceId::new(stopped.instance().await) };
    let streams = [forged_watch(processes.addrs[0], identity).await, forged_watch(processes.addrs[2], identity).await];
    stopped.pause();
    drop(streams);
    until("both have looked and found a process", async || {
        for process in &mut processes.all {
            let Counts { looks, looks_alive, .. } = process.counts().await;
            require(looks > 0 && looks == looks_alive, || format!("{looks} looks, {looks_alive} with a process"))?;
        }
        Ok(())
    })
    .await;
    stopped.resume();
    processes.all.insert(1, stopped);
    processes.quiet_as(&before).await;
    for process in &mut processes.all {
        let counts = process.counts().await;
        assert_eq!((counts.crashes_declared, counts.members_down, counts.rejoins), (0, 0, 0), "{}", process.name);
    }
    processes.end().await;
}
