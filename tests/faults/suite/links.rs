//! What the faults under way do to the links between hosts, and the packet filters that make it so.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use haulout_sim::scenario::{Act, Direction, LinkName};
use haulout_sim::{Link, PacketClass, Range};

/// What happens to packets from one node to another.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Way {
    pub(crate) cut: Option<PacketClass>,
    refuses_streams: bool,
    loss: f64,
    pub(crate) delay: Option<Range>,
}

/// The ways that are not as they should be, by sender and receiver.
pub(crate) type Links = BTreeMap<(String, String), Way>;

/// What these faults do together.
///
/// # Errors
/// What packet filters can't do.
pub(crate) fn links(acts: &[&Act], nodes: &[String]) -> Result<Links, String> {
    let mut links = Links::new();
    for act in acts {
        match act {
            Act::Cut { links: names, class, flap: None, .. } => cut(&mut links, named(names), *class),
            Act::Split { sides, class, flap: None, .. } => cut(&mut links, between(sides), *class),
            Act::Reject { links: names, datagrams_pass, .. } => {
                for ends in named(names) {
                    links.entry(ends).or_default().refuses_streams = true;
                }
                if !datagrams_pass {
                    cut(&mut links, named(names), PacketClass::Datagrams);
                }
            }
            Act::Weather { link, .. } => {
                let sides: Vec<_> = nodes.iter().map(|node| vec![node.clone()]).collect();
                worsen(&mut links, between(&sides), link)?;
            }
            Act::Degrade { links: names, link, .. } => worsen(&mut links, named(names), link)?,
            other => return Err(format!("no packet filter does {other:?}")),
        }
    }
    Ok(links)
}

type Ends = Vec<(String, String)>;

fn named(names: &[LinkName]) -> Ends {
    let mut ends = Ends::new();
    for LinkName { from, to, direction } in names {
        ends.push((from.clone(), to.clone()));
        if *direction == Direction::Both {
            ends.push((to.clone(), from.clone()));
        }
    }
    ends
}

/// From every node of a side to every node of the others.
fn between(sides: &[Vec<String>]) -> Ends {
    let mut ends = Ends::new();
    for (number, side) in sides.iter().enumerate() {
        for (_, others) in sides.iter().enumerate().filter(|(other, _)| *other != number) {
            ends.extend(side.iter().flat_map(|from| others.iter().map(|to| (from.clone(), to.clone()))));
        }
    }
    ends
}

fn cut(links: &mut Links, ends: Ends, class: PacketClass) {
    for ends in ends {
        let way = links.entry(ends).or_default();
        way.cut = Some(way.cut.map_or(class, |other| if other == class { class } else { PacketClass::All }));
    }
}

fn worsen(links: &mut Links, ends: Ends, link: &Link) -> Result<(), String> {
    let Link { loss, delay, .. } = *link;
    if *link != (Link { loss, delay, ..Link::default() }) {
        return Err(format!("packet filters lose and delay, and that is all: {link:?}"));
    }
    for ends in ends {
        let way = links.entry(ends).or_default();
        (way.loss, way.delay) = (loss, Some(delay));
    }
    Ok(())
}

/// The rules of the filter of the host of `to`.
pub(crate) fn rules(links: &Links, to: &str, addr_of: impl Fn(&str) -> Option<Ipv4Addr>) -> String {
    let mut rules = String::new();
    for ((from, _), way) in links.iter().filter(|((_, receiver), _)| receiver == to) {
        let Some(addr) = addr_of(from) else { continue };
        let mut add = |rule: &str| rules.push_str(&format!("-A INPUT -s {addr} {rule}\n"));
        match way.cut {
            Some(PacketClass::All) => add("-j DROP"),
            Some(PacketClass::Datagrams) => add("-p udp -j DROP"),
            Some(PacketClass::Streams) => add("-p tcp -j DROP"),
            None => {}
        }
        if way.refuses_streams {
            add("-p tcp -j REJECT --reject-with tcp-reset");
        }
        if way.loss > 0.0 {
            add(&format!("-m statistic --mode random --probability {} -j DROP", way.loss));
        }
        if way.delay.is_some() {
            add("-j NFQUEUE --queue-num 0 --queue-bypass");
        }
    }
    rules
}
