//! Keys and tokens.

use crate::access::Role;
use crate::identity::{Asker, Timestamp};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum KeyCommand {
    /// Make a new signing key in FILE, for its owner only, and print its verifier key.
    New {
        /// Must not be there yet.
        file: PathBuf,

        /// The name of the log, of your own choice for ever: what checkpoints begin with, such as
        /// ledger.example.com/shop [default: identity-ledger/ and the ledger's name].
        #[arg(long)]
        name: Option<String>,
    },
}

#[derive(Subcommand)]
pub enum TokenCommand {
    /// Print a new token, once, and the lines that make it good in a tokens file.
    New(NewToken),
}

#[derive(Args)]
pub struct NewToken {
    /// Who it is for, as events name whoever asked: lower-case letters, digits, dots, dashes and
    /// underscores, a letter first. No personal data: it stays in the ledger for ever.
    pub name: Asker,

    /// What it is for.
    #[arg(long, value_enum)]
    pub role: Role,

    /// Until when it is good, such as 2027-01-01T00:00:00Z (RFC 3339) [default: until its lines
    /// are gone].
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub expires: Option<String>,

    /// The tokens file that the lines are for: refuses a name that it has already.
    #[arg(long, env, hide_env_values = true, value_name = "FILE")]
    pub tokens: Option<PathBuf>,
}

fn time(text: &str) -> Result<String, &'static str> {
    let time: Result<Timestamp, _> = text.parse();
    time.map(|_| text.to_owned()).map_err(|_| "it is a time such as 2027-01-01T00:00:00Z")
}
