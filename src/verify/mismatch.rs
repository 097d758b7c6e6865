//! The first thing that is not as it should be.

use crate::identity::{Fact, Position};
use crate::seal::NotACheckpoint;
use serde::Serialize;

/// What is not as it should be, and where. Holds hashes, numbers and times, never an email or a
/// phone number, nor text that a tamperer may have put in their place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}{part}: expected {expected}, found {found}", place(*.position))]
pub struct Mismatch {
    /// The position of the event that it is about, if there is one.
    pub position: Option<Position>,
    pub part: &'static str,
    pub expected: String,
    pub found: String,
}

impl Mismatch {
    pub fn new(
        position: Option<Position>,
        part: &'static str,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self { position, part, expected: expected.to_string(), found: found.to_string() }
    }

    /// About the event at a position.
    pub fn at(
        position: Position,
        part: &'static str,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        Self::new(Some(position), part, expected, found)
    }

    /// About no event in particular.
    pub fn anywhere(part: &'static str, expected: impl ToString, found: impl ToString) -> Self {
        Self::new(None, part, expected, found)
    }

    /// About a checkpoint that does not count.
    pub fn checkpoint(part: &'static str, why: &NotACheckpoint) -> Self {
        let found = format!("no checkpoint that counts: {why}");
        Self::anywhere(part, "a note signed by the log's key", found)
    }

    /// About what an event decided.
    pub fn decision(position: Position, expected: impl ToString, found: impl ToString) -> Self {
        Self::at(position, "decision", expected, found)
    }
}

fn place(position: Option<Position>) -> String {
    position.map_or_else(String::new, |position| format!("event {position}: "))
}

/// A fact in one line. It has numbers, hashes and codes only.
pub fn fact_text(fact: &Fact) -> String {
    let data = serde_json::to_string(fact).expect("a fact is plain data");
    format!("{} {data}", fact.kind())
}
