//! How a node runs a kind of child: typed children and closures behind one function type.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::context::{BoxError, Child, ChildContext};

/// Runs one child from its arguments to its end, calling the last argument once when it is up.
pub(super) type Runner = Arc<dyn Fn(Bytes, ChildContext, Started) -> BoxRun + Send + Sync>;

/// A run of a child.
pub(super) type BoxRun = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// Reports that `init` is done; `false` if the child was told to stop meanwhile and is not to run.
pub(super) type Started = Box<dyn FnOnce() -> bool + Send>;

/// Why a run ended without success.
pub(super) enum Failure {
    /// Its arguments do not decode.
    Declined(String),
    /// `init` or `run` returned this.
    Error(BoxError),
}

/// How to run children of type `C`.
pub(super) fn typed<C: Child>() -> Runner {
    Arc::new(|args, ctx, started| {
        Box::pin(async move {
            let mut child: C = decode(&args).map_err(Failure::Declined)?;
            drop(args);
            child.init(&ctx).await.map_err(Failure::Error)?;
            if !started() {
                return Ok(());
            }
            child.run(ctx).await.map_err(Failure::Error)
        })
    })
}

/// How to run children by a closure, which gets its arguments as bytes.
pub(super) fn closure<F, Fut>(run: F) -> Runner
where
    F: Fn(ChildContext, Bytes) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let run = Arc::new(run);
    Arc::new(move |args, ctx, started| {
        let run = run.clone();
        Box::pin(async move {
            if !started() {
                return Ok(());
            }
            run(ctx, args).await.map_err(Failure::Error)
        })
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
