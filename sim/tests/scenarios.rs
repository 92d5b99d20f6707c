//! Every scenario in `scenarios/` does what it expects: typical questions, and seeds that once failed.

use std::fs;
use std::path::PathBuf;

use haulout_sim::{Scenario, Verdict};

/// Goal: no scenario that was ever written down is broken again. Method: all files are run, and every one that fails is
/// named with its verdict.
#[test]
fn every_scenario_passes() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = fs::read_dir(&dir).expect("the directory is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 6, "{} has only {files:?}", dir.display());
    let failures: Vec<String> = files.iter().filter_map(|file| failure(file).err()).collect();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), files.len(), failures.join("\n"));
}

fn failure(file: &PathBuf) -> Result<(), String> {
    let name = file.display();
    let scenario = Scenario::read(file).map_err(|error| error.to_string())?;
    if scenario.about.trim().is_empty() {
        return Err(format!("{name} does not say what it is about"));
    }
    let ran = scenario.run();
    match &ran.verdict {
        Verdict::Passed => Ok(()),
        Verdict::Failed(violation) => Err(format!(
            "{} {}\nreproduce: cargo run --release -p haulout-sim -- run --scenario {name}",
            ran.headline(),
            violation.detail
        )),
        Verdict::Inconclusive(why) => Err(format!("{name}: {why}")),
    }
}
