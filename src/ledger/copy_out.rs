//! Rows from Postgres' COPY, by which a whole table is read.

use crate::identity::Position;
use futures_util::StreamExt as _;
use sqlx::PgConnection;

/// Number of bytes before the first row in the binary format of COPY.
const SIGNATURE_LEN: usize = 19;
const KEEPS_FORMAT: &str = "Postgres keeps to its own format";

/// Rows in the binary format of COPY. They cost a fraction of rows that sqlx decodes one by one,
/// and can be parsed on another thread.
pub struct CopiedRows(Vec<u8>);

/// The columns of a row that are still to be read, in order.
pub struct CopiedRow<'a>(&'a [u8]);

/// Reads the rows of a query. They must fit into memory.
pub async fn copy_out(session: &mut PgConnection, query: &str) -> Result<CopiedRows, sqlx::Error> {
    let statement = format!("copy ({query}) to stdout (format binary)");
    let mut chunks = session.copy_out_raw(&statement).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(CopiedRows(bytes))
}

/// Reads these columns of the events after a position and up to another one, in order.
pub async fn copy_events(
    session: &mut PgConnection,
    columns: &str,
    after: Position,
    last: Position,
) -> Result<CopiedRows, sqlx::Error> {
    let events = format!(
        "select {columns}
        from event
        where position > {after} and position <= {last}
        order by position"
    );
    copy_out(session, &events).await
}

impl CopiedRows {
    pub fn iter(&self) -> impl Iterator<Item = CopiedRow<'_>> {
        let mut rest = self.0.get(SIGNATURE_LEN..).expect(KEEPS_FORMAT);
        std::iter::from_fn(move || {
            let columns_len = i16::from_be_bytes(take(&mut rest));
            let begin = rest;
            // The last row is followed by a count of -1.
            for _ in 0..usize::try_from(columns_len).ok()? {
                column(&mut rest);
            }
            Some(CopiedRow(&begin[..begin.len() - rest.len()]))
        })
    }
}

impl<'a> CopiedRow<'a> {
    /// A `bytea`, or the bytes of a `text`.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        column(&mut self.0)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        self.bytes().map(|bytes| std::str::from_utf8(bytes).expect(KEEPS_FORMAT))
    }

    /// A `bigint`, or a `timestamptz` in microseconds since the year 2000.
    pub fn number(&mut self) -> Option<i64> {
        self.bytes().map(|bytes| i64::from_be_bytes(bytes.try_into().expect(KEEPS_FORMAT)))
    }
}

fn column<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = i32::from_be_bytes(take(rest));
    // A null has the length -1.
    let (value, after) = rest.split_at(usize::try_from(len).ok()?);
    *rest = after;
    Some(value)
}

fn take<const LEN: usize>(rest: &mut &[u8]) -> [u8; LEN] {
    let (first, after) = rest.split_first_chunk().expect(KEEPS_FORMAT);
    *rest = after;
    *first
}
