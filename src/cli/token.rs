//! `identity-ledger token`.

use super::config::NewToken;
use super::say::CANNOT_WRITE;
use crate::access::{Token, TokenLines, check_free};
use anyhow::Context as _;
use std::io::{Write as _, stdout};

/// Prints a new token, which nobody can print again, and what makes it good.
pub fn new(config: &NewToken) -> anyhow::Result<()> {
    let NewToken { name, role, expires, tokens } = config;
    if let Some(file) = tokens.as_ref().filter(|file| file.exists()) {
        check_free(file, name)?;
    }
    let token = Token::random();
    eprintln!("The token, shown this once, for {name}:");
    writeln!(stdout(), "{}", token.expose()).context(CANNOT_WRITE)?;
    eprintln!("\nThe lines to add to the tokens file; then send SIGHUP to the service:");
    let lines = TokenLines { name, role: *role, hash: token.hash(), expires: expires.as_deref() };
    writeln!(stdout(), "{lines}").context(CANNOT_WRITE)
}
