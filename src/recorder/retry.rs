//! Safe retries: what was recorded under an idempotency key is not recorded again.

use super::queue::{NotRecorded, Outcome, Request};
use crate::identity::{Identifiers, ObservationId};
use crate::ledger::{Fault, in_time};
use sha2::{Digest as _, Sha256};
use sqlx::{PgConnection, query};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use uuid::{Builder, Uuid, Version};

/// What an `Idempotency-Key` is kept as: a hash, which tells nothing of a key that is random, behind the
/// time of a key that is a UUID of version 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RetryKey(Uuid);

/// What was recorded under a key.
pub struct Original {
    id: ObservationId,
    identifiers: Identifiers,
}

pub type Originals = HashMap<RetryKey, Original>;

impl RetryKey {
    /// The first bits of SHA-256 over the caller's name, its length before it, and the key, as a
    /// UUID of version 8 (RFC 9562). The keys of two callers never meet.
    ///
    /// If the key is a UUID of version 7, its time takes the place of the first 48 bits: keys made one
    /// after another are neighbours in the index then, where a random place costs several times as much.
    pub fn new(caller: &str, key: &[u8]) -> Self {
        let hash = Sha256::new()
            .chain_update((caller.len() as u64).to_be_bytes())
            .chain_update(caller)
            .chain_update(key)
            .finalize();
        let (first, _) = hash.split_first_chunk().expect("32 bytes are more than 16");
        let mut kept: [u8; 16] = *first;
        if let Some(time) = uuid_time(key) {
            kept[..time.len()].copy_from_slice(&time);
        }
        Self(Builder::from_custom_bytes(kept).into_uuid())
    }

    pub fn as_uuid(&self) -> Uuid {
        self.0
    }
}

/// The first 48 bits of a UUID of version 7: milliseconds since 1970. The draft has quotes around keys,
/// which many clients leave out.
fn uuid_time(key: &[u8]) -> Option<[u8; 6]> {
    let unquoted = key.strip_prefix(b"\"").and_then(|key| key.strip_suffix(b"\""));
    let uuid = Uuid::try_parse_ascii(unquoted.unwrap_or(key)).ok()?;
    let is_timed = uuid.get_version() == Some(Version::SortRand);
    is_timed.then_some(*uuid.as_bytes().first_chunk()?)
}

/// Finds what was recorded under these keys in the last `kept_for`, and lets go of those that were
/// recorded before, or whose observation is gone, as it never should be. To be asked after the head was
/// read that their requests are decided at: who appends what this does not see moves the head.
pub async fn originals(
    connection: &mut PgConnection,
    keys: &[RetryKey],
    kept_for: Duration,
) -> Result<Originals, Fault> {
    if keys.is_empty() {
        return Ok(Originals::new());
    }
    let keys: Vec<_> = keys.iter().map(RetryKey::as_uuid).collect();
    let kept_for_s = i64::try_from(kept_for.as_secs()).unwrap_or(i64::MAX);
    let rows = query!(
        r#"select i.key, i.observation_id, o.email, o.phone_number,
            o.observed_at > clock_timestamp() - $2::bigint * interval '1 second' as "is_in_time?"
        from unnest($1::uuid[]) as k (key)
        join idempotency as i on i.key = k.key
        left join observation as o on o.id = i.observation_id"#,
        &keys,
        kept_for_s
    );
    let mut originals = Originals::new();
    let mut over = Vec::new();
    for row in in_time(rows.fetch_all(&mut *connection)).await? {
        let id = ObservationId::new(row.observation_id);
        let identifiers = Identifiers::recorded(row.email.as_deref(), row.phone_number.as_deref());
        match identifiers.filter(|_| row.is_in_time == Some(true)) {
            Some(identifiers) => {
                _ = originals.insert(RetryKey(row.key), Original { id, identifiers })
            }
            None => over.push((row.key, row.observation_id)),
        }
    }
    let_go(connection, over).await?;
    Ok(originals)
}

/// Deletes keys, each if it still stands for this observation: another node may have deleted it meanwhile,
/// and recorded it anew.
async fn let_go(connection: &mut PgConnection, over: Vec<(Uuid, i64)>) -> Result<(), Fault> {
    if over.is_empty() {
        return Ok(());
    }
    let (keys, observation_ids): (Vec<_>, Vec<_>) = over.into_iter().unzip();
    // In order: if another node is deleting them just now, one of the two waits.
    let deleted = query!(
        "with locked as (
            select i.key
            from unnest($1::uuid[], $2::bigint[]) as o (key, observation_id)
            join idempotency as i on i.key = o.key and i.observation_id = o.observation_id
            order by i.key
            for update of i
        )
        delete from idempotency as i
        using locked as l
        where i.key = l.key",
        &keys,
        &observation_ids
    );
    in_time(deleted.execute(connection)).await?;
    Ok(())
}

/// Those of requests that have one.
pub fn retry_keys(requests: &[Request]) -> impl Iterator<Item = RetryKey> {
    requests.iter().filter_map(|request| request.retry_key)
}

/// Answers those that were recorded before, and leaves the others.
pub fn answer_repeated(requests: &mut Vec<Request>, originals: &Originals) {
    if originals.is_empty() {
        return;
    }
    let original = |request: &Request| originals.get(&request.retry_key?);
    for request in requests.extract_if(.., |request| original(request).is_some()) {
        let Some(original) = original(&request) else { continue };
        let outcome = match request.identifiers == original.identifiers {
            true => Ok(Outcome::RecordedBefore(original.id)),
            false => Err(NotRecorded::KeyReused),
        };
        request.answer(outcome);
    }
}

/// Takes out the requests whose key is busy, on its way into the ledger or being read for with another
/// request, be it one of these. They can be answered when that is there.
pub fn hold_back(requests: &mut Vec<Request>, is_busy: impl Fn(&RetryKey) -> bool) -> Vec<Request> {
    let mut seen = HashSet::new();
    let mut is_retry = |key| is_busy(&key) || !seen.insert(key);
    requests.extract_if(.., |request| request.retry_key.is_some_and(&mut is_retry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_of_version_7_stay_in_the_order_of_their_times() {
        let made = [
            "018f3a7e-0000-7fff-bfff-ffffffffffff",
            "\"018f3a7e-0001-7000-8000-000000000000\"",
            "018F3A7F-0000-7A00-9000-000000000000",
            "018f3a7f00017a009000000000000000",
        ];
        let kept = made.map(|key| RetryKey::new("shop", key.as_bytes()).as_uuid());
        assert!(kept.is_sorted());
        for (key, kept) in made.into_iter().zip(kept) {
            let time = key.replace(['"', '-'], "")[..12].to_lowercase();
            assert!(kept.simple().to_string().starts_with(&time), "{kept} of {key}");
            assert_eq!(kept.get_version(), Some(Version::Custom));
        }
    }

    #[test]
    fn keys_that_differ_in_anything_are_kept_apart() {
        let time = "018f3a7e-0000";
        let keys = [
            format!("{time}-7000-8000-000000000000"),
            format!("{time}-7000-8000-000000000001"),
            format!("\"{time}-7000-8000-000000000000\""),
            // Of version 4, and of none.
            format!("{time}-4000-8000-000000000000"),
            time.to_owned(),
        ];
        let callers = ["", "shop", "shop 2"];
        let kept: HashSet<_> = callers
            .iter()
            .flat_map(|caller| keys.iter().map(|key| RetryKey::new(caller, key.as_bytes())))
            .collect();
        assert_eq!(kept.len(), keys.len() * callers.len());
        // Nor does a part of the name pass for a part of the key.
        assert_ne!(RetryKey::new("shop", b"1x"), RetryKey::new("shop1", b"x"));
        let unlike = &keys[3..];
        let has_time = |key: &String| {
            RetryKey::new("", key.as_bytes()).as_uuid().to_string().starts_with(time)
        };
        assert!(!unlike.iter().any(has_time));
    }
}
