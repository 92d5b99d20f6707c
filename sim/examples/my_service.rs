//! How a service asks the simulator about itself: its own configuration, the times that its children take, a machine
//! that dies and a network that splits, over many seeds.
//!
//! ```sh
//! cargo run --release -p haulout-sim --example my_service
//! ```
//!
//! The same as a test is in `tests/embedding.rs`.

use std::time::Duration;

use haulout::{Config, Profile};
use haulout_sim::figures::Spread;
use haulout_sim::scenario::{Act, RunPlan};
use haulout_sim::{Link, Range, Scenario};

const SEEDS: u64 = 20;

fn main() {
    println!("a service of 5 nodes and 50 sessions on a network that loses 2 %, {SEEDS} seeds each");
    for profile in [Profile::Local, Profile::Lan] {
        let config = Config { profile, ..Config::default() };
        let (mut nowhere, mut twice) = (Vec::new(), Vec::new());
        for seed in 1..=SEEDS {
            let ran = bad_day(seed, &config).run();
            // Whatever happened, no promise was broken.
            ran.assert_passed();
            nowhere.extend(ran.tally.orphans);
            twice.extend(ran.tally.duplicates);
        }
        println!("\ntimings {profile:?}");
        println!("  sessions that ran nowhere for a while: {}", Spread::of(nowhere));
        println!("  sessions that ran twice for a while:   {}", Spread::of(twice));
    }
}

/// A day on which a machine dies and later the network splits.
fn bad_day(seed: u64, config: &Config) -> Scenario {
    // A session loads its state when it starts and saves it when it stops.
    let session =
        RunPlan { start_delay: Range::millis(20, 200), stop_delay: Range::millis(50, 800), ..RunPlan::default() };
    let secs = Duration::from_secs;
    Scenario::new(seed)
        .with_nodes(5)
        .with_config(config)
        .with_network(Link { loss: 0.02, ..Link::default() })
        .with_kind("session", session)
        .at(secs(3), Act::start_many("session", 50, "session", "node-0"))
        .at(secs(20), Act::power_loss("node-4", secs(25)))
        .at(secs(60), Act::split(&[&["node-0", "node-1"], &["node-2", "node-3", "node-4"]], secs(20)))
        .lasting(secs(90))
}
