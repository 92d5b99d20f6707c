//! `explain`: the story of one child or one node.

use std::path::PathBuf;

use clap::Args;
use haulout::ChildId;
use haulout_sim::wall::any_seed;
use haulout_sim::{Settings, explain, run};

use super::Wrong;
use super::args::{Given, read};
use super::run::print_verdict;

/// The arguments of `explain`.
#[derive(Args)]
pub(crate) struct Explain {
    /// A child's id or a node's name [default: the child or node of the first violation].
    who: Option<String>,
    /// Where all randomness comes from.
    #[arg(long)]
    seed: Option<u64>,
    /// A run directory, instead of options.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["seed", "scenario"])]
    run: Option<PathBuf>,
    #[command(flatten)]
    given: Given,
}

impl Explain {
    pub(crate) fn execute(&self) -> Result<u8, Wrong> {
        let seed = self.seed.or_else(|| self.given.scenario.is_none().then(any_seed));
        let scenario = match &self.run {
            Some(dir) => read(dir)?,
            None => self.given.scenario(seed)?,
        };
        let ran = run(&scenario, Settings::default());
        let blamed = ran.violations.first();
        let node = match &self.who {
            Some(who) => ran.cluster.named(who),
            None => blamed.filter(|violation| violation.child.is_none()).and_then(|violation| violation.node),
        };
        let child = match &self.who {
            Some(who) => Some(ChildId::new(who)?),
            None => blamed.and_then(|violation| violation.child.clone()),
        };
        match (node, child) {
            (Some(node), _) => println!("{}", explain::node(&ran.cluster, node)),
            (None, Some(child)) => println!("{}", explain::child(&ran.cluster, &child, &ran.violations)),
            (None, None) => return Err("nothing is broken: name a child or a node".into()),
        }
        print_verdict(&ran, &format!("seed {}", scenario.seed));
        Ok(ran.verdict.exit_code())
    }
}
