//! Checks that what is served is what the ledger says, and that the ledger is what was signed.
//!
//! Promises: names the first difference, and where it is; never shows personal data.
//! Never: changes anything, or reads in one long transaction.

mod commitments;
mod decisions;
mod difference;
mod folder;
mod lines;
mod tree;
mod verify;
mod walk;

pub use difference::Difference;
pub use folder::{VerifiedFolder, verify_folder};
pub use verify::{Verified, verify, verify_with};
pub use walk::{Trust, Walked};
