//! Answers questions about the ledger as a whole and about the tree, from committed state.

use super::proof::{Question, TilesDiffer};
use super::store::{StoredCheckpoint, last_checkpoint, tiles};
use crate::identity::Timestamp;
use crate::ledger::{self, Fault, ThisVersion, Unanswered};
use sqlx::{PgPool, query_as};
use tlog_tiles::Hash;

/// The ledger in short.
pub struct Summary {
    pub position: i64,
    pub rules_name: String,
    pub rules_version: i32,
    pub rules_digest: String,
    /// The size of the last checkpoint, if anything was sealed yet.
    pub size: Option<i64>,
    /// The time of the last checkpoint.
    pub signed_at: Option<Timestamp>,
    #[expect(dead_code, reason = "that it could be decoded is all that it says")]
    schema_version: ThisVersion,
}

impl From<TilesDiffer> for Unanswered {
    fn from(differ: TilesDiffer) -> Self {
        Self::Unreadable(differ.to_string())
    }
}

/// The ledger and its last checkpoint, at one moment.
pub async fn summary(sessions: &PgPool) -> Result<Summary, Fault> {
    let summary = query_as!(
        Summary,
        r#"
        select h.position, r.name as rules_name, r.version as rules_version,
            r.digest as rules_digest, c.size as "size?", c.signed_at as "signed_at?",
            h.schema_version as "schema_version: ThisVersion"
        from head as h
        join rules as r on r.digest = h.rules_digest
        left join lateral (
            select size, signed_at
            from checkpoint
            order by size desc
            limit 1
        ) as c on true
        "#
    );
    Ok(summary.fetch_one(sessions).await?)
}

/// The last checkpoint, if anything was sealed yet.
pub async fn checkpoint(sessions: &PgPool) -> Result<Option<StoredCheckpoint>, Fault> {
    // Fails on a node of another version, which does not know what is in these tables.
    ledger::position(sessions).await?;
    Ok(last_checkpoint(sessions).await?)
}

/// The hashes that answer a question about the tree of this checkpoint, in the order of RFC 6962.
///
/// The tiles may be read after the checkpoint: they grow, and their first hashes stay.
pub async fn prove(
    sessions: &PgPool,
    checkpoint: &StoredCheckpoint,
    question: Question,
) -> Result<Vec<Hash>, Unanswered> {
    let head = checkpoint.noted_head().ok_or(TilesDiffer)?;
    let tiles = tiles(sessions, &question.tiles(head)).await?;
    Ok(question.answer(head, &tiles)?)
}
