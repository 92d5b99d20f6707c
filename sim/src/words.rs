//! Calls, faults, ends and events in words: the one place that knows how the reports put things.

use std::time::Duration;

use haulout::proto::{Command, Reply, ScopeId, Time};
use haulout::{ChildId, Event, Outcome, Spec};

use crate::NodeIdx;
use crate::cluster::Cluster;
use crate::figures::short;
use crate::history::{FaultKind, LifeEnd};
use crate::journal::{Ending, Overlap, Run};
use crate::network::Class;

/// What excuses an overlap, in words, as far as somebody knows.
pub(crate) type Excuse<'a> = &'a dyn Fn(&Overlap) -> Option<String>;

/// Microseconds since the beginning.
pub(crate) fn micros(at: Time) -> u64 {
    at.as_nanos() / 1_000
}

/// One word for a kind of fault.
pub(crate) fn fault_name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::Cut(..) => "cut",
        FaultKind::Rejects(..) => "reject",
        FaultKind::Clogged(..) => "clog",
        FaultKind::Degraded(..) => "bad link",
        FaultKind::Sifted(..) => "sieve",
        FaultKind::Paused(_) => "pause",
        FaultKind::Slow(_) => "slow",
        FaultKind::Twin(..) => "twin",
        FaultKind::ClockJump(_) => "clock jump",
        FaultKind::Ghost(_) => "ghost",
        FaultKind::Loss(_) => "loss",
        FaultKind::Weather(_) => "weather",
    }
}

/// The nodes that a fault is about; none if it is about all of them.
pub(crate) fn fault_nodes(kind: FaultKind) -> Vec<NodeIdx> {
    match kind {
        FaultKind::Cut(from, to, _)
        | FaultKind::Rejects(from, to)
        | FaultKind::Clogged(from, to)
        | FaultKind::Degraded(from, to)
        | FaultKind::Sifted(from, to) => vec![from, to],
        FaultKind::Twin(one, other) => vec![one, other],
        FaultKind::Paused(node) | FaultKind::Slow(node) | FaultKind::ClockJump(node) | FaultKind::Ghost(node) => {
            vec![node]
        }
        FaultKind::Loss(_) | FaultKind::Weather(_) => Vec::new(),
    }
}

/// The link that a fault is about, if it is about one in one direction.
pub(crate) fn fault_link(kind: FaultKind) -> Option<(NodeIdx, NodeIdx)> {
    match kind {
        FaultKind::Cut(from, to, _) => Some((from, to)),
        _ => None,
    }
}

/// A fault in a few words.
pub(crate) fn fault(cluster: &Cluster, kind: FaultKind) -> String {
    let name = |node| cluster.name(node);
    match kind {
        FaultKind::Cut(from, to, class) => {
            let what = match class {
                Class::All => "nothing gets",
                Class::Datagrams => "no datagram gets",
                Class::Streams => "nothing on streams gets",
            };
            format!("{what} from {} to {}", name(from), name(to))
        }
        FaultKind::Rejects(from, to) => format!("streams from {} to {} are refused", name(from), name(to)),
        FaultKind::Clogged(from, to) => format!("what {} sends to {} waits", name(from), name(to)),
        FaultKind::Degraded(from, to) => format!("the link from {} to {} is bad", name(from), name(to)),
        FaultKind::Sifted(from, to) => format!("some of what {} tells {} is held back", name(from), name(to)),
        FaultKind::Paused(node) => format!("{} is paused", name(node)),
        FaultKind::Slow(node) => format!("{} is overloaded", name(node)),
        FaultKind::Twin(one, _) => format!("a second process has the address of {}", name(one)),
        FaultKind::ClockJump(node) => format!("the clock of {} jumps", name(node)),
        FaultKind::Ghost(node) => format!("something from before {} was restarted is heard again", name(node)),
        FaultKind::Loss(loss) => format!("links lose {:.0} % of the datagrams", loss * 100.0),
        FaultKind::Weather(severity) => format!(
            "all links are bad: up to {:.0} % lost, up to {} late",
            severity.loss_max() * 100.0,
            short(severity.delay_max)
        ),
    }
}

/// How a life of a node ended.
pub(crate) fn life_end(end: LifeEnd) -> &'static str {
    match end {
        LifeEnd::Crashed => "was killed",
        LifeEnd::PowerLost => "lost power",
        LifeEnd::Left => "left",
    }
}

/// How a run ended.
pub(crate) fn ending(ending: &Ending) -> String {
    match ending {
        Ending::Exited(outcome) => self::outcome(outcome),
        Ending::Declined => "did not understand its arguments".into(),
        Ending::Killed => "ended with its process".into(),
    }
}

pub(crate) fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Success => "returned success".into(),
        Outcome::Error(text) => format!("failed: {text}"),
        Outcome::Panic(text) => format!("panicked: {text}"),
        Outcome::Stopped => "was stopped by its node".into(),
        Outcome::Aborted => "was aborted by its node".into(),
        other => format!("{other:?}"),
    }
}

/// A spec in short: two that differ look different.
pub(crate) fn spec(spec: &Spec) -> String {
    let args = match &spec.args[..] {
        [] => "no arguments".into(),
        [byte] => format!("arguments {byte:02x}"),
        bytes if bytes.len() <= 8 => {
            format!("arguments {}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        bytes => format!("{} bytes of arguments", bytes.len()),
    };
    format!("kind {}, {args}, {:?}, shutdown {:?}", spec.kind, spec.restart, spec.shutdown)
}

/// The child that a call is about.
pub(crate) fn child_called(command: &Command) -> Option<&ChildId> {
    match command {
        Command::Start { spec, .. } | Command::Update { spec, .. } => Some(spec.id()),
        Command::Terminate { id, .. } | Command::Whereis { id, .. } | Command::WaitUntilRunning { id, .. } => Some(id),
        Command::JoinScope(_) | Command::WhichChildren { .. } | Command::SetKeyring { .. } | Command::Leave { .. } => {
            None
        }
    }
}

/// A child, and the scope that it is in where that does not go without saying.
pub(crate) fn child_in(cluster: &Cluster, scope: ScopeId, id: &ChildId) -> String {
    match cluster.scope_name(scope) {
        _ if scope == cluster.scope() => id.to_string(),
        Some(name) => format!("{id} in {name}"),
        None => format!("{id} in {scope:?}"),
    }
}

/// " in the scope second", where that does not go without saying.
pub(crate) fn in_scope(cluster: &Cluster, scope: ScopeId) -> String {
    cluster.scope_name(scope).map_or_else(String::new, |name| format!(" in the scope {name}"))
}

/// What a call asks a node for, as "was asked to …" goes on.
pub(crate) fn command(command: &Command) -> String {
    let replicated = |replicated: usize| match replicated {
        0 => String::new(),
        members => format!(", and to tell {members} others first"),
    };
    match command {
        Command::JoinScope(setup) => format!("join the scope {}", setup.name),
        Command::Start { spec, replicated: others, .. } => {
            format!("start {} ({}){}", spec.id(), self::spec(spec.spec()), replicated(*others))
        }
        Command::Update { spec, replicated: others, .. } => {
            format!("update {} ({}){}", spec.id(), self::spec(spec.spec()), replicated(*others))
        }
        Command::Terminate { id, replicated: others, .. } => format!("terminate {id}{}", replicated(*others)),
        Command::WhichChildren { which, .. } => format!("list its children ({which:?})"),
        Command::Whereis { id, .. } => format!("say where {id} runs"),
        Command::WaitUntilRunning { id, .. } => format!("say when {id} runs"),
        Command::SetKeyring { keys } => format!("use another keyring, of {} keys", keys.len()),
        Command::Leave { timeout } => format!("leave within {}", short(*timeout)),
    }
}

/// An answer, as "and …" goes on.
pub(crate) fn reply(reply: &Reply) -> String {
    let refused = |error: &dyn std::fmt::Display| format!("refused ({error})");
    match reply {
        Reply::Joined(Ok(_))
        | Reply::Updated(Ok(true))
        | Reply::Terminated(Ok(()))
        | Reply::KeyringSet(Ok(()))
        | Reply::Left(Ok(())) => "agreed".into(),
        Reply::Started(Ok(true)) => "agreed (it is new)".into(),
        Reply::Started(Ok(false)) => "agreed (it was started already)".into(),
        Reply::Updated(Ok(false)) => "agreed (that was its spec already)".into(),
        Reply::Joined(Err(error)) => refused(error),
        Reply::Started(Err(error)) => refused(error),
        Reply::Updated(Err(error)) => refused(error),
        Reply::Terminated(Err(error)) => refused(error),
        Reply::KeyringSet(Err(error)) => refused(error),
        Reply::Left(Err(error)) => refused(error),
        Reply::Children(children) => format!("listed {}", children.len()),
        Reply::Whereis(Some(at)) | Reply::Running(Ok(at)) => {
            format!("said that it runs on {} as {}", at.node, at.epoch)
        }
        Reply::Whereis(None) => "said that it runs nowhere".into(),
        Reply::Running(Err(error)) => format!("said that it does not run ({error})"),
        Reply::Unavailable(error) => refused(error),
    }
}

/// An answer and how long it took.
pub(crate) fn answer(answer: &Reply, after: Duration) -> String {
    match after {
        Duration::ZERO => format!("{} at once", reply(answer)),
        after => format!("{} after {}", reply(answer), short(after)),
    }
}

/// An event of a node: its name, the child that it is about, and the rest in words, as "node-1 …" goes on.
pub(crate) fn event(cluster: &Cluster, event: &Event) -> (String, Option<ChildId>, String) {
    let told = |name: &str, child: Option<&ChildId>, text: String| (name.to_owned(), child.cloned(), text);
    match event {
        Event::Settled => told("Settled", None, "settled".into()),
        Event::ChildStarted { id, epoch } => told("ChildStarted", Some(id), format!("said that {id} runs as {epoch}")),
        Event::ChildExited { id, epoch, outcome } => {
            told("ChildExited", Some(id), format!("said that its run {epoch} of {id} {}", self::outcome(outcome)))
        }
        Event::ChildStartFailed { id, epoch, error } => {
            told("ChildStartFailed", Some(id), format!("could not start its run {epoch} of {id}: {error}"))
        }
        Event::ChildBackoff { id, delay } => {
            told("ChildBackoff", Some(id), format!("backs off with {id} for {}", short(*delay)))
        }
        Event::ChildCompleted { id, outcome } => {
            told("ChildCompleted", Some(id), format!("removed {id}, which is done: it {}", self::outcome(outcome)))
        }
        Event::ChildDeclined { id, error } => told("ChildDeclined", Some(id), format!("declined {id}: {error}")),
        Event::DuplicateResolved { id, lasted } => {
            let lasted = short(*lasted);
            told("DuplicateResolved", Some(id), format!("resolved a duplicate of {id}, of {lasted} as it saw it"))
        }
        Event::StartLost { id, lost } => {
            told("StartLost", Some(id), format!("said that a start of {id} lost to a concurrent one ({})", spec(lost)))
        }
        Event::StartupDiffers { id } => {
            told("StartupDiffers", Some(id), format!("said that its start-up child {id} is live with another spec"))
        }
        Event::MemberUp(member) => told("MemberUp", None, format!("saw {} up", life_of(cluster, member))),
        Event::MemberCrashed(member) => {
            told("MemberCrashed", None, format!("found that the process of {} has ended", life_of(cluster, member)))
        }
        Event::MemberDown(member) => told("MemberDown", None, format!("declared {} down", life_of(cluster, member))),
        Event::NameConflict { name, loser } => {
            told("NameConflict", None, format!("said that two live nodes are called {name}; {loser} owns nothing"))
        }
        Event::AddressConflict => told("AddressConflict", None, "said that another process has its address".into()),
        Event::Rejoined => told("Rejoined", None, "came back under a new identity: others had declared it down".into()),
        Event::JoinRefused { seed, reason } => {
            told("JoinRefused", None, format!("was refused by the seed {seed}: {reason}"))
        }
        Event::SerialConflict => told("SerialConflict", None, "said that somebody used a serial number of it".into()),
        other => {
            let shown = format!("{other:?}");
            let name = shown.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
            told(&name, None, format!("said {shown}"))
        }
    }
}

/// A member as others know it: its name, and which of its lives where it had several.
fn life_of(cluster: &Cluster, member: &haulout::MemberInfo) -> String {
    match cluster.named(&member.name) {
        Some(node) => life_named(cluster, node, member.instance),
        None => member.name.to_string(),
    }
}

/// A node with the number of one of its lives, if it had several.
pub(crate) fn life_named(cluster: &Cluster, node: NodeIdx, instance: haulout::InstanceId) -> String {
    let lives = cluster.history().lives.iter().filter(|life| life.node == node);
    let instances: Vec<_> = lives.map(|life| life.instance).collect();
    match instances.iter().position(|&other| other == instance) {
        Some(place) if instances.len() > 1 => format!("{} (life {})", cluster.name(node), place + 1),
        _ => cluster.name(node).to_owned(),
    }
}

/// "node-1, node-2 and node-3", cut short after eight.
pub(crate) fn list(names: &[&str]) -> String {
    const SHOWN_MAX: usize = 8;
    match names {
        [] => "nobody".into(),
        [one] => (*one).into(),
        names if names.len() > SHOWN_MAX + 1 => {
            format!("{} and {} more", names[..SHOWN_MAX].join(", "), names.len() - SHOWN_MAX)
        }
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// Nodes by name as one of them sees it at a moment: "everybody but …" where that is shorter.
pub(crate) fn others(cluster: &Cluster, viewer: NodeIdx, at: Time, others: &[NodeIdx]) -> String {
    let names = |nodes: &[NodeIdx]| list(&nodes.iter().map(|&node| cluster.name(node)).collect::<Vec<_>>());
    let there = |node: &NodeIdx| cluster.history().lives.iter().any(|life| life.node == *node && life.from <= at);
    let rest: Vec<NodeIdx> =
        cluster.nodes().filter(|node| *node != viewer && !others.contains(node) && there(node)).collect();
    match rest.len() {
        _ if others.len() < 3 => names(others),
        0 => "everybody".into(),
        few if few < others.len() => format!("everybody but {}", names(&rest)),
        _ => names(others),
    }
}

/// "for 1.20 s", or that it has not ended.
pub(crate) fn lasting(from: Time, to: Option<Time>) -> String {
    match to {
        Some(to) => format!("for {}", short(to.since(from))),
        None => "to the end".into(),
    }
}

/// Whether a run is of the kind that its policy starts nowhere again, in words.
pub(crate) fn done(run: &Run) -> Option<String> {
    run.is_done()
        .then(|| format!("it is {:?} and {}", run.spec.restart, run.ending.as_ref().map_or_else(String::new, ending)))
}

/// The whole of a duration in seconds with milliseconds, for the margin of a story.
pub(crate) fn clock(at: Time) -> String {
    let since: Duration = at.since(Time::ZERO);
    format!("{}.{:03} s", since.as_secs(), since.subsec_millis())
}
