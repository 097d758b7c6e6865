//! Appending single events, beside the recorder and its batches.

use crate::identity::{ContactId, Event};
use sqlx::{PgConnection, query};

/// Keeps everybody from appending until the transaction ends. Locks in the order that a swap of the
/// contact table does: `contact`, then `head`.
pub async fn lock_to_append(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    let lock = "
        lock table contact in row exclusive mode;
        select position from head for update;
    ";
    sqlx::raw_sql(lock).execute(tx).await?;
    Ok(())
}

/// Appends an event. Moving the head is left to whoever has locked it.
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
