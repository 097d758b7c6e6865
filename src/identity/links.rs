//! The fold of a whole ledger in a few bytes an observation: who belongs to whom, and since when.

use super::event::Timestamp;
use super::fold::Change;
use super::id::{ContactId, ObservationId};
use super::identities::Link;
use chrono::DateTime;

/// All observations of a ledger. A contact points to the primary that it was linked to, which points
/// on if it has been demoted since. Any other observation points to the contact that it is filed under.
/// A union-find forest (Galler and Fischer, 1964), with path compression.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// Observation n is at place n - 1.
    entries: Vec<Entry>,
    contacts_len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The contact that this one points to; for a primary, itself.
    above: ContactId,
    /// When it was last moved, or when it was erased, in microseconds since the epoch.
    since_us: i64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No observation: a gap in the numbers, or one that was left out.
    Nobody,
    Contact,
    /// Filed under a contact.
    Filed,
    /// Was a contact when it was erased, and stays where it stood.
    Tombstone,
    /// Was filed under a contact when it was erased.
    Erased,
}

const NOBODY: Entry = Entry { above: ContactId::new(0), since_us: 0, kind: Kind::Nobody };

/// Where an observation stands after what was folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filing {
    /// It is a contact of its own, led by `primary`, which may be itself.
    Contact { primary: ContactId },
    /// It is filed under a contact.
    Under { contact: ContactId },
}

/// Where a contact stands after what was folded, or where it stood when it was erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub id: ContactId,
    pub link: Link,
    pub updated_at: Timestamp,
}

/// The largest gap that is believed. No real loss is as large, and memory would run out.
const SKIPPED_LEN_MAX: i64 = 1 << 31;
/// Number of observations: some 400 MB of address space, which take no memory before they are written.
const CAPACITY_MAX: usize = 1 << 24;

impl Links {
    /// Makes room for that many observations, up to a limit, since the number may be a damaged one. Beyond
    /// that it grows as they come.
    pub fn with_capacity(observations_len: usize) -> Self {
        let entries = Vec::with_capacity(observations_len.min(CAPACITY_MAX));
        Self { entries, contacts_len: 0 }
    }

    /// Number of contacts, without tombstones.
    pub fn contacts_len(&self) -> usize {
        self.contacts_len
    }

    /// The last observation, or 0 if there is none.
    pub fn last(&self) -> ObservationId {
        ObservationId::new(self.entries.len() as i64)
    }

    /// Every number up to the last observation's, in order, whatever became of it.
    pub fn ids(&self) -> impl Iterator<Item = ObservationId> + use<> {
        (1..=self.last().get()).map(ObservationId::new)
    }

    /// Whether `change` may be applied next: every number that it names has been given out, and nothing is
    /// filed under or led by a younger one. `apply` may panic on a change for which this is false.
    pub fn can_take(&self, change: Change<'_>) -> bool {
        let last = ContactId::from(self.last());
        let is_given = |id| self.entry(id).is_some_and(|entry| entry.kind != Kind::Nobody);
        let is_next = |id: ContactId| place_of(id) == Some(self.entries.len());
        match change {
            Change::Rules | Change::Erased { .. } => true,
            Change::Introduced { contact, primary } => {
                (is_given(contact) || is_next(contact))
                    && (primary == contact || primary < contact && is_given(primary))
            }
            Change::Filed { observation, under } => {
                let id = ContactId::from(observation);
                (is_given(id) || is_next(id)) && under < id && is_given(under)
            }
            Change::Linked { contact, primary } | Change::Demoted { contact, primary } => {
                is_given(contact) && primary < contact && is_given(primary)
            }
            Change::Promoted { contact } => is_given(contact),
            Change::Skipped { next } => {
                last < next.into() && next.get() - last.get() <= SKIPPED_LEN_MAX
            }
        }
    }

    /// Applies a change that `can_take` allows.
    pub fn apply(&mut self, change: Change<'_>, at: Timestamp) {
        let since_us = at.timestamp_micros();
        let is_contact = |above| Entry { above, since_us, kind: Kind::Contact };
        match change {
            // A contact that moves alone must not take along those that still point to it.
            Change::Rules => self.compress_all(),
            Change::Introduced { contact, primary }
            | Change::Linked { contact, primary }
            | Change::Demoted { contact, primary } => self.put(contact, is_contact(primary)),
            Change::Filed { observation, under } => {
                self.put(observation.into(), Entry { above: under, since_us, kind: Kind::Filed });
            }
            Change::Promoted { contact } => self.put(contact, is_contact(contact)),
            Change::Erased { observations, .. } => self.erase(observations, since_us),
            Change::Skipped { next } => self.skip_to(next),
        }
    }

    /// Leaves out an observation that was erased: its number was given out, and leads nowhere.
    pub fn leave_out(&mut self, observation: ObservationId) {
        self.put(observation.into(), NOBODY);
    }

    /// Leaves out all numbers up to that of the next observation.
    pub fn skip_to(&mut self, next: ObservationId) {
        self.entries.resize(self.entries.len().max(place(next.into())), NOBODY);
    }

    /// Whether a number up to the last one was left out.
    pub fn is_skipped(&self, observation: ObservationId) -> bool {
        self.entry(observation.into()).is_some_and(|entry| entry.kind == Kind::Nobody)
    }

    /// Where a contact stands, and since when. `None` for any other number.
    pub fn standing(&mut self, id: ContactId) -> Option<Standing> {
        self.find(id)?;
        self.entry(id).map(|entry| entry.standing(id))
    }

    /// Where a contact stood when it was erased, and when that was. `None` for any other number.
    pub fn tombstone(&self, id: ContactId) -> Option<Standing> {
        let entry = self.entry(id).filter(|entry| entry.kind == Kind::Tombstone)?;
        Some(entry.standing(id))
    }

    /// Where an observation stands. `None` for a number that was not given out yet, or was erased.
    pub fn filing(&self, observation: ObservationId) -> Option<Filing> {
        let id = ContactId::from(observation);
        let entry = self.entry(id)?;
        match entry.kind {
            Kind::Contact => Some(Filing::Contact { primary: self.root(id).0 }),
            Kind::Filed => Some(Filing::Under { contact: entry.above }),
            Kind::Nobody | Kind::Tombstone | Kind::Erased => None,
        }
    }

    /// The primary of a contact. `None` for any other number. Quick if compressed.
    pub fn contact_primary(&self, id: ContactId) -> Option<ContactId> {
        self.entry(id).filter(|entry| entry.kind == Kind::Contact)?;
        Some(self.root(id).0)
    }

    /// The primary of the identity that an observation belongs to, whether or not it is a contact. `None`
    /// for a number that was not given out yet, or was erased.
    pub fn primary_of(&self, id: ObservationId) -> Option<ContactId> {
        match self.filing(id)? {
            Filing::Contact { primary } => Some(primary),
            Filing::Under { contact } => self.contact_primary(contact),
        }
    }

    /// Answers as `contact_primary`, and compresses the way to the primary for the next question.
    pub fn find(&mut self, id: ContactId) -> Option<ContactId> {
        self.entry(id).filter(|entry| entry.kind == Kind::Contact)?;
        let (root, since_us) = self.root(id);
        self.compress(id, root, since_us);
        Some(root)
    }

    /// The contacts, in order of id.
    pub fn contacts(&self) -> impl Iterator<Item = ContactId> {
        let ids = self.ids().map(ContactId::from);
        ids.filter(|id| self.entries[place(*id)].kind == Kind::Contact)
    }

    /// The contacts and tombstones between two ids, both included, in order of id.
    pub fn rows_from(&self, from: ContactId, last: ContactId) -> impl Iterator<Item = ContactId> {
        let end = last.get().min(self.last().get());
        let ids = (from.get().max(1)..=end).map(ContactId::new);
        ids.filter(|id| matches!(self.entries[place(*id)].kind, Kind::Contact | Kind::Tombstone))
    }

    /// Number of contacts and tombstones.
    pub fn rows_len(&self) -> usize {
        self.rows_from(ContactId::new(1), self.last().into()).count()
    }

    /// The first observation that only one of the two states has. An erased observation counts as absent.
    pub fn first_unlike(&self, other: &Self) -> Option<ObservationId> {
        let mut ids = if self.last() < other.last() { other.ids() } else { self.ids() };
        ids.find(|id| self.is_here(*id) != other.is_here(*id))
    }

    /// The first observation that is still there though the primary of its identity was erased. There is
    /// none unless an erasure was recorded wrongly.
    pub fn left_over(&self) -> Option<ObservationId> {
        let is_erased = |entry: &Entry| matches!(entry.kind, Kind::Tombstone | Kind::Erased);
        let is_led_by_erased = |id| self.entry(self.root(id).0).is_none_or(is_erased);
        self.ids().find(|id| self.is_here(*id) && is_led_by_erased((*id).into()))
    }

    /// Points every contact straight to its primary, so that the next questions are quick.
    pub fn compress_all(&mut self) {
        // In order of id: what is on the way to a primary is mostly older, and so compressed already.
        for id in self.ids() {
            self.find(id.into());
        }
    }

    /// Whether an observation was given out and was not erased.
    fn is_here(&self, id: ObservationId) -> bool {
        let entry = self.entry(id.into());
        entry.is_some_and(|entry| matches!(entry.kind, Kind::Contact | Kind::Filed))
    }

    fn entry(&self, id: ContactId) -> Option<&Entry> {
        self.entries.get(place_of(id)?)
    }

    fn put(&mut self, id: ContactId, entry: Entry) {
        let place = place(id);
        if self.entries.len() <= place {
            self.entries.resize(place + 1, NOBODY);
        }
        let former = std::mem::replace(&mut self.entries[place], entry);
        self.contacts_len += usize::from(entry.kind == Kind::Contact);
        self.contacts_len -= usize::from(former.kind == Kind::Contact);
    }

    fn erase(&mut self, observations: &[ObservationId], since_us: i64) {
        let ids = || observations.iter().map(|id| ContactId::from(*id));
        // First point all of them straight to their primary: once it is erased, no way leads there.
        ids().for_each(|id| _ = self.find(id));
        for id in ids() {
            let Some(entry) = self.entry(id) else { continue };
            let kind = match entry.kind {
                Kind::Contact => Kind::Tombstone,
                Kind::Filed => Kind::Erased,
                Kind::Nobody | Kind::Tombstone | Kind::Erased => continue,
            };
            self.put(id, Entry { above: entry.above, since_us, kind });
        }
    }

    /// The primary of a contact, and since when it is that: the last link on the way up is the youngest,
    /// since only a primary gains secondaries.
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

    /// Points all contacts on the way to a primary straight to it.
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

impl Entry {
    fn standing(&self, id: ContactId) -> Standing {
        Standing {
            id,
            link: Link::of(id, self.above),
            updated_at: DateTime::from_timestamp_micros(self.since_us)
                .expect("a time that was recorded is a time"),
        }
    }
}

fn place(id: ContactId) -> usize {
    place_of(id).expect("numbers begin at 1")
}

fn place_of(id: ContactId) -> Option<usize> {
    usize::try_from(id.get().checked_sub(1)?).ok()
}
