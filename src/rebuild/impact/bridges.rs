//! Which key makes an identity grow.

use super::sizes::{Bridge, Growth, Sizes};
use crate::identity::{ContactId, Field, Key, Links, Rules};
use crate::ledger;
use sqlx::PgConnection;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Number of observations that are looked at in one identity.
const OBSERVATIONS_LEN_MAX: usize = 100_000;
const CHUNK_LEN: usize = 10_000;

/// What an identity that grows is made of.
#[derive(Default)]
struct Members {
    /// The observations that are looked at.
    observations: Vec<i64>,
    /// The identities that all of its observations belonged to before.
    former: HashSet<ContactId>,
}

/// The identities that grow most, each with the key that most of its former parts have in common.
pub async fn growing(
    owner: &mut PgConnection,
    sizes: &Sizes<'_>,
    rules: &Rules,
) -> Result<Vec<Growth>, sqlx::Error> {
    let Sizes { links_before: before, links_after: after, .. } = sizes;
    let primaries = sizes.growing();
    let mut all: HashMap<_, _> = primaries.iter().map(|id| (*id, Members::default())).collect();
    for id in after.ids() {
        let members = after.primary_of(id).and_then(|primary| all.get_mut(&primary));
        let Some(members) = members else { continue };
        members.former.extend(before.primary_of(id));
        if members.observations.len() < OBSERVATIONS_LEN_MAX {
            members.observations.push(id.get());
        }
    }
    let mut growing = Vec::new();
    for primary in primaries {
        let members = &all[&primary];
        growing.push(Growth {
            primary_contact_id: primary.get(),
            contacts_before: sizes.before(primary),
            contacts_after: sizes.after(primary),
            identities: members.former.len(),
            bridge: bridge(owner, &members.observations, before, rules).await?,
        });
    }
    Ok(growing)
}

async fn bridge(
    owner: &mut PgConnection,
    observations: &[i64],
    before: &Links,
    rules: &Rules,
) -> Result<Option<Bridge>, sqlx::Error> {
    let mut had: BTreeMap<(Field, Key), HashSet<ContactId>> = BTreeMap::new();
    for chunk in observations.chunks(CHUNK_LEN) {
        for seen in ledger::observations(&mut *owner, chunk).await? {
            let Some(former) = before.primary_of(seen.id) else { continue };
            let Some(identifiers) = &seen.identifiers else { continue };
            let keys = rules.keys(identifiers);
            for (field, key) in keys.each().filter(|(_, key)| key.is_link()) {
                had.entry((field, key.clone())).or_default().insert(former);
            }
        }
    }
    let most = had
        .into_iter()
        .map(|(key, identities)| (identities.len(), key))
        .filter(|(identities, _)| *identities > 1)
        .max_by_key(|(identities, key)| (*identities, Reverse(key.clone())));
    Ok(most.map(|(identities, (field, key))| Bridge {
        identifier: field.name(),
        key: key.as_str().to_owned(),
        identities,
    }))
}
