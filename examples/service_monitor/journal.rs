//! The monitors' own log: a line when one starts, a line when no code of it runs any more, a line for each check.
//!
//! One file per process, only ever appended to, each line in a single write. The judge reads nothing else.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use haulout::{ChildContext, Epoch};

use crate::clock;

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A monitor's first line.
    Start,
    /// A monitor's last line.
    Stop,
    /// The result of a check, in the monitor's words.
    Check(String),
    /// This node learnt that the member named as subject is down.
    Lost,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) at: u64,
    pub(crate) what: What,
    /// The monitor, or the member that was lost.
    pub(crate) subject: String,
    pub(crate) node: String,
    pub(crate) pid: u32,
    pub(crate) epoch: Epoch,
}

impl Entry {
    /// `time what subject node pid epoch result...`
    fn line(&self) -> String {
        let Entry { at, what, subject, node, pid, epoch } = self;
        let (word, result) = match what {
            What::Start => ("start", ""),
            What::Stop => ("stop", ""),
            What::Check(result) => ("check", result.as_str()),
            What::Lost => ("lost", ""),
        };
        let line = format!("{at} {word} {subject} {node} {pid} {epoch} {result}");
        line.trim_end().replace('\n', " ") + "\n"
    }

    /// Reads what [`line`](Self::line) wrote; `None` for anything else.
    pub(crate) fn parse(line: &str) -> Option<Entry> {
        let mut words = line.splitn(7, ' ');
        let at = words.next()?.parse().ok()?;
        let word = words.next()?;
        let subject = words.next()?.to_owned();
        let node = words.next()?.to_owned();
        let pid = words.next()?.parse().ok()?;
        let (birth, run) = words.next()?.split_once('.')?;
        let epoch = Epoch { birth: birth.parse().ok()?, run: run.parse().ok()? };
        let what = match word {
            "start" => What::Start,
            "stop" => What::Stop,
            "check" => What::Check(words.next().unwrap_or_default().to_owned()),
            "lost" => What::Lost,
            _ => return None,
        };
        Some(Entry { at, what, subject, node, pid, epoch })
    }
}

/// Where a node's lines are.
pub(crate) fn path(dir: &Path, node: &str) -> PathBuf {
    dir.join(format!("{node}.journal"))
}

/// One monitor's run as its log sees it: from [`open`](Run::open) until it is dropped, however it ends.
pub(crate) struct Run {
    file: File,
    id: String,
    node: String,
    epoch: Epoch,
}

impl Run {
    pub(crate) fn open(dir: &Path, ctx: &ChildContext) -> io::Result<Run> {
        let file = append(dir, ctx.node())?;
        let mut run = Run { file, id: ctx.id().to_string(), node: ctx.node().to_owned(), epoch: ctx.epoch() };
        run.write(What::Start)?;
        Ok(run)
    }

    pub(crate) fn checked(&mut self, result: String) -> io::Result<()> {
        self.write(What::Check(result))
    }

    fn write(&mut self, what: What) -> io::Result<()> {
        let Run { id, node, epoch, .. } = &self;
        let pid = std::process::id();
        let entry = Entry { at: clock::now(), what, subject: id.clone(), node: node.clone(), pid, epoch: *epoch };
        self.file.write_all(entry.line().as_bytes())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Err(error) = self.write(What::Stop) {
            tracing::error!(id = self.id, %error, "the journal can't be written");
        }
    }
}

/// Notes that `node` learnt of the loss of `member`.
pub(crate) fn lost(dir: &Path, node: &str, member: &str) -> io::Result<()> {
    let (subject, node) = (member.to_owned(), node.to_owned());
    let mut file = append(dir, &node)?;
    let pid = std::process::id();
    let entry = Entry { at: clock::now(), what: What::Lost, subject, node, pid, epoch: Epoch::default() };
    file.write_all(entry.line().as_bytes())
}

fn append(dir: &Path, node: &str) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path(dir, node))
}

/// Follows a journal while it is being written.
pub(crate) struct Follower {
    path: PathBuf,
    /// How far it has been read: always the start of a line.
    position: u64,
}

impl Follower {
    pub(crate) fn new(dir: &Path, node: &str) -> Self {
        Follower { path: path(dir, node), position: 0 }
    }

    /// The lines written since the last call. An unfinished last line is left for the next.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Entry>> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        file.seek(SeekFrom::Start(self.position))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        self.position += whole as u64;
        let text = String::from_utf8_lossy(&bytes[..whole]);
        text.lines()
            .map(|line| {
                let what = || format!("{}: not a line of a journal: {line:?}", self.path.display());
                Entry::parse(line).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, what()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(what: What) -> Entry {
        let epoch = Epoch { birth: 12, run: 3 };
        Entry { at: 17, what, subject: "127.0.0.1:80".into(), node: "node-1".into(), pid: 42, epoch }
    }

    #[test]
    fn every_entry_is_read_as_it_was_written() {
        for what in [What::Start, What::Stop, What::Lost, What::Check("up in 3 ms".into())] {
            let entry = entry(what);
            assert_eq!(Entry::parse(entry.line().trim_end()), Some(entry));
        }
        assert_eq!(Entry::parse("17 begin a node-1 42 1.1"), None);
        assert_eq!(Entry::parse(""), None);
    }

    #[test]
    fn a_result_of_several_lines_stays_one_line() {
        let line = entry(What::Check("down:\nrefused".into())).line();
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn a_follower_leaves_an_unfinished_line_for_later() -> io::Result<()> {
        let dir = std::env::temp_dir().join(format!("service_monitor-journal-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let mut follower = Follower::new(&dir, "node-1");
        assert_eq!(follower.read()?, []);
        let line = entry(What::Start).line();
        let (head, tail) = line.split_at(9);
        let mut file = append(&dir, "node-1")?;
        file.write_all(head.as_bytes())?;
        assert_eq!(follower.read()?, []);
        file.write_all(tail.as_bytes())?;
        assert_eq!(follower.read()?, [entry(What::Start)]);
        assert_eq!(follower.read()?, []);
        std::fs::remove_dir_all(&dir)
    }
}
