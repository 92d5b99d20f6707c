//! Why a stream was refused, for somebody who can't read anything else: another version, no key, another key.
//!
//! Five bytes that all versions read: `h`, 0 where a packet has its version, the reason, and which versions are spoken.
//! Nobody can vouch for them, so they make a line in the log and an event, and change nothing.

use super::packet::Refused;
use super::wire::{WIRE_VERSION, WIRE_VERSION_MIN};

const LEAD: [u8; 2] = [b'h', 0];

/// What is wrong, as far as the one who refused can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The version.
    WireVersion,
    /// The dialler sealed, and there is no keyring here.
    Sealed,
    /// The dialler did not seal, and there is a keyring here.
    Plaintext,
    /// The dialler's key is not in the keyring here.
    UnknownKey,
    /// The tag of the cluster.
    OtherCluster,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) reason: Reason,
    /// The lowest and the highest version that are spoken where this comes from.
    versions: [u8; 2],
}

impl Hint {
    /// What to tell whose first frame was refused for this reason; `None` if that is not one of ours.
    pub(crate) fn about(refused: Refused) -> Option<Self> {
        let reason = match refused {
            Refused::WireVersion(_) => Reason::WireVersion,
            Refused::Sealed => Reason::Sealed,
            Refused::Plaintext => Reason::Plaintext,
            // Two keys may have one name.
            Refused::UnknownKey | Refused::Forged => Reason::UnknownKey,
            Refused::OtherCluster => Reason::OtherCluster,
            Refused::Malformed
            | Refused::Corrupt
            | Refused::Replayed
            | Refused::Unproven
            | Refused::Source
            | Refused::Rate => {
                return None;
            }
        };
        Some(Hint { reason, versions: [WIRE_VERSION_MIN, WIRE_VERSION] })
    }

    pub(crate) fn to_frame(self) -> Vec<u8> {
        [&LEAD[..], &[self.reason as u8 + 1], &self.versions].concat()
    }

    /// Reads one; what later versions may append is passed over.
    pub(crate) fn from_frame(frame: &[u8]) -> Option<Self> {
        let [h, zero, reason, low, high, ..] = *frame else { return None };
        let reason = match reason {
            1 => Reason::WireVersion,
            2 => Reason::Sealed,
            3 => Reason::Plaintext,
            4 => Reason::UnknownKey,
            5 => Reason::OtherCluster,
            _ => return None,
        };
        ([h, zero] == LEAD).then_some(Hint { reason, versions: [low, high] })
    }

    /// What to do about it.
    pub(crate) fn explain(self) -> String {
        let [low, high] = self.versions;
        match self.reason {
            Reason::WireVersion => format!(
                "it speaks versions {low} to {high} of the protocol, this node {WIRE_VERSION_MIN} to {WIRE_VERSION}: \
                 deploy versions of this library that have one in common"
            ),
            Reason::Sealed => "it has no keyring and this node has one: give both the same, under security".into(),
            Reason::Plaintext => "it has a keyring and this node has none: give both the same, under security".into(),
            Reason::UnknownKey => {
                "it does not have the first key of this node's keyring: add it there before it is put first here".into()
            }
            Reason::OtherCluster => "it belongs to another cluster: compare cluster and seeds".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every hint is read as it was meant, whatever follows, and never mistaken for a packet.
    #[test]
    fn hints_are_read_by_every_version_and_are_no_packets() {
        let refusals =
            [Refused::WireVersion(9), Refused::Sealed, Refused::Plaintext, Refused::UnknownKey, Refused::OtherCluster];
        for refused in refusals {
            let hint = Hint::about(refused).expect("it is one of ours");
            let mut frame = hint.to_frame();
            assert_eq!(Hint::from_frame(&frame), Some(hint));
            frame.push(7);
            assert_eq!(Hint::from_frame(&frame), Some(hint), "a later version says more");
            assert_eq!(frame[1], 0, "no packet has this version");
            assert!((0..5).all(|len| Hint::from_frame(&frame[..len]).is_none()));
        }
        assert_eq!(Hint::about(Refused::Malformed), None);
        assert_eq!(Hint::from_frame(&[b'h', 0, 6, 2, 2]), None);
    }
}
