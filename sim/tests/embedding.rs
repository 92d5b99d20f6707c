//! The tests of a service that embeds haulout, as its authors would write them: only what is public, and nothing of
//! the command line (`haulout-sim` with `default-features = false` as a dev-dependency).

use std::panic::catch_unwind;
use std::time::Duration;

use haulout::{ChildSpec, Config, Which};
use haulout_sim::scenario::{Act, Expect, KindPlan, OutcomePlan, RunPlan, StartPlan};
use haulout_sim::{Cluster, Link, Options, Plan, Range, Scenario, for_each_seed};

/// The file that the service is deployed with.
const DEPLOYED: &str = r#"
    cluster = "mail"
    bind = "0.0.0.0:7946"
    advertise = "10.1.2.3:7946"
    seeds = ["10.1.2.3:7946", "10.1.2.4:7946"]
    sync_interval = "2s"
    [security]
    mode = "plaintext"
    allow_beyond_loopback = true
"#;

fn deployed() -> Config {
    toml::from_str(DEPLOYED).expect("the file is right")
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Five nodes with a hundred mailers, which take up to two seconds to flush when they stop.
fn mail(seed: u64) -> Scenario {
    let mailer =
        RunPlan { start_delay: Range::millis(5, 50), stop_delay: Range::millis(100, 2_000), ..RunPlan::default() };
    Scenario::new(seed)
        .with_nodes(5)
        .with_config(&deployed())
        .with_kind("mailer", mailer)
        .at(secs(3), Act::start_many("mailer", 100, "mailer", "node-0"))
}

#[test]
fn a_planned_restart_sends_no_mail_twice() {
    for_each_seed(1..=10, |seed| {
        mail(seed)
            .at(secs(20), Act::leave("node-3", secs(10)))
            .expecting(Expect { count: Some(100), duplicate_max: Some(Duration::ZERO), ..Expect::default() })
            .run()
            .assert_passed();
    });
}

#[test]
fn a_lost_machine_stops_a_mailer_for_less_than_ten_seconds() {
    for_each_seed(1..=10, |seed| {
        let ran = mail(seed).at(secs(20), Act::power_loss("node-2", secs(20))).run();
        ran.assert_passed();
        let longest = ran.tally.orphans.iter().max().copied().unwrap_or_default();
        assert!(longest > secs(1), "the machine ran none of them: {longest:?}");
        assert!(longest < secs(10), "a mailer ran nowhere for {longest:?}");
    });
}

#[test]
fn mailers_that_can_not_start_for_a_while_all_run_in_the_end() {
    let flaky = KindPlan {
        for_ever: false,
        runs: vec![
            RunPlan { start: StartPlan::Fails, ..RunPlan::default() },
            RunPlan { ends_after: Some(Range::millis(0, 500)), outcome: OutcomePlan::Panic, ..RunPlan::default() },
            RunPlan { odds: 2, ..RunPlan::default() },
        ],
    };
    let lossy = Link { loss: 0.1, delay: Range::millis(1, 20), ..Link::default() };
    let ran = mail(1)
        .with_kind("mailer", flaky)
        .with_network(lossy)
        .at(secs(10), Act::split(&[&["node-0", "node-1"], &["node-2", "node-3", "node-4"]], secs(15)))
        .lasting(secs(40))
        .run();
    ran.assert_passed();
    assert_eq!(ran.tally.children, 100);
}

#[test]
fn a_scenario_file_of_the_repository_is_one_line() {
    Scenario::read("scenarios/flapping-link.toml").expect("it is there").run().assert_passed();
}

/// Goal: whoever sees the test fail has what is needed to understand it. Method: an expectation that can't hold.
#[test]
fn a_failure_comes_with_its_seed_and_the_scenario_as_a_file() {
    let impossible = Expect { count: Some(7), ..Expect::default() };
    let failing = catch_unwind(|| {
        for_each_seed(3..=4, |seed| {
            mail(seed).lasting(secs(10)).expecting(impossible.clone()).run().assert_passed();
        });
    });
    let panic = failing.expect_err("a hundred are not seven");
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.starts_with("seed 3 of 3..=4: seed 3: FAILED expectation"), "{text}");
    let (_, file) = text.split_once("FILE`:\n\n").expect("the scenario is shown");
    let scenario: Scenario = file.parse().expect("it can be read");
    assert_eq!(scenario, mail(3).lasting(secs(10)).expecting(impossible));
}

/// Goal: what no scenario can say can be done by hand. Method: a cluster step by step, judged from its journal.
#[test]
fn a_cluster_can_be_driven_step_by_step() {
    let options = Options { config: deployed(), kinds: vec!["mailer".into()], ..Options::seeded(7) };
    let mut cluster = Cluster::new(options);
    cluster.children().plan_kind("mailer", Plan { stop_delay: Range::millis(500, 500), ..Plan::default() });
    let [a, b, c] = ["a", "b", "c"].map(|name| cluster.add_node(name));
    cluster.converge(secs(10));
    for number in 0..20 {
        let spec = ChildSpec::raw(format!("mailer-{number}"), "mailer", Vec::new()).expect("a short id");
        let start = cluster.start(a, spec);
        cluster.wait(start);
    }
    let before = cluster.converge(secs(10));
    assert_eq!(cluster.which(b, Which::Global), before);
    let _ = cluster.leave(c);
    cluster.run_for(secs(5));
    let after = cluster.converge(secs(10));
    assert_eq!((before.len(), after.len()), (20, 20));
    assert!(after.iter().all(|child| child.node.as_deref() != Some("c")));
    assert!(cluster.journal().overlaps().is_empty());
}
