//! Identities in memory: what the resolver consults and the fold builds.

use super::answer::{Answer, LONG_ANSWER_LEN_MIN};
use super::event::{Event, Timestamp};
use super::fold::{Change, fold};
use super::holders::Holds;
use super::id::ContactId;
use super::identifier::{Email, Field, PhoneNumber};
use super::key::Key;
use super::links::Standing;
use super::observation::{Identifiers, Keys};
use super::resolve::Known;
use foldhash::fast::RandomState;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

/// A contact: an observation that brought something new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    pub id: ContactId,
    pub email: Option<Email>,
    pub phone_number: Option<PhoneNumber>,
    /// The key of the email, if this is the oldest contact that has it, or if it never links.
    pub email_key: Option<Key>,
    /// The key of the phone number, if this is the oldest contact that has it, or if it never links.
    pub phone_key: Option<Key>,
    pub link: Link,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When it was erased, if it was: it is a tombstone since, without values and keys.
    pub deleted_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Primary,
    Secondary { of: ContactId },
}

impl Link {
    /// The link of a contact that `primary` leads, which may be the contact itself.
    pub fn of(contact: ContactId, primary: ContactId) -> Self {
        if contact == primary { Self::Primary } else { Self::Secondary { of: primary } }
    }
}

impl From<Option<ContactId>> for Link {
    fn from(linked_id: Option<ContactId>) -> Self {
        linked_id.map_or(Self::Primary, |of| Self::Secondary { of })
    }
}

/// The contacts of one customer in order of id. The first is the primary.
#[derive(Default)]
pub struct Identity {
    contacts: Vec<Contact>,
    /// The answer, if it is a long one and was made since the contacts changed last.
    answer: OnceCell<Arc<Answer>>,
}

/// Some identities, each of them whole.
#[derive(Default)]
pub struct Identities {
    by_primary: HashMap<ContactId, Identity, RandomState>,
    primary_of: HashMap<ContactId, ContactId, RandomState>,
    /// The holder of each key, by field.
    holders: [HashMap<Key, ContactId, RandomState>; 2],
}

impl Contact {
    /// A contact from what was observed and where it stands. It has those of its keys that it holds, and
    /// those that never link.
    pub fn new(
        identifiers: &Identifiers,
        keys: Keys,
        standing: Standing,
        holds: Holds,
        created_at: Timestamp,
    ) -> Self {
        Self {
            id: standing.id,
            email: identifiers.email().cloned(),
            phone_number: identifiers.phone_number().cloned(),
            email_key: keys.email.filter(|key| holds.email || !key.is_link()),
            phone_key: keys.phone_number.filter(|key| holds.phone_number || !key.is_link()),
            link: standing.link,
            created_at,
            updated_at: standing.updated_at,
            deleted_at: None,
        }
    }

    /// What is left of a contact that was erased. It stands where it stood when that happened.
    pub fn tombstone(standing: Standing, created_at: Timestamp) -> Self {
        Self {
            id: standing.id,
            email: None,
            phone_number: None,
            email_key: None,
            phone_key: None,
            link: standing.link,
            created_at,
            updated_at: standing.updated_at,
            deleted_at: Some(standing.updated_at),
        }
    }

    pub fn key(&self, field: Field) -> Option<&Key> {
        match field {
            Field::Email => self.email_key.as_ref(),
            Field::PhoneNumber => self.phone_key.as_ref(),
        }
    }

    /// The keys that it has, the email's first.
    pub fn keys(&self) -> impl Iterator<Item = (Field, &Key)> {
        let fields = [Field::Email, Field::PhoneNumber];
        fields.into_iter().filter_map(|field| Some((field, self.key(field)?)))
    }

    pub fn primary(&self) -> ContactId {
        self.linked_id().unwrap_or(self.id)
    }

    pub fn linked_id(&self) -> Option<ContactId> {
        match self.link {
            Link::Primary => None,
            Link::Secondary { of } => Some(of),
        }
    }

    /// The link in the words of the contact table.
    pub fn link_precedence(&self) -> &'static str {
        match self.link {
            Link::Primary => "primary",
            Link::Secondary { .. } => "secondary",
        }
    }

    fn link_to(&mut self, primary: ContactId, at: Timestamp) {
        self.link = Link::Secondary { of: primary };
        self.updated_at = at;
    }
}

impl Identity {
    pub fn contacts(&self) -> &[Contact] {
        &self.contacts
    }

    pub fn answer(&self) -> Arc<Answer> {
        let new = || Arc::new(Answer::of(&self.contacts));
        match self.contacts.len() {
            LONG_ANSWER_LEN_MIN.. => self.answer.get_or_init(new).clone(),
            _ => new(),
        }
    }

    fn contacts_mut(&mut self) -> &mut Vec<Contact> {
        self.answer.take();
        &mut self.contacts
    }

    fn insert(&mut self, contact: Contact) {
        let place = self.contacts.partition_point(|other| other.id < contact.id);
        self.contacts_mut().insert(place, contact);
    }
}

/// Panics for a contact that is not here. A holder's primary always is, since identities are whole.
impl Known for Identities {
    type Key = Key;

    fn is_link(key: &Key) -> bool {
        key.is_link()
    }

    fn holder(&self, field: Field, key: &Key) -> Option<ContactId> {
        self.holders[field as usize].get(key).copied()
    }

    fn primary_of(&mut self, contact: ContactId) -> ContactId {
        self.primary(contact)
    }

    fn shows(&self, primary: ContactId, field: Field, key: &Key) -> bool {
        let identity = self.by_primary.get(&primary);
        let mut contacts = identity.into_iter().flat_map(|identity| &identity.contacts);
        contacts.any(|contact| contact.key(field) == Some(key))
    }
}

impl Identities {
    /// The primary of a contact. Panics for a contact that is not here.
    pub fn primary(&self, contact: ContactId) -> ContactId {
        self.primary_of[&contact]
    }

    /// The identity of a contact. Panics for a contact that is not here.
    pub fn identity_of(&self, contact: ContactId) -> &Identity {
        &self.by_primary[&self.primary(contact)]
    }

    /// Panics for a contact that is not here.
    pub fn contact(&self, id: ContactId) -> &Contact {
        let contacts = self.identity_of(id).contacts();
        let place = contacts.binary_search_by_key(&id, |contact| contact.id);
        &contacts[place.expect("an identity holds the contacts that are filed under it")]
    }

    fn insert(&mut self, contact: Contact) {
        let primary = contact.primary();
        self.primary_of.insert(contact.id, primary);
        for (field, key) in contact.keys().filter(|(_, key)| key.is_link()) {
            self.holders[field as usize].insert(key.clone(), contact.id);
        }
        self.by_primary.entry(primary).or_default().insert(contact);
    }

    /// Number of contacts that are here.
    pub fn contacts_len(&self) -> usize {
        self.primary_of.len()
    }

    /// The identity that a contact leads. `None` if it leads none that is here.
    pub fn led_by(&self, primary: ContactId) -> Option<&Identity> {
        self.by_primary.get(&primary)
    }

    /// Takes in whole identities as the contact table has them, and returns the primaries of those that
    /// were not here. Contacts that are here already stay as they are, since they are newer.
    pub fn take_in(&mut self, contacts: Vec<Contact>) -> Vec<ContactId> {
        let here = |contact: &Contact| self.primary_of.contains_key(&contact.id);
        let news: Vec<_> = contacts.into_iter().filter(|contact| !here(contact)).collect();
        let primaries = news.iter().filter(|contact| contact.link == Link::Primary);
        let primaries = primaries.map(|contact| contact.id).collect();
        news.into_iter().for_each(|contact| self.insert(contact));
        primaries
    }

    /// Removes an identity, as if it had never been here.
    pub fn remove(&mut self, primary: ContactId) {
        let Some(identity) = self.by_primary.remove(&primary) else { return };
        for contact in identity.contacts {
            self.primary_of.remove(&contact.id);
            for (field, key) in contact.keys() {
                self.holders[field as usize].remove(key);
            }
        }
    }

    /// Folds an event of an observation in. `identifiers` and `keys` are the observation's. Panics for a
    /// rule change or an erasure: after these, identities are read again.
    pub fn apply(&mut self, event: &Event, identifiers: &Identifiers, keys: &Keys) {
        let at = event.recorded_at;
        match fold(&event.fact) {
            Change::Introduced { contact: id, .. } => {
                let standing = Standing { id, link: Link::Primary, updated_at: at };
                let holds = self.unheld(keys);
                self.insert(Contact::new(identifiers, keys.clone(), standing, holds, at));
            }
            Change::Filed { .. } | Change::Skipped { .. } => {}
            Change::Linked { contact, primary } | Change::Demoted { contact, primary } => {
                self.relink(contact, primary, at);
            }
            Change::Rules | Change::Promoted { .. } | Change::Erased { .. } => {
                unreachable!("after a rule change or an erasure identities are read again")
            }
        }
    }

    /// Which of its keys a new contact holds: those that no older contact has.
    fn unheld(&self, keys: &Keys) -> Holds {
        let is_unheld = |field, key: &Option<Key>| {
            key.as_ref().is_some_and(|key| self.holder(field, key).is_none())
        };
        Holds {
            email: is_unheld(Field::Email, &keys.email),
            phone_number: is_unheld(Field::PhoneNumber, &keys.phone_number),
        }
    }

    fn relink(&mut self, demoted: ContactId, primary: ContactId, at: Timestamp) {
        let moved = self.by_primary.remove(&demoted).expect("only a primary is linked to another");
        let identity = self.by_primary.get_mut(&primary).expect("a primary is known");
        for mut contact in moved.contacts {
            contact.link_to(primary, at);
            self.primary_of.insert(contact.id, primary);
            identity.contacts_mut().push(contact);
        }
        // Two sorted runs, which Rust's merge sort finds and joins in linear time.
        identity.contacts_mut().sort_by_key(|contact| contact.id);
    }
}
