//! Starting a node: sockets, identity, and the thread of its protocol loop.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::{self, Handle};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument, error, error_span, info};

use super::clock::{self, Clock};
use super::driver::{Driver, Farewells, Inputs};
use super::due_timer::DueTimer;
use super::keys;
use super::kinds::panic_text;
use super::node::{About, Call};
use super::sockets::{self, Sockets};
use super::state::{State, View};
use super::streams::{INBOX_MAX, Streams};
use super::tasks::Tasks;
use crate::config::Config;
use crate::error::StartNodeError;
use crate::proto::{Birth, Fanout, FaultSites, InstanceId, Node, Sabotage};

/// Everything that the thread of a protocol loop takes with it.
struct Launch {
    config: Config,
    sockets: Sockets,
    clock: Clock,
    birth: Birth,
    user: Handle,
    calls: mpsc::UnboundedReceiver<Call>,
    ready: oneshot::Sender<Result<(About, View), StartNodeError>>,
}

/// Opens the sockets and starts the protocol loop; what the node is, and where its calls go.
pub(super) async fn node(
    mut config: Config,
    sabotage: Sabotage,
) -> Result<(About, View, mpsc::UnboundedSender<Call>), StartNodeError> {
    config.check()?;
    keys::load(&mut config.security)?;
    let user = Handle::try_current().map_err(|_| StartNodeError::NoRuntime)?;
    let sockets = sockets::open(config.bind, config.limits.datagram_buffer_bytes)?;
    let clock = Clock::start();
    let birth = Birth {
        addr: advertised(config.advertise, sockets.addr),
        instance: InstanceId::new(u64::from_be_bytes(random()?)),
        seed: random()?,
        wall_ms_at_zero: clock::wall_ms(),
        sabotage,
        fault_sites: FaultSites::default(),
        fanout: Fanout::default(),
    };
    let (calls_sender, calls) = mpsc::unbounded_channel();
    let (ready, started) = oneshot::channel();
    spawn(Launch { config, sockets, clock, birth, user, calls, ready })?;
    let (about, view) = started.await.map_err(|_| StartNodeError::Crashed)??;
    Ok((about, view, calls_sender))
}

/// The address that others are told; a port of 0 in it means the bound port.
pub(super) fn advertised(advertise: Option<SocketAddr>, bound: SocketAddr) -> SocketAddr {
    let mut addr = advertise.unwrap_or(bound);
    if addr.port() == 0 {
        addr.set_port(bound.port());
    }
    addr
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], StartNodeError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| StartNodeError::System { what: "random numbers", source: io::Error::other(error) })?;
    Ok(bytes)
}

#[allow(clippy::disallowed_methods, reason = "the protocol loop has a thread of its own; see the driver")]
fn spawn(launch: Launch) -> Result<(), StartNodeError> {
    let name = format!("haulout-{}", launch.birth.addr.port());
    let spawned = thread::Builder::new().name(name).spawn(move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(launch))) {
            let panic = panic_text(&*panic);
            error!(panic, "bug: the protocol loop panicked; its node is gone and its children are aborted");
        }
    });
    spawned.map(drop).map_err(|source| StartNodeError::System { what: "a thread", source })
}

fn run(launch: Launch) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            let _ = launch.ready.send(Err(StartNodeError::System { what: "timers and polling", source }));
            return;
        }
    };
    let farewells = runtime.block_on(drive(launch));
    // Closes the sockets. A look-up of a seed may still hang in the name service; it is not waited for.
    runtime.shutdown_background();
    if let Some(farewells) = farewells {
        farewells.send();
    }
}

async fn drive(launch: Launch) -> Option<Farewells> {
    let Launch { config, sockets, clock, birth, user, calls, ready } = launch;
    let (addr, buffer_bytes) = (sockets.addr, sockets.datagram_buffer_bytes);
    let opened = (UdpSocket::from_std(sockets.datagrams), TcpListener::from_std(sockets.listener));
    let (datagrams, listener) = match opened {
        (Ok(datagrams), Ok(listener)) => (datagrams, listener),
        (Err(source), _) | (_, Err(source)) => {
            let _ = ready.send(Err(StartNodeError::Bind { addr, source }));
            return None;
        }
    };
    let timer = match DueTimer::new() {
        Ok(timer) => timer,
        Err(source) => {
            let _ = ready.send(Err(StartNodeError::System { what: "a timer", source }));
            return None;
        }
    };
    let about = (birth.addr, birth.instance);
    let node = match Node::new(&config, birth, clock.now()) {
        Ok(node) => node,
        Err(error) => {
            let _ = ready.send(Err(error.into()));
            return None;
        }
    };
    let about = About { name: node.name().to_owned(), addr: about.0, instance: about.1 };
    info!(node = about.name, addr = %about.addr, instance = %about.instance, "node starts");
    let wanted = config.limits.datagram_buffer_bytes;
    if buffer_bytes < wanted {
        info!(
            granted = buffer_bytes,
            wanted, "the kernel grants less room for datagrams; raise net.core.rmem_max on Linux"
        );
    }

    let (inbox_sender, inbox) = mpsc::channel(INBOX_MAX);
    let (reports_sender, reports) = mpsc::unbounded_channel();
    let mut streams = Streams::new(&config.limits, inbox_sender.clone());
    streams.listen(listener);
    let (sentinel, user_runtime) = watch_runtime(&user);
    let tasks = Tasks::new(about.name.as_str().into(), user, reports_sender, config.start_timeout);
    let inputs = Inputs { timer, calls, reports, inbox, inbox_sender, user_runtime };
    let state = State::new(node);
    let view = state.view();
    let driver = Driver::new(state, clock, config, (datagrams, buffer_bytes), streams, tasks, inputs);
    let name = about.name.clone();
    // Fails if the caller gave up; the loop then finds that it has no handles, and leaves.
    let _ = ready.send(Ok((about, view)));
    // An error's, so that it is there however little is logged.
    let farewells = driver.run().instrument(error_span!("node", name = name.as_str())).await;
    sentinel.abort();
    info!(node = name, "node has left");
    Some(farewells)
}

/// A task that only ends when the user's runtime is shut down, and what tells of that.
fn watch_runtime(user: &Handle) -> (tokio::task::AbortHandle, oneshot::Receiver<()>) {
    let (alive, gone) = oneshot::channel::<()>();
    let task = user.spawn(async move {
        let _alive = alive;
        std::future::pending::<()>().await;
    });
    (task.abort_handle(), gone)
}
