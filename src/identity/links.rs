//! The fold of a whole ledger in a few bytes an observation: who belongs to whom, since when.

use super::event::Timestamp;
use super::fold::Change;
use super::id::{ContactId, ObservationId};
use super::identities::Link;
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
    /// When the entry got its place, or was erased. In microseconds.
    since_us: i64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A gap in the numbers.
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

/// Where an observation stands at the end of what was folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filing {
    /// It is a contact of its own, led by `primary`, which may be itself.
    Contact { primary: ContactId },
    /// It is filed under a contact.
    Under { contact: ContactId },
}

/// Where a contact stands at the end of what was folded; an erased one, where it stood then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub id: ContactId,
    pub linked_id: Option<ContactId>,
    pub updated_at: Timestamp,
}

/// Nobody has lost as many numbers: it would be somebody who wants memory to run out.
const SKIPPED_LEN_MAX: i64 = 1 << 31;
/// In observations: some 400 MB, none of it used before there are as many.
const CAPACITY_MAX: usize = 1 << 24;

impl Links {
    /// Has room for that many observations, or grows as they come where they are very many: the number
    /// may be one that was damaged.
    pub fn with_capacity(observations_len: usize) -> Self {
        let entries = Vec::with_capacity(observations_len.min(CAPACITY_MAX));
        Self { entries, contacts_len: 0 }
    }

    /// How many contacts there are, tombstones left out.
    pub fn contacts_len(&self) -> usize {
        self.contacts_len
    }

    /// The last observation; 0 before the first.
    pub fn last(&self) -> ObservationId {
        ObservationId::new(self.entries.len() as i64)
    }

    /// Whether a change can follow those before it: it names numbers that were given, and nobody
    /// is under a younger one. Panics may follow where such a change is folded in.
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

    /// Folds a change in, which `can_take` allows.
    pub fn apply(&mut self, change: Change<'_>, at: Timestamp) {
        let since_us = at.timestamp_micros();
        let is_contact = |above| Entry { above, since_us, kind: Kind::Contact };
        match change {
            // What is to move alone must not take along whoever still points to it.
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

    /// Leaves out an observation that was erased before: its number was given, to nobody.
    pub fn leave_out(&mut self, observation: ObservationId) {
        self.put(observation.into(), NOBODY);
    }

    /// Gives no number before the next observation's to anybody.
    pub fn skip_to(&mut self, next: ObservationId) {
        self.entries.resize(self.entries.len().max(place(next.into())), NOBODY);
    }

    /// Whether a number is nobody's, up to the last one.
    pub fn is_skipped(&self, observation: ObservationId) -> bool {
        self.entry(observation.into()).is_some_and(|entry| entry.kind == Kind::Nobody)
    }

    /// `None` for a number that is no contact.
    pub fn standing(&mut self, id: ContactId) -> Option<Standing> {
        self.find(id)?;
        self.entry(id).map(|entry| entry.standing(id))
    }

    /// Where a contact stood when it was erased, and when that was; `None` for any other number.
    pub fn tombstone(&self, id: ContactId) -> Option<Standing> {
        let entry = self.entry(id).filter(|entry| entry.kind == Kind::Tombstone)?;
        Some(entry.standing(id))
    }

    /// `None` for a number that was not given yet, or erased.
    pub fn filing(&self, observation: ObservationId) -> Option<Filing> {
        let id = ContactId::from(observation);
        let entry = self.entry(id)?;
        match entry.kind {
            Kind::Contact => Some(Filing::Contact { primary: self.root(id).0 }),
            Kind::Filed => Some(Filing::Under { contact: entry.above }),
            Kind::Nobody | Kind::Tombstone | Kind::Erased => None,
        }
    }

    /// The primary of a contact; `None` for a number that is no contact. Quick where compressed.
    pub fn contact_primary(&self, id: ContactId) -> Option<ContactId> {
        self.entry(id).filter(|entry| entry.kind == Kind::Contact)?;
        Some(self.root(id).0)
    }

    /// The primary that a number resolves to, be it a contact's or not.
    pub fn primary_of(&self, id: ObservationId) -> Option<ContactId> {
        match self.filing(id)? {
            Filing::Contact { primary } => Some(primary),
            Filing::Under { contact } => self.contact_primary(contact),
        }
    }

    /// As `contact_primary`, and makes the next question quicker.
    pub fn find(&mut self, id: ContactId) -> Option<ContactId> {
        self.entry(id).filter(|entry| entry.kind == Kind::Contact)?;
        let (root, since_us) = self.root(id);
        self.compress(id, root, since_us);
        Some(root)
    }

    /// The contacts, in order of id.
    pub fn contacts(&self) -> impl Iterator<Item = ContactId> {
        let ids = (1..=self.last().get()).map(ContactId::new);
        ids.filter(|id| self.entries[place(*id)].kind == Kind::Contact)
    }

    /// The contacts and tombstones from a given one to another, in order of id.
    pub fn rows_from(&self, from: ContactId, last: ContactId) -> impl Iterator<Item = ContactId> {
        let end = last.get().min(self.last().get());
        let ids = (from.get().max(1)..=end).map(ContactId::new);
        ids.filter(|id| matches!(self.entries[place(*id)].kind, Kind::Contact | Kind::Tombstone))
    }

    /// How many contacts and tombstones there are.
    pub fn rows_len(&self) -> usize {
        self.rows_from(ContactId::new(1), self.last().into()).count()
    }

    /// The first observation that is here and not there, or the other way round; one that was erased
    /// is in neither.
    pub fn first_unlike(&self, other: &Self) -> Option<ObservationId> {
        let is_here = |links: &Self, id| {
            links.entry(id).is_some_and(|it| matches!(it.kind, Kind::Contact | Kind::Filed))
        };
        let mut ids = (1..=self.last().max(other.last()).get()).map(ContactId::new);
        ids.find(|id| is_here(self, *id) != is_here(other, *id)).map(ObservationId::from)
    }

    /// The first observation that is left over where its identity was erased. There is none unless
    /// an erasure was recorded wrongly.
    pub fn left_over(&self) -> Option<ObservationId> {
        let is_erased = |entry: &Entry| matches!(entry.kind, Kind::Tombstone | Kind::Erased);
        let is_left_over = |id: &ContactId| {
            let entry = &self.entries[place(*id)];
            let is_here = matches!(entry.kind, Kind::Contact | Kind::Filed);
            is_here && self.entry(self.root(*id).0).is_none_or(is_erased)
        };
        (1..=self.last().get()).map(ContactId::new).find(is_left_over).map(ObservationId::from)
    }

    /// Points every contact straight to its primary, so that the next questions are quick.
    pub fn compress_all(&mut self) {
        // In order of id a contact's older primaries come first, but for rule changes.
        for id in 1..=self.last().get() {
            self.find(ContactId::new(id));
        }
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
        // All of them point straight to their primary by then: it is gone for those who come later.
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

impl Entry {
    fn standing(&self, id: ContactId) -> Standing {
        Standing {
            id,
            linked_id: Some(self.above).filter(|primary| *primary != id),
            updated_at: DateTime::from_timestamp_micros(self.since_us)
                .expect("a time that was recorded is a time"),
        }
    }
}

impl Standing {
    pub fn link(&self) -> Link {
        self.linked_id.map_or(Link::Primary, |of| Link::Secondary { of })
    }
}

fn place(id: ContactId) -> usize {
    place_of(id).expect("numbers begin at 1")
}

fn place_of(id: ContactId) -> Option<usize> {
    usize::try_from(id.get().checked_sub(1)?).ok()
}
