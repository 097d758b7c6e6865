//! Checks what an earlier export left in the folder.

use super::lines::{LinesFile, watched_lines};
use super::{CHECKPOINT, EVENTS, OBSERVATIONS, RULES_DIR};
use crate::files;
use crate::seal::{Checkpoint, Tree, TreeHead};
use anyhow::{Context as _, ensure};
use std::fs::{DirEntry, File, TryLockError};
use std::io;
use std::path::Path;
use tlog_tiles::record_hash;

/// Fails if an export can neither begin nor go on in a folder. It cannot go on without the observations,
/// since those that are there would contradict the events.
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

/// Whether a folder holds something other than an export, whose first files are rules and events. Files
/// that systems put into folders of their own accord do not count.
fn is_taken(dir: &Path) -> io::Result<bool> {
    let mut entries = match dir.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    let is_export = [EVENTS, CHECKPOINT].iter().any(|name| dir.join(name).exists());
    let is_ours = |name: &str| name == RULES_DIR || name == "lost+found" || name.starts_with('.');
    let is_foreign = |entry: DirEntry| entry.file_name().to_str().is_none_or(|name| !is_ours(name));
    Ok(!is_export && entries.any(|entry| entry.is_ok_and(is_foreign)))
}

/// Fails if another export is at work in a folder: both would append the same lines. Holds the lock until the
/// file is dropped.
pub fn lock(dir: &Path) -> anyhow::Result<File> {
    let file = File::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
    // Without an answer, as on a file system that knows no locks, an export goes on.
    let is_taken = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    ensure!(
        !is_taken,
        "another export writes to {}; try again when it has finished",
        dir.display()
    );
    Ok(file)
}

/// What the checkpoint in the folder covers, if there is one. It may be older than the ledger, never
/// newer. Its signature is not checked: a forger who can put it there could as well take it away.
pub fn check_kept(dir: &Path, signed: Option<TreeHead>) -> anyhow::Result<Option<TreeHead>> {
    let file = dir.join(CHECKPOINT);
    let note = files::read_if_any(&file);
    let note = note.with_context(|| format!("cannot read {}", file.display()))?;
    let Some(note) = note else { return Ok(None) };
    let kept = Checkpoint::read_by(&note, None);
    let kept = kept.with_context(|| format!("{} is no checkpoint", file.display()))?.head;
    let continues = |signed: TreeHead| signed.size > kept.size || signed == kept;
    ensure!(
        signed.is_some_and(continues),
        "{} covers {} events, and the ledger's checkpoint does not continue it: the database has \
         gone back in time; or that was accepted since, and you need a new folder; or this is the folder of \
         another ledger",
        file.display(),
        kept.size
    );
    Ok(Some(kept))
}

/// The tree over the whole lines of a file of events. Fails if they are not those that the checkpoint
/// beside them covers. A line that a crash has torn is cut off.
pub fn tree(file: &Path, kept: Option<TreeHead>) -> anyhow::Result<Tree> {
    LinesFile::open(file, files::PUBLIC)?.0.finish()?;
    let mut tree = Tree::default();
    for line in watched_lines(file, "reading events (MB)")? {
        tree.push(record_hash(line?.as_bytes()), &mut Vec::new());
        let is_right = |kept: TreeHead| kept.size != tree.size() || kept.root == tree.root();
        ensure!(
            kept.is_none_or(is_right),
            "{} does not have the root that the checkpoint beside it has: one of the two was changed; \
             export to a new folder",
            file.display()
        );
    }
    Ok(tree)
}
