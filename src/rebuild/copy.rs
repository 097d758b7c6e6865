//! Contact rows, from standings and observations into `contact_next`.

use super::Build;
use crate::identity::{
    Contact, ContactId, Email, Holders, Identifiers, PhoneNumber, Rules, Standing, Timestamp,
};
use crate::progress::Progress;
use crate::projection::{held, unlinked};
use sqlx::{query, query_as, query_scalar};

const CHUNK_LEN: i64 = 20_000;

struct ObservationRow {
    id: i64,
    observed_at: Timestamp,
    email: Option<String>,
    phone_number: Option<String>,
}

/// Fills the empty `contact_next`.
pub async fn copy_all(build: &mut Build) -> anyhow::Result<()> {
    let mut progress = Progress::begin("writing contacts", build.replay.links.len() as i64);
    let mut after = 0;
    let mut done = 0;
    loop {
        let observations = query_as!(
            ObservationRow,
            "select id, observed_at, email, phone_number
            from observation
            where id > $1
            order by id
            limit $2",
            after,
            CHUNK_LEN
        )
        .fetch_all(&mut build.owner)
        .await?;
        let Some(last) = observations.last() else { return Ok(()) };
        after = last.id;
        done += copy(build, observations).await?;
        progress.at(done);
    }
}

/// Writes the rows of these contacts again, and of those that were linked to them.
pub async fn copy_again(build: &mut Build, changed: &[ContactId]) -> anyhow::Result<()> {
    let changed: Vec<_> = changed.iter().map(|id| id.get()).collect();
    let mut stale =
        query_scalar!("delete from contact_next where linked_id = any($1) returning id", &changed)
            .fetch_all(&mut build.owner)
            .await?;
    query!("delete from contact_next where id = any($1)", &changed)
        .execute(&mut build.owner)
        .await?;
    stale.extend(changed);
    let observations = query_as!(
        ObservationRow,
        "select id, observed_at, email, phone_number
        from observation
        where id = any($1)
        order by id",
        &stale
    )
    .fetch_all(&mut build.owner)
    .await?;
    copy(build, observations).await?;
    Ok(())
}

/// Copies the contacts that these observations introduced; returns how many.
async fn copy(build: &mut Build, observations: Vec<ObservationRow>) -> anyhow::Result<i64> {
    let mut text = String::new();
    let mut len = 0;
    for observation in observations {
        if let Some(standing) = build.replay.links.standing(ContactId::new(observation.id)) {
            let contact = observation.contact(standing, &build.rules, &mut build.holders);
            write_row(&mut text, &contact);
            len += 1;
        }
    }
    let mut rows = build
        .owner
        .copy_in_raw(
            "copy contact_next (
                id, linked_id, created_at, updated_at, email, phone_number, email_key, phone_key,
                unlinked_email, unlinked_phone
            ) from stdin",
        )
        .await?;
    rows.send(text.into_bytes()).await?;
    rows.finish().await?;
    Ok(len)
}

impl ObservationRow {
    fn contact(&self, standing: Standing, rules: &Rules, holders: &mut Holders) -> Contact {
        let identifiers = Identifiers::new(
            self.email.as_deref().map(Email::recorded),
            self.phone_number.as_deref().map(PhoneNumber::recorded),
        )
        .expect("the observation table has a row only for what had an identifier");
        let keys = rules.keys(&identifiers);
        let holds = holders.claim(standing.id, &keys);
        Contact::new(&identifiers, keys, standing, holds, self.observed_at)
    }
}

/// Postgres' text format for COPY: tabs between columns, `\N` for null.
fn write_row(text: &mut String, contact: &Contact) {
    let columns = [
        Some(contact.id.to_string()),
        contact.linked_id().map(|id| id.to_string()),
        Some(contact.created_at.to_rfc3339()),
        Some(contact.updated_at.to_rfc3339()),
        contact.email.as_ref().map(|email| escaped(email.as_str())),
        contact.phone_number.as_ref().map(|number| escaped(number.as_str())),
        held(contact.email_key.as_ref()).map(escaped),
        held(contact.phone_key.as_ref()).map(escaped),
        unlinked(contact.email_key.as_ref()).map(escaped),
        unlinked(contact.phone_key.as_ref()).map(escaped),
    ];
    for (n, column) in columns.iter().enumerate() {
        if n > 0 {
            text.push('\t');
        }
        text.push_str(column.as_deref().unwrap_or("\\N"));
    }
    text.push('\n');
}

/// Identifiers have no control characters, so the backslash is all there is to escape.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\")
}
