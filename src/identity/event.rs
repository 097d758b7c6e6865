//! Events: facts with a place in the ledger, and the one line each is written as.

use super::fact::Fact;
use super::id::Position;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Number of bytes that nearly every line fits into.
const LINE_LEN: usize = 384;

/// A time to the microsecond, as Postgres keeps it.
pub type Timestamp = DateTime<Utc>;

/// A time as the lines of events have it (RFC 3339), always with microseconds.
pub fn rfc_3339(at: Timestamp) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// One row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub position: Position,
    pub recorded_at: Timestamp,
    pub fact: Fact,
}

/// A line is not an event, or is not written as this ledger writes it. The text repeats nothing of it,
/// since it could hold anything.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not what an event looks like; run identity-ledger verify")]
pub struct CorruptLine;

impl From<serde_json::Error> for CorruptLine {
    /// Drops the cause: its text would quote what stands in the line.
    fn from(_: serde_json::Error) -> Self {
        Self
    }
}

/// The members of a line, in alphabetical order.
#[derive(Serialize)]
struct Written<'a> {
    data: &'a Fact,
    kind: &'static str,
    position: Position,
    #[serde(rename = "recordedAt")]
    recorded_at: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    kind: &'a str,
    position: Position,
    #[serde(rename = "recordedAt")]
    recorded_at: Timestamp,
}

impl Event {
    /// The event as canonical JSON (RFC 8785) on one line, without a line feed.
    pub fn line(&self) -> String {
        self.line_at(&rfc_3339(self.recorded_at))
    }

    /// As `line`, for a caller that has written the same time before.
    pub fn line_at(&self, recorded_at: &str) -> String {
        let (kind, position) = (self.fact.kind(), self.position);
        let written = Written { data: &self.fact, kind, position, recorded_at };
        let mut line = Vec::with_capacity(LINE_LEN);
        serde_json::to_writer(&mut line, &written)
            .expect("an event has no map with keys that are not text");
        String::from_utf8(line).expect("JSON is text")
    }

    /// Reads a line back. A member that is unknown, missing or of another type is an error.
    pub fn parse(line: &str) -> Result<Self, CorruptLine> {
        let read: Read<'_> = serde_json::from_str(line)?;
        let fact = Fact::parse(read.kind, read.data.get())?;
        Ok(Self { position: read.position, recorded_at: read.recorded_at, fact })
    }
}
