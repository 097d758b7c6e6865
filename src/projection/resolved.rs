//! A whole ledger, decided from its observations, page by page.

use crate::identity::{Census, ObservationId, Rules};
use crate::ledger::{Database, Pages, Recorded};

/// What a ledger would be that had these rules from the start, up to an observation. Tells how far
/// it is after each page.
pub async fn resolved(
    database: &Database,
    rules: &Rules,
    last: ObservationId,
    mut tell: impl FnMut(ObservationId),
) -> anyhow::Result<Census> {
    let mut census = Census::with_capacity(usize::try_from(last.get())?);
    let mut pages = Pages::<Recorded>::between(database, 0, last.get());
    while let Some(page) = pages.next().await? {
        for seen in page {
            match &seen.identifiers {
                Some(known) => _ = census.observe(seen.id, &rules.keys(known), seen.observed_at),
                None => census.leave_out(seen.id),
            }
        }
        tell(census.links.last());
    }
    Ok(census)
}
