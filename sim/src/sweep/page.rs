//! A sweep as a page: one file that asks the network for nothing and runs no script. A row of plots per measure, a plot
//! per size, a line per loss, over `sync_interval`.

use std::fmt::Write;

use super::text::{figure, head, percent};
use super::{Grid, MEASURES, Measure, Row};
use crate::scenario::span;

/// One colour per loss; with more losses than colours they come round again.
const COLOURS: [&str; 6] = ["#1b6ca8", "#d97706", "#b3122f", "#6a3d9a", "#2e7d32", "#6b7280"];

const STYLE: &str = "\
:root { color-scheme: light dark; } \
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; } \
h2 { font-size: 1rem; margin: 1.6rem 0 0; } p { margin: .2rem 0; } \
svg { width: 100%; height: auto; } text { font: 11px system-ui, sans-serif; fill: currentColor; } \
.axis { stroke: currentColor; stroke-opacity: .3; } .scroll { overflow-x: auto; } \
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } \
td, th { padding: .1rem .6rem; text-align: right; border-bottom: 1px solid #8884; }";

const PLOT_WIDTH: f64 = 260.0;
const PLOT_HEIGHT: f64 = 110.0;
/// Around a plot: room for its numbers and names.
const LEFT: f64 = 52.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 22.0;

/// The whole page. `command` makes it again.
pub fn page(grid: &Grid, rows: &[Row], command: &str) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>haulout sweep</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<style>{STYLE}</style>\n\
         <h1>What sync_interval, size and loss do</h1>\n<p><code>{}</code></p>\n<p>{}. ",
        escaped(command),
        head(grid),
    );
    page.push_str("Loss of datagrams:");
    for (place, loss) in grid.losses.iter().enumerate() {
        add(&mut page, format_args!(" <b style=\"color:{}\">&#9632; {}</b>", colour(place), percent(*loss)));
    }
    page.push_str("</p>\n");
    for (place, measure) in MEASURES.iter().enumerate() {
        add(&mut page, format_args!("<h2>{}</h2>\n<p>{}</p>\n", measure.name, escaped(measure.about)));
        page.push_str(&plots(grid, rows, place, measure));
    }
    page.push_str("<h2>All figures</h2>\n<div class=\"scroll\">");
    page.push_str(&table(rows));
    page.push_str("</div>\n</html>\n");
    page
}

/// The plots of a measure, one per size, all on one scale.
fn plots(grid: &Grid, rows: &[Row], place: usize, measure: &Measure) -> String {
    let most = rows.iter().filter_map(|row| row.median(place)).fold(0.0, f64::max);
    let step = LEFT + PLOT_WIDTH;
    let (width, height) = (step * grid.nodes.len() as f64 + 20.0, TOP + PLOT_HEIGHT + BOTTOM);
    let mut svg = format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n", measure.name);
    for (number, &nodes) in grid.nodes.iter().enumerate() {
        let left = step * number as f64 + LEFT;
        let bottom = TOP + PLOT_HEIGHT;
        add(&mut svg, format_args!("<text x=\"{left}\" y=\"13\">{nodes} nodes</text>\n"));
        for (share, y) in [(0.0, bottom), (0.5, bottom - PLOT_HEIGHT / 2.0), (1.0, TOP)] {
            let (right, label) = (left + PLOT_WIDTH - 20.0, figure(Some(most * share)));
            add(&mut svg, format_args!("<line class=\"axis\" x1=\"{left}\" y1=\"{y}\" x2=\"{right}\" y2=\"{y}\"/>\n"));
            add(
                &mut svg,
                format_args!("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{label}</text>\n", left - 4.0, y + 4.0),
            );
        }
        for (at, sync_interval) in grid.sync_intervals.iter().enumerate() {
            let (x, y, label) = (x(grid, left, at), bottom + 15.0, span::format(*sync_interval));
            add(&mut svg, format_args!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>\n"));
        }
        for (which, &loss) in grid.losses.iter().enumerate() {
            let row_at = |at: usize| {
                rows.iter().find(|row| {
                    (row.case.nodes, row.case.loss, row.case.sync_interval) == (nodes, loss, grid.sync_intervals[at])
                })
            };
            let values = (0..grid.sync_intervals.len()).filter_map(|at| Some((at, row_at(at)?.median(place)?)));
            let points: Vec<(f64, f64, f64)> = values
                .map(|(at, value)| {
                    (x(grid, left, at), bottom - value / most.max(f64::MIN_POSITIVE) * PLOT_HEIGHT, value)
                })
                .collect();
            svg.push_str(&line(
                &points,
                colour(which),
                &format!("{nodes} nodes, loss {}", percent(loss)),
                measure.unit,
            ));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// A line with a dot per figure, which a pointer can ask.
fn line(points: &[(f64, f64, f64)], colour: &str, what: &str, unit: &str) -> String {
    let path: Vec<String> = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
    let mut svg =
        format!("<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\n", path.join(" "));
    for (x, y, value) in points {
        let value = figure(Some(*value));
        add(
            &mut svg,
            format_args!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{what}: {value} {unit}</title></circle>\n"
            ),
        );
    }
    svg
}

fn x(grid: &Grid, left: f64, at: usize) -> f64 {
    let steps = grid.sync_intervals.len().max(2) - 1;
    left + 15.0 + (PLOT_WIDTH - 50.0) * at as f64 / steps as f64
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from("<table><tr><th>nodes<th>loss<th>sync_interval");
    MEASURES.iter().for_each(|measure| add(&mut text, format_args!("<th>{} ({})", measure.name, measure.unit)));
    for row in rows {
        let (nodes, loss, sync_interval) =
            (row.case.nodes, percent(row.case.loss), span::format(row.case.sync_interval));
        add(&mut text, format_args!("\n<tr><td>{nodes}<td>{loss}<td>{sync_interval}"));
        (0..MEASURES.len()).for_each(|place| add(&mut text, format_args!("<td>{}", figure(row.median(place)))));
    }
    text.push_str("</table>");
    text
}

fn colour(place: usize) -> &'static str {
    COLOURS[place % COLOURS.len()]
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    // A String takes any text.
    let _ = text.write_fmt(more);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use haulout::Profile;

    use super::*;
    use crate::sweep::Case;

    /// Goal: a page that stands alone and shows every figure. Method: figures by hand, one of them missing.
    #[test]
    fn a_page_shows_every_figure_and_needs_nothing_else() {
        let grid = Grid {
            sync_intervals: vec![Duration::from_secs(1), Duration::from_secs(30)],
            nodes: vec![3, 10],
            losses: vec![0.0, 0.05],
            children: 20,
            seeds: 1,
            timings: Profile::Lan,
        };
        let row = |case: Case| {
            let missing = case.nodes == 3 && case.loss == 0.0 && case.sync_interval.as_secs() == 1;
            Row { case, samples: vec![[(!missing).then_some(2.5); MEASURES.len()]] }
        };
        let rows: Vec<Row> = grid.cases().into_iter().map(row).collect();
        let page = page(&grid, &rows, "haulout-sim sweep --nodes 3,10 > x");
        assert_eq!(page.matches("<circle").count(), 7 * MEASURES.len());
        assert_eq!(page.matches("<svg").count(), MEASURES.len());
        assert!(page.contains("never") && page.contains("&gt; x") && page.contains("10 nodes, loss 5%: 2.50 s"));
        assert!(!page.contains("http") && !page.contains("<script"));
    }
}
