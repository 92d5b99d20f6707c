//! A cluster of processes, each on a host of its own: what its operator does to it, and the journals of its monitors.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use haulout::{BoxError, Config, Key, Security};
use haulout_sim::Scenario;
use haulout_sim::scenario::How;
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::JoinSet;

use super::delay::Delay;
use super::lab::{Host, Lab};
use super::links::{Links, rules};
use crate::control::{Answer, Listed, Request};
use crate::journal::{Entry, Follower};
use crate::process::Process;

/// How long a node may take to answer, to be ready, and to leave.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What monitors watch: nobody listens there, so that each check is over at once.
const TARGET: &str = "127.0.0.1:9";
const CHECK_INTERVAL: &str = "1s";

/// A host, and the process on it if one runs.
struct Seat {
    host: Host,
    process: Option<Process>,
    is_paused: bool,
    delay: Option<Delay>,
    follower: Follower,
}

/// A cluster of processes.
pub(crate) struct Stage {
    dir: PathBuf,
    /// What all nodes have in common, seeds included.
    config: Config,
    seats: BTreeMap<String, Seat>,
    entries: Vec<Entry>,
    /// The processes that were killed, and when they were certainly gone.
    kills: Vec<(u32, u64)>,
}

impl Stage {
    /// The hosts of a scenario, without processes.
    pub(crate) async fn build(scenario: &Scenario, number: u8, dir: &Path) -> Result<Stage, BoxError> {
        std::fs::create_dir_all(dir)?;
        let lab = Lab::new(number).await?;
        let mut seats = BTreeMap::new();
        let mut seeds = Vec::new();
        for (node, place) in scenario.nodes().into_iter().zip(1..) {
            let host = lab.connect(place).await?;
            if seeds.len() < scenario.cluster.seeds {
                seeds.push(host.socket_addr().to_string());
            }
            let follower = Follower::new(dir, &node.name);
            seats.insert(node.name, Seat { host, process: None, is_paused: false, delay: None, follower });
        }
        let security = Security::Keyring { keys: vec![Key::generate()], file: None, env: None };
        let config = Config { seeds, security, ..scenario.config.clone() };
        Ok(Stage { dir: dir.to_owned(), config, seats, entries: Vec::new(), kills: Vec::new() })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.seats.keys().cloned().collect()
    }

    fn seat(&mut self, name: &str) -> Result<&mut Seat, BoxError> {
        self.seats.get_mut(name).ok_or_else(|| format!("there is no {name}").into())
    }

    /// Starts the processes of these nodes at once, where none runs, and waits until they listen.
    pub(crate) async fn start(&mut self, names: &[String]) -> Result<(), BoxError> {
        let mut started = Vec::new();
        for name in names {
            if self.seat(name)?.process.is_none() {
                self.launch(name)?;
                started.push(name);
            }
        }
        for name in started {
            let process = self.seat(name)?.process.as_mut().ok_or("it was just started")?;
            match process.receive(ANSWER_TIMEOUT).await? {
                Answer::Ready { .. } => {}
                other => return Err(format!("{name} said {other:?} instead of being ready").into()),
            }
        }
        Ok(())
    }

    fn launch(&mut self, name: &str) -> Result<(), BoxError> {
        let bind = self.seat(name)?.host.socket_addr();
        let config = Config { name: Some(name.into()), bind, ..self.config.clone() };
        let file = self.dir.join(format!("{name}.toml"));
        std::fs::write(&file, toml::to_string(&config)?)?;
        let mut command = self.seat(name)?.host.command(std::env::current_exe()?.as_os_str());
        command.args(["node", "--check-interval", CHECK_INTERVAL]);
        command.arg("--config").arg(file).arg("--journals").arg(&self.dir);
        let log = self.dir.join(format!("{name}.log"));
        self.seat(name)?.process = Some(Process::run(name, command, &log)?);
        Ok(())
    }

    /// A node goes, if it is there.
    pub(crate) async fn go(&mut self, name: &str, how: How) -> Result<(), BoxError> {
        let seat = self.seat(name)?;
        if seat.is_paused {
            return Ok(());
        }
        let Some(mut process) = seat.process.take() else { return Ok(()) };
        let pid = process.pid();
        match how {
            How::Leave => {
                process.call::<Answer>(&Request::Leave, ANSWER_TIMEOUT).await?;
                return process.stop(ANSWER_TIMEOUT).await;
            }
            How::Power => seat.host.plug(false).await?,
            How::Crash => {}
        }
        let gone = process.kill().await?;
        self.kills.push((pid, gone));
        Ok(())
    }

    /// Those of these nodes that went come back.
    pub(crate) async fn back(&mut self, names: &[String]) -> Result<(), BoxError> {
        for name in names {
            self.seat(name)?.host.plug(true).await?;
        }
        self.start(names).await
    }

    /// The host of a node that is down gets another address.
    pub(crate) async fn readdress(&mut self, name: &str) -> Result<(), BoxError> {
        self.seat(name)?.host.readdress().await
    }

    /// Stops a process (SIGSTOP), or lets it continue; whether anything came of it.
    pub(crate) fn pause(&mut self, name: &str, paused: bool) -> Result<bool, BoxError> {
        let seat = self.seat(name)?;
        let Some(process) = seat.process.as_ref().filter(|_| seat.is_paused != paused) else { return Ok(false) };
        let pid = Pid::from_raw(process.pid().try_into()?).ok_or("no process id")?;
        kill_process(pid, if paused { Signal::STOP } else { Signal::CONT })?;
        seat.is_paused = paused;
        Ok(true)
    }

    /// The links are like this from now on.
    pub(crate) async fn link(&mut self, links: &Links) -> Result<(), BoxError> {
        let addrs: BTreeMap<String, _> = self.seats.iter().map(|(name, seat)| (name.clone(), seat.host.addr)).collect();
        let mut filters = JoinSet::new();
        for (name, seat) in &mut self.seats {
            let delay = links.iter().filter(|((_, to), _)| to == name).find_map(|(_, way)| way.delay);
            seat.delay = delay.map(|range| Delay::start(&seat.host, range)).transpose()?;
            let rules = rules(links, name, |from| addrs.get(from).copied());
            let host = seat.host.clone();
            filters.spawn(async move { host.filter(&rules).await });
        }
        filters.join_all().await.into_iter().collect()
    }

    /// Asks a node as its user; `None` if it is not there or refuses.
    pub(crate) async fn call(&mut self, name: &str, request: Request) -> Result<Option<Answer>, BoxError> {
        let seat = self.seat(name)?;
        let Some(process) = seat.process.as_mut().filter(|_| !seat.is_paused) else { return Ok(None) };
        let answer = process.call(&request, ANSWER_TIMEOUT).await?;
        Ok(Some(answer).filter(|answer| !matches!(answer, Answer::Refused(_))))
    }

    /// What starts the monitor with this id.
    pub(crate) fn start_of(id: &str) -> Request {
        Request::Start { id: id.into(), target: TARGET.into() }
    }

    /// What is new in the journals.
    pub(crate) fn look(&mut self) -> Result<(), BoxError> {
        for seat in self.seats.values_mut() {
            self.entries.extend(seat.follower.read()?);
        }
        Ok(())
    }

    /// What the journals have said so far.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn kills(&self) -> &[(u32, u64)] {
        &self.kills
    }

    /// `Ok` if every node names all others, and lists exactly these monitors, as running, all in the same places. Returns
    /// these.
    pub(crate) async fn agree(&mut self, wanted: &BTreeSet<String>) -> Result<BTreeMap<String, String>, String> {
        let names = self.names();
        let mut first: Option<Vec<Listed>> = None;
        for name in &names {
            let mut ask = async |request| self.call(name, request).await.map_err(|error| error.to_string());
            match ask(Request::Members).await? {
                Some(Answer::Members(members)) if members == names => {}
                other => return Err(format!("{name} names {other:?}")),
            }
            let Some(Answer::Listing(listed)) = ask(Request::List).await? else {
                return Err(format!("{name} lists nothing"));
            };
            if let Some(child) = listed.iter().find(|child| child.state != "running") {
                return Err(format!("{name} lists {child:?}"));
            }
            if !listed.iter().map(|child| &child.id).eq(wanted) {
                return Err(format!("{name} lists {} monitors of {}", listed.len(), wanted.len()));
            }
            if first.get_or_insert_with(|| listed.clone()) != &listed {
                return Err(format!("{name} lists other places than {}", names[0]));
            }
        }
        let places = first.unwrap_or_default().into_iter().map(|child| (child.id, child.node));
        Ok(places.collect())
    }

    /// Ends all processes in order.
    pub(crate) async fn end(&mut self) -> Result<(), BoxError> {
        let mut stopping = JoinSet::new();
        for process in self.seats.values_mut().filter_map(|seat| seat.process.take()) {
            stopping.spawn(process.stop(2 * ANSWER_TIMEOUT));
        }
        stopping.join_all().await.into_iter().collect()
    }
}
