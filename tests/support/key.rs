//! A signing key of a test's own.

use super::{TestLedger, command, scratch_dir, succeeds};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// In a directory that goes with it, with room for more.
pub struct SigningKey {
    dir: TempDir,
    file: PathBuf,
    pub verifier_key: String,
}

impl SigningKey {
    pub fn new() -> Self {
        let dir = scratch_dir();
        let file = dir.path().join("signing.key");
        let made = succeeds(command(&["key", "new", "--name", "ledger.test/shop"]).arg(&file));
        Self { dir, file, verifier_key: made.trim_end().to_owned() }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn file(&self) -> &str {
        self.file.to_str().unwrap()
    }

    /// What a command needs to work on a ledger with this key.
    pub fn args<'a>(&'a self, ledger: &'a TestLedger) -> [&'a str; 4] {
        ["--database-url", &ledger.url, "--signing-key", self.file()]
    }

    /// As `args`, with the checkpoint outside in this directory.
    pub fn args_with_outside<'a>(&'a self, ledger: &'a TestLedger, dir: &'a Path) -> [&'a str; 6] {
        let [url, of_ledger, key, in_file] = self.args(ledger);
        [url, of_ledger, key, in_file, "--checkpoint-dir", dir.to_str().unwrap()]
    }
}
