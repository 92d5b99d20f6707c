//! `list`: what there is to choose from.

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use haulout::proto::{Sabotage, Site};
use haulout_sim::invariants;
use haulout_sim::scenario::{faults, faults::Family};

use super::Wrong;
use super::args::read;

/// The arguments of `list`.
#[derive(Args)]
pub(crate) struct List {
    /// What to list.
    what: What,
    /// Where scenario files are.
    #[arg(long, default_value = "sim/scenarios")]
    dir: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Scenario files, with what they are about.
    Scenarios,
    /// Faults that random scenarios draw, and what their numbers mean.
    Faults,
    /// What every run is checked for.
    Invariants,
    /// Rules of the protocols that can be taken out.
    Rules,
}

impl List {
    pub(crate) fn execute(&self) -> Result<u8, Wrong> {
        match self.what {
            What::Scenarios => self.scenarios()?,
            What::Faults => {
                for fault in faults::ALL {
                    println!(
                        "{:<14}  {:<8}  {:<11}  {}",
                        fault.name,
                        family(fault.family),
                        fault.family.unit(),
                        fault.about
                    );
                }
                for site in Site::ALL {
                    let unit = Family::Site.unit();
                    println!("{:<14}  {:<8}  {unit:<11}  {}", site.to_string(), family(Family::Site), site.statement());
                }
            }
            What::Invariants => {
                for invariant in invariants::ALL {
                    println!(
                        "{} ({}, {})\n    {}",
                        invariant.name, invariant.family, invariant.class, invariant.statement
                    );
                }
            }
            What::Rules => {
                Sabotage::ALL.iter().for_each(|rule| println!("{:<22}  {}", format!("{rule:?}"), rule.statement()))
            }
        }
        Ok(0)
    }

    fn scenarios(&self) -> Result<(), Wrong> {
        let entries = fs::read_dir(&self.dir).map_err(|error| format!("can't read {}: {error}", self.dir.display()))?;
        let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
        files.sort();
        for file in files {
            let scenario = read(&file)?;
            println!("{}\n    {}", file.display(), scenario.about.trim().replace('\n', "\n    "));
        }
        Ok(())
    }
}

fn family(family: Family) -> String {
    format!("{family:?}").to_lowercase()
}
