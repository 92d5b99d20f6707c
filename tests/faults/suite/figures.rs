//! What is told of a fault: the same figures of both sides, and the table in which they stand beside each other.

use std::fmt;
use std::time::Duration;

use haulout::Event;
use haulout::proto::Time;
use haulout_sim::history::History;
use haulout_sim::journal::Journal;
use haulout_sim::scenario::Expect;
use haulout_sim::{Ran, Scenario, measures};

/// What a fault came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// For how long monitors ran twice, added up, without the time in which one of the two was stopped.
    pub(crate) duplicates: Duration,
    /// For how long monitors ran nowhere, added up.
    pub(crate) orphans: Duration,
    /// From the first fault until the first node was told that a member is down.
    pub(crate) detection: Option<Duration>,
    /// From the end of all faults until all nodes agreed on what runs where, and it did.
    pub(crate) convergence: Option<Duration>,
}

impl Figures {
    /// By the monitors' journal, and by when nodes were told that a member is down.
    pub(crate) fn of(journal: &Journal, history: &History, now: Time, fault: Time, losses: &[Time]) -> Figures {
        let detected = losses.iter().filter(|at| **at >= fault).min();
        Figures {
            duplicates: measures::duplicates(journal, history, now).iter().sum(),
            orphans: measures::orphans(journal, history).iter().sum(),
            detection: detected.map(|at| at.since(fault)),
            convergence: None,
        }
    }

    /// Of a simulated run.
    pub(crate) fn of_run(ran: &Ran) -> Figures {
        let cluster = &ran.cluster;
        let told = cluster.nodes().flat_map(|node| cluster.events(node));
        let losses: Vec<Time> =
            told.filter(|(_, _, event)| matches!(event, Event::MemberDown(_))).map(|(at, ..)| *at).collect();
        let fault = Time::ZERO + first_fault(&ran.scenario);
        let figures = Figures::of(cluster.journal(), cluster.history(), cluster.now(), fault, &losses);
        Figures { convergence: ran.tally.converged_in, ..figures }
    }

    /// Of each figure the median.
    pub(crate) fn median(all: &[Figures]) -> Figures {
        let of = |figure: fn(&Figures) -> Option<Duration>| {
            let mut sorted: Vec<_> = all.iter().filter_map(figure).collect();
            sorted.sort();
            sorted.get(sorted.len() / 2).copied()
        };
        Figures {
            duplicates: of(|figures| Some(figures.duplicates)).unwrap_or_default(),
            orphans: of(|figures| Some(figures.orphans)).unwrap_or_default(),
            detection: of(|figures| figures.detection),
            convergence: of(|figures| figures.convergence),
        }
    }

    /// What of this was not to be expected, in words.
    pub(crate) fn beyond(&self, expect: &Expect) -> Vec<String> {
        let limits = [
            ("ran twice", Some(self.duplicates), expect.duplicate_max),
            ("ran nowhere", Some(self.orphans), expect.orphan_max),
            ("had not converged", self.convergence, expect.converge_max),
        ];
        let beyond = |(what, is, limit): (&str, Option<Duration>, Option<Duration>)| {
            let (is, limit) = (is?, limit?);
            (is > limit).then(|| format!("monitors {what} for {}, at most {} expected", show(is), show(limit)))
        };
        limits.into_iter().filter_map(beyond).collect()
    }
}

/// When the first fault of a scenario begins.
pub(crate) fn first_fault(scenario: &Scenario) -> Duration {
    let faults = scenario.events.iter().filter(|timed| !timed.act.is_call());
    faults.map(|timed| timed.at).min().unwrap_or(scenario.duration)
}

/// One fault, on processes and in the simulator.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// On processes; otherwise why it can't be had there.
    pub(crate) real: Result<Figures, String>,
    pub(crate) simulated: Figures,
}

/// The rows under their heads, in Markdown.
pub(crate) struct Table(pub(crate) Vec<Row>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| fault | ran twice | nowhere | noticed | converged | simulated: twice | nowhere | noticed | converged |"
        )?;
        writeln!(f, "|:---|---:|---:|---:|---:|---:|---:|---:|---:|")?;
        for Row { name, real, simulated } in &self.0 {
            let real = real.as_ref().map_or_else(|_| "only simulated ||| ".into(), cells);
            writeln!(f, "| {name} | {real} | {} |", cells(simulated))?;
        }
        for Row { name, real, .. } in &self.0 {
            if let Err(why) = real {
                writeln!(f, "{name} is only simulated: {why}")?;
            }
        }
        Ok(())
    }
}

fn cells(figures: &Figures) -> String {
    let Figures { duplicates, orphans, detection, convergence } = *figures;
    let cells = [Some(duplicates), Some(orphans), detection, convergence];
    cells.map(|cell| cell.map_or("-".into(), show)).join(" | ")
}

fn show(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}
