//! The figures, each beside what is asked of it, its limit and what the peers take.

use std::fmt;
use std::time::Duration;

use crate::figures::show;

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    figure: String,
    measured: String,
    /// What is asked for, and whether it was reached.
    bar: Option<(String, bool)>,
    /// What has to be paid in any case, measured in the same run.
    limit: String,
    pogo: &'static str,
    horde: &'static str,
}

impl Row {
    pub(crate) fn new(figure: impl Into<String>, measured: impl Into<String>) -> Row {
        let (figure, measured) = (figure.into(), measured.into());
        Row { figure, measured, bar: None, limit: String::new(), pogo: "", horde: "" }
    }

    /// A time that must not be exceeded.
    pub(crate) fn time(figure: impl Into<String>, measured: Duration, bar: Option<Duration>) -> Row {
        let row = Row::new(figure, show(measured));
        match bar {
            Some(bar) => row.bar(format!("<= {}", show(bar)), measured <= bar),
            None => row,
        }
    }

    pub(crate) fn bar(mut self, bar: impl Into<String>, reached: bool) -> Row {
        self.bar = Some((bar.into(), reached));
        self
    }

    pub(crate) fn limit(mut self, limit: impl Into<String>) -> Row {
        self.limit = limit.into();
        self
    }

    pub(crate) fn peers(mut self, pogo: &'static str, horde: &'static str) -> Row {
        (self.pogo, self.horde) = (pogo, horde);
        self
    }

    fn cells(&self) -> [&str; 7] {
        let (bar, verdict) = match &self.bar {
            Some((bar, true)) => (bar.as_str(), "ok"),
            Some((bar, false)) => (bar.as_str(), "MISSED"),
            None => ("", ""),
        };
        [&self.figure, &self.measured, bar, verdict, &self.limit, self.pogo, self.horde]
    }
}

/// The rows below their heads, in Markdown.
pub(crate) struct Table<'a>(pub(crate) &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heads = ["processes on loopback, default config", "measured", "asked", "", "limit", "Pogo", "Horde"];
        let lines: Vec<[&str; 7]> = std::iter::once(heads).chain(self.0.iter().map(Row::cells)).collect();
        let width = |column: usize| lines.iter().map(|cells| cells[column].len()).max().unwrap_or(0);
        let widths: [usize; 7] = std::array::from_fn(width);
        for (number, cells) in lines.iter().enumerate() {
            let padded = cells.iter().zip(widths).map(|(cell, width)| format!(" {cell:width$} |"));
            writeln!(f, "|{}", padded.collect::<String>())?;
            if number == 0 {
                let rules = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2)));
                writeln!(f, "|{}", rules.collect::<String>())?;
            }
        }
        writeln!(f, "The peers' figures: Pogo 0.3.1 and Horde 0.10.0 on OTP 25, three processes on loopback, 2 cores.")
    }
}
