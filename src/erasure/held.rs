//! Reads everything that is held about one identity.

use crate::identity::{ContactId, ObservationId, Position, Timestamp};
use crate::ledger::ThisVersion;
use sqlx::{PgExecutor, query_file_as};

/// An identity with every observation that belongs to it, read by one statement.
pub struct Held {
    /// The position at which it was read.
    pub position: Position,
    /// The database's clock, or the time of the last event if that is later.
    pub now: Timestamp,
    pub primary_id: ContactId,
    /// All observations, in order of their numbers, including those that introduced nothing.
    pub observations: Vec<HeldObservation>,
}

pub struct HeldObservation {
    pub id: ObservationId,
    /// The position of the event that observed it.
    pub position: Position,
    pub observed_at: Timestamp,
    pub email: Option<String>,
    pub phone_number: Option<String>,
    /// The contact that it is filed under. Its own number if it introduced one.
    pub contact_id: ContactId,
    pub is_erased: bool,
    /// The primary that the contact is linked to.
    linked_id: Option<ContactId>,
    /// When the contact was updated.
    updated_at: Timestamp,
}

/// A contact of the identity.
pub struct HeldContact {
    pub id: ContactId,
    pub linked_id: Option<ContactId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

struct Row {
    head_position: i64,
    #[expect(dead_code, reason = "it matters only that it can be decoded")]
    schema_version: ThisVersion,
    now: Timestamp,
    id: Option<i64>,
    position: Option<i64>,
    observed_at: Option<Timestamp>,
    email: Option<String>,
    phone_number: Option<String>,
    is_erased: bool,
    contact_id: Option<i64>,
    linked_id: Option<i64>,
    updated_at: Option<Timestamp>,
}

/// What is held about the identity that an observation belongs to: of an erased one, numbers and times.
/// `None` if the number has not been given yet.
pub async fn held(
    executor: impl PgExecutor<'_>,
    id: ObservationId,
) -> Result<Option<Held>, sqlx::Error> {
    let rows = query_file_as!(Row, "src/erasure/held.sql", id.get()).fetch_all(executor).await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let (position, now) = (Position::new(first.head_position), first.now);
    let observations: Vec<_> = rows.into_iter().filter_map(observation).collect();
    let primary_id = observations.first().map(HeldObservation::primary_id);
    Ok(primary_id.map(|primary_id| Held { position, now, primary_id, observations }))
}

fn observation(row: Row) -> Option<HeldObservation> {
    Some(HeldObservation {
        id: ObservationId::new(row.id?),
        position: Position::new(row.position?),
        observed_at: row.observed_at?,
        email: row.email,
        phone_number: row.phone_number,
        contact_id: ContactId::new(row.contact_id?),
        is_erased: row.is_erased,
        linked_id: row.linked_id.map(ContactId::new),
        updated_at: row.updated_at?,
    })
}

impl HeldObservation {
    fn primary_id(&self) -> ContactId {
        self.linked_id.unwrap_or(self.contact_id)
    }

    fn is_contact(&self) -> bool {
        self.contact_id == ContactId::from(self.id)
    }
}

impl Held {
    pub fn is_erased(&self) -> bool {
        self.observations.iter().any(|held| held.is_erased)
    }

    /// The numbers of its contacts, in order.
    pub fn contact_ids(&self) -> impl Iterator<Item = ContactId> {
        self.contacts().map(|contact| contact.id)
    }

    /// Its contacts, in order of their numbers.
    pub fn contacts(&self) -> impl Iterator<Item = HeldContact> {
        let introduced = self.observations.iter().filter(|held| held.is_contact());
        introduced.map(|held| HeldContact {
            id: held.contact_id,
            linked_id: held.linked_id,
            created_at: held.observed_at,
            updated_at: held.updated_at,
        })
    }
}

#[cfg(test)]
mod tests {
    const HELD: &str = include_str!("held.sql");
    const HISTORY: &str = include_str!("../audit/history.sql");
    const IDENTITY: &str = include_str!("../../projections/contact/identity.sql");

    /// The text from one text on up to another.
    fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
        let text = &text[text.find(begin).unwrap()..];
        &text[..text.find(end).unwrap()]
    }

    /// A statement that sqlx checks cannot include another one.
    #[test]
    fn all_statements_find_where_an_observation_is_filed_in_the_same_way() {
        let filed = |statement| between(statement, " filed as (", "leader as (");
        assert_eq!(filed(HISTORY), filed(IDENTITY));
        assert_eq!(filed(HELD), filed(IDENTITY));
        let moved = |statement| between(statement, "select e.contact_id", "limit 1");
        let of_candidate = between(HELD, "refiled as", "held as");
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(moved(of_candidate)), words(moved(IDENTITY)).replace("$1", "c.id"));
    }
}
