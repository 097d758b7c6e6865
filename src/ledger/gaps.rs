//! The positions that a ledger has skipped.

use crate::identity::Gaps;
use sqlx::{PgExecutor, query_scalar};

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
