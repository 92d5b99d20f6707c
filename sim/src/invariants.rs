//! The promises, each a named function with its statement, judged from outside: from the children's journal, the users'
//! calls and what nodes told them, and the injected faults.
//!
//! Each scope is judged by itself, as if there were no other; what concerns nodes and no scope is judged once, in the scope
//! that every node joins. One file per family. No invariant looks into a node's books, but for what is there to be looked
//! at from outside: the hash of its state, whether it waits for something, its counters and the sizes of its tables.

mod calls;
mod desired_state;
mod facts;
mod handover;
mod healing;
mod membership;
mod placement;
mod resources;
mod supervision;
#[cfg(test)]
pub(crate) mod testing;

use haulout::{ChildId, ChildInfo};

use facts::END;
pub use handover::{Excuses, excuses};
pub use healing::unanswered;
pub use placement::{Snapshot, minimum_moves};

use crate::bounds::Bounds;
use crate::cluster::Cluster;
use crate::converge::Listings;
use crate::verdict::{Class, Violation};
use crate::view::View;
use crate::{NodeIdx, NodeState, words};

/// What an invariant may look at.
pub struct Evidence<'a> {
    /// The journal, the history, events and members of one scope: never the insides of a node.
    pub view: &'a View<'a>,
    /// The times that follow from the configuration.
    pub bounds: &'a Bounds,
    /// The children that every node starts with.
    pub startup: &'a [ChildId],
    /// The nodes that must have converged: all of the scope that are up, unless some stay cut off for ever.
    pub core: &'a [NodeIdx],
    /// The listing that all of the core agreed on at the end, after which the cluster rested for
    /// [`Bounds::rest`]; `None` if it was not asked for.
    pub converged: Option<&'a [ChildInfo]>,
}

/// A promise.
pub struct Invariant {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub family: &'static str,
    /// What kind of promise it is.
    pub class: Class,
    /// What is promised, in words.
    pub statement: &'static str,
    /// Whether it concerns nodes and no scope, and so is judged once, in the scope that every node joins.
    pub of_nodes: bool,
    /// Finds the first time that it was broken.
    pub check: fn(&Evidence<'_>) -> Result<(), Violation>,
}

/// A line of the table below.
const fn invariant(
    class: Class,
    family: &'static str,
    name: &'static str,
    check: fn(&Evidence<'_>) -> Result<(), Violation>,
    statement: &'static str,
) -> Invariant {
    Invariant { name, family, class, statement, of_nodes: false, check }
}

impl Invariant {
    /// One that concerns nodes and no scope.
    const fn of_nodes(self) -> Self {
        Invariant { of_nodes: true, ..self }
    }
}

use Class::{Liveness, Safety};

/// Every invariant, in the order in which they are checked: causes before what follows from them.
pub const ALL: &[Invariant] = &[
    invariant(
        Safety,
        "hand-over",
        "no-overlap",
        handover::no_overlap,
        "a child never runs on two nodes that can talk: where two run it, one had seen the other declared down, or had \
         asked it in vain for confirm_timeout, or neither had ever heard of the other; and a fault touched one of them",
    ),
    invariant(
        Safety,
        "supervision",
        "done-stays-done",
        supervision::done_stays_done,
        "a Transient child that succeeded and a Temporary child that ended run nowhere again in that life",
    ),
    invariant(
        Safety,
        "supervision",
        "epochs-rise",
        supervision::epochs_rise,
        "each run of a life has a higher number than every earlier one, unless a fault kept their nodes apart",
    ),
    invariant(
        Safety,
        "supervision",
        "restart-intensity",
        supervision::restart_intensity,
        "a child that fails is restarted at once at most max_restarts times per max_restart_window, and otherwise after \
         pauses that double from backoff_min to backoff_max",
    ),
    invariant(
        Safety,
        "supervision",
        "stop-budget",
        supervision::stop_budget,
        "a run that is told to stop is told as its spec says, and ends within its shutdown timeout and its abort",
    ),
    invariant(
        Safety,
        "supervision",
        "leaves-let-end",
        supervision::leaves_let_end,
        "a node that leaves goes only when nothing runs on it any more",
    ),
    invariant(
        Safety,
        "supervision",
        "temporary-stays",
        supervision::temporary_stays,
        "a Temporary child is stopped only if a user or a leave says so, or another run of it is there; never to be moved",
    ),
    invariant(
        Safety,
        "desired state",
        "runs-are-asked-for",
        desired_state::runs_are_asked_for,
        "whatever runs has a spec that a user asked for before",
    ),
    invariant(
        Safety,
        "desired state",
        "terminated-stays-terminated",
        desired_state::terminated_stays_terminated,
        "no node that must know of a terminate begins a run of a life that the terminator must have known",
    ),
    invariant(
        Safety,
        "desired state",
        "read-your-writes",
        desired_state::read_your_writes,
        "a call on a node finds what the call before it on that node has left, unless calls elsewhere crossed them",
    ),
    invariant(
        Safety,
        "desired state",
        "takers-ask-anew",
        desired_state::whoever_takes_over_asks_anew,
        "a child is not taken over from a dead runner when a member that its new node counts had seen it end before",
    ),
    invariant(
        Safety,
        "desired state",
        "newcomers-know",
        desired_state::newcomers_know_what_is_there,
        "a node that joins accepts no start of a child that all others had before",
    ),
    invariant(
        Safety,
        "membership",
        "down-is-final",
        membership::down_is_final,
        "an identity that a node saw go down does not come back there within a day: the same instance only under a new one",
    ),
    invariant(
        Safety,
        "membership",
        "members-are-as-they-joined",
        membership::members_are_as_they_joined,
        "in a converged cluster each member of a scope is listed with the weight, kinds, labels and version with which it \
         joined that scope",
    ),
    invariant(
        Safety,
        "membership",
        "renewals-have-a-cause",
        membership::renewals_have_a_cause,
        "nobody changes its identity without having been declared down, or more often than that",
    )
    .of_nodes(),
    invariant(
        Safety,
        "membership",
        "no-false-alarm",
        membership::no_false_alarm,
        "nobody is declared down who has neither ended nor left, unless a fault touched it or whoever says so",
    ),
    invariant(
        Safety,
        "membership",
        "crashes-are-real",
        membership::crashes_are_real,
        "nobody is said to have crashed whose process lives, unless firewalls refused its streams and a fault kept it from \
         answering, and so for two members (or for the only other one), of all that were asked",
    )
    .of_nodes(),
    invariant(
        Safety,
        "membership",
        "no-false-conflict",
        membership::no_false_conflict,
        "nobody believes that another process lives at its address where none does",
    )
    .of_nodes(),
    invariant(
        Safety,
        "resources",
        "limits-hold",
        resources::limits_hold,
        "no table or queue of a node exceeds its limit",
    )
    .of_nodes(),
    invariant(
        Safety,
        "healing",
        "audit-finds-nothing",
        healing::audit_finds_nothing,
        "the safety net has nothing to put right: whatever it repairs is a bug elsewhere",
    )
    .of_nodes(),
    invariant(
        Safety,
        "desired state",
        "no-start-lost",
        desired_state::no_start_lost,
        "an acknowledged start stands unless it was terminated or replaced by a node that held it, beaten by a concurrent \
         one (of which its node tells), or all that ever held it have crashed",
    ),
    invariant(
        Safety,
        "desired state",
        "no-resurrection",
        desired_state::no_resurrection,
        "what was terminated by a node that knew it is gone for ever once the network is healed",
    ),
    invariant(
        Safety,
        "placement",
        "placement",
        placement::children_run_where_they_belong,
        "in a converged cluster each child runs where the pure function over the members puts it",
    ),
    invariant(
        Safety,
        "placement",
        "runs-where-joined",
        placement::runs_are_on_those_who_joined,
        "nothing of a scope runs on a node that takes no part in it",
    ),
    invariant(
        Liveness,
        "hand-over",
        "overlaps-end",
        handover::overlaps_end,
        "once two nodes that run one child can talk, one of them is told to stop it within a computed bound",
    ),
    invariant(
        Liveness,
        "healing",
        "members-agree",
        healing::members_agree,
        "after healing each node sees exactly the members that there are",
    ),
    invariant(
        Liveness,
        "healing",
        "states-agree",
        healing::states_agree,
        "after healing all nodes hold the same state",
    ),
    invariant(
        Liveness,
        "healing",
        "runs-once",
        healing::runs_once,
        "after healing every child runs exactly once, where it is listed, and nothing else runs",
    ),
    invariant(
        Liveness,
        "healing",
        "nothing-pending",
        healing::nothing_pending,
        "after healing no node waits for anything",
    )
    .of_nodes(),
    invariant(
        Liveness,
        "healing",
        "calls-are-answered",
        healing::calls_are_answered,
        "every call on a node that lives is answered",
    ),
    invariant(Liveness, "healing", "rests", healing::rests, "in a converged cluster no run begins or ends"),
    invariant(
        Liveness,
        "resources",
        "nothing-left-over",
        resources::nothing_left_over,
        "in a cluster at rest no queue holds anything that is under way",
    )
    .of_nodes(),
];

/// A promise that is judged while the cluster goes on, not from evidence.
pub struct Judged {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub family: &'static str,
    /// What kind of promise it is.
    pub class: Class,
    /// What is promised, in words.
    pub statement: &'static str,
}

/// The promises that [`judge`] and whoever drives a cluster look after themselves.
pub const JUDGED: &[Judged] = &[
    Judged {
        name: "converges",
        family: "healing",
        class: Liveness,
        statement: "within a computed bound after healing, begun anew with each progress, all of the core agree",
    },
    Judged {
        name: "minimum-moves",
        family: "placement",
        class: Safety,
        statement: "a planned join or leave moves exactly the children whose owner it changes",
    },
    Judged {
        name: "no-panic",
        family: "resources",
        class: Safety,
        statement: "no node panics, answers a call twice, or takes inputs for ever within a millisecond",
    },
];

/// Every promise that was broken, scope by scope, each in the order of [`ALL`]. Of a cluster that was not asked for its
/// listings, without what they would show.
pub fn broken(
    cluster: &Cluster,
    bounds: &Bounds,
    startup: &[ChildId],
    core: &[NodeIdx],
    converged: Option<&Listings>,
) -> Vec<Violation> {
    let mut broken = Vec::new();
    for view in View::all(cluster) {
        let core = &cluster.taking_part(core, view.scope)[..];
        let converged = converged.and_then(|listings| listings.get(&view.scope)).map(Vec::as_slice);
        let evidence = Evidence { view: &view, bounds, startup, core, converged };
        let judged = ALL.iter().filter(|invariant| view.scope == cluster.scope() || !invariant.of_nodes);
        let violations = judged.filter_map(|invariant| (invariant.check)(&evidence).err());
        let within = words::in_scope(cluster, view.scope);
        broken.extend(violations.map(|violation| violation.within(view.scope, &within)));
    }
    broken
}

/// Checks the safety invariants of a run as far as it has come, for tests that drive a cluster themselves.
///
/// # Errors
/// The first that was broken.
pub fn check_safety(cluster: &Cluster) -> Result<(), Violation> {
    let options = cluster.options();
    let bounds = Bounds::new(&options.config, cluster.nodes().count(), options.link);
    let broken = broken(cluster, &bounds, &[], &cluster.up(), None);
    broken.into_iter().find(|violation| violation.class == Class::Safety).map_or(Ok(()), Err)
}

/// What the end of a run was like.
#[derive(Clone, Debug)]
pub struct Ending {
    /// The listings that the core agreed on.
    pub children: Listings,
    /// How long it took until it first agreed.
    pub converged_in: std::time::Duration,
    /// The overlaps that there were, by what excused them.
    pub excuses: Excuses,
}

/// Lets a healed cluster converge and rest, then checks every invariant.
///
/// # Errors
/// The first that was broken; `converges` if the core did not agree in time.
pub fn judge(
    cluster: &mut Cluster,
    bounds: &Bounds,
    startup: &[ChildId],
    core: &[NodeIdx],
) -> Result<Ending, Violation> {
    let from = cluster.now();
    // Who was leaving when the faults ended goes its way; it need not agree any more.
    let staying = |cluster: &Cluster| -> Vec<NodeIdx> {
        core.iter().copied().filter(|&node| cluster.state(node) == NodeState::Up).collect()
    };
    let converge = |cluster: &mut Cluster| {
        cluster.converge_core(core, bounds).map_err(|pending| {
            let detail = format!("after {:?}: {pending}", cluster.now().since(from));
            Violation::liveness("converges", cluster.now(), detail)
        })
    };
    let converged = converge(cluster);
    // What was broken on the way says more than that it never came to rest.
    let converged_in = cluster.now().since(from);
    let settled = converged.and_then(|_| {
        // Jobs may end and nodes may leave yet: what counts is the state that lasts.
        cluster.run_for(bounds.aftermath);
        converge(cluster)
    });
    if settled.is_ok() {
        cluster.run_for(bounds.rest);
    }
    let broken = broken(cluster, bounds, startup, &staying(cluster), settled.as_ref().ok());
    broken.into_iter().next().map_or(Ok(()), Err)?;
    let excuses = excuses(cluster, bounds);
    settled.map(|children| Ending { children, converged_in, excuses })
}

#[cfg(test)]
mod tests;
