//! Every fault that a random scenario can draw, by name: what it is, and what its number means.

/// A fault that a random scenario can draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultKind {
    /// Its name, for `--fault name=value`.
    pub name: &'static str,
    /// What it belongs to.
    pub family: Family,
    /// What it is, in one sentence.
    pub about: &'static str,
}

/// What a fault belongs to, and thereby what its number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// A property of every link; the number is a probability.
    Link,
    /// Something that happens to links now and then; the number is how often per minute.
    Network,
    /// Something that happens to nodes now and then; the number is how often per minute.
    Process,
    /// Clocks; the number says whether.
    Clock,
    /// How children behave; the number says whether.
    Child,
    /// What users do; the number is how often per minute.
    User,
    /// A few acts within moments of each other; the number is how often per minute.
    Plot,
    /// A fault site inside nodes; the number is a probability.
    Site,
}

impl Family {
    /// What the number of its faults means.
    pub fn unit(self) -> &'static str {
        match self {
            Family::Link | Family::Site => "probability",
            Family::Network | Family::Process | Family::User | Family::Plot => "per minute",
            Family::Clock | Family::Child => "0 or 1",
        }
    }
}

const fn fault(name: &'static str, family: Family, about: &'static str) -> FaultKind {
    FaultKind { name, family, about }
}

/// All of them but the fault sites, which the nodes list themselves.
pub const ALL: &[FaultKind] = &[
    fault("loss", Family::Link, "datagrams are lost, each on its own; segments of streams are sent again"),
    fault("burst-loss", Family::Link, "datagrams are lost in bad periods of a link"),
    fault("tail", Family::Link, "some datagrams take much longer than the others"),
    fault("duplicate", Family::Link, "datagrams arrive twice"),
    fault("replay", Family::Link, "a copy of a datagram arrives seconds or minutes later"),
    fault("corrupt", Family::Link, "bits of datagrams flip"),
    fault("truncate", Family::Link, "datagrams are cut short"),
    fault("reset", Family::Link, "streams break in the middle of a frame"),
    fault("bandwidth", Family::Link, "links carry few bytes per second and queue little"),
    fault("mtu", Family::Link, "links lose large datagrams"),
    fault("cut", Family::Network, "two nodes can't talk"),
    fault("cut-one-way", Family::Network, "one node can't talk to another, which can"),
    fault("cut-class", Family::Network, "datagrams get through and streams do not, or the other way round"),
    fault("split", Family::Network, "the nodes fall into two groups"),
    fault("bridge", Family::Network, "the nodes fall into two groups, and one node can talk to both"),
    fault("ring", Family::Network, "every node can talk to its two neighbours only"),
    fault("isolate", Family::Network, "one node can talk to nobody"),
    fault("flap", Family::Network, "links come and go quickly"),
    fault("clog", Family::Network, "what is sent over a link waits and then comes at once"),
    fault("reject", Family::Network, "firewalls refuse streams and break those that there are; datagrams mostly pass"),
    fault("unwell", Family::Network, "the network of one node is broken on its own side: all seem to refuse it"),
    fault("forget", Family::Network, "all streams of one node break at once, and can be opened again"),
    fault("weather", Family::Network, "all links get worse for a while"),
    fault("degrade", Family::Network, "one link gets worse for a while"),
    fault("crash", Family::Process, "a process is killed and started again later"),
    fault("fast-restart", Family::Process, "a process is killed and started again at once, on the same address"),
    fault("power", Family::Process, "a machine loses power and comes back"),
    fault("pause", Family::Process, "a process is stopped and continued"),
    fault("slow", Family::Process, "a process is overloaded: everything reaches it late"),
    fault("leave", Family::Process, "a node leaves and comes back"),
    fault("join", Family::Process, "a new node joins"),
    fault("rolling", Family::Process, "all nodes restart, one after the other"),
    fault("restart-all", Family::Process, "all nodes restart at once"),
    fault("twin", Family::Process, "a second process speaks from a node's address"),
    fault("lateness", Family::Clock, "timers fire late"),
    fault("offset", Family::Clock, "clocks are seconds to years off"),
    fault("drift", Family::Clock, "clocks run too fast or too slow"),
    fault("wall-step", Family::Clock, "wall clocks are set forward and back"),
    fault("clock-jump", Family::Clock, "monotonic clocks jump forward, as after a suspension"),
    fault(
        "long",
        Family::Clock,
        "for hours or days a node is paused, or both sides of a split go on; copies arrive as late",
    ),
    fault("mixed-kinds", Family::Process, "only some nodes can run some kinds (any number but 0)"),
    fault("mixed-labels", Family::Process, "nodes have labels, and some children ask for them (any number but 0)"),
    fault("keyring", Family::Process, "packets are sealed (any number but 0)"),
    fault("fail-start", Family::Child, "children fail to start"),
    fault("panic", Family::Child, "children panic"),
    fault("exit", Family::Child, "children end soon after they started"),
    fault("ignore-stop", Family::Child, "children ignore a stop until they are aborted"),
    fault("slow-stop", Family::Child, "children are slow to start and to stop"),
    fault("hang-start", Family::Child, "children hang in their start until it is given up"),
    fault("decline", Family::Child, "nodes do not understand the arguments of children"),
    fault("temporary", Family::Child, "some children are Temporary: never restarted, never moved"),
    fault("conflict", Family::User, "users start and terminate one child from several nodes at once"),
    fault("storm", Family::User, "users start and terminate one child again and again"),
    fault("churn", Family::User, "users use many ids once"),
    fault("bulk", Family::User, "users start many children at once and terminate them again"),
    fault("huge-spec", Family::User, "children have arguments of tens of kilobytes"),
    fault("rotation", Family::User, "operators take the cluster to another key, which makes it a keyed one"),
    fault("newcomers", Family::Plot, "nodes join at once, and the news of each other come late"),
    fault(
        "old-answers",
        Family::Plot,
        "children are started while a node joins; it leaves again, and old answers of it arrive",
    ),
    fault("pause-mid-move", Family::Plot, "a newcomer is paused while children move to it"),
    fault(
        "walled",
        Family::Plot,
        "a firewall comes up before a node, and all others but one may hear nothing of it besides",
    ),
    fault("stopped", Family::Plot, "a process is stopped, and its streams break"),
    fault(
        "temporary-moves",
        Family::Plot,
        "Temporary children are started while a node joins, and nobody hears where they run",
    ),
    fault("overtaken", Family::Plot, "a removal overtakes the start, whose node then crashes"),
    fault(
        "replaced",
        Family::Plot,
        "a child is updated and terminated behind the back of its node; the updater crashes",
    ),
    fault("early-call", Family::Plot, "users of a node that just joins start what is there already"),
    fault("startup-end", Family::Plot, "a start-up child is terminated before a node joins that brings it along"),
    fault("again", Family::Plot, "a child is terminated and started again, and the removal comes late"),
    fault("taken-over", Family::Plot, "children are terminated while they move, and their runner dies"),
    fault(
        "old-copy",
        Family::Plot,
        "starts that were undone arrive in the middle of an exchange, and their node is gone",
    ),
];

/// The fault with this name.
pub fn named(name: &str) -> Option<FaultKind> {
    ALL.iter().find(|fault| fault.name == name).copied()
}
