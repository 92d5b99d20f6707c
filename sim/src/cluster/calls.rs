//! The users of the cluster: they call a node and wait, in virtual time, for the answer.

use std::time::Duration;

use haulout::proto::{Command, Reply, RequestId, ScopeId, ScopeSetup};
use haulout::{ChildId, ChildInfo, ChildSpec, Kind, Location, Unavailable, Which};

use super::{Cluster, Input};
use crate::NodeIdx;
use crate::history::Call;

/// A call whose answer can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[must_use = "wait for the answer, or say that nobody does"]
pub struct Request(pub RequestId);

/// The request of every look; calls count from 0.
pub(super) const LOOK: RequestId = RequestId(u64::MAX);

/// How long a call may take before the simulation gives up; longer than any timeout of a node.
const PATIENCE: Duration = Duration::from_secs(300);

impl Cluster {
    /// Calls a node. A node that is down answers at once that it is gone.
    pub fn send(&mut self, node: NodeIdx, command: Command) -> Request {
        let request = RequestId(self.history.calls.len() as u64);
        let boot = self.slots[node.0].process.as_ref().map(|process| process.boot);
        self.history.calls.push(Call {
            request,
            node,
            instance: self.instance(node),
            command: command.clone(),
            called: self.now,
            answer: boot.is_none().then_some((self.now, Reply::Unavailable(Unavailable::NodeGone))),
            cancelled: false,
        });
        if let Some(boot) = boot {
            self.feed(node, boot, Input::Command(request, Box::new(command)));
        }
        Request(request)
    }

    /// The answer to a call, if it has come.
    pub fn reply(&self, request: Request) -> Option<&Reply> {
        self.call_of(request).answer.as_ref().map(|(_, reply)| reply)
    }

    /// A call with everything that is known about it.
    pub fn call_of(&self, request: Request) -> &Call {
        &self.history.calls[request.0.0 as usize]
    }

    /// Runs until a call is answered.
    ///
    /// # Panics
    /// If it is not answered within five minutes of virtual time.
    #[track_caller]
    pub fn wait(&mut self, request: Request) -> Reply {
        let what = format!("an answer to {:?}", self.call_of(request).command);
        self.expect(PATIENCE, &what, |cluster| cluster.reply(request).is_some());
        self.reply(request).expect("just seen").clone()
    }

    /// Calls a node and runs until it answers.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn call(&mut self, node: NodeIdx, command: Command) -> Reply {
        let request = self.send(node, command);
        self.wait(request)
    }

    /// The user stops waiting.
    pub fn cancel(&mut self, request: Request) {
        let call = &mut self.history.calls[request.0.0 as usize];
        call.cancelled = true;
        let node = call.node;
        if let Some(boot) = self.slots[node.0].process.as_ref().map(|process| process.boot) {
            self.feed(node, boot, Input::Cancel(request.0));
        }
    }

    /// Starts a child.
    pub fn start(&mut self, node: NodeIdx, spec: ChildSpec) -> Request {
        let scope = self.scope();
        self.send(node, Command::Start { scope, spec, replicated: 0 })
    }

    /// Replaces the spec of a child.
    pub fn update(&mut self, node: NodeIdx, spec: ChildSpec) -> Request {
        let scope = self.scope();
        self.send(node, Command::Update { scope, spec, replicated: 0 })
    }

    /// Terminates a child.
    ///
    /// # Panics
    /// If the id is not one.
    #[track_caller]
    pub fn terminate(&mut self, node: NodeIdx, id: &str) -> Request {
        let (scope, id) = (self.scope(), child_id(id));
        self.send(node, Command::Terminate { scope, id, replicated: 0 })
    }

    /// Lists children, running until the node answers.
    ///
    /// # Panics
    /// If it answers something else, or not at all.
    #[track_caller]
    pub fn which(&mut self, node: NodeIdx, which: Which) -> Vec<ChildInfo> {
        let scope = self.scope();
        match self.call(node, Command::WhichChildren { scope, which }) {
            Reply::Children(children) => children,
            other => panic!("{} answered which_children with {other:?}", self.name(node)),
        }
    }

    /// The listing of a node if it gives one at once: a node that has not settled makes its users wait. A look is no
    /// call of a user: it leaves nothing in the history and in the trace.
    pub fn listing(&mut self, node: NodeIdx) -> Option<Vec<ChildInfo>> {
        self.listing_in(node, self.scope())
    }

    /// As [`listing`](Self::listing), of any scope.
    pub fn listing_in(&mut self, node: NodeIdx, scope: ScopeId) -> Option<Vec<ChildInfo>> {
        let which = Which::Global;
        let boot = self.slots[node.0].process.as_ref()?.boot;
        self.feed(node, boot, Input::Command(LOOK, Box::new(Command::WhichChildren { scope, which })));
        match self.seen.take() {
            Some(Reply::Children(children)) => Some(children),
            Some(_) => None,
            None => {
                self.feed(node, boot, Input::Cancel(LOOK));
                None
            }
        }
    }

    /// Asks a node where a child runs, without waiting for the answer.
    ///
    /// # Panics
    /// If the id is not one.
    #[track_caller]
    pub fn ask_where(&mut self, node: NodeIdx, id: &str) -> Request {
        let (scope, id) = (self.scope(), child_id(id));
        self.send(node, Command::Whereis { scope, id })
    }

    /// Asks a node where a child runs.
    ///
    /// # Panics
    /// If it answers something else, or not at all.
    #[track_caller]
    pub fn whereis(&mut self, node: NodeIdx, id: &str) -> Option<Location> {
        let (scope, id) = (self.scope(), child_id(id));
        match self.call(node, Command::Whereis { scope, id }) {
            Reply::Whereis(location) => location,
            other => panic!("{} answered whereis with {other:?}", self.name(node)),
        }
    }

    /// Asks a node to say when a child runs.
    ///
    /// # Panics
    /// If the id is not one.
    #[track_caller]
    pub fn wait_until_running(&mut self, node: NodeIdx, id: &str) -> Request {
        let (scope, id) = (self.scope(), child_id(id));
        self.send(node, Command::WaitUntilRunning { scope, id })
    }

    /// Asks a node to leave with its configured timeout.
    pub fn leave(&mut self, node: NodeIdx) -> Request {
        let timeout = self.slots[node.0].options.config.leave_timeout;
        self.send(node, Command::Leave { timeout })
    }

    /// Joins a further scope.
    pub fn join_scope(&mut self, node: NodeIdx, name: &str, kinds: &[&str], children: Vec<ChildSpec>) -> Request {
        let kinds = kinds.iter().map(|kind| Kind::new(kind).expect("a kind")).collect();
        self.send(
            node,
            Command::JoinScope(ScopeSetup {
                name: name.into(),
                kinds,
                weight: 100,
                labels: Vec::new(),
                version: "1".into(),
                children,
            }),
        )
    }

    pub(super) fn answered(&mut self, node: NodeIdx, request: RequestId, reply: Reply) {
        let now = self.now;
        let name = self.slots[node.0].name.clone();
        let Some(call) = self.history.calls.get_mut(request.0 as usize) else {
            panic!("{name} answered {request:?}, which nobody asked");
        };
        assert!(call.node == node, "{name} answered {request:?}, which was asked elsewhere");
        assert!(call.answer.is_none(), "{name} answered {:?} twice: {:?}, {reply:?}", call.command, call.answer);
        call.answer = Some((now, reply));
    }
}

#[track_caller]
fn child_id(id: &str) -> ChildId {
    ChildId::new(id).expect("a child id")
}
