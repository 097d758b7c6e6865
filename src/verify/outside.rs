//! The checkpoint that the service keeps outside the database.

use super::mismatch::Mismatch;
use crate::identity::Gaps;
use crate::seal::{Checkpoint, CheckpointDir, OutsideError, TreeHead, VerifierKeys};
use anyhow::Context as _;

/// The part that mismatches if it differs.
pub const OUTSIDE: &str = "checkpoint outside";

/// The checkpoint that the service keeps outside. Fails if there is none: a sealer may begin without
/// one, but here nothing would be compared.
pub fn kept_outside(
    dir: &CheckpointDir,
    keys: Option<&VerifierKeys>,
) -> anyhow::Result<Checkpoint> {
    let kept = dir.read(keys).map_err(|error| match error {
        OutsideError::NotOurs(_, why) => Mismatch::checkpoint(OUTSIDE, &why).into(),
        OutsideError::Io(..) => anyhow::Error::from(error),
    })?;
    kept.with_context(|| {
        let file = dir.file().display();
        format!("there is no checkpoint {file}; --checkpoint-dir is where the service keeps it")
    })
}

/// What a checkpoint kept outside covers. Fails if it is in a name that the log no longer had at that
/// size.
pub fn named(kept: Checkpoint, gaps: &Gaps) -> anyhow::Result<TreeHead> {
    // An export may be older than the loss that gave the log its present name.
    let is_known = kept.restored_at().is_none_or(|at| gaps.restored().any(|known| known == at));
    let head = kept.head;
    if is_known {
        kept.named_as(gaps).map_err(|why| Mismatch::checkpoint(OUTSIDE, &why))?;
    }
    Ok(head)
}
