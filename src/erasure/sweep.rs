//! What an erasure leaves behind in the files of Postgres, cleared away.

use crate::ledger::{self, Database};
use crate::projection;
use sqlx::{Connection as _, PgConnection, query, query_scalar};
use std::time::Duration;

/// What a sweep has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    All,
    /// A transaction that began before the last erasure can still see what was erased, as that of a
    /// backup does: it is to be swept again when that has ended.
    TooEarly,
    /// This role may not vacuum one of the tables, which Postgres would skip with no more than a warning.
    NotAllowed,
}

/// Removes the old versions of rows that were erased, and what indexes say of them, from the tables
/// that hold personal data, and what a rebuild left that was broken off. Callers go on meanwhile.
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
    // Indexes, too, however few rows they concern. No truncation: it would lock everybody out.
    // `observation` comes last: `is_due` looks there.
    let vacuum = "vacuum (index_cleanup on, truncate off) contact, observation";
    query(vacuum).execute(&mut owner).await?;
    owner.close().await?;
    Ok(Swept::All)
}

/// Whether a transaction that began before the last erasure goes on: in another session of this
/// database, prepared, or on a standby. What it may still see, vacuum leaves
/// (`ComputeXidHorizons` of Postgres).
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
/// `vacuum_is_relation_owner`). A table that is missing is not in the way: vacuum fails without it.
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
        where c.oid in (to_regclass('contact'), to_regclass('observation'))"#
    )
    .fetch_one(owner)
    .await
}

/// A rebuild that is running has begun after the erasure: nothing is erased beside one.
async fn drop_leftover(database: &Database) -> Result<(), sqlx::Error> {
    let mut owner = database.owner().await?;
    if ledger::try_lock_rebuild(&mut owner).await? {
        projection::drop_next(&mut owner).await?;
        ledger::release_all(&mut owner).await?;
    }
    owner.close().await
}

/// Whether something was erased since the last sweep, as far as Postgres remembers it: a service may
/// have been killed in between. Postgres knows when the sweep ended, and it has not seen what was erased
/// `before_its_end`.
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
