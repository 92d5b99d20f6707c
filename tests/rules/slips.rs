//! Rules that are so plain that only a slip of the pen breaks them: what is claimed, counted and kept.

use haulout::proto::wire::ScopeMessage;
use haulout::proto::{Epoch, FaultSites, Reply, Rule, Sabotage, Site};
use haulout::{Outcome, StartError};
use haulout_sim::journal::Ending;
use haulout_sim::{Cluster, NodeIdx, Options, Plan, Range};

use crate::support::*;

const ABC: [&str; 3] = ["a", "b", "c"];
const ABCD: [&str; 4] = ["a", "b", "c", "d"];

fn epochs_rise(cluster: &Cluster, id: &str) -> Promise {
    let epochs: Vec<Epoch> = runs(cluster, id).iter().map(|run| run.epoch).collect();
    if epochs.is_sorted_by(|earlier, later| earlier < later) { Ok(()) } else { Err(format!("{epochs:?}")) }
}

/// No packet that removes this child reaches the node.
fn keep_removals_from(cluster: &mut Cluster, node: NodeIdx, id: &str) {
    let id = child(id);
    cluster.drop_if(move |packet| {
        let removes = |message: &ScopeMessage| matches!(message, ScopeMessage::Del { key, .. } if *key.id() == id);
        packet.to == node && says(packet, removes)
    });
}

/// Goal: a question that was sent is not an answer. Method: a newcomer owns a child whose runner takes its time.
#[test]
fn only_answers_count() {
    needs(Rule::OnlyAnswersCount, |sabotage| {
        let mut cluster = cluster(sabotage, &["a"]);
        let id = id_owned(&["a", "b"], &[(1, "a"), (2, "b")]);
        cluster.children().plan(stopping_in(secs(2)));
        run_child(&mut cluster, A, spec(&id, ""));
        cluster.add_node("b");
        cluster.run_for(secs(10));
        no_overlap(&cluster)
    });
}

/// Goal: nobody waits for what a dead member claimed. Method: a runner crashes, its child goes elsewhere.
#[test]
fn a_down_voids_claims() {
    needs(Rule::DownVoidsClaims, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b"]);
        let id = id_owned(&["a", "b"], &[(2, "b")]);
        run_child(&mut cluster, A, spec(&id, ""));
        cluster.crash(B);
        runs_once(&mut cluster, &id, "")
    });
}

/// Goal: what is told of a member that is down already would never be taken back. Method: c sleeps while the runner
/// dies, which the two others notice, and tells of its claim afterwards, if it does so before it hears of the death: some
/// seeds are enough.
#[test]
fn claims_of_active_members_only() {
    needs(Rule::ClaimsOfActiveOnly, |sabotage| {
        (5..10).try_for_each(|seed| {
            let mut cluster = cluster_with(Options { seed, sabotage, ..Options::default() }, &ABCD);
            let id = id_owned(&ABCD, &[(4, "b")]);
            run_child(&mut cluster, A, spec(&id, ""));
            cluster.pause(C);
            cluster.crash(B);
            cluster.run_for(secs(30));
            cluster.resume(C);
            runs_once(&mut cluster, &id, "")
        })
    });
}

/// Goal: epochs rise across a failover. Method: the runner restarts the child twice, then dies.
#[test]
fn a_run_outlives_its_claim() {
    needs(Rule::RunOutlivesClaim, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b"]);
        let id = id_owned(&["a", "b"], &[(2, "b")]);
        let mut begun = 0;
        cluster.children().plan_with(move |_, _, _| {
            begun += 1;
            (begun <= 2).then(|| Plan::ending(Range::fixed(millis(100)), Outcome::Error("tired".into())))
        });
        run_child(&mut cluster, A, spec(&id, ""));
        cluster.run_for(secs(1));
        cluster.crash(B);
        cluster.expect(REST, "a has taken it over", |cluster| runs_on(cluster, &id, A));
        epochs_rise(&cluster, &id)
    });
}

/// Goal: each run has a higher epoch, and one that fails too often waits. Method: a child fails after a moment.
#[test]
fn restarts_raise_the_epoch_and_are_limited() {
    let failing = |sabotage| {
        let mut cluster = cluster(sabotage, &["a"]);
        cluster.children().plan(Plan::ending(Range::fixed(millis(10)), Outcome::Error("tired".into())));
        run_child(&mut cluster, A, spec("child", ""));
        cluster.run_for(secs(2));
        cluster
    };
    needs(Rule::RestartRaisesEpoch, |sabotage| epochs_rise(&failing(sabotage), "child"));
    needs(Rule::IntensityIsLimited, |sabotage| {
        let runs = runs(&failing(sabotage), "child").len();
        if runs <= 8 { Ok(()) } else { Err(format!("{runs} runs in two seconds")) }
    });
}

/// Goal: an update takes effect. Method: one.
#[test]
fn an_update_ends_the_run_of_the_old_spec() {
    needs(Rule::UpdateEndsRun, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b"]);
        run_child(&mut cluster, A, spec("child", "old"));
        let update = cluster.update(B, spec("child", "new"));
        accepted(&mut cluster, update);
        runs_once(&mut cluster, "child", "new")
    });
}

/// Goal: a leave lets children end. Method: a node that runs a child leaves.
#[test]
fn a_leave_waits_for_children() {
    needs(Rule::LeaveWaitsForChildren, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b"]);
        let id = id_owned(&["a", "b"], &[(2, "b")]);
        cluster.children().plan(stopping_in(millis(500)));
        run_child(&mut cluster, A, spec(&id, ""));
        let leave = cluster.leave(B);
        cluster.wait(leave);
        cluster.run_for(SOON);
        let killed = runs(&cluster, &id).into_iter().find(|run| run.ending == Some(Ending::Killed));
        killed.map_or(Ok(()), |run| Err(format!("{run:?}")))
    });
}

/// Goal: a newcomer knows what is there before it accepts anything. Method: an id that is taken is asked for at once.
#[test]
fn settling_takes_an_exchange() {
    needs(Rule::SettleByExchange, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b"]);
        run_child(&mut cluster, A, spec("child", "first"));
        let newcomer = cluster.add_node("c");
        let start = cluster.start(newcomer, spec("child", "second"));
        match cluster.wait(start) {
            Reply::Started(Err(StartError::AlreadyStarted { .. })) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// Goal: a start-up child that was terminated stays so. Method: another node brings it along.
#[test]
fn a_start_up_child_is_one_life() {
    needs(Rule::StartupIsOneLife, |sabotage| {
        let mut cluster = Cluster::new(Options { sabotage, ..Options::default() });
        let with_children = |cluster: &mut Cluster, name| {
            let mut options = cluster.node_options();
            options.children = vec![spec("boot", "")];
            cluster.add_node_with(name, options);
        };
        with_children(&mut cluster, "a");
        cluster.converge(REST);
        let terminate = cluster.terminate(A, "boot");
        accepted(&mut cluster, terminate);
        with_children(&mut cluster, "b");
        is_gone(&mut cluster, "boot")
    });
}

/// Goal: a start that came after a removal survives wherever the removal was not heard. Method: c misses a removal and
/// hears of the next start.
#[test]
fn the_higher_birth_wins() {
    needs(Rule::HigherBirthWins, |sabotage| {
        let mut cluster = cluster(sabotage, &ABC);
        let id = id_owned(&ABC, &[(3, "a")]);
        run_child(&mut cluster, A, spec(&id, "old"));
        keep_removals_from(&mut cluster, C, &id);
        let terminate = cluster.terminate(A, &id);
        accepted(&mut cluster, terminate);
        cluster.run_for(millis(100));
        let start = cluster.start(B, spec(&id, "new"));
        accepted(&mut cluster, start);
        cluster.run_for(millis(100));
        cluster.no_hook();
        runs_once(&mut cluster, &id, "new")
    });
}

/// Goal: of two equal births one survives, everywhere the same. Method: both sides of a short cut start one id.
#[test]
fn ties_are_decided_by_dot() {
    needs(Rule::TiesByDot, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b"]);
        cluster.cut(A, B);
        let starts = [(A, "one"), (B, "two")].map(|(node, args)| cluster.start(node, spec("child", args)));
        starts.into_iter().for_each(|start| accepted(&mut cluster, start));
        cluster.run_for(millis(300));
        cluster.heal();
        runs_once(&mut cluster, "child", "one").or_else(|_| runs_once(&mut cluster, "child", "two"))
    });
}

/// Goal: a start that lost is kept until the one that won has come, which its node may not live to tell. Method: a and b
/// start one id, only the answers of a reach b, then a crashes.
#[test]
fn what_was_replaced_is_not_gone() {
    needs(Rule::ReplacedIsNotGone, |sabotage| {
        let fault_sites = FaultSites::seeded(1).with(Site::SingleBatch, 1.0);
        let mut cluster = cluster_with(Options { sabotage, fault_sites, ..Options::default() }, &["a", "b"]);
        let id = id_owned(&["a", "b"], &[(2, "b")]);
        cluster.drop_if(|packet| {
            let starts =
                |message: &ScopeMessage| matches!(message, ScopeMessage::Put(..) | ScopeMessage::PutDirect(..));
            packet.to == B && says(packet, starts)
        });
        // Births beyond those that b has heard of, so that the start of a wins.
        for (node, id, args) in [(A, "other", ""), (A, &*id, "one"), (B, &*id, "two")] {
            let start = cluster.start(node, spec(id, args));
            accepted(&mut cluster, start);
        }
        cluster.run_for(millis(300));
        cluster.crash(A);
        cluster.no_hook();
        runs_once(&mut cluster, &id, "two")
    });
}

/// Goal: an old copy of a start undoes no removal. Method: every packet that brought the child to b comes again.
#[test]
fn what_was_removed_stays_removed() {
    needs(Rule::RemovedStaysRemoved, |sabotage| {
        let mut cluster = cluster_with(Options { sabotage, capture: true, ..Options::default() }, &["a", "b"]);
        let id = id_owned(&["a", "b"], &[(2, "b")]);
        run_child(&mut cluster, A, spec(&id, ""));
        let old = cluster.captured().to_vec();
        let terminate = cluster.terminate(A, &id);
        accepted(&mut cluster, terminate);
        cluster.run_for(SOON);
        for sent in old.iter().filter(|sent| sent.to == B) {
            cluster.inject(A, B, &sent.bytes);
        }
        cluster.run_for(SOON);
        let runs = runs(&cluster, &id);
        if runs.len() == 1 { Ok(()) } else { Err(format!("{runs:?}")) }
    });
}

/// Goal: a removal that was missed is learnt from an exchange. Method: c misses one.
#[test]
fn an_exchange_tells_of_removals() {
    needs(Rule::ExchangeRemoves, |sabotage: Sabotage| {
        let mut cluster = cluster(sabotage, &ABC);
        let id = id_owned(&ABC, &[(3, "a")]);
        run_child(&mut cluster, A, spec(&id, ""));
        keep_removals_from(&mut cluster, C, &id);
        let terminate = cluster.terminate(A, &id);
        accepted(&mut cluster, terminate);
        is_gone(&mut cluster, &id)
    });
}

/// Goal: a later life of a child has higher epochs, however fast it comes. Method: start, terminate and start in one
/// instant.
#[test]
fn a_birth_is_no_time_of_a_clock() {
    needs(Rule::BirthIsNoClock, |sabotage| {
        let mut cluster = cluster(sabotage, &["a"]);
        let calls =
            [cluster.start(A, spec("child", "")), cluster.terminate(A, "child"), cluster.start(A, spec("child", ""))];
        calls.into_iter().for_each(|call| accepted(&mut cluster, call));
        cluster.run_for(SOON);
        epochs_rise(&cluster, "child")
    });
}
