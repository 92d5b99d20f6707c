//! Plots: a few acts within moments of each other, around a few children and two or three nodes. Each is what it takes
//! to get to a rule of the protocols that faults which strike on their own hardly ever reach together.
//!
//! A plot names roles and gaps; who plays which role and how long each gap is, is drawn.

use std::collections::BTreeMap;
use std::time::Duration;

use haulout::Restart;

use super::super::{Act, How, LinkName, SpecPlan, Timed};
use super::process::Nodes;
use super::{Draw, round, times};
use crate::cluster::{Resume, Sifting, Topic};
use crate::network::Class;
use crate::random::{Random, Range};

/// The kind of children that take a moment to stop, so that a move lasts long enough to be disturbed.
pub(super) const KIND: &str = "lingering";

/// Every plot, by the name of its fault.
pub(super) const NAMES: &[&str] = &[
    "newcomers",
    "old-answers",
    "pause-mid-move",
    "walled",
    "stopped",
    "temporary-moves",
    "overtaken",
    "replaced",
    "early-call",
    "startup-end",
    "again",
    "taken-over",
    "old-copy",
];

/// So many nodes may join for the sake of plots.
const NEWCOMERS_MAX: usize = 4;
/// The cluster has come to be by then, and what a plot leads to has time to show.
const EARLIEST: Duration = Duration::from_secs(6);
const LATEST: Duration = Duration::from_secs(12);

/// Everything that plots do, plot by plot.
pub(super) fn events(draw: &Draw, faults: &BTreeMap<String, f64>, nodes: &mut Nodes) -> Vec<Timed> {
    let mut events = Vec::new();
    let mut newcomers = 0;
    for name in NAMES {
        let Some(&rate) = faults.get(*name) else { continue };
        let mut random = draw.stream(&format!("plot {name}"));
        let all = times(&mut random, rate, draw.duration);
        for (number, at) in
            all.into_iter().filter(|at| (EARLIEST..draw.duration.saturating_sub(LATEST)).contains(at)).enumerate()
        {
            let random = random.fork();
            let name = format!("{name}-{number}");
            let mut plot =
                Plot { draw, faults, nodes, random, at, name, events: Vec::new(), newcomers: &mut newcomers };
            plot.play();
            events.append(&mut plot.events);
        }
    }
    events.retain(|timed| timed.at <= draw.duration);
    events
}

/// A plot that is being written.
struct Plot<'a> {
    draw: &'a Draw,
    faults: &'a BTreeMap<String, f64>,
    nodes: &'a mut Nodes,
    random: Random,
    /// When it begins.
    at: Duration,
    name: String,
    events: Vec<Timed>,
    /// How many nodes have joined for plots so far.
    newcomers: &'a mut usize,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Plot<'_> {
    fn play(&mut self) {
        let mut up: Vec<String> = self.nodes.up(self.at).into_iter().map(String::from).collect();
        // A fair shuffle, so that roles are drawn by place.
        for place in (1..up.len()).rev() {
            up.swap(place, self.random.below(place + 1));
        }
        let Some(first) = up.first().cloned() else { return };
        match self.name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-') {
            "newcomers" => self.newcomers(&first),
            "old-answers" => self.old_answers(&up),
            "pause-mid-move" => self.pause_mid_move(&first),
            "walled" => self.walled(&up),
            "stopped" => self.stopped(&up),
            "temporary-moves" => self.temporary_moves(&up),
            "overtaken" => self.overtaken(&up),
            "replaced" => self.replaced(&up),
            "early-call" => self.early_call(&up),
            "startup-end" => self.startup_end(&first),
            "taken-over" => self.taken_over(&up),
            "old-copy" => self.old_copy(&up),
            _ => self.again(&up),
        }
    }

    fn push(&mut self, after: Duration, act: Act) {
        self.events.push(Timed::new(self.at + after, act));
    }

    /// A moment, drawn.
    fn moment(&mut self, least: u64, most: u64) -> Duration {
        round(self.random.duration(Range::millis(least, most)))
    }

    fn newcomer(&mut self, after: Duration) -> Option<String> {
        let number = *self.newcomers;
        (number < NEWCOMERS_MAX).then(|| {
            *self.newcomers += 1;
            self.nodes.newcomer(self.draw, self.faults, &format!("{}-{number}", self.name), self.at + after)
        })
    }

    /// What is told about some things from one node (or all) to another (or all) is late, or comes again.
    fn sift(&mut self, after: Duration, ends: [&str; 2], what: &[Topic], how: Sifting, by: Range, lasting: Duration) {
        let [from, to] = ends.map(String::from);
        self.push(after, Act::Sift { from, to, what: what.to_vec(), how, by, lasting: Some(lasting) });
    }

    /// Several children at once, gone again a while later.
    fn start_many(&mut self, after: Duration, on: &str, count: usize, spec: SpecPlan) {
        let id = format!("{}-{}", self.name, self.events.len());
        let (on, other) = (on.to_owned(), on.to_owned());
        self.push(after, Act::StartMany { id: id.clone(), on, count, spec });
        self.push(after + ms(20_000), Act::TerminateMany { id, on: other, count });
    }

    fn lingering() -> SpecPlan {
        SpecPlan { kind: KIND.into(), ..SpecPlan::default() }
    }

    fn variant(args: &str) -> SpecPlan {
        SpecPlan { args: args.into(), ..SpecPlan::default() }
    }

    fn ids(&self, count: usize) -> Vec<String> {
        (0..count).map(|number| format!("{}-{number}", self.name)).collect()
    }

    /// Two or three nodes join together, and what the others say of members is late.
    fn newcomers(&mut self, on: &str) {
        self.start_many(Duration::ZERO, on, 12, Self::lingering());
        let join = ms(1_000);
        let apart = if self.random.chance(0.5) { 0 } else { 3 };
        for _ in 0..self.random.between(2, 3) {
            let after = join + self.moment(0, apart);
            let Some(newcomer) = self.newcomer(after) else { return };
            let late = Range::millis(150, 250);
            self.sift(join, ["", &newcomer], &[Topic::Gossip, Topic::Tables], Sifting::Delay, late, ms(3_000));
        }
    }

    /// A node that has not settled permits everything. It settles, takes children over and leaves; then what it once
    /// permitted is heard again.
    fn old_answers(&mut self, up: &[String]) {
        let Some(newcomer) = self.newcomer(Duration::ZERO) else { return };
        let again = Range::millis(500, 5_000);
        self.sift(Duration::ZERO, [&newcomer, ""], &[Topic::Answers], Sifting::Copy, again, ms(4_000));
        let late = Range::millis(100, 250);
        self.sift(Duration::ZERO, ["", &newcomer], &[Topic::Pulls], Sifting::Delay, late, ms(3_000));
        for number in 0..4 {
            let after = self.moment(20, 1_200);
            self.start_many(after, &up[number % up.len()].clone(), 5, Self::lingering());
        }
        let leave = self.moment(1_500, 4_500);
        if self.nodes.take_away(&newcomer, self.at + leave, self.at + leave + ms(15_000)) {
            self.push(leave, Act::Down { node: newcomer, how: How::Leave, lasting: Some(ms(6_000)) });
        }
    }

    /// A newcomer stands still while it collects permissions, until others have taken over.
    fn pause_mid_move(&mut self, on: &str) {
        self.start_many(Duration::ZERO, on, 20, Self::lingering());
        let join = ms(2_000);
        let Some(newcomer) = self.newcomer(join) else { return };
        let pause = join + self.moment(20, 1_500);
        let lasting = self.moment(3_000, 12_000);
        let resume = *self.random.pick(&[Resume::PacketsFirst, Resume::TimersFirst]).unwrap_or(&Resume::PacketsFirst);
        if self.nodes.take_away(&newcomer, self.at + pause, self.at + pause + lasting) {
            self.push(pause, Act::Pause { node: newcomer, resume: Some(resume), lasting: Some(lasting) });
        }
    }

    /// All others, or all but one, who hear nothing besides, are refused by a firewall before one node.
    fn walled(&mut self, up: &[String]) {
        let [node, others @ ..] = up else { return };
        let datagrams_pass = self.random.chance(0.5);
        let from = if datagrams_pass { others } else { others.split_last().map_or(others, |(_, most)| most) };
        let links = from.iter().map(|from| LinkName::one_way(from, node)).collect();
        let lasting = Some(self.moment(500, 3_000));
        self.push(Duration::ZERO, Act::Reject { links, datagrams_pass, lasting });
    }

    /// A process stands still, for less than failure detection takes or for more, and its streams break meanwhile.
    fn stopped(&mut self, up: &[String]) {
        let [node, others @ ..] = up else { return };
        let lasting = self.moment(300, 6_000);
        let resume = *self.random.pick(&[Resume::PacketsFirst, Resume::TimersFirst]).unwrap_or(&Resume::PacketsFirst);
        if self.nodes.take_away(node, self.at, self.at + lasting) {
            self.push(Duration::ZERO, Act::Pause { node: node.clone(), resume: Some(resume), lasting: Some(lasting) });
            let links = others.iter().map(|other| LinkName::both(node, other)).collect();
            let after = self.moment(1, 200);
            self.push(after, Act::Reset { links });
        }
    }

    /// Whoever joins hears of Temporary children, but not where they run.
    fn temporary_moves(&mut self, up: &[String]) {
        self.sift(Duration::ZERO, ["", ""], &[Topic::Claims], Sifting::Delay, Range::millis(200, 250), ms(3_000));
        let join = ms(500);
        if self.newcomer(join).is_none() {
            return;
        }
        for number in 0..6 {
            let after = join + self.moment(0, 400);
            let spec = SpecPlan { restart: Restart::Temporary, ..SpecPlan::default() };
            self.start_many(after, &up[number % up.len()].clone(), 3, spec);
        }
    }

    /// The removal of what a node has just started is known everywhere before the start, and the node is gone when the
    /// start arrives.
    fn overtaken(&mut self, up: &[String]) {
        let Some(writer) =
            up.iter().find(|name| up.len() > 2 && self.nodes.take_away(name, self.at + ms(150), self.at + ms(25_000)))
        else {
            return;
        };
        let late = Range::millis(150, 250);
        self.sift(Duration::ZERO, [writer, ""], &[Topic::Starts, Topic::Asks], Sifting::Delay, late, ms(500));
        for id in self.ids(6) {
            let after = self.moment(1, 30);
            let (start, end) = (id.clone(), after + self.moment(1, 3));
            let (on, spec) = (writer.clone(), Self::lingering());
            self.push(after, Act::Start { id: start, on: on.clone(), replicated: 0, spec });
            self.push(end, Act::Terminate { id, on, replicated: up.len() });
        }
        let gone = self.moment(150, 170);
        self.push(gone, Act::Down { node: writer.clone(), how: How::Crash, lasting: Some(ms(24_000)) });
    }

    /// A child is started on a node that is cut off at once; another one updates it, a third one terminates it knowing
    /// the update only, and the second is gone before the first comes back.
    fn replaced(&mut self, up: &[String]) {
        let [starter, updater, terminator, ..] = up else { return };
        let (starter, updater, terminator) = (starter.clone(), updater.clone(), terminator.clone());
        // Before the questions of the owner take the way through others.
        let gap = self.moment(1, 40);
        let (update, end) = (ms(5) + gap, ms(5) + gap + self.moment(30, 150));
        let crash = end + self.moment(5, 40);
        if !self.nodes.take_away(&updater, self.at + crash, self.at + ms(25_000)) {
            return;
        }
        let lasting = Some(self.moment(2_000, 5_000));
        let cut = |links| Act::Cut { links, class: Class::All, flap: None, lasting };
        let others = up.iter().filter(|name| **name != starter && **name != updater);
        let links = others.map(|other| LinkName::both(&starter, other)).collect();
        self.push(Duration::ZERO, cut(links));
        self.push(update, cut(vec![LinkName::both(&starter, &updater)]));
        for id in self.ids(12) {
            let on = [&starter, &updater, &terminator].map(String::clone);
            let [starter, updater, terminator] = on;
            let (old, new) = (Self::variant("0"), Self::variant("1"));
            self.push(ms(5), Act::Start { id: id.clone(), on: starter, replicated: 0, spec: old });
            self.push(update, Act::Update { id: id.clone(), on: updater, replicated: up.len(), spec: new.clone() });
            // Starts nothing where the update is known, and says so.
            self.push(end, Act::Start { id: id.clone(), on: terminator.clone(), replicated: 0, spec: new });
            self.push(end, Act::Terminate { id, on: terminator, replicated: 0 });
        }
        self.push(crash, Act::Down { node: updater, how: How::Crash, lasting: Some(ms(24_000)) });
    }

    /// An id that is taken is asked for on a node that has not heard of anything yet.
    fn early_call(&mut self, up: &[String]) {
        let join = ms(1_000);
        let Some(newcomer) = self.newcomer(join) else { return };
        for (number, id) in self.ids(5).into_iter().enumerate() {
            let on = up[number % up.len()].clone();
            self.push(
                Duration::ZERO,
                Act::Start { id: id.clone(), on, replicated: up.len(), spec: Self::variant("0") },
            );
            let after = join + self.moment(1, 150);
            let on = newcomer.clone();
            self.push(after, Act::Start { id, on, replicated: 0, spec: Self::variant("1") });
        }
    }

    /// Whoever joins brings a start-up child along that was terminated before.
    fn startup_end(&mut self, on: &str) {
        for number in 0..2 {
            let id = format!("startup-{number}");
            self.push(Duration::ZERO, Act::Terminate { id, on: on.to_owned(), replicated: 0 });
        }
        let join = self.moment(200, 4_000);
        let _ = self.newcomer(join);
    }

    /// The new life of a child is known before the end of the old one is.
    fn again(&mut self, up: &[String]) {
        let [first, second, ..] = up else { return };
        let end = ms(1_000);
        let late = Range::millis(100, 250);
        self.sift(end, [second, ""], &[Topic::Removals], Sifting::Delay, late, ms(1_000));
        for id in self.ids(4) {
            let spec = Self::variant("0");
            self.push(Duration::ZERO, Act::Start { id: id.clone(), on: first.clone(), replicated: up.len(), spec });
            let after = end + self.moment(1, 20);
            let (on, spec) = (second.clone(), Self::variant("1"));
            self.push(after, Act::Terminate { id: id.clone(), on: on.clone(), replicated: 0 });
            let again = after + self.moment(0, 2);
            self.push(again, Act::Start { id, on, replicated: 0, spec });
        }
    }
    /// Children are terminated while they move to a newcomer, which hears it late, and their runner dies before it has
    /// answered.
    fn taken_over(&mut self, up: &[String]) {
        let [ender, runner, ..] = up else { return };
        let join = ms(2_000);
        let end = join + self.moment(60, 900);
        let crash = end + self.moment(1, 15);
        let gone = self.moment(10, 60);
        let is_enough = up.len() > 2 && self.nodes.take_away(runner, self.at + crash, self.at + crash + gone);
        let Some(newcomer) = is_enough.then(|| self.newcomer(join)).flatten() else { return };
        self.sift(join, ["", &newcomer], &[Topic::Removals], Sifting::Lose, Range::ZERO, ms(4_000));
        for id in self.ids(20) {
            let on = ender.clone();
            self.push(Duration::ZERO, Act::Start { id: id.clone(), on, replicated: 0, spec: Self::lingering() });
            self.push(end, Act::Terminate { id, on: ender.clone(), replicated: 0 });
        }
        self.push(crash, Act::Down { node: runner.clone(), how: How::Crash, lasting: Some(gone) });
    }

    /// A node starts and terminates children of which only one other can hear, by exchange; the starts reach that one
    /// in the middle of an exchange, and their node is gone after it.
    fn old_copy(&mut self, up: &[String]) {
        let [writer, reader, ..] = up else { return };
        let crash = self.moment(3_000, 5_000);
        if up.len() < 3 || !self.nodes.take_away(writer, self.at + crash, self.at + ms(25_000)) {
            return;
        }
        let others = up.iter().filter(|name| *name != writer && *name != reader);
        let links = others.map(|other| LinkName::both(writer, other)).collect();
        self.push(Duration::ZERO, Act::Cut { links, class: Class::All, flap: None, lasting: Some(ms(8_000)) });
        let ends = [&writer[..], &reader[..]];
        self.sift(Duration::ZERO, ends, &[Topic::Removals], Sifting::Lose, Range::ZERO, ms(8_000));
        let late = Range::millis(300, 3_000);
        self.sift(Duration::ZERO, ends, &[Topic::Starts, Topic::Asks], Sifting::Delay, late, ms(8_000));
        self.sift(Duration::ZERO, ends, &[Topic::Pulls], Sifting::Delay, Range::millis(150, 250), ms(8_000));
        for id in self.ids(8) {
            let after = self.moment(1, 1_000);
            let end = after + self.moment(1, 3);
            let on = writer.clone();
            self.push(after, Act::Start { id: id.clone(), on: on.clone(), replicated: 0, spec: SpecPlan::default() });
            self.push(end, Act::Terminate { id, on, replicated: 0 });
        }
        self.push(crash, Act::Down { node: writer.clone(), how: How::Crash, lasting: Some(ms(20_000)) });
    }
}
