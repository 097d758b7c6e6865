//! What a backup says of itself.

use super::privileges::Privileges;
use crate::files;
use crate::identity::Timestamp;
use crate::ledger::{LedgerName, schema_version};
use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;

const FILE: &str = "manifest.json";
/// What pg_dump wrote, beside the manifest.
pub const DUMP: &str = "dump";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    pub ledger: String,
    /// Of the last event in it.
    pub position: i64,
    pub schema_version: i64,
    /// By the database's clock.
    pub made_at: Timestamp,
    /// Of the tables, in the database.
    pub bytes: i64,
    /// The major version of the program that wrote the dump.
    pub pg_dump: u32,
    /// What the owner of the tables may do to them.
    pub privileges: Privileges,
}

impl Manifest {
    /// Durable when it returns.
    pub fn write(&self, backup: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        let file = backup.join(FILE);
        files::replace(&file, text.as_bytes(), files::PRIVATE)
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Fails where there is no backup of this ledger, or one that this binary cannot take.
    pub fn read(backup: &Path, ledger: &LedgerName) -> anyhow::Result<Self> {
        let none = || format!("{} is no backup that identity-ledger backup made", backup.display());
        let text = std::fs::read_to_string(backup.join(FILE)).with_context(none)?;
        let manifest: Self = serde_json::from_str(&text).with_context(none)?;
        ensure!(
            manifest.schema_version <= schema_version(),
            "{} was made by a newer version (it has migration {}); restore it with that, or with \
             a newer one",
            backup.display(),
            manifest.schema_version
        );
        ensure!(
            manifest.ledger == ledger.as_str(),
            "{} is of the ledger named {}; restore it with --ledger {}",
            backup.display(),
            manifest.ledger,
            manifest.ledger
        );
        Ok(manifest)
    }
}
