//! Processes of our own, spoken to line by line: a request on their stdin, an answer on their stdout, both JSON.
//!
//! Nothing outlives its parent: a process ends when its stdin does, and is killed, by its own id, when its
//! [`Process`] is dropped. Nothing is waited for without a limit.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use haulout::BoxError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::clock;

/// A child process that answers requests.
pub(crate) struct Process {
    name: String,
    pid: u32,
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    /// Set when an answer is overdue: whatever comes later would be taken for the answer to the next request.
    out_of_step: bool,
}

impl Process {
    /// Starts this executable again, with other arguments; what it logs goes to `stderr`.
    pub(crate) fn spawn(
        name: &str,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
        stderr: &Path,
    ) -> Result<Process, BoxError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args);
        Process::run(name, command, stderr)
    }

    /// Starts a command that becomes a process which answers requests.
    pub(crate) fn run(name: &str, mut command: Command, stderr: &Path) -> Result<Process, BoxError> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(stderr)?)
            // A group of its own: Ctrl-C reaches only the parent, which then ends its processes.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().ok_or("it ended at once")?;
        let stdin = child.stdin.take().ok_or("it has no stdin")?;
        let stdout = child.stdout.take().ok_or("it has no stdout")?;
        let stdout = BufReader::new(stdout).lines();
        Ok(Process { name: name.into(), pid, child, stdin, stdout, out_of_step: false })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks and waits for the answer.
    pub(crate) async fn call<A: DeserializeOwned>(
        &mut self,
        request: &impl Serialize,
        within: Duration,
    ) -> Result<A, BoxError> {
        self.send(request).await?;
        self.receive(within).await
    }

    /// Asks; the answer is fetched with [`receive`](Self::receive), so that several processes can be asked at once.
    pub(crate) async fn send(&mut self, request: &impl Serialize) -> Result<(), BoxError> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        self.stdin
            .write_all(line.as_bytes())
            .await
            .map_err(|error| format!("{} can't be asked: {error}", self.name))?;
        Ok(())
    }

    /// Waits for the next line that the process writes.
    pub(crate) async fn receive<A: DeserializeOwned>(&mut self, within: Duration) -> Result<A, BoxError> {
        if self.out_of_step {
            return Err(format!("{} has not answered an earlier request", self.name).into());
        }
        match timeout(within, self.stdout.next_line()).await {
            Ok(line) => {
                let line = line?.ok_or_else(|| format!("{} ended", self.name))?;
                serde_json::from_str(&line).map_err(|error| format!("{} wrote {line:?}: {error}", self.name).into())
            }
            Err(_) => {
                self.out_of_step = true;
                Err(format!("{} did not answer within {within:?}", self.name).into())
            }
        }
    }

    /// Ends it with SIGKILL; returns the time at which it was certainly gone.
    pub(crate) async fn kill(mut self) -> Result<u64, BoxError> {
        self.child.kill().await?;
        Ok(clock::now())
    }

    /// Closes its stdin, upon which it ends by itself, or is killed when the time is over.
    pub(crate) async fn stop(self, within: Duration) -> Result<(), BoxError> {
        let Process { name, mut child, stdin, .. } = self;
        drop(stdin);
        match timeout(within, child.wait()).await {
            Ok(status) => match status? {
                status if status.success() => Ok(()),
                status => Err(format!("{name} ended with {status}").into()),
            },
            Err(_) => {
                child.kill().await?;
                Err(format!("{name} did not end within {within:?} and was killed").into())
            }
        }
    }
}

/// The other side: the lines on stdin of this process.
pub(crate) struct Requests(Lines<BufReader<tokio::io::Stdin>>);

impl Requests {
    pub(crate) fn new() -> Self {
        Requests(BufReader::new(tokio::io::stdin()).lines())
    }

    /// The next request, `None` when the parent has closed the pipe or is gone.
    pub(crate) async fn next<Q: DeserializeOwned>(&mut self) -> Result<Option<Q>, BoxError> {
        match self.0.next_line().await? {
            Some(line) => Ok(Some(serde_json::from_str(&line)?)),
            None => Ok(None),
        }
    }
}

/// Writes one line to the parent.
pub(crate) async fn answer(message: &impl Serialize) -> Result<(), BoxError> {
    let mut line = serde_json::to_string(message)?;
    line.push('\n');
    let mut stdout = tokio::io::stdout();
    stdout.write_all(line.as_bytes()).await?;
    stdout.flush().await?;
    Ok(())
}
