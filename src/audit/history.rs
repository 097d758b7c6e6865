//! Tells every event that made an identity what it is.

use super::auditor::Auditor;
use super::past::{last_up_to, read_event, unreadable};
use crate::identity::{Event, Fact, ObservationId, Position, RulesActivated, sentence};
use crate::ledger::{EventColumns, EventRow, Unanswered};
use sqlx::{query, query_file_as, query_scalar};
use std::sync::Arc;

/// An event with what it means.
pub struct Happened {
    pub row: EventRow,
    pub event: Event,
    /// The rules that were in force then.
    pub rules: Arc<RulesActivated>,
    /// The event in one line of English.
    pub reading: String,
}

impl Auditor {
    /// Up to `limit` events after a position that made the identity of an observation what it is
    /// now, in order. `None` if the number has not been given yet.
    pub async fn history(
        &self,
        id: ObservationId,
        after: Position,
        limit: i64,
    ) -> Result<Option<Vec<Happened>>, Unanswered> {
        self.position().await?;
        let found =
            query_file_as!(EventColumns, "src/audit/history.sql", id.get(), after.get(), limit);
        let rows = found.fetch_all(&self.pool).await?;
        if rows.is_empty() && !self.is_observed(id).await? {
            return Ok(None);
        }
        let activated = self.activated().await?;
        let rows = rows.into_iter().map(EventRow::from);
        rows.map(|row| happened(row, &activated)).collect::<Result<_, _>>().map(Some)
    }

    /// The place of the first of these observations that was erased.
    pub async fn first_erased(&self, ids: &[ObservationId]) -> Result<Option<usize>, Unanswered> {
        let numbers: Vec<_> = ids.iter().map(|id| id.get()).collect();
        let erased = query_scalar!(
            "select id from observation where id = any($1) and salt is null",
            &numbers
        );
        let erased = erased.fetch_all(&self.pool).await?;
        Ok(numbers.iter().position(|number| erased.contains(number)))
    }

    /// Whether an observation was erased.
    pub async fn is_erased(&self, id: ObservationId) -> Result<bool, Unanswered> {
        Ok(self.first_erased(&[id]).await?.is_some())
    }

    async fn is_observed(&self, id: ObservationId) -> Result<bool, sqlx::Error> {
        let found = query!("select position from observation where id = $1", id.get());
        Ok(found.fetch_optional(&self.pool).await?.is_some())
    }

    /// All rules that were ever activated, in order, with their positions.
    async fn activated(&self) -> Result<Vec<(Position, Arc<RulesActivated>)>, Unanswered> {
        let lines = query!(
            "select position, line from event where kind = 'RulesActivated'
            order by position limit 100000"
        );
        let lines = lines.fetch_all(&self.pool).await?.into_iter();
        let activated = lines.map(|row| {
            let position = Position::new(row.position);
            match read_event(position, &row.line)?.fact {
                Fact::RulesActivated(activated) => Ok((position, Arc::new(activated))),
                _ => Err(unreadable(position)),
            }
        });
        activated.collect()
    }
}

fn happened(
    row: EventRow,
    activated: &[(Position, Arc<RulesActivated>)],
) -> Result<Happened, Unanswered> {
    let event = read_event(row.position, &row.line)?;
    let rules = last_up_to(activated, row.position).ok_or_else(|| unreadable(row.position))?;
    let reading = sentence(&event.fact);
    Ok(Happened { rules: rules.clone(), reading, event, row })
}
