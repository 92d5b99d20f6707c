//! Two machines, one network, a queue: what do the ends of a stream hear, and when?

use super::*;
use crate::network::{Class, Link};
use crate::queue::Queue;
use crate::random::Range;

const A: NodeIdx = NodeIdx(0);
const B: NodeIdx = NodeIdx(1);
const DIALLED: End = End { node: A, boot: 1, conn: ConnId(7) };

struct Pair {
    now: Time,
    network: Network,
    streams: Streams,
    queue: Queue<Step>,
    hosts: [Host; 2],
    heard: Vec<(Time, End, Heard)>,
}

impl Pair {
    fn new(link: Link) -> Self {
        Pair {
            now: Time::ZERO,
            network: Network::new(7, link),
            streams: Streams::default(),
            queue: Queue::default(),
            hosts: [Host::Listening(1); 2],
            heard: Vec::new(),
        }
    }

    fn with(&mut self, call: impl FnOnce(&mut Streams, &mut World<'_>) -> Later) {
        let hosts = self.hosts;
        let host = |node: NodeIdx| hosts[node.0];
        let mut world = World { now: self.now, network: &mut self.network, host: &host };
        let later = call(&mut self.streams, &mut world);
        later.into_iter().for_each(|(at, step)| self.queue.push(at, step));
    }

    fn dial(&mut self) {
        let source = "10.0.0.1:7946".parse().expect("an address");
        self.with(|streams, world| streams.dial(world, DIALLED, source, Some(B)));
    }

    fn send(&mut self, end: End, frame: &[u8]) {
        self.with(|streams, world| streams.send(world, end, Duration::ZERO, frame.to_vec()));
    }

    fn cut(&mut self, from: NodeIdx, to: NodeIdx, cut: bool) {
        match cut {
            true => self.network.cut(from, to, Class::Streams),
            false => self.network.mend(from, to, Class::Streams),
        };
    }

    fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.queue.next_at().is_some_and(|at| at <= until) {
            let (at, step) = self.queue.pop().expect("just seen");
            self.now = at;
            let mut told = Vec::new();
            self.with(|streams, world| {
                let (heard, later) = streams.step(world, step);
                told = heard;
                later
            });
            self.heard.extend(told.into_iter().map(|(end, heard)| (at, end, heard)));
        }
        self.now = until;
    }

    fn open(&mut self) -> End {
        self.dial();
        self.run(Duration::from_secs(1));
        let accepted = self.heard.iter().find_map(|(_, end, heard)| match heard {
            Heard::Accepted(_) => Some(*end),
            _ => None,
        });
        assert_eq!(self.heard_by(DIALLED), [Heard::Connected]);
        self.heard.clear();
        accepted.expect("accepted")
    }

    fn heard_by(&self, by: End) -> Vec<Heard> {
        self.heard.iter().filter(|(_, end, _)| *end == by).map(|(_, _, heard)| heard.clone()).collect()
    }
}

fn frames(range: std::ops::Range<u8>) -> Vec<Heard> {
    range.map(|byte| Heard::Frame(vec![byte])).collect()
}

#[test]
fn frames_arrive_in_order_however_unequal_their_delays_and_the_end_comes_last() {
    let link = Link { delay: Range::millis(1, 50), loss: 0.2, duplicate: 0.5, ..Link::default() };
    let mut pair = Pair::new(link);
    let accepted = pair.open();
    (0..100).for_each(|byte| pair.send(DIALLED, &[byte]));
    pair.send(accepted, b"x");
    pair.with(|streams, world| streams.close(world, DIALLED));
    pair.run(Duration::from_secs(60));
    let mut expected = frames(0..100);
    expected.push(Heard::Closed);
    assert_eq!(pair.heard_by(accepted), expected);
    assert!(pair.heard_by(DIALLED).is_empty(), "who closes hears nothing more");
    assert!(pair.streams.is_empty() && pair.streams.ends.is_empty());
}

#[test]
fn what_is_sent_before_the_dial_is_answered_arrives_after_it() {
    let mut pair = Pair::new(Link::default());
    pair.dial();
    pair.send(DIALLED, b"early");
    pair.run(Duration::from_secs(1));
    let heard: Vec<&Heard> = pair.heard.iter().filter(|(_, end, _)| end.node == B).map(|(_, _, heard)| heard).collect();
    assert!(matches!(heard[..], [Heard::Accepted(_), Heard::Frame(_)]), "{heard:?}");
}

#[test]
fn a_dial_is_refused_where_nobody_listens_and_times_out_where_nobody_is() {
    let mut pair = Pair::new(Link::default());
    pair.hosts[1] = Host::Refusing;
    pair.dial();
    pair.run(Duration::from_millis(10));
    assert_eq!(pair.heard_by(DIALLED), [Heard::Refused]);

    let mut pair = Pair::new(Link::default());
    pair.hosts[1] = Host::Silent;
    pair.dial();
    pair.run(Duration::from_secs(4));
    assert!(pair.heard.is_empty());
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.heard_by(DIALLED), [Heard::Closed]);
    assert!(pair.streams.is_empty());
}

#[test]
fn a_short_cut_stalls_a_stream_and_a_long_one_breaks_it_at_both_ends() {
    let mut pair = Pair::new(Link::default());
    let accepted = pair.open();
    pair.cut(A, B, true);
    (0..3).for_each(|byte| pair.send(DIALLED, &[byte]));
    pair.run(Duration::from_secs(5));
    assert!(pair.heard.is_empty());
    pair.cut(A, B, false);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.heard_by(accepted), frames(0..3));

    pair.cut(A, B, true);
    pair.heard.clear();
    pair.send(DIALLED, b"lost");
    pair.run(Duration::from_secs(20));
    assert_eq!((pair.heard_by(DIALLED), pair.heard_by(accepted)), (vec![Heard::Closed], vec![]));
    pair.run(Duration::from_secs(20));
    assert_eq!(pair.heard_by(accepted), [Heard::Closed]);
    assert!(pair.streams.is_empty());
}

#[test]
fn when_a_process_ends_its_peers_hear_it_unless_the_machine_went_too() {
    let mut pair = Pair::new(Link::default());
    let accepted = pair.open();
    pair.hosts[1] = Host::Refusing;
    pair.with(|streams, world| streams.process_ended(world, B, accepted.boot, false));
    pair.run(Duration::from_millis(10));
    assert_eq!(pair.heard_by(DIALLED), [Heard::Closed]);

    let mut pair = Pair::new(Link::default());
    let accepted = pair.open();
    pair.hosts[1] = Host::Silent;
    pair.with(|streams, world| streams.process_ended(world, B, accepted.boot, true));
    pair.run(Duration::from_secs(10));
    assert!(pair.heard.is_empty());
    pair.run(Duration::from_secs(10));
    assert_eq!(pair.heard_by(DIALLED), [Heard::Closed]);
}

#[test]
fn a_reset_stream_ends_at_both_ends_and_loses_what_was_on_its_way() {
    let mut pair = Pair::new(Link::default());
    let accepted = pair.open();
    pair.send(DIALLED, b"lost");
    pair.with(|streams, world| streams.reset(world.now, DIALLED));
    pair.run(Duration::from_secs(1));
    assert_eq!((pair.heard_by(DIALLED), pair.heard_by(accepted)), (vec![Heard::Closed], vec![Heard::Closed]));
}

#[test]
fn a_stream_that_its_link_resets_loses_what_is_on_its_way_and_its_ends_hear_of_it_one_after_the_other() {
    let mut pair = Pair::new(Link::default());
    let accepted = pair.open();
    pair.send(DIALLED, b"lost");
    pair.network.set_default(Link { reset: 1.0, ..Link::default() });
    pair.send(DIALLED, b"the last");
    pair.send(DIALLED, b"lost too");
    pair.run(Duration::from_secs(1));
    assert_eq!((pair.heard_by(DIALLED), pair.heard_by(accepted)), (vec![Heard::Closed], vec![Heard::Closed]));
    assert_ne!(pair.heard[0].0, pair.heard[1].0);
    assert!(pair.streams.is_empty() && pair.streams.ends.is_empty());
    assert_eq!(pair.streams.resets(), 1);
}

#[test]
fn a_stream_reset_while_it_is_dialled_or_closed_leaves_nothing_behind() {
    let mut pair = Pair::new(Link { reset: 1.0, ..Link::default() });
    pair.dial();
    pair.send(DIALLED, b"early");
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.heard_by(DIALLED), [Heard::Closed]);
    assert!(pair.streams.is_empty() && pair.streams.ends.is_empty());

    let mut pair = Pair::new(Link::default());
    let accepted = pair.open();
    pair.network.set_default(Link { reset: 1.0, ..Link::default() });
    pair.send(DIALLED, b"the last");
    pair.with(|streams, world| streams.close(world, DIALLED));
    pair.run(Duration::from_secs(1));
    assert_eq!((pair.heard_by(DIALLED), pair.heard_by(accepted)), (vec![], vec![Heard::Closed]));
    assert!(pair.streams.is_empty() && pair.streams.ends.is_empty());
}

#[test]
fn a_firewall_breaks_the_streams_that_there_are_and_refuses_new_ones_in_its_direction() {
    let mut pair = Pair::new(Link::default());
    let accepted = pair.open();
    pair.network.set_rejects(A, B, true);
    pair.with(|streams, world| streams.rejected(world, B, A));
    pair.run(Duration::from_millis(10));
    assert_eq!((pair.heard_by(DIALLED), pair.heard_by(accepted)), (vec![Heard::Closed], vec![Heard::Closed]));
    assert!(pair.streams.is_empty() && pair.streams.ends.is_empty());
    pair.heard.clear();
    pair.dial();
    pair.run(Duration::from_millis(10));
    assert_eq!(pair.heard_by(DIALLED), [Heard::Refused]);
    pair.heard.clear();
    pair.network.set_rejects(A, B, false);
    pair.network.set_rejects(B, A, true);
    pair.dial();
    pair.run(Duration::from_millis(10));
    assert_eq!(pair.heard_by(DIALLED), [Heard::Connected]);
}

#[test]
fn a_clogged_link_holds_frames_back_and_then_lets_them_through_at_once() {
    let mut pair = Pair::new(Link::default());
    let accepted = pair.open();
    pair.network.set_clogged(A, B, true);
    (0..3).for_each(|byte| pair.send(DIALLED, &[byte]));
    pair.run(Duration::from_secs(3));
    assert!(pair.heard.is_empty());
    pair.network.set_clogged(A, B, false);
    pair.with(|streams, world| streams.unclogged(world, A, B));
    pair.run(Duration::ZERO);
    assert_eq!(pair.heard_by(accepted), frames(0..3));
    pair.send(DIALLED, &[3]);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.heard_by(accepted), frames(0..4));
}
