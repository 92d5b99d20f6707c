//! What a process must not go by that stood still: what it had found out of others before, and the time that went by.

use std::time::Duration;

use haulout::proto::{Fanout, Rule, Sabotage};
use haulout_sim::{Cluster, Link, Options, PacketClass, Range, Resume};

use crate::support::*;

/// What a process may see first when it goes on.
const RESUMES: [Resume; 2] = [Resume::PacketsFirst, Resume::TimersFirst];

/// Plays a script with a few seeds.
fn with_seeds(sabotage: Sabotage, script: impl Fn(Options) -> Promise) -> Promise {
    (0..4).try_for_each(|seed| script(Options { seed, sabotage, ..Options::default() }))
}

/// The line between two nodes breaks, one of them is suspended soon after, and the line is whole again soon after it has gone
/// on: neither time is long enough to give the other one up, and nobody listened in between.
fn suspended_while_the_line_is_broken(sabotage: Sabotage) -> Promise {
    let names = ["a", "b"];
    let id = id_owned(&names, &[(2, "b")]);
    for resume in RESUMES {
        with_seeds(sabotage, |options| {
            let mut cluster = cluster_with(Options { resume, ..options }, &names);
            run_child(&mut cluster, A, spec(&id, ""));
            cluster.cut(A, B);
            cluster.run_for(millis(3_500));
            cluster.pause(A);
            cluster.run_for(secs(30));
            cluster.resume(A);
            cluster.run_for(secs(2));
            cluster.heal();
            cluster.run_for(secs(10));
            match runs(&cluster, &id).iter().any(|run| run.node == A) {
                true => Err(format!("{id} was taken over from a living node")),
                false => Ok(()),
            }
        })?;
    }
    Ok(())
}

/// Goal: a member that SWIM suspects when the process stands still has all the time to be heard after it.
/// Method: the suspicion would be over when a process goes on that was suspended.
#[test]
fn a_suspicion_does_not_run_out_while_the_process_stands_still() {
    needs(Rule::PauseRenewsSuspicions, suspended_while_the_line_is_broken);
}

/// Goal: a member that was asked in vain before the process stood still is asked as often again before it is given up.
/// Method: when the process goes on that was suspended, only some of the questions are left that a member may miss.
#[test]
fn questions_from_before_a_pause_count_no_more_after_it() {
    needs(Rule::PauseRestartsDoubts, suspended_while_the_line_is_broken);
}

/// Goal: what was seen of a member before the process stood still accuses nobody after it.
/// Method: two of three nodes can't reach the third one for 0.3 s. One has seen enough and waits for what the other one
/// says, which takes long to arrive, when it stands still for a second; all reach each other again when it hears that.
#[test]
fn a_look_from_before_a_pause_finds_no_crash_after_it() {
    needs(Rule::PauseEndsLooks, |sabotage| {
        with_seeds(sabotage, |options| {
            let mut cluster = cluster_with(options, &["a", "b", "c"]);
            cluster.run_for(SOON);
            let slow = Link { delay: Range::fixed(millis(100)), ..Link::default() };
            cluster.set_link_between(C, A, Some(slow));
            for other in [A, C] {
                cluster.cut_class(other, B, PacketClass::Datagrams);
                cluster.cut_class(B, other, PacketClass::Datagrams);
                cluster.reject(other, B);
            }
            cluster.run_for(millis(80));
            cluster.pause(A);
            cluster.run_for(millis(220));
            cluster.heal();
            cluster.run_for(millis(780));
            cluster.resume(A);
            cluster.run_for(secs(5));
            match cluster.total_stats().members_down {
                0 => Ok(()),
                downs => Err(format!("{downs} healthy members were given up")),
            }
        })
    });
}

/// Goal: a newcomer does not count the time as waiting for members in which it stood still.
/// Method: it stands still right after its start, when it has heard nobody yet. It has a start-up child that the others
/// run.
#[test]
fn a_newcomer_that_stood_still_does_not_settle_beside_the_others() {
    needs(Rule::PauseRestartsWait, |sabotage| {
        for resume in RESUMES {
            with_seeds(sabotage, |options| {
                let mut cluster = Cluster::new(Options { resume, ..options });
                let add = |cluster: &mut Cluster, name: &str| {
                    let mut options = cluster.node_options();
                    options.children = vec![spec("child", "")];
                    cluster.add_node_with(name, options);
                };
                ["a", "b"].into_iter().for_each(|name| add(&mut cluster, name));
                cluster.converge(REST);
                add(&mut cluster, "c");
                cluster.run_for(millis(1));
                cluster.pause(C);
                cluster.run_for(secs(30));
                cluster.resume(C);
                cluster.run_for(secs(10));
                no_overlap(&cluster)
            })?;
        }
        Ok(())
    });
}

/// Goal: nor does it go by what others said before, who may have settled since: it would not know what they run.
/// Method: a newcomer that waits no longer than for answers stands still at every stage of that; meanwhile the others settle,
/// and a child is started. When it goes on, its next questions are lost. Once with members that count as many, so that all
/// are asked once more.
#[test]
fn a_newcomer_that_stood_still_does_not_go_by_old_answers() {
    let paused_after = (99..=105).chain([150, 200]).map(millis);
    let cases: Vec<_> = paused_after.flat_map(|after| RESUMES.map(|resume| (after, resume))).collect();
    needs(Rule::PauseRestartsWait, |sabotage| {
        for (fanout, (after, resume)) in [1, 16].into_iter().flat_map(|max| cases.iter().map(move |&case| (max, case)))
        {
            with_seeds(sabotage, |options| {
                let mut cluster = Cluster::new(Options { resume, fanout: Fanout::at_most(fanout), ..options });
                let add = |cluster: &mut Cluster, name: &str, settle_timeout| {
                    let mut options = cluster.node_options();
                    options.config.settle_timeout = Some(settle_timeout);
                    cluster.add_node_with(name, options);
                };
                ["a", "b"].into_iter().for_each(|name| add(&mut cluster, name, secs(5)));
                cluster.run_for(SOON);
                add(&mut cluster, "c", Duration::ZERO);
                cluster.run_for(after);
                let has_settled = cluster.listing(C).is_some();
                cluster.pause(C);
                run_child(&mut cluster, A, spec("child", ""));
                [A, B].into_iter().for_each(|other| cluster.cut(C, other));
                cluster.resume(C);
                cluster.run_for(millis(150));
                cluster.heal();
                cluster.expect(REST, "it has settled", |cluster| cluster.listing(C).is_some());
                match has_settled || lists(&mut cluster, C, "child") {
                    true => Ok(()),
                    false => {
                        Err(format!("paused after {after:?}, it has settled and does not know what the others run"))
                    }
                }
            })?;
        }
        Ok(())
    });
}
