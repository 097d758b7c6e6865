//! A reading under way, while the recorder goes on.

use super::clock::Clock;
use super::queue::Request;
use super::retry::{Originals, RetryKey, originals, retry_keys};
use super::shared::{Shared, WantedKeys};
use crate::ledger::Fault;
use crate::projection::Snapshot;
use sqlx::PgConnection;
use std::collections::HashSet;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

/// A reading of the identities that requests touch and that are not in memory.
pub struct Reading {
    pub requests: Vec<Request>,
    pub retry_keys: HashSet<RetryKey>,
    /// Whether memory has been forgotten since it began: it may then lack more than what is in memory.
    pub is_stale: bool,
    end: Pin<Box<dyn Future<Output = Result<Findings, Fault>> + Send>>,
}

/// What a reading found, and its connection.
pub struct Findings {
    pub reader: PgConnection,
    pub snapshot: Snapshot,
    pub clock: Clock,
    pub originals: Originals,
}

impl Reading {
    /// Prepares a reading of the wanted keys, and of what was recorded under the retry keys in
    /// `looked_for`. Nothing is sent before it is waited for.
    pub fn of(
        requests: Vec<Request>,
        wanted: WantedKeys,
        looked_for: Vec<RetryKey>,
        shared: Arc<Shared>,
        reader: Option<PgConnection>,
    ) -> Self {
        Self {
            retry_keys: retry_keys(&requests).collect(),
            requests,
            is_stale: false,
            end: Box::pin(read(wanted, looked_for, shared, reader)),
        }
    }
}

async fn read(
    wanted: WantedKeys,
    looked_for: Vec<RetryKey>,
    shared: Arc<Shared>,
    reader: Option<PgConnection>,
) -> Result<Findings, Fault> {
    let mut reader = match reader {
        Some(reader) => reader,
        None => shared.database.recorder().await?,
    };
    let asked = SystemTime::now();
    let snapshot = shared.load(&wanted, &mut reader).await?;
    let clock = Clock::reads(snapshot.now, asked);
    let originals = originals(&mut reader, &looked_for, shared.retries_kept_for).await?;
    Ok(Findings { reader, snapshot, clock, originals })
}

/// Waits for the reading to end, or for ever if there is none. It may be cancelled and called
/// again. Returns `None` as what was found if Postgres did not answer.
pub async fn finish(reading: &mut Option<Reading>) -> (Reading, Option<Findings>) {
    let Some(under_way) = reading else { return pending().await };
    let found = under_way.end.as_mut().await.ok();
    (reading.take().expect("it is under way"), found)
}
