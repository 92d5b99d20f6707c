//! A service that embeds haulout. Read this file first.
//!
//! Three things make a service part of a cluster: a type for its work, here [`ServiceMonitor`]; a [`Node`], made of a
//! [`Config`] from a file; and a [`Supervisor`], by which any instance of the service starts, terminates and lists
//! the work of all of them. Everything else here is the service's own business: an interface to its users, which in
//! this example is a pipe to the orchestrator, and a journal.

use std::path::PathBuf;
use std::time::Duration;

use haulout::proto::{Rule, Sabotage};
use haulout::{BoxError, Child, ChildContext, ChildSpec, Config, Event, LeaveError, Node, Supervisor, Which};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::{interval, sleep, timeout};

use crate::control::{Answer, Listed, Request};
use crate::{clock, journal, process};

/// How long a service may take to accept a connection.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a monitor takes to close what it holds, as real work does. A node that does not wait for it runs a
/// second copy beside it.
const CLOSING_TIME: Duration = Duration::from_millis(50);

/// The work: watches one TCP service. Its fields are its arguments; they travel to the node that is to run it.
#[derive(Serialize, Deserialize)]
struct ServiceMonitor {
    target: String,
    check_interval: Duration,
    journals: PathBuf,
}

impl Child for ServiceMonitor {
    const KIND: &'static str = "service-monitor";

    async fn run(self, ctx: ChildContext) -> Result<(), BoxError> {
        let mut journal = journal::Run::open(&self.journals, &ctx)?;
        let mut ticks = interval(self.check_interval);
        loop {
            let next_check = async {
                ticks.tick().await;
                check(&self.target).await
            };
            tokio::select! {
                result = next_check => journal.checked(result)?,
                () = ctx.stopping() => break,
            }
        }
        sleep(CLOSING_TIME).await;
        Ok(())
    }
}

async fn check(target: &str) -> String {
    let began = clock::now();
    match timeout(CHECK_TIMEOUT, TcpStream::connect(target)).await {
        Ok(Ok(_)) => format!("up in {}", clock::show(Duration::from_nanos(clock::now() - began))),
        Ok(Err(error)) => format!("down: {error}"),
        Err(_) => format!("down: no answer within {CHECK_TIMEOUT:?}"),
    }
}

/// The command line of the service.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct NodeOptions {
    /// A `haulout::Config` in TOML.
    #[arg(long)]
    pub(crate) config: PathBuf,
    /// The directory of the journals.
    #[arg(long)]
    pub(crate) journals: PathBuf,
    /// How often a monitor checks its service.
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) check_interval: Duration,
    /// Take a rule out of the protocol, to show that the judge notices.
    #[arg(long = "break")]
    pub(crate) sabotage: bool,
    /// Log everything.
    #[arg(long)]
    pub(crate) verbose: bool,
}

/// Runs the service until its stdin is closed.
pub(crate) async fn run(options: NodeOptions) -> Result<(), BoxError> {
    let config: Config = toml::from_str(&std::fs::read_to_string(&options.config)?)?;
    let node = Node::builder(config)
        .sabotage(if options.sabotage { Sabotage::without(Rule::Ask) } else { Sabotage::default() })
        .start()
        .await?;
    let monitors = node.scope("monitors").kind::<ServiceMonitor>().version(env!("CARGO_PKG_VERSION")).join().await?;

    tokio::spawn(note_losses(monitors.events(), node.name().to_owned(), options.journals.clone()));
    process::answer(&Answer::Ready { addr: node.addr().to_string() }).await?;
    let mut requests = process::Requests::new();
    while let Some(request) = requests.next().await? {
        let answer = serve(&monitors, &options, request).await;
        process::answer(&answer.unwrap_or_else(|error| Answer::Refused(error.to_string()))).await?;
    }
    match node.leave().await {
        Err(LeaveError::Unavailable(_)) => Ok(()), // it was asked to leave before
        left => Ok(left?),
    }
}

async fn serve(monitors: &Supervisor, options: &NodeOptions, request: Request) -> Result<Answer, BoxError> {
    match request {
        Request::Start { id, target } => {
            let (check_interval, journals) = (options.check_interval, options.journals.clone());
            let monitor = ServiceMonitor { target, check_interval, journals };
            monitors.start_child(ChildSpec::new(id, &monitor)?).await?;
            Ok(Answer::Done)
        }
        Request::Terminate { id } => {
            monitors.terminate_child(id).await?;
            Ok(Answer::Done)
        }
        Request::List => {
            let children = monitors.which_children(Which::Global).await?;
            let listed = children.into_iter().map(|child| Listed {
                id: child.id.to_string(),
                node: child.node.as_deref().unwrap_or("-").to_owned(),
                state: child.state.to_string(),
            });
            Ok(Answer::Listing(listed.collect()))
        }
        Request::Members => {
            let members = monitors.members();
            let settled = members.borrow().iter().filter(|member| member.settled).map(|m| m.name.to_string()).collect();
            Ok(Answer::Members(settled))
        }
        Request::Leave => {
            monitors.node().leave().await?;
            Ok(Answer::Done)
        }
    }
}

/// Writes down when this node learns that another is gone.
async fn note_losses(mut events: Receiver<Event>, node: String, journals: PathBuf) -> Result<(), BoxError> {
    loop {
        match events.recv().await {
            Ok(Event::MemberDown(member)) => journal::lost(&journals, &node, &member.name)?,
            Ok(event) => tracing::info!(?event),
            Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "events were read too slowly"),
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}
