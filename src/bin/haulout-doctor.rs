//! Says whether the nodes of a configuration can reach each other.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

use std::fs;
use std::process::ExitCode;

use haulout::Config;
use haulout::doctor::{self, Finding};

const USAGE: &str = "\
Finds out whether the nodes of a haulout configuration can reach each other.

  haulout-doctor check --config FILE   examines the seeds and the members that they tell of, from this host
  haulout-doctor serve --config FILE   takes the place of this host's node, to be examined and to examine back

FILE is the node's configuration, as TOML. Where nodes run, one check on each host shows the ways from it. Before any runs,
`serve` on one host and `check` on the others show both ways between them. One line is printed for each thing that was
looked at; neither becomes a member of the cluster.

Exit code: 0 nothing failed, 1 something failed, 2 nothing could be examined (command line, configuration, keys, port).";

const FAILED: u8 = 1;
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (command, file) = match arguments[..] {
        [command @ ("check" | "serve"), "--config", file] => (command, file),
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(UNUSABLE);
        }
    };
    match run(command, file) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(FAILED),
        Err(why) => {
            eprintln!("haulout-doctor: {why}");
            ExitCode::from(UNUSABLE)
        }
    }
}

/// How many checks failed; or why nothing could be examined.
fn run(command: &str, file: &str) -> Result<usize, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("can't read {file}: {error}"))?;
    let config: Config = toml::from_str(&text).map_err(|error| format!("{file} is no configuration: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the operating system gave no timers: {error}"))?;
    let print = |finding: &Finding| println!("{finding}");
    let done = runtime.block_on(async {
        match command {
            "serve" => doctor::serve(config, print).await.map(|()| 0),
            _ => doctor::check(config, print).await,
        }
    });
    done.map_err(|error| error.to_string())
}
