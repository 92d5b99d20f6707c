//! The processes of a cluster, and what is asked of all of them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use haulout::{BoxError, Key};
use tokio::time::sleep;

use crate::clock;
use crate::node::{Answer, Request, Usage};
use crate::ports::free_ports;
use crate::process::Process;

/// For requests that take no time worth mentioning.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// For a million children on a slow machine, and for failure detection.
pub(crate) const AT_LAST: Duration = Duration::from_secs(300);

/// Processes that know each other. Dropped, it kills them.
pub(crate) struct Cluster {
    pub(crate) processes: Vec<Process>,
    /// Where each listens.
    pub(crate) addrs: Vec<std::net::SocketAddr>,
    dir: PathBuf,
}

impl Cluster {
    /// So many nodes that run children.
    pub(crate) async fn of(nodes: usize) -> Result<Cluster, BoxError> {
        Cluster::with_bystanders(nodes, 0).await
    }

    /// The same, with more nodes that do not know the kind of the children: they know all and run none.
    pub(crate) async fn with_bystanders(runners: usize, bystanders: usize) -> Result<Cluster, BoxError> {
        Cluster::start(runners, bystanders, None).await
    }

    /// The same, in plaintext or with a key.
    pub(crate) async fn start(runners: usize, bystanders: usize, key: Option<&Key>) -> Result<Cluster, BoxError> {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("haulout-bench-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let addrs = free_ports(runners + bystanders)?;
        let mut processes = Vec::new();
        for (number, bind) in addrs.iter().enumerate() {
            let name = format!("node-{}", number + 1);
            let mut args: Vec<OsString> = vec!["node".into(), "--bind".into(), bind.to_string().into()];
            args.extend(addrs.iter().flat_map(|seed| ["--seed".into(), seed.to_string().into()]));
            args.extend((number >= runners).then(|| "--bystander".into()));
            args.extend(key.into_iter().flat_map(|key| ["--key".into(), key.to_base64().into()]));
            processes.push(Process::spawn(&name, args, &dir.join(format!("{name}.log")))?);
        }
        let pids: Vec<_> = processes.iter().map(|process| process.pid().to_string()).collect();
        eprintln!("  processes {}; their logs, if anything fails: {}", pids.join(", "), dir.display());
        let mut cluster = Cluster { processes, addrs, dir };
        for process in &mut cluster.processes {
            process.receive::<Answer>(SOON).await?;
        }
        cluster.await_members().await?;
        Ok(cluster)
    }

    async fn await_members(&mut self) -> Result<(), BoxError> {
        let deadline = clock::now() + SOON.as_nanos() as u64;
        let nodes = self.processes.len();
        loop {
            let answers = self.ask_all(&Request::Members).await?;
            if answers.iter().all(|answer| matches!(answer, Answer::Members(count) if *count == nodes)) {
                return Ok(());
            }
            if clock::now() > deadline {
                return Err(format!("the nodes did not find each other: {answers:?}").into());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks all at once; their answers in order.
    pub(crate) async fn ask_all(&mut self, request: &Request) -> Result<Vec<Answer>, BoxError> {
        for process in &mut self.processes {
            process.send(request).await?;
        }
        let mut answers = Vec::new();
        for process in &mut self.processes {
            answers.push(accepted(process.receive(AT_LAST).await?, process.name())?);
        }
        Ok(answers)
    }

    /// Asks the first one, for something that begins with a call; when that was made.
    pub(crate) async fn ask_first(&mut self, request: &Request) -> Result<u64, BoxError> {
        let first = &mut self.processes[0];
        match accepted(first.call(request, AT_LAST).await?, first.name())? {
            Answer::Called { at } => Ok(at),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts children on the first node; the time of the first call.
    pub(crate) async fn start_many(&mut self, prefix: &str, count: usize) -> Result<u64, BoxError> {
        self.ask_first(&Request::Start { prefix: prefix.into(), count }).await
    }

    /// Starts children and waits until every node lists all as running.
    pub(crate) async fn have(&mut self, count: usize) -> Result<(), BoxError> {
        let started = self.start_many("child", count).await?;
        self.all_listed(count, started).await?;
        self.first_lines().await?;
        Ok(())
    }

    /// From `since` until every node lists so many children, all running.
    pub(crate) async fn all_listed(&mut self, count: usize, since: u64) -> Result<Duration, BoxError> {
        let mut last = 0;
        for answer in self.ask_all(&Request::AwaitListed { count }).await? {
            let Answer::Listed { at } = answer else { return Err(unexpected(&answer)) };
            last = last.max(at);
        }
        Ok(Duration::from_nanos(last.saturating_sub(since)))
    }

    /// How many children have written their first line since the last time, and when the last of them did.
    pub(crate) async fn first_lines(&mut self) -> Result<(usize, u64), BoxError> {
        let mut total = (0, 0);
        for answer in self.ask_all(&Request::FirstLines).await? {
            let Answer::FirstLines { count, last, .. } = answer else { return Err(unexpected(&answer)) };
            total = (total.0 + count, total.1.max(last));
        }
        Ok(total)
    }

    /// From the first call until no node lists or runs any child.
    pub(crate) async fn terminate_many(&mut self, prefix: &str, count: usize) -> Result<Duration, BoxError> {
        let called = self.ask_first(&Request::Terminate { prefix: prefix.into(), count }).await?;
        self.all_listed(0, called).await
    }

    pub(crate) async fn usages(&mut self) -> Result<Vec<Usage>, BoxError> {
        let answers = self.ask_all(&Request::Usage).await?;
        let usage = |answer| match answer {
            Answer::Usage(usage) => Ok(usage),
            other => Err(unexpected(&other)),
        };
        answers.into_iter().map(usage).collect()
    }

    pub(crate) async fn stop(self) -> Result<(), BoxError> {
        for process in self.processes {
            process.stop(SOON).await?;
        }
        Ok(std::fs::remove_dir_all(self.dir)?)
    }
}

fn accepted(answer: Answer, name: &str) -> Result<Answer, BoxError> {
    match answer {
        Answer::Failed(reason) => Err(format!("{name}: {reason}").into()),
        answer => Ok(answer),
    }
}

pub(crate) fn unexpected(answer: &Answer) -> BoxError {
    format!("unexpected answer {answer:?}").into()
}
