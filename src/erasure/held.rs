//! All that is held on one identity.

use crate::identity::{ContactId, ObservationId, Position, Timestamp};
use crate::ledger::ThisVersion;
use sqlx::{PgExecutor, query_file_as};

/// An identity with every observation that belongs to it, read by one statement.
pub struct Held {
    /// That it was read at.
    pub position: Position,
    /// The database's clock, or the time of the last event if that is later.
    pub now: Timestamp,
    pub primary_id: ContactId,
    /// In order of their numbers, those that introduced nothing included.
    pub observations: Vec<HeldObservation>,
}

pub struct HeldObservation {
    pub id: ObservationId,
    /// Of the event that observed it.
    pub position: Position,
    pub observed_at: Timestamp,
    pub email: Option<String>,
    pub phone_number: Option<String>,
    /// The contact that it is filed under: its own number where it introduced one.
    pub contact_id: ContactId,
    pub is_erased: bool,
    linked_id: Option<ContactId>,
    /// Of the contact.
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
    #[expect(dead_code, reason = "that it could be decoded is all that it says")]
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

/// What is held on the identity that an observation belongs to. `None` for a number that was not
/// given yet. Of an erased one, numbers and times.
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

    /// In order.
    pub fn contact_ids(&self) -> impl Iterator<Item = ContactId> {
        self.contacts().map(|contact| contact.id)
    }

    /// In order of their numbers.
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
