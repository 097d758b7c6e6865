//! The keys that contacts hold, page by page.

use crate::identity::{ContactId, Position, RulesDigest};
use crate::ledger::{CopiedRow, CopiedRows, copy_out};
use sqlx::{PgConnection, query};

/// What some contacts hold, and the head and the table that it is true of.
pub struct KeysPage {
    /// The position of the head before the page was read: nothing that was committed up to there is
    /// missing.
    pub position: Position,
    pub rules_digest: RulesDigest,
    /// Postgres' number of the table. If the next page has another one, the table was replaced meanwhile.
    pub contact_table: i64,
    rows: CopiedRows,
}

/// The keys that a contact holds.
pub struct KeysHeld<'a> {
    pub id: i64,
    pub email_key: Option<&'a str>,
    pub phone_key: Option<&'a str>,
}

/// The keys of the next contacts after a given one, up to `limit`.
pub async fn keys_after(
    session: &mut PgConnection,
    after: ContactId,
    limit: i64,
) -> Result<KeysPage, sqlx::Error> {
    let head = query!(
        r#"
        select position, rules_digest, to_regclass('contact')::oid::bigint as "contact_table!"
        from head
        "#
    );
    let head = head.fetch_one(&mut *session).await?;
    let contacts = format!(
        "select id, email_key, phone_key from contact where id > {after} order by id limit {limit}"
    );
    Ok(KeysPage {
        position: Position::new(head.position),
        rules_digest: RulesDigest::recorded(head.rules_digest),
        contact_table: head.contact_table,
        rows: copy_out(session, &contacts).await?,
    })
}

impl KeysPage {
    /// The contacts of the page, in order of id.
    pub fn contacts(&self) -> impl Iterator<Item = KeysHeld<'_>> {
        self.rows.iter().filter_map(KeysHeld::of)
    }
}

impl<'a> KeysHeld<'a> {
    fn of(mut row: CopiedRow<'a>) -> Option<Self> {
        Some(Self { id: row.number()?, email_key: row.text(), phone_key: row.text() })
    }
}
