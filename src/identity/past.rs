//! Where some observations stood at a position: the fold of what concerned them up to there.

use super::answer::Answer;
use super::event::Timestamp;
use super::fold::Change;
use super::holders::Holders;
use super::id::{ContactId, ObservationId};
use super::identities::{Contact, Link};
use super::links::Standing;
use super::observation::Identifiers;
use super::rules::Rules;
use std::collections::{BTreeMap, BTreeSet};

/// The state of some identities. It is right for an identity if all changes that concern its contacts
/// were applied, whatever other changes were or were not.
#[derive(Default)]
pub struct Past {
    primary_of: BTreeMap<ContactId, ContactId>,
    /// The contacts of each primary, itself included.
    led_by: BTreeMap<ContactId, BTreeSet<ContactId>>,
    filed_under: BTreeMap<ObservationId, ContactId>,
}

impl Past {
    /// Applies a change. Changes come in order.
    pub fn apply(&mut self, change: Change<'_>) {
        match change {
            Change::Rules | Change::Skipped { .. } => {}
            Change::Introduced { contact, primary } => {
                self.filed_under.insert(contact.into(), contact);
                self.lead(contact, primary);
            }
            Change::Filed { observation, under } => {
                self.filed_under.insert(observation, under);
                self.retire(observation.into());
            }
            Change::Linked { contact, primary } => self.lead(contact, primary),
            Change::Promoted { contact } => self.lead(contact, contact),
            Change::Demoted { contact, primary } => {
                for contact in self.led_by.remove(&contact).unwrap_or_default() {
                    self.primary_of.remove(&contact);
                    self.lead(contact, primary);
                }
            }
            Change::Erased { observations, .. } => {
                for observation in observations {
                    self.filed_under.remove(observation);
                    self.retire((*observation).into());
                }
            }
        }
    }

    /// The primary of the identity that an observation belonged to. `None` for a number that was not
    /// given out yet, or was erased.
    pub fn primary_of(&self, observation: ObservationId) -> Option<ContactId> {
        let contact = self.filed_under.get(&observation)?;
        self.primary_of.get(contact).copied()
    }

    /// Whether an observation was a contact of its own.
    pub fn is_contact(&self, observation: ObservationId) -> bool {
        self.primary_of.contains_key(&observation.into())
    }

    /// The observations that are known here, in order.
    pub fn observations(&self) -> impl Iterator<Item = ObservationId> {
        self.filed_under.keys().copied()
    }

    /// The answer for a primary, by these rules. `observed` says what a contact brought, and `None` for
    /// a contact that was erased since then, of which the number alone is shown.
    pub fn answer<'a>(
        &self,
        primary: ContactId,
        rules: &Rules,
        observed: impl Fn(ContactId) -> Option<&'a Identifiers>,
    ) -> Answer {
        let mut holders = Holders::default();
        let ids = self.led_by.get(&primary).into_iter().flatten().copied();
        let contacts = ids.map(|id| {
            // An answer has no times.
            let at = Timestamp::UNIX_EPOCH;
            let standing = Standing { id, link: Link::of(id, primary), updated_at: at };
            let Some(identifiers) = observed(id) else { return Contact::tombstone(standing, at) };
            let keys = rules.keys(identifiers);
            let holds = holders.claim(id, &keys);
            Contact::new(identifiers, keys, standing, holds, at)
        });
        Answer::of(&contacts.collect::<Vec<_>>())
    }

    fn lead(&mut self, contact: ContactId, primary: ContactId) {
        self.retire(contact);
        self.primary_of.insert(contact, primary);
        self.led_by.entry(primary).or_default().insert(contact);
    }

    /// Takes a contact, and no other, from the identity that it belonged to.
    fn retire(&mut self, contact: ContactId) {
        let Some(former) = self.primary_of.remove(&contact) else { return };
        if let Some(contacts) = self.led_by.get_mut(&former) {
            contacts.remove(&contact);
        }
    }
}
