//! Writes a decided batch.

use super::decide::Batch;
use crate::identity::{ContactId, Email, PhoneNumber};
use crate::ledger::schema_version;
use crate::projection::{held, unlinked};
use sqlx::{PgExecutor, query_file_scalar};

/// Appends a closed batch, unless the head has moved since it was decided, or the rules or the
/// tables have changed: then nothing is written, and `false` comes back. Sending a batch twice
/// appends it once.
pub async fn append(executor: impl PgExecutor<'_>, batch: &Batch) -> Result<bool, sqlx::Error> {
    let facts = || batch.events.iter().map(|event| &event.fact);
    let kinds: Vec<&str> = facts().map(|fact| fact.kind()).collect();
    let contact_ids: Vec<_> = facts().map(|fact| fact.contact_id().map(ContactId::get)).collect();
    let observation_ids: Vec<_> =
        facts().map(|fact| fact.observation_id().map(|id| id.get())).collect();
    let primary_ids: Vec<_> = facts().map(|fact| fact.primary_id().map(ContactId::get)).collect();

    let seen = || batch.observations.iter().map(|observation| &observation.identifiers);
    let emails: Vec<_> = seen().map(|seen| seen.email().map(Email::as_str)).collect();
    let numbers: Vec<_> = seen().map(|seen| seen.phone_number().map(PhoneNumber::as_str)).collect();
    let salts: Vec<&[u8]> = batch.requests.iter().map(|request| &request.salt.0[..]).collect();
    let observed_at: Vec<_> = batch.observed_at.iter().map(|position| position.get()).collect();

    let contacts = || batch.contacts.iter();
    let new_ids: Vec<_> = contacts().map(|contact| contact.id.get()).collect();
    let new_linked_ids: Vec<_> =
        contacts().map(|contact| contact.linked_id().map(ContactId::get)).collect();
    let new_emails: Vec<_> =
        contacts().map(|contact| contact.email.as_ref().map(Email::as_str)).collect();
    let new_numbers: Vec<_> =
        contacts().map(|contact| contact.phone_number.as_ref().map(PhoneNumber::as_str)).collect();
    let new_email_keys: Vec<_> =
        contacts().map(|contact| held(contact.email_key.as_ref())).collect();
    let new_phone_keys: Vec<_> =
        contacts().map(|contact| held(contact.phone_key.as_ref())).collect();
    let new_unlinked_emails: Vec<_> =
        contacts().map(|contact| unlinked(contact.email_key.as_ref())).collect();
    let new_unlinked_phones: Vec<_> =
        contacts().map(|contact| unlinked(contact.phone_key.as_ref())).collect();

    let (retry_keys, retried): (Vec<_>, Vec<_>) = batch
        .requests
        .iter()
        .zip(&batch.observations)
        .filter_map(|(request, seen)| Some((request.retry_key?.as_uuid(), seen.id.get())))
        .unzip();

    let (demoted, demoted_to): (Vec<_>, Vec<_>) =
        batch.demoted.iter().map(|(contact, primary)| (contact.get(), primary.get())).unzip();

    macro_rules! statement {
        ($file:literal, $($more:expr),*) => {
            query_file_scalar!(
                $file,
                batch.before.position.get(),
                batch.before.observation_id.get(),
                batch.recorded_at,
                kinds as _,
                contact_ids as _,
                &batch.lines,
                observation_ids as _,
                primary_ids as _,
                emails as _,
                numbers as _,
                salts as _,
                &observed_at,
                &new_ids,
                new_linked_ids as _,
                new_emails as _,
                new_numbers as _,
                new_email_keys as _,
                new_phone_keys as _,
                new_unlinked_emails as _,
                new_unlinked_phones as _,
                schema_version(),
                batch.before.rules_digest.as_str(),
                $($more),*
            )
            .fetch_optional(executor)
            .await?
        };
    }
    let moved = match demoted.is_empty() {
        true => statement!("src/recorder/append.sql", &retry_keys, &retried),
        false => {
            statement!("src/recorder/append_more.sql", &retry_keys, &retried, &demoted, &demoted_to)
        }
    };
    Ok(moved.is_some())
}

#[cfg(test)]
mod tests {
    /// They are two files since checked queries are, and one statement: the second has more arms.
    #[test]
    fn both_statements_append_the_same() {
        let statement = |text: &'static str| text.split_once("\nwith ").unwrap().1;
        let usual = statement(include_str!("append.sql"));
        let more = statement(include_str!("append_more.sql"));
        let (arms, answer) = usual.split_at(usual.find("\nselect position\n").unwrap());
        assert!(more.starts_with(arms) && more.ends_with(answer));
    }
}
