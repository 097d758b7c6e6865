//! A tokens file of a test's own.

use super::{TestLedger, command, scratch_dir, succeeds};
use std::path::PathBuf;
use tempfile::TempDir;

/// In a directory that goes with it.
pub struct Tokens {
    _dir: TempDir,
    pub file: PathBuf,
    pub caller: String,
    pub auditor: String,
    pub operator: String,
}

impl Tokens {
    /// One of each role, named `shop`, `audit` and `ops`.
    pub fn new() -> Self {
        let dir = scratch_dir();
        let file = dir.path().join("tokens.toml");
        let none = String::new();
        let mut tokens =
            Self { _dir: dir, file, caller: none.clone(), auditor: none.clone(), operator: none };
        tokens.caller = tokens.add("shop", "caller", "");
        tokens.auditor = tokens.add("audit", "auditor", "");
        tokens.operator = tokens.add("ops", "operator", "");
        tokens
    }

    /// Adds what `token new` prints, and a line of the test's own. Returns the token.
    pub fn add(&self, name: &str, role: &str, line: &str) -> String {
        let printed = succeeds(&mut command(&["token", "new", name, "--role", role]));
        let (token, lines) = printed.split_once('\n').unwrap();
        let before = std::fs::read_to_string(&self.file).unwrap_or_default();
        self.write(&format!("{before}{lines}{line}\n\n"));
        token.to_owned()
    }

    pub fn write(&self, text: &str) {
        std::fs::write(&self.file, text).unwrap();
    }

    /// What a service needs to ask for these tokens.
    pub fn args<'a>(&'a self, ledger: &'a TestLedger) -> [&'a str; 4] {
        ["--database-url", &ledger.url, "--tokens", self.file.to_str().unwrap()]
    }
}
