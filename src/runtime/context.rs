//! What a user's child is: the [`Child`] trait and what a running child is told.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tracing::{Span, error_span};

use super::orders::{Order, Orders};
use super::polls::Polls;
use crate::child::{ChildId, ChildSpec};
use crate::error::SpecError;
use crate::proto::{ChildEvent, Epoch, RunId, StartChild};

/// Any error that a child may end with; its text is shown in listings and events, shortened to 256 bytes.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A long-running task that haulout keeps running on exactly one node of a scope.
///
/// The value is the child's arguments: it is serialized into a [`ChildSpec`], sent to the node that is to run it, and
/// deserialized there. So it holds what identifies the work, not connections or handles; those are made in
/// [`init`](Self::init) (in fields marked `#[serde(skip)]`) or in [`run`](Self::run).
///
/// Arguments that do not deserialize on a node (an older version of the service, say) are declined by it, and the
/// child is given to the next node.
///
/// # Example
/// ```
/// use haulout::{BoxError, Child, ChildContext};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Greeter {
///     name: String,
/// }
///
/// impl Child for Greeter {
///     const KIND: &'static str = "greeter";
///
///     async fn run(self, ctx: ChildContext) -> Result<(), BoxError> {
///         println!("hello {}, from {}", self.name, ctx.node());
///         ctx.stopping().await;
///         Ok(())
///     }
/// }
/// ```
pub trait Child: Serialize + DeserializeOwned + Send + 'static {
    /// The name under which nodes register how to run this child: 1 to 255 bytes, the same on every node and in
    /// every version of the service.
    const KIND: &'static str;

    /// Prepares the child. It is *starting* until this returns, and *running* from then on.
    ///
    /// An error, a panic or more time than `start_timeout` is a failed start: visible in listings, retried with
    /// backoff, without an effect on any other child. Default: nothing to prepare.
    fn init(&mut self, ctx: &ChildContext) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = ctx;
        async { Ok(()) }
    }

    /// Does the work until it is done or [`ChildContext::stopping`] resolves.
    ///
    /// Whether it is started again after `Ok`, an error or a panic is decided by its [`Restart`](crate::Restart)
    /// policy. It runs on the tokio runtime on which the node was started. A child that blocks its thread holds up
    /// that thread, never the supervisor.
    fn run(self, ctx: ChildContext) -> impl Future<Output = Result<(), BoxError>> + Send;
}

impl ChildSpec {
    /// A spec for a child of a typed kind: its kind is `C::KIND`, its arguments are `child` in postcard.
    ///
    /// # Errors
    /// [`SpecError`] if id or kind are empty or longer than 255 bytes, or the arguments do not serialize or take more
    /// than 64 kB.
    pub fn new<I, C>(id: I, child: &C) -> Result<Self, SpecError>
    where
        I: TryInto<ChildId>,
        SpecError: From<I::Error>,
        C: Child,
    {
        let args = postcard::to_stdvec(child).map_err(|error| SpecError::Serialize(error.to_string()))?;
        ChildSpec::raw(id, C::KIND, Bytes::from(args))
    }
}

/// What a running child knows about itself. Cheap to clone.
#[derive(Clone)]
pub struct ChildContext {
    inner: Arc<Inner>,
}

/// One per run; what many runs have in common is shared.
struct Inner {
    id: ChildId,
    epoch: Epoch,
    run: RunId,
    orders: Orders,
    home: Arc<Home>,
    /// What the child logs is in it. `None` where nobody listens, which then costs no more than this pointer.
    span: Option<Box<Span>>,
}

/// The scope on a node in which children run.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) scope: Arc<str>,
    pub(super) desk: Arc<Desk>,
}

/// Where the runs of a node report.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) node: Arc<str>,
    pub(super) reports: mpsc::UnboundedSender<(RunId, ChildEvent)>,
    /// How long an `init` may take.
    pub(super) start_timeout: Duration,
    /// Who is polled where.
    pub(super) polls: Arc<Polls>,
}

impl ChildContext {
    pub(super) fn new(start: &StartChild, home: Arc<Home>) -> Self {
        let (id, epoch, run) = (start.id.clone(), start.epoch, start.run);
        // Of the severest level, so that whatever a filter lets through of what the child logs has it around.
        let span = error_span!(target: "haulout::child", "child", scope = &*home.scope, child = %id, epoch = %epoch);
        let span = (!span.is_disabled()).then(|| Box::new(span));
        ChildContext { inner: Arc::new(Inner { id, epoch, run, orders: Orders::new(), home, span }) }
    }

    /// Polls the child on this thread, which is watched meanwhile, within its span.
    pub(super) fn polled<T>(&self, poll: impl FnOnce() -> T) -> T {
        let _entered = self.inner.span.as_ref().map(|span| span.enter());
        self.inner.home.desk.polls.during(self.inner.run, poll)
    }

    /// The child's id.
    pub fn id(&self) -> &ChildId {
        &self.inner.id
    }

    /// The number of this run, higher than that of every earlier run that this node had heard of. It begins anew
    /// when the whole cluster starts anew, so it is no fencing token across that.
    pub fn epoch(&self) -> Epoch {
        self.inner.epoch
    }

    /// The name of the node that runs it.
    pub fn node(&self) -> &str {
        &self.inner.home.desk.node
    }

    /// The name of its scope.
    pub fn scope(&self) -> &str {
        &self.inner.home.scope
    }

    /// Resolves when the child is to end; at once if it was told so before.
    ///
    /// From then on it has as long as its [`Shutdown`](crate::Shutdown) policy says before its future is dropped.
    /// Safe to use in `select!` and from any number of tasks.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send {
        self.inner.orders.stopping()
    }

    /// Whether the child is to end.
    pub fn is_stopping(&self) -> bool {
        self.order() != Order::Run
    }

    pub(super) fn order(&self) -> Order {
        self.inner.orders.get()
    }

    pub(super) fn give(&self, order: Order) {
        self.inner.orders.give(order);
    }

    pub(super) fn start_timeout(&self) -> Duration {
        self.inner.home.desk.start_timeout
    }

    /// Reports what happened to this run. Fails only if the node has gone, which nobody needs to hear then.
    pub(super) fn report(&self, event: ChildEvent) {
        let _ = self.inner.home.desk.reports.send((self.inner.run, event));
    }

    /// Reports that `init` is done; `false` if the child was told to stop meanwhile and is not to run.
    pub(super) fn report_started(&self) -> bool {
        let is_wanted = !self.is_stopping();
        if is_wanted {
            self.report(ChildEvent::Started);
        }
        is_wanted
    }
}

impl fmt::Debug for ChildContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildContext")
            .field("id", &self.inner.id)
            .field("epoch", &self.inner.epoch)
            .field("scope", &self.scope())
            .field("node", &self.node())
            .field("order", &self.order())
            .finish()
    }
}
