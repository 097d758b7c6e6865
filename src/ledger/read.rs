//! Reading the ledger back.

use crate::identity::{ObservationId, Position};
use sqlx::{PgExecutor, query, query_scalar};

/// An event's line, exactly as recorded, with the identifiers of its observation beside it.
pub struct EventRow {
    pub position: Position,
    pub line: String,
    pub observation_id: Option<ObservationId>,
    pub email: Option<String>,
    pub phone_number: Option<String>,
}

/// The position of the last event.
pub async fn position(executor: impl PgExecutor<'_>) -> Result<Position, sqlx::Error> {
    query_scalar!("select position from head").fetch_one(executor).await.map(Position::new)
}

/// Up to `limit` events after a position, in order.
///
/// Positions are in commit order, so a reader that goes on from the last one it has seen
/// misses none.
pub async fn events_after(
    executor: impl PgExecutor<'_>,
    after: Position,
    limit: i64,
) -> Result<Vec<EventRow>, sqlx::Error> {
    let rows = query!(
        r#"
        select e.position, e.line, e.observation_id, o.email as "email?", o.phone_number as "phone_number?"
        from event as e
        left join observation as o on o.id = e.observation_id
        where e.position > $1
        order by e.position
        limit $2
        "#,
        after.get(),
        limit
    );
    let events = rows.fetch_all(executor).await?.into_iter().map(|row| EventRow {
        position: Position::new(row.position),
        line: row.line,
        observation_id: row.observation_id.map(ObservationId::new),
        email: row.email,
        phone_number: row.phone_number,
    });
    Ok(events.collect())
}

/// The line of one event, if the ledger reaches that far.
pub async fn line_at(
    executor: impl PgExecutor<'_>,
    position: Position,
) -> Result<Option<String>, sqlx::Error> {
    query_scalar!("select line from event where position = $1", position.get())
        .fetch_optional(executor)
        .await
}
