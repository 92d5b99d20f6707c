//! What can be done to the links: cuts, clogs, weather.

use std::collections::BTreeMap;

use super::{Cluster, Happening, Origin};
use crate::NodeIdx;
use crate::history::FaultKind;
use crate::network::{Class, Link, LostTo};

/// How many bytes of datagrams wait for a clogged link.
const CLOG_BYTES_MAX: usize = 64 * 1024;

/// The datagrams that wait for clogged links.
pub(super) type Clogs = BTreeMap<(NodeIdx, NodeIdx), Vec<Waiting>>;

/// A datagram that waits for a clogged link.
pub(super) struct Waiting {
    from: NodeIdx,
    to: NodeIdx,
    origin: Origin,
    bytes: Vec<u8>,
}

impl Cluster {
    /// Cuts the links between two nodes in both directions.
    pub fn cut(&mut self, a: NodeIdx, b: NodeIdx) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Lets nothing through from one node to another.
    pub fn cut_one_way(&mut self, from: NodeIdx, to: NodeIdx) {
        self.cut_class(from, to, Class::All);
    }

    /// Lets nothing of this class through from one node to another, beside what is cut already. A cut of streams in
    /// one direction stops the acknowledgements of the other, but only on its way back: what is sent the other way
    /// arrives.
    pub fn cut_class(&mut self, from: NodeIdx, to: NodeIdx, class: Class) {
        if self.network.cut(from, to, class) {
            match class {
                Class::All => self.trace.show(self.now, from, "cut", &to),
                class => self.trace.show(self.now, from, "cut", &(to, class)),
            }
            self.note_cut(from, to);
        }
    }

    /// Cuts every link between these nodes and all others.
    pub fn split(&mut self, side: &[NodeIdx]) {
        for other in self.nodes().filter(|node| !side.contains(node)) {
            side.iter().for_each(|&node| self.cut(node, other));
        }
    }

    /// Mends the links between two nodes.
    pub fn mend(&mut self, a: NodeIdx, b: NodeIdx) {
        self.mend_class(a, b, Class::All);
        self.mend_class(b, a, Class::All);
    }

    /// Lets this class through again from one node to another.
    pub fn mend_class(&mut self, from: NodeIdx, to: NodeIdx, class: Class) {
        if self.network.mend(from, to, class) {
            match class {
                Class::All => self.trace.show(self.now, from, "mended", &to),
                class => self.trace.show(self.now, from, "mended", &(to, class)),
            }
            self.note_cut(from, to);
        }
    }

    /// Everything that is cut.
    pub fn cuts(&self) -> Vec<(NodeIdx, NodeIdx, Class)> {
        self.network.cuts()
    }

    /// Mends every link and unclogs it. How links behave otherwise stays as it is.
    pub fn heal(&mut self) {
        for (from, to, _) in self.network.cuts() {
            self.mend(from, to);
        }
        for (from, to) in self.network.clogs() {
            self.unclog(from, to);
        }
        for (from, to) in self.network.rejections() {
            self.admit(from, to);
        }
    }

    /// Lets everything from one node to another wait: 64 KiB of datagrams, more are lost, and streams, which break if
    /// it lasts as they do when a cut lasts.
    pub fn clog(&mut self, from: NodeIdx, to: NodeIdx) {
        if self.network.set_clogged(from, to, true) {
            self.trace.show(self.now, from, "clogged", &to);
            self.history.begin_fault(FaultKind::Clogged(from, to), self.now);
        }
    }

    /// Lets everything through at once that waits on its way from one node to another.
    pub fn unclog(&mut self, from: NodeIdx, to: NodeIdx) {
        if !self.network.set_clogged(from, to, false) {
            return;
        }
        self.trace.show(self.now, from, "unclogged", &to);
        self.history.end_faults(self.now, |kind| kind == FaultKind::Clogged(from, to));
        for Waiting { from, to, origin, bytes } in self.clogs.remove(&self.machines(from, to)).unwrap_or_default() {
            self.queue.push(self.now, Happening::Arrival { from, to, origin, bytes });
        }
        self.with_streams(|streams, world| streams.unclogged(world, from, to));
    }

    /// A datagram waits until its link is unclogged, if there is room for it.
    pub(super) fn wait_for_unclogging(&mut self, from: NodeIdx, to: NodeIdx, origin: Origin, bytes: Vec<u8>) {
        let waiting = self.clogs.entry(self.machines(from, to)).or_default();
        let size: usize = waiting.iter().map(|waiting| waiting.bytes.len()).sum();
        if size + bytes.len() > CLOG_BYTES_MAX {
            self.traffic.lost(LostTo::Queue);
        } else {
            waiting.push(Waiting { from, to, origin, bytes });
        }
    }

    /// Lets a firewall refuse every stream that one node dials to another, though the process there lives. Streams
    /// between the two break as it comes up; datagrams pass.
    pub fn reject(&mut self, from: NodeIdx, to: NodeIdx) {
        if self.network.set_rejects(from, to, true) {
            self.trace.show(self.now, from, "rejected", &to);
            self.history.begin_fault(FaultKind::Rejects(from, to), self.now);
            self.with_streams(|streams, world| streams.rejected(world, from, to));
        }
    }

    /// Takes the firewall away.
    pub fn admit(&mut self, from: NodeIdx, to: NodeIdx) {
        if self.network.set_rejects(from, to, false) {
            self.trace.show(self.now, from, "admitted", &to);
            self.history.end_faults(self.now, |kind| kind == FaultKind::Rejects(from, to));
        }
    }

    /// Breaks every stream between two nodes, as a machine between them that forgets its connections does.
    pub fn reset_streams(&mut self, one: NodeIdx, other: NodeIdx) {
        self.trace.show(self.now, one, "streams reset", &other);
        self.with_streams(|streams, world| streams.rejected(world, one, other));
    }

    /// Changes how links behave that have no behaviour of their own.
    pub fn set_link(&mut self, link: Link) {
        self.network.set_default(link);
        self.note_weather();
    }

    /// Gives one direction a behaviour of its own, or takes it away.
    pub fn set_link_between(&mut self, from: NodeIdx, to: NodeIdx, link: Option<Link>) {
        self.network.set_link(from, to, link);
        let kind = FaultKind::Degraded(from, to);
        self.history.end_faults(self.now, |other| other == kind);
        let usual = self.network.default_link().severity();
        if link.is_some_and(|link| link.severity().is_worse_than(&usual)) {
            self.history.begin_fault(kind, self.now);
        }
    }

    fn machines(&self, from: NodeIdx, to: NodeIdx) -> (NodeIdx, NodeIdx) {
        (self.network.machine(from), self.network.machine(to))
    }

    /// Notes what is cut now as one fault, whatever it was made of.
    fn note_cut(&mut self, from: NodeIdx, to: NodeIdx) {
        let cut = self.network.cut_between(from, to);
        let (from, to) = self.machines(from, to);
        self.history.end_faults(self.now, |kind| matches!(kind, FaultKind::Cut(a, b, _) if (a, b) == (from, to)));
        if let Some(class) = cut {
            self.history.begin_fault(FaultKind::Cut(from, to, class), self.now);
        }
    }

    /// Notes how bad all links are: their loss as a fault of its own, and everything else that a good local network
    /// does not do.
    pub(super) fn note_weather(&mut self) {
        let (now, link) = (self.now, self.network.default_link());
        self.history.end_faults(now, |kind| matches!(kind, FaultKind::Loss(_) | FaultKind::Weather(_)));
        if link.loss > 0.0 {
            self.history.begin_fault(FaultKind::Loss(link.loss), now);
        }
        let lossless = Link { loss: 0.0, ..link }.severity();
        if lossless.is_worse_than(&Link::default().severity()) {
            self.history.begin_fault(FaultKind::Weather(link.severity()), now);
        }
    }
}
