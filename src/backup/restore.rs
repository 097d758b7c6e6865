//! Restores a ledger from a directory.

use super::dump::server_major;
use super::manifest::{DUMP, Manifest};
use super::privileges;
use super::program::{program, run, written};
use super::watch::watched;
use crate::ledger::{self, Database};
use crate::postgres::{clients_of, find_client};
use anyhow::{Context as _, ensure};
use sqlx::{Connection as _, Executor as _, PgConnection};
use std::path::Path;

/// Puts the ledger of a backup into a database that has none of its name, and makes it ready.
pub async fn restore(
    database: &Database,
    backup: &Path,
    manifest: &Manifest,
) -> anyhow::Result<()> {
    let schema = database.ledger().as_str();
    let mut owner = ledger::connect(database).await?;
    ledger::check_writable(&mut owner).await?;
    check_missing(&mut owner, database).await?;
    let server = server_major(&mut owner).await?;
    let (first, last) = clients_of(server).into_inner();
    ensure!(
        manifest.pg_dump <= last,
        "{} was written by pg_dump {}, and a pg_restore that reads it uses a setting that Postgres \
         {server} does not know: restore it into Postgres {} or newer, or back up the ledger with pg_dump \
         {last} or older",
        backup.display(),
        manifest.pg_dump,
        last + 1,
    );
    let (pg_restore, _) = find_client("pg_restore", manifest.pg_dump.max(first)..=last)?;
    check(&pg_restore, database, backup, manifest)
        .await
        .with_context(|| format!("{} cannot be restored", backup.display()))?;
    take_turn(&mut owner, database).await?;
    // Another restore may have ended since.
    check_missing(&mut owner, database).await?;
    let mut restore = program(&pg_restore, database);
    // An empty name stands for the one in the environment.
    restore.args(["--single-transaction", "--no-owner", "--no-privileges", "--dbname="]);
    restore.arg(format!("--schema={schema}")).arg(backup.join(DUMP));
    let restored = watched(&mut owner, "copying tables (MB)", manifest.bytes, run(restore)).await;
    restored.with_context(|| format!("{} cannot be restored", backup.display()))?;
    let mut tx = owner.begin().await?;
    privileges::give(&mut tx, &manifest.privileges).await?;
    tx.commit().await?;
    owner.close().await?;
    ledger::open(database).await
}

async fn check_missing(owner: &mut PgConnection, database: &Database) -> anyhow::Result<()> {
    let schema = database.ledger().as_str();
    ensure!(
        !ledger::is_there(owner, database).await?,
        "there is a ledger named {schema} in this database already; restore into another database, or \
         drop that one first: drop schema \"{schema}\" cascade"
    );
    Ok(())
}

/// Creates the schema, and takes the right to fill it until the session ends. Of two restores at once, one
/// would fail in Postgres' catalog.
async fn take_turn(owner: &mut PgConnection, database: &Database) -> anyhow::Result<()> {
    let mut tx = owner.begin().await?;
    tx.execute(ledger::LOCK_CATALOG_IN).await?;
    ledger::create_schema(&mut tx, database).await?;
    tx.commit().await?;
    ensure!(
        ledger::try_lock_rebuild(owner).await?,
        "another restore brings back the ledger named {} in this database; wait until it has ended",
        database.ledger().as_str()
    );
    Ok(())
}

/// Fails if the ledger in a dump is not the one of the manifest. Restores nothing.
async fn check(
    pg_restore: &Path,
    database: &Database,
    backup: &Path,
    manifest: &Manifest,
) -> anyhow::Result<()> {
    let mut script = program(pg_restore, database);
    script.args(["--data-only", "--table=head", "--file=-"]);
    script.arg(format!("--schema={}", database.ledger().as_str())).arg(backup.join(DUMP));
    let script = written(script).await?;
    let members = [
        ("position", manifest.position, number(&script, "position")),
        ("schemaVersion", manifest.schema_version, number(&script, "schema_version")),
    ];
    for (member, said, found) in members {
        let found = found.context("there is no ledger in the dump")?;
        ensure!(
            said == found,
            "the manifest says {member} {said}, and the dump has {found}: one of the two was changed"
        );
    }
    Ok(())
}

/// The value of a column in the one row that a script of pg_restore copies.
fn number(script: &str, column: &str) -> Option<i64> {
    let mut lines = script.lines().skip_while(|line| !line.starts_with("COPY "));
    let (_, columns) = lines.next()?.split_once('(')?;
    let mut columns = columns.split(')').next()?.split(", ");
    let at = columns.position(|name| name.trim_matches('"') == column)?;
    lines.next()?.split('\t').nth(at)?.parse().ok()
}
