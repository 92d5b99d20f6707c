//! The rules of desired state: deletes without tombstones.

use haulout::Config;
use haulout::proto::group::ChildKey;
use haulout::proto::packet::{Codec, seal_plaintext};
use haulout::proto::wire::{Exchange, Message, ScopeMessage};
use haulout::proto::{Command, Dot, Identity, InstanceId, Rule, Sabotage};
use haulout_sim::{Cluster, Options, Treatment};

use crate::support::*;

/// Goal: a process that starts takes a new id, or its first start is taken for the first one of its earlier life.
/// Method: a starts a child, crashes, comes back, with the same id or with a new one, and starts another child.
#[test]
fn a_new_instance_id_per_process_start() {
    let script = |instance: Option<InstanceId>| -> Promise {
        let mut cluster = Cluster::new(Options::default());
        let mut options = cluster.node_options();
        options.instance = instance;
        cluster.add_node_with("a", options);
        cluster.add_node("b");
        cluster.converge(REST);
        run_child(&mut cluster, A, spec("first", ""));
        cluster.converge(REST);
        cluster.crash(A);
        cluster.restart(A);
        let start = cluster.start(A, spec("second", ""));
        accepted(&mut cluster, start);
        runs_once(&mut cluster, "second", "")
    };
    script(None).expect("a new id at every start");
    assert!(script(Some(InstanceId::new(7))).is_err(), "the start survives under an old id too");
}

/// Goal: what was seen is remembered as ranges; with a maximum, a start that is overtaken counts as deleted.
/// Method: of two starts on a the second one reaches b first.
#[test]
fn seen_serials_as_ranges_not_as_a_maximum() {
    needs(Rule::SeenAsRanges, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b"]);
        let id = id_owned(&["a", "b"], &[(2, "b")]);
        let slow = id.clone();
        cluster.on_packet(move |packet| {
            let is_slow = packet.from == A && !packet.is_stream && says(packet, |message| brings(message, &slow));
            if is_slow { Treatment::Hold } else { Treatment::Pass }
        });
        for spec in [spec(&id, ""), spec("overtakes", "")] {
            let start = cluster.start(A, spec);
            accepted(&mut cluster, start);
        }
        cluster.expect(SOON, "the second start arrives", |cluster| lists(cluster, B, "overtakes"));
        cluster.no_hook();
        cluster.release();
        runs_once(&mut cluster, &id, "")
    });
}

/// Goal: a start is greater than everything that its node has heard of. Otherwise the removed life beats it elsewhere,
/// and is then removed itself.
/// Method: b, which has written less than a, removes a's child and starts it anew; the start reaches a first.
#[test]
fn a_birth_above_every_birth_heard_of() {
    needs(Rule::BirthAboveTop, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b"]);
        for id in ["one", "two", "three", "child"] {
            run_child(&mut cluster, A, spec(id, "old"));
        }
        cluster.converge(REST);
        cluster.on_packet(|packet| {
            let is_slow = !packet.is_stream && says(packet, |message| removes(message, "child"));
            if is_slow { Treatment::Hold } else { Treatment::Pass }
        });
        let terminate = cluster.terminate(B, "child");
        accepted(&mut cluster, terminate);
        let start = cluster.start(B, spec("child", "new"));
        accepted(&mut cluster, start);
        cluster.run_for(millis(20));
        assert!(cluster.held() > 0, "the removal is on its way");
        cluster.no_hook();
        cluster.release();
        runs_once(&mut cluster, "child", "new")
    });
}

/// Goal: an update names the life that it replaces, so that whoever sees only the update knows that the old life is
/// over.
/// Method: a starts a child and is cut off. b updates it; c hears only of the update, terminates it, and b crashes. a,
/// which still holds the old life, comes back.
#[test]
fn an_update_names_the_life_that_it_replaces() {
    needs(Rule::OverReplaced, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b", "c"]);
        let id = id_owned(&["a", "b", "c"], &[(3, "a")]);
        cluster.cut(A, C);
        // No exchange may tell c what b has seen, and b may not pass on what a asks.
        let (quiet, about) = (Switch::on(), id.clone());
        let is_quiet = quiet.clone();
        cluster.drop_if(move |packet| {
            let is_asked = packet.to == C && says(packet, |message| asks(message, &about));
            is_quiet.is_on() && (packet.is_stream || is_asked)
        });
        let start = cluster.start(A, spec(&id, "old"));
        accepted(&mut cluster, start);
        let listed = id.clone();
        cluster.expect(millis(20), "b has heard of it", move |cluster| lists(cluster, B, &listed));
        cluster.cut(A, B);
        let update = Command::Update { scope: cluster.scope(), spec: spec(&id, "new"), replicated: 2 };
        let _ = cluster.send(B, update);
        let listed = id.clone();
        cluster.expect(millis(20), "c has heard of the update", move |cluster| lists(cluster, C, &listed));
        let terminate = cluster.terminate(C, &id);
        accepted(&mut cluster, terminate);
        cluster.crash(B);
        quiet.set(false);
        cluster.heal();
        is_gone(&mut cluster, &id)
    });
}

/// Goal: a removal is remembered even where the child was never held, or a start that it overtakes runs for ever.
/// Method: a starts a child for b and terminates it; the removal reaches b first, and then a is gone.
#[test]
fn a_removal_is_remembered_even_of_what_was_never_held() {
    needs(Rule::RememberUnheld, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b", "c"]);
        let id = id_owned(&["a", "b", "c"], &[(3, "b")]);
        let slow = id.clone();
        cluster.on_packet(move |packet| {
            let is_slow = packet.from == A && says(packet, |message| brings(message, &slow));
            if is_slow { Treatment::Hold } else { Treatment::Pass }
        });
        let start = cluster.start(A, spec(&id, ""));
        accepted(&mut cluster, start);
        let terminate = cluster.terminate(A, &id);
        accepted(&mut cluster, terminate);
        cluster.run_for(millis(10));
        assert!(cluster.held() > 0, "the start is on its way");
        cluster.crash(A);
        cluster.no_hook();
        cluster.release();
        is_gone(&mut cluster, &id)
    });
}

/// Goal: what a peer has seen is adopted only when everything that it holds has been told; otherwise what was not told
/// yet counts as deleted, and the loss spreads.
/// Method: b joins a, which holds ten children, and the stream of its pull breaks before the records come.
#[test]
fn what_a_peer_has_seen_is_adopted_only_at_the_end_of_a_pull() {
    needs(Rule::AdoptAtEnd, |sabotage| {
        let mut cluster = cluster(sabotage, &["a"]);
        let ids: Vec<String> = (0..10).map(|number| format!("child-{number}")).collect();
        for id in &ids {
            run_child(&mut cluster, A, spec(id, ""));
        }
        let broke = Switch::default();
        let breaks = broke.clone();
        cluster.drop_if(move |packet| {
            let is_told = |message: &ScopeMessage| matches!(message, ScopeMessage::Exchange(Exchange::Spans { .. }));
            let drops = packet.from == A && packet.is_stream && !breaks.is_on() && says(packet, is_told);
            breaks.set(breaks.is_on() || drops);
            drops
        });
        cluster.add_node("b");
        cluster.expect(secs(10), "the pull breaks", move |_| broke.is_on());
        ids.iter().try_for_each(|id| runs_once(&mut cluster, id, ""))
    });
}

/// Goal: while a pull is open, what the peer has seen is learnt from it alone. A copy that arrives behind the
/// comparison would be held by somebody who then knows that it was deleted.
/// Method: a late copy arrives before the end of the pull.
#[test]
fn direct_records_are_ignored_while_a_pull_that_has_seen_them_is_open() {
    needs(Rule::IgnoreWhilePulling, |sabotage| {
        late_copy_during_pull(sabotage, 1, |step| matches!(step, Exchange::Spans { last: true, .. }))
    });
}

/// Goal: the same while it is not clear yet whether the peer has seen it.
/// Method: so many have written that this is told only with the end of the pull, and a late copy arrives before that.
#[test]
fn direct_records_are_ignored_while_it_is_unclear_whether_the_peer_has_seen_them() {
    needs(Rule::IgnoreUnclear, |sabotage| {
        late_copy_during_pull(sabotage, 600, |step| matches!(step, Exchange::Spans { last: true, .. }))
    });
}

/// Goal: what arrives before the peer has taken its snapshot is compared with it, although the first sums were told
/// before. Method: a late copy arrives after the question and before the answer.
#[test]
fn what_has_changed_since_a_pull_began_is_compared_again() {
    needs(Rule::CompareAgain, |sabotage| {
        late_copy_during_pull(sabotage, 1, |step| matches!(step, Exchange::Snap { .. }))
    });
}

/// a starts and terminates a child of which b hears nothing. b pulls from a; before this step of the pull arrives an old
/// copy of the start, and after the pull a is gone. Both have heard of so many writers before.
fn late_copy_during_pull(sabotage: Sabotage, writers: u64, holds: fn(&Exchange) -> bool) -> Promise {
    let mut cluster = cluster(sabotage, &["a", "b"]);
    let id = id_owned(&["a", "b"], &[(2, "a")]);
    hear_of(&mut cluster, writers);
    let (copy, is_held, about) = (Kept::default(), Switch::on(), id.clone());
    let (kept, is_on) = (copy.clone(), is_held.clone());
    cluster.on_packet(move |packet| {
        if packet.from != A {
            return Treatment::Pass;
        }
        if packet.is_stream {
            let is_step = |message: &ScopeMessage| matches!(message, ScopeMessage::Exchange(step) if holds(step));
            return if is_on.is_on() && says(packet, is_step) { Treatment::Hold } else { Treatment::Pass };
        }
        if says(packet, |message| brings(message, &about)) {
            kept.keep(packet);
            return Treatment::Drop;
        }
        if says(packet, |message| removes(message, &about)) { Treatment::Drop } else { Treatment::Pass }
    });
    let start = cluster.start(A, spec(&id, ""));
    accepted(&mut cluster, start);
    let terminate = cluster.terminate(A, &id);
    accepted(&mut cluster, terminate);
    let pulls = cluster.stats(B).pulls_completed;
    cluster.expect(secs(20), "b pulls", |cluster| cluster.held() > 0);
    copy.deliver(&mut cluster, A, B);
    is_held.set(false);
    cluster.release();
    cluster.expect(SOON, "the pull ends", |cluster| cluster.stats(B).pulls_completed > pulls);
    cluster.crash(A);
    is_gone(&mut cluster, &id)
}

/// a and b hear of so many writers, whose children are gone.
fn hear_of(cluster: &mut Cluster, writers: u64) {
    for (to, from) in [(A, B), (B, A)] {
        let instance = cluster.instance(from).expect("it is up");
        let sender = Identity { addr: cluster.addr(from), bump: 0, instance };
        for writer in 1..=writers {
            let (key, dot) = (ChildKey::new(child("gone")), Dot { writer: InstanceId::new(writer), n: 1 });
            let del = ScopeMessage::Del { key, dot, birth: 1, direct: false };
            let mut packet = Vec::new();
            Codec::plaintext(&Config::default().cluster).begin(&mut packet, &[]);
            packet = postcard::to_extend(&sender, packet).expect("it can be encoded");
            for message in [Message::Scope(cluster.scope()), Message::Scoped(del)] {
                packet = postcard::to_extend(&message, packet).expect("it can be encoded");
            }
            seal_plaintext(&mut packet, 0);
            cluster.inject(from, to, &packet);
        }
    }
    cluster.converge(REST);
}

/// Goal: what a dead writer has written stays seen, or its deleted children come back from whoever was away.
/// Method: c is cut off while b terminates a child of a, and a dies. Then c comes back.
#[test]
fn what_was_seen_of_a_dead_writer_is_not_forgotten() {
    needs(Rule::NeverPrune, |sabotage| {
        let mut cluster = cluster(sabotage, &["a", "b", "c"]);
        run_child(&mut cluster, A, spec("child", ""));
        cluster.converge(REST);
        cluster.split(&[C]);
        let terminate = cluster.terminate(B, "child");
        accepted(&mut cluster, terminate);
        cluster.expect(SOON, "a hears of it", |cluster| !lists(cluster, A, "child"));
        cluster.crash(A);
        cluster.expect(REST, "b is alone", |cluster| cluster.members(B).len() == 1);
        cluster.heal();
        is_gone(&mut cluster, "child")
    });
}
