//! `explain`: the story of one child or one node.

use clap::Args;
use haulout::ChildId;
use haulout_sim::{Settings, explain, run};

use super::Wrong;
use super::args::Which;
use super::run::print_verdict;

/// The arguments of `explain`.
#[derive(Args)]
pub(crate) struct Explain {
    /// A child's id or a node's name [default: the child or node of the first violation].
    who: Option<String>,
    #[command(flatten)]
    which: Which,
}

impl Explain {
    pub(crate) fn execute(&self) -> Result<u8, Wrong> {
        let scenario = self.which.scenario()?;
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
        print_verdict(&ran, &self.which.reproduce(&scenario));
        Ok(ran.verdict.exit_code())
    }
}
