//! The keys that contacts hold, page by page.

use crate::identity::{ContactId, Position, RulesDigest};
use sqlx::{PgExecutor, query};

/// What was read by one statement: all of it holds at the position.
pub struct KeysPage {
    pub position: Position,
    pub rules_digest: RulesDigest,
    /// In order of id.
    pub rows: Vec<KeysHeld>,
}

pub struct KeysHeld {
    pub id: i64,
    pub email_key: Option<String>,
    pub phone_key: Option<String>,
}

/// The keys of the first contacts after one.
pub async fn keys_after(
    executor: impl PgExecutor<'_>,
    after: ContactId,
    limit: i64,
) -> Result<KeysPage, sqlx::Error> {
    let rows = query!(
        r#"select h.position, h.rules_digest, c.id as "id?", c.email_key, c.phone_key
        from head as h
        left join (
            select c.id, c.email_key, c.phone_key
            from contact as c
            where c.id > $1
            order by c.id
            limit $2
        ) as c on true
        order by c.id"#,
        after.get(),
        limit
    )
    .fetch_all(executor)
    .await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    Ok(KeysPage {
        position: Position::new(first.position),
        rules_digest: RulesDigest::recorded(first.rules_digest.clone()),
        rows: rows
            .into_iter()
            .filter_map(|row| {
                Some(KeysHeld { id: row.id?, email_key: row.email_key, phone_key: row.phone_key })
            })
            .collect(),
    })
}
