//! The handle of a node: start, leave, and the way every call takes to the protocol loop.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::launch;
use super::scope::{ScopeBuilder, ScopeParts};
use super::state::View;
use crate::config::Config;
use crate::error::{LeaveError, SetKeyringError, StartNodeError, Unavailable};
use crate::key::Key;
use crate::proto::{self, Command, InstanceId, Reply, RequestId, Sabotage, ScopeSetup, Stats};

/// A node of a cluster in this process: one UDP socket and one TCP listener on one port, and a thread of its own for
/// the protocol. Cheap to clone.
///
/// When the last handle is dropped (this one, its clones and every [`Supervisor`](crate::Supervisor) of it), the node
/// leaves in the background as [`leave`](Self::leave) does: it hands its children over for up to `leave_timeout`, stops
/// the rest, and goes. When the tokio runtime on which it was started is shut down, its children are dropped with it,
/// so the node leaves at once. To be sure that it has left before the process ends, await [`leave`](Self::leave).
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    about: About,
    leave_timeout: Duration,
    next_request: AtomicU64,
    view: View,
    calls: mpsc::UnboundedSender<Call>,
}

/// What is fixed for the life of a node.
pub(super) struct About {
    pub(super) name: String,
    pub(super) addr: SocketAddr,
    pub(super) instance: InstanceId,
}

/// What handles ask of the protocol loop.
pub(super) enum Call {
    /// A command, and where its answer goes. At its timeout a wait is cancelled.
    Command { request: RequestId, command: Command, timeout: Option<Duration>, reply: oneshot::Sender<Reply> },
    /// Joins a scope.
    Join { request: RequestId, setup: ScopeSetup, parts: ScopeParts, reply: oneshot::Sender<Reply> },
    /// Nobody waits for the answer any more.
    Cancel(RequestId),
    /// Reads what [`View::peek`] could not, because the loop was at work.
    Read(Box<dyn FnOnce(&proto::Node) + Send>),
    /// The figures.
    Stats(oneshot::Sender<Stats>),
}

/// Makes a [`Node`]; from [`Node::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing happens until it is started"]
pub struct NodeBuilder {
    config: Config,
    sabotage: Sabotage,
}

impl NodeBuilder {
    /// Takes rules out, to show that a test notices. Only with the feature `simulation`.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub fn sabotage(mut self, sabotage: Sabotage) -> Self {
        self.sabotage = sabotage;
        self
    }

    /// Opens the sockets and starts the node. It resolves when the node listens; it finds the others in the
    /// background. Children will run on the tokio runtime on which this is called.
    ///
    /// # Errors
    /// [`StartNodeError`], which says what to change; nothing is left behind.
    pub async fn start(self) -> Result<Node, StartNodeError> {
        let leave_timeout = self.config.leave_timeout;
        let (about, view, calls) = launch::node(self.config, self.sabotage).await?;
        Ok(Node { inner: Arc::new(Inner { about, leave_timeout, next_request: AtomicU64::new(0), view, calls }) })
    }
}

impl Node {
    /// Begins to make a node with this configuration.
    pub fn builder(config: Config) -> NodeBuilder {
        NodeBuilder { config, sabotage: Sabotage::default() }
    }

    /// The stable name of the node, by which children are placed.
    pub fn name(&self) -> &str {
        &self.inner.about.name
    }

    /// The advertised address.
    pub fn addr(&self) -> SocketAddr {
        self.inner.about.addr
    }

    /// This life of the node.
    pub fn instance(&self) -> InstanceId {
        self.inner.about.instance
    }

    /// What the node has counted since it started, and how it stands. Costs a walk over the members, so ask once a
    /// second, not for each request.
    ///
    /// # Errors
    /// [`Unavailable::NodeGone`] if it has left.
    pub async fn stats(&self) -> Result<Stats, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.send(Call::Stats(reply))?;
        answer.await.map_err(|_| Unavailable::NodeGone)
    }

    /// Replaces the keyring: the first key seals from now on, and each opens. The configuration of the node, and what it would
    /// read at its next start, is not touched.
    ///
    /// To change the key of a cluster without downtime, go through it three times, on every node and, for the next start, in
    /// its configuration:
    ///
    /// 1. add the new key behind the old one: every node can now read both;
    /// 2. put the new key first: every node seals with it;
    /// 3. remove the old key: nobody who has only that one is heard any more.
    ///
    /// Each step has to be through everywhere before the next begins. Between two steps nodes that have taken one and nodes
    /// that have not hear each other, also across a partition that heals later.
    ///
    /// # Errors
    /// [`SetKeyringError`]; the old ring stays.
    ///
    /// # Example
    /// ```no_run
    /// # async fn rotate(node: &haulout::Node, old: haulout::Key, new: haulout::Key) -> Result<(), haulout::SetKeyringError> {
    /// node.set_keyring(vec![old.clone(), new.clone()]).await?;   // on every node
    /// node.set_keyring(vec![new.clone(), old]).await?;           // then again on every node
    /// node.set_keyring(vec![new]).await                          // and once more
    /// # }
    /// ```
    pub async fn set_keyring(&self, keys: Vec<Key>) -> Result<(), SetKeyringError> {
        match self.call(Command::SetKeyring { keys }, None).await? {
            Reply::KeyringSet(result) => result,
            other => Err(unexpected(other).into()),
        }
    }

    /// Begins to join a scope: supervisors cooperate within one scope only.
    pub fn scope(&self, name: impl Into<String>) -> ScopeBuilder {
        ScopeBuilder::new(self.clone(), name.into())
    }

    /// Leaves the cluster: hands every child over, then goes. It resolves when the sockets are closed.
    ///
    /// Children that nobody takes over within the configured `leave_timeout` are stopped by their shutdown policies.
    /// Every call after it fails with [`Unavailable::NodeGone`].
    ///
    /// # Errors
    /// [`LeaveError::StillRunning`] if children did not end although they were aborted; the node is then still there,
    /// draining.
    pub async fn leave(&self) -> Result<(), LeaveError> {
        match self.call(Command::Leave { timeout: self.inner.leave_timeout }, None).await? {
            Reply::Left(result) => result,
            other => Err(unexpected(other).into()),
        }
    }

    /// Sends a command to the protocol loop and waits for its answer, telling the loop if this future is dropped.
    pub(super) async fn call(&self, command: Command, timeout: Option<Duration>) -> Result<Reply, Unavailable> {
        self.ask(|request, reply| Call::Command { request, command, timeout, reply }).await
    }

    pub(super) async fn join(&self, setup: ScopeSetup, parts: ScopeParts) -> Result<Reply, Unavailable> {
        self.ask(|request, reply| Call::Join { request, setup, parts, reply }).await
    }

    async fn ask(&self, call: impl FnOnce(RequestId, oneshot::Sender<Reply>) -> Call) -> Result<Reply, Unavailable> {
        let request = RequestId(self.inner.next_request.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        self.send(call(request, reply))?;
        let mut waiting = Waiting { node: self, request, answered: false };
        let reply = answer.await;
        waiting.answered = true;
        match reply {
            Ok(Reply::Unavailable(why)) => Err(why),
            Ok(reply) => Ok(reply),
            Err(_) => Err(Unavailable::NodeGone),
        }
    }

    /// Reads the state machine at once; `None` if the loop is at work just now or gone.
    pub(super) fn peek<T>(&self, read: impl FnOnce(&proto::Node) -> T) -> Option<T> {
        self.inner.view.peek(read)
    }

    /// Has the protocol loop read the state machine.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&proto::Node) -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (reply, answer) = oneshot::channel();
        // Fails only if the caller has gone.
        self.send(Call::Read(Box::new(move |node| drop(reply.send(read(node))))))?;
        answer.await.map_err(|_| Unavailable::NodeGone)
    }

    fn send(&self, call: Call) -> Result<(), Unavailable> {
        self.inner.calls.send(call).map_err(|_| Unavailable::NodeGone)
    }
}

/// A call that waits for its answer; dropped before that, it is cancelled.
struct Waiting<'a> {
    node: &'a Node,
    request: RequestId,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // Fails only if the node is gone, and the call with it.
            let _ = self.node.send(Call::Cancel(self.request));
        }
    }
}

/// An answer of the wrong type: a bug, which must not become a panic in the user's process.
pub(super) fn unexpected(reply: Reply) -> Unavailable {
    debug_assert!(false, "unexpected reply {reply:?}");
    tracing::error!(?reply, "bug: a call was answered with another call's reply");
    Unavailable::NodeGone
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name()).field("addr", &self.addr()).finish_non_exhaustive()
    }
}
