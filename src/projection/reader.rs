//! Answers questions from committed state, each with one statement.

use super::load::load_by_number;
use crate::identity::{Answer, ContactId, Position};
use crate::ledger::{self, Database, EventRow, Fault};
use sqlx::PgPool;

/// Reads beside the recorder. Cheap to clone; connects when first used.
#[derive(Clone)]
pub struct Reader(PgPool);

impl Reader {
    pub fn new(database: &Database) -> Self {
        Self(database.readers())
    }

    /// The identity that any observation's number belongs to, and the position it was read at.
    pub async fn identity(&self, id: ContactId) -> Result<Option<(Answer, Position)>, Fault> {
        let snapshot = load_by_number(&self.0, id).await?;
        let position = snapshot.head.position;
        let found = !snapshot.contacts.is_empty();
        Ok(found.then(|| (Answer::of(&snapshot.contacts), position)))
    }

    /// Up to `limit` events after a position, in order.
    pub async fn events(&self, after: Position, limit: i64) -> Result<Vec<EventRow>, Fault> {
        Ok(ledger::events_after(&self.0, after, limit).await?)
    }

    /// The position of the last event. Fails while Postgres is away.
    pub async fn position(&self) -> Result<Position, Fault> {
        Ok(ledger::position(&self.0).await?)
    }

    /// For questions that other rooms answer.
    pub fn sessions(&self) -> &PgPool {
        &self.0
    }

    pub async fn close(&self) {
        self.0.close().await;
    }
}
