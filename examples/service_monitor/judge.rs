//! The judge: what really ran, where and when, by the monitors' own words; and whether that was as it should be.
//!
//! It never asks the library. What it knows are the lines of the journals, and when processes were killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use haulout::Epoch;

use crate::clock::show;
use crate::journal::{Entry, What};

/// One run of a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) id: String,
    pub(crate) node: String,
    pub(crate) pid: u32,
    pub(crate) epoch: Epoch,
    pub(crate) started: u64,
    /// When its last line was written, or its process was killed.
    pub(crate) stopped: Option<u64>,
}

/// The last check of a monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) at: u64,
    pub(crate) result: String,
}

/// A monitor that was seen on two nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Overlap {
    pub(crate) id: String,
    pub(crate) nodes: [String; 2],
    /// For how long at least.
    pub(crate) lasted: Duration,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Overlap { id, nodes: [first, second], lasted } = self;
        write!(f, "{id} on {first} and {second} for {}", show(*lasted))
    }
}

/// Everything that the journals have said so far.
#[derive(Debug, Default)]
pub(crate) struct History {
    runs: Vec<Run>,
    checks: BTreeMap<String, Check>,
    /// When each member was first missed by another, by the member's name.
    losses: BTreeMap<String, u64>,
    /// Up to when the journal of a node is known. A run without a last line is known to have lived until then.
    known_until: BTreeMap<String, u64>,
}

impl History {
    /// Takes over what was read from the journal of `node`; `reading_began` is the time *before* it was opened.
    pub(crate) fn record(&mut self, node: &str, entries: Vec<Entry>, reading_began: u64) {
        for entry in entries {
            self.record_entry(entry);
        }
        self.known_until.insert(node.to_owned(), reading_began);
    }

    fn record_entry(&mut self, entry: Entry) {
        let Entry { at, what, subject: id, node, pid, epoch } = entry;
        match what {
            What::Start => self.runs.push(Run { id, node, pid, epoch, started: at, stopped: None }),
            What::Stop => {
                let same = |run: &&mut Run| run.id == id && run.pid == pid && run.epoch == epoch;
                if let Some(run) = self.runs.iter_mut().rev().filter(|run| run.stopped.is_none()).find(same) {
                    run.stopped = Some(at);
                }
            }
            What::Check(result) => {
                let last = self.checks.entry(id).or_insert(Check { at, result: result.clone() });
                if last.at <= at {
                    *last = Check { at, result };
                }
            }
            What::Lost => {
                let first = self.losses.entry(id).or_insert(at);
                *first = at.min(*first);
            }
        }
    }

    /// The process of this node was gone at this time, and with it every run that it could not end itself.
    pub(crate) fn killed(&mut self, node: &str, at: u64) {
        for run in self.runs.iter_mut().filter(|run| run.node == node) {
            run.stopped.get_or_insert(at);
        }
    }

    /// The runs that have not ended, by monitor.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.stopped.is_none())
    }

    /// Which monitors run on this node, sorted.
    pub(crate) fn running_on(&self, node: &str) -> BTreeSet<&str> {
        self.running().filter(|run| run.node == node).map(|run| run.id.as_str()).collect()
    }

    /// Pairs of monitor and node of everything that runs, sorted.
    pub(crate) fn whereabouts(&self) -> BTreeSet<(&str, &str)> {
        self.running().map(|run| (run.id.as_str(), run.node.as_str())).collect()
    }

    /// The runs that began after this time.
    pub(crate) fn started_since(&self, time: u64) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.started > time)
    }

    /// The runs of one monitor, in the order of their first lines.
    pub(crate) fn runs_of(&self, id: &str) -> Vec<&Run> {
        let mut runs: Vec<_> = self.runs.iter().filter(|run| run.id == id).collect();
        runs.sort_by_key(|run| run.started);
        runs
    }

    /// When a run last began or ended.
    pub(crate) fn last_change(&self) -> u64 {
        self.runs.iter().flat_map(|run| [Some(run.started), run.stopped]).flatten().max().unwrap_or(0)
    }

    pub(crate) fn last_check(&self, id: &str) -> Option<&Check> {
        self.checks.get(id)
    }

    /// When the first survivor learnt of the loss of this member.
    pub(crate) fn lost_at(&self, member: &str) -> Option<u64> {
        self.losses.get(member).copied()
    }

    /// Every two runs of one monitor that lived at the same time.
    pub(crate) fn overlaps(&self) -> Vec<Overlap> {
        let mut overlaps = Vec::new();
        for runs in self.by_monitor().values() {
            for (index, first) in runs.iter().enumerate() {
                let ended = self.lived_until(first);
                for second in runs[index + 1..].iter().take_while(|second| second.started < ended) {
                    let lasted = ended.min(self.lived_until(second)).saturating_sub(second.started);
                    overlaps.push(Overlap {
                        id: first.id.clone(),
                        nodes: [first.node.clone(), second.node.clone()],
                        lasted: Duration::from_nanos(lasted),
                    });
                }
            }
        }
        overlaps
    }

    /// Runs of one monitor that do not have a higher epoch than the run before, as text.
    pub(crate) fn epochs_not_rising(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (id, runs) in self.by_monitor() {
            for pair in runs.windows(2).filter(|pair| pair[1].epoch <= pair[0].epoch) {
                wrong.push(format!("{id}: {} after {}", pair[1].epoch, pair[0].epoch));
            }
        }
        wrong
    }

    /// From the last line on another node to the first line here, for each of these runs that took over.
    pub(crate) fn gaps<'a>(&self, taken_over: impl IntoIterator<Item = &'a Run>) -> Vec<Duration> {
        let gap = |run: &Run| {
            let runs = self.runs_of(&run.id);
            let before = runs.into_iter().rfind(|other| other.started < run.started)?;
            (before.node != run.node).then_some(run.started.saturating_sub(before.stopped?))
        };
        taken_over.into_iter().filter_map(gap).map(Duration::from_nanos).collect()
    }

    fn by_monitor(&self) -> BTreeMap<&str, Vec<&Run>> {
        let mut monitors: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
        for run in &self.runs {
            monitors.entry(&run.id).or_default().push(run);
        }
        monitors.values_mut().for_each(|runs| runs.sort_by_key(|run| run.started));
        monitors
    }

    /// Journals are read one after another, so a run on one node may have ended unseen before another began. It is
    /// taken to be alive only up to the moment before its journal was last read.
    fn lived_until(&self, run: &Run) -> u64 {
        run.stopped.unwrap_or_else(|| self.known_until.get(&run.node).copied().unwrap_or(run.started))
    }
}

/// One thing that had to be so, and whether it was.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) held: bool,
    pub(crate) expected: String,
    pub(crate) seen: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { held, expected, seen } = self;
        let verdict = if *held { "ok    " } else { "FAILED" };
        write!(f, "{verdict}  {expected}: {seen}")
    }
}

/// Median and longest of some durations, for a line of the summary.
pub(crate) fn spread(durations: &[Duration]) -> String {
    let mut sorted = durations.to_vec();
    sorted.sort();
    match sorted.as_slice() {
        [] => "none".into(),
        sorted => format!("median {}, longest {}", show(sorted[sorted.len() / 2]), show(sorted[sorted.len() - 1])),
    }
}

/// The first few of a list, for a message.
pub(crate) fn few<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    match items.as_slice() {
        [] => "none".into(),
        shown if shown.len() <= 4 => shown.join(", "),
        many => format!("{} and {} more", many[..4].join(", "), many.len() - 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the journal `lines` of two nodes say, each read up to the time given.
    fn history(journals: [(&str, u64, &str); 2]) -> History {
        let mut history = History::default();
        for (node, read_at, lines) in journals {
            let entries = lines.lines().filter_map(|line| Entry::parse(line.trim())).collect();
            history.record(node, entries, read_at);
        }
        history
    }

    fn overlaps(history: &History) -> Vec<(String, u128)> {
        history.overlaps().into_iter().map(|overlap| (overlap.id, overlap.lasted.as_nanos())).collect()
    }

    #[test]
    fn a_planned_move_is_no_overlap_and_its_gap_is_counted() {
        let history = history([
            ("one", 900, "100 start a one 1 1.1\n300 stop a one 1 1.1"),
            ("two", 900, "340 start a two 2 1.2"),
        ]);
        assert_eq!(overlaps(&history), []);
        assert_eq!(history.gaps(history.started_since(200)), [Duration::from_nanos(40)]);
        assert_eq!(history.whereabouts(), BTreeSet::from([("a", "two")]));
        assert_eq!(history.epochs_not_rising(), Vec::<String>::new());
    }

    #[test]
    fn a_start_before_the_stop_is_an_overlap_until_the_stop() {
        let history = history([
            ("one", 900, "100 start a one 1 1.1\n300 stop a one 1 1.1"),
            ("two", 900, "290 start a two 2 1.2"),
        ]);
        assert_eq!(overlaps(&history), [("a".into(), 10)]);
    }

    #[test]
    fn two_runs_that_go_on_are_an_overlap_as_far_as_both_are_known() {
        let history = history([("one", 700, "100 start a one 1 1.1"), ("two", 900, "290 start a two 2 1.2")]);
        assert_eq!(overlaps(&history), [("a".into(), 410)]);
    }

    #[test]
    fn two_runs_in_one_process_are_an_overlap_too() {
        let lines = "100 start a one 1 1.1\n200 start a one 1 1.2\n250 stop a one 1 1.1";
        let history = history([("one", 900, lines), ("two", 900, "")]);
        assert_eq!(overlaps(&history), [("a".into(), 50)]);
    }

    #[test]
    fn a_stop_that_has_not_been_read_yet_is_no_overlap() {
        let history = history([("one", 299, "100 start a one 1 1.1"), ("two", 900, "340 start a two 2 1.2")]);
        assert_eq!(overlaps(&history), []);
    }

    #[test]
    fn a_killed_process_ends_its_runs_at_the_kill() {
        let journals = [
            ("one", 900, "100 start a one 1 1.1\n150 start b one 1 1.1\n200 stop b one 1 1.1"),
            ("two", 900, "340 start a two 2 1.2\n310 lost one two 2 0.0"),
        ];
        let mut gone_in_time = history(journals);
        gone_in_time.killed("one", 300);
        assert_eq!(overlaps(&gone_in_time), []);
        assert_eq!(gone_in_time.lost_at("one"), Some(310));
        assert_eq!(gone_in_time.runs_of("b")[0].stopped, Some(200), "a run that ended by itself keeps its own end");

        let mut taken_over_alive = history(journals);
        taken_over_alive.killed("one", 350);
        assert_eq!(overlaps(&taken_over_alive), [("a".into(), 10)]);
    }

    #[test]
    fn monitors_are_judged_one_by_one() {
        let history = history([("one", 900, "100 start a one 1 1.1"), ("two", 900, "110 start b two 2 1.1")]);
        assert_eq!(overlaps(&history), []);
        assert_eq!(history.running_on("one"), BTreeSet::from(["a"]));
    }

    #[test]
    fn an_epoch_that_does_not_rise_is_named() {
        let history = history([
            ("one", 900, "100 start a one 1 1.2\n300 stop a one 1 1.2"),
            ("two", 900, "340 start a two 2 1.2"),
        ]);
        assert_eq!(history.epochs_not_rising(), ["a: 1.2 after 1.2"]);
    }

    #[test]
    fn the_last_check_is_the_latest_whoever_is_read_last() {
        let history = history([
            ("one", 900, "100 check a one 1 1.1 up in 1 ms"),
            ("two", 900, "90 check a two 2 1.0 down: refused"),
        ]);
        assert_eq!(history.last_check("a"), Some(&Check { at: 100, result: "up in 1 ms".into() }));
    }
}
