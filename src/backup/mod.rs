//! Copies a ledger out of its database and back into one, with the programs of Postgres; and continues a
//! ledger whose database has gone back in time.
//!
//! Promises: a backup is of one position, whatever is recorded meanwhile; a directory that has the name of a
//! backup is complete; a restore brings back the whole ledger or nothing; a loss is recorded in the ledger.
//! Never: puts a password where others can read it, or repeats what a program says of a row.

mod dump;
mod erasures;
mod loss;
mod manifest;
mod privileges;
mod program;
mod restore;
mod watch;

pub use dump::back_up;
pub use erasures::{ToErase, erase_again, to_erase};
pub use loss::{Acceptance, accept, begin_anew};
pub use manifest::Manifest;
pub use restore::restore;
