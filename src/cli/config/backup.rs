//! Backing up and restoring.

use super::shared::{Operator, SealConfig, reason};
use clap::Args;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct BackupConfig {
    /// The directory to make, for its owner only: it holds emails and phone numbers.
    pub dir: PathBuf,
}

#[derive(Args)]
pub struct RestoreConfig {
    /// The directory that `identity-ledger backup` made.
    #[arg(required_unless_present = "accept_loss", conflicts_with = "accept_loss")]
    pub dir: Option<PathBuf>,

    /// Record in the ledger that what it lacks of the checkpoint in --checkpoint-dir is lost, skip the
    /// positions and numbers that may have been given out, and sign under a new name from then on.
    #[arg(long, requires = "reason", requires = "erasing")]
    accept_loss: bool,

    /// The reason, for the ledger. No personal data: it stays there for ever.
    #[arg(long, value_name = "TEXT", value_parser = reason, requires = "accept_loss")]
    reason: Option<String>,

    /// Erase again every customer that this export of the lost ledger records as erased. The export
    /// must verify, and begin with exactly what is left.
    #[arg(long, value_name = "EXPORT_DIR", requires = "accept_loss", group = "erasing")]
    pub erasures: Option<PathBuf>,

    /// Erase no one again: every customer erased since the backup comes back for good. This or
    /// --erasures must be given, each time the command is run.
    #[arg(long, requires = "accept_loss", group = "erasing")]
    no_erasures: bool,

    #[command(flatten)]
    pub operator: Operator,

    /// Do not ask for confirmation.
    #[arg(long, short, requires = "accept_loss")]
    pub yes: bool,

    #[command(flatten)]
    pub seal: SealConfig,
}

impl RestoreConfig {
    /// What is to be done.
    pub fn what(&self) -> What<'_> {
        match (&self.dir, &self.reason) {
            (Some(dir), _) => What::Restore(dir),
            (None, reason) => What::AcceptLoss(reason.as_deref().unwrap_or_default()),
        }
    }
}

/// The two ways to restore.
pub enum What<'a> {
    /// Put back the backup in this directory.
    Restore(&'a Path),
    /// Accept a loss, for this reason.
    AcceptLoss(&'a str),
}
