//! What these tests share: clusters, children that keep a journal, and waiting for conditions.

use std::future::IntoFuture;
use std::time::Duration;

use haulout::{Config, Profile};
use tokio::time::{sleep, timeout};

pub(crate) mod cluster;
pub(crate) mod journal;
#[path = "../ports.rs"]
mod ports;
pub(crate) mod process;

pub(crate) use cluster::{Cluster, Member};
pub(crate) use journal::{Act, Journal, Worker};
pub(crate) use ports::free_addr;

/// How long anything may take before a test gives up on it. Far more than it should take, for loaded machines.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A node that settles soon and tells its members of changes often.
pub(crate) fn config() -> Config {
    Config {
        profile: Profile::Local,
        settle_timeout: Some(Duration::from_millis(200)),
        sync_interval: Duration::from_secs(1),
        ..Config::default()
    }
}

/// Waits until a condition holds; what kept it from holding is in the panic of a test that waited in vain.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut obstacle = String::from("it was not looked at once");
    let watch = async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(why) => obstacle = why,
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    match timeout(DEADLINE, watch).await {
        Ok(found) => found,
        Err(_) => panic!("{what}: not within {DEADLINE:?}; at last {obstacle}"),
    }
}

/// Awaits something that must not hang.
pub(crate) async fn soon<T>(what: &str, future: impl IntoFuture<Output = T>) -> T {
    match timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// `Ok` if it holds, for [`until`].
pub(crate) fn require(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

/// Shows what nodes log in the output of a test that fails.
pub(crate) fn show_logs() {
    // Fails only if an earlier test did it.
    let _ = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_test_writer().try_init();
}
