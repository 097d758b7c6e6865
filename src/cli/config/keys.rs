//! Keys and tokens.

use crate::access::Role;
use crate::identity::{Asker, Timestamp};
use crate::seal::LogName;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum KeyCommand {
    /// Make a new signing key in FILE, for its owner only, and print its verifier key.
    New {
        /// The file to make, which must not exist yet.
        file: PathBuf,

        /// The name that checkpoints begin with, such as ledger.example.com/shop. It stays for ever
        /// [default: identity-ledger/ and the ledger's name].
        #[arg(long)]
        name: Option<LogName>,
    },
}

#[derive(Subcommand)]
pub enum TokenCommand {
    /// Print a new token, once, and the lines to add to a tokens file.
    New(NewToken),
}

#[derive(Args)]
pub struct NewToken {
    /// Who the token is for, as events name the caller: lower-case letters, digits, dots, dashes and
    /// underscores, a letter first. No personal data: it stays in the ledger for ever.
    pub name: Asker,

    /// What the token is for.
    #[arg(long, value_enum)]
    pub role: Role,

    /// When the token expires, such as 2027-01-01T00:00:00Z (RFC 3339) [default: never].
    #[arg(long, value_name = "TIME", value_parser = expiry)]
    pub expires: Option<Expiry>,

    /// The tokens file that the lines are for: a name that it already has is refused.
    #[arg(long, env, hide_env_values = true, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
}

/// When a token expires, and how that was written.
#[derive(Clone)]
pub struct Expiry {
    pub at: Timestamp,
    pub text: String,
}

fn expiry(text: &str) -> Result<Expiry, &'static str> {
    let at = text.parse().map_err(|_| "expected a time such as 2027-01-01T00:00:00Z")?;
    Ok(Expiry { at, text: text.to_owned() })
}
