//! The users' calls, indexed by child.

use std::collections::BTreeMap;

use haulout::proto::{Command, InstanceId, Reply, Time};
use haulout::{ChildId, Spec};

use super::facts::END;
use crate::history::{Call, History};

/// A call about one child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) call: &'a Call,
    pub(super) instance: InstanceId,
    pub(super) what: What<'a>,
}

/// What a call asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What<'a> {
    Start(&'a Spec),
    Update(&'a Spec),
    Terminate,
}

impl<'a> Entry<'a> {
    fn of(call: &'a Call) -> Option<(&'a ChildId, Self)> {
        let (id, what) = match &call.command {
            Command::Start { spec, .. } => (spec.id(), What::Start(spec.spec())),
            Command::Update { spec, .. } => (spec.id(), What::Update(spec.spec())),
            Command::Terminate { id, .. } => (id, What::Terminate),
            _ => return None,
        };
        call.instance.map(|instance| (id, Entry { call, instance, what }))
    }

    /// When it was answered; never, if that is not known.
    pub(super) fn done(&self) -> Time {
        self.call.answer.as_ref().map_or(END, |(at, _)| *at)
    }

    /// Whether it was a start that found a life with this spec where it was made.
    pub(super) fn found(&self, spec: &Spec) -> bool {
        self.what == What::Start(spec) && matches!(self.reply(), Some(Reply::Started(Ok(false))))
    }

    /// Whether it was answered before another one was made; calls in one instant are made one after the other.
    pub(super) fn precedes(&self, other: &Entry<'_>) -> bool {
        self.done() <= other.call.called && self.call.request < other.call.request
    }

    /// How many other members had to have it before it was answered.
    pub(super) fn replicated(&self) -> usize {
        match self.call.command {
            Command::Start { replicated, .. }
            | Command::Update { replicated, .. }
            | Command::Terminate { replicated, .. } => replicated,
            _ => 0,
        }
    }

    fn reply(&self) -> Option<&'a Reply> {
        self.call.answer.as_ref().map(|(_, reply)| reply)
    }

    /// The spec of the life that it has made, or may have made: an answer that never came, or that says only that the
    /// node went away, leaves that open.
    pub(super) fn may_have_made(&self) -> Option<&'a Spec> {
        let (What::Start(spec) | What::Update(spec)) = self.what else { return None };
        let refused =
            matches!(self.reply(), Some(Reply::Started(Ok(false) | Err(_)) | Reply::Updated(Ok(false) | Err(_))));
        (!refused).then_some(spec)
    }

    /// Whether it was acknowledged to have made a life.
    pub(super) fn made(&self) -> bool {
        matches!(self.reply(), Some(Reply::Started(Ok(true)) | Reply::Updated(Ok(true))))
    }

    /// Whether it was acknowledged to have removed one.
    pub(super) fn removed(&self) -> bool {
        matches!(self.reply(), Some(Reply::Terminated(Ok(()))))
    }

    /// Whether it changed something, or may have.
    pub(super) fn may_have_written(&self) -> bool {
        // A terminate that found nothing here may still have reached somebody who did.
        self.what == What::Terminate || self.may_have_made().is_some()
    }
}

/// Every call about each child, in the order in which they were made.
pub(super) fn by_child(history: &History) -> BTreeMap<&ChildId, Vec<Entry<'_>>> {
    let mut calls: BTreeMap<&ChildId, Vec<Entry<'_>>> = BTreeMap::new();
    for (id, entry) in history.calls.iter().filter_map(Entry::of) {
        calls.entry(id).or_default().push(entry);
    }
    calls
}

/// The spec of every start-up child of any node.
pub(super) fn startup_specs(history: &History) -> BTreeMap<&ChildId, Vec<&Spec>> {
    let mut specs: BTreeMap<&ChildId, Vec<&Spec>> = BTreeMap::new();
    for call in &history.calls {
        let Command::JoinScope(setup) = &call.command else { continue };
        for child in &setup.children {
            specs.entry(child.id()).or_default().push(child.spec());
        }
    }
    specs
}
