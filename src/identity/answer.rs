//! The answer that a caller gets.

use super::id::ContactId;
use super::identifier::{Email, PhoneNumber};
use super::identities::Contact;
use super::key::Key;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// In contacts. A shorter answer is soon made and written, and nothing of it is kept.
pub(super) const LONG_ANSWER_LEN_MIN: usize = 100;

/// A consolidated identity: the primary's values first, then in order of contact id, each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub primary_contact_id: ContactId,
    pub emails: Vec<Email>,
    pub phone_numbers: Vec<PhoneNumber>,
    pub secondary_contact_ids: Vec<ContactId>,
    pub written: Written,
}

/// A long answer as it is sent, for all who get the same one. It goes with the answer: beside it, it
/// would outlive the memory of a customer who was erased.
// Says and compares nothing: it is no more than the answer, and would show identifiers in a log.
#[derive(Clone, Default)]
pub struct Written(OnceLock<Arc<[u8]>>);

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
            written: Written::default(),
        }
    }

    pub fn is_long(&self) -> bool {
        1 + self.secondary_contact_ids.len() >= LONG_ANSWER_LEN_MIN
    }
}

impl Written {
    /// Calls `write` only the first time.
    pub fn or_write(&self, write: impl FnOnce() -> Vec<u8>) -> Arc<[u8]> {
        self.0.get_or_init(|| write().into()).clone()
    }
}

impl PartialEq for Written {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Written {}

impl fmt::Debug for Written {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Written")
    }
}

fn shown<T: Clone>(contacts: &[Contact], value: impl Fn(&Contact) -> Option<(&Key, &T)>) -> Vec<T> {
    let mut seen = HashSet::new();
    let mut is_first = |key: &Key| key.is_link() || seen.insert(key.clone());
    let values = contacts.iter().filter_map(value);
    values.filter(|(key, _)| is_first(key)).map(|(_, value)| value.clone()).collect()
}
