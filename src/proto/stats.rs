//! What a node counts and measures, by name: one table each, from which come the struct, its listing and the metrics.

use std::time::Duration;

/// What kind of figure one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FigureKind {
    /// It only grows while the node lives.
    Counter,
    /// It is how something stands just now.
    Gauge,
}

/// One figure of a table, with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Figure {
    /// The name of its field. What ends in `_nanos` or `_nanos_max` is in nanoseconds.
    pub name: &'static str,
    /// The name under which it is published as a metric: its field's, after `haulout_` or `haulout_scope_`.
    pub metric: &'static str,
    /// Whether it only grows.
    pub kind: FigureKind,
    /// What it says, in a sentence or two.
    pub help: &'static str,
    /// How much it is.
    pub value: u64,
}

/// Defines figures once, so that they can also be listed, summed and published.
macro_rules! figures {
    (
        $(#[doc = $about:literal])+ $table:ident published as $prefix:literal
        counters: $($(#[doc = $doc:literal])+ $name:ident,)*
        gauges: $($(#[doc = $gauge_doc:literal])+ $gauge:ident,)*
        $(beside: $(#[doc = $beside_doc:literal])+ $beside:ident: $beside_type:ty,)?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $table {
            $($(#[doc = $doc])+ pub $name: u64,)*
            $($(#[doc = $gauge_doc])+ pub $gauge: u64,)*
            $($(#[doc = $beside_doc])+ pub $beside: $beside_type,)?
        }

        impl $table {
            /// Every figure with its name and what it says, counters first, in the order of their declaration.
            pub fn figures(&self) -> impl Iterator<Item = Figure> + use<> {
                [
                    $(Figure {
                        name: stringify!($name),
                        metric: concat!($prefix, stringify!($name)),
                        kind: FigureKind::Counter,
                        help: concat!($($doc),+).trim_ascii(),
                        value: self.$name,
                    },)*
                    $(Figure {
                        name: stringify!($gauge),
                        metric: concat!($prefix, stringify!($gauge)),
                        kind: FigureKind::Gauge,
                        help: concat!($($gauge_doc),+).trim_ascii(),
                        value: self.$gauge,
                    },)*
                ].into_iter()
            }

            /// Every counter with its name.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                self.figures().filter(|figure| figure.kind == FigureKind::Counter).map(|it| (it.name, it.value))
            }

            /// Adds the figures of another node, another life of this one, or another scope. Of a greatest one (its name
            /// ends in `_max`) the greater is kept.
            pub fn add(&mut self, other: &$table) {
                $(self.$name = self.$name.saturating_add(other.$name);)*
                $(self.$gauge = match stringify!($gauge).ends_with("_max") {
                    true => self.$gauge.max(other.$gauge),
                    false => self.$gauge.saturating_add(other.$gauge),
                };)*
                $(self.$beside.add(&other.$beside);)?
            }
        }
    };
}

figures! {
    /// What a node has counted since it started, and how it stands. Each refusal of input has a counter, and so has each
    /// event that is too rare to be sure that a test has seen it. Gauges are filled in where somebody asks for them.
    Stats published as "haulout_"
    counters:
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
    /// Frames that were sent on streams.
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
    /// Packets and Hellos that did not come from where their sender says that it is, with `check_source`.
    refused_source,
    /// Sealed packets that name a life of which nothing is known, from a source that sends too many of them: they were not
    /// deciphered.
    refused_rate,
    /// Lives that were asked to show that they go on.
    challenges_sent,
    /// Questions of operators' tools, which are no members, that were answered: each handshake and each datagram.
    examinations,
    /// Packets and frames of another version of the protocol.
    refused_wire_version,
    /// What somebody said who is not an active member, or who spoke for another one.
    refused_not_member,
    /// Records that claim to be writes of this instance and are not.
    refused_serial,
    /// What was over a limit.
    refused_limit,
    /// Members that were told of when too many had come within a second, or were known: each packet or table counts once.
    refused_newcomers,
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
    /// Deaths that others told of and that were checked.
    obituaries,
    /// Deaths that others told of and that were not true.
    obituaries_refuted,
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
    /// Of the pulls that others began here, those in which every child that this node holds had to be listed.
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
    /// Streams that had not shaken hands and made room for newer ones.
    half_open_evicted,
    /// Open streams that made room for newer ones of the same member, which has more than it may.
    streams_crowded_out,
    /// Packets of SWIM that arrived. They ride on datagrams, together with messages.
    swim_packets_received,
    /// Bytes of these.
    swim_bytes_received,
    /// Messages that arrived and begin a stream: who dials and why, and the answer, with the table of members for a join.
    handshake_messages_received,
    /// Bytes of these.
    handshake_bytes_received,
    /// Messages that arrived and tell who lives: questions, signs of life, suspicions, tables of members.
    liveness_messages_received,
    /// Bytes of these.
    liveness_bytes_received,
    /// Messages that arrived and tell who may start a child: Asks, answers, and what leads or relays them.
    handover_messages_received,
    /// Bytes of these.
    handover_bytes_received,
    /// Messages that arrived and carry or acknowledge a record, or search for one.
    record_messages_received,
    /// Bytes of these, without rumours that were heard before.
    record_bytes_received,
    /// Messages that arrived and compare states: roots and the steps of exchanges.
    exchange_messages_received,
    /// Bytes of these.
    exchange_bytes_received,
    /// Packets of SWIM that were sent. What follows counts, as for what arrives, without heads and seals; what waits for a
    /// stream is counted too.
    swim_packets_sent,
    /// Bytes of these.
    swim_bytes_sent,
    /// Messages that were sent and begin a stream.
    handshake_messages_sent,
    /// Bytes of these.
    handshake_bytes_sent,
    /// Messages that were sent and tell who lives.
    liveness_messages_sent,
    /// Bytes of these.
    liveness_bytes_sent,
    /// Messages that were sent and tell who may start a child.
    handover_messages_sent,
    /// Bytes of these.
    handover_bytes_sent,
    /// Messages that were sent and carry or acknowledge a record, or search for one, rumours among them.
    record_messages_sent,
    /// Bytes of these.
    record_bytes_sent,
    /// Messages that were sent and compare states.
    exchange_messages_sent,
    /// Bytes of these.
    exchange_bytes_sent,
    /// Direct probes of SWIM that this node sent.
    probes_sent,
    /// Of these, those that the member itself answered.
    probes_answered,
    /// For how long children that this node owns did not run, in nanoseconds. What that is precisely is said in
    /// [`operations`](crate::operations).
    orphan_nanos,
    /// Times at which the protocol loop found that a timer was due.
    wakeups,
    /// Of these, those at which it was more than 5 ms late.
    wakeups_late_5ms,
    /// Of these, those at which it was more than 50 ms late: what waited in the sockets was read before any timer fired.
    wakeups_late_50ms,
    /// Of these, those at which it was more than 500 ms late: others were about to give this node up.
    wakeups_late_500ms,
    /// Times at which a child was found to block its thread, after a second and whenever that had doubled.
    blocks_noticed,
    gauges:
    /// Other members that are active here and not suspected.
    members_alive,
    /// Other members that are suspected.
    members_suspected,
    /// Members that are remembered as down, for 24 h, so that nothing late revives them.
    members_remembered_down,
    /// Scopes that this node has joined.
    scopes_joined,
    /// How long SWIM's probes take there and back, smoothed.
    probe_rtt_nanos,
    /// The longest so far.
    probe_rtt_nanos_max,
    /// How long Asks take there and back, smoothed; longer than probes while many children start.
    ask_rtt_nanos,
    /// How unwell this node thinks itself: 0 is well; up to 3 it waits that many times longer still before it accuses.
    unwell,
    /// Streams that this node has accepted.
    streams_accepted,
    /// Standing streams, by which members watch each other.
    streams_standing,
    /// Records that wait to be passed on by gossip.
    rumours_waiting,
    /// Children that start or move here now, of `limits.starting_max`.
    starting_places_taken,
    /// Bytes of datagrams that may wait to be read: what the kernel granted of `limits.datagram_buffer_bytes`.
    datagram_buffer_bytes,
    /// Bytes that wait to be sent on streams.
    stream_backlog_bytes,
    /// Calls and reports of children that wait for the protocol loop.
    inputs_waiting,
    /// How late the last timer fired.
    wakeup_late_nanos,
    /// How late the latest of all timers fired.
    wakeup_late_nanos_max,
    beside:
    /// The scopes of this node, all together.
    scopes: ScopeStats,
}

figures! {
    /// How one scope stands on one node.
    ScopeStats published as "haulout_scope_"
    counters:
    gauges:
    /// Live members, this node included.
    members,
    /// Of these, those that have the scope's state and may own children.
    members_settled,
    /// Children that are desired, wherever they run.
    children_desired,
    /// Of these, those that placement gives to nobody now: no live member that has settled and does not drain knows their
    /// kind, has their labels and understands their arguments. `which_children` says which is lacking. A node that drains may
    /// run them still.
    children_unplaced,
    /// Children that this node owns and for which it collects permissions.
    children_waiting,
    /// Children that could start, or be asked for, and wait because `limits.starting_max` start or move here already.
    children_held,
    /// For how long the first of these has waited.
    held_nanos_max,
    /// Children on this node whose `init` runs.
    children_starting,
    /// Children that run on this node.
    children_running,
    /// Children on this node that were told to stop.
    children_stopping,
    /// Children on this node that failed too often and wait.
    children_backing_off,
    /// For how long the child that this node owns and that has not run for longest has not.
    orphan_nanos_max,
    /// Records held: desired children, claims and members.
    records,
    /// Writers whose serial numbers are remembered.
    writers_seen,
    /// Ranges of serial numbers that are remembered of them.
    ranges_seen,
    /// Calls that wait for this node to settle.
    calls_waiting,
    /// For how long this node has not had the scope's state, so that calls and children wait; 0 once it has.
    unsettled_nanos_max,
    /// Searches, and records that whoever must act on them has not acknowledged yet.
    directs_waiting,
}

impl Stats {
    /// Counts how late a timer fired.
    #[cfg(feature = "runtime")]
    pub(crate) fn note_wakeup(&mut self, late: Duration) {
        self.wakeups += 1;
        self.wakeups_late_5ms += u64::from(late > Duration::from_millis(5));
        self.wakeups_late_50ms += u64::from(late > Duration::from_millis(50));
        self.wakeups_late_500ms += u64::from(late > Duration::from_millis(500));
        self.wakeup_late_nanos = nanos(late);
        self.wakeup_late_nanos_max = self.wakeup_late_nanos_max.max(self.wakeup_late_nanos);
    }
}

/// A duration as figures hold it.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no figure is forgotten by a sum or a listing. Method: one of each kind, added to another.
    #[test]
    fn figures_are_listed_by_name_and_summed() {
        let mut sum = Stats { rejoins: 1, streams_refused: u64::MAX, probe_rtt_nanos_max: 7, ..Stats::default() };
        sum.add(&Stats { rejoins: 2, streams_refused: 2, probe_rtt_nanos_max: 5, ..Stats::default() });
        let listed: Vec<_> = sum.figures().filter(|figure| figure.value > 0).map(|it| (it.name, it.value)).collect();
        assert_eq!(listed, [("rejoins", 3), ("streams_refused", u64::MAX), ("probe_rtt_nanos_max", 7)]);
        let rejoins = sum.figures().find(|figure| figure.name == "rejoins").expect("it is listed");
        assert_eq!(rejoins.kind, FigureKind::Counter);
        assert_eq!(rejoins.help, "New identities of this node, because the others had declared it down.");
    }

    /// Goal: how late the loop is shows at a glance. Method: wake-ups on time, a little late and far too late.
    #[cfg(feature = "runtime")]
    #[test]
    fn late_wakeups_are_counted_by_how_late_they_were() {
        let mut stats = Stats::default();
        [0, 6, 60, 600, 1].into_iter().for_each(|millis| stats.note_wakeup(Duration::from_millis(millis)));
        let late = [stats.wakeups, stats.wakeups_late_5ms, stats.wakeups_late_50ms, stats.wakeups_late_500ms];
        assert_eq!(late, [5, 3, 2, 1]);
        assert_eq!((stats.wakeup_late_nanos, stats.wakeup_late_nanos_max), (1_000_000, 600_000_000));
    }
}
