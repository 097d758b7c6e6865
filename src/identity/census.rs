//! A whole ledger decided from its observations, in a few bytes each.

use super::event::{Matched, Timestamp};
use super::fold::Change;
use super::holders::{Holders, KeyHash};
use super::id::{ContactId, ObservationId};
use super::key::Key;
use super::links::Links;
use super::observation::Keys;
use super::resolve::{Decision, Known, resolve};
use std::collections::HashMap;

/// What a ledger would be that had these keys' rules from the start: every observation resolved
/// in order, and folded.
#[derive(Default)]
pub struct Census {
    pub links: Links,
    pub holders: Holders,
    /// The values of each identity that never link, where it has any.
    unlinked: HashMap<ContactId, Vec<KeyHash>>,
}

impl Census {
    /// Has room for that many observations.
    pub fn with_capacity(observations_len: usize) -> Self {
        Self { links: Links::with_capacity(observations_len), ..Self::default() }
    }

    /// Resolves the next observation, and folds what was decided.
    pub fn observe(&mut self, id: ObservationId, keys: &Keys, at: Timestamp) -> Decision {
        let decision = resolve(self, id, keys);
        for change in decision.changes().into_iter().flatten() {
            self.links.apply(change, at);
            if let Change::Demoted { contact, primary } = change {
                self.merge_unlinked(contact, primary);
            }
        }
        if decision.introduces() {
            self.holders.claim(decision.contact_id, keys);
            self.note_unlinked(&decision, keys);
        }
        decision
    }

    fn note_unlinked(&mut self, decision: &Decision, keys: &Keys) {
        let email = decision.email.zip(keys.email.as_ref());
        let phone = decision.phone_number.zip(keys.phone_number.as_ref());
        let email = email.map(|(matched, key)| (matched, KeyHash::of_email(key)));
        let phone = phone.map(|(matched, key)| (matched, KeyHash::of_phone(key)));
        for (matched, hash) in [email, phone].into_iter().flatten() {
            if matched == Matched::NeverLinks {
                self.unlinked.entry(decision.primary_id).or_default().push(hash);
            }
        }
    }

    fn merge_unlinked(&mut self, demoted: ContactId, primary: ContactId) {
        if let Some(values) = self.unlinked.remove(&demoted) {
            self.unlinked.entry(primary).or_default().extend(values);
        }
    }

    fn shows(&self, primary: ContactId, hash: KeyHash) -> bool {
        self.unlinked.get(&primary).is_some_and(|values| values.contains(&hash))
    }
}

impl Known for Census {
    fn email_holder(&self, key: &Key) -> Option<ContactId> {
        self.holders.email_holder(key)
    }

    fn phone_holder(&self, key: &Key) -> Option<ContactId> {
        self.holders.phone_holder(key)
    }

    fn primary_of(&mut self, contact: ContactId) -> ContactId {
        self.links.find(contact).expect("a holder is a contact")
    }

    fn shows_email(&self, primary: ContactId, key: &Key) -> bool {
        self.shows(primary, KeyHash::of_email(key))
    }

    fn shows_phone(&self, primary: ContactId, key: &Key) -> bool {
        self.shows(primary, KeyHash::of_phone(key))
    }
}
