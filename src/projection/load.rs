//! Reads identities from the contact table, together with the head.

use crate::identity::{
    Contact, ContactId, Email, Key, Link, ObservationId, PhoneNumber, Position, RulesDigest,
    Timestamp,
};
use crate::ledger::{Damaged, ThisVersion};
use sqlx::{PgExecutor, query_file_as};

/// The end of the ledger.
#[derive(Clone, Debug)]
pub struct Head {
    pub position: Position,
    pub observation_id: ObservationId,
    pub recorded_at: Timestamp,
    pub rules_digest: RulesDigest,
    /// Postgres' number (oid) of the contact table, which changes when a rebuild replaces the table.
    pub contact_table: i64,
}

#[cfg(test)]
impl Head {
    /// Where a ledger ends whose observations have one event each, under the default rules.
    pub fn at(position: i64) -> Self {
        let rules = crate::identity::Rules::parse(crate::identity::DEFAULT_RULES).unwrap();
        Self {
            position: Position::new(position),
            observation_id: ObservationId::new(position),
            recorded_at: Timestamp::UNIX_EPOCH,
            rules_digest: rules.digest().clone(),
            contact_table: 1,
        }
    }
}

/// Committed state, read by one statement: all of it holds at the head's position.
pub struct Snapshot {
    pub head: Head,
    /// The time by the database's clock.
    pub now: Timestamp,
    /// The contacts of whole identities, in order of id.
    pub contacts: Vec<Contact>,
}

/// A row of the two queries: the head, a contact, or both side by side.
struct Row {
    position: Option<i64>,
    observation_id: Option<i64>,
    recorded_at: Option<Timestamp>,
    rules_digest: Option<String>,
    contact_table: Option<i64>,
    now: Option<Timestamp>,
    #[expect(dead_code, reason = "it is read only so that another version fails to decode")]
    schema_version: Option<ThisVersion>,
    id: Option<i64>,
    linked_id: Option<i64>,
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    deleted_at: Option<Timestamp>,
    email: Option<String>,
    phone_number: Option<String>,
    email_key: Option<String>,
    phone_key: Option<String>,
    unlinked_email: Option<String>,
    unlinked_phone: Option<String>,
}

/// The whole identities that hold any of these keys.
pub async fn load(
    executor: impl PgExecutor<'_>,
    email_keys: &[&str],
    phone_keys: &[&str],
) -> Result<Snapshot, sqlx::Error> {
    let rows =
        query_file_as!(Row, "projections/contact/load.sql", email_keys as _, phone_keys as _)
            .fetch_all(executor)
            .await?;
    snapshot(rows)
}

/// The identity that an observation's number belongs to, if the number was given out yet.
pub(super) async fn load_by_number(
    executor: impl PgExecutor<'_>,
    number: ContactId,
) -> Result<Snapshot, sqlx::Error> {
    let rows = query_file_as!(Row, "projections/contact/identity.sql", number.get())
        .fetch_all(executor)
        .await?;
    snapshot(rows)
}

fn snapshot(rows: Vec<Row>) -> Result<Snapshot, sqlx::Error> {
    let (head, now) = rows.iter().find_map(head).ok_or(sqlx::Error::RowNotFound)?;
    let mut contacts: Vec<_> = rows.into_iter().filter_map(contact).collect();
    contacts.sort_unstable_by_key(|contact| contact.id);
    contacts.dedup_by_key(|contact| contact.id);
    match stray(&contacts) {
        Some(contact) => Err(sqlx::Error::Decode(Damaged(contact).into())),
        None => Ok(Snapshot { head, now, contacts }),
    }
}

/// A secondary whose primary is not among these contacts, or is no primary.
fn stray(contacts: &[Contact]) -> Option<ContactId> {
    let leads = |id| {
        let place = contacts.binary_search_by_key(&id, |contact| contact.id);
        place.is_ok_and(|place| contacts[place].link == Link::Primary)
    };
    contacts.iter().find(|contact| !leads(contact.primary())).map(|contact| contact.id)
}

fn head(row: &Row) -> Option<(Head, Timestamp)> {
    let head = Head {
        position: Position::new(row.position?),
        observation_id: ObservationId::new(row.observation_id?),
        recorded_at: row.recorded_at?,
        rules_digest: RulesDigest::recorded(row.rules_digest.clone()?),
        contact_table: row.contact_table?,
    };
    Some((head, row.now?))
}

fn contact(row: Row) -> Option<Contact> {
    Some(Contact {
        id: ContactId::new(row.id?),
        email: row.email.as_deref().map(Email::recorded),
        phone_number: row.phone_number.as_deref().map(PhoneNumber::recorded),
        email_key: key(row.email_key.as_deref(), row.unlinked_email.as_deref()),
        phone_key: key(row.phone_key.as_deref(), row.unlinked_phone.as_deref()),
        link: row.linked_id.map(ContactId::new).into(),
        created_at: row.created_at?,
        updated_at: row.updated_at?,
        deleted_at: row.deleted_at,
    })
}

/// A contact's key from its two columns: one for a key that it holds, one for a key that never links.
pub fn key(held: Option<&str>, unlinked: Option<&str>) -> Option<Key> {
    held.map(Key::links).or_else(|| unlinked.map(Key::never_links))
}

/// What the table has of a contact's key in the column for keys that it holds.
pub fn held(key: Option<&Key>) -> Option<&str> {
    key.filter(|key| key.is_link()).map(Key::as_str)
}

/// What the table has of a contact's key in the column for keys that never link.
pub fn unlinked(key: Option<&Key>) -> Option<&str> {
    key.filter(|key| !key.is_link()).map(Key::as_str)
}
