//! All observations, resolved by the rules in force and by others.

use super::keys::Tally;
use crate::identity::{Census, Decision, Keys, Links, ObservationId, Rules};
use crate::ledger::{self, Database, ObservationRow, Pages};
use crate::progress::Progress;
use crate::projection::resolve_page;
use anyhow::ensure;
use std::future::ready;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

const MISSING: &str = "observations are missing; run identity-ledger verify";

/// The ledger by two rule sets.
pub struct Compared {
    /// The state by the first rule set, and what the second one does to its keys. `None` if there is no
    /// first one.
    pub before: Option<(Links, Tally)>,
    pub after: Links,
}

/// Resolves all observations up to the last one by both rule sets. `skipped_len` is how many numbers no
/// observation has, because they were skipped.
pub async fn compare(
    database: &Database,
    last: ObservationId,
    skipped_len: i64,
    from: Option<Rules>,
    to: Rules,
    progress: &mut Progress,
) -> anyhow::Result<Compared> {
    let observations_len = usize::try_from(last.get())?;
    let side = |rules| Side { rules, census: Census::with_capacity(observations_len) };
    let (mut before, mut after) = (from.map(side), side(to));
    // Both rule sets work on a page at the same time, while the page before is counted; one after
    // another if a service needs the machine.
    let is_served = ledger::is_served(&mut database.owner().await?).await?;
    let turns = Turns::new(if is_served { 1 } else { 3 });
    let mut counting = tokio::spawn(ready(Tally::default()));
    let mut seen_len = 0;
    let mut pages = Pages::<ObservationRow>::between(database, 0, last.get());
    progress.begin("resolving observations", last.get());
    while let Some(page) = pages.next().await? {
        seen_len += i64::try_from(page.len())?;
        // Checked first: a number that no observation can have would take all memory.
        let numbers_len = page.last().map_or(0, |seen| seen.id.get());
        ensure!(numbers_len - seen_len <= skipped_len, MISSING);
        let page = Arc::new(page);
        let observing = after.observing(page.clone(), &turns).await;
        let decided_before = match before {
            Some(side) => Some(side.observing(page.clone(), &turns).await.await?),
            None => None,
        };
        let (side, decided_after) = observing.await?;
        after = side;
        before = None;
        if let Some((side, decided_before)) = decided_before {
            before = Some(side);
            let mut tally = counting.await?;
            let count = move || {
                let seen = page.iter().filter_map(|seen| seen.identifiers.as_ref());
                for (seen, pair) in seen.zip(decided_before.iter().zip(&decided_after)) {
                    tally.add(seen, pair.0, pair.1);
                }
                tally
            };
            counting = turns.begin(count).await;
        }
        progress.at(after.census.links.last().get());
    }
    ensure!(last.get() - seen_len == skipped_len, MISSING);
    let tally = counting.await?;
    let before = before.map(|side| (side.census.links, tally));
    Ok(Compared { before, after: after.census.links })
}

/// One rule set at work.
struct Side {
    rules: Rules,
    census: Census,
}

/// Keys and decision of each observation that was not erased.
type Decided = Vec<(Keys, Decision)>;

impl Side {
    /// Begins to resolve a page.
    async fn observing(
        self,
        page: Arc<Vec<ObservationRow>>,
        turns: &Turns,
    ) -> JoinHandle<(Self, Decided)> {
        turns.begin(move || self.observe(&page)).await
    }

    fn observe(mut self, page: &[ObservationRow]) -> (Self, Decided) {
        let decided = resolve_page(&mut self.census, &self.rules, page);
        (self, decided)
    }
}

/// How many works may be under way at once.
struct Turns(Arc<Semaphore>);

impl Turns {
    fn new(len: usize) -> Self {
        Self(Arc::new(Semaphore::new(len)))
    }

    /// Waits for a turn, and begins to work on a thread.
    async fn begin<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let turn = self.0.clone().acquire_owned().await.expect("it is never closed");
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        })
    }
}
