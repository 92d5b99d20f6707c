//! The keys of the nodes, and what an operator does with them.

use haulout::proto::Command;
use haulout::{Key, Security};

use super::{Cluster, Request};
use crate::NodeIdx;

impl Cluster {
    /// The keyring that nodes are started with from now on.
    pub fn set_keyring_of_newcomers(&mut self, keys: &[Key]) {
        self.options.config.security = keyring(keys);
        self.note_keys(keys);
    }

    /// Gives a node another keyring, now and for its later starts.
    pub fn set_keyring(&mut self, node: NodeIdx, keys: &[Key]) -> Request {
        self.slots[node.0].options.config.security = keyring(keys);
        self.note_keys(keys);
        self.send(node, Command::SetKeyring { keys: keys.to_vec() })
    }

    /// What was ever a key is one that the simulation can read.
    pub(super) fn note_keys(&mut self, keys: &[Key]) {
        let news: Vec<_> = keys.iter().filter(|key| !self.keys.contains(key)).cloned().collect();
        if !news.is_empty() {
            self.keys.extend(news);
            self.observer.set_keys(&self.keys);
        }
    }
}

fn keyring(keys: &[Key]) -> Security {
    Security::Keyring { keys: keys.to_vec(), file: None, env: None }
}
