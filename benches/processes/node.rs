//! One process of the measured cluster, and what it is asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use haulout::proto::group::ChildKey;
use haulout::{BoxError, Child, ChildContext, ChildSpec, ChildState, Config, Key, Node, Security, Supervisor, Which};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::figures::quantile;
use crate::{clock, process};

/// How many calls are under way at once when many children are started or terminated.
const CALLERS: usize = 64;

/// How often a node that waits for all children is asked how many records it holds: a sum that it keeps.
const COUNTED_EVERY: Duration = Duration::from_millis(5);

/// How long all children may take to run: a little less than an answer may.
const PATIENCE: Duration = Duration::from_secs(280);

/// One line to a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Start one child, which is named later, and answer when it runs somewhere.
    StartOne { id: String },
    /// Start children `prefix-0`, `prefix-1`, ...; answer when all are accepted.
    Start { prefix: String, count: usize },
    /// Terminate them again.
    Terminate { prefix: String, count: usize },
    /// Answer when this node lists exactly so many children and all of them as running.
    AwaitListed { count: usize },
    /// Hand out the first lines of this node's children since the last time.
    FirstLines,
    /// List the children, and look for each, many times.
    AskOften,
    /// What this process has used so far.
    Usage,
    /// How many members are settled.
    Members,
    /// Which instance this is.
    Instance,
    /// Everything that the node has counted.
    Counters,
}

/// One line from a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Ready,
    /// When the (first) call was made.
    Called {
        at: u64,
    },
    /// When it was so.
    Listed {
        at: u64,
    },
    /// How many, when the last one was, and those that are named.
    FirstLines {
        count: usize,
        last: u64,
        named: Vec<(String, u64)>,
    },
    AskedOften(Asked),
    Usage(Usage),
    Members(usize),
    Instance(u64),
    Counters(BTreeMap<String, u64>),
    Failed(String),
}

/// Medians of what asking takes, and of what it could not be cheaper than.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    pub(crate) listing_nanos: u64,
    /// Copying the ids and putting them in order.
    pub(crate) copy_nanos: u64,
    pub(crate) whereis_nanos: u64,
    /// Looking an id up in a map of all.
    pub(crate) look_up_nanos: u64,
}

/// What a process has used since it started.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) at: u64,
    pub(crate) cpu_nanos: u64,
    /// Datagrams and frames that it sent. All nodes together receive as many, where none is lost.
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) resident_bytes: u64,
    /// Children that run in it now.
    pub(crate) children: usize,
}

/// A child that does nothing but run.
#[derive(Serialize, Deserialize)]
struct Idle {
    /// Whether its first line is to be told with its name; otherwise they are only counted, and leave nothing behind.
    named: bool,
}

static NAMED: Mutex<Vec<(String, u64)>> = Mutex::new(Vec::new());
static FIRST_LINES: AtomicUsize = AtomicUsize::new(0);
static LAST_FIRST_LINE: AtomicU64 = AtomicU64::new(0);
static ALIVE: AtomicUsize = AtomicUsize::new(0);

impl Child for Idle {
    const KIND: &'static str = "idle";

    async fn run(self, ctx: ChildContext) -> Result<(), BoxError> {
        let now = clock::now();
        ALIVE.fetch_add(1, Ordering::Relaxed);
        let _alive = Alive;
        if self.named {
            NAMED.lock().unwrap_or_else(PoisonError::into_inner).push((ctx.id().to_string(), now));
        }
        LAST_FIRST_LINE.fetch_max(now, Ordering::SeqCst);
        // Counted last: whoever finds it counted finds its time too.
        FIRST_LINES.fetch_add(1, Ordering::SeqCst);
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
    /// Knows no kind of child, and so runs none.
    #[arg(long)]
    bystander: bool,
    /// Seals what it says.
    #[arg(long)]
    key: Option<Key>,
}

/// Serves until stdin is closed.
pub(crate) async fn run(options: NodeOptions) -> Result<(), BoxError> {
    let keyring = |key| Security::Keyring { keys: vec![key], file: None, env: None };
    let security = options.key.map(keyring).unwrap_or_default();
    let config = Config { bind: options.bind, seeds: options.seed, security, ..Config::default() };
    let node = Node::builder(config).start().await?;
    let scope = node.scope("bench");
    let children = if options.bystander { scope } else { scope.kind::<Idle>() }.join().await?;
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
            let spec = ChildSpec::new(id, &Idle { named: true })?;
            let at = clock::now();
            children.start_child(spec).running(Duration::from_secs(10)).await?;
            Answer::Called { at }
        }
        Request::Start { prefix, count } => for_each(children, Call::Start, prefix, count).await?,
        Request::Terminate { prefix, count } => for_each(children, Call::Terminate, prefix, count).await?,
        Request::AwaitListed { count } => await_listed(children, count).await?,
        Request::FirstLines => first_lines(),
        // On the thread of a worker, like a service's own calls.
        Request::AskOften => Answer::AskedOften(tokio::spawn(ask_often(children.clone())).await??),
        Request::Usage => Answer::Usage(usage(children).await?),
        Request::Instance => Answer::Instance(instance(children)?),
        Request::Counters => {
            let stats = children.node().stats().await?;
            Answer::Counters(stats.counters().map(|(name, count)| (name.to_owned(), count)).collect())
        }
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
            Call::Start => children.start_child(ChildSpec::new(id, &Idle { named: false })?).await.map(drop)?,
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
    Ok(Answer::Called { at })
}

/// Lists when the node holds as many records as it then must: one of each child, one claim on it, and one of each member.
/// Listing again and again would be most of what is measured.
async fn await_listed(children: &Supervisor, count: usize) -> Result<Answer, BoxError> {
    let since = clock::now();
    loop {
        let held = children.stats().await?;
        let ended = count > 0 || ALIVE.load(Ordering::Relaxed) == 0;
        if ended && held.records == 2 * count as u64 + held.members {
            let listing = children.which_children(Which::Global).await?;
            let running = listing.iter().filter(|child| child.state == ChildState::Running).count();
            if listing.len() == count && running == count {
                return Ok(Answer::Listed { at: clock::now() });
            }
        }
        if clock::now() > since + PATIENCE.as_nanos() as u64 {
            return Err(format!("after {PATIENCE:?} it is not so that {count} children run: {held:?}").into());
        }
        sleep(COUNTED_EVERY).await;
    }
}

fn instance(children: &Supervisor) -> Result<u64, BoxError> {
    let members = children.members();
    let own =
        members.borrow().iter().find(|member| member.addr == children.node().addr()).map(|own| own.instance.get());
    own.ok_or_else(|| "this node is not among the members".into())
}

fn first_lines() -> Answer {
    let count = FIRST_LINES.swap(0, Ordering::SeqCst);
    let last = LAST_FIRST_LINE.load(Ordering::SeqCst);
    let named = std::mem::take(&mut *NAMED.lock().unwrap_or_else(PoisonError::into_inner));
    Answer::FirstLines { count, last, named }
}

async fn ask_often(children: Supervisor) -> Result<Asked, BoxError> {
    const LISTINGS: usize = 20;
    const LOOK_UPS: usize = 10_000;
    let (mut listings, mut copies) = (Vec::new(), Vec::new());
    let mut listing = Vec::new();
    for _ in 0..LISTINGS {
        let began = clock::now();
        listing = children.which_children(Which::Global).await?;
        listings.push(clock::now() - began);
    }
    // In the order of their hashes, as they are stored.
    listing.sort_by_cached_key(|child| ChildKey::new(child.id.clone()).hash());
    for _ in 0..LISTINGS {
        let began = clock::now();
        let mut ids: Vec<_> = listing.iter().map(|child| child.id.clone()).collect();
        ids.sort_unstable();
        copies.push(clock::now() - began);
    }
    let places: BTreeMap<_, _> = listing.iter().map(|child| (child.id.clone(), child.node.clone())).collect();
    let (mut whereis, mut look_ups) = (Vec::new(), Vec::new());
    for child in listing.iter().cycle().step_by(7).take(LOOK_UPS) {
        let began = clock::now();
        let found = children.whereis(&child.id).await?;
        whereis.push(clock::now() - began);
        let began = clock::now();
        let looked_up = places.get(&child.id).and_then(Clone::clone);
        look_ups.push(clock::now() - began);
        if found.map(|location| location.node) != looked_up {
            return Err(format!("{} is not where it was listed", child.id).into());
        }
    }
    let median = |nanos: &[u64]| quantile(nanos, 500);
    Ok(Asked {
        listing_nanos: median(&listings),
        copy_nanos: median(&copies),
        whereis_nanos: median(&whereis),
        look_up_nanos: median(&look_ups),
    })
}

async fn usage(children: &Supervisor) -> Result<Usage, BoxError> {
    let stats = children.node().stats().await?;
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Ok(Usage {
        at: clock::now(),
        cpu_nanos: cpu.tv_sec.unsigned_abs() * 1_000_000_000 + cpu.tv_nsec.unsigned_abs(),
        packets: stats.datagrams_sent + stats.frames_sent,
        bytes: stats.datagram_bytes_sent + stats.frame_bytes_sent,
        resident_bytes: resident_bytes().unwrap_or(0),
        children: ALIVE.load(Ordering::Relaxed),
    })
}

/// The resident set of this process, where there is a `/proc`.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}
