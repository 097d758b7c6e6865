//! A ledger out of a directory.

use super::dump::server_major;
use super::manifest::{DUMP, Manifest};
use super::privileges;
use super::program::{program, run};
use super::watch::watched;
use crate::ledger::{self, Database};
use crate::postgres::find_client;
use anyhow::{Context as _, ensure};
use sqlx::{Connection as _, PgConnection, query, query_scalar};
use std::path::Path;

/// Puts the ledger of a backup into a database where there is none of its name, and makes it ready.
pub async fn restore(database: &Database, backup: &Path) -> anyhow::Result<Manifest> {
    let manifest = Manifest::read(backup)?;
    let schema = database.ledger().as_str();
    ensure!(
        manifest.ledger == schema,
        "{} is of the ledger {}; restore it with --ledger {}",
        backup.display(),
        manifest.ledger,
        manifest.ledger
    );
    let mut owner = ledger::connect(database).await?;
    ensure!(
        is_free(&mut owner, database).await?,
        "there is a ledger {schema} in this database already; restore into another database, or \
         drop that one first: drop schema \"{schema}\" cascade"
    );
    let major = server_major(&mut owner).await?.max(manifest.pg_dump);
    let (pg_restore, _) = find_client("pg_restore", major)?;
    ledger::create_schema(&mut owner, database).await?;
    let mut restore = program(&pg_restore, database);
    // The name is in the environment: an empty one here means that.
    restore.args(["--single-transaction", "--no-owner", "--no-privileges", "--dbname="]);
    restore.arg(format!("--schema={schema}")).arg(backup.join(DUMP));
    let restored = watched(&mut owner, "copying tables (MB)", manifest.bytes, run(restore)).await;
    restored.with_context(|| format!("{} cannot be restored", backup.display()))?;
    let mut tx = owner.begin().await?;
    privileges::give(&mut tx, &manifest.privileges).await?;
    tx.commit().await?;
    check(&mut owner, &manifest).await?;
    owner.close().await?;
    ledger::open(database).await?;
    Ok(manifest)
}

/// Whether there is nothing yet under the ledger's name, or only an empty schema.
async fn is_free(owner: &mut PgConnection, database: &Database) -> Result<bool, sqlx::Error> {
    let found = query_scalar!(
        r#"select not exists (
            select
            from pg_class as c
            join pg_namespace as n on n.oid = c.relnamespace
            where n.nspname = $1
        ) as "is_free!""#,
        database.ledger().as_str()
    );
    found.fetch_one(owner).await
}

async fn check(owner: &mut PgConnection, manifest: &Manifest) -> anyhow::Result<()> {
    let head = query!("select position, schema_version from head").fetch_one(owner).await?;
    ensure!(
        (head.position, head.schema_version) == (manifest.position, manifest.schema_version),
        "the backup ends with event {}, and its manifest says {}: one of the two was changed",
        head.position,
        manifest.position
    );
    Ok(())
}
