//! What is shown: a log of what happens, and below it, on a terminal, a table that follows the cluster.
//!
//! The cursor is moved only on a terminal, and only upwards over the table. Elsewhere the table is printed where
//! the story asks for it.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use rustix::termios::tcgetwinsize;

use crate::clock;
use crate::judge::History;
use crate::services::Service;

/// Where everything is printed.
pub(crate) struct Screen {
    live: bool,
    began: u64,
    /// How many lines of a live table stand above the cursor.
    drawn: usize,
}

impl Screen {
    /// `plain` asks for no live table even on a terminal.
    pub(crate) fn new(plain: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Screen { live: io::stdout().is_terminal() && !dumb && !plain, began: clock::now(), drawn: 0 }
    }

    /// Switches the live table off, so that it does not disturb what is being typed.
    pub(crate) fn still(&mut self) {
        self.live = false;
    }

    /// Adds a line to the log.
    pub(crate) fn say(&mut self, text: impl AsRef<str>) {
        let seconds = clock::now().saturating_sub(self.began) as f64 / 1e9;
        self.print(&format!("[{seconds:6.2} s] {}", text.as_ref()));
    }

    /// Adds lines to the log without the time.
    pub(crate) fn print(&mut self, text: &str) {
        let erased = self.erase();
        self.write(&format!("{erased}{text}\n"));
    }

    /// Shows the table as it is now, on a terminal.
    pub(crate) fn draw(&mut self, table: &[String]) {
        if !self.live {
            return;
        }
        let (columns, rows) = size();
        // The table never fills the screen: its first line must stay within the cursor's reach.
        let shown = clip(table, rows.saturating_sub(2), columns.saturating_sub(1));
        let erased = self.erase();
        self.write(&format!("{erased}{}\n", shown.join("\n")));
        self.drawn = shown.len();
    }

    /// Leaves the table in the log.
    pub(crate) fn keep(&mut self, table: &[String]) {
        let indented: Vec<_> = table.iter().map(|line| format!("    {line}")).collect();
        self.print(&indented.join("\n"));
    }

    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    fn write(&self, text: &str) {
        let mut stdout = io::stdout().lock();
        // A closed pipe at the other end (`| head`) is no reason to leave the cluster half run.
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }
}

fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// At most so many lines of at most so many characters; the last line, the totals, is always there.
fn clip(table: &[String], lines: usize, columns: usize) -> Vec<String> {
    let mut shown: Vec<String> = table.to_vec();
    if table.len() > lines && lines >= 3 {
        let hidden = table.len() - (lines - 2) - 1;
        shown = table[..lines - 2].to_vec();
        shown.push(format!("... and {hidden} more"));
        shown.extend(table.last().cloned());
    }
    for line in &mut shown {
        *line = line.chars().take(columns).collect();
    }
    shown
}

/// Which node monitors what, and what the last check said; the last line counts the monitors of each node.
pub(crate) fn table(history: &History, services: &[Service], nodes: &[String]) -> Vec<String> {
    let mut running: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for run in history.running() {
        running.entry(&run.id).or_default().push(run);
    }
    let id_width = services.iter().map(|service| service.id.len()).max().unwrap_or(0).max("monitor".len());
    let target_width = services.iter().map(|service| service.target.len()).max().unwrap_or(0).max("service".len());
    let mut lines = vec![format!("{:id_width$}  {:target_width$}  {:14}  last check", "monitor", "service", "runs on")];
    for service in services {
        let runs = running.get(service.id.as_str()).map(Vec::as_slice).unwrap_or_default();
        let place = match runs {
            [] => "-".to_owned(),
            runs => runs.iter().map(|run| run.node.as_str()).collect::<Vec<_>>().join(" AND "),
        };
        let check = history.last_check(&service.id).map_or_else(
            || "-".to_owned(),
            |check| {
                let age = clock::now().saturating_sub(check.at) as f64 / 1e9;
                format!("{}, {age:.1} s ago", check.result)
            },
        );
        lines.push(format!("{:id_width$}  {:target_width$}  {place:14}  {check}", service.id, service.target));
    }
    let counts = nodes.iter().map(|node| format!("{node}: {}", history.running_on(node).len()));
    lines.push(format!("monitors per node: {}", counts.collect::<Vec<_>>().join(", ")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clipped_table_keeps_its_head_and_its_totals() {
        let table: Vec<String> = (0..10).map(|number| format!("line {number}")).collect();
        assert_eq!(clip(&table, 4, 80), ["line 0", "line 1", "... and 7 more", "line 9"]);
        assert_eq!(clip(&table, 10, 4)[9], "line");
    }
}
