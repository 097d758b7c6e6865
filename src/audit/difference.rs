//! The first thing that is not as it should be.

use crate::identity::{Fact, Position};
use crate::seal::NotACheckpoint;
use serde::Serialize;

/// What is not as it should be, and where. Holds hashes, numbers and times, never an email or a
/// phone number, nor text that somebody may have put in their place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}{part}: expected {expected}, found {found}", at(*.position))]
pub struct Difference {
    /// Of the event, where it is about one.
    pub position: Option<i64>,
    pub part: &'static str,
    pub expected: String,
    pub found: String,
}

impl Difference {
    pub fn at(
        position: i64,
        part: &'static str,
        expected: impl ToString,
        found: impl ToString,
    ) -> Self {
        let (expected, found) = (expected.to_string(), found.to_string());
        Self { position: Some(position), part, expected, found }
    }

    /// About a checkpoint that does not count.
    pub fn checkpoint(part: &'static str, why: &NotACheckpoint) -> Self {
        let (position, expected) = (None, "a note signed by the log's key".to_owned());
        let found = format!("no checkpoint that counts: {why}");
        Self { position, part, expected, found }
    }

    /// About what was decided in an event.
    pub fn decision(position: Position, expected: impl ToString, found: impl ToString) -> Self {
        Self::at(position.get(), "decision", expected, found)
    }
}

/// A fact has numbers, hashes and codes only.
pub fn told(fact: &Fact) -> String {
    let data = serde_json::to_string(fact).expect("a fact is plain data");
    format!("{} {data}", fact.kind())
}

fn at(position: Option<i64>) -> String {
    position.map_or_else(String::new, |position| format!("event {position}: "))
}
