//! The log.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, ValueEnum};
use std::env;
use std::io::{IsTerminal as _, stderr};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

#[derive(Args)]
#[command(next_help_heading = "Log (on stderr; never an email, a phone number or a token)")]
pub struct LogConfig {
    /// How much to log.
    #[arg(long, global = true, env, ignore_case = true, default_value = "info")]
    #[arg(value_parser = PossibleValuesParser::new(LEVELS).try_map(|level| level.parse::<LevelFilter>()))]
    log_level: LevelFilter,

    /// The form of the log.
    #[arg(long, global = true, env, value_enum, ignore_case = true, default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

impl LogConfig {
    /// Starts the log. Other crates log from `warn` up only: what they say below that could be personal
    /// data.
    pub fn start(&self) {
        let level = self.log_level;
        let targets = Targets::new()
            .with_default(level.min(LevelFilter::WARN))
            // It would quote what it does not know in DATABASE_URL, and lines of a password file.
            .with_target("sqlx_postgres::options", LevelFilter::OFF)
            // It warns of sessions that end with their server, as a private one does with a command. Of a
            // session that cannot be set up it logs each try, with all that Postgres says.
            .with_target("sqlx_core::pool", LevelFilter::OFF)
            .with_target(env!("CARGO_CRATE_NAME"), level);
        let registry = tracing_subscriber::registry().with(targets);
        let in_colour =
            stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
        let layer = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(in_colour);
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
