//! When batches are sent, and what follows an append, whether or not it succeeds.

use super::{RECENT_LEN_MAX, Task};
use crate::recorder::decide::Batch;
use crate::recorder::flight::{AppendFailure, Flight, Landing, land};
use std::time::Instant;

impl Task {
    /// Sends the next batch, if none is in flight. Returns whether one was sent.
    pub(super) async fn send_next(&mut self) -> bool {
        if self.flight.is_some() {
            return false;
        }
        let Some(mut batch) = self.next.take() else { return false };
        batch.close(&self.memory.identities);
        self.memory.sent(batch.head());
        let flight = Flight::of(batch, self.shared.clone(), self.writer.take());
        self.flight.insert(flight).begin().await;
        true
    }

    /// Packs identities that memory has no room for, except for those whose changes are not in the
    /// table yet. Does nothing during a reading, which may lack batches that are in the table by
    /// now.
    pub(super) fn release(&mut self) {
        if self.reading.is_some() {
            return;
        }
        self.memory.keep_last(self.flight.iter().len());
        let in_flight = self.flight.iter().flat_map(|flight| &flight.touched);
        let on_its_way = in_flight.chain(self.next.iter().flat_map(|next| &next.touched));
        self.memory.release(RECENT_LEN_MAX, on_its_way.copied());
    }

    /// Ends the flight that has landed. If its batch was not appended, neither it nor the one that
    /// was decided on top of it is right: both take the careful path.
    pub(super) async fn conclude(&mut self, landing: Landing) {
        let Landing { writer, batch, appended } = landing;
        self.writer = writer;
        match appended {
            Ok(clock) => {
                self.clock = Some(clock);
                self.answer(batch).await;
                self.careful.recorded();
            }
            Err(failure) => {
                let next = self.next.take();
                self.record_carefully(batch, failure).await;
                self.redo(next).await;
            }
        }
    }

    /// Answers the callers of a batch that was appended. The next one is sent first, since Postgres
    /// has nothing to do until it comes.
    async fn answer(&mut self, batch: Batch) {
        let is_sent = self.send_next().await;
        self.shared.appended(batch);
        if is_sent {
            self.release();
        }
    }

    async fn record_carefully(&mut self, batch: Batch, failure: AppendFailure) {
        tracing::debug!(batch_len = batch.len(), ?failure, "a batch goes the careful way");
        match failure {
            AppendFailure::LostConnection => self.careful.settle(&self.shared, batch).await,
            AppendFailure::LostRace => {
                self.others_wrote_at = Some(Instant::now());
                self.careful.record(&self.shared, batch.requests, true).await;
            }
            AppendFailure::Repeated => {
                self.retried_at = Some(Instant::now());
                self.careful.record(&self.shared, batch.requests, false).await;
            }
            AppendFailure::Refused => {
                self.careful.record(&self.shared, batch.requests, false).await
            }
        }
    }

    /// Waits for the flight to land, and sends the batch that was decided on top of it to the
    /// careful path.
    pub(super) async fn land_and_redo(&mut self) {
        let next = self.next.take();
        if self.flight.is_some() {
            let landing = land(&mut self.flight).await;
            self.conclude(landing).await;
        }
        self.redo(next).await;
    }

    /// Forgets what is known, and sends a batch that was decided on it to the careful path.
    async fn redo(&mut self, next: Option<Batch>) {
        self.forget();
        if let Some(batch) = next {
            self.careful.record(&self.shared, batch.requests, false).await;
        }
    }

    fn forget(&mut self) {
        debug_assert!(self.flight.is_none(), "what is in flight is known");
        if let Some(reading) = &mut self.reading {
            reading.is_stale = true;
        }
        let forgotten = std::mem::take(&mut self.memory);
        // To free the memory of many contacts takes long enough to be felt.
        tokio::task::spawn_blocking(move || drop(forgotten));
    }
}
