//! Reading the ledger back.

use super::fault::Unanswered;
use crate::identity::{Position, Rules, RulesDigest};
use anyhow::{Context as _, ensure};
use sqlx::{PgConnection, PgExecutor, query, query_scalar};

/// The position of the last event.
pub async fn position(executor: impl PgExecutor<'_>) -> Result<Position, sqlx::Error> {
    query_scalar!("select position from head").fetch_one(executor).await.map(Position::new)
}

/// The lines of up to `limit` events after a position, in order.
pub async fn lines_after(
    executor: impl PgExecutor<'_>,
    after: Position,
    limit: i64,
) -> Result<Vec<String>, sqlx::Error> {
    query_scalar!(
        "select line from event where position > $1 order by position limit $2",
        after.get(),
        limit
    )
    .fetch_all(executor)
    .await
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

/// The rules in force, as the ledger has them.
pub async fn rules_in_force(connection: &mut PgConnection) -> anyhow::Result<Rules> {
    let recorded = query!(
        "select r.digest, r.document from head as h join rules as r on r.digest = h.rules_digest"
    )
    .fetch_one(connection)
    .await?;
    let rules = Rules::parse(&recorded.document).with_context(|| {
        format!("this binary cannot read the rules in force ({})", recorded.digest)
    })?;
    ensure!(
        rules.digest().as_str() == recorded.digest,
        "the document of the rules in force does not have their digest {}",
        recorded.digest
    );
    Ok(rules)
}

/// The rules that were recorded under a digest.
pub async fn recorded_rules(
    executor: impl PgExecutor<'_>,
    digest: &RulesDigest,
) -> Result<Rules, Unanswered> {
    let document = query_scalar!("select document from rules where digest = $1", digest.as_str())
        .fetch_optional(executor)
        .await?;
    let rules = document.and_then(|document| Rules::parse(&document).ok());
    rules
        .filter(|rules| rules.digest() == digest)
        .ok_or_else(|| Unanswered::Unreadable(format!("the rules {}", digest.as_str())))
}

/// The documents of all rules that the ledger ever had, up to a thousand.
pub async fn rules_documents(executor: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    query_scalar!("select document from rules order by digest limit 1000").fetch_all(executor).await
}
