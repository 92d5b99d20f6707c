//! Bare foca over the same links: what SWIM alone costs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroUsize};
use std::ops::Range;
use std::time::Duration;

use chacha20::ChaCha8Rng;
use foca::{Config, Foca, Member, NoCustomBroadcast, Notification, PeriodicParams, PostcardCodec, Timer};
use haulout::Profile;
use haulout::proto::{Identity, InstanceId, Time};
use rand_core::SeedableRng;

use super::{Pace, Stopwatch};
use crate::NodeIdx;
use crate::cluster::address;
use crate::network::{Fate, Link, Network};
use crate::queue::Queue;
use crate::random::Random;

/// How long the cluster runs before it is measured: until what it was given has been told.
const WARM_UP: Duration = Duration::from_secs(30);

/// What is planned.
enum Happening {
    Timer(NodeIdx, Timer<Identity>),
    Arrival(NodeIdx, Vec<u8>),
}

/// What foca asks for during one call.
#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    packets: Vec<(Identity, Range<usize>)>,
    timers: Vec<(Duration, Timer<Identity>)>,
}

impl foca::Runtime<Identity> for Collected {
    fn notify(&mut self, _: Notification<'_, Identity>) {}

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(data);
        self.packets.push((to, start..self.bytes.len()));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.push((after, event));
    }
}

type Node = Foca<Identity, PostcardCodec, ChaCha8Rng, NoCustomBroadcast>;

/// A cluster that knows all its members from the beginning.
struct Swim {
    now: Time,
    nodes: Vec<Node>,
    queue: Queue<Happening>,
    network: Network,
    by_addr: BTreeMap<SocketAddr, NodeIdx>,
    collected: Collected,
    datagrams: u64,
}

/// Runs so many nodes for so long.
pub(super) fn pace(nodes: usize, profile: Profile, link: Link, duration: Duration) -> Pace {
    let mut swim = Swim::new(nodes, profile, link);
    swim.run_for(WARM_UP);
    let sent = swim.datagrams;
    let watch = Stopwatch::start();
    swim.run_for(duration);
    let (wall, cpu) = watch.read();
    Pace { simulated: duration, wall, cpu, events: 0, datagrams: swim.datagrams - sent, judging: Duration::ZERO }
}

impl Swim {
    fn new(nodes: usize, profile: Profile, link: Link) -> Self {
        let mut births = Random::stream(1, "births");
        let identities: Vec<Identity> = (0..nodes)
            .map(|node| Identity { addr: address(NodeIdx(node)), bump: 0, instance: InstanceId::new(births.bits()) })
            .collect();
        let config = config(profile, nodes);
        let node = |&id: &Identity| Foca::new(id, config.clone(), ChaCha8Rng::from_seed(births.seed()), PostcardCodec);
        let mut swim = Swim {
            now: Time::ZERO,
            nodes: identities.iter().map(node).collect(),
            queue: Queue::default(),
            network: Network::new(1, link),
            by_addr: (0..nodes).map(NodeIdx).map(|node| (address(node), node)).collect(),
            collected: Collected::default(),
            datagrams: 0,
        };
        for node in 0..nodes {
            let others = identities.iter().filter(|id| id.addr != address(NodeIdx(node)));
            let members = others.map(|&id| Member::alive(id));
            swim.nodes[node].apply_many(members, false, &mut swim.collected).expect("members can be applied");
            swim.drain(NodeIdx(node));
        }
        swim
    }

    fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.queue.next_at().is_some_and(|at| at <= until) {
            let Some((at, happening)) = self.queue.pop() else { break };
            self.now = at;
            // An error tells of a probe that was overtaken by something else; foca goes on.
            let at = match happening {
                Happening::Timer(at, timer) => {
                    let _ = self.nodes[at.0].handle_timer(timer, &mut self.collected);
                    at
                }
                Happening::Arrival(at, bytes) => {
                    let _ = self.nodes[at.0].handle_data(&bytes, &mut self.collected);
                    at
                }
            };
            self.drain(at);
        }
        self.now = until;
    }

    fn drain(&mut self, at: NodeIdx) {
        for (after, timer) in self.collected.timers.drain(..) {
            self.queue.push(self.now + after, Happening::Timer(at, timer));
        }
        for (to, range) in self.collected.packets.drain(..) {
            self.datagrams += 1;
            let Some(&to) = self.by_addr.get(&to.addr) else { continue };
            if let Fate::Arrives(arrival) = self.network.datagram(self.now, at, to, range.len()) {
                let bytes = self.collected.bytes[range].to_vec();
                self.queue.push(self.now + arrival.after, Happening::Arrival(to, bytes));
            }
        }
        self.collected.bytes.clear();
    }
}

/// What the library gives foca for this profile and size; the numbers of datagrams that are printed beside the speeds
/// show that they agree.
fn config(profile: Profile, nodes: usize) -> Config {
    let members = |count| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
    let class = nodes.next_power_of_two().ilog2();
    let suspicion = f64::max(1.0, f64::from(class) * std::f64::consts::LOG10_2);
    let periodic = |frequency, count| Some(PeriodicParams { frequency, num_members: members(count) });
    Config {
        probe_period: profile.probe_period(),
        probe_rtt: profile.probe_rtt(),
        num_indirect_probes: members(3),
        max_transmissions: NonZeroU8::new(15).unwrap_or(NonZeroU8::MIN),
        suspect_to_down_after: profile.suspect_to_down_after().mul_f64(suspicion),
        remove_down_after: Some(Duration::from_secs(24 * 3_600)),
        max_packet_size: members(haulout::proto::packet::SWIM_BYTES_MAX),
        notify_down_members: true,
        periodic_announce: periodic(Duration::from_secs(30), 1),
        periodic_announce_to_down_members: periodic(Duration::from_secs(if class <= 5 { 5 } else { 15 }), 2),
        periodic_gossip: periodic(profile.gossip_interval(), 3),
    }
}
