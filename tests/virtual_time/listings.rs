//! What users are told: listings, locations, waits, members, events.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use haulout::proto::{Fanout, Reply};
use haulout::{ChildState, Event, MemberInfo, Outcome, WaitError, Which};
use haulout_sim::{Cluster, NodeIdx, Options, Plan, Range};

use crate::support::*;

/// 2025-01-01, where the wall clocks of the simulator begin.
const EPOCH: Duration = Duration::from_millis(1_735_689_600_000);

/// Goal: all nodes list the same once things are quiet, each child with all that is known of it.
/// Method: one child crashed twice, one runs, one backs off, one is unplaced; every field on every node.
#[test]
fn which_children_global_agrees_on_every_node_and_says_everything_about_each_child() {
    let mut cluster = cluster(1, 4);
    cluster.children().plan_args(b"failing", Plan::failing("no disk"));
    cluster.children().plan_with(|_, start, _| {
        let crashes = start.id == id("crashing") && start.epoch.run <= 2;
        crashes.then(|| Plan::ending(Range::millis(500, 500), Outcome::Panic("index out of bounds".into())))
    });
    for child in ["crashing", "failing", "quiet"] {
        start(&mut cluster, A, spec(child));
    }
    start(&mut cluster, A, spec_of("unplaced", "unknown"));
    cluster.run_for(secs(60));
    let quiet = alive(&cluster, "quiet");
    let listings: Vec<_> = cluster.up().into_iter().map(|node| cluster.which(node, Which::Global)).collect();
    assert!(listings.iter().all(|listing| *listing == listings[0]), "{listings:#?}");
    let [crashing, failing, steady, unplaced] = &listings[0][..] else { panic!("{listings:?}") };

    assert_eq!((&crashing.state, crashing.restarts), (&ChildState::Running, 2));
    assert_eq!(crashing.last_error.as_deref(), Some("index out of bounds"));
    assert_eq!(crashing.epoch, alive(&cluster, "crashing").epoch);
    assert_eq!(failing.state, ChildState::Backoff);
    assert_eq!(failing.last_error.as_deref(), Some("no disk"));
    assert_eq!((&steady.state, steady.restarts, &steady.last_error), (&ChildState::Running, 0, &None));
    assert_eq!((steady.node.as_deref(), steady.epoch), (Some(cluster.name(quiet.node)), quiet.epoch));
    assert_eq!(steady.kind.as_str(), "kind");
    let since = SystemTime::UNIX_EPOCH + EPOCH + Duration::from_nanos(quiet.started.expect("it runs").as_nanos());
    let told = steady.since.expect("it runs");
    let off = told.duration_since(since).or_else(|_| since.duration_since(told)).expect("one of them");
    assert!(off < millis(5), "since is off by {off:?}");
    assert!(matches!(unplaced.state, ChildState::Unplaced(_)));
}

/// Goal: a local listing is what this node runs.
/// Method: the local listings of all nodes are compared with the journal; together they are everything.
#[test]
fn which_children_local_lists_what_the_node_runs() {
    let mut cluster = cluster(2, 3);
    let all = start_many(&mut cluster, 40);
    let mut listed = 0;
    for node in cluster.up() {
        let local: BTreeSet<String> =
            cluster.which(node, Which::Local).iter().map(|child| child.id.to_string()).collect();
        assert_eq!(local, running_on(&cluster, node));
        listed += local.len();
    }
    assert_eq!(listed, all.len());
}

/// Goal: a listing that is read in parts lacks no child that was there all the time, whatever comes and goes between two
/// parts, and has none that had gone before. Method: parts of ten; between any two a child of the first, the middle or the
/// last in memory goes, and sometimes another one comes.
#[test]
fn a_listing_in_parts_lacks_nobody() {
    let mut cluster = cluster(5, 1);
    let all = start_many(&mut cluster, 200);
    terminate(&mut cluster, A, &all[100]);
    cluster.run_for(secs(1));
    let (mut listed, mut gone, mut end, mut parts) = (Vec::new(), BTreeSet::from([all[100].clone()]), None, 0);
    loop {
        let node = cluster.node(A).expect("it is up");
        let page = node.page(cluster.scope(), Which::Global, end, 10).expect("it has settled");
        assert!(page.children.len() <= 10);
        listed.extend(page.children.iter().map(|child| child.id.to_string()));
        parts += 1;
        end = page.next;
        if end.is_none() {
            break;
        }
        let goes = &all[[parts, 100 + parts, 199 - parts][parts % 3]];
        terminate(&mut cluster, A, goes);
        gone.insert(goes.clone());
        if parts % 4 == 0 {
            start(&mut cluster, A, spec(&format!("newcomer-{parts}")));
        }
        // Until the one is really gone.
        cluster.run_for(secs(1));
    }
    assert!(parts >= 18, "{parts} parts");
    let lacks: Vec<_> = all.iter().filter(|child| !gone.contains(*child) && !listed.contains(child)).collect();
    assert!(lacks.is_empty(), "{lacks:?}");
    assert!(!listed.contains(&all[100]));
}

/// Goal: where more moves at once than gossip has room for, listings agree a few comparisons later, not a few
/// `sync_interval`s. Method: ten nodes that take themselves for many, of which four die with 2,800 children; from when all
/// run again until all states are equal.
#[test]
fn listings_agree_soon_after_more_moves_than_gossip_has_room_for() {
    const CHILDREN: usize = 7_000;
    let mut cluster = cluster_with(Options { fanout: Fanout::at_most(1), ..Options::seeded(1) }, 10);
    for number in 0..CHILDREN {
        let _ = cluster.start(NodeIdx(number % 10), spec(&format!("child-{number}")));
    }
    let all_run = |cluster: &Cluster| cluster.journal().alive().filter(|run| run.is_running()).count() == CHILDREN;
    let all_equal = |cluster: &Cluster| {
        let root = |node| cluster.node(node).expect("it is up").root(cluster.scope());
        cluster.up().into_iter().map(root).collect::<BTreeSet<_>>().len() == 1
    };
    cluster.expect(REST, "all run, and everybody knows", |cluster| all_run(cluster) && all_equal(cluster));
    let dropped = cluster.total_stats().gossip_dropped;
    (0..4).for_each(|node| cluster.crash(NodeIdx(node)));
    cluster.expect(secs(3), "all run again", |cluster| all_run(cluster));
    cluster.expect(secs(3), "states are equal", |cluster| all_equal(cluster));
    assert!(cluster.total_stats().gossip_dropped > dropped, "gossip had room for everything");
}

/// Goal: `whereis` says where a child runs, and nothing where it does not.
/// Method: its answer on every node against the journal; also for an unknown id, and after a terminate.
#[test]
fn whereis_says_where_a_child_runs_from_every_node() {
    let mut cluster = cluster(3, 3);
    let all = start_many(&mut cluster, 10);
    for node in cluster.up() {
        for child in &all {
            let run = alive(&cluster, child);
            let location = cluster.whereis(node, child).expect("it runs");
            assert_eq!(&*location.node, cluster.name(run.node));
            assert_eq!((location.addr, location.epoch), (cluster.addr(run.node), run.epoch));
        }
        assert!(cluster.whereis(node, "unknown").is_none());
    }
    terminate(&mut cluster, A, &all[0]);
    converge_to(&mut cluster, SOON, &all[1..]);
    assert!(cluster.up().into_iter().all(|node| cluster.whereis(node, &all[0]).is_none()));
}

/// Goal: `wait_until_running` answers when the child runs, on every node, and not before.
/// Method: an `init` of three seconds; the answers come after it, within a round trip.
#[test]
fn wait_until_running_answers_when_the_child_runs() {
    let mut cluster = cluster(4, 3);
    let slow = Plan { start_delay: Range::millis(3_000, 3_000), ..Plan::default() };
    cluster.children().plan_args(b"child", slow);
    start(&mut cluster, A, spec("child"));
    cluster.run_for(millis(100));
    let waits: Vec<_> = cluster.up().into_iter().map(|node| cluster.wait_until_running(node, "child")).collect();
    for wait in waits {
        let Reply::Running(Ok(location)) = cluster.wait(wait) else { panic!("it runs") };
        let run = alive(&cluster, "child");
        assert_eq!((&*location.node, location.epoch), (cluster.name(run.node), run.epoch));
        let (answered, _) = cluster.call_of(wait).answer.clone().expect("answered");
        let started = run.started.expect("it runs");
        assert!(answered >= started && answered.since(started) <= ROUND_TRIP);
    }
}

/// Goal: a wait for what does not exist, or is terminated meanwhile, ends.
/// Method: an unknown id, and a child that fails to start until another node terminates it.
#[test]
fn wait_until_running_says_when_there_is_no_such_child() {
    let mut cluster = cluster(5, 3);
    let unknown = cluster.wait_until_running(A, "unknown");
    assert!(matches!(cluster.wait(unknown), Reply::Running(Err(WaitError::NotFound))));
    cluster.children().plan_args(b"child", Plan::failing("no disk"));
    start(&mut cluster, A, spec("child"));
    cluster.run_for(SOON);
    let waits: Vec<_> = cluster.up().into_iter().map(|node| cluster.wait_until_running(node, "child")).collect();
    cluster.run_for(secs(5));
    assert!(waits.iter().all(|&wait| cluster.reply(wait).is_none()));
    terminate(&mut cluster, B, "child");
    for wait in waits {
        assert!(matches!(cluster.wait(wait), Reply::Running(Err(WaitError::NotFound))));
    }
}

/// Goal: a wait after an update is for the new life, not for the old run.
/// Method: the old run takes two seconds to stop; nodes that wait meanwhile are told the new epoch.
#[test]
fn wait_until_running_after_an_update_waits_for_the_new_run() {
    let mut cluster = cluster(6, 3);
    cluster.children().plan_kind("kind", Plan { stop_delay: Range::fixed(secs(2)), ..Plan::default() });
    start(&mut cluster, A, spec("child"));
    cluster.converge_to(SOON, &["child"]);
    let old = alive(&cluster, "child").epoch;
    for node in cluster.up() {
        let new = spec("child").max_restarts(10 + node.0 as u32, secs(5));
        let update = cluster.update(node, new);
        cluster.wait(update);
        let wait = cluster.wait_until_running(node, "child");
        let Reply::Running(Ok(location)) = cluster.wait(wait) else { panic!("it runs") };
        assert!(location.epoch > old && location.epoch == alive(&cluster, "child").epoch);
    }
}

fn names(members: &[MemberInfo]) -> Vec<String> {
    members.iter().map(|member| member.name.to_string()).collect()
}

#[track_caller]
fn expect_members(cluster: &mut Cluster, within: Duration, expected: &[&str]) {
    cluster.expect(within, &format!("members {expected:?}"), |cluster| {
        cluster.up().into_iter().all(|node| names(cluster.members(node)) == expected)
    });
}

/// Goal: the list of members follows joins, leaves and deaths on every node, this node included.
/// Method: a node joins, one leaves, one dies, one is restarted.
#[test]
fn members_follow_joins_leaves_and_deaths() {
    let mut cluster = cluster(7, 3);
    expect_members(&mut cluster, SOON, &["a", "b", "c"]);
    cluster.add_node("d");
    expect_members(&mut cluster, secs(3), &["a", "b", "c", "d"]);
    let leave = cluster.leave(B);
    cluster.wait(leave);
    expect_members(&mut cluster, SOON, &["a", "c", "d"]);
    cluster.crash(C);
    expect_members(&mut cluster, DETECTION_MAX, &["a", "d"]);
    cluster.restart(C);
    expect_members(&mut cluster, secs(5), &["a", "c", "d"]);
    let member = cluster.members(A).iter().find(|member| &*member.name == "c").expect("listed").clone();
    assert_eq!((member.addr, Some(member.instance)), (cluster.addr(C), cluster.instance(C)));
    assert_eq!((member.weight, member.draining), (100, false));
}

/// Goal: events tell starts, exits, members and settling, where and when they happen.
/// Method: one child's life and one node's life, against the journal.
#[test]
fn events_tell_what_happens() {
    let mut cluster = cluster(8, 3);
    for node in cluster.up() {
        let settled = cluster.events(node).iter().filter(|(.., event)| *event == Event::Settled).count();
        assert_eq!(settled, 1);
    }
    let from = cluster.now();
    cluster.children().plan_args(b"child", Plan::ending(Range::millis(500, 500), Outcome::Error("lost".into())));
    start(&mut cluster, A, spec("child"));
    cluster.run_for(millis(800));
    let first = runs(&cluster, "child")[0].clone();
    let child = |event: &Event| match event {
        Event::ChildStarted { id: of, epoch } if *of == id("child") => Some(("started", *epoch)),
        Event::ChildExited { id: of, epoch, outcome: Outcome::Error(_) } if *of == id("child") => {
            Some(("exited", *epoch))
        }
        _ => None,
    };
    let told: Vec<_> = events_from(&cluster, first.node, from)
        .iter()
        .filter_map(|(at, event)| child(event).map(|(what, epoch)| (*at, what, epoch)))
        .take(2)
        .collect();
    let expected = [(first.started, "started"), (first.ended, "exited")];
    assert_eq!(told, expected.map(|(at, what)| (at.expect("it did"), what, first.epoch)));

    let from = cluster.now();
    let victim = cluster.up().into_iter().find(|&node| node != first.node).expect("another");
    cluster.crash(victim);
    cluster.run_for(DETECTION_MAX);
    cluster.restart(victim);
    cluster.run_for(secs(5));
    for node in cluster.up().into_iter().filter(|&node| node != victim) {
        let events = events_from(&cluster, node, from);
        let member = |up: bool, node: NodeIdx| {
            let name = cluster.name(node);
            let is = |event: &Event| match event {
                Event::MemberUp(member) => up && &*member.name == name,
                Event::MemberDown(member) => !up && &*member.name == name,
                _ => false,
            };
            events.iter().filter(|(_, event)| is(event)).count()
        };
        assert_eq!((member(false, victim), member(true, victim)), (1, 1), "{events:?}");
    }
}
