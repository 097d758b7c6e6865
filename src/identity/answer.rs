//! What a caller is told.

use super::id::ContactId;
use super::identifier::{Email, PhoneNumber};
use super::identities::Contact;

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
    /// The holder of a key is the oldest contact that has it, so showing what is held shows
    /// each value once, in its first spelling.
    pub fn of(contacts: &[Contact]) -> Self {
        let (primary, secondaries) = contacts.split_first().expect("an identity has a primary");
        let held_email = |contact: &Contact| {
            contact.email_key.as_ref()?;
            contact.email.clone()
        };
        let held_phone = |contact: &Contact| {
            contact.phone_key.as_ref()?;
            contact.phone_number.clone()
        };
        Self {
            primary_contact_id: primary.id,
            emails: contacts.iter().filter_map(held_email).collect(),
            phone_numbers: contacts.iter().filter_map(held_phone).collect(),
            secondary_contact_ids: secondaries.iter().map(|contact| contact.id).collect(),
        }
    }
}
