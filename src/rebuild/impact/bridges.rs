//! Which key makes an identity grow.

use super::sizes::{Bridge, Growth, Sizes};
use crate::identity::{ContactId, Key, Links, ObservationId, Rules};
use crate::ledger;
use sqlx::PgConnection;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Of an identity that is larger, only so many observations are looked at.
const OBSERVATIONS_LEN_MAX: usize = 100_000;
const CHUNK_LEN: usize = 10_000;

type KeyOfKind = (&'static str, Key);

/// The identities that grow most, each with the key that most of its former parts have in common.
pub async fn growing(
    owner: &mut PgConnection,
    sizes: &Sizes,
    before: &Links,
    after: &Links,
    rules: &Rules,
) -> Result<Vec<Growth>, sqlx::Error> {
    let mut growing = sizes.growing(before);
    let mut members: HashMap<ContactId, Vec<i64>> = growing
        .iter()
        .map(|growth| (ContactId::new(growth.primary_contact_id), Vec::new()))
        .collect();
    for id in (1..=after.last().get()).map(ObservationId::new) {
        let members = after.resolve(id).and_then(|primary| members.get_mut(&primary));
        if let Some(members) = members.filter(|members| members.len() < OBSERVATIONS_LEN_MAX) {
            members.push(id.get());
        }
    }
    for growth in &mut growing {
        let members = &members[&ContactId::new(growth.primary_contact_id)];
        growth.bridge = bridge(owner, members, before, rules).await?;
    }
    Ok(growing)
}

async fn bridge(
    owner: &mut PgConnection,
    members: &[i64],
    before: &Links,
    rules: &Rules,
) -> Result<Option<Bridge>, sqlx::Error> {
    let mut had: BTreeMap<KeyOfKind, HashSet<ContactId>> = BTreeMap::new();
    for chunk in members.chunks(CHUNK_LEN) {
        for seen in ledger::observations(&mut *owner, chunk).await? {
            let Some(former) = before.resolve(seen.id) else { continue };
            let Some(identifiers) = &seen.identifiers else { continue };
            let keys = rules.keys(identifiers);
            let email = keys.email.map(|key| ("email", key));
            let phone_number = keys.phone_number.map(|key| ("phoneNumber", key));
            for key in [email, phone_number].into_iter().flatten() {
                if key.1.is_link() {
                    had.entry(key).or_default().insert(former);
                }
            }
        }
    }
    let most = had
        .into_iter()
        .map(|(key, identities)| (identities.len(), key))
        .filter(|(identities, _)| *identities > 1)
        .max_by_key(|(identities, key)| (*identities, Reverse(key.clone())));
    Ok(most.map(|(identities, (identifier, key))| Bridge {
        identifier,
        key: key.as_str().to_owned(),
        identities,
    }))
}
