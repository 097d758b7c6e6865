//! Clears away what an erasure leaves behind in the files of Postgres.

use crate::ledger::{self, Database};
use crate::projection;
use sqlx::{Connection as _, PgConnection, query, query_scalar};
use std::time::Duration;

/// What a sweep has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    All,
    /// A transaction that began before the last erasure can still see what was erased, for example that
    /// of a backup. Sweep again when it has ended.
    TooEarly,
    /// This role may not vacuum one of the tables. Postgres would skip that table with a mere warning.
    NotAllowed,
}

/// Removes the old versions of erased rows, and their index entries, from the tables that hold personal
/// data. Also removes what an interrupted rebuild left. Requests run meanwhile.
pub async fn sweep(database: &Database) -> Result<Swept, sqlx::Error> {
    drop_leftover(database).await?;
    let mut owner = database.owner().await?;
    if is_seen(&mut owner).await? {
        owner.close().await?;
        return Ok(Swept::TooEarly);
    }
    if !may_vacuum(&mut owner).await? {
        owner.close().await?;
        return Ok(Swept::NotAllowed);
    }
    // Clean the indexes up, too, however few rows that concerns. Truncate nothing, since that would lock
    // everyone out. `observation` comes last, because `is_due` looks there.
    let vacuum = "vacuum (index_cleanup on, truncate off) contact, idempotency, observation";
    query(vacuum).execute(&mut owner).await?;
    owner.close().await?;
    Ok(Swept::All)
}

/// Whether a transaction is still open that began before the last erasure: in another session of this
/// database, prepared, or on a standby. Vacuum leaves what it may still see (`ComputeXidHorizons` of
/// Postgres).
async fn is_seen(owner: &mut PgConnection) -> Result<bool, sqlx::Error> {
    query_scalar!(
        r#"select exists (
            select
            from (
                select e.xmin as xid
                from event as e
                where e.kind = 'ContactErased'
                order by e.position desc
                limit 1
            ) as last
            join (
                select unnest(array[a.backend_xid, a.backend_xmin])
                from pg_stat_activity as a
                where coalesce(a.datname = current_database(), true) and a.pid <> pg_backend_pid()
                union all
                select p.transaction
                from pg_prepared_xacts as p
                where p.database = current_database()
                union all
                select s.xmin
                from pg_replication_slots as s
            ) as held (xid) on age(held.xid) >= age(last.xid)
        ) as "is_seen!""#
    )
    .fetch_one(owner)
    .await
}

/// Whether Postgres lets this role vacuum the tables (`vacuum_is_permitted_for_relation`, before 17
/// `vacuum_is_relation_owner`). Ignores a missing table, since vacuum itself fails without it.
async fn may_vacuum(owner: &mut PgConnection) -> Result<bool, sqlx::Error> {
    query_scalar!(
        r#"select coalesce(
            bool_and(
                pg_has_role(d.datdba, 'usage')
                or case
                    when current_setting('server_version_num')::integer < 170000
                        then pg_has_role(c.relowner, 'usage')
                    else has_table_privilege(c.oid, 'maintain')
                end
            ),
            true
        ) as "may!"
        from pg_class as c
        join pg_database as d on d.datname = current_database()
        where c.oid in (
            to_regclass('contact'), to_regclass('idempotency'), to_regclass('observation')
        )"#
    )
    .fetch_one(owner)
    .await
}

/// Drops the table that an interrupted rebuild left. One that a running rebuild fills may stay: that
/// rebuild began after the erasure, since nothing is erased during a rebuild.
async fn drop_leftover(database: &Database) -> Result<(), sqlx::Error> {
    let mut owner = database.owner().await?;
    if ledger::try_lock_rebuild(&mut owner).await? {
        projection::drop_next(&mut owner).await?;
        ledger::release_all(&mut owner).await?;
    }
    owner.close().await
}

/// Whether something was erased that the last sweep did not see, as far as Postgres remembers that sweep:
/// a service may have been killed in between. Postgres knows when the sweep ended; it began no longer
/// than `before_its_end` earlier.
pub async fn is_due(database: &Database, before_its_end: Duration) -> Result<bool, sqlx::Error> {
    let before_its_end_s = i64::try_from(before_its_end.as_secs()).unwrap_or(i64::MAX);
    let mut owner = database.owner().await?;
    let is_due = query_scalar!(
        r#"select exists (
            select
            from (
                select recorded_at
                from event
                where kind = 'ContactErased'
                order by position desc
                limit 1
            ) as last
            where last.recorded_at > coalesce(
                pg_stat_get_last_vacuum_time('observation'::regclass)
                    - $1::bigint * interval '1 second',
                '-infinity'
            )
        ) as "is_due!""#,
        before_its_end_s
    );
    let is_due = is_due.fetch_one(&mut owner).await?;
    owner.close().await?;
    Ok(is_due)
}
