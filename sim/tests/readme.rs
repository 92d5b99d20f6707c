//! The manual says what is true: its scenarios can be run, its tables name every key, its commands exist.

use std::collections::BTreeSet;
use std::path::PathBuf;

use haulout_sim::Scenario;

fn readme() -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md");
    std::fs::read_to_string(file).expect("the manual is there")
}

/// The blocks of this language.
fn blocks<'a>(readme: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    readme.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

#[test]
fn every_scenario_in_the_manual_passes() {
    let readme = readme();
    let scenarios = blocks(&readme, "toml");
    assert!(!scenarios.is_empty());
    for text in scenarios {
        let scenario: Scenario = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
        scenario.run().assert_passed();
    }
}

/// The names that a file may use where this one is refused: the reader of files lists them.
fn expected(text: &str) -> BTreeSet<String> {
    let error = toml::from_str::<Scenario>(text).expect_err(text).to_string();
    let (_, names) = error.split_once("expected").unwrap_or_else(|| panic!("{text}: {error}"));
    // Names stand between backticks: every second part.
    names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Goal: a key that is added must be described. Method: wherever a file has keys, an unknown one is tried, and what is
/// expected instead is looked for.
#[test]
fn the_tables_name_every_key_and_every_event() {
    let mut names = BTreeSet::new();
    for table in [
        "zzz = 1\nduration = \"1s\"",
        "duration = \"1s\"\n[cluster]\nzzz = 1",
        "duration = \"1s\"\n[[cluster.nodes]]\nname = \"a\"\nzzz = 1",
        "duration = \"1s\"\n[cluster]\nresume = \"zzz\"",
        "duration = \"1s\"\n[network]\nzzz = 1",
        "duration = \"1s\"\n[kinds.a]\nzzz = 1",
        "duration = \"1s\"\n[kinds.a]\nruns = [{ zzz = 1 }]",
        "duration = \"1s\"\n[kinds.a]\nruns = [{ start = \"zzz\" }]",
        "duration = \"1s\"\n[kinds.a]\nruns = [{ outcome = \"zzz\" }]",
        "duration = \"1s\"\n[end]\nzzz = 1",
        "duration = \"1s\"\n[expect]\nzzz = 1",
    ] {
        names.extend(expected(table));
    }
    let event = |keys: &str| format!("duration = \"1s\"\nevents = [{{ at = \"0s\", {keys} }}]");
    let acts = expected(&event("do = \"zzz\""));
    assert!(acts.len() >= 18, "{acts:?}");
    for act in &acts {
        names.extend(expected(&event(&format!("do = \"{act}\", zzz = 1"))));
    }
    names.extend(acts);
    names.extend(expected(&event("do = \"start\", id = \"a\", on = \"node-0\", spec = { zzz = 1 }")));
    names.extend(expected(&event("do = \"cut\", links = [], class = \"zzz\"")));
    names.extend(expected(&event("do = \"down\", node = \"node-0\", how = \"zzz\"")));
    assert!(names.len() > 80, "{names:?}");
    let readme = readme();
    let missing: Vec<&String> = names.iter().filter(|name| !readme.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "README.md says nothing of {missing:?}");
}

/// Goal: what the manual says to type can be typed. Method: each line is given to the binary with `--help` behind it,
/// which looks at everything before it.
#[test]
fn every_command_in_the_manual_exists() {
    let Some(binary) = option_env!("CARGO_BIN_EXE_haulout-sim") else { return };
    let readme = readme();
    let lines: Vec<&str> =
        blocks(&readme, "sh").into_iter().flat_map(str::lines).filter(|line| !line.is_empty()).collect();
    assert!(lines.len() > 10);
    for line in lines {
        let command = line.split(" #").next().unwrap_or_default().trim();
        let words = command.strip_prefix("haulout-sim ").unwrap_or_else(|| panic!("{line}")).split_whitespace();
        let output = std::process::Command::new(binary).args(words).arg("--help").output().expect("it runs");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
