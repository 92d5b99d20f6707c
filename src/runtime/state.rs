//! The state machine behind a lock, so that handles can read it without a trip to the protocol loop.
//!
//! The loop alone writes, and holds the lock only while it feeds the state machine or drains it, never while it waits.
//! Nobody waits for the loop: a reader that finds it at work asks it instead. The loop may have to wait for a reader,
//! so what is read under the lock is bounded, and nothing of the user's runs meanwhile. When the loop waits, no new
//! reader gets in before it.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use crate::proto::Node;

/// The loop's end. When it is dropped there is nothing to read any more.
#[derive(Debug)]
pub(super) struct State(Arc<RwLock<Node>>);

impl State {
    pub(super) fn new(node: Node) -> Self {
        State(Arc::new(RwLock::new(node)))
    }

    pub(super) fn view(&self) -> View {
        View(Arc::downgrade(&self.0))
    }

    /// For looking on: does not wait for readers.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Node> {
        // Only a panic of the loop poisons the lock, and ends the loop.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For everything else.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Node> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle's end.
#[derive(Clone, Debug)]
pub(super) struct View(Weak<RwLock<Node>>);

impl View {
    /// Reads at once, or not at all: if the loop is at work just now, is gone, or has panicked.
    pub(super) fn peek<T>(&self, read: impl FnOnce(&Node) -> T) -> Option<T> {
        let state = self.0.upgrade()?;
        let node = state.try_read().ok()?;
        Some(read(&node))
    }
}

#[cfg(test)]
mod tests;
