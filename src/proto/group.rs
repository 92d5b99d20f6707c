//! Group state: one replicated map, used for what users desire and for what members say of themselves.
//!
//! Deletes leave no tombstones. Every write has a serial number, its [`Dot`](crate::proto::Dot), and every node
//! remembers as ranges which dots it has *ever* seen: a record that one node holds and the other does not, although it
//! has seen its dot, was deleted. The idea is that of the observed-remove set (Shapiro et al., 2011) with dotted
//! version vectors (Preguiça et al., 2012); the ranges make it small, the rules of the exchange make it safe.
//!
//! May not: read a clock, know who is alive, or decide where anything runs.

pub mod bucket_map;
pub mod comparison;
pub mod ranges;
pub mod records;
pub mod replica;
pub mod seen;
pub mod trie;

pub use bucket_map::BucketMap;
pub use comparison::Comparison;
pub use ranges::Ranges;
pub use records::{ChildKey, Claim, ClaimState, Desired, MemberRecord, Owned, OwnedKey};
pub use replica::{Key, Merge, Record, Replica, Shelf};
pub use seen::Seen;
pub use trie::SumTrie;
