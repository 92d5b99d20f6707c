//! Clusters of separate processes, some of which are killed, restarted or stopped.
//!
//! Failing tests leave their journal and the logs of their processes in the temporary directory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use haulout::{Config, Profile, Restart};

use crate::support::cluster::{ids, nanos};
use crate::support::journal::now;
use crate::support::process::{Listed, Process, serve};
use crate::support::{Act, Journal, config, free_addr, require, until};

/// Not a test by itself: what the processes of the tests below run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_in_a_process_of_its_own() {
    serve().await;
}

/// Processes named `p0`, `p1` and so on, and the journal of their children.
pub(crate) struct Processes {
    pub(crate) journal: Journal,
    config: Config,
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) all: Vec<Process>,
}

impl Processes {
    pub(crate) async fn of(count: usize, config: Config) -> Processes {
        let addrs: Vec<SocketAddr> = (0..count).map(|_| free_addr()).collect();
        let config = Config { seeds: addrs.iter().map(SocketAddr::to_string).collect(), ..config };
        let mut processes = Processes { journal: Journal::new(), config, addrs, all: Vec::new() };
        for number in 0..count {
            processes.start(number).await;
        }
        processes.know_each_other().await;
        processes
    }

    pub(crate) async fn start(&mut self, number: usize) {
        let name = Some(format!("p{number}"));
        let config = Config { name, bind: self.addrs[number], ..self.config.clone() };
        self.all.push(Process::start(config, &self.journal).await);
        self.all.sort_by(|a, b| a.name.cmp(&b.name));
    }

    pub(crate) fn take(&mut self, name: &str) -> Process {
        let place = self.all.iter().position(|process| process.name == name).expect("a process of this name");
        self.all.remove(place)
    }

    pub(crate) async fn know_each_other(&mut self) {
        let names: Vec<String> = self.all.iter().map(|process| process.name.clone()).collect();
        until("all know all", async || {
            for process in &mut self.all {
                let known = process.members().await;
                require(known == names, || format!("{} knows {known:?}", process.name))?;
            }
            Ok(())
        })
        .await;
    }

    pub(crate) async fn run_children(&mut self, ids: &[String]) -> BTreeMap<String, String> {
        let count = self.all.len();
        for (number, id) in ids.iter().enumerate() {
            self.all[number % count].start_child(id, Act::Live, Restart::Permanent).await;
        }
        self.quiet(ids).await
    }

    /// Waits until exactly these children run, once each, and all processes agree. Returns where.
    pub(crate) async fn quiet(&mut self, ids: &[String]) -> BTreeMap<String, String> {
        let mut ids = ids.to_vec();
        ids.sort();
        until("the processes are quiet", async || {
            let first = self.all[0].list().await;
            let all_run = first.iter().all(|child| child.state == "running");
            require(all_run && first.iter().map(|child| &child.id).eq(&ids), || format!("{first:?} is listed"))?;
            for process in &mut self.all[1..] {
                let other = process.list().await;
                require(other == first, || format!("{} lists {other:?} and the first {first:?}", process.name))?;
            }
            let places = |child: &crate::support::process::Listed| child.node.iter().cloned().collect();
            let listed: BTreeMap<String, Vec<String>> =
                first.iter().map(|child| (child.id.clone(), places(child))).collect();
            let running = self.journal.running();
            require(running == listed, || format!("{running:?} run, and {listed:?} are listed"))?;
            Ok(listed.into_iter().filter_map(|(id, mut nodes)| Some((id, nodes.pop()?))).collect())
        })
        .await
    }

    /// Stops a process until the others run all children, and waits until it has found out and is a member again. Returns
    /// when it was stopped and when it was let go on.
    async fn stand_still(&mut self, name: &str) -> (u64, u64) {
        let mut paused = self.take(name);
        let stopped = now();
        paused.pause();
        until("the others run its children", async || {
            for process in &mut self.all {
                let listed = process.list().await;
                let is_elsewhere = |child: &Listed| child.state == "running" && child.node.as_deref() != Some(name);
                require(listed.iter().all(is_elsewhere), || format!("{listed:?}"))?;
            }
            Ok(())
        })
        .await;
        let resumed = now();
        paused.resume();
        until("it finds out", async || require(paused.counts().await.rejoins > 0, || "it has not".into())).await;
        self.all.push(paused);
        self.know_each_other().await;
        (stopped, resumed)
    }

    /// How many members each process has given up.
    async fn downs(&mut self) -> Vec<u64> {
        let mut downs = Vec::new();
        for process in &mut self.all {
            downs.push(process.counts().await.members_down);
        }
        downs
    }

    /// Waits until children run where they ran before.
    pub(crate) async fn quiet_as(&mut self, before: &BTreeMap<String, String>) {
        let ids: Vec<String> = before.keys().cloned().collect();
        until("the same members have the same children", async || {
            let places = self.quiet(&ids).await;
            require(places == *before, || format!("{places:?} instead of {before:?}"))
        })
        .await;
    }

    pub(crate) fn of_node(places: &BTreeMap<String, String>, name: &str) -> Vec<String> {
        places.iter().filter(|(_, node)| *node == name).map(|(id, _)| id.clone()).collect()
    }

    pub(crate) async fn end(self) {
        for process in self.all {
            process.leave().await;
        }
        assert!(self.journal.running().is_empty(), "{:?}", self.journal.running());
    }
}

/// Goal: the children of a killed process run elsewhere, once, and nothing else is touched. Method: SIGKILL one of
/// three; each child of it must have two runs, every other child one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_children_of_a_killed_process_run_elsewhere_once() {
    let ids = ids(18);
    let mut processes = Processes::of(3, config()).await;
    let before = processes.run_children(&ids).await;
    let lost = Processes::of_node(&before, "p1");
    assert!(!lost.is_empty(), "{before:?}");
    processes.take("p1").kill(&processes.journal).await;
    processes.quiet(&ids).await;
    processes.journal.assert_no_overlap();
    for id in &ids {
        let runs = processes.journal.runs_of(id);
        assert_eq!(runs.len(), 1 + usize::from(lost.contains(id)), "{runs:?}");
    }
    processes.know_each_other().await;
    processes.end().await;
}

/// Goal: a start that one node acknowledged to be replicated, and a terminate, survive the node. Method: the killed
/// process is the one that was asked; a child that was terminated through it must not come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_acknowledged_is_not_undone() {
    let mut ids = ids(8);
    let mut processes = Processes::of(3, config()).await;
    for id in &ids {
        processes.all[2].start_child(id, Act::Live, Restart::Permanent).await;
    }
    let gone = ids.pop().unwrap();
    processes.all[2].terminate_child(&gone).await;
    processes.take("p2").kill(&processes.journal).await;
    processes.quiet(&ids).await;
    processes.journal.assert_no_overlap();
    assert!(processes.journal.runs_of(&gone).len() <= 1);
    processes.end().await;
}

/// Goal: a restart on the same address is proof that the old instance is gone; nobody waits for failure detection.
/// Method: with the profile `wan`, where that takes some twelve seconds, a process is killed and started again at once. Its
/// children must run again long before; another node may have them until the new instance has settled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_children_of_a_process_that_restarts_quickly_run_again_at_once_and_once() {
    let ids = ids(12);
    let mut processes = Processes::of(3, Config { profile: Profile::Wan, ..config() }).await;
    let before = processes.run_children(&ids).await;
    let lost = Processes::of_node(&before, "p1");
    let killed = now();
    processes.take("p1").kill(&processes.journal).await;
    processes.start(1).await;
    processes.quiet_as(&before).await;
    processes.journal.assert_no_overlap();
    for id in &ids {
        let runs = processes.journal.runs_of(id);
        if lost.contains(id) {
            let half_of_detection = nanos(Profile::Wan.suspicion_min() / 2);
            assert!(runs.len() <= 3 && runs[1].began < killed + half_of_detection, "{runs:?}, killed at {killed}");
        } else {
            assert_eq!(runs.len(), 1, "{runs:?}");
        }
    }
    processes.know_each_other().await;
    processes.end().await;
}

/// Goal: a process that stood still finds out, gives up what others took over, and is a member again under its name,
/// with no child lost. Method: SIGSTOP one of three until the others run its children, then SIGCONT. Two copies
/// during the pause and until the resumed node has learnt of it are not forbidden; at the end there is one of each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stood_still_longer_than_failure_detection_rejoins_and_no_child_is_lost() {
    let ids = ids(12);
    let mut processes = Processes::of(3, config()).await;
    let before = processes.run_children(&ids).await;
    let lost = Processes::of_node(&before, "p2");
    processes.stand_still("p2").await;
    processes.quiet_as(&before).await;
    for id in &ids {
        let (runs, moves) = (processes.journal.runs_of(id).len(), if lost.contains(id) { 3 } else { 1 });
        assert!(runs <= moves, "{id} ran {runs} times");
    }
    processes.end().await;
}

/// Goal: a process that stood still reads what it missed before it acts, runs nothing again that others took over before its
/// own copy has ended, accuses nobody, and says for how long it stood still, in its log and in its figures. Method: as above,
/// seen from outside: the journal of the children, the counters of all, and the log of the process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stood_still_ends_what_was_taken_over_accuses_nobody_and_says_how_long_it_was() {
    let ids = ids(12);
    let mut processes = Processes::of(3, config()).await;
    let before = processes.run_children(&ids).await;
    let lost = Processes::of_node(&before, "p2");
    let downs_before = processes.downs().await;
    let (stopped, resumed) = processes.stand_still("p2").await;
    processes.quiet_as(&before).await;
    for id in &lost {
        let runs: Vec<_> = processes.journal.runs_of(id).into_iter().filter(|run| run.node == "p2").collect();
        let [old, new] = &runs[..] else { panic!("{id} did not come back once: {runs:?}") };
        assert!(old.ended.is_some_and(|ended| ended >= resumed && ended <= new.began), "{runs:?}");
    }
    let downs: Vec<u64> = processes.downs().await.into_iter().zip(downs_before).map(|(after, it)| after - it).collect();
    assert_eq!(downs, [1, 1, 0], "only p2 was given up, and it gave up nobody");
    let log = std::fs::read_to_string(processes.journal.dir().join("p2")).unwrap();
    assert!(log.contains("woken late; reading what waits before any timer fires"), "{log}");
    let line = log.lines().find(|line| line.contains("this process stood still")).expect("it is logged");
    let (_, lateness) = line.split_once("lateness=").expect("for how long");
    let lateness: f64 = lateness.split('s').next().and_then(|secs| secs.parse().ok()).expect("some seconds");
    let counts = processes.all.last_mut().expect("p2").counts().await;
    assert!(counts.wakeups_late_500ms > 0, "{counts:?}");
    // Before the stop a timer may have been due only some while later.
    let stood_still = (resumed - stopped) as f64 / 1e9;
    for late in [lateness, counts.wakeup_late_nanos_max as f64 / 1e9] {
        assert!(late > stood_still - 1.0 && late < stood_still + 5.0, "{late} s instead of {stood_still} s");
    }
    processes.end().await;
}

/// Goal: done is done, also after a failover. Method: Transient and Temporary children end by themselves; when all
/// know, the process that ran them is killed, and then each of the others is killed and started anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn children_that_are_done_stay_done_after_failovers() {
    let mut processes = Processes::of(3, config()).await;
    let done = ids(6);
    for (number, id) in done.iter().enumerate() {
        let restart = if number % 2 == 0 { Restart::Transient } else { Restart::Temporary };
        processes.all[number % 3].start_child(id, Act::Finish, restart).await;
    }
    let seal = vec!["seal".to_owned()];
    processes.all[0].start_child("seal", Act::Live, Restart::Permanent).await;
    processes.quiet(&seal).await;
    for number in 0..3 {
        processes.take(&format!("p{number}")).kill(&processes.journal).await;
        processes.quiet(&seal).await;
        processes.start(number).await;
        processes.know_each_other().await;
        processes.quiet(&seal).await;
    }
    for id in &done {
        assert_eq!(processes.journal.runs_of(id).len(), 1, "{id}");
    }
    processes.journal.assert_no_overlap();
    processes.end().await;
}

/// Goal: a Temporary child dies with its node. Method: SIGKILL the process that runs it; it must not run again, and
/// not be listed for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_temporary_child_dies_with_its_process() {
    let mut processes = Processes::of(3, config()).await;
    processes.all[0].start_child("temporary", Act::Live, Restart::Temporary).await;
    let place = processes.quiet(&["temporary".to_owned()]).await.remove("temporary").unwrap();
    processes.take(&place).kill(&processes.journal).await;
    processes.quiet(&[]).await;
    assert_eq!(processes.journal.runs().len(), 1);
    processes.end().await;
}

/// Goal: whoever comes back after all have gone is a new cluster. Method: all processes are killed at once and started
/// again; nothing is listed, and the ids are free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_processes_die_at_once_dynamic_children_are_gone_and_the_cluster_starts_anew() {
    let ids = ids(6);
    let mut processes = Processes::of(3, config()).await;
    processes.run_children(&ids).await;
    for process in std::mem::take(&mut processes.all) {
        process.kill(&processes.journal).await;
    }
    for number in 0..3 {
        processes.start(number).await;
    }
    processes.know_each_other().await;
    // What is not on disk is gone; only the last of those killed may have had a moment alone with it.
    processes.quiet(&[]).await;
    processes.run_children(&ids).await;
    tokio::time::timeout(Duration::from_secs(30), processes.end()).await.expect("all leave");
}
