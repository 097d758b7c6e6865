//! Copies a ledger out of its database and back into one, by Postgres' own programs.
//!
//! Promises: a backup holds at one position, whatever is recorded meanwhile; what is named as a
//! backup is whole, and what was restored is whole or is not there.
//! Never: puts a password where others can read it, or repeats what a program says of a row.

mod dump;
mod manifest;
mod privileges;
mod program;
mod restore;
mod watch;

pub use dump::back_up;
pub use manifest::Manifest;
pub use restore::restore;
