//! A run in the terminal: a timeline with a row per node, and a table of figures.

use std::fmt::Write;

use crate::recording::{Lane, Recording};

/// The columns that a timeline takes where nothing is said.
pub const WIDTH: usize = 100;

/// The fewest columns of time that are worth drawing.
const COLUMNS_MIN: usize = 20;

/// The longest name of a node that is shown in full.
const NAME_MAX: usize = 16;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A timeline that fits into so many columns, and the table of figures.
pub fn report(recording: &Recording, width: usize) -> String {
    format!("{}\n{}", timeline(recording, width), table(recording))
}

/// The figures of a run, a row each.
pub fn table(recording: &Recording) -> String {
    let rows = &recording.figures.rows;
    let widest = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    rows.iter().fold(String::new(), |mut text, (name, value)| {
        // A String takes any text.
        let _ = writeln!(text, "{name:>widest$}  {value}");
        text
    })
}

/// A row per node, a column per span of time: how many children ran there, and what was wrong.
pub fn timeline(recording: &Recording, width: usize) -> String {
    let widest = recording.nodes.iter().map(|lane| lane.name.chars().count()).max().unwrap_or_default();
    let names = widest.clamp("nowhere".len(), NAME_MAX);
    let grid = Grid { end: recording.end.max(1), columns: width.saturating_sub(names + 1).max(COLUMNS_MIN) };
    let mut cells: Vec<Vec<Cell>> = recording.nodes.iter().map(|lane| alive(&grid, lane)).collect();
    let mut nowhere = vec![Cell::default(); grid.columns];
    for run in &recording.runs {
        grid.span(run.began, run.ended).for_each(|column| cells[run.node][column].running += 1);
    }
    for overlap in &recording.overlaps {
        for column in grid.span(overlap.from, overlap.to) {
            cells[overlap.earlier][column].duplicate = true;
            cells[overlap.later][column].duplicate = true;
        }
    }
    for cut in recording.faults.iter().filter(|fault| fault.kind == "cut") {
        for column in grid.span(cut.from, cut.to) {
            cut.nodes.iter().for_each(|&node| cells[node][column].cut = true);
        }
    }
    for orphan in recording.orphans.iter().filter(|orphan| orphan.after.is_some()) {
        grid.span(orphan.from, orphan.to).for_each(|column| nowhere[column].running += 1);
    }
    let scale = Scale::of(cells.iter().flatten());
    let lost = Scale::of(&nowhere);
    let mut text = format!("{:names$} {}\n", "", grid.axis());
    for (lane, cells) in recording.nodes.iter().zip(&cells) {
        let name: String = lane.name.chars().take(names).collect();
        let row: String = cells.iter().map(|cell| cell.shown(&scale)).collect();
        let _ = writeln!(text, "{name:names$} {}", row.trim_end());
    }
    let row: String = nowhere.iter().map(|cell| cell.shown(&lost)).collect();
    let _ = writeln!(text, "{:names$} {row}", "nowhere");
    if !recording.violations.is_empty() {
        let mut marks = vec![' '; grid.columns];
        recording.violations.iter().for_each(|violation| marks[grid.column(violation.at)] = 'V');
        let _ = writeln!(text, "{:names$} {}", "broken", marks.into_iter().collect::<String>().trim_end());
    }
    let _ = writeln!(
        text,
        "{}; ! ran twice, p paused, x down, | cut off from somebody, . none",
        scale.legend("children that ran on a node")
    );
    text
}

/// The columns of time.
struct Grid {
    end: u64,
    columns: usize,
}

impl Grid {
    fn column(&self, at: u64) -> usize {
        let column = u128::from(at) * self.columns as u128 / u128::from(self.end);
        usize::try_from(column).unwrap_or(usize::MAX).min(self.columns - 1)
    }

    /// The columns that a span touches.
    fn span(&self, from: u64, to: Option<u64>) -> std::ops::RangeInclusive<usize> {
        self.column(from)..=self.column(to.unwrap_or(self.end))
    }

    /// Seconds, each above the column in which it begins.
    fn axis(&self) -> String {
        let mut axis = vec![' '; self.columns];
        let steps = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800, 3_600];
        let wide = |step: &&u64| **step * 1_000_000 * self.columns as u64 / self.end >= 10;
        let step = steps.iter().find(wide).copied().unwrap_or(36_000);
        for at in (0..).map(|n| n * step).take_while(|at| at * 1_000_000 < self.end) {
            let label = format!("{at}s");
            let column = self.column(at * 1_000_000);
            if column + label.len() <= self.columns {
                label.chars().enumerate().for_each(|(place, c)| axis[column + place] = c);
            }
        }
        axis.into_iter().collect::<String>().trim_end().to_owned()
    }
}

/// What a node was like in one column.
#[derive(Clone, Default)]
struct Cell {
    running: usize,
    duplicate: bool,
    cut: bool,
    paused: bool,
    down: bool,
    absent: bool,
}

impl Cell {
    /// What is worst comes first; runs are not shown beside it.
    fn shown(&self, scale: &Scale) -> char {
        match self {
            Cell { duplicate: true, .. } => '!',
            Cell { absent: true, .. } => ' ',
            Cell { down: true, .. } => 'x',
            Cell { paused: true, .. } => 'p',
            Cell { cut: true, .. } => '|',
            Cell { running, .. } => scale.shown(*running),
        }
    }
}

/// A row in which it is noted when the node was down or paused: down only where it was for the whole column, so that
/// a quick restart does not hide what ran.
fn alive(grid: &Grid, lane: &Lane) -> Vec<Cell> {
    let mut cells = vec![Cell { down: true, ..Cell::default() }; grid.columns];
    for life in &lane.lives {
        grid.span(life.from, life.to).for_each(|column| cells[column].down = false);
    }
    cells.iter_mut().take_while(|cell| cell.down).for_each(|cell| cell.absent = true);
    for &(from, to) in &lane.pauses {
        grid.span(from, to).for_each(|column| cells[column].paused = true);
    }
    cells
}

/// How counts are shown: as digits where that suffices, else as blocks.
struct Scale {
    most: usize,
}

impl Scale {
    fn of<'a>(cells: impl IntoIterator<Item = &'a Cell>) -> Self {
        Scale { most: cells.into_iter().map(|cell| cell.running).max().unwrap_or_default() }
    }

    fn shown(&self, count: usize) -> char {
        match count {
            0 => '.',
            count if self.most < 10 => char::from_digit(count as u32, 10).unwrap_or('9'),
            count => BLOCKS[(count * BLOCKS.len()).div_ceil(self.most) - 1],
        }
    }

    fn legend(&self, what: &str) -> String {
        match self.most {
            ..10 => format!("digits: {what}"),
            most => format!("{} to {}: {what}, up to {most}", BLOCKS[0], BLOCKS[BLOCKS.len() - 1]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::tests::recording;

    #[test]
    fn a_timeline_shows_counts_and_what_is_wrong_instead_of_them() {
        let text = timeline(&recording(), 28);
        let rows: Vec<&str> = text.lines().collect();
        // Twenty columns for ten seconds: half a second each.
        assert_eq!(rows[0], "        0s        5s");
        assert_eq!(rows[1], "a       11111111!!!111111xxx");
        assert_eq!(rows[2], "b       .||.....!!!1111ppp11");
        assert_eq!(rows[3], "nowhere ....................");
    }

    #[test]
    fn many_children_are_shown_as_blocks() {
        let scale = Scale { most: 80 };
        assert_eq!([0, 1, 10, 11, 80].map(|count| scale.shown(count)), ['.', '▁', '▁', '▂', '█']);
    }
}
