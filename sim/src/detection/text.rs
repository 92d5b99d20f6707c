//! The figures of detection as a table, which is Markdown besides.

use std::fmt::Write;

use super::{Grid, Row};
use crate::sweep::text::percent;

/// A line per combination.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| nodes | loss | trouble | node-hours | false Downs | noticed, median (s) | p99 (s) | silences | traffic (B/s) |\n\
         |---:|---:|:---|---:|---:|---:|---:|---:|---:|",
    );
    for Row { case, sample } in rows {
        let noticed = |percent| match sample.noticed_within(percent) {
            Some(took) => format!("{:.2}", took.as_secs_f64()),
            None if sample.noticed.is_empty() && sample.never == 0 => "-".into(),
            None => "never".into(),
        };
        let silences = sample.noticed.len() as u64 + sample.never;
        // A String takes any text.
        let _ = write!(
            text,
            "\n| {:>5} | {:>4} | {:<7} | {:>10.1} | {:>11} | {:>19} | {:>7} | {silences:>8} | {:>13.0} |",
            case.nodes,
            percent(case.loss),
            case.trouble.to_string(),
            sample.node_hours,
            sample.false_downs,
            noticed(50),
            noticed(99),
            sample.traffic(),
        );
    }
    text
}

/// What all figures have in common.
pub fn head(grid: &Grid) -> String {
    let timings = format!("{:?}", grid.timings).to_lowercase();
    format!(
        "timings {timings}, {} clusters per line; a false Down: a node held a healthy one for down; noticed: from its \
         silence until its children run elsewhere",
        grid.clusters,
    )
}
