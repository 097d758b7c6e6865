//! A whole ledger decided from its observations, in a few bytes each.

use super::event::Timestamp;
use super::fact::Matched;
use super::fold::Change;
use super::holders::{HashedKey, Holders, KeyHash};
use super::id::{ContactId, ObservationId};
use super::identifier::Field;
use super::links::Links;
use super::observation::Keys;
use super::resolve::{Decision, Known, resolve};
use std::collections::{HashMap, HashSet};

/// The state that a ledger would be in had the rules been in force from the start: every observation
/// is resolved in order, and folded. It is told the keys alone, so the caller chooses the rules.
#[derive(Default)]
pub struct Census {
    pub links: Links,
    pub holders: Holders,
    /// By primary, the values of an identity that never link.
    unlinked: HashMap<ContactId, HashSet<KeyHash>>,
}

/// Number of observations whose holders are fetched from memory at the same time.
const GROUP_LEN: usize = 32;

/// An observation, when it was made, and its keys unless it was erased.
pub type Dated = (ObservationId, Timestamp, Option<Keys>);

impl Census {
    /// Makes room for that many observations, as [`Links::with_capacity`] does.
    pub fn with_capacity(observations_len: usize) -> Self {
        Self { links: Links::with_capacity(observations_len), ..Self::default() }
    }

    /// Resolves the next observation, and folds what was decided.
    pub fn observe(&mut self, id: ObservationId, keys: &Keys, at: Timestamp) -> Decision {
        self.observe_hashed(id, &HashedKey::of_all(keys), at)
    }

    /// Resolves the next observations, and returns a decision for each that was not erased. Faster than
    /// one by one if the processor's cache has no room for all holders: group prefetching (Chen et al.,
    /// Improving hash join performance through prefetching, 2004).
    pub fn observe_all(&mut self, seen: &[Dated]) -> Vec<Decision> {
        let mut decisions = Vec::with_capacity(seen.len());
        let mut hashed = Vec::with_capacity(GROUP_LEN);
        for group in seen.chunks(GROUP_LEN) {
            hashed.clear();
            hashed.extend(group.iter().map(|(.., keys)| keys.as_ref().map(HashedKey::of_all)));
            for keys in hashed.iter().flatten() {
                self.holders.touch(keys);
            }
            for ((id, at, _), keys) in group.iter().zip(&hashed) {
                match keys {
                    Some(keys) => decisions.push(self.observe_hashed(*id, keys, *at)),
                    None => self.leave_out(*id),
                }
            }
        }
        decisions
    }

    fn observe_hashed(
        &mut self,
        id: ObservationId,
        keys: &Keys<HashedKey>,
        at: Timestamp,
    ) -> Decision {
        let decision = resolve(self, id, keys);
        for change in decision.changes().into_iter().flatten() {
            self.links.apply(change, at);
            if let Change::Demoted { contact, primary } = change {
                self.merge_unlinked(contact, primary);
            }
        }
        if decision.introduces() {
            self.holders.claim_hashed(decision.contact_id, keys);
            self.note_unlinked(&decision, keys);
        }
        decision
    }

    /// Skips an observation that was erased: the others are decided as if it had never been made.
    pub fn leave_out(&mut self, id: ObservationId) {
        self.links.leave_out(id);
    }

    fn note_unlinked(&mut self, decision: &Decision, keys: &Keys<HashedKey>) {
        let email = decision.email.zip(keys.email);
        let phone_number = decision.phone_number.zip(keys.phone_number);
        for (matched, key) in [email, phone_number].into_iter().flatten() {
            if matched == Matched::NeverLinks {
                self.unlinked.entry(decision.primary_id).or_default().insert(key.hash);
            }
        }
    }

    fn merge_unlinked(&mut self, demoted: ContactId, primary: ContactId) {
        let Some(mut fewer) = self.unlinked.remove(&demoted) else { return };
        let values = self.unlinked.entry(primary).or_default();
        if values.len() < fewer.len() {
            std::mem::swap(values, &mut fewer);
        }
        values.extend(fewer);
    }
}

/// No method asks for the field, since the hash of a key covers it.
impl Known for Census {
    type Key = HashedKey;

    fn is_link(key: &HashedKey) -> bool {
        key.is_link
    }

    fn holder(&self, _: Field, key: &HashedKey) -> Option<ContactId> {
        self.holders.holder(key)
    }

    fn primary_of(&mut self, contact: ContactId) -> ContactId {
        self.links.find(contact).expect("a holder is a contact")
    }

    fn shows(&self, primary: ContactId, _: Field, key: &HashedKey) -> bool {
        self.unlinked.get(&primary).is_some_and(|values| values.contains(&key.hash))
    }
}
