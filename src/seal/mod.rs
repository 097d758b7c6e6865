//! Proves that nothing was rewritten: a Merkle tree over the events, signed as it grows.
//! docs/proof.md says how to check it without this code.
//!
//! Promises: a checkpoint covers durable events only, and never contradicts an earlier one; a crash at any
//! point loses nothing.
//! Never: stands in the write path, or signs what it could not check.

mod ask;
mod checkpoint;
mod error;
mod grow;
pub mod key;
mod loss;
mod outside;
mod proof;
mod sealer;
mod status;
mod store;
mod tree;

#[cfg(test)]
mod tests;

pub use ask::{Summary, checkpoint, prove, summary};
pub use checkpoint::{Checkpoint, NotACheckpoint};
pub use key::{LogName, SigningKey, VerifierKeys};
pub use loss::{Found, Left, Loss, loss};
pub use outside::{CheckpointDir, OutsideError};
pub use proof::{Question, Tiles, TilesDiffer, TreeHead};
pub use sealer::{SealInputs, Sealer, check, seal_anew, seal_once, start, watch};
pub use status::{Sealing, Status};
pub use store::{
    StoredCheckpoint, checkpoints_between, is_sealed, last_checkpoint, sealed_size, tiles,
};
pub use tlog_tiles::Hash;
pub use tree::{HASH_LEN, TILE_WIDTH, Tile, TileId, Tree};
