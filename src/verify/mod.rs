//! Checks that a ledger, or an export of one, still is what was signed, and that everything else
//! follows from it. docs/proof.md says what is checked, step by step.
//!
//! Promises: lines, columns, tree, checkpoints, commitments, decisions and the contact table are all
//! checked, while requests run; it fails with the first [`Mismatch`].
//! Never: changes anything; names an email or a phone number.

mod activated;
mod commitments;
mod contacts;
mod decisions;
mod edges;
mod folder;
mod lines;
mod mismatch;
mod numbers;
mod outside;
mod page;
mod rule_change;
mod tree;
mod walk;

#[cfg(test)]
mod decision_tests;

pub use folder::{VerifiedFolder, verify_folder};
pub use mismatch::Mismatch;
pub use walk::{Trust, Walked};

use crate::identity::Position;
use crate::ledger::{self, Database};
use contacts::{Compared, compare_contacts};
use walk::walk;

const CHECKING: &str = "checking events";

/// What was found to be right.
pub struct Verified {
    /// The position at which the last contacts were compared.
    pub position: Position,
    pub contacts_len: usize,
    /// Whether the keys of contacts were compared, too. They are not if they need another version
    /// of a normaliser.
    pub keys_compared: bool,
    pub walked: Walked,
}

/// Checks the whole ledger, and then the contact table. Fails with the first [`Mismatch`]. Nothing
/// is erased meanwhile.
pub async fn verify(database: &Database, trust: Trust) -> anyhow::Result<Verified> {
    let mut owner = database.pager().await?;
    ledger::block_erasures(&mut owner, "verify").await?;
    let (walked, decisions) = walk(database, trust).await?;
    let Compared { position, contacts_len, keys_compared } =
        compare_contacts(owner, decisions).await?;
    Ok(Verified { position, contacts_len, keys_compared, walked })
}
