//! What a database lost that has gone back in time.

use super::checkpoint::Checkpoint;
use super::error::SealError;
use super::grow::Growing;
use super::key;
use super::proof::TreeHead;
use super::sealer::SealInputs;
use crate::identity::{Gaps, Position};
use anyhow::Context as _;
use sqlx::PgConnection;

/// What was committed after the last checkpoint may have been answered, too. A checkpoint follows
/// within a second, and requests make no million events in so short a time, nor in half a minute. It is
/// too few where a rule change had just appended more, or where nothing was sealed for long.
const UNSEALED_LEN_MAX: i64 = 1_000_000;

/// What is left of a ledger, beside the last checkpoint that was kept outside.
pub struct Loss {
    pub kept: Checkpoint,
    /// The tree over what is left.
    pub left: TreeHead,
    /// Of the last event that is left.
    pub position: Position,
    gaps: Gaps,
}

/// What there is to accept.
pub enum Found {
    Loss(Box<Loss>),
    /// The event that accepts it stands at this position already, after so many others, and what is
    /// to follow may not be done.
    Accepted {
        position: Position,
        left: i64,
    },
}

/// Compares the ledger with the checkpoint that is kept outside. Fails where there is none, where what
/// is left is not what was signed, and where nothing is lost.
pub async fn loss(inputs: SealInputs) -> anyhow::Result<Found> {
    let outside = inputs.outside.as_ref().context(
        "nobody knows what is lost without the checkpoint that the service keeps outside; give \
         --checkpoint-dir, or, where it kept none, a directory with the checkpoint of an export as \
         <ledger>.checkpoint",
    )?;
    let kept = outside.read_aside(inputs.key.verifier_keys()).await?;
    let kept = kept.with_context(|| {
        let file = outside.file().display();
        format!("there is no checkpoint {file}; --checkpoint-dir is where the service keeps it")
    })?;
    let mut session = inputs.database.owner().await?;
    let mut growing = Growing::new(inputs);
    let found = growing.loss(&mut session, kept).await?;
    found.context("nothing is lost: the database continues the checkpoint outside")
}

impl Found {
    /// How many events are left.
    pub fn left(&self) -> i64 {
        match self {
            Self::Loss(loss) => loss.left.size.cast_signed(),
            Self::Accepted { left, .. } => *left,
        }
    }
}

impl Growing {
    async fn loss(
        &mut self,
        session: &mut PgConnection,
        kept: Checkpoint,
    ) -> Result<Option<Found>, SealError> {
        let tree = match self.resume(session).await {
            Err(SealError::NotFinished(position)) => {
                let left = self.gaps.size_at(position) - 1;
                let position = Position::new(position);
                return Ok(Some(Found::Accepted { position, left }));
            }
            resumed => resumed?,
        };
        let size = self.reached(session).await?;
        if size >= kept.head.size {
            self.check(session).await?;
            return Ok(None);
        }
        // Else that tree would be taken for the one over what is left, and said to be in the event.
        if tree.size() > size {
            return Err(SealError::InPart { head: size, size: tree.size() });
        }
        // What was signed ends behind what there is.
        self.ahead.clear();
        let (tree, _) = self.extend_to(session, tree, size).await?;
        let left = TreeHead { size, root: tree.root() };
        let position = Position::new(self.gaps.position_at(size.cast_signed()));
        let loss = Loss { kept, left, position, gaps: self.gaps.clone() };
        Ok(Some(Found::Loss(Box::new(loss))))
    }
}

impl Loss {
    /// A position beyond all that may have been given out.
    pub fn next_position(&self) -> Position {
        let size = self.kept.head.size.cast_signed();
        let last_signed = match key::parts(&self.kept.origin) {
            // The event that gave the log this name is lost, too, and so is where positions were
            // before it. They have gone on from it one by one, fewer than there were events.
            (_, Some(at)) if !self.gaps.restored().any(|known| known == at) => at + size,
            _ => self.gaps.position_at(size),
        };
        Position::new(last_signed.max(self.position.get()) + UNSEALED_LEN_MAX + 1)
    }
}
