//! A node that leaves hands everything over first, and says what it could not stop.

use haulout::proto::Reply;
use haulout::{LeaveError, StartError, Unavailable};
use haulout_sim::{NodeIdx, NodeState, Plan, Range};

use crate::support::*;

fn ignores_stop() -> Plan {
    Plan { stop_delay: Range::fixed(secs(60)), abort_delay: secs(60), ..Plan::default() }
}

/// Goal: when `leave` returns, others have everything; nothing ever ran twice, and it took no timeout.
/// Method: the journal at the moment of the answer, over several seeds and sizes.
#[test]
fn leave_hands_everything_over_before_the_node_goes() {
    for seed in 0..6 {
        let mut cluster = cluster(seed, 2 + seed as usize % 4);
        cluster.children().plan_kind("kind", Plan { stop_delay: Range::millis(1, 200), ..Plan::default() });
        let ids = start_many(&mut cluster, 40);
        let from = cluster.now();
        let request = cluster.leave(A);
        assert!(matches!(cluster.wait(request), Reply::Left(Ok(()))), "seed {seed}");
        assert!(cluster.now().since(from) < SOON, "seed {seed}: it took {:?}", cluster.now().since(from));
        assert_eq!(cluster.state(A), NodeState::Down);
        for id in &ids {
            assert_ne!(runner(&cluster, id), A, "seed {seed}: {id}");
        }
        converge_to(&mut cluster, secs(5), &ids);
        assert_no_overlap(&cluster);
        assert_rests(&mut cluster, secs(20));
    }
}

/// Goal: nobody waits for gossip, or for the next comparison of states, to take over what a leaver ran: the one is slow while
/// it carries the claims of all that moves, and misses some. Method: 24 nodes, of which one leaves with many children; how
/// long it takes, over several seeds.
#[test]
fn leaving_a_large_cluster_takes_no_gossip() {
    for seed in 0..3 {
        let mut cluster = cluster(seed, 24);
        let ids = start_many(&mut cluster, 1_200);
        converge_to(&mut cluster, REST, &ids);
        let from = cluster.now();
        let request = cluster.leave(A);
        assert!(matches!(cluster.wait(request), Reply::Left(Ok(()))), "seed {seed}");
        let took = cluster.now().since(from);
        assert!(took < millis(400), "seed {seed}: it took {took:?}");
    }
}

/// Goal: the others know at once that a leaver is gone, without failure detection.
/// Method: their members, a second after its answer.
#[test]
fn the_others_know_at_once_that_a_node_has_left() {
    let mut cluster = cluster(1, 5);
    let request = cluster.leave(B);
    cluster.wait(request);
    cluster.expect(SOON, "nobody lists it", |cluster| {
        let listed = |node: NodeIdx| cluster.members(node).iter().any(|member| &*member.name == "b");
        !cluster.up().into_iter().any(listed)
    });
}

/// Goal: the last node leaves too, though nobody can take over.
/// Method: its children are stopped, and it goes without waiting for its timeout.
#[test]
fn the_last_node_leaves_by_stopping_its_children() {
    let mut cluster = cluster(2, 1);
    start_many(&mut cluster, 10);
    let from = cluster.now();
    let request = cluster.leave(A);
    assert!(matches!(cluster.wait(request), Reply::Left(Ok(()))));
    assert!(cluster.now().since(from) < SOON);
    assert_eq!(cluster.journal().alive().count(), 0);
    assert!(cluster.journal().runs().iter().all(|run| run.ending != Some(haulout_sim::journal::Ending::Killed)));
}

/// Goal: a whole cluster can leave at once.
/// Method: all three nodes leave in the same instant; each answers, and no child is killed with its process.
#[test]
fn all_nodes_can_leave_at_the_same_moment() {
    for seed in 0..4 {
        let mut cluster = cluster(seed, 3);
        start_many(&mut cluster, 30);
        let requests: Vec<_> = cluster.up().into_iter().map(|node| cluster.leave(node)).collect();
        for request in requests {
            assert!(matches!(cluster.wait(request), Reply::Left(Ok(()))), "seed {seed}");
        }
        assert_eq!(cluster.journal().alive().count(), 0);
        let killed =
            cluster.journal().runs().iter().filter(|run| run.ending == Some(haulout_sim::journal::Ending::Killed));
        assert_eq!(killed.count(), 0, "seed {seed}");
        assert_no_overlap(&cluster);
    }
}

/// Goal: two leavers hand over to the third, and what one takes over from the other does not get stuck.
/// Method: two of three leave in the same instant.
#[test]
fn two_nodes_that_leave_together_hand_over_to_the_third() {
    for seed in 0..6 {
        let mut cluster = cluster(seed, 3);
        let ids = start_many(&mut cluster, 30);
        let requests = [A, B].map(|node| cluster.leave(node));
        for request in requests {
            assert!(matches!(cluster.wait(request), Reply::Left(Ok(()))), "seed {seed}");
        }
        converge_to(&mut cluster, secs(5), &ids);
        assert_no_overlap(&cluster);
    }
}

/// Goal: a child that can't be stopped is named, and is not started elsewhere while it runs.
/// Method: one child goes on for a minute after its abort. `leave` returns it; the node stays, draining; when the
/// child has ended, it runs elsewhere, and a second `leave` succeeds.
#[test]
fn leave_with_a_child_that_ignores_its_stop_names_it_and_stays() {
    for nodes in [1, 3] {
        let mut cluster = cluster(3, nodes);
        cluster.children().plan_args(b"stuck", ignores_stop());
        let mut ids = start_many(&mut cluster, 12);
        start(&mut cluster, A, spec("stuck"));
        ids.push("stuck".into());
        converge_to(&mut cluster, SOON, &ids);
        let leaver = runner(&cluster, "stuck");
        let request = cluster.leave(leaver);
        match cluster.wait(request) {
            Reply::Left(Err(LeaveError::StillRunning { children })) => assert_eq!(children, [id("stuck")]),
            other => panic!("{other:?}"),
        }
        assert_eq!(cluster.state(leaver), NodeState::Up);
        assert_eq!(runner(&cluster, "stuck"), leaver);
        cluster.run_for(secs(10));
        assert_eq!(runner(&cluster, "stuck"), leaver, "nobody may start it while it runs");
        cluster.run_for(secs(120));
        let request = cluster.leave(leaver);
        assert!(matches!(cluster.wait(request), Reply::Left(Ok(()))));
        if nodes > 1 {
            converge_to(&mut cluster, SOON, &ids);
        }
        assert_no_overlap(&cluster);
    }
}

/// Goal: a node that leaves takes no new children.
/// Method: a start at a leaver that is held up by a slow child is refused; through another node it works, elsewhere.
#[test]
fn a_node_that_leaves_takes_no_new_children() {
    let mut cluster = cluster(4, 3);
    cluster.children().plan_args(b"slow", Plan { stop_delay: Range::fixed(secs(4)), ..Plan::default() });
    start(&mut cluster, A, spec("slow"));
    cluster.converge_to(SOON, &["slow"]);
    let leaver = runner(&cluster, "slow");
    let request = cluster.leave(leaver);
    let start_here = cluster.start(leaver, spec("new"));
    let reply = cluster.wait(start_here);
    let expected = StartError::Unavailable(Unavailable::Leaving);
    assert!(matches!(&reply, Reply::Started(Err(error)) if *error == expected), "{reply:?}");
    let other = bystander(&cluster, "slow");
    for id in ids(12) {
        start(&mut cluster, other, spec(&id));
    }
    assert!(matches!(cluster.wait(request), Reply::Left(Ok(()))));
    let (mut all, from_leaver) = (ids(12), cluster.journal().runs().iter().filter(|run| run.node == leaver).count());
    all.push("slow".into());
    converge_to(&mut cluster, secs(5), &all);
    assert_eq!(from_leaver, 1, "only the slow child ever ran on the leaver");
}

/// Goal: a leave that nobody can help with ends at its timeout.
/// Method: the leaver is cut off from the others; its children are stopped and it goes.
#[test]
fn a_node_that_is_cut_off_leaves_at_its_timeout() {
    let mut cluster = cluster(5, 3);
    let ids = start_many(&mut cluster, 20);
    cluster.split(&[A]);
    let from = cluster.now();
    let request = cluster.leave(A);
    assert!(matches!(cluster.wait(request), Reply::Left(Ok(()))));
    assert!(cluster.now().since(from) <= secs(12), "{:?}", cluster.now().since(from));
    cluster.heal();
    converge_to(&mut cluster, REST, &ids);
}
