//! What a user's child is: the [`Child`] trait and what a running child is told.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::child::{ChildId, ChildSpec};
use crate::error::SpecError;
use crate::proto::Epoch;

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

struct Inner {
    id: ChildId,
    epoch: Epoch,
    node: Arc<str>,
    scope: Arc<str>,
    order: AtomicU8,
    ordered: Notify,
}

/// What the supervisor wants of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// To go on.
    Run = 0,
    /// To end by itself.
    Stop = 1,
    /// Aborted after it was told to stop, or instead.
    Abort = 2,
    /// Aborted because its `init` took too long.
    GiveUp = 3,
}

impl ChildContext {
    pub(super) fn new(id: ChildId, epoch: Epoch, node: Arc<str>, scope: Arc<str>) -> Self {
        let inner = Inner { id, epoch, node, scope, order: AtomicU8::new(Order::Run as u8), ordered: Notify::new() };
        ChildContext { inner: Arc::new(inner) }
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
        &self.inner.node
    }

    /// The name of its scope.
    pub fn scope(&self) -> &str {
        &self.inner.scope
    }

    /// Resolves when the child is to end; at once if it was told so before.
    ///
    /// From then on it has as long as its [`Shutdown`](crate::Shutdown) policy says before its future is dropped.
    /// Safe to use in `select!` and from any number of tasks.
    pub async fn stopping(&self) {
        let mut ordered = std::pin::pin!(self.inner.ordered.notified());
        // Registered before the look at the flag, so that no order falls between the two.
        ordered.as_mut().enable();
        if !self.is_stopping() {
            ordered.await;
        }
    }

    /// Whether the child is to end.
    pub fn is_stopping(&self) -> bool {
        self.order() != Order::Run
    }

    pub(super) fn order(&self) -> Order {
        match self.inner.order.load(Ordering::Acquire) {
            0 => Order::Run,
            1 => Order::Stop,
            2 => Order::Abort,
            _ => Order::GiveUp,
        }
    }

    /// Gives an order. It only ever gets stricter.
    pub(super) fn give(&self, order: Order) {
        self.inner.order.fetch_max(order as u8, Ordering::AcqRel);
        self.inner.ordered.notify_waiters();
    }
}

impl fmt::Debug for ChildContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildContext")
            .field("id", &self.inner.id)
            .field("epoch", &self.inner.epoch)
            .field("scope", &self.inner.scope)
            .field("node", &self.inner.node)
            .field("order", &self.order())
            .finish()
    }
}
