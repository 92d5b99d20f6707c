//! One process of the measured cluster, and what it is asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use haulout::{BoxError, Child, ChildContext, ChildSpec, ChildState, Config, Node, Supervisor, Which};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::{clock, process};

/// How many calls are under way at once when many children are started or terminated.
const CALLERS: usize = 64;

/// One line to a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Start one child and answer when it runs somewhere.
    StartOne { id: String },
    /// Start children `prefix-0`, `prefix-1`, ...; answer when all are accepted.
    Start { prefix: String, count: usize },
    /// Terminate them again.
    Terminate { prefix: String, count: usize },
    /// Answer when this node lists exactly so many children and all of them as running.
    AwaitListed { count: usize },
    /// Hand out the first lines of this node's children since the last time; `ids` names each.
    FirstLines { ids: bool },
    /// What this process has used so far.
    Usage,
    /// How many members are settled.
    Members,
}

/// One line from a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Ready,
    /// When the (first) call was made.
    Asked {
        at: u64,
    },
    /// When it was so, and how long a listing took.
    Listed {
        at: u64,
        listing_nanos: u64,
    },
    FirstLines {
        count: usize,
        last: u64,
        named: Vec<(String, u64)>,
    },
    Usage(Usage),
    Members(usize),
    Failed(String),
}

/// What a process has used since it started.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) at: u64,
    pub(crate) cpu_nanos: u64,
    /// Datagrams and frames, sent and received.
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) resident_bytes: u64,
    /// Children that run in it now.
    pub(crate) children: usize,
}

/// A child that does nothing but run.
#[derive(Serialize, Deserialize)]
struct Idle;

static FIRST_LINES: Mutex<Vec<(String, u64)>> = Mutex::new(Vec::new());
static ALIVE: AtomicUsize = AtomicUsize::new(0);

impl Child for Idle {
    const KIND: &'static str = "idle";

    async fn run(self, ctx: ChildContext) -> Result<(), BoxError> {
        let now = clock::now();
        ALIVE.fetch_add(1, Ordering::Relaxed);
        let _alive = Alive;
        FIRST_LINES.lock().unwrap_or_else(PoisonError::into_inner).push((ctx.id().to_string(), now));
        ctx.stopping().await;
        Ok(())
    }
}

struct Alive;

impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The command line of a node.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct NodeOptions {
    #[arg(long)]
    bind: SocketAddr,
    #[arg(long)]
    seed: Vec<String>,
}

/// Serves until stdin is closed.
pub(crate) async fn run(options: NodeOptions) -> Result<(), BoxError> {
    let config = Config { bind: options.bind, seeds: options.seed, ..Config::default() };
    let node = Node::builder(config).start().await?;
    let children = node.scope("bench").kind::<Idle>().join().await?;
    process::answer(&Answer::Ready).await?;
    let mut requests = process::Requests::new();
    while let Some(request) = requests.next().await? {
        let answer = serve(&children, request).await;
        process::answer(&answer.unwrap_or_else(|error| Answer::Failed(error.to_string()))).await?;
    }
    Ok(())
}

async fn serve(children: &Supervisor, request: Request) -> Result<Answer, BoxError> {
    Ok(match request {
        Request::StartOne { id } => {
            let spec = ChildSpec::new(id, &Idle)?;
            let at = clock::now();
            children.start_child(spec).running(Duration::from_secs(10)).await?;
            Answer::Asked { at }
        }
        Request::Start { prefix, count } => for_each(children, Call::Start, prefix, count).await?,
        Request::Terminate { prefix, count } => for_each(children, Call::Terminate, prefix, count).await?,
        Request::AwaitListed { count } => await_listed(children, count).await?,
        Request::FirstLines { ids } => first_lines(ids),
        Request::Usage => Answer::Usage(usage(children).await?),
        Request::Members => Answer::Members(children.members().borrow().iter().filter(|m| m.settled).count()),
    })
}

#[derive(Clone, Copy, Debug)]
enum Call {
    Start,
    Terminate,
}

impl Call {
    async fn make(self, children: &Supervisor, id: String) -> Result<(), BoxError> {
        match self {
            Call::Start => children.start_child(ChildSpec::new(id, &Idle)?).await.map(drop)?,
            Call::Terminate => children.terminate_child(id).await?,
        }
        Ok(())
    }
}

/// Makes a call for each child, as a service with many concurrent users would.
async fn for_each(children: &Supervisor, call: Call, prefix: String, count: usize) -> Result<Answer, BoxError> {
    let at = clock::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (children, prefix) = (children.clone(), prefix.clone());
        callers.spawn(async move {
            for number in (caller..count).step_by(CALLERS) {
                call.make(&children, format!("{prefix}-{number}")).await?;
            }
            Ok::<_, BoxError>(())
        });
    }
    callers.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(Answer::Asked { at })
}

async fn await_listed(children: &Supervisor, count: usize) -> Result<Answer, BoxError> {
    loop {
        let began = clock::now();
        let listing = children.which_children(Which::Global).await?;
        let at = clock::now();
        let listing_nanos = at - began;
        let ended = count > 0 || ALIVE.load(Ordering::Relaxed) == 0;
        if ended && listing.len() == count && listing.iter().all(|child| child.state == ChildState::Running) {
            return Ok(Answer::Listed { at, listing_nanos });
        }
        drop(listing);
        // Listing in a tight loop would be most of what is measured.
        sleep(Duration::from_millis(10).max(Duration::from_nanos(listing_nanos) * 4)).await;
    }
}

fn first_lines(ids: bool) -> Answer {
    let lines = std::mem::take(&mut *FIRST_LINES.lock().unwrap_or_else(PoisonError::into_inner));
    let last = lines.iter().map(|(_, at)| *at).max().unwrap_or(0);
    Answer::FirstLines { count: lines.len(), last, named: if ids { lines } else { Vec::new() } }
}

async fn usage(children: &Supervisor) -> Result<Usage, BoxError> {
    let stats = children.node().stats().await?;
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Ok(Usage {
        at: clock::now(),
        cpu_nanos: cpu.tv_sec.unsigned_abs() * 1_000_000_000 + cpu.tv_nsec.unsigned_abs(),
        packets: stats.datagrams_sent + stats.datagrams_received + stats.frames_sent + stats.frames_received,
        bytes: stats.datagram_bytes_sent
            + stats.datagram_bytes_received
            + stats.frame_bytes_sent
            + stats.frame_bytes_received,
        resident_bytes: resident_bytes().unwrap_or(0),
        children: ALIVE.load(Ordering::Relaxed),
    })
}

/// The resident set of this process, where there is a `/proc`.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}
