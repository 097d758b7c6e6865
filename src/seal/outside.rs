//! The last checkpoint, kept outside of the database.

use super::checkpoint::{Checkpoint, NotACheckpoint};
use super::key::VerifierKeys;
use crate::files;
use crate::ledger::LedgerName;
use crate::threads::on_a_thread;
use std::io;
use std::path::{Path, PathBuf};

/// A directory that keeps the last checkpoint of a ledger, so that it is still there when an older copy of
/// the database is put back.
#[derive(Clone, Debug)]
pub struct CheckpointDir {
    file: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    #[error("cannot read or write {}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
    #[error("{} is not a checkpoint of this ledger: {}", .0.display(), .1)]
    NotOurs(PathBuf, NotACheckpoint),
}

impl CheckpointDir {
    /// The file is named after the ledger: several ledgers may share a directory.
    pub fn new(dir: &Path, ledger: &LedgerName) -> Self {
        Self { file: dir.join(format!("{}.checkpoint", ledger.as_str())) }
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The checkpoint that was written last. `None` before the first. Its signature is checked if there are
    /// keys.
    pub fn read(&self, keys: Option<&VerifierKeys>) -> Result<Option<Checkpoint>, OutsideError> {
        let note = files::read_if_any(&self.file)
            .map_err(|error| OutsideError::Io(self.file.clone(), error))?;
        // The database may have lost the event that gave the log its present name.
        let read =
            |note: String| Checkpoint::read_by(&note, keys.map(|keys| keys.as_in(&note)).as_ref());
        note.map(read).transpose().map_err(|error| OutsideError::NotOurs(self.file.clone(), error))
    }

    /// As `read`, on a thread: the directory may be on another machine, which may be gone.
    pub async fn read_aside(&self, keys: &VerifierKeys) -> anyhow::Result<Option<Checkpoint>> {
        let (dir, keys) = (self.clone(), keys.clone());
        on_a_thread(move || Ok(dir.read(Some(&keys))?)).await
    }

    /// Makes the directory if it is missing. To be called at a start only: if the directory vanishes later,
    /// such as when a disk is unmounted, that has to be noticed.
    pub async fn make_aside(&self) -> anyhow::Result<()> {
        let dir = self.file.parent().map(Path::to_owned);
        on_a_thread(move || Ok(dir.map_or(Ok(()), std::fs::create_dir_all)?)).await
    }

    /// Fails if a checkpoint could not be written now.
    pub fn check_writable(&self) -> Result<(), OutsideError> {
        let check = files::check_writable(&self.file);
        check.map_err(|error| OutsideError::Io(self.file.clone(), error))
    }

    /// Gives the file a second name, durably, unless it has it already. Returns that name.
    pub fn keep_aside(&self, suffix: &str) -> Result<PathBuf, OutsideError> {
        let aside = self.file.with_extension(format!("checkpoint.{suffix}"));
        match files::link(&self.file, &aside) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(OutsideError::Io(self.file.clone(), error))
            }
            Ok(()) | Err(_) => Ok(aside),
        }
    }

    /// Writes a checkpoint. Durable when it returns. If the file covers more events already, writes nothing
    /// and returns false: the next sealer has begun, and what it signed must not be forgotten.
    pub fn write(&self, checkpoint: &Checkpoint) -> Result<bool, OutsideError> {
        if self.read(None)?.is_some_and(|kept| kept.head.size > checkpoint.head.size) {
            return Ok(false);
        }
        self.replace(&checkpoint.note)?;
        Ok(true)
    }

    /// Writes a checkpoint over the one that is there. Durable when it returns.
    pub fn replace(&self, note: &str) -> Result<(), OutsideError> {
        let replaced = files::replace(&self.file, note.as_bytes(), files::PUBLIC);
        replaced.map_err(|error| OutsideError::Io(self.file.clone(), error))
    }
}
