//! The fold of a whole ledger in a few bytes a contact: who belongs to whom, since when.

use super::event::{Event, Timestamp};
use super::fold::{Change, fold};
use super::id::ContactId;
use chrono::DateTime;

/// All contacts of a ledger by id, as trees: a contact points to the primary that it was
/// linked to, which may have been demoted since and then points on. A union-find forest
/// (Galler and Fischer, 1964) that is compressed when it is asked.
#[derive(Default)]
pub struct Links {
    /// In order of id: contacts are introduced so.
    entries: Vec<Entry>,
}

struct Entry {
    id: ContactId,
    parent: Option<ContactId>,
    /// When the entry got its parent; before that, when it was introduced. In microseconds.
    since_us: i64,
    holds_email: bool,
    holds_phone: bool,
}

/// Where a contact stands at the end of what was folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub id: ContactId,
    pub linked_id: Option<ContactId>,
    pub updated_at: Timestamp,
    pub holds_email: bool,
    pub holds_phone: bool,
}

impl Links {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Folds an event in; returns the contact that changed. A demoted primary's secondaries
    /// change with it.
    pub fn apply(&mut self, event: &Event) -> Option<ContactId> {
        let since_us = event.recorded_at.timestamp_micros();
        match fold(event)? {
            Change::Introduced { contact: id, holds_email, holds_phone } => {
                let last = self.entries.last().map(|entry| entry.id);
                assert!(last < Some(id), "contacts are introduced in order of id");
                self.entries.push(Entry { id, parent: None, since_us, holds_email, holds_phone });
                Some(id)
            }
            Change::Linked { contact, primary } | Change::Demoted { contact, primary } => {
                let place =
                    self.place(contact).expect("a contact is introduced before it is linked");
                let entry = &mut self.entries[place];
                entry.parent = Some(primary);
                entry.since_us = since_us;
                Some(contact)
            }
        }
    }

    /// `None` for a number that is no contact.
    pub fn standing(&mut self, id: ContactId) -> Option<Standing> {
        let place = self.place(id)?;
        Some(self.standing_at(place))
    }

    /// The contacts after a given one, up to and including another, in order of id.
    pub fn between(&self, after: ContactId, last: ContactId) -> impl Iterator<Item = ContactId> {
        let from = self.entries.partition_point(|entry| entry.id <= after);
        self.entries[from..].iter().map(|entry| entry.id).take_while(move |id| *id <= last)
    }

    fn place(&self, id: ContactId) -> Option<usize> {
        self.entries.binary_search_by_key(&id, |entry| entry.id).ok()
    }

    fn standing_at(&mut self, place: usize) -> Standing {
        let (root, since_us) = self.root(place);
        self.compress(place, root, since_us);
        let entry = &self.entries[place];
        Standing {
            id: entry.id,
            linked_id: entry.parent,
            updated_at: DateTime::from_timestamp_micros(entry.since_us)
                .expect("a time that was recorded is a time"),
            holds_email: entry.holds_email,
            holds_phone: entry.holds_phone,
        }
    }

    /// The primary above an entry, and since when: the last link on the way up is the youngest,
    /// for only a primary gains secondaries.
    fn root(&self, place: usize) -> (ContactId, i64) {
        let mut entry = &self.entries[place];
        let mut since_us = entry.since_us;
        while let Some(parent) = entry.parent {
            since_us = entry.since_us;
            let place = self.place(parent).expect("a primary is a contact");
            entry = &self.entries[place];
        }
        (entry.id, since_us)
    }

    fn compress(&mut self, mut place: usize, root: ContactId, since_us: i64) {
        while let Some(parent) = self.entries[place].parent.filter(|parent| *parent != root) {
            self.entries[place].parent = Some(root);
            self.entries[place].since_us = since_us;
            place = self.place(parent).expect("a primary is a contact");
        }
    }
}
