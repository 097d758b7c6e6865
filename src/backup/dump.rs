//! Writes a ledger to a directory.

use super::manifest::{DUMP, Manifest};
use super::privileges;
use super::program::{program, run};
use super::watch::watched;
use crate::files;
use crate::ledger::{Database, ThisVersion};
use crate::postgres::{clients_of, find_client};
use crate::projection;
use anyhow::{Context as _, ensure};
use sqlx::{Connection as _, PgConnection, query};
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The ledger as one transaction sees it.
struct Snapshot {
    id: String,
    manifest: Manifest,
}

/// The directory of a backup that is not complete yet. Dropping it removes the directory, unless it has got
/// its own name by then.
struct Unfinished(PathBuf);

/// Writes the ledger, as it is now, to a directory that does not exist yet. Until the backup is complete, the
/// directory has another name.
pub async fn back_up(database: &Database, dir: &Path) -> anyhow::Result<Manifest> {
    ensure!(
        fs::symlink_metadata(dir).is_err(),
        "{} exists already; pass a directory that does not, which the backup makes",
        dir.display()
    );
    let mut owner = database.owner().await?;
    let mut holding = database.owner().await?;
    let clients = clients_of(server_major(&mut owner).await?);
    let (pg_dump, major) = find_client("pg_dump", clients)?;
    let unfinished = Unfinished::make(dir)?;
    let Snapshot { id, manifest } = snapshot(&mut holding, database, major).await?;
    let mut dump = program(&pg_dump, database);
    let schema = database.ledger().as_str();
    dump.args(["--format=directory", "--compress=1", "--no-owner", "--no-privileges"])
        .arg(format!("--snapshot={id}"))
        .arg(format!("--schema={schema}"))
        // An interrupted rebuild may have left it.
        .arg(format!("--exclude-table={schema}.contact_next"))
        .arg("--file")
        .arg(unfinished.0.join(DUMP));
    watched(&mut owner, "copying tables (MB)", manifest.bytes, run(dump)).await?;
    holding.close().await?;
    manifest.write(&unfinished.0)?;
    unfinished.finish(dir)?;
    Ok(manifest)
}

/// The major version of the server.
pub async fn server_major(owner: &mut PgConnection) -> anyhow::Result<u32> {
    let version = query!(r#"select current_setting('server_version_num')::integer as "number!""#);
    Ok(u32::try_from(version.fetch_one(owner).await?.number)? / 10_000)
}

/// Begins a transaction whose snapshot pg_dump uses, too, so that the position of the backup is known.
async fn snapshot(
    holding: &mut PgConnection,
    database: &Database,
    pg_dump: u32,
) -> anyhow::Result<Snapshot> {
    let has_contacts = projection::exists(&mut *holding).await?;
    let begin = "
        set idle_in_transaction_session_timeout = 0;
        begin isolation level repeatable read, read only;
    ";
    sqlx::raw_sql(begin).execute(&mut *holding).await?;
    // pg_dump reads catalogs as of the snapshot, but tables by the names that they have when it comes to
    // them. A swap of the contact table and a migration wait for these locks, which take no snapshot, so that
    // each is before the backup as a whole, or after it.
    if has_contacts {
        sqlx::raw_sql("lock table contact in access share mode").execute(&mut *holding).await?;
    }
    sqlx::raw_sql("lock table head in access share mode").execute(&mut *holding).await?;
    let seen = query!(
        r#"
        select pg_export_snapshot() as "id!", clock_timestamp() as "made_at!", position,
            schema_version, schema_version as "is_ours: ThisVersion"
        from head
        "#
    )
    .fetch_one(&mut *holding)
    .await?;
    let manifest = Manifest {
        ledger: database.ledger().as_str().to_owned(),
        position: seen.position,
        schema_version: seen.schema_version,
        made_at: seen.made_at,
        bytes: tables_len(holding).await?,
        pg_dump,
        privileges: privileges::read(holding).await?,
    };
    Ok(Snapshot { id: seen.id, manifest })
}

/// How much is in the tables of the ledger, in bytes.
async fn tables_len(owner: &mut PgConnection) -> Result<i64, sqlx::Error> {
    let len = query!(
        r#"
        select coalesce(sum(pg_table_size(c.oid)), 0)::bigint as "len!"
        from pg_class as c
        where c.relnamespace = current_schema()::regnamespace
            and c.relkind = 'r'
            and c.relname <> 'contact_next'
        "#
    );
    Ok(len.fetch_one(owner).await?.len)
}

impl Unfinished {
    fn make(dir: &Path) -> anyhow::Result<Self> {
        let mut name =
            dir.file_name().context("expected the name of a directory to make")?.to_owned();
        name.push(".unfinished");
        let unfinished = dir.with_file_name(name);
        let made = DirBuilder::new().mode(0o700).create(&unfinished);
        if let Err(error) = made {
            let hint = match error.kind() {
                ErrorKind::AlreadyExists => "; if an earlier backup was interrupted, remove it",
                ErrorKind::NotFound => "; make the directory above it first",
                _ => "",
            };
            return Err(error)
                .with_context(|| format!("cannot make {}{hint}", unfinished.display()));
        }
        Ok(Self(unfinished))
    }

    fn finish(self, dir: &Path) -> anyhow::Result<()> {
        let named = files::rename(&self.0, dir);
        named.with_context(|| format!("cannot rename the backup to {}", dir.display()))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // When it has its own name, there is nothing under this one.
        let _ = fs::remove_dir_all(&self.0);
    }
}
