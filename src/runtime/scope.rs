//! Joining a scope: what this node can run there and how much of it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{broadcast, watch};

use super::context::{BoxError, Child, ChildContext};
use super::kinds::{self, Runner};
use super::node::{Node, unexpected};
use super::supervisor::{EVENTS_KEPT, Supervisor};
use crate::child::{ChildSpec, Kind};
use crate::error::JoinScopeError;
use crate::info::{Event, MemberInfo};
use crate::proto::{Reply, ScopeSetup};

/// How a node is to take part in a scope; made by [`Node::scope`], ended by [`join`](Self::join).
#[must_use = "nothing happens until it is joined"]
pub struct ScopeBuilder {
    node: Node,
    setup: ScopeSetup,
    runners: BTreeMap<Kind, Runner>,
    error: Option<JoinScopeError>,
}

/// What the protocol loop needs to serve a scope.
pub(super) struct ScopeParts {
    pub(super) name: Arc<str>,
    pub(super) runners: BTreeMap<Kind, Runner>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) members: watch::Sender<Vec<MemberInfo>>,
}

impl ScopeBuilder {
    pub(super) fn new(node: Node, name: String) -> Self {
        let setup = ScopeSetup {
            name,
            kinds: Vec::new(),
            weight: 100,
            labels: Vec::new(),
            version: String::new(),
            children: Vec::new(),
        };
        ScopeBuilder { node, setup, runners: BTreeMap::new(), error: None }
    }

    /// Registers a typed kind: this node can run children of type `C`.
    pub fn kind<C: Child>(self) -> Self {
        self.register(C::KIND, kinds::typed::<C>())
    }

    /// Registers a kind by a closure, which gets the child's arguments as bytes. The child runs from its first poll;
    /// it has no `init`.
    ///
    /// # Example
    /// ```no_run
    /// # async fn example(node: haulout::Node) -> Result<(), haulout::JoinScopeError> {
    /// let supervisor = node
    ///     .scope("mail")
    ///     .kind_fn("mailer", |ctx, args| async move {
    ///         println!("{} mails {} bytes", ctx.id(), args.len());
    ///         ctx.stopping().await;
    ///         Ok(())
    ///     })
    ///     .join()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn kind_fn<F, Fut>(self, kind: impl AsRef<str>, run: F) -> Self
    where
        F: Fn(ChildContext, Bytes) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.register(kind.as_ref(), kinds::closure(run))
    }

    fn register(mut self, kind: &str, runner: Runner) -> Self {
        match Kind::new(kind) {
            Err(error) => self.fail(error.into()),
            Ok(kind) if self.runners.contains_key(&kind) => {
                self.fail(JoinScopeError::DuplicateKind(kind.as_str().into()))
            }
            Ok(kind) => {
                self.setup.kinds.push(kind.clone());
                self.runners.insert(kind, runner);
            }
        }
        self
    }

    /// Keeps the first error for [`join`](Self::join), so that the calls can be chained.
    fn fail(&mut self, error: JoinScopeError) {
        self.error.get_or_insert(error);
    }

    /// Adds children that are started when the scope has settled. Every node may list the same ones: they run once.
    /// They stay terminated when a user terminated them, until the whole cluster starts anew.
    pub fn children(mut self, children: impl IntoIterator<Item = ChildSpec>) -> Self {
        self.setup.children.extend(children);
        self
    }

    /// Sets this node's share of children relative to the weights of others, 1 to 65,535 (0 counts as
    /// 1). Default: 100.
    pub fn weight(mut self, weight: u16) -> Self {
        self.setup.weight = weight.max(1);
        self
    }

    /// Adds a label for the operator and for children that ask for it
    /// ([`ChildSpec::node_selector`](crate::ChildSpec::node_selector)), at most 16.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.setup.labels.push((key.into(), value.into()));
        self
    }

    /// Sets the version of the service, for listings. Default: none.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.setup.version = version.into();
        self
    }

    /// Joins the scope. It resolves when this node takes part, which is before it has settled; calls wait for that.
    ///
    /// A node joins a scope for the rest of its life. Do not drop the future half-way: the scope may then be joined
    /// without a supervisor.
    ///
    /// # Errors
    /// [`JoinScopeError`]; nothing was changed.
    pub async fn join(self) -> Result<Supervisor, JoinScopeError> {
        let ScopeBuilder { node, setup, runners, error } = self;
        if let Some(error) = error {
            return Err(error);
        }
        let name = setup.name.clone();
        let (events, first_events) = broadcast::channel(EVENTS_KEPT);
        let (members, members_seen) = watch::channel(Vec::new());
        let source = events.downgrade();
        let parts = ScopeParts { name: name.as_str().into(), runners, events, members };
        match node.join(setup, parts).await? {
            Reply::Joined(result) => Ok(Supervisor::new(node, result?, name, first_events, source, members_seen)),
            other => Err(unexpected(other).into()),
        }
    }
}

impl fmt::Debug for ScopeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopeBuilder").field("setup", &self.setup).finish_non_exhaustive()
    }
}
