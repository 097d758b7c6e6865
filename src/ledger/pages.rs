//! Long reads of a ledger, by many short statements. They read ahead of the work on the rows, unless a
//! service needs the machine.

use super::database::{Database, RECORDER};
use crate::identity::{Identifiers, ObservationId, Timestamp};
use anyhow::Context as _;
use sqlx::{PgConnection, query_as, query_scalar};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

const PAGE_LEN: i64 = 20_000;
const PAGES_AHEAD: usize = 2;

/// Pages of rows, read by a task of their own. No snapshot is held longer than for one page.
pub struct Pages<T> {
    pages: mpsc::Receiver<Result<Vec<T>, sqlx::Error>>,
    reading: Option<JoinHandle<()>>,
    /// A permit for each page that may be read now.
    wanted: Arc<Semaphore>,
}

/// Rows that can be read in pages, in the order of their numbers.
pub trait Paged: Sized + Send + 'static {
    /// The first rows after the number `after`, up to and including `last`.
    fn page(
        connection: &mut PgConnection,
        after: i64,
        last: i64,
    ) -> impl Future<Output = Result<Vec<Self>, sqlx::Error>> + Send;

    fn number(&self) -> i64;
}

/// An event's line, and the position that it was found at.
pub struct EventLine {
    pub position: i64,
    pub line: String,
}

/// An observation as it was recorded, or what is left of it.
pub struct ObservationRow {
    pub id: ObservationId,
    pub observed_at: Timestamp,
    /// `None` if it was erased.
    pub identifiers: Option<Identifiers>,
}

struct Row {
    id: i64,
    observed_at: Timestamp,
    email: Option<String>,
    phone_number: Option<String>,
}

impl<T: Paged> Pages<T> {
    /// The rows after the number `after`, up to and including `last`.
    pub fn between(database: &Database, after: i64, last: i64) -> Self {
        let (sender, pages) = mpsc::channel(PAGES_AHEAD + 1);
        let wanted = Arc::new(Semaphore::new(0));
        let reading = read(database.clone(), after, last, sender, wanted.clone());
        Self { pages, reading: Some(tokio::spawn(reading)), wanted }
    }

    /// The next page. `None` after the last one.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<T>>> {
        self.wanted.add_permits(1);
        if let Some(page) = self.pages.recv().await {
            return Ok(Some(page?));
        }
        // The task panics on a row that cannot be decoded, such as one with an infinite time. That
        // must not pass for the end.
        if let Some(reading) = self.reading.take() {
            reading.await.context("a row cannot be read; run identity-ledger verify")?;
        }
        Ok(None)
    }
}

async fn read<T: Paged>(
    database: Database,
    after: i64,
    last: i64,
    pages: mpsc::Sender<Result<Vec<T>, sqlx::Error>>,
    wanted: Arc<Semaphore>,
) {
    if let Err(error) = try_read(&database, after, last, &pages, &wanted).await {
        let _ = pages.send(Err(error)).await;
    }
}

async fn try_read<T: Paged>(
    database: &Database,
    mut after: i64,
    last: i64,
    pages: &mpsc::Sender<Result<Vec<T>, sqlx::Error>>,
    wanted: &Semaphore,
) -> Result<(), sqlx::Error> {
    let mut owner = database.pager().await?;
    // Beside a service, the reading and the work on it take turns, so that a core is left for its
    // callers.
    if !is_served(&mut owner).await? {
        wanted.add_permits(PAGES_AHEAD);
    }
    loop {
        let permit = wanted.acquire().await.expect("it is never closed");
        permit.forget();
        let page = T::page(&mut owner, after, last).await?;
        let Some(end) = page.last() else { return Ok(()) };
        after = end.number();
        if pages.send(Ok(page)).await.is_err() {
            // The pages are no longer wanted.
            return Ok(());
        }
    }
}

/// Whether a service records in this database. If so, long work takes its time, and less of the machine.
pub async fn is_served(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    query_scalar!(
        r#"select exists (
            select from pg_stat_activity
            where datname = current_database() and application_name = $1
        ) as "is!""#,
        RECORDER
    )
    .fetch_one(connection)
    .await
}

impl Paged for EventLine {
    async fn page(
        connection: &mut PgConnection,
        after: i64,
        last: i64,
    ) -> Result<Vec<Self>, sqlx::Error> {
        query_as!(
            Self,
            "select position, line
            from event
            where position > $1 and position <= $2
            order by position
            limit $3",
            after,
            last,
            PAGE_LEN
        )
        .fetch_all(connection)
        .await
    }

    fn number(&self) -> i64 {
        self.position
    }
}

impl Paged for ObservationRow {
    async fn page(
        connection: &mut PgConnection,
        after: i64,
        last: i64,
    ) -> Result<Vec<Self>, sqlx::Error> {
        let rows = query_as!(
            Row,
            "select id, observed_at, email, phone_number
            from observation
            where id > $1 and id <= $2
            order by id
            limit $3",
            after,
            last,
            PAGE_LEN
        );
        Ok(rows.fetch_all(connection).await?.into_iter().map(Row::recorded).collect())
    }

    fn number(&self) -> i64 {
        self.id.get()
    }
}

/// The observations with these numbers, in order.
pub async fn observations(
    connection: &mut PgConnection,
    ids: &[i64],
) -> Result<Vec<ObservationRow>, sqlx::Error> {
    let rows = query_as!(
        Row,
        "select id, observed_at, email, phone_number
        from observation
        where id = any($1)
        order by id",
        ids
    );
    Ok(rows.fetch_all(connection).await?.into_iter().map(Row::recorded).collect())
}

impl Row {
    fn recorded(self) -> ObservationRow {
        let identifiers =
            Identifiers::recorded(self.email.as_deref(), self.phone_number.as_deref());
        ObservationRow {
            id: ObservationId::new(self.id),
            observed_at: self.observed_at,
            identifiers,
        }
    }
}
