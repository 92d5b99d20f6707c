//! Placement: children run where the pure function puts them, and no more of them move than have to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use haulout::proto::Time;
use haulout::proto::placement::{Candidate, hash_key, owner};
use haulout::{ChildId, ChildInfo, ChildState, MemberInfo, Restart, Spec};

use super::Evidence;
use super::calls::{Entry, by_child, startup_specs};
use crate::NodeIdx;
use crate::journal::{Ending, Run};
use crate::verdict::Violation;
use crate::view::View;

pub(super) fn children_run_where_they_belong(evidence: &Evidence<'_>) -> Result<(), Violation> {
    let Some(converged) = evidence.converged else { return Ok(()) };
    let Some(&node) = evidence.core.first() else { return Ok(()) };
    let view = evidence.view;
    let members = Members::new(view.members(node));
    // Who loses of two members with one name depends on who settled first, which nobody tells from outside.
    if members.share_names {
        return Ok(());
    }
    let mut runs = Runs::new(view.journal.runs(), members.all);
    runs.asked = startup_specs(&view.history);
    for (id, entries) in by_child(&view.history) {
        runs.asked.entry(id).or_default().extend(entries.iter().filter_map(Entry::may_have_made));
    }
    for child in converged {
        if let Some(wrong) = misplaced(child, &members, &runs) {
            return Err(Violation::safety("placement", view.cluster.now(), wrong).of(&child.id));
        }
    }
    Ok(())
}

pub(super) fn runs_are_on_those_who_joined(evidence: &Evidence<'_>) -> Result<(), Violation> {
    let view = evidence.view;
    match view.journal.runs().iter().find(|run| !view.cluster.takes_part(run.node, view.scope)) {
        Some(run) => {
            let detail = format!("{} ran on {}, which takes no part", run.id, view.cluster.name(run.node));
            Err(Violation::safety("runs-where-joined", run.began, detail).on(run.node).of(&run.id))
        }
        None => Ok(()),
    }
}

/// The members with what placement asks of them.
struct Members<'a> {
    all: &'a [MemberInfo],
    candidates: Vec<Candidate>,
    share_names: bool,
}

impl<'a> Members<'a> {
    fn new(all: &'a [MemberInfo]) -> Self {
        let names: BTreeSet<&str> = all.iter().map(|member| &*member.name).collect();
        let candidates = all.iter().map(|member| Candidate::new(member.name.clone(), member.weight)).collect();
        Members { all, candidates, share_names: names.len() < all.len() }
    }

    fn owner(
        &self,
        id: &ChildId,
        declined: &[&MemberInfo],
        is_able: impl Fn(&MemberInfo) -> bool,
    ) -> Option<&'a MemberInfo> {
        let eligible =
            self.all.iter().zip(&self.candidates).filter(|(member, _)| {
                member.settled && !member.draining && is_able(member) && !declined.contains(member)
            });
        owner(hash_key(id.as_bytes()), eligible.map(|(member, candidate)| (candidate, member)))
    }
}

fn is_able(spec: &Spec, member: &MemberInfo) -> bool {
    member.kinds.contains(&spec.kind) && spec.selects(&member.labels)
}

/// What the journal and the calls add to a listing: the spec of what runs, which members refused to run it, and what it
/// was asked for with.
struct Runs<'a> {
    asked: BTreeMap<&'a ChildId, Vec<&'a Spec>>,
    alive: BTreeMap<&'a ChildId, &'a Run>,
    declined: BTreeMap<&'a ChildId, Vec<(&'a Run, &'a MemberInfo)>>,
}

impl<'a> Runs<'a> {
    fn new(runs: &'a [Run], members: &'a [MemberInfo]) -> Self {
        let mut declined: BTreeMap<&ChildId, Vec<(&Run, &MemberInfo)>> = BTreeMap::new();
        for run in runs.iter().filter(|run| run.ending == Some(Ending::Declined)) {
            let by = members.iter().find(|member| member.instance == run.instance);
            by.into_iter().for_each(|member| declined.entry(&run.id).or_default().push((run, member)));
        }
        // Whoever is cut off to the end may run another life of it.
        let is_ours = |run: &&Run| members.iter().any(|member| member.instance == run.instance);
        let alive = runs.iter().filter(|run| run.is_alive()).filter(is_ours).map(|run| (&run.id, run)).collect();
        Runs { asked: BTreeMap::new(), alive, declined }
    }

    /// Who declined the life that a run belongs to, for each life that it may be, first that which it was started for:
    /// where another life of the same spec has won since, the run went on as that one, and its number tells the first.
    fn lives(&self, run: &'a Run) -> impl Iterator<Item = Vec<&'a MemberInfo>> {
        let all = self.declined.get(&run.id).map_or(&[][..], Vec::as_slice);
        // Two concurrent starts may have one birth. Whoever declined one and then ran the other declined not this.
        let ran_since = |declined: &Run| declined.instance == run.instance && declined.began < run.began;
        let counts = move |declined: &Run| declined.spec == run.spec && !ran_since(declined);
        let later = all.iter().filter(move |(declined, _)| counts(declined)).map(|(declined, _)| declined.epoch.birth);
        let births: BTreeSet<u64> = later.filter(|birth| *birth > run.epoch.birth).chain([run.epoch.birth]).collect();
        births.into_iter().map(move |birth| {
            let same = all.iter().filter(|(declined, _)| declined.epoch.birth == birth && counts(declined));
            same.map(|(_, member)| *member).collect()
        })
    }
}

/// What is wrong with where a child runs, or with its running nowhere.
fn misplaced(child: &ChildInfo, members: &Members<'_>, runs: &Runs<'_>) -> Option<String> {
    let all = runs.declined.get(&child.id).map_or(&[][..], Vec::as_slice);
    match &child.state {
        ChildState::Running => {
            let run = runs.alive.get(&child.id)?;
            if run.spec.restart == Restart::Temporary {
                return None;
            }
            let owner = |life: Vec<&MemberInfo>| members.owner(&child.id, &life, |member| is_able(&run.spec, member));
            let owners: Vec<_> = runs.lives(run).map(owner).collect();
            let names: Vec<_> = owners.iter().map(|owner| owner.map(|member| &*member.name)).collect();
            (!names.contains(&child.node.as_deref()))
                .then(|| format!("{} runs on {:?}, and belongs to {:?}", child.id, child.node, names[0]))
        }
        // Which life it is that nobody runs is not told, so whoever declined any is left out, and whatever was asked of
        // its node in any.
        ChildState::Unplaced(reason) => {
            let declined: Vec<_> = all.iter().map(|(_, member)| *member).collect();
            let asked = runs.asked.get(&child.id).map_or(&[][..], Vec::as_slice);
            let is_able =
                |member: &MemberInfo| asked.iter().all(|spec| spec.kind != child.kind || is_able(spec, member));
            let owner =
                members.owner(&child.id, &declined, |member| member.kinds.contains(&child.kind) && is_able(member))?;
            Some(format!("{} is unplaced ({reason}), and {} could run it", child.id, owner.name))
        }
        _ => None,
    }
}

/// What a converged scope looked like at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When.
    pub at: Time,
    /// The members that all agreed on.
    pub members: Vec<MemberInfo>,
    /// The children that all agreed on.
    pub children: Vec<ChildInfo>,
    /// The specs with which they ran.
    pub specs: BTreeMap<ChildId, Arc<Spec>>,
}

impl Snapshot {
    /// A scope that has converged to these children, without those that placement alone does not decide about:
    /// Temporary ones, which never move, and those that somebody declined.
    pub fn of(view: &View<'_>, core: &[NodeIdx], children: &[ChildInfo]) -> Self {
        let runs = view.journal.runs();
        let stays = |run: &&Run| run.spec.restart == Restart::Temporary || run.ending == Some(Ending::Declined);
        let exempt: BTreeSet<&ChildId> = runs.iter().filter(stays).map(|run| &run.id).collect();
        let members = core.first().map_or(Vec::new(), |&node| view.members(node).to_vec());
        let is_ours = |run: &&Run| run.is_alive() && members.iter().any(|member| member.instance == run.instance);
        let specs = runs.iter().filter(is_ours).map(|run| (run.id.clone(), run.spec.clone())).collect();
        let children = children.iter().filter(|child| !exempt.contains(&child.id)).cloned().collect();
        Snapshot { at: view.cluster.now(), members, children, specs }
    }
}

/// Whether, between two moments between which nothing happened but a planned join or leave, exactly those children
/// moved that the change of the members moves.
///
/// # Errors
/// The first child that moved without need, or did not move.
pub fn minimum_moves(before: &Snapshot, after: &Snapshot) -> Result<(), Violation> {
    let (members, later) = (Members::new(&before.members), Members::new(&after.members));
    let now: BTreeMap<&ChildId, &ChildInfo> = after.children.iter().map(|child| (&child.id, child)).collect();
    for was in &before.children {
        // What did not run has nothing to move.
        let (Some(is), Some(spec)) = (now.get(&was.id), before.specs.get(&was.id)) else { continue };
        let is_able = |member: &MemberInfo| is_able(spec, member);
        let owners =
            [&members, &later].map(|members| members.owner(&was.id, &[], is_able).map(|member| member.instance));
        let has_moved = was.node != is.node;
        let was_restarted = !has_moved && was.epoch != is.epoch && was.restarts == is.restarts;
        let wrong = match owners[0] == owners[1] {
            true if has_moved => format!("{} moved from {:?} to {:?} without need", was.id, was.node, is.node),
            true if was_restarted => format!("{} began anew on {:?} without need", was.id, is.node),
            false if !has_moved && owners[1].is_some() && was.state == ChildState::Running => {
                format!("{} stayed on {:?}, and belongs elsewhere now", was.id, was.node)
            }
            _ => continue,
        };
        return Err(Violation::safety("minimum-moves", after.at, wrong).of(&was.id));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
