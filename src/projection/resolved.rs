//! Decides a whole ledger again from its observations, page by page.

use crate::identity::{Census, Dated, Decision, Keys, ObservationId, Rules};
use crate::ledger::{Database, ObservationRow, Pages};

/// The state that the ledger would be in up to an observation, had these rules been in force from
/// the start. Calls `tell` after each page with the last observation that was resolved.
pub async fn resolved(
    database: &Database,
    rules: &Rules,
    last: ObservationId,
    mut tell: impl FnMut(ObservationId),
) -> anyhow::Result<Census> {
    let mut census = Census::with_capacity(usize::try_from(last.get())?);
    let mut pages = Pages::<ObservationRow>::between(database, 0, last.get());
    while let Some(page) = pages.next().await? {
        resolve_page(&mut census, rules, &page);
        tell(census.links.last());
    }
    Ok(census)
}

/// Resolves the next observations. Returns the keys of each that was not erased, with the decision.
pub fn resolve_page(
    census: &mut Census,
    rules: &Rules,
    page: &[ObservationRow],
) -> Vec<(Keys, Decision)> {
    let dated = |seen: &ObservationRow| -> Dated {
        let keys = seen.identifiers.as_ref().map(|identifiers| rules.keys(identifiers));
        (seen.id, seen.observed_at, keys)
    };
    let seen: Vec<_> = page.iter().map(dated).collect();
    let decisions = census.observe_all(&seen);
    seen.into_iter().filter_map(|(.., keys)| keys).zip(decisions).collect()
}
