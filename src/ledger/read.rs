//! Reading the ledger back.

use super::schema::ThisVersion;
use crate::identity::Position;
use sqlx::{PgExecutor, query, query_scalar};

/// The position of the last event. Fails if the tables are of another version.
pub async fn position(executor: impl PgExecutor<'_>) -> Result<Position, sqlx::Error> {
    let head =
        query!(r#"select position, schema_version as "schema_version: ThisVersion" from head"#);
    Ok(Position::new(head.fetch_one(executor).await?.position))
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
