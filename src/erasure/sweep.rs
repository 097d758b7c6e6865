//! What an erasure leaves behind in the files of Postgres, cleared away.

use crate::ledger::{self, Database};
use sqlx::{Connection as _, query, query_scalar};

/// Removes the old versions of rows that were erased, and what indexes say of them, from the tables
/// that hold personal data, and what a rebuild left that was broken off. Callers go on meanwhile.
pub async fn sweep(database: &Database) -> Result<(), sqlx::Error> {
    drop_leftover(database).await?;
    let mut owner = database.owner().await?;
    // Indexes, too, however few rows they concern. No truncation: it would lock everybody out.
    // `observation` comes last: `is_due` looks there.
    let vacuum = "vacuum (index_cleanup on, truncate off) contact, observation";
    query(vacuum).execute(&mut owner).await?;
    owner.close().await
}

/// A rebuild that is running has begun after the erasure: nothing is erased beside one.
async fn drop_leftover(database: &Database) -> Result<(), sqlx::Error> {
    let mut owner = database.owner().await?;
    if ledger::try_turn(&mut owner).await? {
        sqlx::raw_sql("drop table if exists contact_next").execute(&mut owner).await?;
    }
    owner.close().await
}

/// Whether something was erased since the last sweep, as far as Postgres remembers it: a service
/// may have been killed in between.
pub async fn is_due(database: &Database) -> Result<bool, sqlx::Error> {
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
                pg_stat_get_last_vacuum_time('observation'::regclass), '-infinity'
            )
        ) as "is_due!""#
    );
    let is_due = is_due.fetch_one(&mut owner).await?;
    owner.close().await?;
    Ok(is_due)
}
