//! Holds packets back, where the kernel has no queueing discipline that does: its packet filter hands each over, and
//! takes it back later. It keeps its addresses, and never leaves the kernel.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use haulout::BoxError;
use haulout_sim::Range;
use haulout_sim::random::Random;
use nfq::{Message, Queue, Verdict};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::lab::Host;
use crate::clock;

/// How late a packet may be let go beyond its time, or be taken in.
const TICK: Duration = Duration::from_micros(200);

/// Packets that wait at most.
const PACKETS_MAX: u32 = 10_000;

/// Holds back what the filter of one host queues, until it is dropped. What waits then is lost.
pub(crate) struct Delay {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Delay {
    /// Each packet waits for a time of this range.
    pub(crate) fn start(host: &Host, range: Range) -> Result<Delay, BoxError> {
        let netns = File::open(host.netns_path())?;
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        #[allow(clippy::disallowed_methods, reason = "a thread enters a namespace alone; its end is waited for")]
        let thread = Builder::new().name("delay".into()).spawn(move || {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
            hold(range, &until)
        })?;
        Ok(Delay { over, thread: Some(thread) })
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(Ok(Err(error))) = self.thread.take().map(JoinHandle::join) {
            eprintln!("packets were not delayed as they should have been: {error}");
        }
    }
}

fn hold(range: Range, over: &AtomicBool) -> io::Result<()> {
    let mut queue = Queue::open()?;
    queue.bind(0)?;
    queue.set_copy_range(0, 0)?;
    queue.set_queue_max_len(0, PACKETS_MAX)?;
    queue.set_nonblocking(true);
    let mut random = Random::stream(clock::now(), "delay");
    let mut waiting: BTreeMap<(u64, u32), Message> = BTreeMap::new();
    while !over.load(Ordering::Relaxed) {
        match queue.recv() {
            Ok(packet) => {
                let due = clock::now() + random.duration(range).as_nanos() as u64;
                waiting.insert((due, packet.get_packet_id()), packet);
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        while let Some(first) = waiting.first_entry().filter(|first| first.key().0 <= clock::now()) {
            let mut packet = first.remove();
            packet.set_verdict(Verdict::Accept);
            queue.verdict(packet)?;
        }
        #[allow(
            clippy::disallowed_methods,
            reason = "the queue keeps its descriptor to itself, so nothing can wait for it until a packet is due"
        )]
        std::thread::sleep(TICK);
    }
    Ok(())
}
