//! The pure core: what an identifier is, what a rule says, what an observation
//! means (`resolve`) and what an event does to the contacts (`fold`).
//!
//! Promises: the same input gives the same output, on every machine, for ever.
//! Everything that decides or replays (recorder, rebuild, verify) calls these
//! functions; none has a version of its own.
//! Never: I/O, a clock, randomness, SQL, HTTP.

mod answer;
mod event;
mod fold;
mod id;
mod identifier;
mod identities;
mod key;
mod links;
mod observation;
mod resolve;
mod rules;

#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use event::{CorruptLine, Event, Fact, Matched, RulesActivated, Timestamp};
pub use fold::{Change, fold};
pub use id::{ContactId, ObservationId, Position};
pub use identifier::{Email, Invalid, PhoneNumber};
pub use identities::{Contact, Identities, Identity, Link};
pub use key::Key;
pub use links::{Links, Standing};
pub use observation::{Commitment, Identifiers, Keys, Observation, Salt};
pub use resolve::resolve;
pub use rules::{DEFAULT_RULES, E164_RULES, EXACT_RULES, Rules, RulesDigest, RulesError};
