//! What may happen to a node, as steps that are read from any bytes.
//!
//! Steps are postcard, as messages are: so what nodes said to each other can be written down as a corpus, and each
//! change of a byte gives another message that decodes, or a step less.

use std::net::SocketAddr;

use haulout::proto::wire::Message;
use haulout::proto::{Identity, InstanceId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Steps beyond are not taken: an input must stay cheap.
const STEPS_MAX: usize = 96;

/// One thing that happens to a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Step {
    /// A datagram of any bytes arrives.
    Noise(Vec<u8>),
    /// A datagram arrives that passes for one of this peer's: its SWIM part, its messages, and any bytes behind them.
    Datagram { from: u8, swim: Vec<u8>, messages: Vec<Message>, noise: Vec<u8> },
    /// Somebody dials.
    Accepted,
    /// What became of the stream with this place among those that are open.
    Connected(u8),
    /// The same.
    Refused(u8),
    /// The same.
    Closed(u8),
    /// A frame of any bytes arrives on a stream.
    NoiseFrame { stream: u8, bytes: Vec<u8> },
    /// A frame arrives on a stream that passes for one of this peer's.
    Frame { stream: u8, from: u8, messages: Vec<Message>, noise: Vec<u8> },
    /// The seeds are resolved to so many of the peers.
    Seeds(u8),
    /// The run with this place among those that have not ended takes a step.
    Child { run: u8, report: Report },
    /// A user starts a child.
    Start { child: u8, args: u16 },
    /// A user replaces a child's spec.
    Update { child: u8, args: u16 },
    /// A user terminates a child.
    Terminate(u8),
    /// A user lists all children.
    List,
    /// A user waits for a child.
    Await(u8),
    /// The user who called so many calls ago does not wait any more.
    Cancel(u8),
    /// A user makes the node leave, within so many milliseconds.
    Leave(u16),
    /// So many milliseconds pass.
    Wait(u16),
    /// So many milliseconds pass in which the process stands still.
    Pause(u16),
    /// A datagram arrives of which only the head and the end are as this peer would make them.
    HollowDatagram { from: u8, bytes: Vec<u8> },
    /// The datagram comes twice more that came so many datagrams ago.
    Repeat(u8),
}

/// What a child does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Report {
    Started,
    Declined,
    Succeeded,
    Failed,
    Panicked,
}

/// The steps in these bytes: what is none is skipped.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Vec<T> {
    let (mut steps, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() && steps.len() < STEPS_MAX {
        match postcard::take_from_bytes(rest) {
            Ok((step, after)) => {
                steps.push(step);
                rest = after;
            }
            Err(_) => rest = &rest[1..],
        }
    }
    steps
}

/// The bytes of steps.
pub fn write<T: Serialize>(steps: &[T]) -> Vec<u8> {
    steps.iter().take(STEPS_MAX).fold(Vec::new(), |bytes, step| postcard::to_extend(step, bytes).expect("a step"))
}

/// The peers have small numbers, as nodes of the simulator have them: 0 is the node itself, 8 a newer life at its
/// address, and so on.
pub fn identity(peer: u8) -> Identity {
    let place = peer % 8 + 1;
    let addr = SocketAddr::from(([10, 0, 0, place], 7946));
    Identity { addr, bump: 0, instance: InstanceId::new(u64::from(peer) + 1) }
}
