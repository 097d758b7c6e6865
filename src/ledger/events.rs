//! Reading events: one, or in order all that a filter lets through.

use crate::identity::{ContactId, ObservationId, Position};
use sqlx::{PgExecutor, query_as, query_file_as, query_scalar};

/// An event's line, exactly as recorded, with the identifiers of its observation beside it.
pub struct EventRow {
    pub position: Position,
    pub kind: String,
    pub line: String,
    pub observation_id: Option<ObservationId>,
    pub email: Option<String>,
    pub phone_number: Option<String>,
}

/// The kinds that the index `event_kind` has. `of_kind.sql` and the index name the same.
const INDEXED_KINDS: [&str; 3] = ["RulesActivated", "ContactErased", "LedgerRestored"];

/// Which events are wanted: those that meet both conditions. `None` is no condition.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    pub kind: Option<&'static str>,
    /// Events that file an observation under this contact, link it, or link another one to it.
    pub contact: Option<ContactId>,
}

impl EventFilter {
    /// Whether all events in between may have to be read to find those that are wanted.
    pub fn is_sought(&self) -> bool {
        self.contact.is_none() && self.kind.is_some_and(|kind| !INDEXED_KINDS.contains(&kind))
    }
}

/// The columns of an [`EventRow`], as a statement reads them.
pub struct EventColumns {
    pub position: i64,
    pub kind: String,
    pub line: String,
    pub observation_id: Option<i64>,
    pub email: Option<String>,
    pub phone_number: Option<String>,
}

/// The line of one event, if the ledger reaches that far.
pub async fn line_at(
    executor: impl PgExecutor<'_>,
    position: Position,
) -> Result<Option<String>, sqlx::Error> {
    query_scalar!("select line from event where position = $1", position.get())
        .fetch_optional(executor)
        .await
}

/// Up to `limit` wanted events after a position and up to another one, in order.
///
/// Positions are in commit order, so a reader that goes on after the last one that it has seen misses
/// none.
pub async fn events_between(
    executor: impl PgExecutor<'_>,
    after: Position,
    up_to: Position,
    wanted: &EventFilter,
    limit: i64,
) -> Result<Vec<EventRow>, sqlx::Error> {
    let rows = match (wanted.contact, wanted.kind) {
        (Some(contact), kind) => of_contact(executor, after, up_to, contact, kind, limit).await?,
        (None, Some(kind)) if INDEXED_KINDS.contains(&kind) => {
            of_kind(executor, after, up_to, kind, limit).await?
        }
        (None, kind) => in_order(executor, after, up_to, kind, limit).await?,
    };
    Ok(rows.into_iter().map(EventRow::from).collect())
}

async fn in_order(
    executor: impl PgExecutor<'_>,
    after: Position,
    up_to: Position,
    kind: Option<&str>,
    limit: i64,
) -> Result<Vec<EventColumns>, sqlx::Error> {
    query_as!(
        EventColumns,
        r#"
        select e.position, e.kind, e.line, e.observation_id,
            o.email as "email?", o.phone_number as "phone_number?"
        from event as e
        left join observation as o on o.id = e.observation_id
        where e.position > $1 and e.position <= $2 and ($3::text is null or e.kind = $3)
        order by e.position
        limit $4
        "#,
        after.get(),
        up_to.get(),
        kind,
        limit
    )
    .fetch_all(executor)
    .await
}

async fn of_kind(
    executor: impl PgExecutor<'_>,
    after: Position,
    up_to: Position,
    kind: &str,
    limit: i64,
) -> Result<Vec<EventColumns>, sqlx::Error> {
    query_file_as!(EventColumns, "src/ledger/of_kind.sql", after.get(), up_to.get(), kind, limit)
        .fetch_all(executor)
        .await
}

async fn of_contact(
    executor: impl PgExecutor<'_>,
    after: Position,
    up_to: Position,
    contact: ContactId,
    kind: Option<&str>,
    limit: i64,
) -> Result<Vec<EventColumns>, sqlx::Error> {
    query_file_as!(
        EventColumns,
        "src/ledger/of_contact.sql",
        after.get(),
        up_to.get(),
        contact.get(),
        kind,
        limit
    )
    .fetch_all(executor)
    .await
}

impl From<EventColumns> for EventRow {
    fn from(row: EventColumns) -> Self {
        Self {
            position: Position::new(row.position),
            kind: row.kind,
            line: row.line,
            observation_id: row.observation_id.map(ObservationId::new),
            email: row.email,
            phone_number: row.phone_number,
        }
    }
}
