//! What was lost when a database went back in time.

use super::checkpoint::Checkpoint;
use super::error::SealError;
use super::grow::Growing;
use super::key;
use super::proof::TreeHead;
use super::sealer::SealInputs;
use super::tree::Tree;
use crate::identity::{Gaps, Position, Root};
use anyhow::{Context as _, anyhow};
use sqlx::PgConnection;

/// How many events may have been committed, and answered, after the last checkpoint. A checkpoint follows
/// within a second, and requests make fewer than a million events in so short a time, and in half a minute.
/// It is too few if a rule change had just appended more, or if nothing was sealed for long.
const UNSEALED_LEN_MAX: u64 = 1_000_000;

/// What is left of a ledger, and the last checkpoint that was kept outside.
pub struct Loss {
    pub kept: Checkpoint,
    pub left: Left,
    /// The position of the last event that is left.
    pub position: Position,
    gaps: Gaps,
}

/// What is left of a ledger.
#[derive(Clone, Copy)]
pub struct Left {
    /// The tree over it.
    pub head: TreeHead,
    /// How many of the events are under a checkpoint in the database. Nothing there shows that the others are
    /// as they were recorded.
    pub sealed: u64,
}

/// What there is to accept.
pub enum Found {
    Loss(Box<Loss>),
    /// The event that accepts it is in the ledger already, at this position. What has to follow may not be
    /// done.
    Accepted {
        position: Position,
        left: Left,
    },
}

/// Compares the ledger with the checkpoint that is kept outside. Fails if there is none, if what is left is
/// not what was signed, and if nothing is lost.
pub async fn loss(inputs: SealInputs) -> anyhow::Result<Found> {
    let outside = inputs.outside.clone().context(
        "what is lost is not known without the checkpoint that the service keeps outside; pass \
         --checkpoint-dir, or, if it kept none, a directory with the checkpoint of an export as \
         <ledger>.checkpoint",
    )?;
    let kept = outside.read_aside(inputs.key.verifier_keys()).await?;
    let kept = kept.with_context(|| {
        let file = outside.file().display();
        format!("there is no checkpoint {file}; --checkpoint-dir is where the service keeps it")
    })?;
    let mut session = inputs.database.owner().await?;
    let mut growing = Growing::new(inputs);
    let found = growing.loss(&mut session, kept).await.map_err(|error| match error {
        SealError::Differs { .. } => anyhow!(
            "{error} ({}): something was recorded here after the database had gone back in time, or this is \
             another history than was signed; in the first case drop the ledger, restore its backup, and do \
             this before a service starts",
            outside.file().display()
        ),
        error => not_acceptable(error),
    })?;
    found.context("nothing is lost: the database continues the checkpoint outside")
}

/// What to do with a database that has gone back in time, as a start of the service found.
pub async fn what_to_do(
    inputs: SealInputs,
    session: &mut PgConnection,
    kept: Checkpoint,
) -> anyhow::Error {
    match Growing::new(inputs).loss(session, kept).await {
        Ok(_) => anyhow!(
            "put the newer database back, or accept the loss with identity-ledger restore --accept-loss \
             --reason TEXT --erasures EXPORT_DIR"
        ),
        Err(error) => not_acceptable(error),
    }
}

/// Why a loss cannot be accepted.
fn not_acceptable(error: SealError) -> anyhow::Error {
    match error {
        SealError::Fault(fault) => fault.into(),
        error => anyhow!(
            "{error}: what is left is damaged, so the loss cannot be accepted; put the newer database back, \
             or drop the ledger and restore a backup of it"
        ),
    }
}

impl Found {
    pub fn left(&self) -> Left {
        match self {
            Self::Loss(loss) => loss.left,
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
        match self.read_gaps(session, Some(kept.head)).await {
            Err(SealError::NotFinished(position)) => {
                let left = self.left_before(session, position).await?;
                return Ok(Some(Found::Accepted { position, left }));
            }
            read => read?,
        }
        let tree = self.resume_beside(session, Some(kept.head)).await?;
        let size = self.reached(session).await?;
        if size >= kept.head.size {
            self.check(session, Some(kept.head)).await?;
            return Ok(None);
        }
        // Otherwise that tree would be taken for the one over what is left, and recorded in the event.
        if tree.size() > size {
            return Err(SealError::InPart { head: size, size: tree.size() });
        }
        let left = self.left(session, tree, size).await?;
        let position = self.gaps.position_at(size);
        let loss = Loss { kept, left, position, gaps: self.gaps.clone() };
        Ok(Some(Found::Loss(Box::new(loss))))
    }

    /// What is left, beginning with what this tree covers.
    async fn left(
        &mut self,
        session: &mut PgConnection,
        tree: Tree,
        size: u64,
    ) -> Result<Left, SealError> {
        // What was signed ends after what is left.
        self.ahead.clear();
        let sealed = tree.size();
        let (tree, _) = self.extend_to(session, tree, size).await?;
        Ok(Left { head: tree.head(), sealed })
    }

    /// What is left before the event that accepts a loss. Fails if the event says something else.
    async fn left_before(
        &mut self,
        session: &mut PgConnection,
        position: Position,
    ) -> Result<Left, SealError> {
        // Forged gaps may be out of order, and leave no room for it.
        let size = self.gaps.size_at(position).checked_sub(1);
        let size = size.ok_or(SealError::OthersAreLeft(position))?;
        let stored = self.resume_beside(session, None).await?;
        let sealed = stored.size().min(size);
        // What has to follow may have been interrupted after it was signed.
        let begun = if stored.size() > sealed { Tree::default() } else { stored };
        let Left { head, .. } = self.left(session, begun, size).await?;
        let told = (size, Root(head.root.0));
        if !self.gaps.roots().any(|root| root == told) {
            return Err(SealError::OthersAreLeft(position));
        }
        Ok(Left { head, sealed })
    }
}

impl Loss {
    /// A position beyond all that may have been given out.
    pub fn next_position(&self) -> Position {
        let size = self.kept.head.size;
        let last_signed = match key::parts(&self.kept.origin) {
            // The event that gave the log this name is lost, too, and with it how many positions were
            // skipped before. After it positions went on one by one, and fewer than there were events.
            (_, Some(at)) if !self.gaps.restored().any(|known| known == at) => at.plus(size),
            _ => self.gaps.position_at(size),
        };
        last_signed.max(self.position).plus(UNSEALED_LEN_MAX + 1)
    }
}
