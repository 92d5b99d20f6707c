//! haulout's placement beside other crates that assign keys to members: time per key, memory, how uneven the shares are,
//! and how many keys move when a member joins or leaves. Prints a table. `--quick` looks at fewer keys.

use std::hash::BuildHasherDefault;
use std::hint::black_box;
use std::time::Instant;

use anchorhash::AnchorHash;
use hashring::HashRing;
use haulout::proto::placement::{Candidate, KeyHash, beats, hash_key, owner};
use hrw_hash::HrwNodes;
use peak_alloc::PeakAlloc;
use twox_hash::XxHash3_64;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const MEMBERS: [usize; 3] = [10, 100, 1_000];
/// Times are the median of so many passes.
const PASSES: usize = 5;
/// Keys whose look-up is timed: enough for a median, and the slowest takes a tenth of a millisecond for each.
const TIMED: usize = 10_000;
/// Points of each member on the ring: with fewer its shares are far apart, with more it is larger and slower.
const RING_POINTS: usize = 160;

fn main() {
    let count = if std::env::args().any(|arg| arg == "--quick") { 2_000 } else { 100_000 };
    let keys: Vec<KeyHash> = (0..count).map(|i| hash_key(format!("monitor-{i}").as_bytes())).collect();
    println!("{count} keys; a copy of them takes {:.2} ns each", nanos_per_key(&keys, || copy(&keys)));
    println!(
        "uneven: the largest share over the mean. moved: keys that change their member, over the fewest possible."
    );
    for members in MEMBERS {
        println!("\n{members} members");
        println!("{:<28} {:>9} {:>11} {:>8} {:>8} {:>8}", "", "ns / key", "memory", "uneven", "join", "leave");
        Row::of::<Haulout>("haulout, from nothing", members, &keys).print();
        let (join, leave) = incremental(members, &keys);
        println!("{:<28} {join:>9.2} {:>11} {:>8} {:>8} {:>8}", "haulout, cached, on a join", "", "", "", "");
        println!("{:<28} {leave:>9.2} {:>11} {:>8} {:>8} {:>8}", "haulout, cached, on a leave", "", "", "", "");
        Row::of::<Hrw>("hrw-hash", members, &keys).print();
        Row::of::<Ring>("hashring, 160 points each", members, &keys).print();
        Row::of::<Jump>("jumpch, only the last leaves", members, &keys).print();
        Row::of::<Anchor>("anchorhash", members, &keys).print();
    }
}

/// Something that assigns keys to members by number.
trait Placement {
    fn new(members: usize) -> Self;
    fn owner(&self, key: KeyHash) -> usize;
    /// Takes in the next member.
    fn join(&mut self);
    /// Loses a member, and says which: number 3, or the last one where no other can go.
    fn leave(&mut self) -> usize;
}

/// Who leaves.
const LEAVER: usize = 3;

struct Row {
    name: &'static str,
    nanos: f64,
    bytes: usize,
    uneven: f64,
    join: f64,
    leave: f64,
}

impl Row {
    fn of<P: Placement>(name: &'static str, members: usize, keys: &[KeyHash]) -> Self {
        let before = ALLOCATOR.current_usage();
        let mut placement = P::new(members);
        let bytes = ALLOCATOR.current_usage() - before;
        let owners = |placement: &P| keys.iter().map(|&key| placement.owner(key)).collect::<Vec<_>>();
        let first = owners(&placement);
        let mut shares = vec![0usize; members];
        first.iter().for_each(|&owner| shares[owner] += 1);
        let largest = shares.iter().copied().max().unwrap_or_default();
        let timed = &keys[..keys.len().min(TIMED)];
        let pass = || timed.iter().map(|&key| placement.owner(black_box(key))).fold(0, usize::wrapping_add);
        let nanos = nanos_per_key(timed, pass);
        placement.join();
        let second = owners(&placement);
        let to_newcomer = keys.len() as f64 / (members + 1) as f64;
        let join = moved(&first, &second) as f64 / to_newcomer;
        let leaver = placement.leave();
        let third = owners(&placement);
        let of_leaver = second.iter().filter(|owner| **owner == leaver).count();
        let leave = moved(&second, &third) as f64 / of_leaver.max(1) as f64;
        Row { name, nanos, bytes, uneven: largest as f64 * members as f64 / keys.len() as f64, join, leave }
    }

    fn print(&self) {
        let Row { name, nanos, bytes, uneven, join, leave } = self;
        println!("{name:<28} {nanos:>9.2} {bytes:>9} B {uneven:>8.2} {join:>8.2} {leave:>8.2}");
    }
}

fn moved(before: &[usize], after: &[usize]) -> usize {
    before.iter().zip(after).filter(|(before, after)| before != after).count()
}

fn copy(keys: &[KeyHash]) -> usize {
    black_box(keys).to_vec().len()
}

fn nanos_per_key(keys: &[KeyHash], mut pass: impl FnMut() -> usize) -> f64 {
    let mut times: Vec<f64> = (0..PASSES)
        .map(|_| {
            let began = Instant::now();
            black_box(pass());
            began.elapsed().as_nanos() as f64 / keys.len() as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[PASSES / 2]
}

/// What a running node does: each key knows its owner, and only those whose owner changes ask everybody.
fn incremental(members: usize, keys: &[KeyHash]) -> (f64, f64) {
    let placement = Haulout::new(members);
    let cached: Vec<(KeyHash, usize)> = keys.iter().map(|&key| (key, placement.owner(key))).collect();
    let joiner = candidate(members);
    let join = nanos_per_key(keys, || {
        let takes = |(key, owner): &&(KeyHash, usize)| beats(*key, &joiner, &placement.0[*owner].0);
        black_box(&cached).iter().filter(takes).count()
    });
    let others = || placement.0.iter().map(|(candidate, number)| (candidate, *number)).filter(|(_, i)| *i != LEAVER);
    let leave = nanos_per_key(keys, || {
        let lost = black_box(&cached).iter().filter(|(_, owner)| *owner == LEAVER);
        lost.filter_map(|(key, _)| owner(*key, others())).fold(0, usize::wrapping_add)
    });
    (join, leave)
}

fn candidate(number: usize) -> Candidate {
    Candidate::new(format!("10.0.{}.{}:7946", number / 250, number % 250), 1)
}

struct Haulout(Vec<(Candidate, usize)>);

impl Placement for Haulout {
    fn new(members: usize) -> Self {
        Haulout((0..members).map(|number| (candidate(number), number)).collect())
    }

    fn owner(&self, key: KeyHash) -> usize {
        owner(key, self.0.iter().map(|(candidate, number)| (candidate, *number))).unwrap_or_default()
    }

    fn join(&mut self) {
        let number = self.0.len();
        self.0.push((candidate(number), number));
    }

    fn leave(&mut self) -> usize {
        self.0.retain(|(_, number)| *number != LEAVER);
        LEAVER
    }
}

struct Hrw {
    nodes: HrwNodes<usize>,
    members: Vec<usize>,
}

impl Placement for Hrw {
    fn new(members: usize) -> Self {
        Hrw { nodes: HrwNodes::new(0..members), members: (0..members).collect() }
    }

    fn owner(&self, key: KeyHash) -> usize {
        self.nodes.sorted(&key).next().copied().unwrap_or_default()
    }

    fn join(&mut self) {
        self.members.push(self.members.len());
        self.nodes = HrwNodes::new(self.members.iter().copied());
    }

    fn leave(&mut self) -> usize {
        self.members.retain(|number| *number != LEAVER);
        self.nodes = HrwNodes::new(self.members.iter().copied());
        LEAVER
    }
}

struct Ring {
    ring: HashRing<(usize, usize), BuildHasherDefault<XxHash3_64>>,
    members: usize,
}

impl Ring {
    fn points(member: usize) -> Vec<(usize, usize)> {
        (0..RING_POINTS).map(|point| (member, point)).collect()
    }
}

impl Placement for Ring {
    fn new(members: usize) -> Self {
        let mut ring = HashRing::with_hasher(BuildHasherDefault::default());
        ring.batch_add((0..members).flat_map(Ring::points).collect());
        Ring { ring, members }
    }

    fn owner(&self, key: KeyHash) -> usize {
        self.ring.get(&key).map_or(0, |(member, _)| *member)
    }

    fn join(&mut self) {
        self.ring.batch_add(Ring::points(self.members));
        self.members += 1;
    }

    fn leave(&mut self) -> usize {
        for point in Ring::points(LEAVER) {
            self.ring.remove(&point);
        }
        LEAVER
    }
}

struct Jump(u32);

impl Placement for Jump {
    fn new(members: usize) -> Self {
        Jump(members as u32)
    }

    fn owner(&self, key: KeyHash) -> usize {
        jumpch::hash(key, self.0) as usize
    }

    fn join(&mut self) {
        self.0 += 1;
    }

    fn leave(&mut self) -> usize {
        self.0 -= 1;
        self.0 as usize
    }
}

struct Anchor {
    anchor: AnchorHash<KeyHash, usize, BuildHasherDefault<XxHash3_64>>,
    members: usize,
}

impl Placement for Anchor {
    fn new(members: usize) -> Self {
        let builder = anchorhash::Builder::with_hasher(BuildHasherDefault::default());
        // It has to be told how many members there may ever be.
        let anchor = builder.with_resources(0..members).build(2 * members as u16);
        Anchor { anchor, members }
    }

    fn owner(&self, key: KeyHash) -> usize {
        self.anchor.get_resource(key).copied().unwrap_or_default()
    }

    fn join(&mut self) {
        let _ = self.anchor.add_resource(self.members);
        self.members += 1;
    }

    fn leave(&mut self) -> usize {
        let _ = self.anchor.remove_resource(&LEAVER);
        LEAVER
    }
}
