//! Nodes in processes of their own: this test executable, started again.
//!
//! A process is asked by a line on its stdin and answers by a line on its stdout. It ends when its stdin does, and is
//! killed, by its own id, when its [`Process`] is dropped: nothing outlives the test.

use std::fs::File;
use std::process::Stdio;

use haulout::{Config, Key, Restart, Started};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{Act, Journal, Member, Worker, soon};

/// The argument by which a process is told its configuration; see [`crate::processes`].
const VARIABLE: &str = "HAULOUT_TEST_NODE";

/// The variable from which a process may take this key, and the key.
pub(crate) fn variable_key() -> (&'static str, Key) {
    ("HAULOUT_TEST_KEYS", Key::new([2; 32]))
}

/// What marks a line as an answer, among those of the test harness.
const MARK: &str = "answer: ";

#[derive(Debug, Serialize, Deserialize)]
enum Request {
    Start { id: String, act: Act, restart: Restart },
    Terminate(String),
    List,
    Members,
    Stats,
    Instance,
    Leave,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    Ready,
    Done,
    Listing(Vec<Listed>),
    Members(Vec<String>),
    Counts(Counts),
    Instance(u64),
    Refused(String),
}

/// How often some things have happened to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) rejoins: u64,
    pub(crate) watches_opened: u64,
    pub(crate) looks: u64,
    pub(crate) looks_alive: u64,
    pub(crate) crashes_declared: u64,
    pub(crate) members_down: u64,
    pub(crate) wakeups_late_500ms: u64,
    pub(crate) wakeup_late_nanos_max: u64,
}

/// A child as a node lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) node: Option<String>,
    pub(crate) state: String,
    pub(crate) epoch: (u64, u32),
}

#[derive(Serialize, Deserialize)]
struct Orders {
    config: Config,
    worker: Worker,
}

/// A node in a process of its own.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    pid: Pid,
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts one and waits until it listens.
    pub(crate) async fn start(config: Config, journal: &Journal) -> Process {
        let name = config.name.clone().expect("nodes of tests have names");
        let orders = Orders { config, worker: journal.worker(Act::Live) };
        let log = File::options().append(true).create(true).open(journal.dir().join(&name)).expect("a log");
        let (variable, key) = variable_key();
        let mut child = Command::new(std::env::current_exe().expect("this executable"))
            .args(["--exact", "processes::a_node_in_a_process_of_its_own", "--nocapture", "--test-threads=1"])
            .env(VARIABLE, serde_json::to_string(&orders).expect("orders can be written"))
            .env(variable, key.to_base64())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("a process starts");
        let id = child.id().expect("it has just been started");
        let pid = Pid::from_raw(i32::try_from(id).expect("a process id")).expect("a process id");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut process = Process { name, pid, child, stdin, stdout };
        assert_eq!(process.answer().await, Answer::Ready);
        process
    }

    async fn answer(&mut self) -> Answer {
        loop {
            let line = soon("a process answers", self.stdout.next_line()).await.expect("stdout can be read");
            let line = line.unwrap_or_else(|| panic!("{} ended", self.name));
            // What the harness writes first is on the same line.
            if let Some((_, answer)) = line.split_once(MARK) {
                return serde_json::from_str(answer).expect("answers are JSON");
            }
        }
    }

    async fn ask(&mut self, request: Request) -> Answer {
        let line = serde_json::to_string(&request).expect("requests can be written") + "\n";
        soon("a process takes a request", self.stdin.write_all(line.as_bytes())).await.expect("it is there");
        self.answer().await
    }

    pub(crate) async fn start_child(&mut self, id: &str, act: Act, restart: Restart) {
        let started = self.ask(Request::Start { id: id.into(), act, restart }).await;
        assert_eq!(started, Answer::Done);
    }

    pub(crate) async fn terminate_child(&mut self, id: &str) {
        assert_eq!(self.ask(Request::Terminate(id.into())).await, Answer::Done);
    }

    pub(crate) async fn list(&mut self) -> Vec<Listed> {
        match self.ask(Request::List).await {
            Answer::Listing(children) => children,
            other => panic!("{other:?} to a request for a listing"),
        }
    }

    /// The names of the settled members.
    pub(crate) async fn members(&mut self) -> Vec<String> {
        match self.ask(Request::Members).await {
            Answer::Members(names) => names,
            other => panic!("{other:?} to a request for the members"),
        }
    }

    pub(crate) async fn counts(&mut self) -> Counts {
        match self.ask(Request::Stats).await {
            Answer::Counts(counts) => counts,
            other => panic!("{other:?} to a request for the counters"),
        }
    }

    /// The number of this life of it.
    pub(crate) async fn instance(&mut self) -> u64 {
        match self.ask(Request::Instance).await {
            Answer::Instance(number) => number,
            other => panic!("{other:?} to a request for the instance"),
        }
    }

    pub(crate) async fn leave(mut self) {
        assert_eq!(self.ask(Request::Leave).await, Answer::Done);
        drop(self.stdin);
        let status = soon("the process ends", self.child.wait()).await.expect("it can be waited for");
        assert!(status.success(), "{status}");
    }

    /// SIGKILL; the journal is told when the process is certainly gone.
    pub(crate) async fn kill(mut self, journal: &Journal) {
        let pid = self.pid.as_raw_nonzero().get().unsigned_abs();
        self.child.kill().await.expect("it can be killed");
        journal.killed(pid);
    }

    pub(crate) fn pause(&self) {
        kill_process(self.pid, Signal::STOP).expect("it can be stopped");
    }

    pub(crate) fn resume(&self) {
        kill_process(self.pid, Signal::CONT).expect("it can be continued");
    }
}

/// The other side: what a process does, if it was started as a node.
pub(crate) async fn serve() {
    #[allow(clippy::disallowed_methods, reason = "the harness leaves no other way to tell the process what it is")]
    let Ok(orders) = std::env::var(VARIABLE) else { return };
    let orders: Orders = serde_json::from_str(&orders).expect("orders are JSON");
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::DEBUG).try_init();
    let member = Member::start(orders.config, |scope| scope.kind::<Worker>()).await;
    answer(&Answer::Ready);
    let mut requests = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = requests.next_line().await.expect("stdin can be read") {
        let request = serde_json::from_str(&line).expect("requests are JSON");
        let result = act(&member, &orders.worker, request).await;
        answer(&result.unwrap_or_else(|error| Answer::Refused(error.to_string())));
    }
}

async fn act(member: &Member, worker: &Worker, request: Request) -> Result<Answer, haulout::BoxError> {
    let supervisor = &member.supervisor;
    match request {
        Request::Start { id, act, restart } => {
            let spec = haulout::ChildSpec::new(id, &worker.with(act))?.restart(restart);
            let _: Started = supervisor.start_child(spec).replicated(1).await?;
        }
        Request::Terminate(id) => supervisor.terminate_child(id).replicated(1).await?,
        Request::Leave => member.node.leave().await?,
        Request::List => {
            let listed = member.list().await.into_iter().map(|(id, child)| Listed {
                id,
                node: child.node.as_deref().map(str::to_owned),
                state: child.state.to_string(),
                epoch: (child.epoch.birth, child.epoch.run),
            });
            return Ok(Answer::Listing(listed.collect()));
        }
        Request::Members => {
            let members = supervisor.members().borrow().clone();
            let settled = members.into_iter().filter(|member| member.settled).map(|member| member.name.to_string());
            return Ok(Answer::Members(settled.collect()));
        }
        Request::Stats => {
            let stats = member.node.stats().await?;
            return Ok(Answer::Counts(Counts {
                rejoins: stats.rejoins,
                watches_opened: stats.watches_opened,
                looks: stats.looks,
                looks_alive: stats.looks_alive,
                crashes_declared: stats.crashes_declared,
                members_down: stats.members_down,
                wakeups_late_500ms: stats.wakeups_late_500ms,
                wakeup_late_nanos_max: stats.wakeup_late_nanos_max,
            }));
        }
        Request::Instance => {
            let members = supervisor.members().borrow().clone();
            let name = member.node.name();
            let me = members.iter().find(|info| &*info.name == name).ok_or("this node is no member")?;
            return Ok(Answer::Instance(me.instance.get()));
        }
    }
    Ok(Answer::Done)
}

fn answer(answer: &Answer) {
    println!("{MARK}{}", serde_json::to_string(answer).expect("answers can be written"));
}
