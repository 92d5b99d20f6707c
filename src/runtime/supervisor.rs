//! The handle of a scope: start, terminate and list children, watch members and events.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use super::node::{Node, unexpected};
use crate::child::{ChildId, ChildSpec};
use crate::error::{SpecError, StartError, TerminateError, Unavailable, UpdateError, WaitError, WhereisError};
use crate::info::{ChildInfo, Event, Location, MemberInfo, Which};
use crate::proto::{Command, Page, Reply, ScopeId, ScopeStats};

/// How many events of a scope are kept for a receiver that is slow to read them.
pub(super) const EVENTS_KEPT: usize = 1_024;

/// How many children a handle looks at before it lets the protocol loop go on.
const PEEKED_MAX: usize = 512;

/// How many the loop itself looks at before it goes on with its other work. More, because each time is a trip there.
const READ_MAX: usize = 4_096;

/// A handle to one scope of a node. Cheap to clone.
///
/// Every call can be made on any node of the scope, whichever runs the child. Calls made before this node has settled
/// in the scope wait for that. Dropping the future of a call gives up waiting for the answer; a start, update or
/// terminate that was sent already still counts.
#[derive(Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

struct Inner {
    node: Node,
    scope: ScopeId,
    name: String,
    events: broadcast::WeakSender<Event>,
    /// What happened since the join, for whoever asks first.
    first_events: Mutex<Option<broadcast::Receiver<Event>>>,
    members: watch::Receiver<Vec<MemberInfo>>,
}

/// Whether [`start_child`](Supervisor::start_child) found the child there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Started {
    /// It is new.
    New,
    /// It was live with an equal spec; nothing changed.
    Existing,
}

impl Supervisor {
    pub(super) fn new(
        node: Node,
        scope: ScopeId,
        name: String,
        events: broadcast::Receiver<Event>,
        source: broadcast::WeakSender<Event>,
        members: watch::Receiver<Vec<MemberInfo>>,
    ) -> Self {
        let first_events = Mutex::new(Some(events));
        Supervisor { inner: Arc::new(Inner { node, scope, name, events: source, first_events, members }) }
    }

    /// The name of the scope.
    pub fn scope(&self) -> &str {
        &self.inner.name
    }

    /// The node that this supervisor belongs to.
    pub fn node(&self) -> &Node {
        &self.inner.node
    }

    /// Starts a child on the node that placement chooses.
    ///
    /// Await it: it resolves when the request is accepted *on this node*. Chain [`replicated`](StartChild::replicated)
    /// or [`running`](StartChild::running) to wait for more. Starting an equal spec again is a no-op
    /// ([`Started::Existing`]), so every node may start the same children.
    ///
    /// # Errors
    /// [`StartError::AlreadyStarted`] if the id is live with another spec; [`StartError::Unavailable`] if the node is
    /// gone or leaving. A kind that no node knows is no error: the child is listed as unplaced until a node that knows
    /// it joins.
    ///
    /// # Example
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn example(supervisor: haulout::Supervisor) -> Result<(), haulout::BoxError> {
    /// use haulout::{ChildSpec, Started};
    ///
    /// let spec = ChildSpec::raw("mail-42", "mailer", b"to: seal".to_vec())?;
    /// supervisor.start_child(spec.clone()).running(Duration::from_secs(10)).await?;
    /// assert_eq!(supervisor.start_child(spec).await?, Started::Existing);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_child(&self, spec: ChildSpec) -> StartChild {
        StartChild { supervisor: self.clone(), spec, replicated: 0, running: None }
    }

    /// Replaces the spec of a live child: it is stopped, then started with the new one.
    ///
    /// Await it: it resolves when the request is accepted *on this node*; chain [`replicated`](UpdateChild::replicated)
    /// or [`running`](UpdateChild::running) to wait for more. An equal spec changes nothing.
    ///
    /// # Errors
    /// [`UpdateError::NotFound`] if no child with this id is known here.
    pub fn update_child(&self, spec: ChildSpec) -> UpdateChild {
        UpdateChild { supervisor: self.clone(), spec, replicated: 0, running: None }
    }

    /// Terminates a child, wherever it runs. Its id can be used anew at once.
    ///
    /// Await it: it resolves when the request is accepted *on this node*, which is before the child has stopped; chain
    /// [`replicated`](TerminateChild::replicated) to wait for more. An id that this node does not know is first asked
    /// of the other members.
    ///
    /// # Errors
    /// [`TerminateError::NotFound`] if nobody that could be asked knows it; [`TerminateError::Spec`] if the id is empty
    /// or too long.
    pub fn terminate_child<I>(&self, id: I) -> TerminateChild
    where
        I: TryInto<ChildId>,
        SpecError: From<I::Error>,
    {
        TerminateChild { supervisor: self.clone(), id: id.try_into().map_err(SpecError::from), replicated: 0 }
    }

    /// Lists children as this node knows them, ordered by id. Answered from local state, a part at a time, so that even
    /// a long listing holds nothing up.
    ///
    /// What this handle has done before is in it. What changes while it is made may be in it or not; each child is
    /// listed at most once, and all that is said of one child was true at one moment.
    ///
    /// # Errors
    /// [`Unavailable::NodeGone`] if the node has left.
    pub async fn which_children(&self, which: Which) -> Result<Vec<ChildInfo>, Unavailable> {
        let mut children = Vec::new();
        let mut end = None;
        loop {
            let Some(page) = self.page(which, end).await? else { return self.list_at_once(which).await };
            if children.is_empty() && which == Which::Global {
                children.reserve(page.children.len() + page.next.unwrap_or_default());
            }
            children.extend(page.children);
            end = page.next;
            if end.is_none() {
                break;
            }
            // A listing takes its caller's thread for as long as many other tasks need together.
            tokio::task::yield_now().await;
        }
        Ok(ChildInfo::sorted(children))
    }

    /// A part of a listing; `None` before the scope has settled.
    async fn page(&self, which: Which, end: Option<usize>) -> Result<Option<Page>, Unavailable> {
        let Inner { node, scope, .. } = &*self.inner;
        let scope = *scope;
        match node.peek(|node| node.page(scope, which, end, PEEKED_MAX)) {
            Some(page) => Ok(page),
            None => node.read(move |node| node.page(scope, which, end, READ_MAX)).await,
        }
    }

    /// The whole listing at once, when the scope has settled.
    async fn list_at_once(&self, which: Which) -> Result<Vec<ChildInfo>, Unavailable> {
        match self.inner.node.call(Command::WhichChildren { scope: self.inner.scope, which }, None).await? {
            Reply::Children(children) => Ok(children),
            other => Err(unexpected(other)),
        }
    }

    /// Where a child runs, as this node knows it; `None` if it is unknown or does not run anywhere at the moment.
    /// Answered from local state, usually within microseconds.
    ///
    /// # Errors
    /// [`WhereisError`] if the id is empty or too long, or the node has left.
    pub async fn whereis<I>(&self, id: I) -> Result<Option<Location>, WhereisError>
    where
        I: TryInto<ChildId>,
        SpecError: From<I::Error>,
    {
        let id = id.try_into().map_err(SpecError::from)?;
        let Inner { node, scope, .. } = &*self.inner;
        if let Some(location) = node.peek(|node| node.whereis(*scope, &id)).flatten() {
            return Ok(location);
        }
        match node.call(Command::Whereis { scope: *scope, id }, None).await? {
            Reply::Whereis(location) => Ok(location),
            other => Err(unexpected(other).into()),
        }
    }

    /// Waits until a child runs somewhere, and says where; at once if it runs already.
    ///
    /// # Errors
    /// [`WaitError::Timeout`] if it does not run within `timeout`; [`WaitError::NotFound`] if it is not known, or is
    /// terminated while this waits.
    pub async fn wait_until_running<I>(&self, id: I, timeout: Duration) -> Result<Location, WaitError>
    where
        I: TryInto<ChildId>,
        SpecError: From<I::Error>,
    {
        let id = id.try_into().map_err(SpecError::from)?;
        self.until_running(id, timeout).await
    }

    async fn until_running(&self, id: ChildId, timeout: Duration) -> Result<Location, WaitError> {
        let command = Command::WaitUntilRunning { scope: self.inner.scope, id };
        match self.inner.node.call(command, Some(timeout)).await? {
            Reply::Running(result) => result,
            other => Err(unexpected(other).into()),
        }
    }

    /// The live members of the scope, ordered by name, this node among them once it has joined. Closed when the node
    /// is gone.
    pub fn members(&self) -> watch::Receiver<Vec<MemberInfo>> {
        self.inner.members.clone()
    }

    /// How the scope stands on this node. Costs a walk over its members; children are counted as they change.
    ///
    /// # Errors
    /// [`Unavailable::NodeGone`] if the node has left.
    pub async fn stats(&self) -> Result<ScopeStats, Unavailable> {
        let scope = self.inner.scope;
        self.inner.node.read(move |node| node.measured_scope(scope)).await?.ok_or(Unavailable::NodeGone)
    }

    /// What happens in the scope on this node, and to its members.
    ///
    /// The first receiver of a supervisor (its clones included) begins with the join, later ones with the call. Each
    /// keeps the last 1,024 events; one that is read too slowly gets
    /// [`RecvError::Lagged`](broadcast::error::RecvError::Lagged) with the number that it missed, and
    /// [`which_children`](Self::which_children) says what came of them. Closed when the node is gone.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        let first = self.inner.first_events.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        first.unwrap_or_else(|| match self.inner.events.upgrade() {
            Some(events) => events.subscribe(),
            None => broadcast::channel(1).1,
        })
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("scope", &self.inner.name).field("node", &self.inner.node).finish()
    }
}

type BoxCall<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A [`start_child`](Supervisor::start_child) on its way; await it.
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct StartChild {
    supervisor: Supervisor,
    spec: ChildSpec,
    replicated: usize,
    running: Option<Duration>,
}

impl StartChild {
    /// Resolves only when `members` other members have acknowledged the request too (fewer if the scope has fewer).
    /// Default: 0.
    pub fn replicated(mut self, members: usize) -> Self {
        self.replicated = members;
        self
    }

    /// Resolves only when the child runs somewhere; an error after `timeout` ([`StartError::NotRunning`]), with the
    /// child accepted all the same.
    pub fn running(mut self, timeout: Duration) -> Self {
        self.running = Some(timeout);
        self
    }

    async fn call(self) -> Result<Started, StartError> {
        let StartChild { supervisor, spec, replicated, running } = self;
        let id = spec.id().clone();
        let command = Command::Start { scope: supervisor.inner.scope, spec, replicated };
        let new = match supervisor.inner.node.call(command, None).await? {
            Reply::Started(result) => result?,
            other => return Err(unexpected(other).into()),
        };
        if let Some(timeout) = running {
            supervisor.until_running(id, timeout).await.map_err(StartError::NotRunning)?;
        }
        Ok(if new { Started::New } else { Started::Existing })
    }
}

impl IntoFuture for StartChild {
    type Output = Result<Started, StartError>;
    type IntoFuture = BoxCall<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.call())
    }
}

/// An [`update_child`](Supervisor::update_child) on its way; await it.
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct UpdateChild {
    supervisor: Supervisor,
    spec: ChildSpec,
    replicated: usize,
    running: Option<Duration>,
}

impl UpdateChild {
    /// Resolves only when `members` other members have acknowledged the request too (fewer if the scope has fewer).
    /// Default: 0.
    pub fn replicated(mut self, members: usize) -> Self {
        self.replicated = members;
        self
    }

    /// Resolves only when the child runs with the new spec; an error after `timeout` ([`UpdateError::NotRunning`]),
    /// with the update accepted all the same.
    pub fn running(mut self, timeout: Duration) -> Self {
        self.running = Some(timeout);
        self
    }

    async fn call(self) -> Result<(), UpdateError> {
        let UpdateChild { supervisor, spec, replicated, running } = self;
        let id = spec.id().clone();
        let command = Command::Update { scope: supervisor.inner.scope, spec, replicated };
        match supervisor.inner.node.call(command, None).await? {
            Reply::Updated(result) => {
                result?;
            }
            other => return Err(unexpected(other).into()),
        }
        if let Some(timeout) = running {
            supervisor.until_running(id, timeout).await.map_err(UpdateError::NotRunning)?;
        }
        Ok(())
    }
}

impl IntoFuture for UpdateChild {
    type Output = Result<(), UpdateError>;
    type IntoFuture = BoxCall<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.call())
    }
}

/// A [`terminate_child`](Supervisor::terminate_child) on its way; await it.
#[derive(Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct TerminateChild {
    supervisor: Supervisor,
    id: Result<ChildId, SpecError>,
    replicated: usize,
}

impl TerminateChild {
    /// Resolves only when `members` other members have acknowledged the request too (fewer if the scope has fewer).
    /// Default: 0.
    pub fn replicated(mut self, members: usize) -> Self {
        self.replicated = members;
        self
    }

    async fn call(self) -> Result<(), TerminateError> {
        let TerminateChild { supervisor, id, replicated } = self;
        let command = Command::Terminate { scope: supervisor.inner.scope, id: id?, replicated };
        match supervisor.inner.node.call(command, None).await? {
            Reply::Terminated(result) => result,
            other => Err(unexpected(other).into()),
        }
    }
}

impl IntoFuture for TerminateChild {
    type Output = Result<(), TerminateError>;
    type IntoFuture = BoxCall<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.call())
    }
}
