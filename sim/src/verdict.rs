//! What a run comes to: every promise kept, one broken, or nothing to judge by.

use std::fmt;

use haulout::ChildId;
use haulout::proto::{ScopeId, Time};

use crate::NodeIdx;

/// What kind of promise an invariant guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Nothing bad happens.
    Safety,
    /// Something good happens in time.
    Liveness,
}

/// A promise that was broken: what, when, where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The name of the invariant.
    pub invariant: &'static str,
    /// Its class.
    pub class: Class,
    /// When it happened, not when it was looked for.
    pub at: Time,
    /// On which node, if on one.
    pub node: Option<NodeIdx>,
    /// To which child, if to one.
    pub child: Option<ChildId>,
    /// In which scope, if it was judged by one.
    pub scope: Option<ScopeId>,
    /// In words.
    pub detail: String,
}

impl Violation {
    /// Something bad that happened.
    pub fn safety(invariant: &'static str, at: Time, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Violation { invariant, class: Class::Safety, at, node: None, child: None, scope: None, detail }
    }

    /// Something good that has not happened.
    pub fn liveness(invariant: &'static str, at: Time, detail: impl Into<String>) -> Self {
        Violation { class: Class::Liveness, ..Violation::safety(invariant, at, detail) }
    }

    /// Where it was.
    #[must_use]
    pub fn on(self, node: NodeIdx) -> Self {
        Violation { node: Some(node), ..self }
    }

    /// To which child.
    #[must_use]
    pub fn of(self, child: &ChildId) -> Self {
        Violation { child: Some(child.clone()), ..self }
    }

    /// In which scope, and what to add in words.
    #[must_use]
    pub fn within(self, scope: ScopeId, words: &str) -> Self {
        Violation { scope: Some(scope), detail: self.detail + words, ..self }
    }
}

/// Whether every promise was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every one.
    Passed,
    /// This one was not.
    Failed(Violation),
    /// There was nothing to judge by, and why.
    Inconclusive(String),
}

impl Verdict {
    /// The exit code of the command line: 0 passed, 1 safety, 2 liveness, 3 inconclusive.
    pub fn exit_code(&self) -> u8 {
        match self {
            Verdict::Passed => 0,
            Verdict::Failed(Violation { class: Class::Safety, .. }) => 1,
            Verdict::Failed(Violation { class: Class::Liveness, .. }) => 2,
            Verdict::Inconclusive(_) => 3,
        }
    }

    /// The name of the invariant that was broken, if one was.
    pub fn broken(&self) -> Option<&'static str> {
        match self {
            Verdict::Failed(violation) => Some(violation.invariant),
            Verdict::Passed | Verdict::Inconclusive(_) => None,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Safety => "safety",
            Class::Liveness => "liveness",
        })
    }
}
