//! The answer that a caller gets.

use super::id::ContactId;
use super::identifier::{Email, PhoneNumber};
use super::identities::Contact;
use super::key::Key;
use std::collections::HashSet;

/// A consolidated identity: the primary's values first, then in order of contact id, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub primary_contact_id: ContactId,
    pub emails: Vec<Email>,
    pub phone_numbers: Vec<PhoneNumber>,
    pub secondary_contact_ids: Vec<ContactId>,
}

impl Answer {
    /// Expects all contacts of one identity in order of id; the first is the primary.
    ///
    /// A key stands with its holder alone, which is the oldest contact that has it. So each value is shown
    /// once, in its first spelling. A value that never links stands with every contact that has it, and
    /// the first of them is shown.
    pub fn of(contacts: &[Contact]) -> Self {
        let (primary, secondaries) = contacts.split_first().expect("an identity has a primary");
        Self {
            primary_contact_id: primary.id,
            emails: shown(contacts, |contact| {
                contact.email_key.as_ref().zip(contact.email.as_ref())
            }),
            phone_numbers: shown(contacts, |contact| {
                contact.phone_key.as_ref().zip(contact.phone_number.as_ref())
            }),
            secondary_contact_ids: secondaries.iter().map(|contact| contact.id).collect(),
        }
    }
}

fn shown<T: Clone>(contacts: &[Contact], value: impl Fn(&Contact) -> Option<(&Key, &T)>) -> Vec<T> {
    let mut seen = HashSet::new();
    let mut is_first = |key: &Key| key.is_link() || seen.insert(key.clone());
    let values = contacts.iter().filter_map(value);
    values.filter(|(key, _)| is_first(key)).map(|(_, value)| value.clone()).collect()
}
