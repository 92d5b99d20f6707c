//! What the orchestrator asks of a node, and what the node answers.

use serde::{Deserialize, Serialize};

/// One line to a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Start a monitor.
    Start { id: String, target: String },
    /// Terminate a monitor.
    Terminate { id: String },
    /// List all monitors of the cluster.
    List,
    /// Name the settled members.
    Members,
    /// Hand everything over and leave the cluster.
    Leave,
}

/// One line from a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The node listens. Written once, without having been asked.
    Ready { addr: String },
    /// It was accepted.
    Done,
    /// To `List`.
    Listing(Vec<Listed>),
    /// To `Members`, sorted.
    Members(Vec<String>),
    /// It was refused, with the reason.
    Refused(String),
}

/// A monitor as the library lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) node: String,
    pub(crate) state: String,
}
