//! The rules of hand-over: ask before start, stop when asked.

use std::time::Duration;

use haulout::proto::wire::{Message, ScopeMessage};
use haulout::proto::{Epoch, Rule, Sabotage};
use haulout::{Config, Outcome, Restart};
use haulout_sim::journal::Run;
use haulout_sim::{Cluster, NodeIdx, Options, Plan, Range, Treatment};

use crate::support::*;

/// A child that takes 300 ms to stop runs on a; b joins and is its owner. Runs until it has moved.
fn moves_to_newcomer(sabotage: Sabotage) -> Promise {
    let mut cluster = cluster(sabotage, &["a"]);
    cluster.children().plan(stopping_in(millis(300)));
    let id = id_owned(&["a", "b"], &[(2, "b")]);
    run_child(&mut cluster, A, spec(&id, ""));
    cluster.add_node("b");
    cluster.expect(secs(10), "it runs on b", |cluster| runs_on(cluster, &id, B));
    no_overlap(&cluster)
}

/// Goal: the owner asks before it starts.
/// Method: a child moves to a newcomer.
#[test]
fn the_owner_asks_before_it_starts() {
    needs(Rule::Ask, moves_to_newcomer);
}

/// Goal: Free means that nothing runs any more, not that it will stop.
/// Method: a child that takes its time to stop moves to a newcomer.
#[test]
fn free_is_said_only_when_the_child_has_stopped() {
    needs(Rule::FreeOnlyWhenStopped, moves_to_newcomer);
}

/// Goal: every active member is asked, also one that may own nothing any more.
/// Method: the runner drains, and its child takes its time to stop.
#[test]
fn every_member_is_asked_also_one_that_drains() {
    needs(Rule::AskAll, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b"]);
        cluster.children().plan(stopping_in(millis(300)));
        let id = id_owned(&["a", "b"], &[(2, "a")]);
        run_child(&mut cluster, A, spec(&id, ""));
        let _ = cluster.leave(A);
        cluster.expect(secs(10), "it runs on b", |cluster| runs_on(cluster, &id, B));
        no_overlap(&cluster)
    });
}

/// Goal: a runner stops only when it is asked. Stopping earlier is safe, but then nobody runs the child while the new
/// owner still asks the others.
/// Method: a child moves from a to b, and c takes 300 ms to hear what b asks. The gaps are compared.
#[test]
fn a_runner_stops_only_when_it_is_asked() {
    let gap = |sabotage| -> Duration {
        let mut cluster = cluster(sabotage, &["a", "c"]);
        let c = NodeIdx(1);
        let id = id_owned(&["a", "c", "b"], &[(2, "a"), (3, "b")]);
        let slow = id.clone();
        cluster.on_packet(move |packet| {
            let is_asked = says(packet, |message| asks(message, &slow)) || messages(packet).iter().any(is_relayed);
            if packet.to == c && is_asked { Treatment::Delay(millis(300)) } else { Treatment::Pass }
        });
        run_child(&mut cluster, A, spec(&id, ""));
        let b = cluster.add_node("b");
        cluster.expect(secs(10), "it runs on b", |cluster| runs_on(cluster, &id, b));
        no_overlap(&cluster).expect("safe in any case");
        let runs = runs(&cluster, &id);
        runs[1].began.since(runs[0].ended.expect("it has moved"))
    };
    let (with, without) = (gap(Sabotage::default()), gap(Sabotage::without(Rule::StopOnlyWhenAsked)));
    assert!(with < millis(10) && without > millis(200), "{with:?} with the rule, {without:?} without");
}

/// Goal: who answers tells whom it knows, and its Free counts only when they are known here too. Otherwise two
/// newcomers that do not know each other are both told that nobody runs the child.
/// Method: b and c join through a at the same moment, and a's gossip and tables do not get through to them. It takes
/// luck that neither is in the table with which the other is welcomed, hence several seeds.
#[test]
fn answers_tell_two_newcomers_of_each_other() {
    let script = |sabotage, seed| -> Promise {
        let mut cluster = Cluster::new(Options { seed, sabotage, seed_nodes: 1, ..Options::default() });
        let mut options = cluster.node_options();
        options.kinds = Vec::new();
        cluster.add_node_with("a", options);
        cluster.converge(REST);
        let start = cluster.start(A, spec("child", ""));
        accepted(&mut cluster, start);
        cluster.drop_if(|packet| {
            let is_table = |message: &Message| matches!(message, Message::Table(_));
            let tells = !swim(packet).is_empty() || messages(packet).iter().any(is_table);
            packet.from == A && !packet.is_stream && tells
        });
        cluster.add_node("b");
        cluster.add_node("c");
        cluster.expect(secs(3), "it runs", |cluster| !runs(cluster, "child").is_empty());
        cluster.run_for(millis(500));
        cluster.no_hook();
        no_overlap(&cluster)
    };
    needs(Rule::AnswersCarryMembers, |sabotage| (0..5).try_for_each(|seed| script(sabotage, seed)));
}

/// Goal: an answer tells that a life is over, or a child that has completed is started again by an owner that has not
/// heard of it.
/// Method: b joins and owns a's child, which completes just before b's question reaches a; b hears only the answer.
#[test]
fn answers_tell_that_a_child_has_completed() {
    needs(Rule::AnswersCarryLife, |sabotage| {
        let mut cluster = cluster(sabotage, &["a"]);
        cluster.children().plan(Plan::ending(Range::fixed(secs(3)), Outcome::Success));
        let id = id_owned(&["a", "b"], &[(2, "b")]);
        let (slow, about) = (Switch::on(), id.clone());
        let is_slow = slow.clone();
        cluster.drop_if(move |packet| {
            let is_early = is_slow.is_on() && says(packet, |message| asks(message, &about));
            is_early || packet.from == A && says(packet, |message| removes(message, &about))
        });
        run_child(&mut cluster, A, spec(&id, "").restart(Restart::Transient));
        cluster.run_for(millis(2_500));
        cluster.add_node("b");
        cluster.expect(secs(1), "it completes", |cluster| runs(cluster, &id)[0].succeeded());
        slow.set(false);
        is_gone(&mut cluster, &id)?;
        runs_were(&cluster, &id, 1)
    });
}

/// Goal: an answer tells which runs there were, so that the next one is numbered higher.
/// Method: a runs a child, b never hears its claim, and a leaves.
#[test]
fn answers_tell_which_runs_there_were() {
    needs(Rule::AnswersCarryLife, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b"]);
        let id = id_owned(&["a", "b"], &[(2, "a")]);
        let about = id.clone();
        cluster.drop_if(move |packet| packet.from == A && says(packet, |message| claims(message, &about)));
        run_child(&mut cluster, A, spec(&id, ""));
        let _ = cluster.leave(A);
        cluster.expect(secs(10), "it runs on b", |cluster| runs_on(cluster, &id, B));
        epochs_rise(&cluster, &id)
    });
}

/// Goal: an answer counts only in the round that it answers.
/// Method: a asks c, which has not joined the scope; the answer is late. c joins and runs the child, then drains: a
/// asks again, and now the old answer arrives while c's child is still stopping.
#[test]
fn an_answer_counts_only_in_the_round_that_it_answers() {
    needs(Rule::AnswersBoundToRound, |sabotage| {
        let config = Config { confirm_timeout: None, ..Config::default() };
        let mut cluster = cluster_with(Options { sabotage, config, ..Options::default() }, &["a"]);
        cluster.children().plan(stopping_in(secs(1)));
        let mut options = cluster.node_options();
        options.joins = false;
        let c = cluster.add_node_with("c", options);
        let meets = |cluster: &Cluster, node| cluster.node(node).is_some_and(|node| !node.active().is_empty());
        cluster.expect(secs(10), "they meet", |cluster| meets(cluster, A) && meets(cluster, c));
        let id = id_owned(&["a", "c"], &[(2, "c")]);
        let (late, about) = (Kept::default(), id.clone());
        let kept = late.clone();
        cluster.drop_if(move |packet| {
            let is_late = packet.from == c && says(packet, |message| answers(message, &about));
            if is_late {
                kept.keep(packet);
            }
            is_late
        });
        let start = cluster.start(A, spec(&id, ""));
        accepted(&mut cluster, start);
        cluster.expect(SOON, "c answers", |_| late.is_there());
        let join = cluster.join_scope(c, &cluster.options().scope.clone(), &["kind"], Vec::new());
        cluster.wait(join);
        cluster.expect(secs(10), "it runs on c", |cluster| runs_on(cluster, &id, c));
        let _ = cluster.leave(c);
        cluster.run_for(millis(50));
        late.deliver(&mut cluster, c, A);
        cluster.run_for(millis(500));
        no_overlap(&cluster)
    });
}

/// Goal: a member that goes without having answered may have changed everything, so all others are asked again.
/// Method: b asks c, which permits, and d, which does not hear it. d's child completes; c hears that, b does not, and d
/// is replaced by a new instance that knows nothing.
#[test]
fn a_member_that_goes_without_having_answered_voids_the_round() {
    needs(Rule::DownVoidsRound, |sabotage| {
        let mut cluster = cluster(sabotage, &["c", "d"]);
        let [c, d] = [NodeIdx(0), NodeIdx(1)];
        cluster.children().plan(Plan::ending(Range::fixed(secs(3)), Outcome::Success));
        let id = id_owned(&["c", "d", "b"], &[(2, "d"), (3, "b")]);
        let (deaf, about) = (Switch::on(), id.clone());
        let is_deaf = deaf.clone();
        let b = NodeIdx(2);
        cluster.drop_if(move |packet| {
            let asks_d = packet.from == b && packet.to == d && says(packet, |message| asks(message, &about));
            let tells_b = packet.from == d && packet.to == b && says(packet, |message| removes(message, &about));
            is_deaf.is_on() && (asks_d || tells_b || messages(packet).iter().any(is_relayed))
        });
        run_child(&mut cluster, c, spec(&id, "").restart(Restart::Transient));
        cluster.run_for(millis(2_500));
        cluster.add_node("b");
        cluster.expect(secs(1), "it completes", |cluster| runs(cluster, &id)[0].succeeded());
        cluster.expect(millis(5), "c has heard that", |cluster| !lists(cluster, c, &id));
        assert!(lists(&mut cluster, b, &id), "b has not heard it");
        cluster.crash(d);
        cluster.restart(d);
        deaf.set(false);
        is_gone(&mut cluster, &id)?;
        runs_were(&cluster, &id, 1)
    });
}

/// a has b's permission, c's is late, and a stands still until others have taken over. Then c's answer is the first
/// thing that a hears.
fn resumes_with_an_old_permission(sabotage: Sabotage) -> Promise {
    let mut cluster = cluster(sabotage, &["a", "b", "c"]);
    let id = id_owned(&["a", "b", "c"], &[(3, "a")]);
    let late = late_answers(&mut cluster, &id);
    let start = cluster.start(A, spec(&id, ""));
    accepted(&mut cluster, start);
    cluster.expect(millis(50), "c answers", |_| late.is_there());
    cluster.run_for(millis(5));
    cluster.pause(A);
    cluster.no_hook();
    late.deliver(&mut cluster, C, A);
    cluster.expect(REST, "others take over", |cluster| runs_on(cluster, &id, B) || runs_on(cluster, &id, C));
    cluster.resume(A);
    cluster.run_for(secs(5));
    no_overlap(&cluster)
}

/// What c answers to a about a child is lost; the first answer is kept.
fn late_answers(cluster: &mut Cluster, id: &str) -> Kept {
    let (late, about) = (Kept::default(), id.to_owned());
    let kept = late.clone();
    cluster.drop_if(move |packet| {
        let is_late = packet.from == C && packet.to == A && says(packet, |message| answers(message, &about));
        if is_late {
            kept.keep(packet);
        }
        is_late
    });
    late
}

/// Goal: a node that stood still counts no permission from before.
/// Method: a pause in the middle of a round, longer than failure detection. Two rules see to it: permissions expire
/// before others can take over, and a pause voids every round.
#[test]
fn a_paused_node_does_not_start_against_its_successor() {
    needs_one_of(Rule::FreeExpires, Rule::PauseVoidsRounds, resumes_with_an_old_permission);
}

/// Goal: a permission expires before its receiver can be declared down; here no pause tells the receiver that time has
/// passed.
/// Method: a is cut off in the middle of a round. As soon as b runs the child, because a is down, c's answer arrives.
#[test]
fn a_permission_expires_before_its_receiver_can_be_declared_down() {
    needs(Rule::FreeExpires, |sabotage| {
        // Who gives the other up first is a matter of chance; it has to be the others.
        let script = |seed| -> Option<Promise> {
            let config = Config { confirm_timeout: None, ..Config::default() };
            let options = Options { seed, sabotage, config, ..Options::default() };
            let mut cluster = Cluster::new(options);
            for name in ["a", "b", "c"] {
                cluster.add_node(name);
                // Each probes at times of its own.
                cluster.run_for(millis(100 * seed));
            }
            cluster.converge(REST);
            let id = id_owned(&["a", "b", "c"], &[(2, "a"), (3, "a")]);
            let late = late_answers(&mut cluster, &id);
            let start = cluster.start(A, spec(&id, ""));
            accepted(&mut cluster, start);
            cluster.expect(millis(50), "c answers", |_| late.is_there());
            cluster.run_for(millis(5));
            cluster.split(&[A]);
            let taken_over = |cluster: &mut Cluster| runs_on(cluster, &id, B) || runs_on(cluster, &id, C);
            cluster.expect(REST, "somebody starts it", |cluster| !runs(cluster, &id).is_empty());
            if !taken_over(&mut cluster) || cluster.members(A).len() < 3 {
                return None;
            }
            late.deliver(&mut cluster, C, A);
            cluster.run_for(millis(20));
            Some(no_overlap(&cluster))
        };
        (1..50).find_map(script).expect("a seed in which a is given up first")
    });
}

/// Goal: after healing, the owner asks whoever else has the child. A run that is later than the owner's and never gets
/// past its start would otherwise be started again and again for ever.
/// Method: a split, in which b's attempts to start a's child fail.
#[test]
fn the_owner_asks_others_that_have_its_child_to_stop() {
    needs(Rule::Challenge, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b"]);
        let id = id_owned(&["a", "b"], &[(2, "a")]);
        cluster.children().plan_with(|node, _, _| (node == B).then(|| Plan::failing("not here")));
        run_child(&mut cluster, A, spec(&id, ""));
        cluster.cut(A, B);
        let tries = |cluster: &Cluster| runs(cluster, &id).iter().filter(|run| run.node == B).count();
        cluster.expect(REST, "b has tried", |cluster| tries(cluster) > 3);
        cluster.heal();
        cluster.run_for(REST);
        let before = tries(&cluster);
        cluster.run_for(secs(200));
        match tries(&cluster) - before {
            0 => runs_once(&mut cluster, &id, ""),
            more => Err(format!("b has started it {more} more times beside a")),
        }
    });
}

/// Two sides of a split have both run a child, b's runs with higher numbers than a's, which owns it.
fn heals_with_two_runs(sabotage: Sabotage) -> Cluster {
    let mut cluster = cluster(sabotage, &["a", "b"]);
    let id = split_child();
    let mut crashes = 0;
    cluster.children().plan_with(move |node, _, _| {
        crashes += usize::from(node == B);
        let crashes_now = node == B && crashes <= 3;
        crashes_now.then(|| Plan::ending(Range::fixed(millis(10)), Outcome::Error("tired".into())))
    });
    run_child(&mut cluster, A, spec(&id, ""));
    cluster.cut(A, B);
    cluster.expect(REST, "b has restarted it", |cluster| runs(cluster, &id).len() == 5);
    cluster.run_for(secs(2));
    cluster.heal();
    cluster
}

fn split_child() -> String {
    id_owned(&["a", "b"], &[(2, "a")])
}

/// Goal: after healing, one of two runs ends.
/// Method: a split. Two rules see to it: the owner asks the other one to stop, and a run yields to a later one.
#[test]
fn duplicates_end_after_healing() {
    needs_one_of(Rule::Challenge, Rule::YieldToLaterRun, |sabotage| {
        runs_once(&mut heals_with_two_runs(sabotage), &split_child(), "")
    });
}

/// Goal: what runs after healing has the highest number of all runs, so that nothing that the other side wrote with
/// its number shuts it out.
/// Method: a split in which the side that does not own the child restarts it.
#[test]
fn a_run_yields_to_a_later_one() {
    needs(Rule::YieldToLaterRun, |sabotage| {
        let mut cluster = heals_with_two_runs(sabotage);
        runs_once(&mut cluster, &split_child(), "")?;
        let runs = runs(&cluster, &split_child());
        let highest: Option<Epoch> = runs.iter().map(|run| run.epoch).max();
        match runs.iter().find(|run| run.is_alive()) {
            Some(run) if Some(run.epoch) == highest => Ok(()),
            run => Err(format!("the highest was {highest:?}, and {run:?} runs")),
        }
    });
}

/// Goal: questions are repeated.
/// Method: the first answer is lost.
#[test]
fn a_lost_answer_is_asked_for_again() {
    needs(Rule::RetryAsks, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b"]);
        let id = id_owned(&["a", "b"], &[(2, "a")]);
        let (lost, about) = (Switch::default(), id.clone());
        cluster.drop_if(move |packet| {
            let drops = !lost.is_on() && says(packet, |message| answers(message, &about));
            lost.set(lost.is_on() || drops);
            drops
        });
        let start = cluster.start(A, spec(&id, ""));
        accepted(&mut cluster, start);
        cluster.run_for(REST);
        runs_once(&mut cluster, &id, "")
    });
}

/// Goal: what gossip says of who runs a child never blocks its start.
/// Method: a child moves to b; the release of a's claim is lost, and no stream comes about to make up for it.
#[test]
fn a_lost_release_blocks_nobody() {
    needs(Rule::ClaimsAreHints, |sabotage| {
        let mut cluster = cluster(sabotage, &["a"]);
        let id = id_owned(&["a", "b"], &[(2, "b")]);
        let (broken, about) = (Switch::default(), id.clone());
        let is_broken = broken.clone();
        cluster.drop_if(move |packet| {
            let is_release =
                |message: &ScopeMessage| matches!(message, ScopeMessage::DelOwned(..)) && claims(message, &about);
            let releases = says(packet, is_release);
            is_broken.set(is_broken.is_on() || releases);
            releases || packet.is_stream && is_broken.is_on()
        });
        run_child(&mut cluster, A, spec(&id, ""));
        cluster.add_node("b");
        cluster.expect(secs(10), "a releases it", |_| broken.is_on());
        cluster.run_for(secs(30));
        if runs_on(&cluster, &id, B) { Ok(()) } else { Err("nobody runs it".into()) }
    });
}

/// Goal: a Temporary child is never moved, because it can't be started again.
/// Method: a runs one of which c does not know where it runs; b joins, hears of the child from c, and owns it.
#[test]
fn a_temporary_child_never_yields() {
    needs(Rule::TemporaryStays, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "c"]);
        let id = id_owned(&["a", "c", "b"], &[(2, "a"), (3, "b")]);
        let (about, b) = (id.clone(), NodeIdx(2));
        cluster.drop_if(move |packet| {
            let between = [packet.from, packet.to];
            let is_stream = packet.is_stream && between.contains(&A) && between.contains(&b);
            is_stream || packet.from == A && says(packet, |message| claims(message, &about))
        });
        run_child(&mut cluster, A, spec(&id, "").restart(Restart::Temporary));
        cluster.add_node("b");
        let asked = cluster.stats(A).answers_busy;
        cluster
            .expect(secs(10), "b asks", |cluster| cluster.stats(A).answers_busy > asked || !runs_on(cluster, &id, A));
        cluster.run_for(SOON);
        if runs_on(&cluster, &id, A) { Ok(()) } else { Err(format!("{:?}", runs(&cluster, &id))) }
    });
}

/// Goal: a child that has completed is done for ever.
/// Method: a Transient child succeeds.
#[test]
fn a_completed_child_is_done() {
    needs(Rule::CompletedIsDone, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b"]);
        cluster.children().plan(Plan::ending(Range::fixed(millis(100)), Outcome::Success));
        run_child(&mut cluster, A, spec("child", "").restart(Restart::Transient));
        cluster.run_for(secs(10));
        runs_were(&cluster, "child", 1)
    });
}

/// Whether a message takes the way through a third node.
fn is_relayed(message: &Message) -> bool {
    matches!(message, Message::Relay(..) | Message::Relayed(..))
}

fn runs_were(cluster: &Cluster, id: &str, expected: usize) -> Promise {
    let runs = runs(cluster, id);
    if runs.len() == expected { Ok(()) } else { Err(format!("{} runs: {runs:?}", runs.len())) }
}

fn epochs_rise(cluster: &Cluster, id: &str) -> Promise {
    let epochs: Vec<Epoch> = runs(cluster, id).iter().map(|run: &Run| run.epoch).collect();
    if epochs.is_sorted_by(|earlier, later| earlier < later) { Ok(()) } else { Err(format!("{epochs:?}")) }
}
