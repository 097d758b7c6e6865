//! Looks for what stands where a walk over the events does not come by.

use super::difference::Difference;
use crate::identity::Gaps;
use sqlx::{PgPool, query, query_scalar};

/// Looks for what is beyond the ends of what was walked, which are given by its last observation and its
/// last event.
pub async fn check_edges(
    sessions: &PgPool,
    gaps: &Gaps,
    last_observation: i64,
    last_position: i64,
) -> anyhow::Result<()> {
    let event = query_scalar!(
        r#"
        (select position as "position!" from event where position < 1 order by position limit 1)
        union all
        (
            select e.position
            from head as h
            join event as e on e.position > h.position
            order by e.position
            limit 1
        )
        limit 1
        "#
    );
    if let Some(position) = event.fetch_optional(sessions).await? {
        return Err(Difference::at(position, "position", "no event", "one").into());
    }
    check_places_of_tiles(sessions, gaps).await?;
    let checkpoint =
        query_scalar!("select size from checkpoint where size < 1 order by size limit 1");
    if let Some(size) = checkpoint.fetch_optional(sessions).await? {
        let (expected, found) = ("none of no events".to_owned(), format!("one of size {size}"));
        return Err(Difference { position: None, part: "checkpoint", expected, found }.into());
    }
    // Numbers may have been skipped since the last one.
    let observation = query_scalar!(
        r#"
        (select id as "id!" from observation where id < 1 order by id limit 1)
        union all
        (
            select o.id
            from observation as o
            where o.id > $1 and o.id < coalesce(
                (
                    select e.observation_id
                    from event as e
                    where e.position > $2 and e.kind = 'ContactObserved'
                    order by e.position
                    limit 1
                ),
                9223372036854775807
            )
            order by o.id
            limit 1
        )
        union all
        (
            select o.id
            from head as h
            join observation as o on o.id > h.observation_id
            order by o.id
            limit 1
        )
        limit 1
        "#,
        last_observation,
        last_position
    );
    if let Some(id) = observation.fetch_optional(sessions).await? {
        let found = format!("observation {id}");
        let (part, expected) = ("observation", format!("those up to {last_observation}"));
        return Err(Difference { position: None, part, expected, found }.into());
    }
    Ok(())
}

/// Each tile that is stored must be one of the tree of the last checkpoint, and as wide: what
/// the lines make is compared, but not what is stored beside or behind it.
async fn check_places_of_tiles(sessions: &PgPool, gaps: &Gaps) -> anyhow::Result<()> {
    let tile = query!(
        r#"
        select t.level, t.index, octet_length(t.hashes) as "found!", e.len as "expected!"
        from (select coalesce(max(size), 0) as size from checkpoint) as c
        cross join tile as t
        cross join lateral (
            select case
                when t.level between 0 and 7 and t.index >= 0
                then 32 * least(256, greatest(0, (c.size >> 8 * t.level) - t.index::numeric * 256))
                else 0
            end::bigint as len
        ) as e
        where octet_length(t.hashes) <> e.len or e.len = 0
        order by t.level, t.index
        limit 1
        "#
    );
    let Some(tile) = tile.fetch_optional(sessions).await? else { return Ok(()) };
    let len = u32::try_from(tile.level + 1).ok().and_then(|level| 256_i64.checked_pow(level));
    let before = len.and_then(|len| tile.index.checked_mul(len));
    let first = before.and_then(|before| before.checked_add(1));
    Err(Difference {
        position: first.map(|size| gaps.position_at(size)),
        part: "tile",
        expected: format!("{} bytes at level {}, index {}", tile.expected, tile.level, tile.index),
        found: format!("{} bytes", tile.found),
    })?
}

/// Fails where an event that accepts a loss does not say how many events were left before it.
pub async fn check_gaps(sessions: &PgPool, gaps: &Gaps) -> anyhow::Result<()> {
    for (position, (size, _)) in gaps.restored().zip(gaps.roots()) {
        let before =
            query_scalar!(r#"select count(*) as "len!" from event where position < $1"#, position);
        let len = before.fetch_one(sessions).await?;
        if len != size {
            let (expected, found) = (format!("newSize {len}"), format!("newSize {size}"));
            return Err(Difference::at(position, "line", expected, found).into());
        }
    }
    Ok(())
}
