//! What becomes of thousands of datagrams on one link, fault by fault.

use super::*;
use crate::random::Range;

const A: NodeIdx = NodeIdx(0);
const B: NodeIdx = NodeIdx(1);
const BYTES: usize = 100;

/// One datagram every millisecond.
fn fates(network: &mut Network, count: u64) -> Vec<Fate> {
    (0..count).map(|millis| network.datagram(at(millis), A, B, BYTES)).collect()
}

fn fates_on(link: Link, count: u64) -> Vec<Fate> {
    fates(&mut Network::new(7, link), count)
}

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn arrivals(fates: &[Fate]) -> impl Iterator<Item = &Arrival> {
    fates.iter().filter_map(|fate| match fate {
        Fate::Arrives(arrival) => Some(arrival),
        Fate::Lost(_) => None,
    })
}

fn lost_to(fates: &[Fate], to: LostTo) -> usize {
    fates.iter().filter(|fate| **fate == Fate::Lost(to)).count()
}

fn is_plain_arrival(fate: &Fate) -> bool {
    matches!(fate, Fate::Arrives(Arrival { replay: None, damage: None, .. }))
}

#[test]
fn loss_and_duplication_come_as_often_as_asked() {
    let fates = fates_on(Link { loss: 0.25, duplicate: 0.1, ..Link::default() }, 10_000);
    let lost = lost_to(&fates, LostTo::Noise);
    let twice = arrivals(&fates).filter(|arrival| arrival.again.is_some()).count();
    assert!((2_350..2_650).contains(&lost), "{lost}");
    assert!((650..850).contains(&twice), "{twice}");
}

/// A link with every fault at once.
fn rough() -> Link {
    Link {
        tail: 0.1,
        loss: 0.1,
        burst_loss: 0.5,
        burst_every: Range::millis(10, 50),
        burst_length: Range::millis(10, 50),
        duplicate: 0.1,
        replay: 0.1,
        corrupt: 0.1,
        truncate: 0.1,
        bandwidth: Some(10_000_000),
        mtu: Some(1_400),
        ..Link::default()
    }
}

#[test]
fn taking_out_one_fault_does_not_shift_the_others() {
    let all = fates_on(rough(), 2_000);
    for (name, link) in [
        ("tail", Link { tail: 0.0, ..rough() }),
        ("loss", Link { loss: 0.0, ..rough() }),
        ("burst", Link { burst_loss: 0.0, ..rough() }),
        ("duplicate", Link { duplicate: 0.0, ..rough() }),
        ("replay", Link { replay: 0.0, ..rough() }),
        ("corrupt", Link { corrupt: 0.0, ..rough() }),
        ("truncate", Link { truncate: 0.0, ..rough() }),
        ("mtu", Link { mtu: None, ..rough() }),
    ] {
        let fewer = fates_on(link, 2_000);
        let mut differing = 0;
        for (with, without) in all.iter().zip(&fewer) {
            // What arrives with the fault arrives without it, and unless the fault struck it, in the same way.
            let (Fate::Arrives(with), Fate::Arrives(without)) = (with, without) else {
                assert!(!matches!((with, without), (Fate::Arrives(_), Fate::Lost(_))), "{name}");
                continue;
            };
            differing += usize::from(with.replay != without.replay || with.damage != without.damage);
        }
        assert!(differing < 400, "{name} shifted {differing}");
        let same = |with: &Fate, without: &Fate| with == without;
        assert!(all.iter().zip(&fewer).filter(|(with, without)| same(with, without)).count() > 1_200, "{name}");
    }
}

#[test]
fn the_rarer_faults_leave_the_plain_ones_where_they_were() {
    let plain = fates_on(Link { loss: 0.1, duplicate: 0.1, ..Link::default() }, 2_000);
    let rough = fates_on(Link { bandwidth: None, tail: 0.0, ..rough() }, 2_000);
    for (plain, rough) in plain.iter().zip(&rough) {
        if let Fate::Arrives(rough) = rough {
            let Fate::Arrives(plain) = plain else { panic!("{rough:?} was lost on the better link") };
            assert_eq!((plain.after, plain.again), (rough.after, rough.again));
        }
    }
}

#[test]
fn stragglers_take_their_time_and_copies_come_late() {
    let link = Link {
        tail: 0.2,
        tail_delay: Range::millis(100, 200),
        replay: 0.1,
        replay_after: Range::millis(5_000, 9_000),
        ..Link::default()
    };
    let fates = fates_on(link, 10_000);
    let late = arrivals(&fates).filter(|arrival| arrival.after >= Duration::from_millis(100)).count();
    assert!((1_850..2_150).contains(&late), "{late}");
    let replays: Vec<Duration> = arrivals(&fates).filter_map(|arrival| arrival.replay).collect();
    assert!((900..1_100).contains(&replays.len()), "{}", replays.len());
    assert!(replays.iter().all(|after| (5_000..=9_000).contains(&after.as_millis())));
}

#[test]
fn bad_periods_lose_what_is_sent_in_them_and_do_not_depend_on_how_much_that_is() {
    let link = Link {
        burst_loss: 1.0,
        burst_every: Range::millis(200, 400),
        burst_length: Range::millis(50, 150),
        ..Link::default()
    };
    let fates = fates_on(link, 20_000);
    let lost = lost_to(&fates, LostTo::Noise);
    // A quarter of the time is bad: 100 of 400 ms on average.
    assert!((4_000..6_000).contains(&lost), "{lost}");
    let changes = fates.windows(2).filter(|pair| is_plain_arrival(&pair[0]) != is_plain_arrival(&pair[1])).count();
    assert!((60..140).contains(&changes), "{changes} changes: losses come in bursts");

    let mut sparse = Network::new(7, link);
    for millis in (0..20_000).step_by(130) {
        let lost = sparse.datagram(at(millis), A, B, BYTES) == Fate::Lost(LostTo::Noise);
        assert_eq!(lost, fates[millis as usize] == Fate::Lost(LostTo::Noise), "at {millis} ms");
    }
}

#[test]
fn periods_without_length_do_not_stop_time() {
    let link = Link { burst_loss: 0.5, burst_every: Range::ZERO, burst_length: Range::ZERO, ..Link::default() };
    let lost = lost_to(&fates_on(link, 1_000), LostTo::Noise);
    assert!((150..350).contains(&lost), "{lost}");
}

#[test]
fn damage_flips_up_to_three_bits_or_takes_the_end_away() {
    let link = Link { corrupt: 0.3, truncate: 0.3, ..Link::default() };
    let fates = fates_on(link, 5_000);
    let (mut flipped, mut shortened) = ([0; 4], 0);
    for damage in arrivals(&fates).filter_map(|arrival| arrival.damage.as_ref()) {
        let mut bytes = vec![0; BYTES];
        damage.apply(&mut bytes);
        match damage {
            Damage::Corrupted(_) => {
                assert_eq!(bytes.len(), BYTES);
                flipped[bytes.iter().map(|byte| byte.count_ones() as usize).sum::<usize>()] += 1;
            }
            Damage::Truncated(_) => {
                assert!(bytes.len() < BYTES && bytes.iter().all(|byte| *byte == 0));
                shortened += 1;
            }
        }
        damage.apply(&mut Vec::new());
    }
    assert!(flipped[1..].iter().all(|&count| count > 250), "{flipped:?}");
    assert!((1_350..1_650).contains(&shortened), "{shortened}");
}

#[test]
fn a_narrow_link_queues_datagrams_and_loses_what_its_queue_does_not_hold() {
    // A datagram takes ten milliseconds; ten of them fit the queue.
    let link =
        Link { delay: Range::millis(1, 1), bandwidth: Some(10_000), queue_bytes: 10 * BYTES as u64, ..Link::default() };
    let mut network = Network::new(7, link);
    let fates: Vec<Fate> = (0..15).map(|_| network.datagram(at(0), A, B, BYTES)).collect();
    let after: Vec<u128> = arrivals(&fates).map(|arrival| arrival.after.as_millis()).collect();
    assert_eq!(after, [11, 21, 31, 41, 51, 61, 71, 81, 91, 101]);
    assert_eq!(lost_to(&fates, LostTo::Queue), 5);
    assert!(is_plain_arrival(&network.datagram(at(50), A, B, BYTES)), "room has been made");
    assert!(is_plain_arrival(&network.datagram(at(0), B, A, BYTES)), "the other direction is another line");
}

#[test]
fn a_stream_on_a_narrow_link_is_slowed_down_and_takes_at_most_half_of_the_queue() {
    let link =
        Link { delay: Range::millis(1, 1), bandwidth: Some(10_000), queue_bytes: 10 * BYTES as u64, ..Link::default() };
    let mut network = Network::new(7, link);
    assert_eq!(network.segment(at(0), A, B, 5_000), Duration::from_millis(501));
    assert_eq!(network.segment(at(0), A, B, 5_000), Duration::from_millis(1_001));
    let fates: Vec<Fate> = (0..15).map(|_| network.datagram(at(0), A, B, BYTES)).collect();
    assert_eq!(arrivals(&fates).count(), 5);
    assert_eq!(arrivals(&fates).next().map(|first| first.after), Some(Duration::from_millis(61)));
    assert_eq!(network.segment(at(5_000), A, B, 100), Duration::from_millis(11), "the line is free again");
}

#[test]
fn datagrams_that_are_too_large_are_lost() {
    let mut network = Network::new(7, Link { mtu: Some(1_000), ..Link::default() });
    assert!(is_plain_arrival(&network.datagram(at(0), A, B, 1_000)));
    assert_eq!(network.datagram(at(0), A, B, 1_001), Fate::Lost(LostTo::Mtu));
}

#[test]
fn a_cut_holds_in_its_direction_only_until_it_is_mended() {
    let mut network = Network::new(7, Link::default());
    assert!(network.cut(A, B, Class::All));
    assert!(!network.cut(A, B, Class::Streams));
    assert_eq!(network.datagram(at(0), A, B, BYTES), Fate::Lost(LostTo::Cut));
    assert!(is_plain_arrival(&network.datagram(at(0), B, A, BYTES)));
    assert_eq!(network.cuts(), [(A, B, Class::All)]);
    assert!(network.mend(A, B, Class::All));
    assert!(!network.mend(A, B, Class::Datagrams));
    assert!(is_plain_arrival(&network.datagram(at(0), A, B, BYTES)));
}

#[test]
fn a_cut_of_streams_lets_datagrams_through_and_the_other_way_round() {
    let mut network = Network::new(7, Link::default());
    network.cut(A, B, Class::Streams);
    assert!(is_plain_arrival(&network.datagram(at(0), A, B, BYTES)));
    assert!(network.stops_streams(A, B) && !network.stops_streams(B, A));
    network.cut(A, B, Class::Datagrams);
    assert_eq!(network.cut_between(A, B), Some(Class::All));
    network.mend(A, B, Class::Streams);
    assert_eq!(network.datagram(at(0), A, B, BYTES), Fate::Lost(LostTo::Cut));
    assert!(!network.stops_streams(A, B));
    assert_eq!((network.cut_between(A, B), network.cut_between(B, A)), (Some(Class::Datagrams), None));
}

#[test]
fn a_clogged_link_is_told_apart_from_a_cut_one() {
    let mut network = Network::new(7, Link::default());
    assert!(network.set_clogged(A, B, true) && !network.set_clogged(A, B, true));
    assert!(network.is_clogged(A, B) && network.stops_streams(A, B) && network.cuts().is_empty());
    assert_eq!(network.clogs(), [(A, B)]);
    assert!(network.set_clogged(A, B, false) && !network.stops_streams(A, B));
}

#[test]
fn processes_on_one_machine_share_its_links() {
    let twin = NodeIdx(5);
    let mut network = Network::new(7, Link::default());
    network.share_machine(twin, A);
    assert_eq!((network.machine(twin), network.machine(NodeIdx(4)), network.machine(B)), (A, NodeIdx(4), B));
    network.cut(A, B, Class::All);
    assert_eq!(network.datagram(at(0), twin, B, BYTES), Fate::Lost(LostTo::Cut));
    assert!(is_plain_arrival(&network.datagram(at(0), B, twin, BYTES)));
}

#[test]
fn a_link_may_differ_from_the_others() {
    let after = |network: &mut Network| match network.datagram(at(0), A, B, BYTES) {
        Fate::Arrives(arrival) => arrival.after,
        lost => panic!("{lost:?}"),
    };
    let mut network = Network::new(7, Link::default());
    let slow = Link { delay: Range::millis(80, 80), ..Link::default() };
    network.set_link(A, B, Some(slow));
    assert_eq!(after(&mut network), Duration::from_millis(80));
    network.set_link(A, B, None);
    assert_ne!(after(&mut network), Duration::from_millis(80));
}

#[test]
fn a_lossy_link_delays_streams_instead_of_losing_their_segments() {
    let late = |link: Link| {
        let mut network = Network::new(7, link);
        (0..1_000).filter(|_| network.segment(at(5), A, B, BYTES) >= RETRANSMIT).count()
    };
    let lossy = late(Link { loss: 0.25, ..Link::default() });
    assert!((190..310).contains(&lossy), "{lossy}");
    let always_bad = Range::millis(1_000, 1_000);
    let bursts = Link { burst_loss: 0.25, burst_every: Range::ZERO, burst_length: always_bad, ..Link::default() };
    let lossy = late(bursts);
    assert!((190..310).contains(&lossy), "{lossy}");
}

#[test]
fn streams_are_reset_as_often_as_asked_at_different_times() {
    assert_eq!(Network::new(7, Link::default()).reset(A, B), None);
    let mut network = Network::new(7, Link { reset: 0.1, ..Link::default() });
    let resets: Vec<_> = (0..10_000).filter_map(|_| network.reset(A, B)).collect();
    assert!((900..1_100).contains(&resets.len()), "{}", resets.len());
    assert!(resets.iter().all(|[one, other]| one != other));
}
