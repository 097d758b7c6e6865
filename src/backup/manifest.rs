//! The manifest of a backup: what the backup says of itself.

use super::privileges::Privileges;
use crate::files;
use crate::identity::Timestamp;
use crate::ledger::{LedgerName, schema_version};
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;

const FILE: &str = "manifest.json";
/// The directory that pg_dump writes, beside the manifest.
pub const DUMP: &str = "dump";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    pub ledger: String,
    /// The position of the last event in the backup.
    pub position: i64,
    pub schema_version: i64,
    /// When the backup was made, by the clock of the database.
    pub made_at: Timestamp,
    /// The size of the tables in the database.
    pub bytes: i64,
    /// The major version of the program that wrote the dump.
    pub pg_dump: u32,
    /// What the owner of the tables may do to them.
    pub privileges: Privileges,
}

impl Manifest {
    /// Writes the manifest. Durable when it returns.
    pub fn write(&self, backup: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        let file = backup.join(FILE);
        files::replace(&file, text.as_bytes(), files::PRIVATE)
            .with_context(|| files::cannot_write(&file))
    }

    /// Reads the manifest. Fails if there is no backup of this ledger, or if this binary is too
    /// old for it.
    pub fn read(backup: &Path, ledger: &LedgerName) -> anyhow::Result<Self> {
        let none =
            || format!("{} is not a backup that identity-ledger backup made", backup.display());
        let text = std::fs::read_to_string(backup.join(FILE)).with_context(none)?;
        let manifest: Self = serde_json::from_str(&text).with_context(none)?;
        ensure!(
            manifest.schema_version <= schema_version(),
            "{} was made by a newer version (it has migration {}); restore it with that version, or with \
             a newer one",
            backup.display(),
            manifest.schema_version
        );
        ensure!(
            manifest.ledger == ledger.as_str(),
            "{} is a backup of the ledger named {}; restore it with --ledger {}",
            backup.display(),
            manifest.ledger,
            manifest.ledger
        );
        Ok(manifest)
    }
}
