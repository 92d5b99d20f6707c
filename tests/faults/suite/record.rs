//! What happened to a cluster of processes, written down as the simulator does it, so that the same code measures both;
//! and whether it was as promised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use haulout::proto::{Command, InstanceId, RequestId, ScopeId, Time};
use haulout::{BoxError, ChildId, ChildSpec, Outcome};
use haulout_sim::NodeIdx;
use haulout_sim::history::{Call, Fault, FaultKind, History};
use haulout_sim::journal::{Ending, Journal, Run};

use super::links::Links;
use crate::journal::{Entry, What};

/// How long after a fault between two nodes an overlap of theirs may begin: each holds the other for dead until they have
/// met again.
const MEETING: Duration = Duration::from_secs(2);

/// A process that is killed so soon after it started a child, until it was found to be gone, may have told nobody of it. Epochs
/// rise along failovers whose claims were seen; who takes over from it counts on from what it has heard of, to the same number.
const UNTOLD_MAX: Duration = Duration::from_millis(50);

/// What happened to a cluster of processes.
#[derive(Debug)]
pub(crate) struct Record {
    /// The clock of the machine when it began.
    began: u64,
    names: Vec<String>,
    history: History,
    /// The monitors that are desired, by the answers that users got.
    pub(crate) desired: BTreeSet<String>,
}

impl Record {
    pub(crate) fn new(began: u64, names: Vec<String>) -> Record {
        Record { began, names, history: History::default(), desired: BTreeSet::new() }
    }

    /// The time since it began.
    pub(crate) fn time(&self, at: u64) -> Time {
        Time::from_nanos(at.saturating_sub(self.began))
    }

    fn node(&self, name: &str) -> NodeIdx {
        NodeIdx(self.names.iter().position(|other| other == name).unwrap_or(usize::MAX))
    }

    /// A start was accepted.
    pub(crate) fn started(&mut self, id: &str) {
        self.desired.insert(id.to_owned());
    }

    /// A terminate was accepted that was asked at this time.
    pub(crate) fn terminated(&mut self, id: &str, on: &str, asked: u64) -> Result<(), BoxError> {
        self.desired.remove(id);
        let command = Command::Terminate { scope: scope(), id: ChildId::new(id)?, replicated: 0 };
        self.history.calls.push(Call {
            request: RequestId(self.history.calls.len() as u64),
            node: self.node(on),
            instance: None,
            command,
            called: self.time(asked),
            answer: None,
            cancelled: false,
        });
        Ok(())
    }

    /// A process was stopped.
    pub(crate) fn paused(&mut self, name: &str, at: u64) {
        self.begin(FaultKind::Paused(self.node(name)), at);
    }

    /// A process was continued.
    pub(crate) fn resumed(&mut self, name: &str, at: u64) {
        let node = self.node(name);
        self.end_all(at, |kind| *kind == FaultKind::Paused(node));
    }

    /// The links are like this from some moment between these two on; what they were like before was so until then.
    pub(crate) fn linked(&mut self, links: &Links, after: u64, before: u64) {
        self.end_all(before, |kind| matches!(kind, FaultKind::Cut(..) | FaultKind::Degraded(..)));
        for ((from, to), way) in links {
            let (from, to) = (self.node(from), self.node(to));
            self.begin(FaultKind::Degraded(from, to), after);
            if let Some(class) = way.cut {
                self.begin(FaultKind::Cut(from, to, class), after);
            }
        }
    }

    fn begin(&mut self, kind: FaultKind, at: u64) {
        self.history.faults.push(Fault { kind, from: self.time(at), to: None });
    }

    fn end_all(&mut self, at: u64, ends: impl Fn(&FaultKind) -> bool) {
        let now = self.time(at);
        for fault in self.history.faults.iter_mut().filter(|fault| fault.to.is_none() && ends(&fault.kind)) {
            fault.to = Some(now);
        }
    }

    /// The runs of the monitors, by their own words and by who was killed.
    pub(crate) fn journal(&self, entries: &[Entry], kills: &[(u32, u64)]) -> Result<Journal, BoxError> {
        let mut entries: Vec<&Entry> = entries.iter().collect();
        entries.sort_by_key(|entry| entry.at);
        let mut journal = Journal::default();
        let mut alive: BTreeMap<(u32, &str), usize> = BTreeMap::new();
        for entry in entries {
            let key = (entry.pid, entry.subject.as_str());
            match entry.what {
                What::Start => {
                    alive.insert(key, journal.begin(self.run(entry)?));
                }
                What::Stop => {
                    let run = alive.remove(&key).ok_or_else(|| format!("{entry:?} ends what never began"))?;
                    journal.end(run, self.time(entry.at), Ending::Exited(Outcome::Stopped));
                }
                What::Check(_) | What::Lost => {}
            }
        }
        for (pid, gone) in kills {
            for (_, run) in alive.range((*pid, "")..(*pid + 1, "")) {
                journal.end(*run, self.time(*gone), Ending::Killed);
            }
        }
        Ok(journal)
    }

    fn run(&self, entry: &Entry) -> Result<Run, BoxError> {
        let child = ChildSpec::raw(entry.subject.as_str(), "service-monitor", Vec::new())?;
        Ok(Run {
            node: self.node(&entry.node),
            instance: InstanceId::new(entry.pid.into()),
            scope: scope(),
            id: child.id().clone(),
            epoch: entry.epoch,
            spec: Arc::new(child.spec().clone()),
            began: self.time(entry.at),
            started: Some(self.time(entry.at)),
            signalled: None,
            shutdown: None,
            ended: None,
            ending: None,
        })
    }

    /// Where each monitor runs.
    pub(crate) fn running(&self, journal: &Journal) -> BTreeMap<String, Vec<String>> {
        let mut running: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for run in journal.alive() {
            running.entry(run.id.to_string()).or_default().push(self.names[run.node.0].clone());
        }
        running
    }

    /// The promises that were broken, in words. `healed` is when the last fault was over.
    pub(crate) fn broken(&self, journal: &Journal, healed: Time) -> Vec<String> {
        let overlaps = journal.overlaps();
        let mut broken = Vec::new();
        for overlap in &overlaps {
            if !self.were_kept_apart([overlap.earlier, overlap.later], overlap.from) {
                let [earlier, later] = [overlap.earlier, overlap.later].map(|node| &self.names[node.0]);
                broken.push(format!(
                    "{} ran on {earlier} and {later} from {:?} to {:?}, and no fault kept them apart",
                    overlap.id, overlap.from, overlap.to
                ));
            }
        }
        let mut last: BTreeMap<&ChildId, &Run> = BTreeMap::new();
        for run in journal.runs() {
            let before = last.insert(&run.id, run);
            let is_excused = |before: &Run| {
                let is_counted_anew = before.epoch == run.epoch && is_untold(before);
                is_counted_anew || self.were_touched([before.node, run.node], before.began, run.began)
            };
            if let Some(before) = before.filter(|before| before.epoch >= run.epoch && !is_excused(before)) {
                broken.push(format!("{} ran as {} after {}", run.id, run.epoch, before.epoch));
            }
            if run.began > healed && !self.desired.contains(&run.id.to_string()) {
                broken.push(format!("{} was terminated and ran again from {:?}", run.id, run.began));
            }
        }
        broken
    }

    /// Whether a fault lay between two nodes, or touched one of them as a whole, until shortly before.
    fn were_kept_apart(&self, nodes: [NodeIdx; 2], at: Time) -> bool {
        let mut faults = self.history.faults_between(at - MEETING, at);
        faults.any(|fault| match fault.kind.link() {
            Some(ends) => ends.iter().all(|end| nodes.contains(end)),
            None => nodes.iter().any(|&node| fault.touches(node)),
        })
    }

    /// Whether a fault touched one of two nodes, even if only a third was behind it: that one may know of runs that they
    /// have not heard of.
    fn were_touched(&self, nodes: [NodeIdx; 2], from: Time, to: Time) -> bool {
        let mut faults = self.history.faults_between(from, to);
        faults.any(|fault| nodes.iter().any(|&node| fault.touches(node)))
    }

    /// What users and faults did.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }
}

/// Whether a run was over before its process can be relied on to have told anybody of it.
fn is_untold(run: &Run) -> bool {
    run.ending == Some(Ending::Killed) && run.ended.is_some_and(|ended| ended.since(run.began) < UNTOLD_MAX)
}

fn scope() -> ScopeId {
    ScopeId::of("monitors")
}
