//! The observations that were erased by now: they bear no witness to what was decided of them.

use crate::identity::{ContactId, Event, Fact, Links, ObservationId};
use sqlx::{PgExecutor, query};
use std::collections::{BTreeSet, HashSet};

const PAGE_LEN: i64 = 1_000;

/// All that events up to the end of a ledger or an export name.
#[derive(Clone, Debug, Default)]
pub struct Erasures(BTreeSet<ObservationId>);

impl Erasures {
    /// Reads those of a ledger up to a position. The lines themselves are checked elsewhere.
    pub async fn read(
        executor: impl PgExecutor<'_> + Copy,
        head: i64,
    ) -> Result<Self, sqlx::Error> {
        let mut erasures = Self::default();
        let mut after = 0;
        loop {
            let page = query!(
                "select position, line from event
                where kind = 'ContactErased' and position > $1 and position <= $2
                order by position
                limit $3",
                after,
                head,
                PAGE_LEN
            );
            let page = page.fetch_all(executor).await?;
            page.iter().for_each(|row| erasures.note(&row.line));
            match page.last() {
                Some(last) => after = last.position,
                None => return Ok(erasures),
            }
        }
    }

    /// Notes what a line says, if it is an erasure.
    pub fn note(&mut self, line: &str) {
        if line.contains(r#""kind":"ContactErased""#)
            && let Ok(Event { fact: Fact::ContactErased(erased), .. }) = Event::parse(line)
        {
            self.0.extend(erased.observation_ids);
        }
    }

    pub fn contains(&self, id: ObservationId) -> bool {
        self.0.contains(&id)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The identities that have an observation among them which is to be erased, and is not yet.
    pub fn primaries(&self, links: &Links) -> HashSet<ContactId> {
        self.0.range(..=links.last()).filter_map(|id| links.resolve(*id)).collect()
    }
}
