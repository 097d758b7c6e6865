//! The whole configuration: read once, printed by `--help`.

use crate::ledger::LedgerName;
use crate::postgres::Chosen;
use anyhow::ensure;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::io::IsTerminal as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
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
    /// Fold the whole ledger into a fresh contact table and swap it in, while the service runs.
    Rebuild,
    /// Fold the whole ledger and compare it with the contact table; exit 1 at the first difference.
    Verify,
}

#[derive(Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseConfig {
    /// Postgres 14 or newer, such as postgres://user:password@host/database.
    /// Not set: a private Postgres in the data directory.
    #[arg(long, global = true, env, hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,

    /// Where the private Postgres keeps its data [default: .identity-ledger].
    #[arg(long, global = true, env, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// The ledger's name: the Postgres schema it lives in, created when missing.
    #[arg(long, global = true, env, value_name = "NAME", default_value = "ledger")]
    pub ledger: LedgerName,
}

#[derive(Args)]
pub struct ServeConfig {
    /// Where to listen [default: 127.0.0.1:10000].
    #[arg(long, env, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// Listen on this port of 127.0.0.1; --listen wins over it.
    #[arg(long, env, value_name = "PORT")]
    port: Option<u16>,

    /// Listen on an address that others can reach, though anybody there may then ask and record.
    #[arg(long)]
    no_auth: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Log (on stderr; never an email or a phone number)")]
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

impl DatabaseConfig {
    /// An empty variable counts as not set.
    pub fn url(&self) -> Option<&str> {
        self.database_url.as_deref().filter(|url| !url.is_empty())
    }

    pub fn data_dir(&self) -> (PathBuf, Chosen) {
        match self.data_dir.clone().filter(|dir| !dir.as_os_str().is_empty()) {
            Some(dir) => (dir, Chosen::ByUser),
            None => (DATA_DIR.into(), Chosen::Default),
        }
    }
}

impl ServeConfig {
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        let port = self.port.unwrap_or(LISTEN.port());
        let address = self.listen.unwrap_or(SocketAddr::new(LISTEN.ip(), port));
        ensure!(
            address.ip().is_loopback() || self.no_auth,
            "anybody who reaches {address} could read and record customers: listen on 127.0.0.1, \
             or give --no-auth where something else keeps strangers out"
        );
        Ok(address)
    }
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
}
