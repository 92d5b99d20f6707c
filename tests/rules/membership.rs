//! The corrections that keep SWIM from giving up healthy members.

use std::time::Duration;

use haulout::proto::{Rule, Sabotage};
use haulout_sim::{Cluster, Link, Options, PacketClass, Resume};

use crate::support::*;

/// How often the members of a cluster took a new identity because others believed them dead.
fn rejoins(cluster: &Cluster) -> u64 {
    cluster.nodes().map(|node| cluster.stats(node).rejoins).sum()
}

const FIVE: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Goal: a suspicion that was refuted in time ends in nothing.
/// Method: one of five nodes stands still for 1.6 seconds, which is too short for a Down. Some seeds are enough.
#[test]
fn a_refuted_suspicion_ends_in_nothing() {
    needs(Rule::SuspectTimerFilter, |sabotage| {
        let stalls = |seed| -> u64 {
            let mut cluster = cluster_with(Options { seed, sabotage, ..Options::default() }, &FIVE);
            cluster.run_for(Duration::from_millis(90 * seed));
            cluster.pause(C);
            cluster.run_for(Duration::from_millis(1_600));
            cluster.resume(C);
            cluster.run_for(secs(15));
            rejoins(&cluster)
        };
        match (0..12).map(stalls).sum() {
            0 => Ok(()),
            rejoins => Err(format!("{rejoins} identity changes of a node that nobody declared down")),
        }
    });
}

/// Goal: a suspect is told, so that it does not learn of it by chance.
/// Method: one of three nodes hears little, and so answers few probes; all are healthy. (Where all links are equally
/// bad, the long life of SWIM's updates is enough.)
#[test]
fn suspects_are_told() {
    needs(Rule::BuddyMessages, |sabotage| {
        let deaf = |seed| -> u64 {
            let mut cluster = cluster_with(Options { seed, sabotage, ..Options::default() }, &["a", "b", "c"]);
            let bad = Link { loss: 0.85, ..Link::default() };
            [A, B].into_iter().for_each(|other| cluster.set_link_between(other, C, Some(bad)));
            cluster.run_for(secs(60));
            rejoins(&cluster)
        };
        match (0..6).map(deaf).sum() {
            0..=2 => Ok(()),
            rejoins => Err(format!("{rejoins} identity changes of healthy nodes")),
        }
    });
}

/// Goal: a node that finds nobody goes on looking.
/// Method: it starts while the only seed can't be reached.
#[test]
fn a_node_without_members_goes_on_looking() {
    needs(Rule::KeepSeeking, |sabotage| {
        let mut cluster = Cluster::new(Options { sabotage, seed_nodes: 1, ..Options::default() });
        cluster.add_node("a");
        cluster.add_node("b");
        cluster.cut(A, B);
        cluster.run_for(secs(20));
        cluster.heal();
        cluster.try_converge(REST).map(|_| ())
    });
}

/// Goal: an exchange carries the table of members, so that a Down that somebody missed is learnt with the next one and
/// not by a probe and a suspicion of its own.
/// Method: one of eight nodes dies, and whatever SWIM tells the third one about it is lost. How much later than the
/// first it notices, over some seeds.
#[test]
fn an_exchange_tells_of_a_death_that_somebody_missed() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let lag = |sabotage, seed| -> Duration {
        let mut cluster = cluster_with(Options { seed, sabotage, ..Options::default() }, &names);
        let dead = cluster.named("h").expect("there");
        let instance = cluster.instance(dead).expect("it lives").get().to_be_bytes();
        cluster.drop_if(move |packet| packet.to == C && swim(packet).windows(8).any(|bytes| bytes == instance));
        cluster.crash(dead);
        cluster.expect(REST, "somebody notices", |cluster| {
            cluster.up().iter().any(|&node| cluster.members(node).len() < 8)
        });
        let first = cluster.now();
        cluster.expect(REST, "the third one notices", |cluster| cluster.members(C).len() < 8);
        cluster.now().since(first)
    };
    let total = |sabotage| -> Duration { (0..8).map(|seed| lag(sabotage, seed)).sum() };
    let (with, without) = (total(Sabotage::default()), total(Sabotage::without(Rule::ExchangeTable)));
    println!("{with:?} with the rule, {without:?} without");
    assert!(with * 3 < without * 2, "{with:?} with the rule, {without:?} without");
}

/// Whether one of five nodes that is deaf for so long gave anybody up meanwhile.
fn deaf_for(duration: Duration, sabotage: Sabotage) -> Promise {
    let mut cluster = cluster_with(Options { sabotage, ..Options::default() }, &FIVE);
    cluster.run_for(secs(5));
    let others: Vec<_> = cluster.nodes().filter(|&node| node != A).collect();
    others.iter().for_each(|&other| cluster.cut_class(other, A, PacketClass::Datagrams));
    cluster.run_for(duration);
    match cluster.stats(A).members_down {
        0 => Ok(()),
        downs => Err(format!("{downs} healthy members were given up by a deaf one")),
    }
}

/// Goal: a node that hears nothing takes nobody for dead as long as it may be its own fault.
/// Method: one of five nodes is deaf for 15 seconds, three times as long as it otherwise takes.
#[test]
fn whoever_hears_nobody_gives_nobody_up() {
    needs(Rule::DeafAccusesNobody, |sabotage| deaf_for(secs(15), sabotage));
}

/// Goal: a process that stood still takes nobody for dead before it has heard somebody.
/// Method: one of five nodes stands still for 30 seconds, like a machine that is suspended, so that nothing waits in its
/// sockets; when it goes on, with packets or with timers first, nothing reaches it for ten seconds more.
#[test]
fn whoever_stood_still_gives_nobody_up_before_it_hears_somebody() {
    needs(Rule::DeafAccusesNobody, |sabotage| {
        for resume in [Resume::PacketsFirst, Resume::TimersFirst] {
            let mut cluster = cluster_with(Options { sabotage, resume, ..Options::default() }, &FIVE);
            let others: Vec<_> = cluster.nodes().filter(|&node| node != A).collect();
            others.iter().for_each(|&other| cluster.cut_class(other, A, PacketClass::All));
            cluster.pause(A);
            cluster.run_for(secs(30));
            cluster.resume(A);
            cluster.run_for(secs(10));
            match cluster.stats(A).members_down {
                0 => {}
                downs => return Err(format!("{downs} healthy members were given up after a pause, {resume:?}")),
            }
        }
        Ok(())
    });
}

/// Goal: a suspicion that nobody confirms lasts longer.
/// Method: one of five nodes is deaf for three seconds, and judges all the same.
#[test]
fn whoever_hears_nothing_alone_gives_nobody_up_soon() {
    needs(Rule::SilenceIsConfirmed, |sabotage| deaf_for(secs(3), sabotage.and(Rule::DeafAccusesNobody)));
}

/// Goal: whoever can talk to a member does not give it up because others do.
/// Method: two of five nodes are cut off from the three others until each side has given up the other; then they meet, and
/// each tells that the members of the other side are dead. Counted is who gives up anybody from then on.
#[test]
fn the_dead_of_the_other_side_of_a_split_live_on_this_side() {
    needs(Rule::ObituariesAreChecked, |sabotage| {
        let mut downs = 0;
        for seed in 0..5 {
            let mut cluster = cluster_with(Options { seed, sabotage, ..Options::default() }, &FIVE);
            cluster.split(&[A, B]);
            cluster.run_for(secs(10));
            let given_up =
                |cluster: &Cluster| -> u64 { cluster.nodes().map(|node| cluster.stats(node).members_down).sum() };
            let before = given_up(&cluster);
            cluster.heal();
            cluster.converge(REST);
            downs += given_up(&cluster) - before;
        }
        match downs {
            0 => Ok(()),
            downs => Err(format!("{downs} times a member was given up by one that could talk to it")),
        }
    });
}
