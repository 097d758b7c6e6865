//! The whole configuration: read once, printed by `--help`.

mod backup;
mod keys;
mod log;
mod rules;
mod serve;
mod shared;

pub use backup::{BackupConfig, RestoreConfig, What};
pub use keys::{Expiry, KeyCommand, NewToken, TokenCommand};
pub use log::LogConfig;
pub use rules::{RulesActivation, RulesCommand, RulesDiff};
pub use serve::ServeConfig;
use shared::observation_id;
pub use shared::{DatabaseConfig, Operator, Output, SealConfig};

use crate::access::Token;
use crate::audit::Moment;
use crate::identity::{ObservationId, ReasonCode, TOKEN_PREFIX};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::env;
use std::path::PathBuf;

/// Says which customer an email or a phone number belongs to, and keeps a ledger in Postgres of everything
/// it ever saw and decided.
#[derive(Parser)]
#[command(name = "identity-ledger", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub database: DatabaseConfig,
    #[command(flatten)]
    pub log: LogConfig,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve the HTTP API until SIGTERM or Ctrl-C.
    Serve(ServeConfig),
    /// Print every event that shaped a customer's identity, in order.
    History(HistoryConfig),
    /// Say why two observations belong to one customer, or what keeps them apart.
    Why(WhyConfig),
    /// Erase the whole customer that an observation belongs to, for ever.
    Erase(EraseConfig),
    /// Fold the whole ledger into a fresh contact table and swap it in, while the service runs.
    Rebuild,
    /// Show, check, compare and activate matching rules.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Check everything: lines, tree, signatures, commitments, every decision (by making it again), and
    /// whether the contact table is what the events say. Exit with 1 at the first difference.
    Verify(VerifyConfig),
    /// Write the ledger to a folder, to be checked without this service. If no service is sealing, seal
    /// first: pass the --checkpoint-dir of the service, if it has one.
    Export(ExportConfig),
    /// Write the whole ledger, as it is now, to a new directory, while the service runs.
    Backup(BackupConfig),
    /// Put the ledger of a backup into a database that does not have it; or, with --accept-loss, continue a
    /// ledger whose database has gone back in time.
    Restore(RestoreConfig),
    /// Make the keys that checkpoints are signed with.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Make tokens for callers, auditors and operators.
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Args)]
pub struct ExportConfig {
    /// The folder, created if missing. An earlier export in it is read, checked and continued. A folder
    /// with anything else in it is refused.
    pub dir: PathBuf,

    /// Write the observations too: emails and phone numbers, with the salts of their commitments. If the
    /// folder has them already, this is required.
    #[arg(long)]
    pub observations: bool,

    #[command(flatten)]
    pub seal: SealConfig,
}

#[derive(Args)]
pub struct VerifyConfig {
    /// Check an export instead of the database.
    #[arg(long, value_name = "DIR", requires = "key")]
    pub export: Option<PathBuf>,

    /// The verifier keys to trust, one on each line. Not set: those of the signing key, except for an export,
    /// which may be of another ledger. For the same reason, an export is not compared with CHECKPOINT_DIR.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// An earlier checkpoint: the export must begin with the events that it covers.
    #[arg(long, value_name = "FILE", requires = "export")]
    pub since: Option<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub seal: SealConfig,
}

#[derive(Args)]
pub struct HistoryConfig {
    /// The number of any observation of the customer.
    #[arg(value_parser = observation_id)]
    pub id: ObservationId,
}

#[derive(Args)]
pub struct EraseConfig {
    /// The number of any observation of the customer.
    #[arg(value_parser = observation_id)]
    pub id: ObservationId,

    /// The reason, for the ledger, as a code such as customer-request: lower-case letters, hyphens and at most
    /// 4 digits.
    #[arg(long, value_name = "CODE")]
    pub reason: ReasonCode,

    #[command(flatten)]
    pub operator: Operator,

    /// Do not ask for confirmation.
    #[arg(long, short)]
    pub yes: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct WhyConfig {
    /// The number of one observation.
    #[arg(value_name = "A", value_parser = observation_id)]
    pub one: ObservationId,

    /// The number of the other.
    #[arg(value_name = "B", value_parser = observation_id)]
    pub other: ObservationId,

    /// The position or the time (RFC 3339) to answer at [default: now].
    #[arg(long, value_name = "MOMENT")]
    pub as_of: Option<Moment>,
}

impl Cli {
    /// Reads the command line and the environment, where an empty variable counts as not set.
    /// Ends the process if there is nothing to run.
    pub fn read() -> Self {
        let mut command = without_empty(Self::command());
        command.build();
        let mut command = with_one_usage(command);
        let matches = command.try_get_matches_from_mut(env::args_os());
        let cli = matches.and_then(|matches| {
            let mut cli = Self::from_arg_matches(&matches)?;
            cli.keep_from_exports(&matches);
            Ok(cli)
        });
        cli.unwrap_or_else(|error| match error.kind() {
            // clap gives the help by itself only if no variable is set either.
            ErrorKind::MissingSubcommand => {
                let help = command.render_help();
                command.error(ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, help).exit()
            }
            _ => without_tokens(error).exit(),
        })
    }

    /// Keeps the checkpoint directory of the environment from exports: it is for the service's own ledger,
    /// and an export may be of any ledger, or older.
    fn keep_from_exports(&mut self, matches: &ArgMatches) {
        let Command::Verify(VerifyConfig { export: Some(_), seal, .. }) = &mut self.command else {
            return;
        };
        let verify = matches.subcommand_matches("verify");
        let source = verify.and_then(|verify| verify.value_source("checkpoint_dir"));
        seal.checkpoint_dir.take_if(|_| source == Some(ValueSource::EnvVariable));
    }
}

/// clap repeats what it refuses: a token in the wrong place would get into a log.
fn without_tokens(mut error: clap::Error) -> clap::Error {
    let is_token =
        |value: &ContextValue| matches!(value, ContextValue::String(text) if Token::begins(text));
    let kinds: Vec<ContextKind> =
        error.context().filter(|(_, value)| is_token(value)).map(|(kind, _)| kind).collect();
    for kind in kinds {
        error.insert(kind, ContextValue::String(format!("{TOKEN_PREFIX}…")));
    }
    error
}

/// Has errors show the usage that the help shows. The one that clap makes up for them has all options that
/// are given, and so those that come from variables, as if they were required.
fn with_one_usage(mut command: clap::Command) -> clap::Command {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").to_owned();
    command.override_usage(usage).mut_subcommands(with_one_usage)
}

fn without_empty(command: clap::Command) -> clap::Command {
    command.mut_args(unset_if_empty).mut_subcommands(without_empty)
}

fn unset_if_empty(arg: Arg) -> Arg {
    let is_empty = arg.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty());
    if is_empty { arg.env(None::<&str>) } else { arg }
}
