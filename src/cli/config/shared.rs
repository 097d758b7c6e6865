//! Options that several commands have.

use crate::identity::{Asker, ObservationId};
use crate::ledger::LedgerName;
use crate::postgres::Chosen;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use std::path::PathBuf;

const DATA_DIR: &str = ".identity-ledger";

#[derive(Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseConfig {
    /// Postgres 14 or newer, such as postgres://user:password@host/database.
    /// Not set: a private Postgres in the data directory.
    #[arg(long, global = true, env, hide_env_values = true, value_name = "URL")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub database_url: Option<String>,

    /// Where the private Postgres keeps its data [default: .identity-ledger].
    #[arg(long, global = true, env, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// The ledger's name: the Postgres schema it lives in, which serve creates.
    #[arg(long, global = true, env, value_name = "NAME", default_value = "ledger")]
    pub ledger: LedgerName,
}

impl DatabaseConfig {
    pub fn data_dir(&self) -> (PathBuf, Chosen) {
        match &self.data_dir {
            Some(dir) => (dir.clone(), Chosen::ByUser),
            None => (DATA_DIR.into(), Chosen::Default),
        }
    }
}

/// What signing and checking need.
#[derive(Args)]
#[command(next_help_heading = "Proof")]
pub struct SealConfig {
    /// The key that signs checkpoints, made by `identity-ledger key new`. Not set: with the private
    /// Postgres, a key in the data directory; otherwise nothing is signed.
    #[arg(long, env, value_name = "FILE")]
    pub signing_key: Option<PathBuf>,

    /// Where the service also keeps the last checkpoint: a directory out of reach of anyone who could
    /// put back an older copy of the database.
    #[arg(long, env, value_name = "DIR")]
    pub checkpoint_dir: Option<PathBuf>,
}

#[derive(Args)]
pub struct Operator {
    /// Who does this, for the ledger, in the form of a token's name: lower-case letters, digits, dots, dashes
    /// and underscores, a letter first. No personal data: it stays there for ever.
    #[arg(long, value_name = "NAME", default_value = "operator")]
    pub by: Asker,
}

#[derive(Args)]
pub struct Output {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Parses the number of an observation.
pub fn observation_id(text: &str) -> Result<ObservationId, &'static str> {
    let number = text.parse().ok().filter(|number| *number >= 1);
    number.map(ObservationId::new).ok_or("expected the number of an observation, such as 1")
}

/// Parses a reason for an event: one line that is not blank and not too long to read.
pub fn reason(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let fits = (1..=500).contains(&text.chars().count());
    if !fits || text.contains(char::is_control) {
        return Err("expected one line of 1 to 500 characters");
    }
    Ok(text.to_owned())
}
