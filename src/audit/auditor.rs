//! What auditors ask, answered from committed state.

use crate::identity::{Position, Rules, RulesDigest};
use crate::ledger::{self, Database, EventFilter, EventRow, Fault};
use sqlx::PgPool;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

/// Auditors have sessions of their own, so that a caller never waits for one of theirs.
const SESSIONS_MAX: u32 = 4;
/// Each feed holds a few pages of events in memory.
const FEEDS_MAX: usize = 100;
/// Each explanation keeps a core busy.
const EXPLAINED_AT_ONCE: usize = 2;
/// How old the head may be that live feeds compare themselves with.
const HEAD_AGE_MAX: Duration = Duration::from_millis(200);
/// In positions. A statement looks no further than this for a kind, which may be rare.
const LOOK_LEN_MAX: i64 = 50_000;

/// Reads history beside the recorder. Cheap to clone; connects when first used.
#[derive(Clone)]
pub struct Auditor {
    pub(super) pool: PgPool,
    pub(super) feeds: Arc<Semaphore>,
    pub(super) explaining: Arc<Semaphore>,
    head: Arc<Mutex<Option<(Instant, Position)>>>,
    /// Rules that were read before: what is recorded under a digest never changes.
    pub(super) rules: Arc<parking_lot::Mutex<HashMap<RulesDigest, Arc<Rules>>>>,
}

/// Some events in order.
pub struct EventPage {
    pub events: Vec<EventRow>,
    /// All wanted events up to here are in this page or in an earlier one.
    pub through: Position,
}

impl Auditor {
    pub fn new(database: &Database) -> Self {
        Self {
            pool: database.readers(SESSIONS_MAX),
            feeds: Arc::new(Semaphore::new(FEEDS_MAX)),
            explaining: Arc::new(Semaphore::new(EXPLAINED_AT_ONCE)),
            head: Arc::default(),
            rules: Arc::default(),
        }
    }

    /// The sessions, for questions that other rooms answer.
    pub fn sessions(&self) -> &PgPool {
        &self.pool
    }

    /// The position of the last event.
    pub async fn position(&self) -> Result<Position, Fault> {
        Ok(ledger::position(&self.pool).await?)
    }

    /// The position of the last event, or of the one that was last up to 200 ms ago: five statements
    /// a second, however many live feeds there are.
    pub(super) async fn recent_position(&self) -> Result<Position, Fault> {
        let mut head = self.head.lock().await;
        if let Some((read_at, position)) = *head
            && read_at.elapsed() < HEAD_AGE_MAX
        {
            return Ok(position);
        }
        let position = self.position().await?;
        *head = Some((Instant::now(), position));
        Ok(position)
    }

    /// Up to `limit` wanted events after a position, in order. `up_to` is a position that the ledger
    /// has reached.
    pub async fn events(
        &self,
        after: Position,
        up_to: Position,
        wanted: &EventFilter,
        limit: i64,
    ) -> Result<EventPage, Fault> {
        let look_len = if wanted.is_sought() { LOOK_LEN_MAX } else { i64::MAX };
        let up_to = up_to.min(Position::new(after.get().saturating_add(look_len)));
        let events = ledger::events_between(&self.pool, after, up_to, wanted, limit).await?;
        let is_full = i64::try_from(events.len()) == Ok(limit);
        let last = events.last().filter(|_| is_full).map(|event| event.position);
        Ok(EventPage { events, through: last.unwrap_or(up_to.max(after)) })
    }

    pub async fn close(&self) {
        self.pool.close().await;
    }
}
