//! What is remembered: the append-only tables of one ledger, in one Postgres schema.
//!
//! Promises: positions have no gaps and are in commit order; what is written stays as it is.
//! Never: decides anything, or updates or deletes an event.

mod database;
mod events;
mod fault;
mod name;
mod open;
mod read;

pub use database::Database;
pub use events::{EventRow, Wanted, events_between};
pub use fault::{Fault, Unanswered};
pub use name::LedgerName;
pub use open::{SERVICE_ROLE, grant_to_service, open};
pub use read::{line_at, lines_after, position, recorded_rules, rules_documents, rules_in_force};
