//! Reads a page of the ledger, and checks its events and observations by themselves.

use super::commitments;
use super::lines::{self, CheckedLines, Committed};
use super::mismatch::Mismatch;
use super::tree::StoredPart;
use crate::identity::{Erasures, Gaps, Identifiers, Position};
use crate::ledger::{self, CopiedRows};
use crate::seal::{self, TILE_WIDTH, TileId};
use anyhow::Context as _;
use sqlx::{PgConnection, PgPool, query_scalar};
use std::sync::Arc;

/// In events. Fills whole tiles.
pub const PAGE_LEN: u64 = 32 * TILE_WIDTH as u64;

/// The part that mismatches if an event is missing.
pub const MISSING: &str = "position";

/// What pages are read with.
pub struct PageReader {
    pub sessions: PgPool,
    pub gaps: Gaps,
    /// How many events there were when the walk began.
    pub events_len: u64,
    /// How many of them are under the last checkpoint.
    pub sealed: u64,
    pub erasures: Arc<Erasures>,
}

/// Some events that are right by themselves, and what is stored of the tree over them.
pub struct Page {
    /// How many events there are up to the last one.
    pub end: u64,
    pub lines: CheckedLines,
    /// The identifiers of its observations, in order. `None` for each that was erased.
    pub identifiers: Vec<Option<Identifiers>>,
    pub stored: StoredPart,
}

impl PageReader {
    /// Reads the page after so many events. Fails with the first mismatch in it.
    pub async fn read(&self, after: u64) -> anyhow::Result<Page> {
        let mut session = self.sessions.acquire().await?;
        let (lines, wrong) = self.lines(&mut session, after).await?;
        let identifiers = self.identifiers(&mut session, after, &lines.observed).await?;
        // Only now, because the mismatch of an observation before that line is the first one.
        if let Some(wrong) = wrong {
            return Err(wrong.into());
        }
        self.page(&mut session, after, lines, identifiers).await
    }

    /// As `read`, without the observations.
    pub async fn read_lines(&self, after: u64) -> anyhow::Result<Page> {
        let mut session = self.sessions.acquire().await?;
        let (lines, wrong) = self.lines(&mut session, after).await?;
        if let Some(wrong) = wrong {
            return Err(wrong.into());
        }
        self.page(&mut session, after, lines, Vec::new()).await
    }

    fn end(&self, after: u64) -> u64 {
        self.events_len.min(after + PAGE_LEN)
    }

    /// Reads lines up to the first that is wrong, and says what is wrong with it.
    async fn lines(
        &self,
        session: &mut PgConnection,
        after: u64,
    ) -> anyhow::Result<(CheckedLines, Option<Mismatch>)> {
        let end = self.end(after);
        let [first, last] = [after, end].map(|size| self.gaps.position_at(size));
        let rows = ledger::copy_events(session, lines::COLUMNS, first, last).await?;
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
        after: u64,
        observed: &[Committed],
    ) -> anyhow::Result<Vec<Option<Identifiers>>> {
        let Some(last) = observed.last() else { return Ok(Vec::new()) };
        // Read on from the last observation before this page: numbers may have been skipped in between,
        // and no observation may have one of those.
        let before = query_scalar!(
            r#"select coalesce(observation_id, 0) as "id!"
            from event
            where position <= $1 and kind = 'ContactObserved'
            order by position desc
            limit 1"#,
            self.gaps.position_at(after).get()
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
        after: u64,
        lines: CheckedLines,
        identifiers: Vec<Option<Identifiers>>,
    ) -> anyhow::Result<Page> {
        let end = self.end(after);
        let sealed_end = self.sealed.min(end);
        let width = TILE_WIDTH as u64;
        let indexes = after / width..sealed_end.div_ceil(width);
        let lowest = indexes.map(|index| TileId { level: 0, index }).collect();
        let stored = StoredPart {
            lowest: seal::tiles(&mut *session, &lowest).await?,
            checkpoints: seal::checkpoints_between(session, after, sealed_end).await?,
        };
        Ok(Page { end, lines, identifiers, stored })
    }
}

/// What is wrong with the event after a missing one, if anything: it may be the one that says which
/// positions were skipped.
async fn wrong_next(
    session: &mut PgConnection,
    missing: &Mismatch,
) -> anyhow::Result<Option<Mismatch>> {
    let next = query_scalar!(
        "select position from event where position > $1 order by position limit 1",
        missing.position.map(Position::get)
    );
    let Some(next) = next.fetch_optional(&mut *session).await? else { return Ok(None) };
    let [before, next] = [next - 1, next].map(Position::new);
    let rows = ledger::copy_events(session, lines::COLUMNS, before, next).await?;
    let mut lines = CheckedLines::default();
    Ok(rows.iter().find_map(|mut row| lines.push_row(next, &mut row).err()))
}

/// Takes lines up to the first that is wrong, and says what is wrong with it.
fn check_lines(
    after: u64,
    end: u64,
    gaps: &Gaps,
    rows: &CopiedRows,
) -> (CheckedLines, Option<Mismatch>) {
    let mut lines = CheckedLines::default();
    let mut rows = rows.iter();
    for position in (after + 1..=end).map(|size| gaps.position_at(size)) {
        let taken = match rows.next() {
            None => Err(Mismatch::at(position, MISSING, "an event", "none")),
            Some(mut row) => lines.push_row(position, &mut row),
        };
        if let Err(wrong) = taken {
            return (lines, Some(wrong));
        }
    }
    (lines, None)
}

/// Runs a check that takes long on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Mismatch> + Send + 'static,
) -> anyhow::Result<T> {
    Ok(tokio::task::spawn_blocking(work).await.context("a check panicked")??)
}
