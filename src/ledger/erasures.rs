//! The erasures in a ledger.

use crate::identity::{Erasures, Position};
use sqlx::{PgConnection, query};

const PAGE_LEN: i64 = 1_000;

/// The observations that were erased after a position and up to another one.
pub async fn erasures(
    session: &mut PgConnection,
    mut after: Position,
    last: Position,
) -> Result<Erasures, sqlx::Error> {
    let mut erasures = Erasures::default();
    loop {
        let page = query!(
            "select position, line
            from event
            where kind = 'ContactErased' and position > $1 and position <= $2
            order by position
            limit $3",
            after.get(),
            last.get(),
            PAGE_LEN
        );
        let page = page.fetch_all(&mut *session).await?;
        page.iter().for_each(|row| erasures.note(&row.line));
        match page.last() {
            Some(row) => after = Position::new(row.position),
            None => return Ok(erasures),
        }
    }
}
