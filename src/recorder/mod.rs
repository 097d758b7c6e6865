//! stub
use crate::identity::{Answer, Identifiers, Position};

/// Hands observations to the recorder's task. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {}

/// What was recorded, and the answer at that position.
pub struct Recorded {
    pub answer: Answer,
    /// Of the request's own last event.
    pub position: Position,
}

/// Why an observation has no answer. Tells whether it may be in the ledger all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    #[error("the queue is full")]
    QueueFull,
    #[error("Postgres is out of reach")]
    Unreachable,
    #[error("no answer in time; it was still waiting")]
    TimedOut,
    #[error("the connection was lost while this was being recorded")]
    OutcomeUnknown,
    #[error("the ledger refused this observation")]
    Refused,
}

impl Recorder {
    pub async fn record(&self, _identifiers: Identifiers) -> Result<Recorded, NotRecorded> {
        Err(NotRecorded::Unreachable)
    }
}
