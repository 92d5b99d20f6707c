//! Several nodes in one process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Index;
use std::time::Duration;

use haulout::{ChildInfo, ChildSpec, ChildState, Config, Event, Node, ScopeBuilder, Supervisor, Which};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{Act, Journal, Worker, config, free_addr, require, show_logs, soon, until};

pub(crate) const SCOPE: &str = "tests";

/// One node of a cluster, in the scope.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) node: Node,
    pub(crate) supervisor: Supervisor,
}

impl Member {
    pub(crate) async fn start(config: Config, scope: impl FnOnce(ScopeBuilder) -> ScopeBuilder) -> Member {
        let node = Node::builder(config).start().await.expect("a node starts");
        let supervisor = scope(node.scope(SCOPE)).join().await.expect("the scope is joined");
        Member { node, supervisor }
    }

    pub(crate) fn name(&self) -> &str {
        self.node.name()
    }

    /// The children as this node lists them, by id.
    pub(crate) async fn list(&self) -> BTreeMap<String, ChildInfo> {
        let children = self.supervisor.which_children(Which::Global).await.expect("the node is there");
        children.into_iter().map(|child| (child.id.to_string(), child)).collect()
    }

    pub(crate) async fn start_running(&self, spec: ChildSpec) {
        self.supervisor.start_child(spec).running(super::DEADLINE).await.expect("the child runs");
    }

    /// Waits until this node lists a child in a state.
    pub(crate) async fn lists(&self, id: &str, state: impl Fn(&ChildState) -> bool) -> ChildInfo {
        until(&format!("{} lists {id} in the state", self.name()), async || {
            let child = self.list().await.remove(id).ok_or("it is not listed")?;
            require(state(&child.state), || format!("it is {child:?}"))?;
            Ok(child)
        })
        .await
    }

    pub(crate) async fn lists_no(&self, id: &str) {
        until(&format!("{} forgets {id}", self.name()), async || {
            require(!self.list().await.contains_key(id), || "it is listed".into())
        })
        .await;
    }

    /// Waits until this node regards exactly these as members, all settled.
    pub(crate) async fn knows(&self, names: &[&str]) {
        let members = self.supervisor.members();
        until(&format!("{} knows {names:?}", self.name()), async || {
            let members = members.borrow().clone();
            let known: Vec<&str> = members.iter().map(|member| &*member.name).collect();
            require(known == names && members.iter().all(|member| member.settled), || format!("it knows {members:?}"))
        })
        .await;
    }
}

/// The next event that is wanted.
pub(crate) async fn event(events: &mut Receiver<Event>, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
    let search = async {
        loop {
            match events.recv().await {
                Ok(event) if wanted(&event) => return event,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => panic!("{what}: the node is gone"),
            }
        }
    };
    soon(what, search).await
}

/// Nodes with the same seeds, named `n0`, `n1` and so on, and the journal of their children.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) journal: Journal,
    pub(crate) config: Config,
    pub(crate) startup: Vec<ChildSpec>,
    pub(crate) members: Vec<Member>,
    addrs: Vec<SocketAddr>,
}

impl Cluster {
    /// No node yet; the first two are the seeds.
    pub(crate) fn empty() -> Cluster {
        show_logs();
        let addrs = vec![free_addr(), free_addr()];
        let config = Config { seeds: addrs.iter().map(SocketAddr::to_string).collect(), ..config() };
        Cluster { journal: Journal::new(), config, startup: Vec::new(), members: Vec::new(), addrs }
    }

    /// So many nodes that know each other.
    pub(crate) async fn of(count: usize) -> Cluster {
        let mut cluster = Cluster::empty();
        cluster.grow(count).await;
        cluster
    }

    /// Makes seeds of the first so many nodes.
    pub(crate) fn seed_all(&mut self, count: usize) {
        self.addrs.resize_with(count, free_addr);
        self.config.seeds = self.addrs.iter().map(SocketAddr::to_string).collect();
    }

    /// Starts so many more at once and waits until all know all.
    pub(crate) async fn grow(&mut self, count: usize) {
        let first = self.members.len();
        for number in first..first + count {
            let member = self.start(number).await;
            self.members.push(member);
        }
        self.know_each_other().await;
    }

    /// The configuration of the node with this number.
    pub(crate) fn config_of(&mut self, number: usize) -> Config {
        while self.addrs.len() <= number {
            self.addrs.push(free_addr());
        }
        Config { name: Some(format!("n{number}")), bind: self.addrs[number], ..self.config.clone() }
    }

    /// Starts the node with this number, without adding it.
    pub(crate) async fn start(&mut self, number: usize) -> Member {
        let config = self.config_of(number);
        let startup = self.startup.clone();
        Member::start(config, |scope| scope.kind::<Worker>().children(startup)).await
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.members.iter().map(Member::name).collect();
        names.sort_unstable();
        names
    }

    pub(crate) async fn know_each_other(&self) {
        let names = self.names();
        for member in &self.members {
            member.knows(&names).await;
        }
    }

    /// Starts children through all nodes in turn and waits until they run.
    pub(crate) async fn run_children(&self, ids: &[String], act: &Act) {
        for (id, member) in ids.iter().zip(self.members.iter().cycle()) {
            member.supervisor.start_child(self.journal.spec(id, act.clone())).await.expect("it is accepted");
        }
        self.quiet(ids).await;
    }

    /// Waits until exactly these children run, each once, and all nodes agree on where. Returns where.
    pub(crate) async fn quiet<S: AsRef<str>>(&self, ids: &[S]) -> BTreeMap<String, String> {
        let mut ids: Vec<&str> = ids.iter().map(AsRef::as_ref).collect();
        ids.sort_unstable();
        until("the cluster is quiet", async || self.look(&ids).await).await
    }

    async fn look(&self, ids: &[&str]) -> Result<BTreeMap<String, String>, String> {
        let first = self.members.first().ok_or("there is no node")?.list().await;
        require(first.keys().eq(ids), || format!("{:?} are listed", first.keys()))?;
        for child in first.values() {
            require(child.state == ChildState::Running, || format!("{child:?} does not run"))?;
        }
        for member in &self.members[1..] {
            let other = member.list().await;
            require(other == first, || format!("{} lists {other:?} and the first {first:?}", member.name()))?;
        }
        let listed: BTreeMap<String, Vec<String>> = first
            .iter()
            .map(|(id, child)| (id.clone(), child.node.iter().map(|node| node.to_string()).collect()))
            .collect();
        let running = self.journal.running();
        require(running == listed, || format!("{running:?} run and {listed:?} are listed"))?;
        for member in &self.members {
            let stats = member.node.stats().await.expect("the node is there");
            assert_eq!((stats.audit_repairs, stats.refused_serial), (0, 0), "{}: {stats:?}", member.name());
        }
        Ok(listed.into_iter().filter_map(|(id, mut nodes)| Some((id, nodes.pop()?))).collect())
    }

    /// The member with this name.
    pub(crate) fn named(&self, name: &str) -> &Member {
        self.members.iter().find(|member| member.name() == name).expect("a member of this name")
    }

    /// Takes a member out of the list; the caller decides how it goes.
    pub(crate) fn take(&mut self, name: &str) -> Member {
        let place = self.members.iter().position(|member| member.name() == name).expect("a member of this name");
        self.members.remove(place)
    }

    /// Every node leaves, one after the other.
    pub(crate) async fn end(&mut self) {
        for member in self.members.drain(..) {
            soon("a node leaves", member.node.leave()).await.expect("it leaves cleanly");
        }
        assert!(self.journal.running().is_empty(), "children outlive their nodes: {:?}", self.journal.running());
    }
}

impl Index<usize> for Cluster {
    type Output = Member;

    fn index(&self, place: usize) -> &Member {
        &self.members[place]
    }
}

/// So many ids.
pub(crate) fn ids(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("child-{number}")).collect()
}

/// Nanoseconds, for what is read from journals.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("no test takes centuries")
}
