//! What an observation means: the one place where anything is decided.

use super::asker::Asker;
use super::fact::{ContactLinked, ContactObserved, Fact, Matched, PrimaryDemoted};
use super::fold::{Change, filed};
use super::id::{ContactId, ObservationId};
use super::identifier::Field;
use super::observation::{Commitment, Keys};

/// What the resolver asks of the contacts so far. An identity is known as a whole or not at all.
pub trait Known {
    /// A key, or a hash that stands for it.
    type Key;
    /// Whether a key links the contacts that have it.
    fn is_link(key: &Self::Key) -> bool;
    /// The oldest contact that has an identifier with this key, which links.
    fn holder(&self, field: Field, key: &Self::Key) -> Option<ContactId>;
    /// The primary of a contact that is known. `&mut`, so that the answer can be kept for the next
    /// question.
    fn primary_of(&mut self, contact: ContactId) -> ContactId;
    /// Whether an identity has an identifier with this key, which never links.
    fn shows(&self, primary: ContactId, field: Field, key: &Self::Key) -> bool;
}

/// What an observation means: where it is filed, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub observation_id: ObservationId,
    /// The observation's own number if it brings something new, else the oldest holder of its keys.
    pub contact_id: ContactId,
    /// The primary of the identity that it is answered with.
    pub primary_id: ContactId,
    pub email: Option<Matched>,
    pub phone_number: Option<Matched>,
    consequence: Option<Consequence>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consequence {
    /// A known identity learns something new.
    Linked,
    /// Two identities turn out to be one customer: this primary gives way.
    Demoted { contact: ContactId, holders: [ContactId; 2] },
}

/// Decides what an observation means, given the identities that hold its keys.
///
/// A value that never links is news unless the identity shows it already. An observation with no
/// value that links is a new primary each time.
pub fn resolve<K: Known>(known: &mut K, id: ObservationId, keys: &Keys<K::Key>) -> Decision {
    let given = [(Field::Email, &keys.email), (Field::PhoneNumber, &keys.phone_number)];
    let matched = given.map(|(field, key)| Some(look_up(known, field, key.as_ref()?)));
    let holders = matched.map(holder_of);
    let primaries = holders.map(|holder| holder.map(|holder| known.primary_of(holder)));
    let primary_id = led_by(id, primaries);
    let brings_news = given.into_iter().zip(matched).any(|((field, key), matched)| {
        is_news(matched, || key.as_ref().is_some_and(|key| !known.shows(primary_id, field, key)))
    });
    conclude(id, matched, primaries, brings_news)
}

/// Decides again from what the event says, which may have been erased since: who holds the keys, and
/// whether what never links was news. `None` if a holder is no contact.
pub fn believe(
    observed: &ContactObserved,
    mut primary_of: impl FnMut(ContactId) -> Option<ContactId>,
) -> Option<Decision> {
    let matched = [observed.email, observed.phone_number];
    let mut primaries = [None, None];
    for (holder, primary) in matched.map(holder_of).into_iter().zip(&mut primaries) {
        if let Some(holder) = holder {
            *primary = Some(primary_of(holder)?);
        }
    }
    let brings_news = matched.into_iter().any(|it| is_news(it, || observed.introduced()));
    Some(conclude(observed.observation_id, matched, primaries, brings_news))
}

/// What follows from what the keys matched, the email's first, and from the primaries of their
/// holders.
fn conclude(
    id: ObservationId,
    matched: [Option<Matched>; 2],
    primaries: [Option<ContactId>; 2],
    brings_news: bool,
) -> Decision {
    let holders = matched.map(holder_of);
    let own = ContactId::from(id);
    let oldest_holder = holders.into_iter().flatten().min();
    let primary_id = led_by(id, primaries);
    let [email, phone_number] = matched;
    let consequence = match (holders, primaries) {
        ([Some(by_email), Some(by_phone)], [Some(a), Some(b)]) if a != b => {
            Some(Consequence::Demoted { contact: a.max(b), holders: [by_email, by_phone] })
        }
        _ if brings_news && primary_id != own => Some(Consequence::Linked),
        _ => None,
    };
    Decision {
        observation_id: id,
        contact_id: oldest_holder.filter(|_| !brings_news).unwrap_or(own),
        primary_id,
        email,
        phone_number,
        consequence,
    }
}

/// The oldest of the primaries, or the observation itself if there is none.
fn led_by(id: ObservationId, primaries: [Option<ContactId>; 2]) -> ContactId {
    primaries.into_iter().flatten().min().unwrap_or(id.into())
}

fn look_up<K: Known>(known: &K, field: Field, key: &K::Key) -> Matched {
    if !K::is_link(key) {
        return Matched::NeverLinks;
    }
    known.holder(field, key).map_or(Matched::New, Matched::HeldBy)
}

fn holder_of(matched: Option<Matched>) -> Option<ContactId> {
    matched?.holder()
}

/// Whether an identifier is news to the identity. `is_new_here` is asked of one that never links.
fn is_news(matched: Option<Matched>, is_new_here: impl FnOnce() -> bool) -> bool {
    match matched {
        Some(Matched::New) => true,
        Some(Matched::NeverLinks) => is_new_here(),
        Some(Matched::HeldBy(_)) | None => false,
    }
}

impl Decision {
    /// Whether the observation is a contact of its own.
    pub fn introduces(&self) -> bool {
        self.contact_id == ContactId::from(self.observation_id)
    }

    /// Whether it is the first contact of a new identity.
    pub fn begins_identity(&self) -> bool {
        self.introduces() && self.primary_id == self.contact_id
    }

    /// Whether the rules keep all that was observed from linking.
    pub fn links_nothing(&self) -> bool {
        let mut matched = [self.email, self.phone_number].into_iter().flatten();
        matched.all(|matched| matched == Matched::NeverLinks)
    }

    /// The primary that gives way.
    pub fn demoted(&self) -> Option<ContactId> {
        match self.consequence {
            Some(Consequence::Demoted { contact, .. }) => Some(contact),
            Some(Consequence::Linked) | None => None,
        }
    }

    /// The facts to record: a `ContactObserved`, and at most one that follows from it. Who asked has no
    /// part in the decision.
    pub fn facts(&self, commitment: Commitment, asked_by: Option<Asker>) -> Vec<Fact> {
        let Self { observation_id, contact_id, primary_id, email, phone_number, .. } = *self;
        let observed = Fact::ContactObserved(ContactObserved {
            asked_by,
            commitment,
            contact_id,
            email,
            observation_id,
            phone_number,
            primary_id,
        });
        let follows = self.consequence.map(|consequence| match consequence {
            Consequence::Linked => Fact::ContactLinked(ContactLinked { contact_id, primary_id }),
            Consequence::Demoted { contact, holders } => Fact::PrimaryDemoted(PrimaryDemoted {
                contact_id: contact,
                holder_ids: Some(holders),
                observation_id: Some(observation_id),
                primary_id,
            }),
        });
        [Some(observed), follows].into_iter().flatten().collect()
    }

    /// The changes that the facts fold into.
    pub fn changes(&self) -> [Option<Change<'static>>; 2] {
        let follows = self.consequence.map(|consequence| match consequence {
            Consequence::Linked => {
                Change::Linked { contact: self.contact_id, primary: self.primary_id }
            }
            Consequence::Demoted { contact, .. } => {
                Change::Demoted { contact, primary: self.primary_id }
            }
        });
        [Some(filed(self.observation_id, self.contact_id)), follows]
    }
}
