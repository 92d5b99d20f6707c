//! Where foca puts what it wants done.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use foca::{Notification, Timer};

use crate::proto::{Identity, InstanceId};

/// What foca asked for during one call.
#[derive(Debug, Default)]
pub(super) struct Collected {
    pub(super) bytes: Vec<u8>,
    pub(super) packets: VecDeque<(Identity, std::ops::Range<usize>)>,
    pub(super) timers: Vec<(Duration, Timer<Identity>)>,
    /// The instances whose standing may have changed.
    pub(super) touched: BTreeSet<InstanceId>,
    pub(super) rejoined: bool,
    /// At which incarnation this node speaks. foca does not tell, but writes it on each packet.
    pub(super) incarnation: u16,
    /// The member that was probed.
    pub(super) probed: Option<(Identity, u8)>,
}

impl foca::Runtime<Identity> for Collected {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        match notification {
            Notification::MemberUp(id) | Notification::MemberDown(id) => {
                self.touched.insert(id.instance);
            }
            Notification::Rename(old, new) => self.touched.extend([old.instance, new.instance]),
            Notification::Rejoin(_) => self.rejoined = true,
            _ => {}
        }
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        if let Ok((header, _)) = postcard::take_from_bytes::<foca::Header<Identity>>(data) {
            self.incarnation = header.src_incarnation;
            if let foca::Message::Ping(number) = header.message {
                self.probed = Some((to, number));
            }
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(data);
        self.packets.push_back((to, start..self.bytes.len()));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.push((after, event));
    }
}
