//! The figures, beside what is asked of them and what the peers take.

use std::fmt;
use std::time::Duration;

use crate::clock::show;
use crate::node::Usage;

/// Everything that was measured.
pub(crate) struct Report {
    /// From the call on one node to the child's first line on another.
    pub(crate) single: Vec<Duration>,
    /// In ascending order of size.
    pub(crate) bulks: Vec<Bulk>,
    pub(crate) idle_empty: Idle,
    pub(crate) idle_full: Idle,
    /// In ascending order of size.
    pub(crate) crashes: Vec<Crash>,
}

/// Many children started on one node.
pub(crate) struct Bulk {
    pub(crate) count: usize,
    /// How often a child began; more than `count` would be restarts or copies.
    pub(crate) first_lines: usize,
    /// Until the last first line.
    pub(crate) running: Duration,
    /// Until every node listed all.
    pub(crate) listed: Duration,
    /// What the slowest listing took.
    pub(crate) listing: Duration,
    /// Until all were gone again, on every node.
    pub(crate) terminated: Duration,
}

/// What a node uses per second while nothing happens: the mean of all nodes.
pub(crate) struct Idle {
    pub(crate) children: usize,
    pub(crate) cpu: Duration,
    pub(crate) packets: f64,
    pub(crate) bytes: f64,
    pub(crate) resident_bytes: f64,
}

impl Idle {
    pub(crate) fn between(children: usize, before: &[Usage], after: &[Usage]) -> Idle {
        let mean = |rate: &dyn Fn(&Usage, &Usage) -> f64| {
            before.iter().zip(after).map(|(before, after)| rate(before, after)).sum::<f64>() / before.len() as f64
        };
        let per_second = |used: &dyn Fn(&Usage) -> u64| {
            mean(&|before, after| {
                let seconds = (after.at - before.at) as f64 / 1e9;
                used(after).saturating_sub(used(before)) as f64 / seconds
            })
        };
        Idle {
            children,
            cpu: Duration::from_nanos(per_second(&|usage| usage.cpu_nanos) as u64),
            packets: per_second(&|usage| usage.packets),
            bytes: per_second(&|usage| usage.bytes),
            resident_bytes: mean(&|_, after| after.resident_bytes as f64),
        }
    }
}

/// Nodes that were killed, one of each of some clusters.
pub(crate) struct Crash {
    /// Of the cluster.
    pub(crate) children: usize,
    /// Of the node, about.
    pub(crate) moved: usize,
    /// Until the last child's first line elsewhere, each time.
    pub(crate) running: Vec<Duration>,
}

/// One line of the table.
struct Row {
    figure: String,
    measured: String,
    /// What is asked for, and whether it was reached.
    bar: Option<(String, bool)>,
    pogo: &'static str,
    horde: &'static str,
}

impl Row {
    fn new(figure: impl Into<String>, measured: impl Into<String>) -> Row {
        Row { figure: figure.into(), measured: measured.into(), bar: None, pogo: "", horde: "" }
    }

    fn bar(mut self, bar: impl Into<String>, reached: bool) -> Row {
        self.bar = Some((bar.into(), reached));
        self
    }

    fn peers(mut self, pogo: &'static str, horde: &'static str) -> Row {
        (self.pogo, self.horde) = (pogo, horde);
        self
    }

    fn cells(&self) -> [&str; 6] {
        let (bar, verdict) = match &self.bar {
            Some((bar, true)) => (bar.as_str(), "ok"),
            Some((bar, false)) => (bar.as_str(), "MISSED"),
            None => ("", ""),
        };
        [&self.figure, &self.measured, bar, verdict, self.pogo, self.horde]
    }
}

impl Report {
    fn rows(&self) -> Vec<Row> {
        let mut rows = self.single_rows();
        self.bulks.iter().for_each(|bulk| rows.extend(bulk_rows(bulk)));
        rows.extend(self.growth_row());
        rows.extend(self.idle_rows());
        self.crashes.iter().for_each(|crash| rows.push(crash_row(crash)));
        rows
    }

    fn single_rows(&self) -> Vec<Row> {
        let mut sorted = self.single.clone();
        sorted.sort();
        let quantile = |per_mille: usize| sorted.get(sorted.len() * per_mille / 1000).copied().unwrap_or_default();
        let (median, p99) = (quantile(500), quantile(990));
        let bar = Duration::from_millis(2);
        let reached = median <= bar && !sorted.is_empty();
        vec![
            Row::new(format!("one start until it runs on another node, median of {}", sorted.len()), show(median))
                .bar(format!("<= {}", show(bar)), reached)
                .peers("57 ms at 100 ms interval, 2.1 s at 5 s", "0.7 ms"),
            Row::new("  99th percentile", show(p99)).peers("4.8 s (longest, 5 s)", ""),
        ]
    }

    fn growth_row(&self) -> Option<Row> {
        let [.., small, large] = self.bulks.as_slice() else { return None };
        let per_child = |bulk: &Bulk| bulk.listed.as_secs_f64() / bulk.count as f64;
        let growth = per_child(large) / per_child(small);
        let figure = format!("time per child, {} against {}", large.count, small.count);
        // Twice the time per child for ten times the children is n to the power of 1.3, where linear begins to end.
        Some(Row::new(figure, format!("x {growth:.2}")).bar("linear (x <= 2)", growth <= 2.0).peers("quadratic", ""))
    }

    fn idle_rows(&self) -> Vec<Row> {
        let (empty, full) = (&self.idle_empty, &self.idle_full);
        let mut rows = Vec::new();
        for (name, before, after, unit, peers) in [
            (
                "CPU",
                empty.cpu.as_secs_f64() * 1e3,
                full.cpu.as_secs_f64() * 1e3,
                "ms/s",
                ("17 ms/s (5,000 children)", "5.5 ms/s (5,000)"),
            ),
            ("packets", empty.packets, full.packets, "/s", ("", "")),
            ("bytes", empty.bytes, full.bytes, "B/s", ("", "")),
        ] {
            rows.push(Row::new(
                format!("idle node, {} children, {name}", empty.children),
                format!("{before:.2} {unit}"),
            ));
            let figure = format!("idle node, {} children, {name}", full.children);
            rows.push(
                Row::new(figure, format!("{after:.2} {unit}"))
                    .bar("within 20 %", after <= before * 1.2)
                    .peers(peers.0, peers.1),
            );
        }
        let memory = |idle: &Idle| format!("{:.1} MB", idle.resident_bytes / 1e6);
        rows.push(Row::new(format!("memory, {} children", empty.children), memory(empty)).peers("43 MB", "44 MB"));
        rows.push(
            Row::new(format!("memory, {} children", full.children), memory(full))
                .peers("105 MB (5,000)", "72 MB (5,000)"),
        );
        rows
    }
}

fn crash_row(crash: &Crash) -> Row {
    let Crash { children, moved, running } = crash;
    let mut sorted = running.clone();
    sorted.sort();
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    let (median, longest) = (at(sorted.len() / 2), at(sorted.len().saturating_sub(1)));
    let figure =
        format!("SIGKILL of a node, {moved} of {children} run elsewhere, median of {} (longest)", sorted.len());
    let (bar, pogo, horde) = match children {
        ..=1_000 => (Duration::from_millis(150), "104 ms at 100 ms interval, 2.6 s at 5 s", "232 ms"),
        _ => (Duration::from_millis(400), "446 ms (5,000)", "1.3 s (5,000)"),
    };
    Row::new(figure, format!("{} ({})", show(median), show(longest)))
        .bar(format!("<= {}", show(bar)), median <= bar)
        .peers(pogo, horde)
}

fn bulk_rows(bulk: &Bulk) -> Vec<Row> {
    let Bulk { count, first_lines, running, listed, listing, terminated } = bulk;
    let rate = *count as f64 / listed.as_secs_f64();
    // The bars are 1 s for 10,000 and 10 s for 100,000.
    let bar = Duration::from_micros(100) * u32::try_from(*count).unwrap_or(u32::MAX);
    let mut rows = vec![
        Row::new(format!("{count} started on one node until all run"), show(*running)),
        Row::new("  and every node lists all as running", show(*listed))
            .bar(format!("<= {}", show(bar)), *listed <= bar)
            .peers("9.0 s (10,000; quadratic)", "10 s (10,000)"),
        Row::new("  children per second", format!("{rate:.0}")),
        Row::new("  listing them", show(*listing)).peers("41 s (5,000)", "36 ms (5,000)"),
        Row::new("  terminating them", show(*terminated)).peers("9.2 s (2,000)", ""),
    ];
    if first_lines != count {
        rows.push(Row::new("  starts", first_lines.to_string()).bar(count.to_string(), false));
    }
    rows
}

/// Only what happened to clusters of which a node was killed.
pub(crate) struct Crashes<'a>(pub(crate) &'a [Crash]);

impl fmt::Display for Crashes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table(f, &self.0.iter().map(crash_row).collect::<Vec<_>>())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table(f, &self.rows())
    }
}

fn table(f: &mut fmt::Formatter<'_>, rows: &[Row]) -> fmt::Result {
    let heads = ["3 processes on loopback, default config", "measured", "asked", "", "Pogo", "Horde"];
    let lines: Vec<[&str; 6]> = std::iter::once(heads).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| lines.iter().map(|cells| cells[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for cells in &lines {
        let [figure, measured, bar, verdict, pogo, horde] = cells;
        let [w0, w1, w2, w3, w4, _] = widths;
        let line = format!("{figure:w0$}  {measured:>w1$}  {bar:w2$}  {verdict:w3$}  {pogo:w4$}  {horde}");
        writeln!(f, "{}", line.trim_end())?;
    }
    writeln!(f, "The peers' figures: Pogo 0.3.1 and Horde 0.10.0 on OTP 25, three processes on loopback, 2 cores.")
}
