//! What placement costs per child: the whole question, and the two incremental forms that a node really uses.
//!
//! See README.md beside this file for how to read the figures.

use std::hint::black_box;

use divan::Bencher;
use divan::counter::ItemsCount;
use haulout::proto::placement::{Candidate, KeyHash, beats, hash_key, owner};

const MEMBERS: [usize; 3] = [10, 100, 1_000];
const CHILDREN: usize = 1_000;

fn main() {
    divan::main();
}

fn keys() -> Vec<KeyHash> {
    (0..CHILDREN).map(|i| hash_key(format!("monitor-{i}").as_bytes())).collect()
}

fn members(count: usize) -> Vec<Candidate> {
    weighted(count, &[1])
}

fn weighted(count: usize, weights: &[u16]) -> Vec<Candidate> {
    let name = |i| format!("10.0.{}.{}:7946", i / 250, i % 250);
    (0..count).map(|i| Candidate::new(name(i), weights[i % weights.len()])).collect()
}

fn winner(key: KeyHash, members: &[Candidate]) -> usize {
    owner(key, members.iter().zip(0..)).expect("there are members")
}

/// The floor: touching each key once.
#[divan::bench]
fn copy_keys(bencher: Bencher) {
    let keys = keys();
    bencher.counter(ItemsCount::new(CHILDREN)).bench_local(|| black_box(&keys).clone());
}

/// Once per child, when it is first heard of.
#[divan::bench]
fn hash_ids(bencher: Bencher) {
    let ids: Vec<_> = (0..CHILDREN).map(|i| format!("monitor-{i}")).collect();
    bencher
        .counter(ItemsCount::new(CHILDREN))
        .bench_local(|| black_box(&ids).iter().map(|id| hash_key(id.as_bytes())).fold(0, |sum, key| sum ^ key));
}

/// From nothing: every member asked for every child.
#[divan::bench(args = MEMBERS)]
fn owner_of_each(bencher: Bencher, count: usize) {
    let (keys, members) = (keys(), members(count));
    bencher
        .counter(ItemsCount::new(CHILDREN))
        .bench_local(|| black_box(&keys).iter().map(|&key| winner(key, &members)).sum::<usize>());
}

/// The same with four different weights, which need the logarithm.
#[divan::bench(args = MEMBERS)]
fn owner_of_each_weighted(bencher: Bencher, count: usize) {
    let (keys, members) = (keys(), weighted(count, &[1, 2, 5, 100]));
    bencher
        .counter(ItemsCount::new(CHILDREN))
        .bench_local(|| black_box(&keys).iter().map(|&key| winner(key, &members)).sum::<usize>());
}

/// A member joins: one comparison per child with its cached winner.
#[divan::bench(args = MEMBERS)]
fn join(bencher: Bencher, count: usize) {
    join_with(bencher, &members(count), 1);
}

/// The same with four different weights.
#[divan::bench(args = MEMBERS)]
fn join_weighted(bencher: Bencher, count: usize) {
    join_with(bencher, &weighted(count, &[1, 2, 5, 100]), 2);
}

/// A member leaves: its children alone ask everybody else. Per child of the scope, not of the leaver.
#[divan::bench(args = MEMBERS)]
fn leave(bencher: Bencher, count: usize) {
    let (keys, members) = (keys(), members(count));
    let cached: Vec<_> = keys.iter().map(|&key| (key, winner(key, &members))).collect();
    // A member with at least one child: with 1,000 members many have none.
    let leaver = cached[0].1;
    let others = || members.iter().zip(0..).filter(|&(_, i)| i != leaver);
    bencher.counter(ItemsCount::new(CHILDREN)).bench_local(|| {
        let moved = black_box(&cached).iter().filter(|&&(_, winner)| winner == leaver);
        moved.filter_map(|&(key, _)| owner(key, others())).sum::<usize>()
    });
}

fn join_with(bencher: Bencher, members: &[Candidate], weight: u16) {
    let joiner = Candidate::new("10.1.0.1:7946", weight);
    let cached: Vec<_> = keys().into_iter().map(|key| (key, winner(key, members))).collect();
    bencher.counter(ItemsCount::new(CHILDREN)).bench_local(|| {
        let takes = |&&(key, winner): &&(KeyHash, usize)| beats(key, &joiner, &members[winner]);
        black_box(&cached).iter().filter(takes).count()
    });
}
