//! Matching rules.

use super::shared::{Operator, Output, reason};
use crate::rebuild::Limits;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Subcommand)]
pub enum RulesCommand {
    /// Show the rules in force: the document, since when, by whom and why.
    Show(Output),
    /// List all rules that were ever in force, the oldest first.
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

    /// The reason, for the ledger. No personal data: it stays there for ever.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: String,

    #[command(flatten)]
    pub operator: Operator,

    /// Do not ask for confirmation.
    #[arg(long, short)]
    pub yes: bool,

    #[command(flatten)]
    pub output: Output,

    #[command(flatten)]
    pub limits: LimitConfig,
}

/// If one of these is exceeded, the exit code is 1 and nothing is activated.
#[derive(Args)]
#[command(next_help_heading = "Limits (exit code 1 beyond them, and nothing is activated)")]
pub struct LimitConfig {
    /// How many contacts in a hundred may change their primary or stop being contacts.
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    max_moved_percent: Option<f64>,

    /// How many contacts the largest identity may have.
    #[arg(long, value_name = "CONTACTS")]
    max_identity_size: Option<usize>,

    /// How long callers may have to wait.
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
    percent.ok_or("expected a number from 0 to 100, such as 2.5")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or("expected a number of seconds, such as 0.5")
}
