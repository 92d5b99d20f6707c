//! The examination of one address, from outside: what is tried there, in which order, and what each result means.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::reception::Request;
use super::station::{QUESTION_BYTES_MIN, Station};
use super::talk::Talk;
use super::{Check, Finding, Outcome};
use crate::proto::hint::Hint;
use crate::proto::packet::{DATAGRAM_BYTES_MAX, Place, Refused, Turn};
use crate::proto::placement;
use crate::proto::wire::{Hello, Message, Purpose, TableState, Welcome};

/// How long an answer to the handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// How long the other side may take to examine this one: everything it tries there, in vain.
const RETURN_MAX: Duration = Duration::from_secs(45);

/// Datagrams until one must be answered: of four sent over a network that loses a fifth, one in 130 times none arrives and
/// returns.
const ATTEMPTS: usize = 5;

/// The same, for each size of which the largest is looked for.
const SIZE_ATTEMPTS: usize = 2;

/// How exactly the largest datagram that passes is found.
const SIZE_STEP_BYTES: usize = 16;

/// What was found at one address.
pub(super) struct Examined {
    pub(super) findings: Vec<Finding>,
    /// Members of which it told.
    pub(super) members: Vec<SocketAddr>,
}

/// How far a visit came.
enum Visit {
    /// Nobody took the stream.
    Unreached,
    /// Who did is no node that this one can speak with.
    Refused,
    /// A node, or who takes the place of one.
    Welcomed { talk: Talk, turn: Turn, members: Vec<SocketAddr> },
}

/// Looks at one address; `wants_return`: asks whoever is there to look back.
pub(super) async fn examine(station: &Station, addr: SocketAddr, wants_return: bool) -> Examined {
    let mut notes = Notes { way: format!("to {addr}"), findings: Vec::new() };
    let visit = visit(station, addr, &mut notes).await;
    examine_datagrams(station, addr, &visit, &mut notes).await;
    let mut members = Vec::new();
    if let Visit::Welcomed { talk, turn, members: told } = visit {
        members = told;
        if wants_return {
            notes.findings.extend(examined_by(station, addr, talk, turn).await);
        }
    }
    Examined { findings: notes.findings, members }
}

/// What is found at one address, while it is looked at.
struct Notes {
    way: String,
    findings: Vec<Finding>,
}

impl Notes {
    fn add(&mut self, check: Check, outcome: Outcome, detail: impl Into<String>) {
        self.findings.push(Finding::new(check, outcome, self.way.clone(), detail));
    }
}

async fn visit(station: &Station, addr: SocketAddr, notes: &mut Notes) -> Visit {
    let mut talk = match Talk::dial(addr).await {
        Ok(talk) => talk,
        Err(error) => {
            notes.add(Check::Tcp, Outcome::Failed, undialled(addr, &error));
            notes.add(Check::Handshake, Outcome::Skipped, "there is no stream to shake hands on");
            return Visit::Unreached;
        }
    };
    notes.add(Check::Tcp, Outcome::Passed, "its port takes streams");
    match timeout(HANDSHAKE_MAX, shake_hands(station, &mut talk)).await {
        Ok(Ok((welcome, turn))) => {
            let is_there = |state| matches!(state, TableState::Alive | TableState::Suspect);
            let there = welcome.table.iter().filter(|entry| is_there(entry.state));
            let members: Vec<_> = there.map(|entry| entry.identity.addr).collect();
            let name = &welcome.name;
            let who = match members.len() {
                0 => format!("{name:?} is served by another doctor"),
                count => format!("{name:?} knows {count} live members, itself among them"),
            };
            notes.add(Check::Handshake, Outcome::Passed, who);
            Visit::Welcomed { talk, turn, members }
        }
        Ok(Err(why)) => {
            notes.add(Check::Handshake, Outcome::Failed, why);
            Visit::Refused
        }
        Err(_) => {
            let limit = HANDSHAKE_MAX.as_secs();
            let why =
                format!("no answer within {limit} s: something else than haulout has this port, or a node that hangs");
            notes.add(Check::Handshake, Outcome::Failed, why);
            Visit::Refused
        }
    }
}

fn undialled(addr: SocketAddr, error: &io::Error) -> String {
    let port = addr.port();
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("its port refuses: start the node or haulout-doctor serve there, or open port {port} for TCP")
        }
        io::ErrorKind::TimedOut => {
            format!("no answer: see that the host is up, and open port {port} for TCP on the way")
        }
        _ => format!("it can't be dialled: {error}"),
    }
}

/// What the other end says of itself, and how the frames that follow are sealed; or why not, with what to do.
async fn shake_hands(station: &Station, talk: &mut Talk) -> Result<(Welcome, Turn), String> {
    let ended = |error: Option<io::Error>| {
        let why = error.map_or("it ended the stream without an answer".to_owned(), |error| error.to_string());
        format!("{why}: something else than haulout has this port, or another revision of it")
    };
    let nonce = station.stream_nonce();
    let hello = Message::Hello(Hello {
        cluster: station.cluster.clone(),
        placement: placement::fingerprint(),
        name: station.name.clone(),
        purpose: Purpose::Examine,
        nonce,
    });
    talk.send(&station.packet(&hello, 0, Place::Hello)).await.map_err(|error| ended(Some(error)))?;
    let frame = talk.next().await.map_err(|error| ended(Some(error)))?.ok_or_else(|| ended(None))?;
    if let Some(hint) = Hint::from_frame(&frame) {
        return Err(hint.explain());
    }
    match station.read(&frame, Place::Welcome(nonce)) {
        Ok((_, Message::Welcome(welcome))) => {
            let turn = Turn { dialler: nonce, acceptor: welcome.nonce, number: 0 };
            Ok((welcome, turn))
        }
        Ok((_, Message::Refuse(refusal))) => Err(refusal.explain(&station.cluster)),
        Err(Refused::UnknownKey) => {
            Err("it seals with a key that this node's keyring lacks: add it here before it is put first there".into())
        }
        Ok(_) | Err(_) => Err(ended(None)),
    }
}

async fn examine_datagrams(station: &Station, addr: SocketAddr, visit: &Visit, notes: &mut Notes) {
    let port = addr.port();
    let small = station.ask(addr, QUESTION_BYTES_MIN, ATTEMPTS).await;
    let answer = match small {
        Ok(Some(answer)) => answer,
        Ok(None) if matches!(visit, Visit::Refused) => {
            return notes.add(
                Check::Udp,
                Outcome::Skipped,
                "what refuses the handshake answers no datagram: mend that first",
            );
        }
        Ok(None) => {
            let why = format!(
                "no answer to {ATTEMPTS} datagrams: open port {port} for UDP, both ways, on each host and between"
            );
            return notes.add(Check::Udp, Outcome::Failed, why);
        }
        Err(error) => return notes.add(Check::Udp, Outcome::Failed, format!("nothing can be sent there: {error}")),
    };
    let millis = answer.round_trip.as_secs_f64() * 1e3;
    notes.add(Check::Udp, Outcome::Passed, format!("{QUESTION_BYTES_MIN} bytes there and back in {millis:.1} ms"));
    match station.ask(addr, DATAGRAM_BYTES_MAX, ATTEMPTS).await {
        Ok(Some(_)) => notes.add(Check::Size, Outcome::Passed, format!("{DATAGRAM_BYTES_MAX} bytes there and back")),
        Ok(None) => {
            let largest = largest_that_passes(station, addr).await;
            let why = format!(
                "{DATAGRAM_BYTES_MAX} bytes do not come there and back, some {largest} do: a tunnel on the way takes shorter \
                 packets and drops what is longer; raise its MTU to 1,450 or more, or let it pass fragments"
            );
            notes.add(Check::Size, Outcome::Failed, why);
        }
        Err(error) => {
            let why =
                format!("this host does not send {DATAGRAM_BYTES_MAX} bytes: {error}; raise the MTU of its interface");
            notes.add(Check::Size, Outcome::Failed, why);
        }
    }
    notes.add(
        Check::Clock,
        Outcome::Passed,
        match answer.ahead_ms {
            0.. => format!("{} ms ahead of the one here", answer.ahead_ms),
            _ => format!("{} ms behind the one here", -answer.ahead_ms),
        },
    );
}

/// By halving what is between a size that passed and one that did not.
async fn largest_that_passes(station: &Station, addr: SocketAddr) -> usize {
    let (mut passes, mut fails) = (QUESTION_BYTES_MIN, DATAGRAM_BYTES_MAX);
    while fails - passes > SIZE_STEP_BYTES {
        let bytes = passes.midpoint(fails);
        match station.ask(addr, bytes, SIZE_ATTEMPTS).await {
            Ok(Some(_)) => passes = bytes,
            Ok(None) | Err(_) => fails = bytes,
        }
    }
    passes
}

/// Has this node examined from there, if who is there does that.
async fn examined_by(station: &Station, addr: SocketAddr, mut talk: Talk, turn: Turn) -> Vec<Finding> {
    let way = format!("from {addr}");
    let skipped = |why: &str| vec![Finding::new(Check::Return, Outcome::Skipped, way.clone(), why)];
    if !station.has_port {
        return skipped("the node has its port itself, so it can't be examined from there while it runs");
    }
    let request = station.packet(&Request::ExamineMe, 0, Place::Dialled(turn));
    let answer = async {
        talk.send(&request).await?;
        talk.next().await
    };
    match timeout(RETURN_MAX, answer).await {
        Ok(Ok(Some(frame))) => match station.read::<Vec<Finding>>(&frame, Place::Accepted(turn)) {
            Ok((_, findings)) => findings.into_iter().map(|finding| of_another(finding, &way)).collect(),
            Err(_) => skipped("its findings can't be read: run the same revision on both sides"),
        },
        Ok(_) => skipped("a node runs there, which examines nobody: run haulout-doctor serve in its place for that"),
        Err(_) => skipped("it did not say what it found: see what it prints there"),
    }
}

/// Whoever sent it, it is one line.
fn of_another(finding: Finding, way: &str) -> Finding {
    let detail = finding.detail.chars().filter(|char| !char.is_control()).collect();
    Finding { way: way.to_owned(), detail, ..finding }
}
