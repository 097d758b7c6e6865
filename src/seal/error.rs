//! Why nothing was signed.

use super::checkpoint::NotACheckpoint;
use super::outside::OutsideError;
use super::proof::{TilesDiffer, TreeHead};
use crate::identity::Position;
use crate::ledger::Fault;
use std::fmt;

/// What was signed before, and must not be contradicted.
#[derive(Clone, Copy, Debug)]
pub struct SignedHead {
    pub head: TreeHead,
    pub by: By,
}

/// The checkpoint that it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    HereBefore,
    Outside,
}

impl fmt::Display for By {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::HereBefore => "signed before",
            Self::Outside => "kept outside of the database",
        })
    }
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Outside(#[from] OutsideError),
    #[error("the last checkpoint in the database is not valid: {0}")]
    NotACheckpoint(#[from] NotACheckpoint),
    #[error("the last checkpoint in the database is not what its row says")]
    RowDiffers,
    #[error(transparent)]
    TilesDiffer(#[from] TilesDiffer),
    #[error(
        "the database has gone back in time: it has {head} events, and a checkpoint {by} covers \
         {size}"
    )]
    WentBack { head: u64, size: u64, by: By },
    #[error(
        "checkpoints are stored beyond the last event: the database has {head} events, and the last \
         checkpoint in it covers {size}, so it was restored in part"
    )]
    InPart { head: u64, size: u64 },
    #[error("the database differs from a checkpoint {by}, among the first {size} events")]
    Differs { size: u64, by: By },
    #[error("event {0} is missing")]
    Missing(Position),
    #[error(
        "event {0} accepts a loss, and what was to follow was interrupted: run identity-ledger \
         restore --accept-loss again, or identity-ledger verify, if none of you has accepted a loss"
    )]
    NotFinished(Position),
    #[error(
        "event {0} accepts a loss, and the events before it are not those that it says are left"
    )]
    OthersAreLeft(Position),
}

impl SealError {
    /// Whether it was found by reading lines, perhaps all of them, and will be found again.
    pub fn is_in_lines(&self) -> bool {
        matches!(self, Self::Differs { .. } | Self::Missing(_))
    }
}
