//! Copies a ledger out of its database and back into one, by Postgres' own programs; and goes on with
//! one that has gone back in time.
//!
//! Promises: a backup holds at one position, whatever is recorded meanwhile; what is named as a
//! backup is whole, and what was restored is whole or is not there; a loss is told in the ledger.
//! Never: puts a password where others can read it, or repeats what a program says of a row.

mod dump;
mod forgotten;
mod loss;
mod manifest;
mod privileges;
mod program;
mod restore;
mod watch;

pub use dump::back_up;
pub use forgotten::{ToForget, forget_again, to_forget};
pub use loss::{Acceptance, accept, begin_anew};
pub use manifest::Manifest;
pub use restore::restore;
