//! A sweep in the terminal: a table of all figures, and bars to see what depends on what.

use std::fmt::Write;

use super::{Grid, MEASURES, Row, SPLIT};
use crate::scenario::span;

/// So many columns of bars fit beside their labels.
const WIDTH: usize = 88;
/// A block that is filled by none to eight eighths.
const EIGHTHS: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// A table of medians, a line per combination; it is Markdown besides.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from("| nodes | loss | sync_interval |");
    MEASURES.iter().for_each(|measure| add(&mut text, format_args!(" {} ({}) |", measure.name, measure.unit)));
    text.push_str("\n|---:|---:|---:|");
    text.push_str(&"---:|".repeat(MEASURES.len()));
    for row in rows {
        let (loss, sync_interval) = (percent(row.case.loss), span::format(row.case.sync_interval));
        add(&mut text, format_args!("\n| {:>5} | {loss:>4} | {sync_interval:>13} |", row.case.nodes));
        for (place, measure) in MEASURES.iter().enumerate() {
            let value = figure(row.median(place));
            let width = measure.name.len() + measure.unit.len() + 3;
            add(&mut text, format_args!(" {value:>width$} |"));
        }
    }
    text
}

/// A block of bars per measure: a line per `sync_interval`, a column per size and loss.
pub fn bars(grid: &Grid, rows: &[Row]) -> String {
    let columns: Vec<(usize, f64)> =
        grid.nodes.iter().flat_map(|&nodes| grid.losses.iter().map(move |&loss| (nodes, loss))).collect();
    let width = (WIDTH / columns.len().max(1)).clamp(6, 20);
    let mut text = String::new();
    for (place, measure) in MEASURES.iter().enumerate() {
        let most = rows.iter().filter_map(|row| row.median(place)).fold(0.0, f64::max);
        add(
            &mut text,
            format_args!("{}: {}; full bar: {} {}\n", measure.name, measure.about, figure(Some(most)), measure.unit),
        );
        add(&mut text, format_args!("{:>10}", "nodes/loss"));
        columns.iter().for_each(|(nodes, loss)| {
            add(&mut text, format_args!(" {:<width$}", format!("{nodes}/{}", percent(*loss)), width = width - 1));
        });
        text.push('\n');
        for &sync_interval in &grid.sync_intervals {
            add(&mut text, format_args!("{:>10}", span::format(sync_interval)));
            for &(nodes, loss) in &columns {
                let is_it = |row: &&Row| {
                    let case = row.case;
                    (case.nodes, case.loss, case.sync_interval) == (nodes, loss, sync_interval)
                };
                let value = rows.iter().find(is_it).and_then(|row| row.median(place));
                let bar = value.map_or("never".into(), |value| bar(value, most, width - 2));
                add(&mut text, format_args!(" {bar:<width$}", width = width - 1));
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

/// A bar of up to `width` blocks.
fn bar(value: f64, most: f64, width: usize) -> String {
    let eighths = if most > 0.0 { (value / most * width as f64 * 8.0).round() as usize } else { 0 };
    let mut bar = "█".repeat(eighths / 8);
    bar.extend((eighths % 8 > 0).then_some(EIGHTHS[eighths % 8]));
    bar
}

/// With the digits that matter.
pub(super) fn figure(value: Option<f64>) -> String {
    match value {
        None => "never".into(),
        Some(value) if value >= 99.5 => format!("{value:.0}"),
        Some(value) if value >= 9.95 => format!("{value:.1}"),
        Some(value) if value >= 0.1 || value == 0.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.4}"),
    }
}

/// A probability as people say it.
pub(crate) fn percent(loss: f64) -> String {
    let percent = (loss * 1_000.0).round() / 10.0;
    format!("{percent}%")
}

/// What all figures have in common.
pub fn head(grid: &Grid) -> String {
    let (children, split, seeds) = (grid.children, span::format(SPLIT), grid.seeds);
    let timings = format!("{:?}", grid.timings).to_lowercase();
    format!("{children} children, timings {timings}, a split of {split}; medians of {seeds} clusters")
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    // A String takes any text.
    let _ = text.write_fmt(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_share() {
        assert_eq!([0.0, 1.0, 4.5, 8.0].map(|value| bar(value, 8.0, 8)), ["", "█", "████▌", "████████"]);
        assert_eq!(bar(0.0, 0.0, 8), "");
    }

    #[test]
    fn figures_have_three_digits_or_so() {
        let shown = [None, Some(0.0), Some(0.0023), Some(0.5), Some(12.34), Some(1_234.5)].map(figure);
        assert_eq!(shown, ["never", "0.00", "0.0023", "0.50", "12.3", "1234"]);
        assert_eq!([0.0, 0.05, 0.125].map(percent), ["0%", "5%", "12.5%"]);
    }
}
