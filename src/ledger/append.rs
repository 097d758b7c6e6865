//! Appending events outside of the recorder: rule changes, erasures, accepted losses.

use super::copy_in::write_copied_row;
use crate::identity::{ContactId, Event, Fact, Position, Timestamp};
use sqlx::{PgConnection, query};

/// Number of events that are sent to Postgres at once.
const CHUNK_LEN: i64 = 10_000;

/// Lets no one else append until the transaction ends. Locks `contact` before `head`, as a swap of the
/// contact table does.
pub async fn lock_to_append(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    let lock = "
        lock table contact in row exclusive mode;
        select position from head where schema_version > 0 for update;
    ";
    sqlx::raw_sql(lock).execute(tx).await?;
    Ok(())
}

/// Appends an event. The caller, who has locked the head, must move it.
pub async fn append_event(tx: &mut PgConnection, event: &Event) -> Result<(), sqlx::Error> {
    query!(
        "insert into event (
            position, recorded_at, kind, contact_id, observation_id, primary_id, line
        )
        values ($1, $2, $3, $4, $5, $6, $7)",
        event.position.get(),
        event.recorded_at,
        event.fact.kind(),
        event.fact.contact_id().map(ContactId::get),
        event.fact.observation_id().map(|id| id.get()),
        event.fact.primary_id().map(ContactId::get),
        event.line()
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Appends facts from a position on, however many, and returns the position of the last. The caller must
/// move the head, as after `append_event`.
pub async fn append_events(
    tx: &mut PgConnection,
    first: Position,
    recorded_at: Timestamp,
    facts: impl Iterator<Item = Fact>,
) -> Result<Position, sqlx::Error> {
    let mut rows = tx
        .copy_in_raw(
            "copy event (
                position, recorded_at, kind, contact_id, observation_id, primary_id, line
            ) from stdin",
        )
        .await?;
    let mut text = String::new();
    let mut next = first;
    for fact in facts {
        write_event(&mut text, &Event { position: next, recorded_at, fact });
        next = next.next();
        if next.get() % CHUNK_LEN == 0 {
            rows.send(std::mem::take(&mut text).into_bytes()).await?;
        }
    }
    rows.send(text.into_bytes()).await?;
    rows.finish().await?;
    Ok(Position::new(next.get() - 1))
}

/// Adds the row of an event to rows for `COPY`, of the columns position, recorded_at, kind, contact_id,
/// observation_id, primary_id and line.
pub fn write_event(text: &mut String, event: &Event) {
    let columns = [
        Some(event.position.to_string()),
        Some(event.recorded_at.to_rfc3339()),
        Some(event.fact.kind().to_owned()),
        event.fact.contact_id().map(|id| id.to_string()),
        event.fact.observation_id().map(|id| id.to_string()),
        event.fact.primary_id().map(|id| id.to_string()),
        Some(event.line()),
    ];
    write_copied_row(text, &columns);
}
