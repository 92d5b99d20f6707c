//! Why each rule of the protocols is there: for each one a small counterexample in virtual time.
//!
//! A script is played twice, as it is and with the rule taken out. With the rule the promise holds; without it the
//! promise is broken, which is judged from the children's own start and stop times, from listings and from users'
//! calls. So a rule that gets lost from the code makes its test fail. Where two rules cover each other, both are taken
//! out, and the test says so.

mod crashes;
mod handover;
mod membership;
mod pauses;
mod scopes;
mod security;
mod slips;
mod state;
mod support;
