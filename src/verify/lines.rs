//! Checks lines by themselves, and compares them with the columns that are copies of them.

use super::mismatch::Mismatch;
use crate::identity::{Commitment, Event, Fact, Position, Timestamp};
use crate::ledger::CopiedRow;
use crate::seal::Hash;
use tlog_tiles::record_hash;

/// The beginning of the year 2000, from which Postgres counts microseconds.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The columns that are to be read of each event, in this order.
pub const COLUMNS: &str =
    "position, line, kind, contact_id, observation_id, primary_id, recorded_at";

/// Lines that are right by themselves, one after the other.
#[derive(Default)]
pub struct CheckedLines {
    /// The hash of each line.
    pub leaves: Vec<Hash>,
    pub observed: Vec<Committed>,
    pub events: Vec<Event>,
    /// When the last of them was recorded.
    pub last_time: Option<Timestamp>,
}

/// An observation that an event commits to.
#[derive(Clone, Copy)]
pub struct Committed {
    pub position: Position,
    pub id: i64,
    pub recorded_at: Timestamp,
    pub commitment: Commitment,
}

impl CheckedLines {
    /// Takes the line at a position, and returns its event. Fails unless it is an event of that position,
    /// written as this ledger writes it, and no earlier than the one before.
    pub fn push(&mut self, position: Position, line: &str) -> Result<&Event, Mismatch> {
        let Ok(event) = Event::parse(line) else {
            return Err(Mismatch::at(position, "line", "an event", "text that is none"));
        };
        if event.position != position {
            return Err(Mismatch::at(position, "line", position, event.position));
        }
        if event.line() != line {
            return Err(Mismatch::at(position, "line", "canonical JSON", "other JSON"));
        }
        check_time(position, self.last_time, event.recorded_at)?;
        self.last_time = Some(event.recorded_at);
        self.leaves.push(record_hash(line.as_bytes()));
        if let Fact::ContactObserved(observed) = &event.fact {
            self.observed.push(Committed {
                position,
                id: observed.observation_id.get(),
                recorded_at: event.recorded_at,
                commitment: observed.commitment,
            });
        }
        self.events.push(event);
        Ok(&self.events[self.events.len() - 1])
    }

    /// Takes the line of a row. Fails unless the columns say the same.
    pub fn push_row(
        &mut self,
        position: Position,
        row: &mut CopiedRow<'_>,
    ) -> Result<(), Mismatch> {
        let found = row.number().unwrap_or_default();
        if found != position.get() {
            return Err(Mismatch::at(position, "position", position, found));
        }
        let event = self.push(position, row.text().unwrap_or_default())?;
        let fact = &event.fact;
        if row.text() != Some(fact.kind()) {
            return Err(Mismatch::at(position, "column kind", fact.kind(), "another"));
        }
        let numbers = [
            ("column contact_id", fact.contact_id().map(|id| id.get())),
            ("column observation_id", fact.observation_id().map(|id| id.get())),
            ("column primary_id", fact.primary_id().map(|id| id.get())),
            ("column recorded_at", Some(micros(event.recorded_at))),
        ];
        for (column, expected) in numbers {
            let found = row.number();
            if found != expected {
                return Err(Mismatch::at(
                    position,
                    column,
                    number_text(expected),
                    number_text(found),
                ));
            }
        }
        Ok(())
    }
}

/// Checks that an event was not recorded before the one before it, if there is one.
pub fn check_time(
    position: Position,
    before: Option<Timestamp>,
    at: Timestamp,
) -> Result<(), Mismatch> {
    let Some(later) = before.filter(|before| at < *before) else { return Ok(()) };
    let expected = format!("a time not before {}", later.to_rfc3339());
    Err(Mismatch::at(position, "recordedAt", expected, at.to_rfc3339()))
}

/// A time as Postgres writes it in its binary format.
pub fn micros(at: Timestamp) -> i64 {
    at.timestamp_micros() - EPOCH_MICROS
}

fn number_text(number: Option<i64>) -> String {
    number.map_or_else(|| "null".to_owned(), |number| number.to_string())
}
