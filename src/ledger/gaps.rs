//! The positions and the numbers of observations that a ledger has skipped.

use crate::identity::{Event, Fact, Gaps};
use sqlx::{PgConnection, PgExecutor, query, query_scalar};

/// Where positions were skipped. A line that is not right is left out here: what reads all lines
/// finds it.
pub async fn gaps(executor: impl PgExecutor<'_>) -> Result<Gaps, sqlx::Error> {
    let lines = query_scalar!(
        "select line from event where kind = 'LedgerRestored' order by position limit 10000"
    );
    let mut gaps = Gaps::default();
    lines.fetch_all(executor).await?.iter().for_each(|line| gaps.note(line));
    Ok(gaps)
}

/// How many numbers no observation has, because they were skipped.
pub async fn skipped_len(connection: &mut PgConnection) -> anyhow::Result<i64> {
    let restored = query!(
        r#"select e.position, e.line, coalesce((
                select o.observation_id
                from event as o
                where o.position < e.position and o.kind = 'ContactObserved'
                order by o.position desc
                limit 1
            ), 0) as "last_observation!"
        from event as e
        where e.kind = 'LedgerRestored'
        order by e.position
        limit 10000"#
    );
    let restored = restored.fetch_all(connection).await?;
    let (mut skipped_len, mut last_skipped) = (0, 0);
    for row in restored {
        let fact = Event::parse(&row.line).map(|event| event.fact);
        let Ok(Fact::LedgerRestored(restored)) = fact else {
            anyhow::bail!("event {} is no LedgerRestored; run identity-ledger verify", row.position)
        };
        let skipped_to = restored.next_observation_id.get() - 1;
        skipped_len += skipped_to - row.last_observation.max(last_skipped);
        last_skipped = skipped_to;
    }
    Ok(skipped_len)
}
