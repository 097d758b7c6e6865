//! The whole ledger, folded again from its first event, page by page.

use crate::identity::{ContactId, Event, Links, Position, fold};
use crate::ledger;
use crate::progress::Progress;
use anyhow::{Context as _, ensure};
use sqlx::PgConnection;

const PAGE_LEN: i64 = 10_000;

/// What the events up to a position say of the contacts.
#[derive(Default)]
pub struct Replay {
    pub links: Links,
    /// Of the last event that was folded.
    pub position: Position,
}

impl Replay {
    /// Folds all that is in the ledger now.
    pub async fn whole(connection: &mut PgConnection) -> anyhow::Result<Self> {
        let head = ledger::position(&mut *connection).await?;
        let mut replay = Self::default();
        let mut progress = Progress::begin("folding events", head.get());
        while replay.position < head {
            replay.page(connection, head).await?;
            progress.at(replay.position.get());
        }
        Ok(replay)
    }

    /// Folds the next events, up to a position that the ledger has reached. Returns the contacts
    /// that they name.
    pub async fn page(
        &mut self,
        connection: &mut PgConnection,
        up_to: Position,
    ) -> anyhow::Result<Vec<ContactId>> {
        let limit = PAGE_LEN.min(up_to.get() - self.position.get());
        let lines = ledger::lines_after(connection, self.position, limit).await?;
        ensure!(!lines.is_empty(), "event {} is missing", self.position.next());
        let mut changed = Vec::new();
        for line in lines {
            let expected = self.position.next();
            let event = Event::parse(&line).with_context(|| format!("event {expected}"))?;
            ensure!(event.position == expected, "event {expected} is missing");
            let change = fold(&event.fact);
            self.links.apply(change, event.recorded_at);
            changed.extend(change.contact());
            self.position = expected;
        }
        Ok(changed)
    }
}
