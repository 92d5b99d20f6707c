//! `run` and `replay`: one run, shown.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use haulout_sim::report::{html, text};
use haulout_sim::scenario::Scenario;
use haulout_sim::trace::{At, TraceText};
use haulout_sim::wall::any_seed;
use haulout_sim::{Ran, Recording, Settings, Verdict, run};
use serde_json::json;

use super::args::{Given, read, reproduce};
use super::{DIFFERS, Wrong};

/// The arguments of `run`.
#[derive(Args)]
pub(crate) struct Run {
    /// Where all randomness comes from [default: the scenario's, or one that nobody chose].
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    show: Show,
    /// Runs it again, here and in a process of its own, and compares.
    #[arg(long)]
    check_determinism: bool,
}

/// What of a run is shown or kept.
#[derive(Args, Clone, Default)]
struct Show {
    /// Prints everything that happens to standard error.
    #[arg(long)]
    trace: bool,
    /// Writes a directory with the scenario, the summary, the journal, the calls, the faults and the report.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Writes a report that a browser shows, in one file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Prints the result as JSON instead of text.
    #[arg(long)]
    json: bool,
}

impl Run {
    pub(crate) fn execute(&self) -> Result<u8, Wrong> {
        let seed = self.seed.or_else(|| self.given.scenario.is_none().then(any_seed));
        let scenario = self.given.scenario(seed)?;
        if !self.show.json {
            head(&scenario, &self.given);
        }
        let again = reproduce("run", scenario.seed, &self.given);
        let code = show(&scenario, &self.show, self.given.named(scenario.seed), &again)?;
        match self.check_determinism {
            true => Ok(differs(&scenario, &self.given)?.unwrap_or(code)),
            false => Ok(code),
        }
    }
}

/// The seed and every option, given or derived.
fn head(scenario: &Scenario, given: &Given) {
    print!("seed={} ", scenario.seed);
    match &given.scenario {
        Some(path) => {
            println!("scenario={} nodes={} events={}", path.display(), scenario.nodes().len(), scenario.events.len())
        }
        None => println!("{}", given.draw(scenario.seed)),
    }
}

/// Runs a scenario and shows it; returns the exit code.
fn show(scenario: &Scenario, show: &Show, options: Vec<(String, String)>, again: &str) -> Result<u8, Wrong> {
    let trace = if show.trace { TraceText::Print } else { TraceText::Off };
    let ran = run(scenario, Settings { trace });
    let recording = ran.recording(options, again);
    if let Some(dir) = &show.out {
        write_directory(dir, &ran, &recording)?;
    }
    if let Some(file) = &show.html {
        write(file, &html::page(&recording))?;
    }
    if show.json {
        println!("{}", summary(&ran, again));
    } else {
        println!("{}", text::timeline(&recording, text::WIDTH));
        println!("{}", text::table(&recording));
        print_verdict(&ran, again);
    }
    Ok(ran.verdict.exit_code())
}

/// The last lines: what broke, and how to see it again.
pub(super) fn print_verdict(ran: &Ran, again: &str) {
    for violation in ran.violations.iter().skip(1) {
        println!("also broken: {} t={}: {}", violation.invariant, At(violation.at), violation.detail);
    }
    if let Verdict::Failed(violation) = &ran.verdict {
        println!("{}", violation.detail);
    }
    println!("{}", ran.headline());
    if ran.verdict != Verdict::Passed {
        println!("reproduce: {again}");
    }
}

/// A run again: after an unrelated one in this process, and in a process of its own.
fn differs(scenario: &Scenario, given: &Given) -> Result<Option<u8>, Wrong> {
    let first = run(scenario, Settings { trace: TraceText::Keep });
    let unrelated = Scenario { seed: scenario.seed ^ 1, ..Scenario::new(0) };
    let _ = run(&unrelated, Settings::default());
    let second = run(scenario, Settings { trace: TraceText::Keep });
    if first.tally.digest != second.tally.digest {
        let pairs = first.cluster.trace().lines().iter().zip(second.cluster.trace().lines());
        let at = pairs.clone().position(|(one, other)| one != other);
        println!("NOT DETERMINISTIC: two runs in one process differ, first at line {at:?}");
        return Ok(Some(DIFFERS));
    }
    let mut options = vec!["run".to_owned(), "--json".into(), "--seed".into(), scenario.seed.to_string()];
    options.extend(given.options().split_whitespace().map(String::from));
    let output = Command::new(std::env::current_exe()?).args(&options).output()?;
    let other: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    if other["digest"] != first.tally.digest.to_string() {
        println!("NOT DETERMINISTIC: another process came to {} instead of {}", other["digest"], first.tally.digest);
        return Ok(Some(DIFFERS));
    }
    println!("deterministic: three runs, one of them in another process, came to {}", first.tally.digest);
    Ok(None)
}

/// The directory of a run: what it was, what happened, what came of it.
fn write_directory(dir: &Path, ran: &Ran, recording: &Recording) -> Result<(), Wrong> {
    fs::create_dir_all(dir).map_err(|error| format!("can't make {}: {error}", dir.display()))?;
    write(&dir.join("scenario.toml"), &ran.scenario.to_string())?;
    write(&dir.join("summary.json"), &summary(ran, &recording.reproduce).to_string())?;
    write(
        &dir.join("timeline.txt"),
        &format!("{}\n{}\n{}\n", text::timeline(recording, text::WIDTH), text::table(recording), ran.headline()),
    )?;
    write(&dir.join("recording.json"), &serde_json::to_string(recording)?)?;
    write(&dir.join("report.html"), &html::page(recording))?;
    println!("wrote {}", dir.display());
    Ok(())
}

fn write(file: &Path, text: &str) -> Result<(), Wrong> {
    fs::write(file, text).map_err(|error| format!("can't write {}: {error}", file.display()).into())
}

/// A run in figures, for other programs.
fn summary(ran: &Ran, again: &str) -> serde_json::Value {
    let tally = &ran.tally;
    let seconds = |durations: &[std::time::Duration]| durations.iter().sum::<std::time::Duration>().as_secs_f64();
    let violations = ran.violations.iter().map(|violation| {
        json!({
            "invariant": violation.invariant,
            "class": violation.class.to_string(),
            "at_seconds": violation.at.since(haulout::proto::Time::ZERO).as_secs_f64(),
            "node": violation.node.map(|node| ran.cluster.name(node)),
            "child": violation.child.as_ref().map(ToString::to_string),
            "detail": violation.detail,
        })
    });
    json!({
        "seed": ran.scenario.seed,
        "verdict": ran.headline(),
        "exit_code": ran.verdict.exit_code(),
        "digest": tally.digest.to_string(),
        "simulated_seconds": tally.simulated.as_secs_f64(),
        "wall_seconds": tally.wall.as_secs_f64(),
        "converged_in_seconds": tally.converged_in.map(|duration| duration.as_secs_f64()),
        "events": tally.events,
        "messages": tally.messages,
        "bytes": tally.bytes,
        "runs": tally.runs,
        "children": tally.children,
        "duplicate_seconds": seconds(&tally.duplicates),
        "orphan_seconds": seconds(&tally.orphans),
        "counters": tally.coverage.0,
        "violations": violations.collect::<Vec<_>>(),
        "reproduce": again,
    })
}

/// The arguments of `replay`.
#[derive(Args)]
pub(crate) struct Replay {
    /// A run directory, a scenario file, or a seed.
    what: String,
    #[command(flatten)]
    show: Show,
}

impl Replay {
    pub(crate) fn execute(&self) -> Result<u8, Wrong> {
        let path = Path::new(&self.what);
        let scenario = match self.what.parse::<u64>() {
            Ok(seed) if !path.exists() => haulout_sim::scenario::Draw::seeded(seed).scenario(),
            _ => read(path)?,
        };
        let again = format!("cargo run --release -p haulout-sim -- replay {}", self.what);
        let code = show(&scenario, &self.show, vec![("scenario".into(), self.what.clone())], &again)?;
        let Ok(recorded) = fs::read_to_string(path.join("summary.json")) else { return Ok(code) };
        let recorded: serde_json::Value = serde_json::from_str(&recorded)?;
        let digest = run(&scenario, Settings::default()).tally.digest.to_string();
        if recorded["digest"] == digest {
            println!("the same as recorded: {digest}");
            return Ok(code);
        }
        println!(
            "NOT THE SAME as recorded: {digest} instead of {}; another version made it, or a bug",
            recorded["digest"]
        );
        Ok(DIFFERS)
    }
}
