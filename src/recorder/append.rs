//! Writes a decided batch.

use super::decide::Batch;
use super::queue::Request;
use crate::identity::{Contact, ContactId, Email, Fact, ObservationId, PhoneNumber, Timestamp};
use crate::ledger::schema_version;
use crate::projection::{held, unlinked};
use sqlx::{PgExecutor, query_file_scalar};

/// Appends a closed batch in one statement and returns the database's time. Writes nothing and returns
/// `None` if the head has moved, or the rules, the schema version or the contact table have changed.
/// Sending a batch twice appends it at most once.
pub async fn append(
    executor: impl PgExecutor<'_>,
    batch: &Batch,
) -> Result<Option<Timestamp>, sqlx::Error> {
    match LoneObservation::of(batch) {
        Some(lone) => append_one(executor, batch, lone).await,
        None => append_all(executor, batch).await,
    }
}

/// A batch of one request that has no retry key and demotes no primary.
struct LoneObservation<'a> {
    request: &'a Request,
    fact: &'a Fact,
    line: &'a str,
    /// The line that makes its contact a secondary.
    link_line: Option<&'a str>,
    /// The contact that it introduces.
    contact: Option<&'a Contact>,
}

impl<'a> LoneObservation<'a> {
    fn of(batch: &'a Batch) -> Option<Self> {
        let [request] = &batch.requests[..] else { return None };
        let (first, then) = batch.events.split_first()?;
        let is_link = then.iter().all(|event| matches!(event.fact, Fact::ContactLinked(_)));
        let is_plain = request.retry_key.is_none() && is_link;
        is_plain.then_some(Self {
            request,
            fact: &first.fact,
            line: batch.lines.first()?,
            link_line: batch.lines.get(1).map(String::as_str),
            contact: batch.contacts.first(),
        })
    }
}

async fn append_one(
    executor: impl PgExecutor<'_>,
    batch: &Batch,
    lone: LoneObservation<'_>,
) -> Result<Option<Timestamp>, sqlx::Error> {
    let seen = &lone.request.identifiers;
    let email_key = lone.contact.and_then(|contact| contact.email_key.as_ref());
    let phone_key = lone.contact.and_then(|contact| contact.phone_key.as_ref());
    query_file_scalar!(
        "src/recorder/append_one.sql",
        batch.before.position.get(),
        batch.before.observation_id.next().get(),
        batch.recorded_at,
        lone.line,
        lone.link_line,
        lone.fact.contact_id().map(ContactId::get),
        lone.fact.primary_id().map(ContactId::get),
        seen.email().map(Email::as_str),
        seen.phone_number().map(PhoneNumber::as_str),
        &lone.request.salt.0[..],
        held(email_key),
        held(phone_key),
        unlinked(email_key),
        unlinked(phone_key),
        schema_version(),
        batch.before.rules_digest.as_str(),
        batch.before.contact_table,
        batch.before.recorded_at,
    )
    .fetch_optional(executor)
    .await
}

async fn append_all(
    executor: impl PgExecutor<'_>,
    batch: &Batch,
) -> Result<Option<Timestamp>, sqlx::Error> {
    let facts = || batch.events.iter().map(|event| &event.fact);
    let kinds: Vec<&str> = facts().map(|fact| fact.kind()).collect();
    let contact_ids: Vec<_> = facts().map(|fact| fact.contact_id().map(ContactId::get)).collect();
    let observation_ids: Vec<_> =
        facts().map(|fact| fact.observation_id().map(|id| id.get())).collect();
    let primary_ids: Vec<_> = facts().map(|fact| fact.primary_id().map(ContactId::get)).collect();

    let seen = || batch.requests.iter().map(|request| &request.identifiers);
    let emails: Vec<_> = seen().map(|seen| seen.email().map(Email::as_str)).collect();
    let numbers: Vec<_> = seen().map(|seen| seen.phone_number().map(PhoneNumber::as_str)).collect();
    let salts: Vec<&[u8]> = batch.requests.iter().map(|request| &request.salt.0[..]).collect();
    let observed_positions: Vec<_> =
        batch.observed_positions.iter().map(|position| position.get()).collect();

    // The contact that each observation introduces, if it does: they have the same number.
    let mut introduced = batch.contacts.iter().peekable();
    let contact_of = |id| introduced.next_if(|contact| ObservationId::from(contact.id) == id);
    let contacts: Vec<_> = batch.observation_ids().map(contact_of).collect();
    let new_ids: Vec<_> = each(&contacts, |contact| Some(contact.id.get()));
    let new_linked_ids: Vec<_> = each(&contacts, |contact| contact.linked_id().map(ContactId::get));
    let new_email_keys: Vec<_> = each(&contacts, |contact| held(contact.email_key.as_ref()));
    let new_phone_keys: Vec<_> = each(&contacts, |contact| held(contact.phone_key.as_ref()));
    let new_unlinked_emails: Vec<_> =
        each(&contacts, |contact| unlinked(contact.email_key.as_ref()));
    let new_unlinked_phones: Vec<_> =
        each(&contacts, |contact| unlinked(contact.phone_key.as_ref()));

    let (retry_keys, retried): (Vec<_>, Vec<_>) = batch
        .requests
        .iter()
        .zip(batch.observation_ids())
        .filter_map(|(request, id)| Some((request.retry_key?.as_uuid(), id.get())))
        .unzip();

    let (demoted, demoted_to): (Vec<_>, Vec<_>) =
        batch.demoted.iter().map(|(contact, primary)| (contact.get(), primary.get())).unzip();

    query_file_scalar!(
        "src/recorder/append.sql",
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
        &observed_positions,
        new_ids as _,
        new_linked_ids as _,
        new_email_keys as _,
        new_phone_keys as _,
        new_unlinked_emails as _,
        new_unlinked_phones as _,
        schema_version(),
        batch.before.rules_digest.as_str(),
        &retry_keys,
        &retried,
        &demoted,
        &demoted_to,
        batch.before.contact_table,
        batch.before.recorded_at,
    )
    .fetch_optional(executor)
    .await
}

/// A value of each contact, with `None` for an observation that introduces no contact.
fn each<'a, T>(
    contacts: &[Option<&'a Contact>],
    has: impl Fn(&'a Contact) -> Option<T>,
) -> Vec<Option<T>> {
    contacts.iter().map(|contact| contact.and_then(&has)).collect()
}
