//! The pure core: what an identifier is, what a rule says, what an observation means (`resolve`) and
//! what an event does to the contacts (`fold`).
//!
//! Promises: the same input gives the same output, on every machine, for ever, except for letters that
//! the compiler's Unicode does not know yet.
//! Everything that decides or replays (recorder, rebuild, verify) calls these functions; none has a
//! version of its own.
//! Never: I/O, a clock, randomness, SQL, HTTP.
//!
//! `fold` says what an event changes. What it says is kept in one of these, each for another purpose:
//!
//! - `Identities`: some whole identities with their values. The recorder decides on them, and folds in
//!   what it has decided.
//! - `Links`: who belongs to whom, for a whole ledger, in a few bytes an observation. Rebuild and
//!   verify fold all events into it.
//! - `Holders`: which contact holds a key, in a few bytes a key. No event says so, so rebuild and verify
//!   find it out from the keys of the contacts, in order.
//! - `Census`: `Links` and `Holders` decided again from the observations, as if the rules had been in
//!   force from the start. A rule change leads to it, and verify compares with it.
//! - `Past`: some identities at a position, folded from the events that concern them. It answers what
//!   was known then, and why.

mod answer;
mod asker;
mod census;
mod differences;
mod erasures;
mod event;
mod fact;
mod fold;
mod gaps;
mod holders;
mod id;
mod identifier;
mod identities;
mod key;
mod links;
mod observation;
mod past;
mod reason;
mod resolve;
mod root;
mod rules;
mod sentence;
mod why;

#[cfg(test)]
mod erasure_tests;
#[cfg(test)]
mod rule_change_tests;
#[cfg(test)]
pub mod test_ledger;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Written};
pub use asker::{Asker, TOKEN_PREFIX};
pub use census::{Census, Dated};
pub use differences::Differences;
pub use erasures::Erasures;
pub use event::{CorruptLine, Event, Timestamp, rfc_3339};
pub use fact::{
    ContactErased, ContactIntroduced, ContactLinked, ContactObserved, ContactPromoted,
    ContactRetired, Fact, LedgerRestored, Matched, ObservationMoved, PrimaryDemoted,
    RulesActivated,
};
pub use fold::{Change, fold};
pub use gaps::Gaps;
pub use holders::{Holders, Holds};
pub use id::{ContactId, ObservationId, Position};
pub use identifier::{Email, Field, Invalid, PhoneNumber};
pub use identities::{Contact, Identities, Identity, Link};
pub use key::Key;
pub use links::{Filing, Links, Standing};
pub use observation::{Commitment, Identifiers, Keys, Salt};
pub use past::Past;
pub use reason::{NoReasonCode, ReasonCode};
pub use resolve::{Decision, Known, believe, resolve};
pub use root::Root;
pub use rules::{DEFAULT_RULES, E164_RULES, EXACT_RULES, Rules, RulesDigest, RulesError, line_of};
pub use sentence::sentence;
pub use why::{Chain, Chained, Keyed, SharedIdentifier, Unlinked, chain, unlinked};
