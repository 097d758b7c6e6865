//! Writes rows into `contact_next`, the table that is to be swapped in.

use super::turn::Turn;
use crate::identity::{Contact, ContactId, Email, ObservationId, PhoneNumber};
use crate::ledger::{self, ObservationRow, Pages};
use crate::projection::{self, held, unlinked};
use sqlx::{PgConnection, query, query_scalar};
use std::time::Instant;

/// Number of observations. Those that are copied at once keep a core busy and are flushed at once,
/// and callers wait for both.
const COPY_LEN: usize = 500;

/// Makes `contact_next` from the observations up to a given one, with its indexes, and returns the
/// number of rows. `row` says which row an observation has, if it is a contact or was one when it was
/// erased.
///
/// The indexes are built at the end, which is fastest. Beside a service they grow with the table
/// instead, with pauses for a third of the time: an index that is built is flushed in one go, for
/// which callers' commits would wait, and a snapshot is held for as long.
pub async fn fill(
    turn: &mut Turn,
    last: ObservationId,
    mut row: impl FnMut(&ObservationRow) -> Option<Contact>,
) -> anyhow::Result<usize> {
    let Turn { database, owner, progress } = turn;
    projection::create_next(owner).await?;
    let is_served = ledger::is_served(owner).await?;
    if is_served {
        projection::index_next(owner).await?;
    }
    let mut pages = Pages::<ObservationRow>::between(database, 0, last.get());
    let mut rows_len = 0;
    progress.begin("writing contacts", last.get());
    while let Some(page) = pages.next().await? {
        for chunk in page.chunks(COPY_LEN) {
            let since = Instant::now();
            rows_len += copy(owner, chunk, &mut row).await?;
            if is_served {
                tokio::time::sleep(since.elapsed() / 2).await;
            }
        }
        progress.at(page.last().map_or(0, |observation| observation.id.get()));
    }
    if !is_served {
        progress.begin("building indexes", 1);
        projection::index_next(owner).await?;
    }
    projection::analyze_next(owner).await?;
    Ok(rows_len)
}

/// Writes the rows of these contacts again, and the rows of those that were linked to them.
pub async fn rewrite(
    owner: &mut PgConnection,
    changed: &[ContactId],
    mut row: impl FnMut(&ObservationRow) -> Option<Contact>,
) -> Result<(), sqlx::Error> {
    let changed: Vec<_> = changed.iter().map(|id| id.get()).collect();
    let mut stale =
        query_scalar!("delete from contact_next where linked_id = any($1) returning id", &changed)
            .fetch_all(&mut *owner)
            .await?;
    query!("delete from contact_next where id = any($1)", &changed).execute(&mut *owner).await?;
    stale.extend(changed);
    let observations = ledger::observations(owner, &stale).await?;
    copy(owner, &observations, &mut row).await?;
    Ok(())
}

/// Copies the rows of observations, and returns the number of rows.
async fn copy(
    owner: &mut PgConnection,
    observations: &[ObservationRow],
    row: &mut impl FnMut(&ObservationRow) -> Option<Contact>,
) -> Result<usize, sqlx::Error> {
    let mut text = String::new();
    let mut rows_len = 0;
    for contact in observations.iter().filter_map(row) {
        write_row(&mut text, &contact);
        rows_len += 1;
    }
    let mut rows = owner
        .copy_in_raw(
            "copy contact_next (
                id, linked_id, link_precedence, created_at, updated_at, email, phone_number, email_key, phone_key,
                unlinked_email, unlinked_phone, deleted_at
            ) from stdin",
        )
        .await?;
    rows.send(text.into_bytes()).await?;
    rows.finish().await?;
    Ok(rows_len)
}

fn write_row(text: &mut String, contact: &Contact) {
    let columns = [
        Some(contact.id.to_string()),
        contact.linked_id().map(|id| id.to_string()),
        Some(contact.link_precedence().to_owned()),
        Some(contact.created_at.to_rfc3339()),
        Some(contact.updated_at.to_rfc3339()),
        contact.email.as_ref().map(Email::as_str).map(str::to_owned),
        contact.phone_number.as_ref().map(PhoneNumber::as_str).map(str::to_owned),
        held(contact.email_key.as_ref()).map(str::to_owned),
        held(contact.phone_key.as_ref()).map(str::to_owned),
        unlinked(contact.email_key.as_ref()).map(str::to_owned),
        unlinked(contact.phone_key.as_ref()).map(str::to_owned),
        contact.deleted_at.map(|at| at.to_rfc3339()),
    ];
    ledger::write_copied_row(text, &columns);
}
