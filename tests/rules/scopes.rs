//! Scopes share nodes, packets and streams, and nothing else.

use haulout::proto::{Command, Rule, ScopeId};
use haulout_sim::{Cluster, Options};

use crate::support::*;

#[track_caller]
fn start_in(cluster: &mut Cluster, scope: ScopeId, id: &str, args: &'static str) {
    let start = cluster.send(A, Command::Start { scope, spec: spec(id, args), replicated: 0 });
    accepted(cluster, start);
}

/// Goal: what is said of one scope is not taken for another. Method: a child of one id is started in each of two scopes at
/// once, and what their node says first is lost: it repeats both questions, which bring the specs along, in one packet. The
/// one of the second scope, which has had a child before, looks newer.
#[test]
fn scopes_are_named() {
    needs(Rule::ScopesAreNamed, |sabotage| {
        let options = Options { sabotage, scopes: vec!["second".into()], ..Options::default() };
        let mut cluster = cluster_with(options, &["a", "b"]);
        let id = id_owned(&["a", "b"], &[(2, "a")]);
        let homes: Vec<_> = cluster.scopes().into_iter().zip(["mine", "theirs"]).collect();
        start_in(&mut cluster, homes[1].0, "earlier", "");
        cluster.try_converge(REST)?;
        cluster.drop_if(|packet| packet.from == A);
        homes.iter().for_each(|&(scope, args)| start_in(&mut cluster, scope, &id, args));
        cluster.run_for(millis(1));
        cluster.no_hook();
        cluster.try_converge(REST)?;
        let id = child(&id);
        let alive = cluster.journal().alive().filter(|run| run.id == id).map(|run| (run.scope, &run.spec.args[..]));
        let alive: Vec<_> = alive.collect();
        let expected: Vec<_> = homes.iter().map(|&(scope, args)| (scope, args.as_bytes())).collect();
        if alive == expected { Ok(()) } else { Err(format!("{alive:?} instead of {expected:?}")) }
    });
}
