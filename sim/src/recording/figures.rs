//! A run in figures, for the tables of the reports.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Absence, Band, Move, Summary, spans};
use crate::cluster::Cluster;
use crate::figures::{Spread, short};
use crate::history::LifeEnd;
use crate::words::micros;

/// A run in figures. Times are microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Virtual time.
    pub simulated: u64,
    /// How long it took by the wall clock.
    pub wall: u64,
    /// How much happened.
    pub events: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Their bytes.
    pub datagram_bytes: u64,
    /// Of them, those that never arrived.
    pub datagrams_lost: u64,
    /// Frames sent on streams.
    pub frames: u64,
    /// Their bytes.
    pub frame_bytes: u64,
    /// The faults by kind, ends of nodes included.
    pub faults: BTreeMap<&'static str, usize>,
    /// Users' calls, without looks at the listing.
    pub calls: usize,
    /// Runs of children.
    pub runs: usize,
    /// Of them, those that ended by an error or a panic.
    pub runs_failed: usize,
    /// Moves by their reason.
    pub moves: BTreeMap<&'static str, usize>,
    /// Runs that followed another on the same node.
    pub restarts: usize,
    /// How long children ran twice, per pair of runs.
    pub duplicates: Spread,
    /// How long desired children ran nowhere between two runs.
    pub orphans: Spread,
    /// How long it took from an acknowledged start to the first run.
    pub first_runs: Spread,
    /// Desired children that run nowhere at the end.
    pub nowhere_at_end: usize,
    /// How long it took from the end of the last fault until everybody agreed.
    pub converged_in: Option<u64>,
    /// Children that run at the end.
    pub running_at_end: usize,
    /// The rows of the table.
    pub rows: Vec<(&'static str, String)>,
}

impl Figures {
    pub(super) fn of(
        cluster: &Cluster,
        summary: &Summary<'_>,
        bands: &[Band],
        absences: &[Absence],
        moves: &[Move],
    ) -> Self {
        let (now, traffic) = (cluster.now(), cluster.traffic());
        let (runs, history) = (cluster.journal().runs(), cluster.history());
        let lasted = |from_run: bool| {
            let of_kind = absences.iter().filter(move |absence| absence.after.is_some() == from_run);
            Spread::of(of_kind.filter_map(|absence| Some(absence.to?.since(absence.from))))
        };
        let mut by_reason = BTreeMap::new();
        moves.iter().for_each(|moved| *by_reason.entry(moved.why).or_default() += 1);
        let calls = history.calls.iter().filter(|call| super::key_of(&call.command).is_some());
        let mut figures = Figures {
            simulated: micros(now),
            wall: summary.wall.as_micros() as u64,
            events: cluster.trace().events(),
            datagrams: traffic.datagrams,
            datagram_bytes: traffic.datagram_bytes,
            datagrams_lost: traffic.datagrams_lost,
            frames: traffic.frames,
            frame_bytes: traffic.frame_bytes,
            faults: faults(cluster, bands),
            calls: calls.count(),
            runs: runs.len(),
            runs_failed: runs.iter().filter(|run| spans::failed(run)).count(),
            moves: by_reason,
            restarts: restarts(cluster),
            duplicates: Spread::of(cluster.journal().overlaps().iter().map(|overlap| overlap.lasted(now))),
            orphans: lasted(true),
            first_runs: lasted(false),
            nowhere_at_end: absences.iter().filter(|absence| absence.to.is_none()).count(),
            converged_in: summary.converged_in.map(|time| time.as_micros() as u64),
            running_at_end: cluster.journal().alive().count(),
            rows: Vec::new(),
        };
        figures.rows = figures.table();
        figures
    }

    fn table(&self) -> Vec<(&'static str, String)> {
        let time = |micros: u64| short(std::time::Duration::from_micros(micros));
        let by_kind = |counts: &BTreeMap<&'static str, usize>| match counts.is_empty() {
            true => "none".into(),
            false => counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", "),
        };
        let speed = match self.wall {
            0 => String::new(),
            wall => format!(" ({:.0} times real time)", self.simulated as f64 / wall as f64),
        };
        vec![
            ("simulated", format!("{} in {}{speed}", time(self.simulated), time(self.wall))),
            ("events", grouped(self.events)),
            (
                "datagrams",
                format!(
                    "{}, {}, of which {} lost",
                    grouped(self.datagrams),
                    bytes(self.datagram_bytes),
                    grouped(self.datagrams_lost)
                ),
            ),
            ("stream frames", format!("{}, {}", grouped(self.frames), bytes(self.frame_bytes))),
            ("faults", by_kind(&self.faults)),
            ("calls about children", grouped(self.calls as u64)),
            ("runs", format!("{}, of which {} failed", grouped(self.runs as u64), grouped(self.runs_failed as u64))),
            ("moves", by_kind(&self.moves)),
            ("restarts in place", grouped(self.restarts as u64)),
            ("duplicates", self.duplicates.to_string()),
            ("orphans", self.orphans.to_string()),
            ("start to first run", self.first_runs.to_string()),
            ("converged", self.converged_in.map_or_else(|| "not asked, or never".into(), time)),
            ("at the end", format!("{} run; desired, but nowhere: {}", self.running_at_end, self.nowhere_at_end)),
        ]
    }
}

fn faults(cluster: &Cluster, bands: &[Band]) -> BTreeMap<&'static str, usize> {
    let history = cluster.history();
    let ends = history.lives.iter().filter_map(|life| life.end).map(|end| match end {
        LifeEnd::Crashed => "crash",
        LifeEnd::PowerLost => "power loss",
        LifeEnd::Left => "leave",
    });
    let mut counts = BTreeMap::new();
    bands.iter().map(|band| band.kind).chain(ends).for_each(|kind| *counts.entry(kind).or_default() += 1);
    counts
}

/// Runs of a life that followed another on the same node.
fn restarts(cluster: &Cluster) -> usize {
    let mut last = BTreeMap::new();
    let mut restarts = 0;
    for run in cluster.journal().runs() {
        let place = (run.node, run.instance, run.epoch.birth);
        if last.insert((run.scope, &run.id), place) == Some(place) {
            restarts += 1;
        }
    }
    restarts
}

/// `1 234 567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn bytes(count: u64) -> String {
    match count {
        ..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} kB", grouped(count / 1_000)),
        _ => format!("{} MB", grouped(count / 1_000_000)),
    }
}
