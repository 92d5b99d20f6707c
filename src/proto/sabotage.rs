//! Rules of the two protocols that a test can take out, to show that something notices.
//!
//! Each is a row of the tables "without it" of the protocols' descriptions: the tests play its counterexample, and
//! the simulator has to find it from seeds. In production nothing is taken out; asking costs one bit test.

/// A rule that can be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rule {
    /// The owner asks before it starts.
    Ask,
    /// It asks every active member, not only those that may own the child.
    AskAll,
    /// A runner answers Free only when the child has stopped.
    FreeOnlyWhenStopped,
    /// A runner stops only when asked by the owner, not when it sees that it is not the owner any more.
    StopOnlyWhenAsked,
    /// Answers tell of members, and a Free counts only when they are known.
    AnswersCarryMembers,
    /// Answers tell that a life is gone, and which runs it had.
    AnswersCarryLife,
    /// An answer counts only in the round that it answers.
    AnswersBoundToRound,
    /// A member that goes without having answered Free voids the round.
    DownVoidsRound,
    /// A Free expires.
    FreeExpires,
    /// A pause of the process voids every round.
    PauseVoidsRounds,
    /// An owner that runs a child asks others that claim it to stop.
    Challenge,
    /// Asks are repeated.
    RetryAsks,
    /// A claim told by gossip never blocks a start.
    ClaimsAreHints,
    /// A Temporary child never yields.
    TemporaryStays,
    /// A run yields to a later one that is known to run.
    YieldToLaterRun,
    /// Which dots were seen is remembered as ranges, not as a maximum.
    SeenAsRanges,
    /// A birth is higher than every birth heard of.
    BirthAboveTop,
    /// A record names the one that it replaced.
    OverReplaced,
    /// A removal is remembered even of what was never held.
    RememberUnheld,
    /// What the other one had seen is adopted only when the pull is complete.
    AdoptAtEnd,
    /// While a pull is open, direct records that the other one has seen are ignored.
    IgnoreWhilePulling,
    /// What was seen is never forgotten when its writer dies.
    NeverPrune,
    /// A suspicion that was refuted in time ends in nothing.
    SuspectTimerFilter,
    /// Suspects are told.
    BuddyMessages,
    /// A node without members goes on looking for some.
    KeepSeeking,
    /// An exchange carries the table of members.
    ExchangeTable,
    /// A child that completed is done for ever.
    CompletedIsDone,
}

/// Which rules are taken out. The default, and the only thing for production: none.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Sabotage(u32);

impl Sabotage {
    /// Every rule that can be taken out.
    pub const ALL: [Rule; 27] = [
        Rule::Ask,
        Rule::AskAll,
        Rule::FreeOnlyWhenStopped,
        Rule::StopOnlyWhenAsked,
        Rule::AnswersCarryMembers,
        Rule::AnswersCarryLife,
        Rule::AnswersBoundToRound,
        Rule::DownVoidsRound,
        Rule::FreeExpires,
        Rule::PauseVoidsRounds,
        Rule::Challenge,
        Rule::RetryAsks,
        Rule::ClaimsAreHints,
        Rule::TemporaryStays,
        Rule::YieldToLaterRun,
        Rule::SeenAsRanges,
        Rule::BirthAboveTop,
        Rule::OverReplaced,
        Rule::RememberUnheld,
        Rule::AdoptAtEnd,
        Rule::IgnoreWhilePulling,
        Rule::NeverPrune,
        Rule::SuspectTimerFilter,
        Rule::BuddyMessages,
        Rule::KeepSeeking,
        Rule::ExchangeTable,
        Rule::CompletedIsDone,
    ];

    /// Everything but this rule.
    pub const fn without(rule: Rule) -> Self {
        Sabotage(1 << rule as u32)
    }

    /// This rule taken out too.
    #[must_use]
    pub const fn and(self, rule: Rule) -> Self {
        Sabotage(self.0 | 1 << rule as u32)
    }

    /// Whether a rule is taken out.
    pub(crate) const fn lacks(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u32) != 0
    }
}

impl std::fmt::Debug for Sabotage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(Sabotage::ALL.iter().filter(|rule| self.lacks(**rule))).finish()
    }
}
