//! How far a program of Postgres has come.

use super::program::SESSION;
use crate::progress::Progress;
use sqlx::{PgConnection, query};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::sleep;

const LOOK_EVERY: Duration = Duration::from_millis(500);
const MEGABYTE: i64 = 1 << 20;

/// Does the work, and shows meanwhile how much of the tables was copied, of so many bytes.
pub async fn watched(
    owner: &mut PgConnection,
    step: &'static str,
    bytes: i64,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut progress = Progress::of(step, bytes / MEGABYTE);
    tokio::select! {
        done = work => done,
        // If the progress cannot be read, the work goes on.
        never = watch(owner, &mut progress) => match never {},
    }
}

async fn watch(owner: &mut PgConnection, progress: &mut Progress) -> std::convert::Infallible {
    // The bytes of each table when it was seen last.
    let mut copied = HashMap::new();
    let mut is_copying = true;
    loop {
        sleep(LOOK_EVERY).await;
        let seen = query!(
            r#"
            select p.relid::bigint as "table!", p.bytes_processed as "bytes!"
            from pg_stat_progress_copy as p
            join pg_stat_activity as a on a.pid = p.pid
            where a.datname = current_database() and a.application_name = $1
            "#,
            SESSION
        );
        let Ok(seen) = seen.fetch_all(&mut *owner).await else { continue };
        if seen.is_empty() && is_copying && !copied.is_empty() && is_indexing(owner).await {
            is_copying = false;
            progress.begin("building indexes", 1);
        }
        copied.extend(seen.into_iter().map(|row| (row.table, row.bytes)));
        if is_copying {
            progress.at(copied.values().sum::<i64>() / MEGABYTE);
        }
    }
}

async fn is_indexing(owner: &mut PgConnection) -> bool {
    let indexing = query!(
        r#"select exists (
            select
            from pg_stat_progress_create_index as p
            join pg_stat_activity as a on a.pid = p.pid
            where a.datname = current_database() and a.application_name = $1
        ) as "is!""#,
        SESSION
    );
    indexing.fetch_one(owner).await.is_ok_and(|row| row.is)
}
