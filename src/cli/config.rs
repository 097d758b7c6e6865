//! The whole configuration: read once, printed by `--help`.

use crate::access::{Role, Token};
use crate::audit::Moment;
use crate::identity::{Asker, ReasonCode, Timestamp};
use crate::ledger::LedgerName;
use crate::postgres::Chosen;
use crate::rebuild::Limits;
use anyhow::{Context as _, ensure};
use clap::builder::NonEmptyStringValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{
    Arg, ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum,
};
use std::env;
use std::io::IsTerminal as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 10_000);
const DATA_DIR: &str = ".identity-ledger";

/// Says which customer an email or a phone number belongs to, and keeps a ledger of everything
/// it ever saw and decided, in Postgres.
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
    /// Print every event that made a customer what it is, in order.
    History(HistoryConfig),
    /// Say why two observations belong to one customer, or what stands between them.
    Why(WhyConfig),
    /// Forget the whole customer that an observation belongs to, for ever.
    Erase(EraseConfig),
    /// Fold the whole ledger into a fresh contact table and swap it in, while the service runs.
    Rebuild,
    /// Show, check, compare and activate matching rules.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Check everything: lines, tree, signatures, commitments, every decision made again, and that
    /// the contact table is what the events say; exit 1 at the first difference.
    Verify(VerifyConfig),
    /// Write the ledger to a folder, for whoever checks it without this service.
    Export(ExportConfig),
    /// Write the whole ledger, as it is now, to a new directory, while the service runs.
    Backup(BackupConfig),
    /// Put the ledger of a backup into a database where it is not; or, with --accept-loss, go on with
    /// a database that has gone back in time.
    Restore(RestoreConfig),
    /// Make the keys that checkpoints are signed with.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Make the tokens that callers, auditors and operators ask with.
    #[command(subcommand)]
    Token(TokenCommand),
}

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

/// Where signing and checking find what they need.
#[derive(Args)]
#[command(next_help_heading = "Proof")]
pub struct SealConfig {
    /// The key that signs checkpoints, made by `identity-ledger key new`. Not set: with the private
    /// Postgres a key in the data directory, else there is none, and nothing is signed.
    #[arg(long, env, value_name = "FILE")]
    pub signing_key: Option<PathBuf>,

    /// Where the service keeps the last checkpoint, too: a directory out of reach of whoever could put
    /// back an older copy of the database.
    #[arg(long, env, value_name = "DIR")]
    pub checkpoint_dir: Option<PathBuf>,
}

#[derive(Args)]
pub struct BackupConfig {
    /// The directory to make, for its owner only: emails and phone numbers are in it.
    pub dir: PathBuf,
}

#[derive(Args)]
pub struct RestoreConfig {
    /// The directory that `identity-ledger backup` made.
    #[arg(required_unless_present = "accept_loss", conflicts_with = "accept_loss")]
    pub dir: Option<PathBuf>,

    /// Say in the ledger that what it lacks of the checkpoint in --checkpoint-dir is lost, skip the
    /// positions and numbers that may have been given out, and sign in a new name from then on.
    #[arg(long, requires = "reason", requires = "forgetting")]
    accept_loss: bool,

    /// Why, for the ledger. No personal data: it stays there for ever.
    #[arg(long, value_name = "TEXT", value_parser = reason, requires = "accept_loss")]
    reason: Option<String>,

    /// Forget those again whom the lost ledger had forgotten, as an export of it says, which must be as
    /// it was signed.
    #[arg(long, value_name = "EXPORT_DIR", requires = "accept_loss", group = "forgetting")]
    pub erasures: Option<PathBuf>,

    /// Forget nobody again. One of the two must be said, each time that it is run: whoever had been
    /// forgotten since the backup comes back for good without --erasures.
    #[arg(long, requires = "accept_loss", group = "forgetting")]
    no_erasures: bool,

    #[command(flatten)]
    pub operator: Operator,

    /// Do not ask.
    #[arg(long, short, requires = "accept_loss")]
    pub yes: bool,

    #[command(flatten)]
    pub seal: SealConfig,
}

impl RestoreConfig {
    /// What is to be done.
    pub fn what(&self) -> What<'_> {
        match (&self.dir, &self.reason) {
            (Some(dir), _) => What::Restore(dir),
            (None, reason) => What::AcceptLoss(reason.as_deref().unwrap_or_default()),
        }
    }
}

/// The two ways to restore.
pub enum What<'a> {
    Restore(&'a Path),
    /// With a reason.
    AcceptLoss(&'a str),
}

#[derive(Args)]
pub struct ExportConfig {
    /// The folder, created when missing. Goes on from where an earlier export ended; a folder
    /// with something else in it is refused.
    pub dir: PathBuf,

    /// Write the observations, too: emails and phone numbers, with the salts of their commitments. A
    /// folder that has them goes on with them only.
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

    /// The verifier keys that count, one a line. Not set: that of the signing key.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// A checkpoint that was kept: the export must begin with what it covers.
    #[arg(long, value_name = "FILE", requires = "export")]
    pub since: Option<PathBuf>,

    /// Say it as JSON.
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub seal: SealConfig,
}

#[derive(Subcommand)]
pub enum RulesCommand {
    /// Show the rules in force: the document, since when, by whom and why.
    Show(Output),
    /// List all rules that ever were in force, the first ones first.
    List(Output),
    /// Check a rules file, without a database.
    Check {
        /// The rules file; docs/rules.md says what can be in it.
        file: PathBuf,

        #[command(flatten)]
        output: Output,
    },
    /// Show what a rules file would do to every identity. Changes nothing.
    Diff(RulesDiff),
    /// Put a rules file in force for all of history, while the service runs.
    Activate(RulesActivation),
}

#[derive(Args)]
pub struct Output {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct RulesDiff {
    /// The rules file.
    pub file: PathBuf,

    /// Write a CSV of the contacts whose primary changes: contact, old primary, new primary. A file
    /// of that name is replaced at the end.
    #[arg(long, value_name = "FILE")]
    pub remap: Option<PathBuf>,

    #[command(flatten)]
    pub output: Output,

    #[command(flatten)]
    pub limits: LimitConfig,
}

#[derive(Args)]
pub struct RulesActivation {
    /// The rules file.
    pub file: PathBuf,

    /// Why, for the ledger. No personal data: it stays there for ever.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,

    #[command(flatten)]
    pub operator: Operator,

    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,

    #[command(flatten)]
    pub output: Output,

    #[command(flatten)]
    pub limits: LimitConfig,
}

/// Where one of these is exceeded, the exit code is 1 and nothing is activated.
#[derive(Args)]
#[command(next_help_heading = "Limits (exit code 1 beyond them, and nothing is activated)")]
pub struct LimitConfig {
    /// Contacts that change their primary or are none any more, of a hundred.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    max_moved_percent: Option<f64>,

    /// Contacts of the largest identity.
    #[arg(long, value_name = "CONTACTS")]
    max_identity_size: Option<usize>,

    /// For how long callers may have to wait.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    max_pause: Option<Duration>,
}

impl LimitConfig {
    pub fn limits(&self) -> Limits {
        Limits {
            moved_percent_max: self.max_moved_percent,
            identity_len_max: self.max_identity_size,
            pause_max: self.max_pause,
        }
    }
}

fn percent(text: &str) -> Result<f64, &'static str> {
    let percent = text.parse().ok().filter(|percent| (0.0..=100.0).contains(percent));
    percent.ok_or("it is a number from 0 to 100, such as 2.5")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or("it is a number of seconds, such as 0.5")
}

fn time(text: &str) -> Result<String, &'static str> {
    let time: Result<Timestamp, _> = text.parse();
    time.map(|_| text.to_owned()).map_err(|_| "it is a time such as 2027-01-01T00:00:00Z")
}

/// What goes into an event: one line, not blank, of a length that can be read.
fn reason(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let fits = (1..=500).contains(&text.chars().count());
    if !fits || text.contains(char::is_control) {
        return Err("it is one line of 1 to 500 characters");
    }
    Ok(text.to_owned())
}

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

#[derive(Args)]
pub struct ServeConfig {
    /// Where to listen; the variable PORT alone changes the port [default: 127.0.0.1:10000].
    #[arg(long, env, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    listen: Option<SocketAddr>,

    /// Who may ask: a file of token hashes, made with `identity-ledger token new`. SIGHUP reads it
    /// again.
    #[arg(long, env, hide_env_values = true, value_name = "FILE", conflicts_with = "no_auth")]
    pub tokens: Option<PathBuf>,

    /// Without tokens, listen on an address that others can reach, though anybody there may then
    /// ask and record.
    #[arg(long)]
    no_auth: bool,

    /// Answer by TLS, with this certificate and those that vouch for it (PEM). SIGHUP reads it
    /// again.
    #[arg(long, env, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The key of the certificate (PEM). SIGHUP reads it again.
    #[arg(long, env, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// For how many hours a retry is known by its Idempotency-Key.
    #[arg(long, env, value_name = "HOURS", default_value = "24")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=8_760))]
    idempotency_hours: u64,

    #[command(flatten)]
    pub seal: SealConfig,

    /// Begin to keep checkpoints of a ledger that is sealed already in --checkpoint-dir, where there
    /// is none. For one start: later on, one that is missing is a reason not to start.
    #[arg(long, requires = "checkpoint_dir", help_heading = "Proof")]
    pub new_checkpoint_dir: bool,
}

#[derive(Args)]
pub struct HistoryConfig {
    /// The number of any observation of the customer.
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    pub id: i64,
}

#[derive(Args)]
pub struct EraseConfig {
    /// The number of any observation of the customer.
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    pub id: i64,

    /// Why, for the ledger, as a code such as customer-request: small letters, hyphens and at most 4
    /// digits.
    #[arg(long, value_name = "CODE")]
    pub reason: ReasonCode,

    #[command(flatten)]
    pub operator: Operator,

    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,

    #[command(flatten)]
    pub output: Output,
}

#[derive(Args)]
pub struct Operator {
    /// By whom, for the ledger, as the name of a token: lower-case letters, digits, dots, dashes and
    /// underscores, a letter first. No personal data: it stays there for ever.
    #[arg(long, value_name = "NAME", default_value = "operator")]
    pub by: Asker,
}

#[derive(Args)]
pub struct WhyConfig {
    /// The number of one observation.
    #[arg(value_name = "A", value_parser = clap::value_parser!(i64).range(1..))]
    pub one: i64,

    /// The number of another one.
    #[arg(value_name = "B", value_parser = clap::value_parser!(i64).range(1..))]
    pub other: i64,

    /// The position or the time (RFC 3339) to answer at [default: now].
    #[arg(long, value_name = "MOMENT")]
    pub as_of: Option<Moment>,
}

#[derive(Args)]
#[command(next_help_heading = "Log (on stderr; never an email, a phone number or a token)")]
pub struct LogConfig {
    /// How much to say.
    #[arg(long, global = true, env, value_enum, default_value = "info")]
    log_level: LogLevel,

    /// In which form.
    #[arg(long, global = true, env, value_enum, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl Cli {
    /// Reads the command line and the environment, where an empty variable counts as not set.
    /// Ends the process where there is nothing to run.
    pub fn read() -> Self {
        let mut command = without_empty(Self::command());
        let matches = command.try_get_matches_from_mut(env::args_os());
        let cli = matches.and_then(|matches| {
            let mut cli = Self::from_arg_matches(&matches)?;
            cli.keep_from_exports(&matches);
            Ok(cli)
        });
        cli.unwrap_or_else(|error| match error.kind() {
            // clap gives the help by itself only where no variable is set either.
            ErrorKind::MissingSubcommand => {
                let help = command.render_help();
                command.error(ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, help).exit()
            }
            _ => without_tokens(error).exit(),
        })
    }

    /// What the environment says of checkpoints is of the service's own ledger. An export may be of any,
    /// and older.
    fn keep_from_exports(&mut self, matches: &ArgMatches) {
        let Command::Verify(VerifyConfig { export: Some(_), seal, .. }) = &mut self.command else {
            return;
        };
        let verify = matches.subcommand_matches("verify");
        let source = verify.and_then(|verify| verify.value_source("checkpoint_dir"));
        seal.checkpoint_dir.take_if(|_| source == Some(ValueSource::EnvVariable));
    }
}

/// clap repeats what it refuses, and a token that was put in the wrong place would be in a log.
fn without_tokens(mut error: clap::Error) -> clap::Error {
    let is_token =
        |value: &ContextValue| matches!(value, ContextValue::String(text) if Token::begins(text));
    let kinds: Vec<ContextKind> =
        error.context().filter(|(_, value)| is_token(value)).map(|(kind, _)| kind).collect();
    for kind in kinds {
        error.insert(kind, ContextValue::String("idl_…".to_owned()));
    }
    error
}

fn without_empty(command: clap::Command) -> clap::Command {
    command.mut_args(unset_if_empty).mut_subcommands(without_empty)
}

fn unset_if_empty(arg: Arg) -> Arg {
    let is_empty = arg.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty());
    if is_empty { arg.env(None::<&str>) } else { arg }
}

impl DatabaseConfig {
    pub fn data_dir(&self) -> (PathBuf, Chosen) {
        match &self.data_dir {
            Some(dir) => (dir.clone(), Chosen::ByUser),
            None => (DATA_DIR.into(), Chosen::Default),
        }
    }
}

impl ServeConfig {
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        let address = match self.listen {
            Some(address) => address,
            None => SocketAddr::new(LISTEN.ip(), port_variable()?.unwrap_or(LISTEN.port())),
        };
        ensure!(
            address.ip().is_loopback() || self.tokens.is_some() || self.no_auth,
            "anybody who reaches {address} could read and record customers: give --tokens FILE, \
             listen on 127.0.0.1, or give --no-auth where something else keeps strangers out"
        );
        Ok(address)
    }

    /// The files of the certificate and its key.
    pub fn tls(&self) -> Option<(PathBuf, PathBuf)> {
        self.tls_cert.clone().zip(self.tls_key.clone())
    }

    /// For how long a retry is known by its key.
    pub fn retries_kept_for(&self) -> Duration {
        Duration::from_secs(self.idempotency_hours * 3_600)
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "it looks like 127.0.0.1:10000 or [::1]:10000")
}

/// What hosting platforms set. Not a flag, so that a flag always wins over a variable.
fn port_variable() -> anyhow::Result<Option<u16>> {
    let Some(text) = env::var_os("PORT").filter(|text| !text.is_empty()) else { return Ok(None) };
    let port = text.to_str().and_then(|text| text.parse().ok());
    port.map(Some).context("PORT is not a number from 0 to 65535")
}

impl LogConfig {
    /// Other crates are heard from `warn` up only: what they say below that is not ours to
    /// vouch for.
    pub fn start(&self) {
        let level = match self.log_level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        };
        let targets = Targets::new()
            .with_default(level.min(LevelFilter::WARN))
            // It would quote what it does not know of DATABASE_URL.
            .with_target("sqlx_postgres::options::parse", LevelFilter::OFF)
            // Sessions that end with their server, as a private one does with a command.
            .with_target("sqlx_core::pool", LevelFilter::ERROR)
            .with_target(env!("CARGO_CRATE_NAME"), level);
        let registry = tracing_subscriber::registry().with(targets);
        let on_terminal = std::io::stderr().is_terminal();
        let layer =
            tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(on_terminal);
        match self.log_format {
            LogFormat::Text => registry.with(layer.with_target(false)).init(),
            LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
        }
    }

    /// Says in the form of the log why the process ends.
    pub fn last_words(&self, why: &str) {
        match self.log_format {
            LogFormat::Text => eprintln!("error: {why}"),
            LogFormat::Json => tracing::error!("{why}"),
        }
    }
}
