//! A page of the ledger: what is right or wrong with its events and observations by themselves.

use super::commitments;
use super::difference::Difference;
use super::lines::{self, CheckedLines};
use super::tree::StoredPart;
use crate::identity::{Erasures, Gaps, Identifiers};
use crate::ledger::{self, CopiedRows};
use crate::seal::{self, TILE_WIDTH, TileId};
use anyhow::Context as _;
use sqlx::{PgPool, query_scalar};
use std::sync::Arc;

/// In events: whole tiles.
pub const PAGE_LEN: i64 = 32 * TILE_WIDTH as i64;

/// Where pages are read.
pub struct Pages {
    pub sessions: PgPool,
    pub gaps: Gaps,
    /// How many events there were when the walk began, and in the tree.
    pub events_len: i64,
    pub sealed: i64,
    pub erasures: Arc<Erasures>,
}

/// Some events, right by themselves, and what is stored of the tree over them.
pub struct Page {
    /// The position of the first, and how many there are up to the last.
    pub first: i64,
    pub end: i64,
    pub lines: CheckedLines,
    /// Of the observations in it, in order.
    pub identifiers: Vec<Option<Identifiers>>,
    pub stored: StoredPart,
}

impl Pages {
    /// The page after so many events.
    pub async fn read(&self, after: i64) -> anyhow::Result<Page> {
        let end = self.events_len.min(after + PAGE_LEN);
        let [first, last] = [after, end].map(|size| self.gaps.position_at(size));
        let mut session = self.sessions.acquire().await?;
        let events = format!(
            "select {}
            from event
            where position > {first} and position <= {last}
            order by position",
            lines::COLUMNS
        );
        let events = ledger::copy_out(&mut session, &events).await?;
        let gaps = self.gaps.clone();
        let check = move || Ok(check_lines(after, end, &gaps, &events));
        let (lines, wrong) = blocking(check).await?;
        let mut identifiers = Vec::new();
        if let Some(last_observed) = lines.observed.last() {
            // From there on: where numbers were skipped, there is nothing.
            let before = query_scalar!(
                r#"select coalesce(observation_id, 0) as "id!"
                from event
                where position <= $1 and kind = 'ContactObserved'
                order by position desc
                limit 1"#,
                first
            );
            let before = before.fetch_optional(&mut *session).await?.unwrap_or(0);
            let observations = format!(
                "select {}
                from observation
                where id > {before} and id <= {}
                order by id",
                commitments::COLUMNS,
                last_observed.id
            );
            let rows = ledger::copy_out(&mut session, &observations).await?;
            let observed = lines.observed.clone();
            let erasures = self.erasures.clone();
            let check = move || commitments::check_rows(&observed, &rows, &erasures);
            identifiers = blocking(check).await?;
        }
        // Only now: what is wrong with an observation before it comes first.
        if let Some(wrong) = wrong {
            return Err(wrong.into());
        }
        let sealed_end = self.sealed.min(end).cast_unsigned();
        let width = TILE_WIDTH as u64;
        let indexes = after.cast_unsigned() / width..sealed_end.div_ceil(width);
        let lowest = indexes.map(|index| TileId { level: 0, index }).collect();
        let stored = StoredPart {
            lowest: seal::tiles(&mut *session, &lowest).await?,
            sealed: self.sealed.cast_unsigned(),
            checkpoints: seal::checkpoints_between(&mut *session, after, end.min(self.sealed))
                .await?,
        };
        Ok(Page { first: self.gaps.position_at(after + 1), end, lines, identifiers, stored })
    }
}

/// Takes lines up to the first that is wrong, and tells what is wrong with that.
fn check_lines(
    after: i64,
    end: i64,
    gaps: &Gaps,
    rows: &CopiedRows,
) -> (CheckedLines, Option<Difference>) {
    let mut lines = CheckedLines::default();
    let mut rows = rows.iter();
    for position in (after + 1..=end).map(|size| gaps.position_at(size)) {
        let taken = match rows.next() {
            None => Err(Difference::at(position, "position", "an event", "none")),
            Some(mut row) => lines.push_row(position, &mut row),
        };
        if let Err(wrong) = taken {
            return (lines, Some(wrong));
        }
    }
    (lines, None)
}

/// On a thread of its own, for it takes long.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Difference> + Send + 'static,
) -> anyhow::Result<T> {
    Ok(tokio::task::spawn_blocking(work).await.context("a check panicked")??)
}
