//! `identity-ledger token`.

use super::config::{Expiry, NewToken};
use super::say::CANNOT_WRITE;
use crate::access::{Token, TokenLines, check_free};
use crate::identity::Timestamp;
use anyhow::{Context as _, ensure};
use std::io::{Write as _, stdout};
use std::time::SystemTime;

/// Prints a new token, which cannot be printed again, and the lines that let the service accept it.
pub fn new(config: &NewToken) -> anyhow::Result<()> {
    let NewToken { name, role, expires, tokens } = config;
    if let Some(Expiry { at, text }) = expires {
        let is_to_come = *at > Timestamp::from(SystemTime::now());
        ensure!(is_to_come, "--expires {text} is in the past: pass a time in the future");
    }
    match tokens {
        Some(file) if file.exists() => check_free(file, name)?,
        Some(file) => eprintln!("note: there is no {} yet", file.display()),
        None => {}
    }
    let token = Token::random();
    eprintln!("The token for {name}, which is shown only this once:");
    writeln!(stdout(), "{}", token.expose()).context(CANNOT_WRITE)?;
    eprintln!("\nAdd these lines to the tokens file, and then send SIGHUP to the service:");
    let expires = expires.as_ref().map(|expires| expires.text.as_str());
    let lines = TokenLines { name, role: *role, hash: token.hash(), expires };
    writeln!(stdout(), "{lines}").context(CANNOT_WRITE)
}
