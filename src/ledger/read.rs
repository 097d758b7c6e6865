//! Reading the ledger back.

use crate::identity::Position;
use sqlx::{PgExecutor, query_scalar};

/// The position of the last event.
pub async fn position(executor: impl PgExecutor<'_>) -> Result<Position, sqlx::Error> {
    query_scalar!("select position from head").fetch_one(executor).await.map(Position::new)
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
