//! Membership: deaths are final, identities change only when they must, and healthy nodes are left alone.

use std::collections::BTreeMap;
use std::time::Duration;

use haulout::proto::{Command, InstanceId, ScopeSetup, Time};
use haulout::{Event, MemberInfo};

use super::Evidence;
use super::facts::{Facts, Told};
use crate::NodeIdx;
use crate::history::FaultKind;
use crate::verdict::Violation;

pub(super) fn down_is_final(evidence: &Evidence<'_>) -> Result<(), Violation> {
    returns_are_renewed(&Facts::of(evidence.view, evidence.bounds))
}

pub(super) fn renewals_have_a_cause(evidence: &Evidence<'_>) -> Result<(), Violation> {
    renewals_were_forced(&Facts::of(evidence.view, evidence.bounds))
}

pub(super) fn no_false_alarm(evidence: &Evidence<'_>) -> Result<(), Violation> {
    deaths_are_real(&Facts::of(evidence.view, evidence.bounds))
}

pub(super) fn crashes_are_real(evidence: &Evidence<'_>) -> Result<(), Violation> {
    crashed_processes_have_ended(&Facts::of(evidence.view, evidence.bounds))
}

pub(super) fn no_false_conflict(evidence: &Evidence<'_>) -> Result<(), Violation> {
    conflicts_are_real(&Facts::of(evidence.view, evidence.bounds))
}

/// What a member says of itself in one scope is what its users said when it joined that one.
pub(super) fn members_are_as_they_joined(evidence: &Evidence<'_>) -> Result<(), Violation> {
    let (view, core) = (evidence.view, if evidence.converged.is_some() { evidence.core } else { &[] });
    let joins = view.history.calls.iter().filter_map(|call| match &call.command {
        Command::JoinScope(setup) => {
            let mut setup = setup.clone();
            // In listings they are in order.
            setup.kinds.sort();
            Some((call.instance?, setup))
        }
        _ => None,
    });
    let joins: BTreeMap<InstanceId, ScopeSetup> = joins.collect();
    for (node, member) in core.iter().flat_map(|&node| view.members(node).iter().map(move |member| (node, member))) {
        let Some(setup) = joins.get(&member.instance) else { continue };
        let says = (member.weight, &member.kinds, &member.labels, &member.version);
        let joined = (setup.weight, &setup.kinds, &setup.labels, &setup.version);
        if says != joined {
            let detail = format!("{} is listed as {says:?}, and joined as {joined:?}", member.name);
            return Err(Violation::safety("members-are-as-they-joined", view.cluster.now(), detail).on(node));
        }
    }
    Ok(())
}

/// Members that are down are remembered for a day. Clocks that run fast make it a little less.
const REMEMBERED: Duration = Duration::from_secs(23 * 3_600);

/// An identity that an observer saw go down does not come back there while it is remembered: whenever the same instance
/// comes up again, it has taken a new identity since it began, one for each time.
fn returns_are_renewed(facts: &Facts<'_>) -> Result<(), Violation> {
    for (observer, member, seen) in facts.views() {
        let first = seen.iter().take(1).filter(|(_, up)| *up);
        let later = seen.windows(2).filter(|pair| pair[1].1 && pair[1].0.since(pair[0].0) < REMEMBERED);
        let ups = first.chain(later.map(|pair| &pair[1]));
        for (returns, (at, _)) in ups.enumerate() {
            let renewed = facts.renewed(member, *at);
            if returns > renewed {
                let detail = format!(
                    "{member} came up here {} times, and had changed its identity {renewed} times",
                    returns + 1
                );
                let violation = Violation::safety("down-is-final", *at, detail);
                return Err(facts.node_of(observer).into_iter().fold(violation, Violation::on));
            }
        }
    }
    Ok(())
}

/// Each identity that an instance gives up was declared down by somebody who told so, or belonged to an earlier life at
/// its address: a newcomer has to pass the identity that its predecessor left behind, and the members may know
/// different ones. So there are at most as many renewals as observers have told of its death (the same death may be
/// told by all) and earlier lives can have left identities.
fn renewals_were_forced(facts: &Facts<'_>) -> Result<(), Violation> {
    let mut deaths: BTreeMap<InstanceId, Vec<Time>> = BTreeMap::new();
    for Told { at, event, .. } in &facts.told {
        if let Event::MemberDown(MemberInfo { instance, .. }) = event {
            deaths.entry(*instance).or_default().push(*at);
        }
    }
    deaths.values_mut().for_each(|times| times.sort_unstable());
    for (instance, renewals) in facts.renewals() {
        let Some(life) = facts.life(instance) else { continue };
        let inherited = inherited(facts, life.node, life.from);
        for (before, at) in renewals.iter().enumerate() {
            let told = deaths.get(&instance).map_or(0, |times| times.partition_point(|death| death <= at));
            // Whoever does not hold its record, of a newcomer or of one that has just come back, tells nobody of its
            // death.
            let since = *at - facts.bounds.reach;
            let untold = renewals[..=before].iter().filter(|&&at| facts.is_missed_by_somebody(instance, at)).count();
            let untold = if facts.touched(life.node, since, *at) { untold } else { 0 };
            if before >= told + inherited + untold {
                let detail = format!(
                    "{instance} changed its identity {} times; {told} deaths of it were told, and {inherited} \
                     identities were left at its address",
                    before + 1
                );
                return Err(Violation::safety("renewals-have-a-cause", *at, detail).on(life.node));
            }
        }
    }
    Ok(())
}

/// How many identities earlier lives can have left at an address: one each, and one for each change.
fn inherited(facts: &Facts<'_>, node: NodeIdx, before: Time) -> usize {
    let earlier = facts.history.lives.iter().filter(|life| life.node == node && life.from < before);
    earlier.map(|life| 1 + facts.renewed(life.instance, before)).sum()
}

/// Whoever is declared down has ended, has been told to leave, or a fault touched it or somebody who says so. A process
/// that has just come after another one at its address may first be taken for that one by whoever knew it: it has to pass
/// the identity that was left behind.
fn deaths_are_real(facts: &Facts<'_>) -> Result<(), Violation> {
    let mut leaves: BTreeMap<InstanceId, Time> = BTreeMap::new();
    for call in facts.history.calls.iter().filter(|call| matches!(call.command, Command::Leave { .. })) {
        call.instance.map(|instance| leaves.entry(instance).or_insert(call.called));
    }
    for Told { at, node, event, .. } in &facts.told {
        let Event::MemberDown(MemberInfo { instance, name, .. }) = event else { continue };
        let Some(life) = facts.life(*instance) else { continue };
        let is_over = life.to.is_some_and(|to| to <= *at) || leaves.get(instance).is_some_and(|left| left <= at);
        let since = *at - facts.bounds.reach;
        let touched = facts.muted(life.node, since, *at) || facts.muted(*node, since, *at);
        let succeeds = life.from >= since && inherited(facts, life.node, life.from) > 0;
        if !is_over && !touched && !succeeds {
            let detail =
                format!("{name} ({instance}) is declared down, and no fault has touched it or whoever says so");
            return Err(Violation::safety("no-false-alarm", *at, detail).on(*node));
        }
    }
    Ok(())
}

/// Whoever is said to have crashed has ended, or two members (or the only other one) could neither open a stream to it nor
/// hear it, for faults, and nobody who was asked could. That it is stopped, slow or cut off excuses nothing by itself, nor does a firewall.
fn crashed_processes_have_ended(facts: &Facts<'_>) -> Result<(), Violation> {
    /// How many others are asked.
    const WITNESSES: usize = 3;
    for Told { at, node, by, event } in &facts.told {
        let Event::MemberCrashed(MemberInfo { instance, name, .. }) = event else { continue };
        let Some(life) = facts.life(*instance).filter(|life| life.to.is_none_or(|to| to > *at)) else { continue };
        let since = *at - facts.bounds.look;
        let is_lost_to = |observer| facts.is_lost_to(observer, life.node, since, *at);
        let others: Vec<NodeIdx> = facts.living(*at).filter(|other| ![life.node, *node].contains(other)).collect();
        let is_pair = !facts.sees_another(*by, *instance, *at);
        let has_witness = is_pair || others.iter().any(|&other| is_lost_to(other));
        // Among so few members, each was asked; one that has ended, but is not known to have, may have been one of them.
        let mut asked = facts.members_of(*by, since, *at).filter(|other| other.instance != *instance);
        let is_contradicted = asked.clone().count() <= WITNESSES
            && asked.any(|other| other.to.is_none_or(|to| to > *at) && !facts.touched(other.node, since, *at));
        if !is_lost_to(*node) || !has_witness || is_contradicted {
            let detail = format!("{name} ({instance}) is said to have crashed, and its process lives");
            return Err(Violation::safety("crashes-are-real", *at, detail).on(*node));
        }
    }
    Ok(())
}

/// A node believes that another process lives at its address only where one does.
fn conflicts_are_real(facts: &Facts<'_>) -> Result<(), Violation> {
    let conflicts = facts.told.iter().filter(|told| *told.event == Event::AddressConflict);
    for Told { at, node, by, .. } in conflicts {
        let mut lives = facts.history.lives.iter().filter(|life| life.node == *node && life.instance != *by);
        let has_twin = lives.any(|life| life.from <= *at && life.to.is_none_or(|to| to >= *at));
        let had_twin = facts.history.faults.iter().any(|fault| {
            matches!(fault.kind, FaultKind::Twin(one, other) if one == *node || other == *node) && fault.from <= *at
        });
        if !has_twin && !had_twin {
            let detail = "believes that another process speaks from its address, and there is none";
            return Err(Violation::safety("no-false-conflict", *at, detail).on(*node));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
