//! The advisory locks, which keep one kind of work out of another's way where no lock on a table does.
//!
//! | lock | is held by | until | beside it |
//! | --- | --- | --- | --- |
//! | rebuild | a rebuild, an activation, a restore, the sweep after an erasure | it is released | the next one gives up within seconds |
//! | erasure, shared | a rebuild, an activation, a diff, `verify`, `export` | it is released | an erasure waits for its lock timeout; the others go on |
//! | erasure | an erasure | its transaction ends | all of these, and other erasures, wait |
//! | catalog | a service or command that opens the ledger; the swap of a contact table | its session or transaction ends | the next one waits |
//! | sealer | the one sealer | its session ends | other sealers stand by |
//!
//! Each is one of a ledger, except for the catalog's, which is one of the database: roles are shared by
//! all ledgers. They are taken in the order of the table, and before the locks on `contact` and `head`.

use crate::outage::Outage;
use sqlx::{Executor as _, PgConnection, query, query_scalar};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const CATALOG_PAUSE: Duration = Duration::from_millis(50);
/// After how long it is told that something is in the way.
const CATALOG_WAIT_TOLD: Duration = Duration::from_secs(5);

/// Begins the name of a session that blocks erasures.
const PREFIX: &str = "identity-ledger ";

/// Takes the right to replace the contact table, or to make all tables, until it is released or the session
/// ends. Returns `false` if another session has it.
pub async fn try_lock_rebuild(session: &mut PgConnection) -> Result<bool, sqlx::Error> {
    query_scalar!(
        r#"select pg_try_advisory_lock(
            hashtext('identity-ledger rebuild'), hashtext(current_schema())
        ) as "is_ours!""#
    )
    .fetch_one(session)
    .await
}

/// Lets no one erase until this is released or the session ends. What reads observations page by page
/// would otherwise see some before an erasure and some after it. Waits for an erasure that is under
/// way. `work` is what a command that wants to erase says is in its way.
pub async fn block_erasures(session: &mut PgConnection, work: &str) -> Result<(), sqlx::Error> {
    query!("select set_config('application_name', $1, false)", format!("{PREFIX}{work}"))
        .fetch_one(&mut *session)
        .await?;
    query!(
        "select pg_advisory_lock_shared(
            hashtext('identity-ledger erasure'), hashtext(current_schema())
        )"
    )
    .fetch_one(session)
    .await?;
    Ok(())
}

/// The work that blocks erasures now, if any does.
pub async fn who_blocks_erasures(
    session: &mut PgConnection,
) -> Result<Option<String>, sqlx::Error> {
    let name = query_scalar!(
        r#"select a.application_name as "name!"
        from pg_locks as l
        join pg_stat_activity as a on a.pid = l.pid
        where l.locktype = 'advisory' and l.granted
            and l.database = (select oid from pg_database where datname = current_database())
            and l.classid::bigint = hashtext('identity-ledger erasure')::bigint & 4294967295
            and l.objid::bigint = hashtext(current_schema())::bigint & 4294967295
            and l.objsubid = 2
        order by a.backend_start
        limit 1"#
    );
    let name = name.fetch_optional(session).await?;
    Ok(name.map(|name| name.strip_prefix(PREFIX).unwrap_or(&name).to_owned()))
}

/// Takes the right to erase until the transaction ends. Waits for all that blocks erasures.
pub async fn lock_erasures(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    query!(
        "select pg_advisory_xact_lock(
            hashtext('identity-ledger erasure'), hashtext(current_schema())
        )"
    )
    .fetch_one(tx)
    .await?;
    Ok(())
}

/// Takes the right to create schema, tables and roles and to grant on them, until the session ends. Of
/// two that do so at once, one would fail in Postgres' catalog.
pub async fn lock_catalog(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    let begun = Instant::now();
    let mut waiting = Outage::default();
    while !try_lock_catalog(session).await? {
        if begun.elapsed() > CATALOG_WAIT_TOLD && waiting.begins() {
            tracing::warn!(
                "waiting for another process that creates, migrates or rebuilds a ledger in this database"
            );
        }
        sleep(CATALOG_PAUSE).await;
    }
    Ok(())
}

async fn try_lock_catalog(session: &mut PgConnection) -> Result<bool, sqlx::Error> {
    query_scalar!(r#"select pg_try_advisory_lock(hashtext('identity-ledger')) as "alone!""#)
        .fetch_one(session)
        .await
}

/// Takes the same right as `lock_catalog` does, until the transaction ends.
pub const LOCK_CATALOG_IN: &str = "select pg_advisory_xact_lock(hashtext('identity-ledger'))";

/// Lets the locks that follow in a transaction wait for long enough to end an autovacuum, unless that is one
/// against wraparound: Postgres cancels it once a lock has waited for it for `deadlock_timeout`.
pub const OUTWAIT_AUTOVACUUM: &str = "
    select set_config('lock_timeout', (setting::bigint + 2000)::text, true)
    from pg_settings
    where name = 'deadlock_timeout'";

/// Takes the right to seal until the session ends. Returns `false` if another session has it.
pub async fn try_lock_sealer(session: &mut PgConnection) -> Result<bool, sqlx::Error> {
    query_scalar!(
        r#"select pg_try_advisory_lock(hashtext('identity-ledger sealer'), hashtext(current_schema())) as "alone!""#
    )
    .fetch_one(session)
    .await
}

/// Releases all that a session holds of these. A session that is merely closed may hold them until the
/// server has noticed.
pub async fn release_all(session: &mut PgConnection) -> Result<(), sqlx::Error> {
    session.execute("select pg_advisory_unlock_all()").await?;
    Ok(())
}
