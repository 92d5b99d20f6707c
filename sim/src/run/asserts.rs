//! What a test says about a run, with everything in the message that its reader needs.

use std::fmt::Write;

use super::Ran;
use crate::explain;
use crate::trace::At;
use crate::verdict::{Verdict, Violation};

impl Ran {
    /// Asserts that every promise was kept, and everything that the scenario expects.
    ///
    /// # Panics
    /// If it was not. The message has the verdict, the story of the child or node concerned, and the scenario as a file
    /// for `haulout-sim run --scenario`, `explain` and `minimise`.
    #[track_caller]
    pub fn assert_passed(&self) -> &Self {
        assert!(self.verdict == Verdict::Passed, "{}", self.failure());
        self
    }

    fn failure(&self) -> String {
        let mut text = format!("seed {}: {}\n", self.scenario.seed, self.headline());
        for Violation { invariant, at, detail, .. } in &self.violations {
            // A String takes any text.
            let _ = writeln!(text, "{invariant} at {}: {detail}", At(*at));
        }
        let blamed = self.violations.first();
        if let Some(id) = blamed.and_then(|violation| violation.child.as_ref()) {
            let _ = write!(text, "\n{}", explain::child(&self.cluster, id, &self.violations));
        } else if let Some(node) = blamed.and_then(|violation| violation.node) {
            let _ = write!(text, "\n{}", explain::node(&self.cluster, node));
        }
        let _ = write!(text, "\nthe scenario, for `haulout-sim run --scenario FILE`:\n\n{}", self.scenario);
        text
    }
}
