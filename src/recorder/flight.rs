//! A batch on its way into the ledger, while the recorder goes on.

use super::append::append;
use super::clock::Clock;
use super::decide::Batch;
use super::retry::RetryKey;
use super::shared::Shared;
use crate::identity::ContactId;
use crate::ledger::{Fault, in_time};
use futures_util::future::{MaybeDone, maybe_done, poll_immediate};
use sqlx::PgConnection;
use std::collections::HashSet;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

/// A batch that is being appended.
pub struct Flight {
    pub batch_len: usize,
    /// A contact of each identity that the batch concerns.
    pub touched: Vec<ContactId>,
    pub retry_keys: HashSet<RetryKey>,
    /// Whether a reading has begun since the flight has.
    pub is_read_beside: bool,
    landing: MaybeDone<Pin<Box<dyn Future<Output = Landing> + Send>>>,
}

/// The end of a flight.
pub struct Landing {
    /// The connection, if it is still good.
    pub writer: Option<PgConnection>,
    pub batch: Batch,
    pub appended: Result<Clock, AppendFailure>,
}

/// Why a batch was not appended, or may not have been.
#[derive(Debug)]
pub enum AppendFailure {
    /// The head has moved, or the rules, the schema version or the contact table have changed.
    LostRace,
    /// It is not known whether the batch is in the ledger.
    LostConnection,
    /// A key is there already: mostly the retry key of a request that was recorded before.
    Repeated,
    Refused,
}

impl Flight {
    /// Prepares a flight. Nothing is sent before `begin`, or before it is waited for.
    pub fn of(mut batch: Batch, shared: Arc<Shared>, writer: Option<PgConnection>) -> Self {
        Self {
            batch_len: batch.len(),
            touched: std::mem::take(&mut batch.touched),
            retry_keys: std::mem::take(&mut batch.retry_keys),
            is_read_beside: false,
            landing: maybe_done(Box::pin(fly(shared, writer, batch))),
        }
    }

    /// Sends the batch, and does not wait for the answer.
    pub async fn begin(&mut self) {
        // The future sends when it is polled first.
        _ = poll_immediate(&mut self.landing).await;
    }
}

/// Waits for the flight to land, or for ever if there is none. It may be cancelled and called again.
pub async fn land(flight: &mut Option<Flight>) -> Landing {
    let Some(airborne) = flight else { return pending().await };
    (&mut airborne.landing).await;
    let landing = Pin::new(&mut airborne.landing).take_output();
    *flight = None;
    landing.expect("it is taken once")
}

/// Appends the batch, on a new connection if none is given.
async fn fly(shared: Arc<Shared>, writer: Option<PgConnection>, batch: Batch) -> Landing {
    let mut writer = match writer {
        Some(writer) => writer,
        None => match shared.database.recorder().await {
            Ok(writer) => writer,
            Err(_) => {
                return Landing { writer: None, batch, appended: Err(AppendFailure::Refused) };
            }
        },
    };
    let asked = SystemTime::now();
    let (is_usable, appended) = match in_time(append(&mut writer, &batch)).await {
        Ok(Some(now)) => (true, Ok(Clock::reads(now, asked))),
        Ok(None) => (true, Err(AppendFailure::LostRace)),
        Err(Fault::Lost(_)) => (false, Err(AppendFailure::LostConnection)),
        Err(fault) if fault.is_duplicate() => (true, Err(AppendFailure::Repeated)),
        Err(_) => (false, Err(AppendFailure::Refused)),
    };
    Landing { writer: Some(writer).filter(|_| is_usable), batch, appended }
}
