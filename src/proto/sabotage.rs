//! Rules of the two protocols that a test can take out, to show that something notices.
//!
//! Each is a row of the tables "without it" of the protocols' descriptions, or a bug that is easily made: the tests
//! play its counterexample, and the simulator has to find it from seeds. Without the feature `simulation` nothing can
//! be taken out: [`Sabotage::lacks`] is `false` to the compiler, and what depends on it is not even built.

use super::named::named;

named! {
/// A rule that can be taken out.
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
    /// A member that SWIM suspects has all the time to answer again after a pause of the process.
    PauseRenewsSuspicions,
    /// Questions that stayed unanswered before a pause of the process count no more after it.
    PauseRestartsDoubts,
    /// What was seen of a member before a pause of the process proves no crash after it.
    PauseEndsLooks,
    /// A pause of the process is no time in which others could be heard before a node settles alone.
    PauseRestartsWait,
    /// An owner that runs a child asks others that claim it to stop.
    Challenge,
    /// Asks are repeated.
    RetryAsks,
    /// A claim told by gossip never blocks a start.
    ClaimsAreHints,
    /// A Temporary child yields to nobody who only wants to run it.
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
    /// The same goes for records of which it is not clear yet whether the other one has seen them.
    IgnoreUnclear,
    /// What has changed since a pull began is compared again when the other one has taken its snapshot.
    CompareAgain,
    /// What was seen is never forgotten when its writer dies.
    NeverPrune,
    /// A suspicion that was refuted in time ends in nothing.
    SuspectTimerFilter,
    /// Suspects are told.
    BuddyMessages,
    /// A node without members goes on looking for some.
    KeepSeeking,
    /// A member whose port refuses is taken for crashed only when it answers nothing either.
    CrashIsSilent,
    /// A member that answers nothing is taken for crashed only when its port refuses too.
    CrashIsRefused,
    /// A member is taken for crashed only when a second one sees the same.
    CrashHasTwoWitnesses,
    /// Whoever hears nothing from those it asks accuses nobody: one of them may be missing, and only of three.
    UnwellAccusesNobody,
    /// A member that somebody still reaches is not taken for crashed.
    OneWhoReachesItSuffices,
    /// A death that others tell of is believed only when the member does not answer here either.
    ObituariesAreChecked,
    /// Whoever hears nobody accuses nobody, for as long as it may be its own fault.
    DeafAccusesNobody,
    /// A silent member is given up before its suspicion is over only when others hear nothing of it either.
    SilenceIsConfirmed,
    /// An exchange carries the table of members.
    ExchangeTable,
    /// A child that completed is done for ever.
    CompletedIsDone,
    /// Only an answer counts, not that the question was sent: what was sent may be lost.
    OnlyAnswersCount,
    /// A node that the others had declared down voids every round. What its Frees permitted has expired by then in
    /// every profile, so this is a second line behind that rule.
    RejoinVoidsRounds,
    /// What a member claims is void when it is down.
    DownVoidsClaims,
    /// Only what active members claim is taken.
    ClaimsOfActiveOnly,
    /// The highest run of a life is remembered beyond the claim that told of it.
    RunOutlivesClaim,
    /// A restart in place has a higher epoch.
    RestartRaisesEpoch,
    /// A child that fails too often backs off.
    IntensityIsLimited,
    /// A run ends when the spec that it runs was replaced.
    UpdateEndsRun,
    /// A node goes only when nothing runs on it any more.
    LeaveWaitsForChildren,
    /// A node settles beside settled members only when it has pulled the state of one.
    SettleByExchange,
    /// A start-up child has one dot on every node.
    StartupIsOneLife,
    /// A birth counts on from the births heard of, and is no time of a clock.
    BirthIsNoClock,
    /// Of two concurrent writes the one of the higher birth is kept.
    HigherBirthWins,
    /// Of two concurrent writes of one birth the one of the higher dot is kept.
    TiesByDot,
    /// Whoever is told that another life took the place of its own keeps it until that one has come.
    ReplacedIsNotGone,
    /// What was seen and is not held was removed, and is never taken again.
    RemovedStaysRemoved,
    /// A sealed packet counts once.
    ReplayWindow,
    /// A life that no member vouches for is believed only when it has shown that it goes on.
    LivesProveThemselves,
    /// In an exchange, what the other one has seen and does not hold is removed here too.
    ExchangeRemoves,
    /// Where witnesses that died were replaced, a crash is declared only while far more members live than are dead.
    MostLiveToReplace,
    /// Wherever a packet goes on with another scope, it says so.
    ScopesAreNamed,
}
}

/// Which rules are taken out. The default, and the only thing for production: none.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Sabotage(u64);

impl Sabotage {
    /// Every rule that can be taken out.
    pub const ALL: [Rule; Rule::ALL.len()] = Rule::ALL;

    /// Everything but this rule.
    pub const fn without(rule: Rule) -> Self {
        Sabotage(1 << rule as u64)
    }

    /// This rule taken out too.
    #[must_use]
    pub const fn and(self, rule: Rule) -> Self {
        Sabotage(self.0 | 1 << rule as u64)
    }

    /// Whether a rule is taken out.
    pub(crate) const fn lacks(self, rule: Rule) -> bool {
        cfg!(feature = "simulation") && self.0 & (1 << rule as u64) != 0
    }
}

impl std::fmt::Debug for Sabotage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(Rule::ALL.iter().filter(|rule| self.lacks(**rule))).finish()
    }
}
