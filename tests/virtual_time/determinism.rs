//! The same seed gives the same events: twice in one process, in another process, and in every build.

use std::path::PathBuf;
use std::process::Command;

use haulout_sim::scenario::Draw;
use haulout_sim::trace::TraceText;
use haulout_sim::{Cluster, Link, NodeIdx, Options, Plan, Range, Settings, run};

use crate::support::*;

/// Set to 1 to write the golden file anew, after a change of the protocol:
/// `HAULOUT_UPDATE_GOLDEN=1 cargo test --test virtual_time determinism`.
pub(crate) const UPDATE: &str = "HAULOUT_UPDATE_GOLDEN";
/// Set for the other process, which then only prints its digests.
const PRINT: &str = "HAULOUT_PRINT_DIGESTS";

pub(crate) fn is_set(name: &str) -> bool {
    #[allow(clippy::disallowed_methods, reason = "a switch of this test, not of the library")]
    std::env::var(name).is_ok_and(|value| value == "1")
}

/// Everything that the others test, in one run: starts, crashes, loss, a pause, a leave, a split.
fn scripted(seed: u64, trace: TraceText) -> Cluster {
    let link = Link { loss: 0.05, duplicate: 0.05, delay: Range::millis(1, 20), ..Link::default() };
    let mut cluster = cluster_with(Options { link, trace, ..Options::seeded(seed) }, 4);
    let crash = haulout::Outcome::Error("lost".into());
    cluster.children().plan_args(b"child-003", Plan::ending(Range::millis(300, 900), crash));
    for (number, child) in ids(30).iter().enumerate() {
        let _ = cluster.start(NodeIdx(number % 4), spec(child));
    }
    cluster.run_for(secs(3));
    cluster.crash(B);
    cluster.add_node("e");
    cluster.run_for(secs(10));
    cluster.restart(B);
    let _ = cluster.leave(C);
    cluster.run_for(secs(3));
    cluster.pause(A);
    cluster.run_for(secs(15));
    cluster.resume(A);
    cluster.split(&[A, B]);
    cluster.run_for(secs(15));
    cluster.heal();
    cluster.run_for(secs(20));
    cluster
}

/// One line per run: its name and the digest of everything that happened in it.
fn digests() -> String {
    let mut lines = String::new();
    for seed in 1..=2 {
        lines += &format!("scripted-{seed} {}\n", scripted(seed, TraceText::Off).digest());
    }
    for (seed, scopes) in [(1, 1), (2, 1), (3, 1), (4, 2)] {
        let scopes = Some(scopes);
        let draw = Draw { nodes: Some(4), children: Some(20), scopes, duration: secs(20), ..Draw::seeded(seed) };
        let digest = run(&draw.scenario(), Settings::default()).tally.digest;
        lines += &format!("swarm-{seed} {digest}\n");
    }
    lines
}

/// Goal: nothing but the seed decides.
/// Method: the same run twice; the first line of the traces that differs is shown.
#[test]
fn the_same_seed_gives_the_same_events_twice_in_one_process() {
    let [one, two] = [0, 1].map(|_| scripted(7, TraceText::Keep));
    let differing = one.trace().lines().iter().zip(two.trace().lines()).find(|(one, two)| one != two);
    assert_eq!(differing, None);
    assert_eq!((one.digest(), one.trace().events()), (two.digest(), two.trace().events()));
    assert_ne!(scripted(8, TraceText::Off).digest(), one.digest(), "another seed gives other events");
}

/// Goal: no process has a say either (addresses, hash seeds, environment).
/// Method: this executable is run again as a child process, which prints its digests.
#[test]
fn the_same_seed_gives_the_same_events_in_two_processes() {
    if is_set(PRINT) {
        // A harness with one thread has begun the line with the name of the test.
        println!("\n{}", digests());
        return;
    }
    let this = "determinism::the_same_seed_gives_the_same_events_in_two_processes";
    let executable = std::env::current_exe().expect("this executable");
    let output = Command::new(executable).args(["--exact", this, "--nocapture"]).env(PRINT, "1").output();
    let output = output.expect("the other process runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    let theirs: Vec<&str> =
        printed.lines().filter(|line| line.starts_with("scripted-") || line.starts_with("swarm-")).collect();
    assert_eq!(theirs, digests().lines().collect::<Vec<_>>(), "{printed}");
}

/// Goal: every build gives the same events: debug, release, and those of others.
/// Method: the digests are committed beside this file; a protocol change writes them anew on purpose.
#[test]
fn the_same_seed_gives_the_same_events_in_debug_and_release() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/virtual_time/digests.txt");
    let digests = digests();
    if is_set(UPDATE) {
        std::fs::write(&path, &digests).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("the golden file can be read");
    assert_eq!(digests, golden, "if the protocol was changed on purpose, run this again with {UPDATE}=1");
}
