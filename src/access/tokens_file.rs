//! The tokens file: who has a token, what for, and until when.

use super::gate::Holder;
use super::limit::Limit;
use super::role::Role;
use super::token::{Token, TokenHash};
use crate::identity::{Asker, line_of};
use anyhow::{Context as _, ensure};
use serde::Deserialize;
use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    token: Vec<Entry>,
}

// Texts, and not what they mean: a parser's own complaint could repeat a token that was put in the
// wrong place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    role: Spanned<String>,
    sha256: Spanned<String>,
    expires: Option<Spanned<String>>,
    requests_per_second: Option<Spanned<i64>>,
}

/// What is wrong, and at which bytes of the file.
struct Fault {
    span: Option<Range<usize>>,
    message: String,
}

/// What a tokens file says of one token.
pub struct TokenLines<'a> {
    pub name: &'a Asker,
    pub role: Role,
    pub hash: TokenHash,
    pub expires: Option<&'a str>,
}

/// Reads all that a tokens file says, which is at least one token. An error is one line: where, what is
/// wrong and what is allowed there. It repeats no value of the file.
pub fn read(file: &Path) -> anyhow::Result<Vec<Holder>> {
    let holders = read_any(file)?;
    ensure!(
        !holders.is_empty(),
        "{}: there is no [[token]]: no one could ask anything",
        file.display()
    );
    Ok(holders)
}

fn read_any(file: &Path) -> anyhow::Result<Vec<Holder>> {
    // Shown in an error, it would be in the log.
    let is_token = Token::begins(&file.to_string_lossy());
    ensure!(!is_token, "what is given as the tokens file is a token; give the path of the file");
    let text = fs::read_to_string(file);
    let text = text.with_context(|| format!("cannot read the tokens file {}", file.display()))?;
    parse(&text).map_err(|fault| {
        let line = fault.span.map(|span| format!(":{}", line_of(&text, &span))).unwrap_or_default();
        anyhow::anyhow!("{}{line}: {}", file.display(), fault.message)
    })
}

/// Fails if a tokens file already has a token of this name.
pub fn check_free(file: &Path, name: &Asker) -> anyhow::Result<()> {
    let is_taken = read_any(file)?.iter().any(|holder| holder.asker == *name);
    ensure!(!is_taken, "{} has a token named {name}; choose another name", file.display());
    Ok(())
}

fn parse(text: &str) -> Result<Vec<Holder>, Fault> {
    let document: Document = toml::from_str(text)
        .map_err(|error| Fault { span: error.span(), message: without_values(error.message()) })?;
    let mut names = HashSet::new();
    let mut hashes = HashSet::new();
    document.token.iter().map(|entry| entry.holder(&mut names, &mut hashes)).collect()
}

impl Entry {
    fn holder(
        &self,
        names: &mut HashSet<Asker>,
        hashes: &mut HashSet<String>,
    ) -> Result<Holder, Fault> {
        let asker: Asker = self.name.get_ref().parse().map_err(|why| at(&self.name, why))?;
        if !names.insert(asker.clone()) {
            return Err(at(&self.name, "another token has this name"));
        }
        let role = Role::named(self.role.get_ref());
        let role = role.ok_or_else(|| at(&self.role, "role is caller, auditor or operator"))?;
        let hash = TokenHash::from_hex(self.sha256.get_ref());
        let hash = hash.ok_or_else(|| at(&self.sha256, "sha256 has 64 hexadecimal digits"))?;
        if !hashes.insert(hash.to_hex()) {
            return Err(at(&self.sha256, "another token has this hash"));
        }
        let expires = self.expires.as_ref().map(|expires| {
            let time = expires.get_ref().parse();
            time.map_err(|_| at(expires, "expires is a time such as \"2027-01-01T00:00:00Z\""))
        });
        let limit = self.requests_per_second.as_ref().map(|limit| {
            let number = u32::try_from(*limit.get_ref()).ok().and_then(NonZeroU32::new);
            let number = number.filter(|number| number.get() <= 1_000_000);
            number.ok_or_else(|| at(limit, "requests_per_second is a number from 1 to 1000000"))
        });
        let limit = limit.transpose()?.map(Limit::new);
        Ok(Holder { asker, role, hash, expires: expires.transpose()?, limit })
    }
}

fn at<T>(value: &Spanned<T>, message: &str) -> Fault {
    Fault { span: Some(value.span()), message: message.to_owned() }
}

/// serde quotes a value of the wrong type, and a name that it does not know: either could be a token.
fn without_values(complaint: &str) -> String {
    let complaint = complaint.lines().collect::<Vec<_>>().join(", ");
    let unknown = complaint.strip_prefix("unknown field `");
    if let Some((_, expected)) = unknown.and_then(|rest| rest.split_once("`, expected ")) {
        return format!("unknown field, expected {expected}");
    }
    match complaint.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected "))
    {
        Some((_, "i64")) => "expected a whole number".to_owned(),
        Some((_, expected)) => format!("expected {expected}"),
        None => complaint,
    }
}

impl fmt::Display for TokenLines<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, role, hash, expires } = self;
        write!(out, "[[token]]\nname = \"{name}\"\nrole = \"{role}\"\n")?;
        write!(out, "sha256 = \"{}\"", hash.to_hex())?;
        expires.map_or(Ok(()), |expires| write!(out, "\nexpires = \"{expires}\""))
    }
}
