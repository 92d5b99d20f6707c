//! One message for each thing that can be said, named after the type and the variant that it stands for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use haulout::proto::group::comparison::SeenStep;
use haulout::proto::group::replica::{Record, Span};
use haulout::proto::group::trie::Sums;
use haulout::proto::group::{ChildKey, Claim, ClaimState, Desired, MemberRecord, Owned, OwnedKey, Ranges};
use haulout::proto::wire::{
    Answer, Ask, Exchange, Hello, Life, Members, Message, Opening, Purpose, Refusal, ScopeMessage, Snap, Status, Step,
    TableEntry, TableState, Turn, Verdict, Welcome,
};
use haulout::proto::{Dot, Epoch, Identity, InstanceId, ScopeId};
use haulout::{ChildId, ChildSpec, Kind, Restart, Shutdown};

/// A message and what it is the sample of.
pub(crate) type Sample = (&'static str, Message);

pub(crate) fn identity(number: u8) -> Identity {
    let addr = SocketAddr::from(([10, 0, 0, number], 7946));
    Identity { addr, bump: number.into(), instance: InstanceId::new(u64::from(number) << 56 | 9) }
}

pub(crate) fn scope() -> ScopeId {
    ScopeId::of("scope")
}

fn dot(n: u64) -> Dot {
    Dot { writer: identity(2).instance, n }
}

fn key() -> ChildKey {
    ChildKey::new(ChildId::new("sample").expect("an id"))
}

fn long_key() -> ChildKey {
    ChildKey::new(ChildId::new("a child whose name is too long to be kept inline").expect("an id"))
}

fn kind() -> Kind {
    Kind::new("kind").expect("a kind")
}

fn desired(restart: Restart, shutdown: Shutdown) -> Record<Desired> {
    let spec = ChildSpec::raw("sample", "kind", vec![1, 2, 3]).expect("a spec").restart(restart).shutdown(shutdown);
    Record {
        dot: dot(300),
        birth: 301,
        over: Some(dot(299)),
        value: Desired { spec: Arc::new(spec.spec().clone()), run: 2 },
    }
}

fn plain() -> Record<Desired> {
    desired(Restart::default(), Shutdown::default())
}

fn member() -> Record<Owned> {
    let record = MemberRecord {
        name: "seal-1".into(),
        weight: 100,
        kinds: vec![kind()],
        labels: vec![("zone".into(), "a".into())],
        version: "1.2.3".into(),
        settled: true,
        joined: u64::MAX,
        draining: false,
        left: true,
    };
    Record { dot: dot(1), birth: 1, over: None, value: Owned::Member(Arc::new(record)) }
}

fn claim(state: ClaimState) -> Record<Owned> {
    let epoch = Epoch { birth: 301, run: 3 };
    let last_error = Some("connection refused".to_owned().into());
    let claim = Claim { state, life: dot(300), epoch, since_ms: 1_735_689_600_000, restarts: 2, last_error };
    Record { dot: dot(7), birth: 8, over: Some(dot(6)), value: Owned::Claim(claim) }
}

fn ranges() -> Ranges {
    let mut ranges = Ranges::default();
    for n in [1, 2, 3, 70_000, u64::MAX] {
        ranges.insert(n);
    }
    ranges
}

fn hello(purpose: Purpose) -> Message {
    Message::Hello(Hello {
        cluster: "reef".into(),
        placement: 0x0123_4567_89ab_cdef,
        name: "seal-1".into(),
        purpose,
        nonce: [7; 16],
    })
}

fn table(state: TableState) -> Vec<TableEntry> {
    vec![TableEntry { identity: identity(1), incarnation: 5, state }]
}

fn ask() -> Ask {
    let Record { dot, birth, over, value } = plain();
    Ask { key: key(), life: dot, birth, over, spec: Some(value.spec), round: 4, attempt: 1, run: value.run }
}

fn answer(verdict: Verdict, life: Life) -> ScopeMessage {
    let to = identity(1).instance;
    ScopeMessage::Answer(Answer { key: key(), to, round: 4, attempt: 1, verdict, asked: dot(300), life, run: 2 })
}

fn sums() -> Sums {
    Sums(std::array::from_fn(|branch| if branch % 5 == 0 { u64::MAX - branch as u64 } else { 0 }))
}

fn step() -> Step {
    Step { nodes: vec![(1, 15, sums())], list: vec![(2, 255), (3, 4_095)] }
}

fn seen() -> SeenStep {
    let told = || vec![(identity(2).instance, ranges())];
    SeenStep { nodes: vec![(1, 3, sums())], told: vec![(2, 17, told())], corrected: told(), more: true }
}

fn turn() -> Box<Turn> {
    Box::new(Turn { seen: seen(), records: step() })
}

fn snap() -> Box<Snap> {
    Box::new(Snap { top: 301, depth: 2, turn: *turn() })
}

/// Every sample.
pub(crate) fn samples() -> Vec<Sample> {
    let mut samples = of_members();
    let scoped = |(name, message)| (name, Message::Scoped(message));
    samples.extend(of_scopes().into_iter().map(scoped));
    samples.extend(of_values().into_iter().map(scoped));
    samples
        .extend(of_exchanges().into_iter().map(|(name, step)| (name, Message::Scoped(ScopeMessage::Exchange(step)))));
    samples
}

fn of_members() -> Vec<Sample> {
    let inner = postcard::to_stdvec(&Message::Probe(7)).expect("a message");
    vec![
        ("Message::Hello", hello(Purpose::Messages)),
        ("Purpose::Messages", hello(Purpose::Messages)),
        ("Purpose::Join", hello(Purpose::Join)),
        ("Purpose::Watch", hello(Purpose::Watch)),
        ("Purpose::Examine", hello(Purpose::Examine)),
        (
            "Message::Welcome",
            Message::Welcome(Welcome { name: "seal-2".into(), nonce: [8; 16], table: table(TableState::Alive) }),
        ),
        ("Message::Refuse", Message::Refuse(Refusal::Cluster("reef".into()))),
        ("Refusal::Cluster", Message::Refuse(Refusal::Cluster("reef".into()))),
        ("Refusal::Placement", Message::Refuse(Refusal::Placement)),
        (
            "Refusal::Name",
            Message::Refuse(Refusal::Name("seal-1".into(), "[fd00::5]:7946".parse().expect("an address"))),
        ),
        ("Refusal::Full", Message::Refuse(Refusal::Full)),
        ("Message::Suspected", Message::Suspected(identity(1), 5)),
        ("Message::YouAreDown", Message::YouAreDown(identity(1), 70_000)),
        ("Message::TableRequest", Message::TableRequest),
        ("Message::Table", Message::Table(table(TableState::Alive))),
        ("TableState::Alive", Message::Table(table(TableState::Alive))),
        ("TableState::Suspect", Message::Table(table(TableState::Suspect))),
        ("TableState::Down", Message::Table(table(TableState::Down))),
        (
            "Message::Members",
            Message::Members(Members { active: u64::MAX, gone: 3, recent: vec![identity(1), identity(2)] }),
        ),
        ("Message::Relay", Message::Relay(identity(3), inner.clone())),
        ("Message::Relayed", Message::Relayed(identity(3), inner)),
        ("Message::Unwatch", Message::Unwatch),
        ("Message::Probe", Message::Probe(300)),
        ("Message::Echo", Message::Echo(300)),
        ("Message::Look", Message::Look(300, identity(2))),
        ("Message::Looked", Message::Looked(300, true)),
        ("Message::Pulse", Message::Pulse(2_500)),
        ("Message::Silent", Message::Silent(identity(1), 5)),
        ("Message::Lives", Message::Lives(identity(1), 5)),
        ("Message::Roots", Message::Roots([(scope(), 7), (ScopeId::of("other"), u64::MAX)].into_iter().collect())),
        ("Message::LastRoots", Message::LastRoots([(scope(), 7)].into_iter().collect())),
        ("Message::Scope", Message::Scope(scope())),
        ("Message::Scoped", Message::Scoped(ScopeMessage::StatusRequest)),
        ("Message::Rumour", Message::Rumour(300)),
        ("Message::Challenge", Message::Challenge(300)),
        ("Message::Proof", Message::Proof(300)),
        ("Message::Examine", Message::Examine(300)),
        ("Message::Examined", Message::Examined(300, 1_735_689_600_000)),
    ]
}

fn of_scopes() -> Vec<(&'static str, ScopeMessage)> {
    let lead = ScopeMessage::Lead { version: 1, echo: 0, record: Some(Box::new(member())) };
    vec![
        ("ScopeMessage::Lead", lead),
        ("ScopeMessage::Put", ScopeMessage::Put(long_key(), plain())),
        ("ScopeMessage::PutDirect", ScopeMessage::PutDirect(key(), plain())),
        ("ScopeMessage::Del", ScopeMessage::Del { key: key(), dot: dot(300), birth: 301, direct: true }),
        ("ScopeMessage::Ack", ScopeMessage::Ack(key(), dot(300))),
        ("ScopeMessage::PutOwned", ScopeMessage::PutOwned(OwnedKey::member(identity(2).instance), member())),
        ("ScopeMessage::DelOwned", ScopeMessage::DelOwned(OwnedKey::claim(&key(), identity(2).instance), dot(7))),
        ("ScopeMessage::Ask", ScopeMessage::Ask(ask())),
        ("ScopeMessage::Answer", answer(Verdict::Free, Life::Fine)),
        ("ScopeMessage::StatusRequest", ScopeMessage::StatusRequest),
        ("ScopeMessage::Status", ScopeMessage::Status(Status::Settled)),
        ("ScopeMessage::Find", ScopeMessage::Find(9, key())),
        ("ScopeMessage::Found", ScopeMessage::Found(9, key(), Some(plain()))),
        ("ScopeMessage::Exchange", ScopeMessage::Exchange(Exchange::More { session: 1 })),
    ]
}

fn of_values() -> Vec<(&'static str, ScopeMessage)> {
    let put = |restart, shutdown| ScopeMessage::Put(key(), desired(restart, shutdown));
    let stop = Shutdown::default();
    let claimed = |state| ScopeMessage::PutOwned(OwnedKey::claim(&key(), identity(2).instance), claim(state));
    vec![
        ("Verdict::Free", answer(Verdict::Free, Life::Fine)),
        ("Verdict::Busy", answer(Verdict::Busy, Life::Fine)),
        ("Life::Fine", answer(Verdict::Free, Life::Fine)),
        ("Life::Gone", answer(Verdict::Free, Life::Gone(302))),
        ("Life::Replaced", answer(Verdict::Free, Life::Replaced)),
        ("Status::Absent", ScopeMessage::Status(Status::Absent)),
        ("Status::Unsettled", ScopeMessage::Status(Status::Unsettled)),
        ("Status::Settled", ScopeMessage::Status(Status::Settled)),
        ("Restart::Permanent", put(Restart::Permanent, stop)),
        ("Restart::Transient", put(Restart::Transient, stop)),
        ("Restart::Temporary", put(Restart::Temporary, stop)),
        ("Shutdown::Timeout", put(Restart::Permanent, Shutdown::Timeout(Duration::from_millis(1_500)))),
        ("Shutdown::Brutal", put(Restart::Permanent, Shutdown::Brutal)),
        ("Shutdown::Infinity", put(Restart::Permanent, Shutdown::Infinity)),
        ("Owned::Member", ScopeMessage::PutOwned(OwnedKey::member(identity(2).instance), member())),
        ("Owned::Claim", claimed(ClaimState::Running)),
        ("ClaimState::Starting", claimed(ClaimState::Starting)),
        ("ClaimState::Running", claimed(ClaimState::Running)),
        ("ClaimState::Stopping", claimed(ClaimState::Stopping)),
        ("ClaimState::Backoff", claimed(ClaimState::Backoff)),
        ("ClaimState::Declined", claimed(ClaimState::Declined)),
    ]
}

fn of_exchanges() -> Vec<(&'static str, Exchange)> {
    let session = 3;
    let opening = || Box::new(Opening { seen: sums(), records: Sums::default() });
    let span = Span { positions: (0, u64::MAX), listed: vec![(key(), dot(300), 2)], bodies: vec![(key(), plain())] };
    let owned_key = OwnedKey::member(identity(2).instance);
    let owned =
        Span { positions: (1, 2), listed: vec![(owned_key.clone(), dot(1), 0)], bodies: vec![(owned_key, member())] };
    let gone = vec![identity(4).instance];
    vec![
        ("Exchange::Pull", Exchange::Pull { session, members: 11, desired: opening(), owned: opening() }),
        ("Exchange::Snap", Exchange::Snap { session, settled: true, desired: snap(), owned: snap() }),
        ("Exchange::Descend", Exchange::Descend { session, desired: turn(), owned: turn() }),
        ("Exchange::Deeper", Exchange::Deeper { session, desired: turn(), owned: turn() }),
        ("Exchange::More", Exchange::More { session }),
        (
            "Exchange::Spans",
            Exchange::Spans {
                session,
                last: true,
                gone,
                seen: Box::new((seen(), SeenStep::default())),
                desired: vec![span],
                owned: vec![owned],
            },
        ),
        ("Exchange::Absent", Exchange::Absent { session }),
        ("Exchange::Busy", Exchange::Busy { session }),
    ]
}
