//! Checks that what is served is what the ledger says.
//!
//! Promises: names the first difference, and where it is; never shows personal data.
//! Never: changes anything, or reads in one long transaction.

mod verify;

pub use verify::{Verified, verify};
