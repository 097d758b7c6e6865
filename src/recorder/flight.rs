//! A batch on its way into the ledger, while the recorder goes on.

use super::append::append;
use super::clock::Clock;
use super::decide::Batch;
use super::retry::RetryKey;
use super::steps::Shared;
use crate::identity::ContactId;
use crate::ledger::{Fault, in_time};
use futures_util::future::{MaybeDone, maybe_done};
use sqlx::PgConnection;
use std::collections::HashSet;
use std::future::{pending, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An append that takes longer says nothing of the clock.
const CLOCK_LAG_MAX: Duration = Duration::from_millis(100);

/// A batch on its way into the ledger.
pub struct Flight {
    pub batch_len: usize,
    /// As in the batch.
    pub touched: Vec<ContactId>,
    pub retry_keys: HashSet<RetryKey>,
    /// Whether a reading has begun since it did.
    pub is_read_beside: bool,
    landing: MaybeDone<Pin<Box<dyn Future<Output = Landing> + Send>>>,
}

/// The end of a flight.
pub struct Landing {
    pub writer: Option<PgConnection>,
    pub batch: Batch,
    /// With the clock, where that was read a short time ago.
    pub appended: Result<Option<Clock>, Trouble>,
}

#[derive(Debug)]
pub enum Trouble {
    LostRace,
    LostConnection,
    Repeated,
    Refused,
}

impl Flight {
    /// Nothing is sent before it begins, or is waited for.
    pub fn of(mut batch: Batch, shared: Arc<Shared>, writer: Option<PgConnection>) -> Self {
        Self {
            batch_len: batch.len(),
            touched: std::mem::take(&mut batch.touched),
            retry_keys: std::mem::take(&mut batch.retry_keys),
            is_read_beside: false,
            landing: maybe_done(Box::pin(fly(shared, writer, batch))),
        }
    }

    /// Sends the batch, and does not wait.
    pub async fn begin(&mut self) {
        // What is polled sends.
        tokio::select! {
            biased;
            () = &mut self.landing => {}
            () = ready(()) => {}
        }
    }
}

/// Waits for the flight to land; for ever where there is none. Can be given up and called again.
pub async fn land(flight: &mut Option<Flight>) -> Landing {
    let Some(airborne) = flight else { return pending().await };
    (&mut airborne.landing).await;
    let landing = Pin::new(&mut airborne.landing).take_output();
    *flight = None;
    landing.expect("it is taken once")
}

/// Appends a batch.
async fn fly(shared: Arc<Shared>, writer: Option<PgConnection>, batch: Batch) -> Landing {
    let mut writer = match writer {
        Some(writer) => writer,
        None => match shared.database.recorder().await {
            Ok(writer) => writer,
            Err(_) => return Landing { writer: None, batch, appended: Err(Trouble::Refused) },
        },
    };
    let since = Instant::now();
    let (is_usable, appended) = match in_time(append(&mut writer, &batch)).await {
        Ok(Some(now)) => {
            // The clock is read before the rows are written and committed.
            let is_recent = since.elapsed() < CLOCK_LAG_MAX;
            (true, Ok(is_recent.then(|| Clock::reads(now))))
        }
        Ok(None) => (true, Err(Trouble::LostRace)),
        Err(Fault::Lost(_)) => (false, Err(Trouble::LostConnection)),
        Err(fault) if fault.is_duplicate() => (true, Err(Trouble::Repeated)),
        Err(_) => (false, Err(Trouble::Refused)),
    };
    Landing { writer: Some(writer).filter(|_| is_usable), batch, appended }
}
