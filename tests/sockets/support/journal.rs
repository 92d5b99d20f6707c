//! Children that write down when they run, and the judge of what they wrote.
//!
//! A journal is a file, so that it outlives a process that is killed and serves many of them. Each line is written
//! with one call, so that lines of several writers do not mix.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use haulout::{BoxError, Child, ChildContext, ChildSpec};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

/// Nanoseconds by a clock that all processes of the machine share.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// What a test child does. `init` and `run` are where a user's code can go wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Act {
    /// Runs until it is stopped.
    Live,
    /// Like `Live`, and takes so long to stop.
    Linger(Duration),
    /// Never gets past its `init`.
    NeverStart,
    /// Fails in its `init`.
    FailToStart,
    /// Ends at once, with success.
    Finish,
    /// Ends with an error in its first so many runs, then lives.
    Fail(u32),
    /// The same, by a panic.
    Panic(u32),
    /// Blocks its thread for so long, then lives.
    Block(Duration),
}

/// A child that keeps a journal.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Worker {
    journal: PathBuf,
    /// Tells specs of one id apart.
    note: String,
    act: Act,
    /// Written from the beginning of `init`: from then on this run must be the only one.
    #[serde(skip)]
    entry: Option<Arc<Entry>>,
}

impl Worker {
    /// The same, doing something else.
    pub(crate) fn with(&self, act: Act) -> Worker {
        Worker { act, ..self.clone() }
    }
}

impl Child for Worker {
    const KIND: &'static str = "worker";

    async fn init(&mut self, ctx: &ChildContext) -> Result<(), BoxError> {
        self.entry = Some(Arc::new(Entry::begin(&self.journal, ctx, &self.note)));
        match self.act {
            Act::FailToStart => Err("no luck at the start".into()),
            Act::NeverStart => {
                ctx.stopping().await;
                Err("told to stop before it was up".into())
            }
            _ => Ok(()),
        }
    }

    async fn run(self, ctx: ChildContext) -> Result<(), BoxError> {
        match self.act {
            Act::Finish => return Ok(()),
            Act::Fail(times) if ctx.epoch().run <= times => return Err("no luck".into()),
            Act::Panic(times) if ctx.epoch().run <= times => panic!("a child of a test panics, as it should"),
            Act::Block(time) => block(time),
            _ => {}
        }
        ctx.stopping().await;
        if let Act::Linger(time) = self.act {
            sleep(time).await;
        }
        Ok(())
    }
}

#[allow(clippy::disallowed_methods, reason = "it is about a child that blocks its thread")]
fn block(time: Duration) {
    std::thread::sleep(time);
}

/// A kind that only some nodes know.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Rare(pub(crate) Worker);

impl Child for Rare {
    const KIND: &'static str = "rare";

    async fn init(&mut self, ctx: &ChildContext) -> Result<(), BoxError> {
        self.0.init(ctx).await
    }

    async fn run(self, ctx: ChildContext) -> Result<(), BoxError> {
        self.0.run(ctx).await
    }
}

/// A line of a journal.
#[derive(Debug, Serialize, Deserialize)]
enum Line {
    Began { key: (u32, u64), at: u64, id: String, node: String, epoch: (u64, u32), note: String },
    Ended { key: (u32, u64), at: u64 },
    Killed { pid: u32, at: u64 },
}

fn write(path: &Path, line: &Line) {
    let mut text = serde_json::to_string(line).expect("a line can be written as JSON");
    text.push('\n');
    // A test that failed may have taken the directory away before its children ended.
    if let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path) {
        file.write_all(text.as_bytes()).expect("a journal can be written");
    }
}

/// A run that goes on. Its end is written when it is dropped, however that comes about.
struct Entry {
    journal: PathBuf,
    key: (u32, u64),
}

impl Entry {
    fn begin(journal: &Path, ctx: &ChildContext, note: &str) -> Entry {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let key = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let epoch = (ctx.epoch().birth, ctx.epoch().run);
        let (id, node, note) = (ctx.id().to_string(), ctx.node().to_owned(), note.to_owned());
        write(journal, &Line::Began { key, at: now(), id, node, epoch, note });
        Entry { journal: journal.to_owned(), key }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        write(&self.journal, &Line::Ended { key: self.key, at: now() });
    }
}

/// One run of a child, as the child saw it.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) node: String,
    pub(crate) epoch: (u64, u32),
    pub(crate) note: String,
    pub(crate) began: u64,
    pub(crate) ended: Option<u64>,
}

/// A directory with the journal of one test. Removed when the test has passed.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
}

impl Journal {
    pub(crate) fn new() -> Journal {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("haulout-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).expect("a directory for a journal");
        Journal { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join("journal")
    }

    /// A child that writes to this journal.
    pub(crate) fn worker(&self, act: Act) -> Worker {
        Worker { journal: self.path(), note: String::new(), act, entry: None }
    }

    pub(crate) fn spec(&self, id: &str, act: Act) -> ChildSpec {
        ChildSpec::new(id, &self.worker(act)).expect("a good spec")
    }

    /// Another spec for the same id, told apart by its note.
    pub(crate) fn noted(&self, id: &str, act: Act, note: &str) -> ChildSpec {
        ChildSpec::new(id, &Worker { note: note.into(), ..self.worker(act) }).expect("a good spec")
    }

    /// Notes that a process is gone, and its children with it.
    pub(crate) fn killed(&self, pid: u32) {
        write(&self.path(), &Line::Killed { pid, at: now() });
    }

    /// All runs in the order of their beginning.
    pub(crate) fn runs(&self) -> Vec<Run> {
        let text = std::fs::read_to_string(self.path()).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut runs: BTreeMap<(u32, u64), Run> = BTreeMap::new();
        for line in whole.lines() {
            match serde_json::from_str(line).expect("a journal is JSON") {
                Line::Began { key, at, id, node, epoch, note } => {
                    runs.insert(key, Run { id, node, epoch, note, began: at, ended: None });
                }
                Line::Ended { key, at } => runs.get_mut(&key).expect("it began").ended = Some(at),
                Line::Killed { pid, at } => {
                    for (_, run) in runs.range_mut((pid, 0)..=(pid, u64::MAX)).filter(|(_, run)| run.ended.is_none()) {
                        run.ended = Some(at);
                    }
                }
            }
        }
        let mut runs: Vec<Run> = runs.into_values().collect();
        runs.sort_by_key(|run| run.began);
        runs
    }

    pub(crate) fn runs_of(&self, id: &str) -> Vec<Run> {
        self.runs().into_iter().filter(|run| run.id == id).collect()
    }

    /// Where each child runs now; more than one place is wrong.
    pub(crate) fn running(&self) -> BTreeMap<String, Vec<String>> {
        let mut running: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for run in self.runs().into_iter().filter(|run| run.ended.is_none()) {
            running.entry(run.id).or_default().push(run.node);
        }
        running
    }

    /// Fails if a child ever was in two places, or ran under an epoch that was not higher than the one before.
    pub(crate) fn assert_no_overlap(&self) {
        let mut last: BTreeMap<String, Run> = BTreeMap::new();
        for run in self.runs() {
            if let Some(before) = last.get(&run.id) {
                let is_over = before.ended.is_some_and(|ended| ended <= run.began);
                assert!(is_over, "{} ran twice at a time: {before:?}, {run:?}", run.id);
                assert!(before.epoch < run.epoch, "epochs must rise: {before:?}, {run:?}");
            }
            last.insert(run.id.clone(), run);
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // What cannot be removed is left to the system's own cleaning.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}
