//! Erases one identity, in one transaction.

use super::held::{Held, held};
use crate::identity::{
    ContactErased, ContactId, Event, Fact, ObservationId, Position, ReasonCode, Timestamp,
};
use crate::ledger::{self, Database, Fault};
use sqlx::{Connection as _, PgConnection, query};

/// What was erased.
pub struct Erased {
    /// The position of its `ContactErased`.
    pub position: Position,
    pub primary_id: ContactId,
    pub contacts_len: usize,
    /// In order of their numbers.
    pub observation_ids: Vec<ObservationId>,
}

/// Why nothing was erased. Its text is safe to log.
#[derive(Debug, thiserror::Error)]
pub enum NotErased {
    #[error("no observation has this number yet")]
    NotObserved,
    #[error("the identity of this number is erased already")]
    AlreadyErased,
    #[error("the identity has changed since it was shown: look again")]
    Changed,
    /// What reads all observations could not tell those that are erased meanwhile from tampering.
    #[error("nothing can be erased until this has finished, so try again then: {0}")]
    InTheWay(String),
    /// If the connection was lost at the end, the identity may be erased. Asking again tells.
    #[error("{0}")]
    Fault(#[from] Fault),
}

impl From<sqlx::Error> for NotErased {
    fn from(error: sqlx::Error) -> Self {
        Self::Fault(error.into())
    }
}

/// Erases the whole identity that an observation belongs to: appends the `ContactErased`, nulls
/// identifiers and salts of all its observations and the values of all its contacts, and deletes the
/// idempotency keys they were recorded by. Erases nothing if it fails, as it does if the identity no
/// longer has the contacts that were `shown`.
pub async fn erase(
    database: &Database,
    id: ObservationId,
    shown: Option<&Held>,
    reason: &ReasonCode,
    by: Option<&str>,
) -> Result<Erased, NotErased> {
    let mut session = database.eraser().await?;
    let mut tx = session.begin().await?;
    match lock(&mut tx).await {
        Ok(()) => {}
        Err(error) if ledger::is_lock_timeout(&error) => {
            tx.rollback().await?;
            let work = ledger::who_blocks_erasures(&mut session).await?;
            return Err(NotErased::InTheWay(work.unwrap_or_else(|| "another command".to_owned())));
        }
        Err(error) => return Err(error.into()),
    }
    let held = match to_erase(held(&mut *tx, id).await?, shown) {
        Ok(held) => held,
        Err(not_erased) => {
            tx.rollback().await?;
            return Err(not_erased);
        }
    };
    let erased = erase_held(&mut tx, &held, reason, by).await?;
    tx.commit().await?;
    Ok(erased)
}

fn to_erase(held: Option<Held>, shown: Option<&Held>) -> Result<Held, NotErased> {
    let held = held.ok_or(NotErased::NotObserved)?;
    if held.is_erased() {
        return Err(NotErased::AlreadyErased);
    }
    match shown {
        Some(shown) if !shown.contact_ids().eq(held.contact_ids()) => Err(NotErased::Changed),
        _ => Ok(held),
    }
}

async fn lock(tx: &mut PgConnection) -> Result<(), sqlx::Error> {
    query("set local lock_timeout = '5s'").execute(&mut *tx).await?;
    ledger::lock_erasures(tx).await?;
    ledger::lock_to_append(tx).await
}

async fn erase_held(
    tx: &mut PgConnection,
    held: &Held,
    reason: &ReasonCode,
    by: Option<&str>,
) -> Result<Erased, sqlx::Error> {
    let observation_ids: Vec<_> = held.observations.iter().map(|held| held.id).collect();
    let contact_ids: Vec<_> = held.contact_ids().map(ContactId::get).collect();
    let event = Event {
        position: held.position.next(),
        recorded_at: held.now,
        fact: Fact::ContactErased(ContactErased {
            contact_id: held.primary_id,
            erased_by: by.map(str::to_owned),
            observation_ids: observation_ids.clone(),
            reason: reason.clone(),
        }),
    };
    ledger::append_event(tx, &event).await?;
    query!(
        "update head set position = $1, recorded_at = $2",
        event.position.get(),
        event.recorded_at
    )
    .execute(&mut *tx)
    .await?;
    let ids: Vec<_> = observation_ids.iter().map(|id| id.get()).collect();
    query!(
        "update observation
        set email = null, phone_number = null, salt = null
        where id = any($1)",
        &ids
    )
    .execute(&mut *tx)
    .await?;
    query!("delete from idempotency where observation_id = any($1)", &ids)
        .execute(&mut *tx)
        .await?;
    bury(tx, &contact_ids, held.now).await?;
    Ok(Erased {
        position: event.position,
        primary_id: held.primary_id,
        contacts_len: contact_ids.len(),
        observation_ids,
    })
}

/// Leaves a tombstone of each contact, which says where it was linked and when it was erased.
async fn bury(tx: &mut PgConnection, ids: &[i64], at: Timestamp) -> Result<(), sqlx::Error> {
    query!(
        "update contact
        set email = null, phone_number = null, email_key = null, phone_key = null,
            unlinked_email = null, unlinked_phone = null, updated_at = $2, deleted_at = $2
        where id = any($1)",
        ids,
        at
    )
    .execute(tx)
    .await?;
    Ok(())
}
