//! What an earlier export left in the folder.

use super::{CHECKPOINT, EVENTS, OBSERVATIONS, RULES_DIR};
use crate::files;
use crate::seal::{Checkpoint, StoredCheckpoint, TreeHead};
use anyhow::{Context as _, ensure};
use std::io;
use std::path::Path;

/// Fails where an export can neither begin nor go on in a folder. Observations that stay behind would
/// contradict the events.
pub fn check_goes_on(dir: &Path, with_observations: bool) -> anyhow::Result<()> {
    let is_taken = is_taken(dir).with_context(|| format!("cannot look into {}", dir.display()))?;
    ensure!(
        !is_taken,
        "{} is not empty, and no export is in it: give a new folder, or one that an export wrote",
        dir.display()
    );
    ensure!(
        with_observations || !dir.join(OBSERVATIONS).exists(),
        "{} has observations, which have to go on with the events: give --observations, or another \
         folder",
        dir.display()
    );
    Ok(())
}

/// Whether there is something else than an export. Its first files are rules and events.
fn is_taken(dir: &Path) -> io::Result<bool> {
    let mut entries = match dir.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    let is_export = [EVENTS, CHECKPOINT].iter().any(|name| dir.join(name).exists());
    Ok(!is_export && entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != RULES_DIR)))
}

/// What was exported before may be older than the ledger, never newer. Whose signature it has does
/// not matter here: whoever could put another one there could as well take it away.
pub fn check_kept(dir: &Path, last: Option<&StoredCheckpoint>) -> anyhow::Result<()> {
    let file = dir.join(CHECKPOINT);
    let note = files::read_if_any(&file);
    let note = note.with_context(|| format!("cannot read {}", file.display()))?;
    let Some(note) = note else { return Ok(()) };
    let kept = Checkpoint::read_by(&note, None);
    let kept = kept.with_context(|| format!("{} is no checkpoint", file.display()))?.head;
    let last = last.and_then(StoredCheckpoint::head);
    let continues = |last: TreeHead| last.size > kept.size || last == kept;
    ensure!(
        last.is_some_and(continues),
        "{} covers {} events, and the ledger's checkpoint does not continue it: the database has \
         gone back in time, or this is the folder of another ledger",
        file.display(),
        kept.size
    );
    Ok(())
}
