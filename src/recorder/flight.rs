//! A batch on its way into the ledger, while the recorder goes on.

use super::append::append;
use super::decide::Batch;
use super::retry::RetryKey;
use super::steps::Shared;
use crate::identity::ContactId;
use crate::ledger::{Fault, in_time};
use sqlx::PgConnection;
use std::collections::HashSet;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

/// A batch on its way into the ledger.
pub struct Flight {
    pub batch_len: usize,
    /// As in the batch.
    pub touched: Vec<ContactId>,
    pub retry_keys: HashSet<RetryKey>,
    landing: Pin<Box<dyn Future<Output = Landing> + Send>>,
}

/// The end of a flight.
pub struct Landing {
    pub writer: Option<PgConnection>,
    pub landed: Landed,
}

pub enum Landed {
    Appended(Batch),
    NotAppended(Batch, Trouble),
}

#[derive(Debug)]
pub enum Trouble {
    LostRace,
    LostConnection,
    Repeated,
    Refused,
}

impl Flight {
    /// Nothing is sent before it is waited for.
    pub fn of(mut batch: Batch, shared: Arc<Shared>, writer: Option<PgConnection>) -> Self {
        Self {
            batch_len: batch.len(),
            touched: std::mem::take(&mut batch.touched),
            retry_keys: std::mem::take(&mut batch.retry_keys),
            landing: Box::pin(fly(shared, writer, batch)),
        }
    }
}

/// Waits for the flight to land; for ever where there is none. Can be given up and called again.
pub async fn land(flight: &mut Option<Flight>) -> Landing {
    let Some(airborne) = flight else { return pending().await };
    let landing = airborne.landing.as_mut().await;
    *flight = None;
    landing
}

/// Appends a batch.
async fn fly(shared: Arc<Shared>, writer: Option<PgConnection>, batch: Batch) -> Landing {
    let mut writer = match writer {
        Some(writer) => writer,
        None => match shared.database.recorder().await {
            Ok(writer) => writer,
            Err(_) => {
                let landed = Landed::NotAppended(batch, Trouble::Refused);
                return Landing { writer: None, landed };
            }
        },
    };
    let (is_usable, trouble) = match in_time(append(&mut writer, &batch)).await {
        Ok(true) => return Landing { writer: Some(writer), landed: Landed::Appended(batch) },
        Ok(false) => (true, Trouble::LostRace),
        Err(Fault::Lost(_)) => (false, Trouble::LostConnection),
        Err(fault) if fault.is_duplicate() => (true, Trouble::Repeated),
        Err(_) => (false, Trouble::Refused),
    };
    let writer = Some(writer).filter(|_| is_usable);
    Landing { writer, landed: Landed::NotAppended(batch, trouble) }
}
