//! What the scripts have in common: playing one with and without a rule, looking into packets, judging.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use haulout::proto::packet::Codec;
use haulout::proto::wire::{Message, ScopeMessage};
use haulout::proto::{Reply, Rule, Sabotage, placement};
use haulout::{ChildId, ChildInfo, ChildSpec, Config};
use haulout_sim::journal::Run;
use haulout_sim::{Cluster, NodeIdx, Options, Packet, Plan, Range, Request};

/// What a script ends with: whether the promise held, and if not, what was seen instead.
pub(crate) type Promise = Result<(), String>;

/// The first three nodes of a cluster; they are named a, b and c.
pub(crate) const A: NodeIdx = NodeIdx(0);
pub(crate) const B: NodeIdx = NodeIdx(1);
pub(crate) const C: NodeIdx = NodeIdx(2);

/// Long enough for a cluster to come to rest whatever has happened to it.
pub(crate) const REST: Duration = Duration::from_secs(90);
/// Long enough for anything that is acted on at once.
pub(crate) const SOON: Duration = Duration::from_secs(1);

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Asserts that the promise holds with every rule in place, and breaks without this one.
#[track_caller]
pub(crate) fn needs(rule: Rule, script: impl Fn(Sabotage) -> Promise) {
    script(Sabotage::default()).unwrap_or_else(|seen| panic!("with every rule in place: {seen}"));
    match script(Sabotage::without(rule)) {
        Err(seen) => println!("without {rule:?}: {seen}"),
        Ok(()) => panic!("the promise holds without {rule:?} too: the rule does nothing here"),
    }
}

/// Asserts that each of two rules keeps the promise alone, and that it breaks without both.
#[track_caller]
pub(crate) fn needs_one_of(one: Rule, other: Rule, script: impl Fn(Sabotage) -> Promise) {
    for sabotage in [Sabotage::default(), Sabotage::without(one), Sabotage::without(other)] {
        script(sabotage).unwrap_or_else(|seen| panic!("without {sabotage:?}: {seen}"));
    }
    match script(Sabotage::without(one).and(other)) {
        Err(seen) => println!("without {one:?} and {other:?}: {seen}"),
        Ok(()) => panic!("the promise holds without {one:?} and {other:?} too: they do nothing here"),
    }
}

/// A cluster of these nodes, at rest.
#[track_caller]
pub(crate) fn cluster(sabotage: Sabotage, names: &[&str]) -> Cluster {
    cluster_with(Options { sabotage, ..Options::default() }, names)
}

#[track_caller]
pub(crate) fn cluster_with(options: Options, names: &[&str]) -> Cluster {
    let mut cluster = Cluster::new(options);
    for name in names {
        cluster.add_node(name);
    }
    cluster.converge(REST);
    cluster
}

pub(crate) fn spec(id: &str, args: &'static str) -> ChildSpec {
    ChildSpec::raw(id, "kind", args.as_bytes()).expect("a spec")
}

/// A run that takes so long to stop.
pub(crate) fn stopping_in(delay: Duration) -> Plan {
    Plan { stop_delay: Range::fixed(delay), ..Plan::default() }
}

/// An id that belongs to `owners[i]` as long as only the first `sizes[i]` of the nodes are there.
#[track_caller]
pub(crate) fn id_owned(names: &[&str], owners: &[(usize, &str)]) -> String {
    let candidates: Vec<_> = names.iter().map(|name| (placement::Candidate::new(*name, 100), *name)).collect();
    let owner = |id: &str, size: usize| {
        let some = candidates[..size].iter().map(|(candidate, name)| (candidate, *name));
        placement::owner(placement::hash_key(id.as_bytes()), some)
    };
    let mut ids = (0..10_000).map(|number| format!("child-{number}"));
    ids.find(|id| owners.iter().all(|&(size, name)| owner(id, size) == Some(name))).expect("an id with these owners")
}

/// Makes a call that must succeed.
#[track_caller]
pub(crate) fn accepted(cluster: &mut Cluster, request: Request) {
    match cluster.wait(request) {
        Reply::Started(Ok(true)) | Reply::Updated(Ok(true)) | Reply::Terminated(Ok(())) => {}
        other => panic!("refused: {other:?}"),
    }
}

/// Starts a child and runs until it runs somewhere.
#[track_caller]
pub(crate) fn run_child(cluster: &mut Cluster, node: NodeIdx, spec: ChildSpec) {
    let id = spec.id().clone();
    let start = cluster.start(node, spec);
    accepted(cluster, start);
    cluster.expect(secs(10), "the child runs", |cluster| cluster.journal().of(&id).any(Run::is_running));
}

pub(crate) fn child(id: &str) -> ChildId {
    ChildId::new(id).expect("an id")
}

/// Every run of a child so far.
pub(crate) fn runs(cluster: &Cluster, id: &str) -> Vec<Run> {
    cluster.journal().of(&child(id)).cloned().collect()
}

/// Whether a node runs a child now.
pub(crate) fn runs_on(cluster: &Cluster, id: &str, node: NodeIdx) -> bool {
    cluster.journal().of(&child(id)).any(|run| run.node == node && run.is_running())
}

/// Whether a node lists a child, if it answers at once.
pub(crate) fn lists(cluster: &mut Cluster, node: NodeIdx, id: &str) -> bool {
    let id = child(id);
    cluster.listing(node).is_some_and(|children| children.iter().any(|child| child.id == id))
}

/// The listing on which all nodes agree for good: what looks like rest may have a packet on its way.
fn at_rest(cluster: &mut Cluster) -> Result<Vec<ChildInfo>, String> {
    cluster.run_for(SOON);
    cluster.try_converge(REST)?;
    cluster.run_for(secs(10));
    cluster.try_converge(REST)
}

/// Promise 1: a desired child runs exactly once, with these arguments, and every node lists it.
pub(crate) fn runs_once(cluster: &mut Cluster, id: &str, args: &str) -> Promise {
    let children = at_rest(cluster)?;
    if !children.iter().any(|info| info.id == child(id)) {
        return Err(format!("{id} was started, and nobody lists it"));
    }
    let alive: Vec<_> = runs(cluster, id).into_iter().filter(Run::is_alive).collect();
    match &alive[..] {
        [run] if run.spec.args == args.as_bytes() => Ok(()),
        runs => Err(format!("{id} with {args} does not run once: {runs:?}")),
    }
}

/// Promise 2: a terminated child runs nowhere, and nobody lists it.
pub(crate) fn is_gone(cluster: &mut Cluster, id: &str) -> Promise {
    let children = at_rest(cluster)?;
    let alive = runs(cluster, id).iter().any(Run::is_alive);
    let listed = children.iter().any(|info| info.id == child(id));
    if alive || listed { Err(format!("{id} was terminated; alive: {alive}, listed: {listed}")) } else { Ok(()) }
}

/// Promise 3: no child was ever on two nodes.
pub(crate) fn no_overlap(cluster: &Cluster) -> Promise {
    match cluster.journal().overlaps().first() {
        Some(overlap) => Err(format!("{overlap:?}")),
        None => Ok(()),
    }
}

/// What a packet says.
pub(crate) fn messages(packet: Packet<'_>) -> Vec<Message> {
    let (codec, mut opened) = (Codec::plaintext(&Config::default().cluster), Vec::new());
    let mut rest = codec.peek(packet.bytes, &mut opened).map_or(&[][..], |opened| opened.messages);
    let mut messages = Vec::new();
    while let Ok((message, after)) = postcard::take_from_bytes(rest) {
        messages.push(message);
        rest = after;
    }
    messages
}

/// Whether a packet says such a thing about a scope.
pub(crate) fn says(packet: Packet<'_>, what: impl Fn(&ScopeMessage) -> bool) -> bool {
    messages(packet).iter().any(|message| matches!(message, Message::Scoped(scoped) if what(scoped)))
}

/// The SWIM part of a datagram.
pub(crate) fn swim(packet: Packet<'_>) -> Vec<u8> {
    let (codec, mut opened) = (Codec::plaintext(&Config::default().cluster), Vec::new());
    let swim = codec.peek(packet.bytes, &mut opened).map_or(&[][..], |opened| opened.swim);
    if packet.is_stream { Vec::new() } else { swim.to_vec() }
}

/// Whether a message brings a record of a child, in whatever way.
pub(crate) fn brings(message: &ScopeMessage, id: &str) -> bool {
    match message {
        ScopeMessage::Put(key, _) | ScopeMessage::PutDirect(key, _) => *key.id() == child(id),
        ScopeMessage::Ask(ask) => *ask.key.id() == child(id),
        _ => false,
    }
}

/// Whether a message removes a child.
pub(crate) fn removes(message: &ScopeMessage, id: &str) -> bool {
    matches!(message, ScopeMessage::Del { key, .. } if *key.id() == child(id))
}

/// Whether a message says what its sender does with a child.
pub(crate) fn claims(message: &ScopeMessage, id: &str) -> bool {
    match message {
        ScopeMessage::PutOwned(key, _) | ScopeMessage::DelOwned(key, _) => {
            key.child().is_some_and(|key| *key.id() == child(id))
        }
        _ => false,
    }
}

/// Whether a message asks to start a child.
pub(crate) fn asks(message: &ScopeMessage, id: &str) -> bool {
    matches!(message, ScopeMessage::Ask(ask) if *ask.key.id() == child(id))
}

/// Whether a message answers that.
pub(crate) fn answers(message: &ScopeMessage, id: &str) -> bool {
    matches!(message, ScopeMessage::Answer(answer) if *answer.key.id() == child(id))
}

/// Something that a script switches while a hook looks at it.
#[derive(Clone, Default)]
pub(crate) struct Switch(Rc<Cell<bool>>);

impl Switch {
    pub(crate) fn on() -> Self {
        let switch = Switch::default();
        switch.set(true);
        switch
    }

    pub(crate) fn set(&self, on: bool) {
        self.0.set(on);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.get()
    }
}

/// The first packet that a hook kept, to be delivered when the script wants it.
#[derive(Clone, Default)]
pub(crate) struct Kept(Rc<RefCell<Option<Vec<u8>>>>);

impl Kept {
    pub(crate) fn keep(&self, packet: Packet<'_>) {
        self.0.borrow_mut().get_or_insert_with(|| packet.bytes.to_vec());
    }

    pub(crate) fn is_there(&self) -> bool {
        self.0.borrow().is_some()
    }

    #[track_caller]
    pub(crate) fn deliver(&self, cluster: &mut Cluster, from: NodeIdx, to: NodeIdx) {
        let bytes = self.0.borrow().clone().expect("the packet was sent");
        cluster.inject(from, to, &bytes);
    }
}
