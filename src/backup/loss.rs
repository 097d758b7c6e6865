//! Continues a ledger whose database has gone back in time.

use crate::identity::{Event, Fact, LedgerRestored, ObservationId, Position, Root, Timestamp};
use crate::ledger::{self, Database, ThisVersion};
use crate::seal::{CheckpointDir, Loss, SealInputs, seal_anew};
use anyhow::ensure;
use sqlx::{Connection as _, PgConnection, query};
use std::path::PathBuf;

/// How many numbers of reads are skipped. No signature says how many reads there were. A service that
/// answers ten thousand of them a second takes a day for as many as these.
const READS_SKIPPED: i64 = 1_000_000_000;

/// Who accepts a loss, and why.
pub struct Acceptance {
    pub by: String,
    pub reason: String,
}

/// Appends the event that accepts a loss, at a position that was never given out. Returns the position.
pub async fn accept(
    database: &Database,
    loss: &Loss,
    acceptance: Acceptance,
) -> anyhow::Result<Position> {
    let mut owner = database.owner().await?;
    let mut tx = owner.begin().await?;
    let head = lock(&mut tx).await?;
    ensure!(
        head.position == loss.position.get(),
        "a service records in this database; stop every service on it and try again"
    );
    let position = loss.next_position();
    // As many numbers as positions: each observation that was lost had a position of its own.
    let skipped = position.get() - head.position;
    let restored = LedgerRestored {
        accepted_by: acceptance.by.clone(),
        new_root: Root(loss.left.head.root.0),
        new_size: loss.left.head.size.cast_signed(),
        next_observation_id: ObservationId::new(head.observation_id + skipped),
        old_root: Root(loss.kept.head.root.0),
        old_size: loss.kept.head.size.cast_signed(),
        reason: acceptance.reason,
    };
    let fact = Fact::LedgerRestored(restored);
    append(&mut tx, &Event { position, recorded_at: head.now, fact }, skipped).await?;
    skip_reads(&mut tx, &acceptance.by).await?;
    tx.commit().await?;
    Ok(position)
}

/// Keeps the checkpoint that was outside under another name, as evidence, and signs the first one under the
/// name that the log has from here on. Returns where the earlier one is now.
pub async fn begin_anew(
    inputs: SealInputs,
    outside: &CheckpointDir,
    position: Position,
) -> anyhow::Result<PathBuf> {
    let aside = outside.keep_aside(&format!("lost-{position}"))?;
    seal_anew(inputs, outside).await?;
    Ok(aside)
}

struct Head {
    position: i64,
    observation_id: i64,
    now: Timestamp,
}

async fn lock(tx: &mut PgConnection) -> Result<Head, sqlx::Error> {
    ledger::lock_to_append(tx).await?;
    let head = query!(
        r#"
        select position, observation_id, greatest(clock_timestamp(), recorded_at) as "now!",
            schema_version as "schema_version: ThisVersion"
        from head
        "#
    )
    .fetch_one(tx)
    .await?;
    Ok(Head { position: head.position, observation_id: head.observation_id, now: head.now })
}

async fn append(tx: &mut PgConnection, event: &Event, skipped: i64) -> Result<(), sqlx::Error> {
    ledger::append_event(tx, event).await?;
    query!(
        "update head
        set position = $1, recorded_at = $2, observation_id = observation_id + $3 - 1",
        event.position.get(),
        event.recorded_at,
        skipped
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Skips the numbers of reads that may have been given out, with a row that says why.
async fn skip_reads(tx: &mut PgConnection, by: &str) -> Result<(), sqlx::Error> {
    query!(
        "insert into access (id, read_at, asked_by, role, route)
        select coalesce(max(a.id), 0) + $1, clock_timestamp(), $2, 'operator',
            'restore --accept-loss'
        from access as a",
        READS_SKIPPED,
        by
    )
    .execute(tx)
    .await?;
    Ok(())
}
