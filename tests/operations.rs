//! The tables of the operator's guide say what the code has: nothing is missing in them, and nothing is there that is gone.

use std::fmt::Write;
use std::path::Path;

use haulout::{Figure, FigureKind, ScopeStats, Stats};

/// Set to 1 to write the tables anew: `HAULOUT_UPDATE_GOLDEN=1 cargo test --test operations`.
const UPDATE: &str = "HAULOUT_UPDATE_GOLDEN";

fn table(title: &str, figures: impl Iterator<Item = Figure>) -> String {
    let mut text = format!("# {title}\n\n| metric | kind | what it says |\n|---|---|---|\n");
    for Figure { metric, kind, help, .. } in figures {
        let kind = match kind {
            FigureKind::Counter => "counter",
            FigureKind::Gauge => "gauge",
        };
        let _ = writeln!(text, "| `{metric}` | {kind} | {help} |");
    }
    text
}

fn compare_or_update(file: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/operations").join(file);
    #[allow(clippy::disallowed_methods, reason = "a switch of this test, not of the library")]
    if std::env::var(UPDATE).is_ok_and(|value| value == "1") {
        std::fs::write(&path, expected).expect("the table is writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{} is out of date: {UPDATE}=1 cargo test --test operations", path.display());
}

/// Goal: whoever sets up a dashboard finds every metric, with what it means. Method: the table is made from the one from which
/// the figures themselves come.
#[test]
fn every_figure_is_in_the_table() {
    let node = table("The figures of a node", Stats::default().figures());
    let scope = table("The figures of a scope", ScopeStats::default().figures());
    compare_or_update("figures.md", &format!("\n{node}\n{scope}"));
}
