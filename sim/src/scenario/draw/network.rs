//! What happens to links.

use std::collections::BTreeMap;
use std::time::Duration;

use haulout::Config;

use super::super::{Act, LinkName, Timed};
use super::{Draw, lasting, round, times};
use crate::network::{Class, Link};
use crate::random::{Random, Range};

/// Everything that happens to links, fault by fault.
pub(super) fn events(draw: &Draw, faults: &BTreeMap<String, f64>, names: &[String], config: &Config) -> Vec<Timed> {
    let mut events = Vec::new();
    if names.len() < 2 {
        return events;
    }
    for name in NAMES {
        let Some(&rate) = faults.get(*name) else { continue };
        let mut random = draw.stream(&format!("fault {name}"));
        for at in times(&mut random, rate, draw.duration) {
            let act = act(name, &mut random, names, config);
            events.push(Timed::new(at, act));
        }
    }
    events
}

const NAMES: &[&str] = &[
    "cut",
    "cut-one-way",
    "cut-class",
    "split",
    "bridge",
    "ring",
    "isolate",
    "flap",
    "clog",
    "reject",
    "unwell",
    "forget",
    "weather",
    "degrade",
];

fn act(fault: &str, random: &mut Random, names: &[String], config: &Config) -> Act {
    let lasts = Some(lasting(random));
    let class = *random.pick(&[Class::Datagrams, Class::Streams]).unwrap_or(&Class::Streams);
    let flap = Some(round(random.duration(Range::new(Duration::from_millis(50), config.profile.probe_period() * 3))));
    let (one, other) = pair(random, names);
    let link = worse(random);
    let halves = halves(random, names);
    match fault {
        "cut" => cut(vec![LinkName::both(&one, &other)], Class::All, None, lasts),
        "cut-one-way" => cut(vec![LinkName::one_way(&one, &other)], Class::All, None, lasts),
        "cut-class" if random.chance(0.5) => Act::Split { sides: halves, class, flap: None, lasting: lasts },
        "cut-class" => cut(vec![LinkName::both(&one, &other)], class, None, lasts),
        "split" => Act::Split { sides: halves, class: Class::All, flap: None, lasting: lasts },
        "bridge" => Act::Split { sides: without_one(random, halves), class: Class::All, flap: None, lasting: lasts },
        "ring" => Act::Ring { lasting: lasts },
        "isolate" => Act::Split {
            sides: vec![vec![one.clone()], others(names, &one)],
            class: Class::All,
            flap: None,
            lasting: lasts,
        },
        "flap" if random.chance(0.5) => Act::Split { sides: halves, class: Class::All, flap, lasting: lasts },
        "flap" => cut(vec![LinkName::both(&one, &other)], Class::All, flap, lasts),
        "clog" => {
            let links = [LinkName::both(&one, &other), LinkName::one_way(&one, &other)];
            Act::Clog { links: random.pick(&links).cloned().into_iter().collect(), lasting: lasts }
        }
        "reject" => {
            // A firewall before one node, or between two.
            let to_one = others(names, &one).iter().map(|from| LinkName::one_way(from, &one)).collect();
            let links = if random.chance(0.5) { to_one } else { vec![LinkName::both(&one, &other)] };
            Act::Reject { links, datagrams_pass: random.chance(0.7), lasting: lasts }
        }
        "unwell" => Act::Unwell { node: one, lasting: lasts },
        "forget" => Act::Reset { links: others(names, &one).iter().map(|to| LinkName::both(&one, to)).collect() },
        "weather" => Act::Weather { link, lasting: lasts },
        _ => Act::Degrade { links: vec![LinkName::both(&one, &other)], link, lasting: lasts },
    }
}

fn cut(links: Vec<LinkName>, class: Class, flap: Option<Duration>, lasting: Option<Duration>) -> Act {
    Act::Cut { links, class, flap, lasting }
}

/// Two different nodes.
fn pair(random: &mut Random, names: &[String]) -> (String, String) {
    let one = random.below(names.len());
    let other = (one + 1 + random.below(names.len() - 1)) % names.len();
    (names[one].clone(), names[other].clone())
}

/// Two groups, neither of them empty.
fn halves(random: &mut Random, names: &[String]) -> Vec<Vec<String>> {
    let first = random.below(names.len());
    let second = (first + 1 + random.below(names.len() - 1)) % names.len();
    let mut sides = vec![Vec::new(), Vec::new()];
    for (number, name) in names.iter().enumerate() {
        let drawn = random.below(2);
        let side = if number == first {
            0
        } else if number == second {
            1
        } else {
            drawn
        };
        sides[side].push(name.clone());
    }
    sides
}

/// One node is in no group and talks to all, where that leaves two groups.
fn without_one(random: &mut Random, mut sides: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let larger = usize::from(sides[1].len() > sides[0].len());
    if sides[larger].len() > 1 {
        let bridge = random.below(sides[larger].len());
        sides[larger].remove(bridge);
    }
    sides
}

fn others(names: &[String], one: &str) -> Vec<String> {
    names.iter().filter(|name| *name != one).cloned().collect()
}

/// A link that is worse than it should be, in one or several ways.
fn worse(random: &mut Random) -> Link {
    let slowest = round(random.duration(Range::millis(5, 300)));
    let (loss, burst) =
        (*random.pick(&[0.0, 0.1, 0.25, 0.4]).unwrap_or(&0.25), *random.pick(&[0.0, 0.0, 0.8]).unwrap_or(&0.0));
    let (duplicate, tail) = (*random.pick(&[0.0, 0.2]).unwrap_or(&0.0), *random.pick(&[0.0, 0.1]).unwrap_or(&0.0));
    Link {
        delay: Range::new(Duration::from_micros(500), slowest),
        loss,
        burst_loss: burst,
        burst_every: Range::millis(500, 3_000),
        burst_length: Range::millis(100, 1_000),
        duplicate,
        tail,
        tail_delay: Range::millis(50, 1_000),
        ..Link::default()
    }
}
