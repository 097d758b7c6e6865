//! The pure core: what an identifier is, what a rule says, what an observation
//! means (`resolve`) and what an event does to the contacts (`fold`).
//!
//! Promises: the same input gives the same output, on every machine, for ever, but for letters that
//! the compiler's Unicode does not know yet.
//! Everything that decides or replays (recorder, rebuild, verify) calls these
//! functions; none has a version of its own.
//! Never: I/O, a clock, randomness, SQL, HTTP.

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
mod reading;
mod reason;
mod resolve;
mod root;
mod rules;
mod why;

#[cfg(test)]
mod erasure_tests;
#[cfg(test)]
mod rule_change_tests;
#[cfg(test)]
mod test_ledger;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Written};
pub use asker::Asker;
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
pub use reading::reading;
pub use reason::{NoReasonCode, ReasonCode};
pub use resolve::{Decision, Known, believe, resolve};
pub use root::Root;
pub use rules::{DEFAULT_RULES, E164_RULES, EXACT_RULES, Rules, RulesDigest, RulesError};
pub use why::{Chain, Chained, Keyed, SharedIdentifier, Unlinked, chain, unlinked};
