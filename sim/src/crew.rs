//! Many runs on all cores.

use std::any::Any;
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::run::{Settings, run};
use crate::scenario::Scenario;
use crate::tally::Tally;
use crate::verdict::Verdict;

/// What came of one of many runs.
pub struct Ended {
    /// What was run.
    pub scenario: Scenario,
    /// Whether every promise was kept.
    pub verdict: Verdict,
    /// The line that says so.
    pub headline: String,
    /// Its figures.
    pub tally: Tally,
}

/// How many runs at once keep this machine busy.
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Does the same work for each of these numbers, `jobs` at once, and hands each result to `take` in the order in which
/// they end, until `take` says that it is enough (`false`). Numbers are handed out in order.
pub fn each<T: Send>(
    jobs: usize,
    numbers: Range<u64>,
    work: impl Fn(u64) -> T + Sync,
    mut take: impl FnMut(u64, T) -> bool,
) {
    let next = AtomicU64::new(numbers.start);
    let enough = AtomicBool::new(false);
    // Bounded, so that results never pile up behind a slow taker.
    let (send, receive) = mpsc::sync_channel(jobs * 4);
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (send, next, enough, work) = (send.clone(), &next, &enough, &work);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end || send.send((number, work(number))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        for (number, result) in &receive {
            if !take(number, result) {
                enough.store(true, Ordering::Relaxed);
            }
        }
    });
}

/// Runs the scenarios of these seeds, `jobs` at once, and hands each result to `take` in the order in which they end,
/// until `take` says that it is enough (`false`).
///
/// # Errors
/// The first scenario that can't be made.
pub fn run_all<E: Send>(
    jobs: usize,
    seeds: Range<u64>,
    scenario: impl Fn(u64) -> Result<Scenario, E> + Sync,
    mut take: impl FnMut(u64, Ended) -> bool,
) -> Result<(), E> {
    let mut result = Ok(());
    let mut more = true;
    let work = |seed| scenario(seed).map(|scenario| end(&scenario));
    each(jobs, seeds, work, |seed, ended| {
        match ended {
            Ok(ended) if more => more = take(seed, ended),
            Ok(_) => {}
            Err(error) => {
                more = false;
                result = Err(error);
            }
        }
        more
    });
    result
}

/// Runs a test for each of these seeds, on all cores.
///
/// ```
/// use haulout_sim::{Scenario, for_each_seed};
///
/// for_each_seed(1..=3, |seed| {
///     Scenario::new(seed).lasting(std::time::Duration::from_secs(5)).run().assert_passed();
/// });
/// ```
///
/// # Panics
/// If the test panics for one of them, with the message of the lowest.
#[track_caller]
pub fn for_each_seed(seeds: RangeInclusive<u64>, test: impl Fn(u64) + Sync) {
    let mut failed: BTreeMap<u64, Box<dyn Any + Send>> = BTreeMap::new();
    let work = |seed| catch_unwind(AssertUnwindSafe(|| test(seed)));
    // What is below a seed that failed was handed out before it, so the lowest that fails is always among those run.
    each(cores(), *seeds.start()..seeds.end().saturating_add(1), work, |seed, result| {
        failed.extend(result.err().map(|panic| (seed, panic)));
        failed.is_empty()
    });
    if let Some((seed, panic)) = failed.pop_first() {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
        panic!("seed {seed} of {seeds:?}: {text}");
    }
}

fn end(scenario: &Scenario) -> Ended {
    let ran = run(scenario, Settings::default());
    Ended { headline: ran.headline(), scenario: ran.scenario, verdict: ran.verdict, tally: ran.tally }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(test: impl Fn(u64) + Sync) -> String {
        let panic = catch_unwind(AssertUnwindSafe(|| for_each_seed(1..=40, test))).expect_err("some seeds fail");
        panic.downcast_ref::<String>().expect("a message").clone()
    }

    /// Goal: a test with seeds names the same seed each time. Method: later seeds fail sooner than earlier ones.
    #[test]
    fn of_several_seeds_that_fail_the_lowest_is_named() {
        let slowly = |seed: u64| (0..(40 - seed) * 1_000).fold(seed, |sum, next| std::hint::black_box(sum ^ next));
        let said = message(|seed| assert!(seed % 7 != 6, "it was {} and {}", seed, slowly(seed) > 0));
        assert_eq!(said, "seed 6 of 1..=40: it was 6 and true");
        for_each_seed(1..=5, |seed| assert!(seed < 6));
    }

    #[test]
    fn nothing_is_taken_after_it_was_enough_but_what_is_under_way() {
        let mut taken = Vec::new();
        each(
            1,
            0..1_000,
            |number| number * 2,
            |number, double| {
                taken.push((number, double));
                number < 3
            },
        );
        assert_eq!(taken[..4], [(0, 0), (1, 2), (2, 4), (3, 6)]);
        assert!(taken.len() < 20, "{taken:?}");
    }
}
