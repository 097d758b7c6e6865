//! What became of an append that was not answered.

use super::append::append;
use super::decide::Batch;
use super::shared::Shared;
use crate::ledger::{self, Fault, in_time};
use sqlx::PgConnection;
use std::time::{Duration, Instant};

/// For how long it is tried to find that out, before callers hear that the outcome is unknown.
const WAIT: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(100);

/// What is known of such an append.
pub struct Settled {
    /// A connection in place of the one that was lost.
    pub connection: PgConnection,
    /// Whether the batch is in the ledger.
    pub is_recorded: bool,
}

/// Finds out whether an append whose connection died is in the ledger, by sending it again: it can be
/// appended once only, by the statement that was lost, which may still be running, or by this one. If the
/// head has moved, the line at the batch's first position says whose batch moved it. Returns `None` if it
/// could not be found out.
pub async fn settle(shared: &Shared, batch: &Batch) -> Option<Settled> {
    let since = Instant::now();
    tracing::warn!(batch_len = batch.len(), "the connection was lost during an append");
    while since.elapsed() < WAIT {
        match try_settle(shared, batch).await {
            Ok(settled) => return Some(settled),
            Err(Fault::Data(_)) => return None,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    None
}

async fn try_settle(shared: &Shared, batch: &Batch) -> Result<Settled, Fault> {
    let mut connection = shared.database.recorder().await?;
    if in_time(append(&mut connection, batch)).await?.is_some() {
        return Ok(Settled { connection, is_recorded: true });
    }
    let first = batch.events.first().expect("every observation is an event");
    let line = in_time(ledger::line_at(&mut connection, first.position)).await?;
    Ok(Settled { connection, is_recorded: line.as_ref() == batch.lines.first() })
}
