//! Looks for rows that a walk over the events never reads.

use super::mismatch::Mismatch;
use crate::identity::{Gaps, Position};
use sqlx::{PgPool, query, query_file_scalar, query_scalar};

/// In events.
const PAGE_LEN: i64 = 1_000_000;

/// Fails if there is anything beyond the ends of what was walked, which are its last observation and
/// its last event.
pub async fn check_edges(
    sessions: &PgPool,
    gaps: &Gaps,
    last_observation: i64,
    last_position: Position,
) -> anyhow::Result<()> {
    check_events(sessions).await?;
    check_tiles(sessions, gaps).await?;
    check_checkpoints(sessions).await?;
    check_observations(sessions, last_observation, last_position).await
}

/// Fails if there is an event before the first position or after the head.
async fn check_events(sessions: &PgPool) -> anyhow::Result<()> {
    let beyond = query_file_scalar!("src/verify/event_beyond.sql");
    match beyond.fetch_optional(sessions).await? {
        Some(position) => {
            Err(Mismatch::at(Position::new(position), "position", "no event", "one").into())
        }
        None => Ok(()),
    }
}

/// Fails if a tile is stored that is not one of the tree of the last checkpoint, or not as wide: the
/// walk compares what the lines make, but not what is stored beside or behind it.
async fn check_tiles(sessions: &PgPool, gaps: &Gaps) -> anyhow::Result<()> {
    let tile = query!(
        r#"
        select t.level as "level!", t.index as "index!", t.len as "found!", e.len as "expected!"
        from (select coalesce(max(size), 0) as size from checkpoint) as c
        cross join (
            -- Two rows of one tile are too long, too.
            select level, index, coalesce(sum(octet_length(hashes)), 0)::bigint as len
            from tile
            group by level, index
        ) as t
        cross join lateral (
            select case
                when t.level between 0 and 7 and t.index >= 0
                then 32 * least(256, greatest(0, (c.size >> 8 * t.level) - t.index::numeric * 256))
                else 0
            end::bigint as len
        ) as e
        where t.len <> e.len or e.len = 0
        order by t.level, t.index
        limit 1
        "#
    );
    let Some(tile) = tile.fetch_optional(sessions).await? else { return Ok(()) };
    let len = u32::try_from(tile.level + 1).ok().and_then(|level| 256_i64.checked_pow(level));
    let before = len.and_then(|len| tile.index.checked_mul(len));
    let first = before.and_then(|before| before.checked_add(1));
    let first = first.and_then(|first| u64::try_from(first).ok());
    let position = first.map(|size| gaps.position_at(size));
    let expected = format!("{} bytes at level {}, index {}", tile.expected, tile.level, tile.index);
    Err(Mismatch::new(position, "tile", expected, format!("{} bytes", tile.found)).into())
}

/// Fails if there is a checkpoint that covers no event.
async fn check_checkpoints(sessions: &PgPool) -> anyhow::Result<()> {
    let empty = query_scalar!("select size from checkpoint where size < 1 order by size limit 1");
    match empty.fetch_optional(sessions).await? {
        Some(size) => {
            let found = format!("one of size {size}");
            Err(Mismatch::anywhere("checkpoint", "none of no events", found).into())
        }
        None => Ok(()),
    }
}

/// Fails if there is an observation that no event observed.
async fn check_observations(
    sessions: &PgPool,
    last_observation: i64,
    last_position: Position,
) -> anyhow::Result<()> {
    let beyond = query_file_scalar!(
        "src/verify/observation_beyond.sql",
        last_observation,
        last_position.get()
    );
    match beyond.fetch_optional(sessions).await? {
        Some(id) => {
            let expected = format!("those up to {last_observation}");
            let found = format!("observation {id}");
            Err(Mismatch::anywhere("observation", expected, found).into())
        }
        None => Ok(()),
    }
}

/// Fails if an event that accepts a loss does not say how many events were left before it.
pub async fn check_gaps(sessions: &PgPool, gaps: &Gaps) -> anyhow::Result<()> {
    let (mut len, mut counted_to) = (0, i64::MIN);
    for (position, (size, _)) in gaps.restored().zip(gaps.roots()) {
        len += events_len(sessions, counted_to, position.get()).await?;
        counted_to = position.get().saturating_sub(1);
        // As the line has it, which may be forged and negative.
        let size = size.cast_signed();
        if len != size {
            let (expected, found) = (format!("newSize {len}"), format!("newSize {size}"));
            return Err(Mismatch::at(position, "line", expected, found).into());
        }
    }
    Ok(())
}

/// Number of events between two positions. Counted in pages, since a statement has only so much time.
async fn events_len(sessions: &PgPool, mut after: i64, before: i64) -> Result<i64, sqlx::Error> {
    let mut len = 0;
    loop {
        let page = query!(
            r#"select count(*) as "len!", coalesce(max(position), 0) as "last!"
            from (
                select position
                from event
                where position > $1 and position < $2
                order by position
                limit $3
            ) as page"#,
            after,
            before,
            PAGE_LEN
        );
        let page = page.fetch_one(sessions).await?;
        if page.len == 0 {
            return Ok(len);
        }
        (len, after) = (len + page.len, page.last);
    }
}
