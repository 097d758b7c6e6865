//! Lets go of idempotency keys when their time is over.

use crate::ledger::{Database, Fault, in_time};
use crate::outage::Outage;
use sqlx::query;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

const PERIOD: Duration = Duration::from_secs(60);
/// In keys. Few, so that the statement that deletes them is a short one.
const CHUNK_LEN: i64 = 1_000;

/// Deletes keys that were recorded longer ago than `kept_for`, for ever. Nodes may do so at once.
pub async fn expire(database: Database, kept_for: Duration) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut outage = Outage::default();
    loop {
        ticks.tick().await;
        match try_expire(&database, kept_for).await {
            Ok(()) => {
                if outage.ends() {
                    tracing::info!("old idempotency keys are deleted again");
                }
            }
            // The next try will do. While Postgres is away, callers say so loudly enough.
            Err(fault @ Fault::Lost(_)) => {
                tracing::debug!("old idempotency keys are still there: {fault}");
            }
            // No request is answered by a key that is too old, so nothing else would show this.
            Err(fault) => {
                if outage.begins() {
                    tracing::warn!(
                        "old idempotency keys are not deleted, and use up space: {fault}"
                    );
                }
            }
        }
    }
}

async fn try_expire(database: &Database, kept_for: Duration) -> Result<(), Fault> {
    let kept_for_s = i64::try_from(kept_for.as_secs()).unwrap_or(i64::MAX);
    let mut session = database.recorder().await?;
    // What was deleted before stays in the index for as long as an old snapshot sees it, such as that of
    // a backup. If each chunk came by all of it, the last ones would take too long.
    let mut from = 0;
    loop {
        let deleted = query!(
            r#"with oldest as (
                select i.key, i.observation_id
                from idempotency as i
                where i.observation_id >= $3
                order by i.observation_id
                limit $2
                -- A statement that waits for no lock is in no deadlock.
                for update skip locked
            ),
            deleted as (
                delete from idempotency as i
                using oldest as d
                join observation as o on o.id = d.observation_id
                where i.key = d.key and i.observation_id = d.observation_id
                    and o.observed_at <= clock_timestamp() - $1::bigint * interval '1 second'
                returning i.observation_id
            )
            select count(*) as "len!", coalesce(max(d.observation_id), 0) as "last!"
            from deleted as d"#,
            kept_for_s,
            CHUNK_LEN,
            from
        );
        let deleted = in_time(deleted.fetch_one(&mut session)).await?;
        if deleted.len < CHUNK_LEN {
            return Ok(());
        }
        from = deleted.last;
    }
}
