//! What a node counts, by name.

/// Defines the counters once, so that they can also be listed and summed.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// Counters since the node started. Each refusal of input has one, and so has each event that is too rare to
        /// be sure that a test has seen it.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $name: u64,)*
        }

        impl Stats {
            /// Every counter with its name, in the order of their declaration.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }

            /// Adds the counters of another node, or of another life of this one.
            pub fn add(&mut self, other: &Stats) {
                $(self.$name = self.$name.saturating_add(other.$name);)*
            }
        }
    };
}

counters! {
    /// Datagrams that arrived.
    datagrams_received,
    /// Datagrams that were sent.
    datagrams_sent,
    /// Bytes of the datagrams that arrived.
    datagram_bytes_received,
    /// Bytes of the datagrams that were sent.
    datagram_bytes_sent,
    /// Datagrams that the operating system did not take.
    datagrams_unsent,
    /// Frames that arrived on streams.
    frames_received,
    /// Frames that were sent on streams, or queued for one.
    frames_sent,
    /// Bytes of the frames that arrived.
    frame_bytes_received,
    /// Bytes of the frames that were sent.
    frame_bytes_sent,
    /// Packets, frames or messages that no honest node sends.
    refused_malformed,
    /// Packets and frames whose checksum is wrong: they were damaged on the way.
    refused_corrupt,
    /// Packets and frames of another cluster.
    refused_other_cluster,
    /// Packets and frames in plaintext, where this node has a keyring.
    refused_plaintext,
    /// Sealed packets and frames, where this node has no keyring.
    refused_sealed,
    /// Packets and frames that are sealed with a key that this node does not have.
    refused_key,
    /// Packets and frames that name a key of this node and were not sealed with it, or were changed since.
    refused_forged,
    /// Sealed packets and frames that came before, or so late that this can't be known.
    refused_replay,
    /// Sealed packets of a life that no member knows and that has not answered a challenge.
    refused_unproven,
    /// Lives that were asked to show that they go on.
    challenges_sent,
    /// Packets and frames of another version of the protocol.
    refused_wire_version,
    /// What somebody said who is not an active member, or who spoke for another one.
    refused_not_member,
    /// Records that claim to be writes of this instance and are not.
    refused_serial,
    /// What was over a limit.
    refused_limit,
    /// SWIM packets that foca refused.
    swim_errors,
    /// Suspicions that were refuted in time and so came to nothing.
    suspect_timers_dropped,
    /// Suspicions of this node that it was told of and refuted.
    refutations,
    /// New identities of this node, because the others had declared it down.
    rejoins,
    /// Members that came.
    members_up,
    /// Members that went.
    members_down,
    /// Announces beyond those that foca sends by itself.
    announces_retried,
    /// Suspects that were told that they are suspected.
    buddy_messages,
    /// Messages to somebody who speaks here although it is down.
    you_are_down_sent,
    /// Times at which another process spoke from this node's address.
    address_conflicts,
    /// Members that were found to have the name of another live one.
    name_conflicts,
    /// Times at which this process had stood still.
    pauses,
    /// Scopes in which this node settled without the state of a settled member.
    settled_alone,
    /// Questions whether a child may start.
    asks_sent,
    /// Questions that went through another member too.
    asks_relayed,
    /// Rounds in which a claimer was asked because all others had permitted the start.
    claimers_asked_last,
    /// Permissions given.
    answers_free,
    /// Permissions refused for now.
    answers_busy,
    /// Permissions that had expired when they were looked at.
    frees_expired,
    /// Answers that had to wait until the table of members of their sender was known.
    frees_deferred,
    /// Rounds that were begun anew.
    rounds_voided,
    /// Starts without the answer of a member that was silent for `confirm_timeout`.
    starts_without_answer,
    /// Runs that were started, restarts included.
    starts,
    /// Runs that were started again in place.
    restarts,
    /// Runs whose `init` failed.
    start_failures,
    /// Starts that waited because `limits.starting_max` children were starting or moving here.
    starts_held,
    /// Pauses of children that fail too often.
    backoffs,
    /// Runs whose arguments did not decode here.
    declines,
    /// Temporary children that were removed instead of started a second time.
    temporaries_ended,
    /// Runs that were stopped because the owner asked for the child.
    stops_for_move,
    /// Live claims of others that an owner saw on a child that it runs.
    claim_conflicts,
    /// Rounds in which an owner asked others that claim its child to stop.
    challenges,
    /// Runs that were stopped in favour of a later one elsewhere.
    yields,
    /// Runs that ended while another one may have been alive.
    duplicates_resolved,
    /// For how long that was, in nanoseconds.
    duplicate_nanos,
    /// Children that the audit looked at.
    audited,
    /// Children that the audit found in a wrong state: each is a bug.
    audit_repairs,
    /// Records that were replaced because a later one names them as what it replaced.
    replaced_over,
    /// Lives that were known to be removed before they were ever held.
    removed_unheld,
    /// Writes of this node that lost to a concurrent one with another spec.
    starts_lost,
    /// Writers that were forgotten because they are long dead.
    seen_pruned,
    /// Direct messages that were sent again.
    directs_retried,
    /// Direct messages that went through another member too.
    directs_relayed,
    /// Searches for a child that this node had not heard of.
    finds,
    /// Records that were left to the open pull that will tell of them.
    puts_ignored_in_pull,
    /// Pulls that this node completed.
    pulls_completed,
    /// Of the pulls that this node began, those in which everything that the other one holds had to be listed.
    pulls_full,
    /// Pulls that this node gave up.
    pulls_aborted,
    /// Pulls that this node served to the end.
    pulls_served,
    /// Pulls that this node refused because it served too many.
    pulls_refused,
    /// Fresh records for which there was no room in the gossip.
    gossip_dropped,
    /// Rumours that had been news here before, and were not read again.
    rumours_heard_again,
    /// Standing streams, by which members watch each other, that were opened from or to this node.
    watches_opened,
    /// Standing streams that ended without a word.
    watches_lost,
    /// Standing streams that this node refused: it watches as many as it may, or who dialled is down here.
    watches_refused,
    /// Members that this node looked at, because a standing stream ended or another member asked.
    looks,
    /// Looks that showed that the member lives, or that its process does.
    looks_alive,
    /// Looks that ended without knowing.
    looks_unclear,
    /// Times at which other members were asked to look too.
    witnesses_asked,
    /// Members that this node declared down because their process had ended, without waiting for suspicion.
    crashes_declared,
    /// Signs of life given to watchers.
    pulses_sent,
    /// Members whose sign of life did not come in time, and that were asked for another one.
    pulses_missed,
    /// Members that this node suspected because they did not answer that either.
    silences_suspected,
    /// Suspicions of this node that were refuted: it was wrong, and accuses less readily for a while.
    accusations_refuted,
    /// Members that this node declared down because others heard nothing of them either, before their suspicion was over.
    silences_declared,
    /// Turns that came so late that this process was held up itself.
    turns_late,
    /// Streams that this node opened.
    streams_opened,
    /// Streams that this node refused.
    streams_refused,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_listed_by_name_and_summed() {
        let mut sum = Stats { rejoins: 1, streams_refused: u64::MAX, ..Stats::default() };
        sum.add(&Stats { rejoins: 2, streams_refused: 2, ..Stats::default() });
        let listed: Vec<_> = sum.each().filter(|(_, count)| *count > 0).collect();
        assert_eq!(listed, [("rejoins", 3), ("streams_refused", u64::MAX)]);
    }
}
