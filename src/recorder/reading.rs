//! A reading under way, while the recorder goes on.

use super::clock::Clock;
use super::queue::Request;
use super::retry::{Originals, RetryKey, originals};
use super::steps::{Shared, Wanted};
use crate::ledger::Fault;
use crate::projection::Snapshot;
use sqlx::PgConnection;
use std::collections::HashSet;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

/// Of what requests touch and is not known.
pub struct Reading {
    pub requests_len: usize,
    pub retry_keys: HashSet<RetryKey>,
    /// Whether what was known when it began has been forgotten since.
    pub is_stale: bool,
    end: Pin<Box<dyn Future<Output = Read> + Send>>,
}

/// The end of a reading.
pub struct Read {
    pub requests: Vec<Request>,
    pub is_stale: bool,
    /// None where Postgres did not answer.
    pub found: Option<Found>,
}

pub struct Found {
    pub reader: PgConnection,
    pub snapshot: Snapshot,
    /// None where the snapshot was known before.
    pub clock: Option<Clock>,
    pub originals: Originals,
}

/// What a reading looks for.
pub struct Question {
    /// None where nothing is wanted.
    pub known: Option<Snapshot>,
    pub wanted: Wanted,
    pub looks_for_retries: bool,
}

impl Reading {
    /// Nothing is sent before it is waited for.
    pub fn of(
        requests: Vec<Request>,
        question: Question,
        shared: Arc<Shared>,
        reader: Option<PgConnection>,
    ) -> Self {
        Self {
            requests_len: requests.len(),
            retry_keys: requests.iter().filter_map(|request| request.retry_key).collect(),
            is_stale: false,
            end: Box::pin(async move {
                let found = question.ask(&shared, reader, &requests).await.ok();
                Read { requests, is_stale: false, found }
            }),
        }
    }
}

impl Question {
    async fn ask(
        self,
        shared: &Shared,
        reader: Option<PgConnection>,
        requests: &[Request],
    ) -> Result<Found, Fault> {
        let mut reader = match reader {
            Some(reader) => reader,
            None => shared.database.recorder().await?,
        };
        let (snapshot, clock) = match self.known {
            Some(known) => (known, None),
            None => {
                let snapshot = self.wanted.load(&mut reader).await?;
                let clock = Clock::reads(snapshot.now);
                (snapshot, Some(clock))
            }
        };
        let originals = match self.looks_for_retries {
            true => originals(&mut reader, requests, shared.retries_kept_for).await?,
            false => Originals::new(),
        };
        Ok(Found { reader, snapshot, clock, originals })
    }
}

/// Waits for the reading to end; for ever where there is none. Can be given up and called again.
pub async fn finish(reading: &mut Option<Reading>) -> Read {
    let Some(under_way) = reading else { return pending().await };
    let read = under_way.end.as_mut().await;
    let is_stale = under_way.is_stale;
    *reading = None;
    Read { is_stale, ..read }
}
