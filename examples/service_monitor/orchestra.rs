//! The cluster as its operator sees it: processes that are started, asked, killed and stopped, and the journals that
//! their monitors write.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use haulout::{BoxError, Config, Profile};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::clock;
use crate::control::{Answer, Listed, Request};
use crate::journal::Follower;
use crate::judge::{History, few};
use crate::ports::free_ports;
use crate::process::Process;
use crate::services::Service;
use crate::table::{Screen, table};

/// How long a node may take to answer a request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node may take to leave: its `leave_timeout`, then what is left of its children is stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(12);
/// How often journals are read while something is awaited.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How often the live table is drawn.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);

/// What all nodes have in common.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Where configurations, journals and logs go.
    pub(crate) dir: PathBuf,
    pub(crate) check_interval: Duration,
    pub(crate) sabotage: bool,
    pub(crate) verbose: bool,
}

/// A running cluster. Dropped, it kills its processes.
pub(crate) struct Orchestra {
    setup: Setup,
    processes: Vec<Process>,
    followers: BTreeMap<String, Follower>,
    /// Where the first nodes listen.
    seeds: Vec<SocketAddr>,
    launched: usize,
    drawn_at: u64,
    pub(crate) services: Vec<Service>,
    pub(crate) history: History,
    pub(crate) screen: Screen,
}

impl Orchestra {
    /// A cluster of no process yet; the first `nodes` ones are the seeds of all.
    pub(crate) fn new(setup: Setup, nodes: usize, services: Vec<Service>, screen: Screen) -> Result<Self, BoxError> {
        Ok(Orchestra {
            setup,
            processes: Vec::new(),
            followers: BTreeMap::new(),
            seeds: free_ports(nodes)?,
            launched: 0,
            drawn_at: 0,
            services,
            history: History::default(),
            screen,
        })
    }

    /// The names of the running nodes.
    pub(crate) fn names(&self) -> Vec<String> {
        self.processes.iter().map(|process| process.name().to_owned()).collect()
    }

    /// Starts a process for the next node and returns its name. It is not ready yet.
    pub(crate) fn launch(&mut self) -> Result<String, BoxError> {
        let bind = self.seeds.get(self.launched).copied().unwrap_or(Config::default().bind);
        self.launched += 1;
        let name = format!("node-{}", self.launched);
        let config = Config {
            cluster: "service-monitor".into(),
            name: Some(name.clone()),
            bind,
            seeds: self.seeds.iter().map(SocketAddr::to_string).collect(),
            profile: Profile::Local,
            leave_timeout: Duration::from_secs(2),
            ..Config::default()
        };
        let path = self.setup.dir.join(format!("{name}.toml"));
        std::fs::write(&path, toml::to_string(&config)?)?;
        let process = Process::spawn(&name, self.node_args(&path), &self.log_of(&name))?;
        self.screen.say(format!("{name} is process {}", process.pid()));
        self.followers.insert(name.clone(), Follower::new(&self.setup.dir, &name));
        self.processes.push(process);
        Ok(name)
    }

    fn node_args(&self, config: &Path) -> Vec<OsString> {
        let interval = humantime::format_duration(self.setup.check_interval).to_string();
        let mut args: Vec<OsString> = vec!["node".into(), "--config".into(), config.into()];
        args.extend(["--journals".into(), self.setup.dir.clone().into()]);
        args.extend(["--check-interval".into(), interval.into()]);
        args.extend(self.setup.sabotage.then(|| "--break".into()));
        args.extend(self.setup.verbose.then(|| "--verbose".into()));
        args
    }

    fn log_of(&self, name: &str) -> PathBuf {
        self.setup.dir.join(format!("{name}.log"))
    }

    /// Waits until a launched node listens.
    pub(crate) async fn ready(&mut self, name: &str) -> Result<(), BoxError> {
        let log = self.log_of(name);
        match self.process(name)?.receive(ANSWER_TIMEOUT).await {
            Ok(Answer::Ready { addr }) => {
                self.screen.say(format!("{name} listens on {addr}"));
                Ok(())
            }
            Ok(other) => Err(format!("{name} said {other:?} instead of being ready").into()),
            Err(error) => {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                Err(format!("{error}; its last words: {}", said.lines().last().unwrap_or("none")).into())
            }
        }
    }

    fn process(&mut self, name: &str) -> Result<&mut Process, BoxError> {
        let found = self.processes.iter_mut().find(|process| process.name() == name);
        found.ok_or_else(|| format!("there is no {name}").into())
    }

    /// Asks one node.
    pub(crate) async fn ask(&mut self, name: &str, request: &Request) -> Result<Answer, BoxError> {
        let answer = self.process(name)?.call(request, ANSWER_TIMEOUT).await?;
        accepted(name, request, answer)
    }

    /// Asks every node at the same moment.
    pub(crate) async fn ask_all(&mut self, request: &Request) -> Result<Vec<Answer>, BoxError> {
        for process in &mut self.processes {
            process.send(request).await?;
        }
        let mut answers = Vec::new();
        for process in &mut self.processes {
            let answer = process.receive(ANSWER_TIMEOUT).await?;
            answers.push(accepted(process.name(), request, answer)?);
        }
        Ok(answers)
    }

    /// Kills a node with SIGKILL; returns the time of the signal.
    pub(crate) async fn kill(&mut self, name: &str) -> Result<u64, BoxError> {
        let index = self.processes.iter().position(|process| process.name() == name);
        let process = self.processes.remove(index.ok_or_else(|| format!("there is no {name}"))?);
        let signalled = clock::now();
        let gone = process.kill().await?;
        self.look()?;
        self.followers.remove(name);
        self.history.killed(name, gone);
        Ok(signalled)
    }

    /// Ends one node by closing its stdin: it hands its monitors over and leaves.
    pub(crate) async fn leave(&mut self, name: &str) -> Result<(), BoxError> {
        self.ask(name, &Request::Leave).await?;
        let index = self.processes.iter().position(|process| process.name() == name);
        let process = self.processes.remove(index.ok_or_else(|| format!("there is no {name}"))?);
        process.stop(STOP_TIMEOUT).await?;
        self.look()
    }

    /// Ends all nodes at once; an error names those that did not end in order.
    pub(crate) async fn stop(&mut self) -> Result<(), BoxError> {
        let mut stopping = JoinSet::new();
        for process in self.processes.drain(..) {
            stopping.spawn(process.stop(STOP_TIMEOUT));
        }
        let mut failed = Vec::new();
        for result in stopping.join_all().await {
            failed.extend(result.err());
        }
        self.look()?;
        if failed.is_empty() { Ok(()) } else { Err(few(failed).into()) }
    }

    /// Reads what is new in the journals and draws the table.
    pub(crate) fn look(&mut self) -> Result<(), BoxError> {
        for (node, follower) in &mut self.followers {
            let reading_began = clock::now();
            self.history.record(node, follower.read()?, reading_began);
        }
        if clock::now() - self.drawn_at >= DRAW_INTERVAL.as_nanos() as u64 {
            self.screen.draw(&self.table());
            self.drawn_at = clock::now();
        }
        Ok(())
    }

    pub(crate) fn table(&self) -> Vec<String> {
        table(&self.history, &self.services, &self.names())
    }

    /// Looks until `done`; `false` when the time is over, or a monitor was seen twice, which nothing can mend.
    pub(crate) async fn until(
        &mut self,
        within: Duration,
        mut done: impl FnMut(&History) -> bool,
    ) -> Result<bool, BoxError> {
        let deadline = clock::now() + within.as_nanos() as u64;
        loop {
            self.look()?;
            if !self.history.overlaps().is_empty() {
                return Ok(false);
            }
            if done(&self.history) {
                return Ok(true);
            }
            if clock::now() > deadline {
                return Ok(false);
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Waits until every node lists exactly what the journals say. Otherwise: who listed what, at the end.
    pub(crate) async fn until_listed(&mut self, within: Duration) -> Result<Result<(), String>, BoxError> {
        let deadline = clock::now() + within.as_nanos() as u64;
        loop {
            self.look()?;
            let answers = self.ask_all(&Request::List).await?;
            let names = self.names();
            let differing = names.iter().zip(&answers).find_map(|(name, answer)| match answer {
                Answer::Listing(listed) => difference(&self.history, listed).map(|text| format!("{name} {text}")),
                other => Some(format!("{name} answered {other:?}")),
            });
            match differing {
                None => return Ok(Ok(())),
                Some(text) if clock::now() > deadline => return Ok(Err(text)),
                Some(_) => sleep(LOOK_INTERVAL).await,
            }
        }
    }

    /// Waits until every node names every node as a settled member; otherwise: who named whom.
    pub(crate) async fn until_met(&mut self, within: Duration) -> Result<Result<(), String>, BoxError> {
        let deadline = clock::now() + within.as_nanos() as u64;
        let everyone = Answer::Members(self.names().into_iter().collect::<BTreeSet<_>>().into_iter().collect());
        loop {
            let answers = self.ask_all(&Request::Members).await?;
            let differing = self.names().into_iter().zip(answers).find(|(_, answer)| *answer != everyone);
            match differing {
                None => return Ok(Ok(())),
                Some((name, answer)) if clock::now() > deadline => return Ok(Err(format!("{name} names {answer:?}"))),
                Some(_) => sleep(LOOK_INTERVAL).await,
            }
        }
    }

    /// Only looks, for so long.
    pub(crate) async fn watch(&mut self, duration: Duration) -> Result<(), BoxError> {
        let end = clock::now() + duration.as_nanos() as u64;
        while clock::now() < end {
            self.look()?;
            sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }
}

fn accepted(name: &str, request: &Request, answer: Answer) -> Result<Answer, BoxError> {
    match answer {
        Answer::Refused(reason) => Err(format!("{name} refused {request:?}: {reason}").into()),
        answer => Ok(answer),
    }
}

/// How a listing differs from the journals, if it does.
fn difference(history: &History, listed: &[Listed]) -> Option<String> {
    let real = history.whereabouts();
    let running: BTreeSet<_> = listed
        .iter()
        .filter(|child| child.state == "running")
        .map(|child| (child.id.as_str(), child.node.as_str()))
        .collect();
    let others = listed.iter().filter(|child| child.state != "running");
    let others: Vec<_> = others.map(|child| format!("{} ({})", child.id, child.state)).collect();
    if running == real && others.is_empty() {
        return None;
    }
    let place = |(id, node): &(&str, &str)| format!("{id} on {node}");
    let missing = few(real.difference(&running).map(place));
    let surplus = few(running.difference(&real).map(place));
    Some(format!("does not list {missing}; wrongly lists {surplus}; lists as not running {}", few(others)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Entry;

    #[test]
    fn a_listing_that_differs_from_the_journals_is_described() {
        let mut history = History::default();
        history.record("one", Entry::parse("1 start a one 1 1.1").into_iter().collect(), 5);
        let listed =
            |id: &str, node: &str, state: &str| Listed { id: id.into(), node: node.into(), state: state.into() };
        assert_eq!(difference(&history, &[listed("a", "one", "running")]), None);
        assert_eq!(
            difference(&history, &[listed("a", "two", "running"), listed("b", "-", "pending")]).as_deref(),
            Some("does not list a on one; wrongly lists a on two; lists as not running b (pending)")
        );
        assert!(difference(&history, &[]).is_some());
    }
}
