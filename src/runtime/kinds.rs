//! How a node runs a kind of child: typed children and closures behind one function type.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::context::{BoxError, Child, ChildContext};
use super::tasks::{Report, supervise};
use crate::child::Spec;

/// Runs one child as a task: in one allocation with its type's own future, of which children are mostly made.
pub(super) type Runner = Arc<dyn Fn(&Handle, Report, Arc<Spec>) -> AbortHandle + Send + Sync>;

/// Why a run ended without success.
pub(super) enum Failure {
    /// Its arguments do not decode.
    Declined(String),
    /// `init` or `run` returned this.
    Error(BoxError),
}

/// How to run children of type `C`.
pub(super) fn typed<C: Child>() -> Runner {
    Arc::new(|user, report, spec| {
        let run = |ctx: ChildContext| async move {
            let mut child: C = decode(&spec.args).map_err(Failure::Declined)?;
            drop(spec);
            child.init(&ctx).await.map_err(Failure::Error)?;
            if !ctx.report_started() {
                return Ok(());
            }
            child.run(ctx).await.map_err(Failure::Error)
        };
        user.spawn(supervise(report, run)).abort_handle()
    })
}

/// How to run children by a closure, which gets its arguments as bytes.
pub(super) fn closure<F, Fut>(run: F) -> Runner
where
    F: Fn(ChildContext, Bytes) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let run = Arc::new(run);
    Arc::new(move |user, report, spec| {
        let run = run.clone();
        let run = move |ctx: ChildContext| async move {
            if !ctx.report_started() {
                return Ok(());
            }
            run(ctx, spec.args.clone()).await.map_err(Failure::Error)
        };
        user.spawn(supervise(report, run)).abort_handle()
    })
}

/// Decodes arguments. Bytes left over mean another layout, and a panic in somebody's `Deserialize` means the same.
fn decode<C: Child>(args: &[u8]) -> Result<C, String> {
    let decoded = catch_unwind(AssertUnwindSafe(|| postcard::take_from_bytes::<C>(args)));
    match decoded {
        Ok(Ok((child, []))) => Ok(child),
        Ok(Ok((_, rest))) => Err(format!("arguments of kind {:?} have {} bytes too many", C::KIND, rest.len())),
        Ok(Err(error)) => Err(format!("arguments of kind {:?} do not decode: {error}", C::KIND)),
        Err(panic) => Err(format!("decoding arguments of kind {:?} panicked: {}", C::KIND, panic_text(&*panic))),
    }
}

/// The message of a panic, where it has one.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}
