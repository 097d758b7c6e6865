//! A page of the ledger: what is right or wrong with its events and observations by themselves.

use super::commitments;
use super::difference::Difference;
use super::lines::{self, CheckedLines, Committed};
use super::tree::StoredPart;
use crate::identity::{Erasures, Gaps, Identifiers};
use crate::ledger::{self, CopiedRows};
use crate::seal::{self, TILE_WIDTH, TileId};
use anyhow::Context as _;
use sqlx::{PgConnection, PgPool, query_scalar};
use std::sync::Arc;

/// In events: whole tiles.
pub const PAGE_LEN: i64 = 32 * TILE_WIDTH as i64;

/// The part of an event that is not there.
pub const MISSING: &str = "position";

/// Where pages are read.
pub struct PageReader {
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

impl PageReader {
    /// The page after so many events.
    pub async fn read(&self, after: i64) -> anyhow::Result<Page> {
        let mut session = self.sessions.acquire().await?;
        let (lines, wrong) = self.lines(&mut session, after).await?;
        let identifiers = self.identifiers(&mut session, after, &lines.observed).await?;
        // Only now: what is wrong with an observation before it comes first.
        if let Some(wrong) = wrong {
            return Err(wrong.into());
        }
        self.page(&mut session, after, lines, identifiers).await
    }

    /// As `read`, but looks at no observations.
    pub async fn read_lines(&self, after: i64) -> anyhow::Result<Page> {
        let mut session = self.sessions.acquire().await?;
        let (lines, wrong) = self.lines(&mut session, after).await?;
        if let Some(wrong) = wrong {
            return Err(wrong.into());
        }
        self.page(&mut session, after, lines, Vec::new()).await
    }

    fn end(&self, after: i64) -> i64 {
        self.events_len.min(after + PAGE_LEN)
    }

    /// Lines up to the first that is wrong, and what is wrong with that.
    async fn lines(
        &self,
        session: &mut PgConnection,
        after: i64,
    ) -> anyhow::Result<(CheckedLines, Option<Difference>)> {
        let end = self.end(after);
        let [first, last] = [after, end].map(|size| self.gaps.position_at(size));
        let rows = rows_between(session, first, last).await?;
        let gaps = self.gaps.clone();
        let check = move || Ok(check_lines(after, end, &gaps, &rows));
        let (lines, wrong) = blocking(check).await?;
        match wrong {
            Some(missing) if missing.part == MISSING => {
                let next = wrong_next(session, &missing).await?;
                Ok((lines, Some(next.unwrap_or(missing))))
            }
            wrong => Ok((lines, wrong)),
        }
    }

    async fn identifiers(
        &self,
        session: &mut PgConnection,
        after: i64,
        observed: &[Committed],
    ) -> anyhow::Result<Vec<Option<Identifiers>>> {
        let Some(last) = observed.last() else { return Ok(Vec::new()) };
        // From there on: where numbers were skipped, there is nothing.
        let before = query_scalar!(
            r#"select coalesce(observation_id, 0) as "id!"
            from event
            where position <= $1 and kind = 'ContactObserved'
            order by position desc
            limit 1"#,
            self.gaps.position_at(after)
        );
        let before = before.fetch_optional(&mut *session).await?.unwrap_or(0);
        let observations = format!(
            "select {}
            from observation
            where id > {before} and id <= {}
            order by id",
            commitments::COLUMNS,
            last.id
        );
        let rows = ledger::copy_out(session, &observations).await?;
        let observed = observed.to_vec();
        let erasures = self.erasures.clone();
        blocking(move || commitments::check_rows(&observed, &rows, &erasures)).await
    }

    async fn page(
        &self,
        session: &mut PgConnection,
        after: i64,
        lines: CheckedLines,
        identifiers: Vec<Option<Identifiers>>,
    ) -> anyhow::Result<Page> {
        let end = self.end(after);
        let sealed_end = self.sealed.min(end).cast_unsigned();
        let width = TILE_WIDTH as u64;
        let indexes = after.cast_unsigned() / width..sealed_end.div_ceil(width);
        let lowest = indexes.map(|index| TileId { level: 0, index }).collect();
        let stored = StoredPart {
            lowest: seal::tiles(&mut *session, &lowest).await?,
            sealed: self.sealed.cast_unsigned(),
            checkpoints: seal::checkpoints_between(session, after, end.min(self.sealed)).await?,
        };
        Ok(Page { first: self.gaps.position_at(after + 1), end, lines, identifiers, stored })
    }
}

async fn rows_between(
    session: &mut PgConnection,
    after: i64,
    last: i64,
) -> Result<CopiedRows, sqlx::Error> {
    let events = format!(
        "select {}
        from event
        where position > {after} and position <= {last}
        order by position",
        lines::COLUMNS
    );
    ledger::copy_out(session, &events).await
}

/// What is wrong with the event after one that is missing: it may be one that says what was skipped.
async fn wrong_next(
    session: &mut PgConnection,
    missing: &Difference,
) -> anyhow::Result<Option<Difference>> {
    let next = query_scalar!(
        "select position from event where position > $1 order by position limit 1",
        missing.position
    );
    let Some(next) = next.fetch_optional(&mut *session).await? else { return Ok(None) };
    let rows = rows_between(session, next - 1, next).await?;
    let mut lines = CheckedLines::default();
    Ok(rows.iter().find_map(|mut row| lines.push_row(next, &mut row).err()))
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
            None => Err(Difference::at(position, MISSING, "an event", "none")),
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
