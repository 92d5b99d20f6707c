//! The tables of the operator's guide and of SECURITY.md say what the code has: nothing is missing in the former, and nothing is
//! in either that is gone.

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

/// Every file below a folder.
fn sources(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("it is readable").flatten() {
        match entry.path() {
            path if path.is_dir() => sources(&path, files),
            path if path.extension().is_some_and(|ext| ext == "rs") => files.push(path),
            _ => {}
        }
    }
}

/// The text that ends each call of a macro: the message of a log line.
fn messages(code: &str, name: &str) -> Vec<String> {
    let ends_call = |rest: &str| rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace()).starts_with(')');
    let message = |(at, _): (usize, &str)| {
        let call = &code[at + name.len()..];
        let (end, _) = call.match_indices('"').find(|(quote, _)| ends_call(&call[quote + 1..]))?;
        // A long one goes on in the next line.
        let parts = call[..end].rsplit('"').next()?.split("\\\n").map(str::trim_start);
        Some(parts.collect())
    };
    code.match_indices(name).filter_map(message).collect()
}

/// Goal: whoever reads a warning finds what to do. Method: every message of a WARN or an ERROR in the code is in the table, and
/// every one in the table is in the code.
#[test]
fn every_warning_is_in_the_table_with_what_to_do() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let code: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).expect("it is readable")).collect();
    let table = std::fs::read_to_string(root.join("operations/log.md")).expect("it is readable");
    let row = |level: &str, message: &str| format!("| {level} | `{message}` | ");
    let mut rows = 0;
    for (level, name) in [("ERROR", "error!("), ("WARN", "warn!(")] {
        let mut all: Vec<String> = code.iter().flat_map(|code| messages(code, name)).collect();
        all.sort();
        all.dedup();
        for message in &all {
            assert!(table.contains(&row(level, message)), "log.md lacks: {}", row(level, message));
        }
        rows += all.len();
    }
    assert_eq!(table.lines().filter(|line| line.contains("| `")).count(), rows, "log.md has lines that are gone");
}

/// Goal: whoever doubts a line of SECURITY.md finds the test and the figure that it names.
/// Method: each test that a table names, by its file or module and its function, is one; each figure is one.
#[test]
fn every_test_and_figure_that_the_security_page_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    ["src", "tests"].into_iter().for_each(|folder| sources(&root.join(folder), &mut files));
    let page = std::fs::read_to_string(root.join("SECURITY.md")).expect("it is readable");
    let rows = page.lines().filter(|line| line.starts_with('|')).filter_map(|line| line.rsplit_once(" | "));
    let figures: Vec<_> = Stats::default().figures().map(|figure| figure.name).collect();
    let mut tests = 0;
    for (row, shown_by) in rows {
        let counted_as = row.rsplit_once(" | ").map_or("", |(_, cell)| cell);
        for name in quoted(counted_as).filter(|name| name.contains('_')) {
            assert!(figures.contains(&name), "there is no figure {name}");
        }
        for (module, function) in quoted(shown_by).filter_map(|path| path.rsplit_once("::")) {
            let module = module.trim_end_matches("::tests");
            let is_named = |file: &&std::path::PathBuf| {
                file.with_extension("").components().any(|part| part.as_os_str() == module)
            };
            let holds =
                |file: &std::path::PathBuf| is_test(&std::fs::read_to_string(file).expect("it is readable"), function);
            assert!(files.iter().filter(is_named).any(holds), "there is no test {module}::{function}");
            tests += 1;
        }
    }
    assert!(tests > 20, "the tables were read: {tests}");
}

/// What stands between backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Whether a function of this name stands right below an attribute that makes it a test.
fn is_test(code: &str, function: &str) -> bool {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let is_attribute = |line: &str| line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    lines.windows(2).any(|pair| is_attribute(pair[0]) && pair[1].contains(&format!("fn {function}(")))
}
