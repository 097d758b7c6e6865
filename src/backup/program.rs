//! Runs a program of Postgres on the database of the ledger.

use crate::ledger::Database;
use crate::postgres::remove_pg_variables;
use anyhow::{Context as _, bail};
use std::path::Path;
use std::process::{Output, Stdio};
use tokio::process::Command;

/// The name of its session, by which its progress is found.
pub const SESSION: &str = "identity-ledger backup";

/// A command that logs in as the owner. It is killed when it is dropped.
pub fn program(path: &Path, database: &Database) -> Command {
    let mut command = Command::new(path);
    remove_pg_variables(command.as_std_mut());
    command.envs(database.environment()).env("PGAPPNAME", SESSION);
    command.env("LC_ALL", "C").env("PGCLIENTENCODING", "UTF8");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs a command. Fails if the command does.
pub async fn run(command: Command) -> anyhow::Result<()> {
    finished(command).await.map(|_| ())
}

/// As `run`. Returns what the command wrote to stdout.
pub async fn written(mut command: Command) -> anyhow::Result<String> {
    command.stdout(Stdio::piped());
    Ok(String::from_utf8(finished(command).await?.stdout)?)
}

async fn finished(mut command: Command) -> anyhow::Result<Output> {
    let name = Path::new(command.as_std().get_program()).display().to_string();
    let output = command.output().await.with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{}", telling(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok(output)
}

/// The first error that a program tells. What follows may quote rows, as may what Postgres says of a row that
/// it could not take.
fn telling(stderr: &str) -> String {
    let told = stderr.lines().find(|line| line.contains("error:")).or(stderr.lines().next());
    let told = told.unwrap_or("it failed and said nothing");
    match told.split_once(": ERROR:") {
        Some((copying, _)) if copying.contains("COPY failed") => copying.to_owned(),
        _ => told.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::telling;

    #[test]
    fn what_a_program_says_of_a_row_is_not_repeated() {
        for (stderr, told) in [
            ("", "it failed and said nothing"),
            ("pg_dump: warning: x\npg_dump: error: no server\n", "pg_dump: error: no server"),
            (
                "pg_restore: error: COPY failed for table \"contact\": ERROR:  bad value: \"a@x\"\n\
                 CONTEXT:  COPY contact, line 1: \"1 a@x\"\n",
                "pg_restore: error: COPY failed for table \"contact\"",
            ),
            (
                "pg_restore: error: could not execute query: ERROR:  could not create index\n\
                 DETAIL:  Key (email_key)=(a@x) is duplicated.\n",
                "pg_restore: error: could not execute query: ERROR:  could not create index",
            ),
        ] {
            assert_eq!(telling(stderr), told);
        }
    }
}
