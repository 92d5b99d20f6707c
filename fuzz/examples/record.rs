//! Writes the seeds of every corpus: what simulated nodes said to each other, and files that people wrote.
//!
//! Usage: `cargo run --release --manifest-path fuzz/Cargo.toml --example record -- DIRECTORY`

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use haulout::proto::packet::Codec;
use haulout::proto::wire::{Message, ScopeMessage};
use haulout::proto::{InstanceId, Time};
use haulout::{ChildSpec, Config};
use haulout_fuzz::{Change, Deed, Lone, Report, Step, write};
use haulout_sim::random::Random;
use haulout_sim::scenario::Draw;
use haulout_sim::{Cluster, Link, NodeIdx, Options, Range, Treatment};

/// Seeds of one kind.
const COUNT: usize = 40;

fn main() {
    let directory = PathBuf::from(std::env::args().nth(1).expect("a directory"));
    let heard: Vec<Heard> = (1..=4).flat_map(recorded).collect();
    let seeds = |target: &str, seeds: Vec<Vec<u8>>| {
        let directory = directory.join(target);
        std::fs::create_dir_all(&directory).expect("a directory can be made");
        for (number, bytes) in seeds.iter().enumerate() {
            std::fs::write(directory.join(format!("seed-{number:03}")), bytes).expect("a file can be written");
        }
        println!("{target}: {} seeds", seeds.len());
    };
    seeds(
        "datagram",
        heard.iter().filter(|heard| !heard.is_stream).step_by(17).take(4 * COUNT).map(datagram).collect(),
    );
    let frames: Vec<Heard> = heard.iter().filter(|heard| heard.is_stream).cloned().collect();
    seeds("stream", frames.chunks(8).take(COUNT).map(|heard| script(Lone::new(), heard)).collect());
    seeds("node", heard.chunks(20).step_by(3).take(COUNT).map(|heard| script(Lone::new(), heard)).collect());
    seeds("keyed", heard.chunks(20).step_by(3).take(COUNT).map(|heard| script(Lone::keyed(), heard)).collect());
    seeds(
        "cluster",
        heard.chunks(12).step_by(11).take(COUNT / 2).map(lies).chain((0..COUNT as u64).map(deeds)).collect(),
    );
    seeds("merge", (0..COUNT as u64).map(changes).collect());
    seeds("config", configs());
    seeds("scenario", scenarios());
}

/// What node 0 heard.
#[derive(Clone)]
struct Heard {
    at: Time,
    from: u8,
    is_stream: bool,
    swim: Vec<u8>,
    messages: Vec<Message>,
}

/// Everything that the first of three nodes hears in a lively minute.
fn recorded(seed: u64) -> Vec<Heard> {
    let heard = Rc::new(RefCell::new(Vec::new()));
    let link = Link { loss: 0.02, delay: Range::millis(1, 5), ..Link::default() };
    let mut cluster = Cluster::new(Options { link, ..Options::seeded(seed) });
    let (kept, codec) = (Rc::clone(&heard), Codec::plaintext(&cluster.options().config.cluster));
    let mut opened = Vec::new();
    cluster.on_packet(move |packet| {
        let (from, is_stream) = (packet.from.0 as u8, packet.is_stream);
        if packet.to == NodeIdx(0)
            && let Ok(open) = codec.peek(packet.bytes, &mut opened)
        {
            let (mut messages, mut rest) = (Vec::new(), open.messages);
            while let Ok((message, after)) = postcard::take_from_bytes(rest) {
                messages.push(message);
                rest = after;
            }
            kept.borrow_mut().push(Heard { at: Time::ZERO, from, is_stream, swim: open.swim.to_vec(), messages });
        }
        Treatment::Pass
    });
    let now = |cluster: &Cluster| {
        let now = cluster.now();
        heard.borrow_mut().iter_mut().filter(|heard| heard.at == Time::ZERO).for_each(|heard| heard.at = now);
    };
    for number in 0..3 {
        let mut options = cluster.node_options();
        options.instance = Some(InstanceId::new(number + 1));
        cluster.add_node_with(&format!("n{number}"), options);
    }
    let mut random = Random::stream(seed, "record");
    for second in 0..60 {
        for _ in 0..10 {
            cluster.run_for(Duration::from_millis(100));
            now(&cluster);
        }
        let on = NodeIdx(random.below(3));
        let id = format!("child-{}", random.below(16));
        match second {
            20 => cluster.split(&[NodeIdx(0)]),
            30 => cluster.heal(),
            40 => cluster.crash(NodeIdx(2)),
            48 => cluster.restart(NodeIdx(2)),
            55 => _ = cluster.leave(NodeIdx(1)),
            40..48 | 56.. => {}
            _ if second % 3 == 0 => _ = cluster.terminate(on, &id),
            _ => {
                let args = vec![7; if second % 7 == 0 { 2_000 } else { 8 }];
                _ = cluster.start(on, ChildSpec::raw(id.as_str(), "kind", args).expect("a spec"));
            }
        }
    }
    drop(cluster);
    heard.take()
}

fn datagram(heard: &Heard) -> Vec<u8> {
    let swim = &heard.swim[..heard.swim.len().min(255)];
    let mut bytes = vec![heard.from, swim.len() as u8];
    bytes.extend_from_slice(swim);
    heard.messages.iter().fold(bytes, |bytes, message| postcard::to_extend(message, bytes).expect("a message"))
}

/// What was heard as steps of one node, which does what it would do at once: its streams open and its children start.
fn script(mut lone: Lone, heard: &[Heard]) -> Vec<u8> {
    let mut steps = Vec::new();
    let mut now = heard.first().map_or(Time::ZERO, |heard| heard.at);
    for heard in heard {
        let streams = lone.streams();
        let passed = heard.at.since(now).as_millis() as u16;
        now = heard.at;
        let mut next = if passed > 0 { vec![Step::Wait(passed)] } else { Vec::new() };
        let Heard { from, is_stream, swim, messages, .. } = heard.clone();
        if !is_stream {
            next.push(Step::Datagram { from, swim, messages, noise: Vec::new() });
        } else {
            let is_first = matches!(messages.first(), Some(Message::Hello(_)));
            next.extend(is_first.then_some(Step::Accepted));
            let stream = (streams + usize::from(is_first)).saturating_sub(1) as u8;
            next.push(Step::Frame { stream, from, messages, noise: Vec::new() });
        }
        take(&mut lone, &mut steps, next);
        let dialled = (streams..lone.streams()).map(|stream| Step::Connected(stream as u8)).collect();
        take(&mut lone, &mut steps, dialled);
        let started = lone.starting().into_iter().map(|run| Step::Child { run, report: Report::Started }).collect();
        take(&mut lone, &mut steps, started);
    }
    write(&steps)
}

fn take(lone: &mut Lone, steps: &mut Vec<Step>, next: Vec<Step>) {
    next.iter().cloned().for_each(|step| lone.take(step));
    steps.extend(next);
}

/// What was heard, told to a cluster that has other things to do.
fn lies(heard: &[Heard]) -> Vec<u8> {
    let mut deeds = vec![Deed::Start { on: 0, child: 1 }, Deed::Wait(50)];
    for Heard { from, swim, messages, .. } in heard.iter().cloned() {
        let is_of_scope = |message: &Message| matches!(message, Message::Scoped(ScopeMessage::Exchange(_)));
        if !messages.iter().any(is_of_scope) {
            deeds.extend([Deed::Lie { at: 0, from, swim, messages }, Deed::Wait(20)]);
        }
    }
    write(&deeds)
}

/// Honest nodes in trouble.
fn deeds(seed: u64) -> Vec<u8> {
    let mut random = Random::stream(seed, "deeds");
    let mut byte = || random.bits() as u8;
    let deeds: Vec<Deed> = (0..12)
        .map(|_| match byte() % 10 {
            0..3 => Deed::Start { on: byte() % 3, child: byte() % 16 },
            3 => Deed::Terminate { on: byte() % 3, child: byte() % 16 },
            4 => Deed::Crash(byte() % 3),
            5 => Deed::Pause(byte() % 3),
            6 => Deed::Cut { from: byte() % 3, to: byte() % 3 },
            7 => Deed::Heal,
            8 => Deed::Noise { at: byte() % 3, bytes: vec![b'h', 1, 0, byte()] },
            _ => Deed::Wait(u16::from(byte()) * 20),
        })
        .collect();
    write(&deeds)
}

fn changes(seed: u64) -> Vec<u8> {
    let mut random = Random::stream(seed, "changes");
    let mut byte = || random.bits() as u8;
    let changes: Vec<Change> = (0..40)
        .map(|_| match byte() % 12 {
            0..3 => Change::Write { at: byte() % 3, key: byte() % 8 },
            3 => Change::Remove { at: byte() % 3, key: byte() % 8 },
            4..6 => Change::Hear { at: byte() % 3, told: byte() },
            6..8 => Change::HearTwo { at: byte() % 3, told: [byte(), byte()] },
            8 => Change::Pull { at: byte() % 3, from: byte() % 3 },
            9 | 10 => Change::More { at: byte() % 3, lines: byte() % 4 },
            _ if seed.is_multiple_of(2) => Change::Lose(byte() % 3),
            _ => Change::Abort(byte() % 3),
        })
        .collect();
    write(&changes)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn configs() -> Vec<Vec<u8>> {
    let manual = read(&repository().join("README.md"));
    let shown = manual.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned);
    let default = toml::to_string(&Config::default()).expect("the default can be written");
    shown.chain([default]).map(String::into_bytes).collect()
}

fn scenarios() -> Vec<Vec<u8>> {
    let directory = repository().join("sim/scenarios");
    let mut files: Vec<PathBuf> =
        directory.read_dir().expect("scenarios").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let written = files.iter().map(|file| read(file));
    let drawn = (0..20).map(|seed| Draw::seeded(seed).scenario().to_string());
    written.chain(drawn).map(String::into_bytes).collect()
}
