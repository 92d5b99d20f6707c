//! One node that is driven by hand, for input that no other node would send.

use std::net::SocketAddr;
use std::sync::Arc;

use haulout::proto::{
    Birth, ChildEvent, Command, ConnId, InstanceId, Node, Output, Reply, RequestId, RunId, ScopeId, ScopeSetup,
    StreamEvent, Time,
};
use haulout::{ChildState, Config, Event, Kind, Outcome, RefusalReason, Security, Which};
use haulout_sim::random::Random;

use crate::support::*;

/// The id of its child.
const CHILD: &str = "child";

/// A node that is driven by hand, with one child that runs. Others that it is talked into starting never come up.
pub(crate) struct Lone {
    pub(crate) node: Node,
    pub(crate) now: Time,
    pub(crate) closed: usize,
    pub(crate) random: Random,
    run: Option<RunId>,
    replies: Vec<Reply>,
    events: Vec<Event>,
    streams: u64,
}

impl Lone {
    pub(crate) fn new() -> Self {
        Lone::secured_by(Security::Plaintext { allow_beyond_loopback: true })
    }

    pub(crate) fn secured_by(security: Security) -> Self {
        Lone::of(Config { security, ..Config::default() })
    }

    pub(crate) fn of(config: Config) -> Self {
        let addr = SocketAddr::from(([10, 9, 9, 9], 7946));
        let config = Config { bind: addr, ..config };
        let birth = Birth {
            addr,
            instance: InstanceId::new(99),
            seed: [7; 32],
            wall_ms_at_zero: 0,
            sabotage: Default::default(),
            fault_sites: Default::default(),
            fanout: Default::default(),
        };
        let node = Node::new(&config, birth, Time::ZERO).expect("a node");
        let random = Random::stream(9, "frames");
        let mut lone = Lone {
            node,
            now: Time::ZERO,
            closed: 0,
            random,
            run: None,
            replies: Vec::new(),
            events: Vec::new(),
            streams: 0,
        };
        let setup = ScopeSetup {
            name: "scope".into(),
            kinds: vec![Kind::new("kind").expect("a kind")],
            weight: 100,
            labels: Vec::new(),
            version: String::new(),
            children: vec![spec(CHILD)],
        };
        lone.node.command(lone.now, RequestId(1), Command::JoinScope(setup));
        lone.run_for(3);
        lone.node.handle_child(lone.now, lone.run.expect("it is started"), ChildEvent::Started);
        lone.drain();
        lone
    }

    /// Does what the node asks; its child may neither be stopped nor started again.
    pub(crate) fn drain(&mut self) {
        while self.node.poll_transmit(self.now).is_some() {}
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::StartChild(start) if start.id.as_bytes() == CHILD.as_bytes() => {
                    assert!(self.run.replace(start.run).is_none(), "started again");
                }
                Output::StopChild { run, .. } => assert!(self.run != Some(run), "its child was stopped"),
                Output::Reply { reply, .. } => self.replies.push(reply),
                Output::Event { event, .. } => self.events.push(event),
                Output::Close { .. } => self.closed += 1,
                Output::Connect { conn, .. } => self.node.handle_stream(self.now, conn, StreamEvent::Closed),
                _ => {}
            }
            while self.node.poll_transmit(self.now).is_some() {}
        }
    }

    pub(crate) fn run_for(&mut self, seconds: u64) {
        let until = self.now + secs(seconds);
        while let Some((at, _)) = self.node.poll_timeout().filter(|(at, _)| *at <= until) {
            self.now = self.now.max(at);
            self.node.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    /// Somebody dials and sends these frames.
    pub(crate) fn dialled_with(&mut self, frames: &[&[u8]]) {
        let conn = self.held_with(frames);
        self.node.handle_stream(self.now, conn, StreamEvent::Closed);
        self.drain();
    }

    /// Somebody dials, sends these frames and keeps the stream open.
    pub(crate) fn held_with(&mut self, frames: &[&[u8]]) -> ConnId {
        let conn = self.accepted_from(1);
        for frame in frames {
            self.node.handle_stream(self.now, conn, StreamEvent::Frame(frame));
            self.drain();
        }
        conn
    }

    /// A host dials and says nothing yet.
    pub(crate) fn accepted_from(&mut self, host: u8) -> ConnId {
        self.streams += 1;
        let conn = ConnId::accepted(self.streams);
        let from = SocketAddr::from(([10, 0, 0, host], 40_000));
        self.node.handle_stream(self.now, conn, StreamEvent::Accepted { from });
        conn
    }

    pub(crate) fn size(&self, name: &str) -> usize {
        self.node.sizes().into_iter().find(|size| size.name == name).expect("it is counted").len
    }

    pub(crate) fn standing_streams(&self) -> usize {
        self.size("standing streams")
    }

    /// What was told of refused input: each reason and count.
    pub(crate) fn refusals(&self) -> Vec<(RefusalReason, u64)> {
        let told = |event: &Event| match event {
            Event::InputRefused { reason, count, .. } => Some((*reason, *count)),
            _ => None,
        };
        self.events.iter().filter_map(told).collect()
    }

    /// Its child runs, and it still starts and stops others.
    pub(crate) fn assert_works(&mut self) {
        self.run_for(1);
        let list = Command::WhichChildren { scope: ScopeId::of("scope"), which: Which::Global };
        self.node.command(self.now, RequestId(2), list);
        self.drain();
        match self.replies.last() {
            Some(Reply::Children(children)) => {
                let child = children.iter().find(|child| child.id.as_bytes() == CHILD.as_bytes());
                assert_eq!(child.map(|child| &child.state), Some(&ChildState::Running));
            }
            other => panic!("{other:?}"),
        }
        let run = self.run.take().expect("its child");
        self.node.handle_child(self.now, run, ChildEvent::Exited(Outcome::Error(Arc::from("crash"))));
        self.drain();
        assert!(self.run.is_some(), "a crash is still repaired");
    }
}
