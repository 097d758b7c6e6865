//! The fold of a whole ledger in a few bytes an observation: who belongs to whom, since when.

use super::event::Timestamp;
use super::fold::Change;
use super::id::{ContactId, ObservationId};
use chrono::DateTime;

/// All observations of a ledger: a contact points to the primary that it was linked to, which
/// may have been demoted since and then points on; what is no contact points to the one that it
/// is filed under. A union-find forest (Galler and Fischer, 1964), compressed when it is asked.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// Observation n stands at n - 1.
    entries: Vec<Entry>,
    contacts_len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Itself for a primary.
    above: ContactId,
    /// When the entry got its place. In microseconds.
    since_us: i64,
    is_contact: bool,
}

/// What fills a gap in the numbers.
const NOBODY: Entry = Entry { above: ContactId::new(0), since_us: 0, is_contact: false };

/// Where an observation stands at the end of what was folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filing {
    /// It is a contact of its own, led by `primary`, which may be itself.
    Contact { primary: ContactId },
    /// It is filed under a contact.
    Under { contact: ContactId },
}

/// Where a contact stands at the end of what was folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub id: ContactId,
    pub linked_id: Option<ContactId>,
    pub updated_at: Timestamp,
}

impl Links {
    /// Has room for that many observations.
    pub fn with_capacity(observations_len: usize) -> Self {
        Self { entries: Vec::with_capacity(observations_len), contacts_len: 0 }
    }

    /// How many contacts there are.
    pub fn len(&self) -> usize {
        self.contacts_len
    }

    pub fn is_empty(&self) -> bool {
        self.contacts_len == 0
    }

    /// The last observation; 0 before the first.
    pub fn last(&self) -> ObservationId {
        ObservationId::new(self.entries.len() as i64)
    }

    /// Folds a change in.
    pub fn apply(&mut self, change: Change, at: Timestamp) {
        let since_us = at.timestamp_micros();
        match change {
            // What is to move alone must not take along whoever still points to it.
            Change::Rules => self.compress_all(),
            Change::Introduced { contact, primary } => {
                self.put(contact, Entry { above: primary, since_us, is_contact: true });
            }
            Change::Filed { observation, under } => {
                let entry = Entry { above: under, since_us, is_contact: false };
                self.put(observation.into(), entry);
            }
            Change::Linked { contact, primary } | Change::Demoted { contact, primary } => {
                self.put(contact, Entry { above: primary, since_us, is_contact: true });
            }
            Change::Promoted { contact } => {
                self.put(contact, Entry { above: contact, since_us, is_contact: true });
            }
        }
    }

    /// `None` for a number that is no contact.
    pub fn standing(&mut self, id: ContactId) -> Option<Standing> {
        let primary = self.find(id)?;
        let since_us = self.entries[place(id)].since_us;
        Some(Standing {
            id,
            linked_id: Some(primary).filter(|primary| *primary != id),
            updated_at: DateTime::from_timestamp_micros(since_us)
                .expect("a time that was recorded is a time"),
        })
    }

    /// `None` for a number that was not given yet.
    pub fn filing(&self, observation: ObservationId) -> Option<Filing> {
        let id = ContactId::from(observation);
        let entry = self.entry(id).filter(|entry| entry.above != NOBODY.above)?;
        Some(match entry.is_contact {
            true => Filing::Contact { primary: self.root(id).0 },
            false => Filing::Under { contact: entry.above },
        })
    }

    /// The primary of a contact; `None` for a number that is no contact. Quick where compressed.
    pub fn contact_primary(&self, id: ContactId) -> Option<ContactId> {
        self.entry(id).filter(|entry| entry.is_contact)?;
        Some(self.root(id).0)
    }

    /// The primary that a number resolves to, be it a contact's or not.
    pub fn resolve(&self, id: ObservationId) -> Option<ContactId> {
        match self.filing(id)? {
            Filing::Contact { primary } => Some(primary),
            Filing::Under { contact } => self.contact_primary(contact),
        }
    }

    /// As `contact_primary`, and makes the next question quicker.
    pub fn find(&mut self, id: ContactId) -> Option<ContactId> {
        self.entry(id).filter(|entry| entry.is_contact)?;
        let (root, since_us) = self.root(id);
        self.compress(id, root, since_us);
        Some(root)
    }

    /// The contacts after a given one, up to and including another, in order of id.
    pub fn between(&self, after: ContactId, last: ContactId) -> impl Iterator<Item = ContactId> {
        let end = last.get().min(self.last().get());
        let ids = (after.get().max(0) + 1..=end).map(ContactId::new);
        ids.filter(|id| self.entries[place(*id)].is_contact)
    }

    /// Points every contact straight to its primary, so that the next questions are quick.
    pub fn compress_all(&mut self) {
        // In order of id a contact's older primaries come first, but for rule changes.
        for id in 1..=self.last().get() {
            self.find(ContactId::new(id));
        }
    }

    fn entry(&self, id: ContactId) -> Option<&Entry> {
        self.entries.get(usize::try_from(id.get() - 1).ok()?)
    }

    fn put(&mut self, id: ContactId, entry: Entry) {
        let place = place(id);
        if self.entries.len() <= place {
            self.entries.resize(place + 1, NOBODY);
        }
        let former = std::mem::replace(&mut self.entries[place], entry);
        self.contacts_len += usize::from(entry.is_contact);
        self.contacts_len -= usize::from(former.is_contact);
    }

    /// The primary above a contact, and since when: the last link on the way up is the youngest,
    /// for only a primary gains secondaries.
    fn root(&self, mut id: ContactId) -> (ContactId, i64) {
        let mut entry = &self.entries[place(id)];
        let mut since_us = entry.since_us;
        while entry.above != id {
            since_us = entry.since_us;
            id = entry.above;
            entry = &self.entries[place(id)];
        }
        (id, since_us)
    }

    fn compress(&mut self, mut id: ContactId, root: ContactId, since_us: i64) {
        loop {
            let entry = &mut self.entries[place(id)];
            let above = entry.above;
            if above == root {
                return;
            }
            entry.above = root;
            entry.since_us = since_us;
            id = above;
        }
    }
}

fn place(id: ContactId) -> usize {
    usize::try_from(id.get() - 1).expect("numbers begin at 1")
}
