//! How large identities are before and after a rule change.

use super::IdentityCounts;
use crate::identity::{ContactId, Links};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const GROWING_LEN_MAX: usize = 20;

/// Numbers of identities that have `from` to `to` contacts.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Bucket {
    pub from: usize,
    pub to: usize,
    pub before: usize,
    pub after: usize,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Largest {
    pub primary_contact_id: i64,
    pub contacts: usize,
}

/// An identity that grows.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Growth {
    pub primary_contact_id: i64,
    /// Number of contacts of the identity that the primary belongs to before.
    pub contacts_before: usize,
    pub contacts_after: usize,
    /// Number of identities before that come together in it, wholly or in part.
    pub identities: usize,
    /// The key that most of the former identities have in common, if any key bridges them.
    pub bridge: Option<Bridge>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bridge {
    pub identifier: &'static str,
    pub key: String,
    /// Number of the identities before that have it.
    pub identities: usize,
}

/// Numbers of contacts by primary in two states. The entry of a primary is at the place of its id.
pub struct Sizes<'a> {
    pub links_before: &'a Links,
    pub links_after: &'a Links,
    before: Vec<u32>,
    after: Vec<u32>,
    merged: usize,
    split: usize,
}

impl<'a> Sizes<'a> {
    pub fn of(before: &'a Links, after: &'a Links) -> Self {
        Self {
            links_before: before,
            links_after: after,
            before: sizes(before),
            after: sizes(after),
            merged: several(after, before),
            split: several(before, after),
        }
    }

    pub fn identities(&self) -> IdentityCounts {
        let count = |sizes: &[u32]| sizes.iter().filter(|size| **size > 0).count();
        IdentityCounts {
            before: count(&self.before),
            after: count(&self.after),
            merged: self.merged,
            split: self.split,
        }
    }

    /// Buckets of 1, 2, 3 to 4, 5 to 8 and so on, up to the largest identity.
    pub fn buckets(&self) -> Vec<Bucket> {
        let mut buckets = Vec::new();
        for (sizes, is_after) in [(&self.before, false), (&self.after, true)] {
            for size in sizes.iter().map(|size| *size as usize).filter(|size| *size > 0) {
                let place = size.next_power_of_two().trailing_zeros() as usize;
                while buckets.len() <= place {
                    let to = 1 << buckets.len();
                    buckets.push(Bucket { from: to / 2 + 1, to, before: 0, after: 0 });
                }
                let bucket = &mut buckets[place];
                *(if is_after { &mut bucket.after } else { &mut bucket.before }) += 1;
            }
        }
        buckets
    }

    pub fn largest_before(&self) -> Largest {
        largest(&self.before)
    }

    pub fn largest_after(&self) -> Largest {
        largest(&self.after)
    }

    /// The primaries of the identities that grow most, the one that grows most first.
    pub fn growing(&self) -> Vec<ContactId> {
        let mut most = BinaryHeap::new();
        let gathered = gathered(self.links_before, self.links_after);
        for (id, Gathered { contacts, come }) in gathered.into_iter().enumerate() {
            let contacts_before = self.before(ContactId::new(id as i64)) as u32;
            // An identity that loses as many contacts as come to it is made of several all the same.
            let growth = contacts.saturating_sub(contacts_before).max(come);
            if growth > 0 && (contacts > 1 || come > 0) {
                // Of two that grow by as many, the older one comes first.
                most.push(Reverse((growth, Reverse(id))));
            }
            if most.len() > GROWING_LEN_MAX {
                most.pop();
            }
        }
        let primary = |Reverse((_, Reverse(id)))| ContactId::new(id as i64);
        most.into_sorted_vec().into_iter().map(primary).collect()
    }

    /// Number of contacts of the identity that a contact belongs to before. 0 if it is no contact then.
    pub fn before(&self, contact: ContactId) -> usize {
        let primary = self.links_before.contact_primary(contact);
        primary.map_or(0, |primary| self.before[primary.get() as usize] as usize)
    }

    pub fn after(&self, primary: ContactId) -> usize {
        self.after[primary.get() as usize] as usize
    }
}

fn sizes(links: &Links) -> Vec<u32> {
    let mut sizes = vec![0; links.last().get() as usize + 1];
    for id in links.contacts() {
        if let Some(primary) = links.contact_primary(id) {
            sizes[primary.get() as usize] += 1;
        }
    }
    sizes
}

fn largest(sizes: &[u32]) -> Largest {
    let largest = sizes.iter().enumerate().max_by_key(|(id, size)| (**size, Reverse(*id)));
    let (id, size) = largest.unwrap_or((0, &0));
    Largest { primary_contact_id: id as i64, contacts: *size as usize }
}

/// What an identity is made of after the change.
#[derive(Clone, Default)]
struct Gathered {
    /// Number of its contacts, and of those that retire into it.
    contacts: u32,
    /// Number of those that come from another identity than the primary did.
    come: u32,
}

/// What each identity is made of after the change. The entry of a primary is at the place of its id.
fn gathered(before: &Links, after: &Links) -> Vec<Gathered> {
    let mut gathered = vec![Gathered::default(); after.last().get() as usize + 1];
    for id in after.ids() {
        let Some(primary) = after.primary_of(id) else { continue };
        let was = before.contact_primary(id.into());
        let is_contact = was.is_some() || after.contact_primary(id.into()).is_some();
        let comes = was.is_some() && was != before.primary_of(primary.into());
        let identity = &mut gathered[primary.get() as usize];
        identity.contacts += u32::from(is_contact);
        identity.come += u32::from(comes);
    }
    gathered
}

/// Number of identities of one state that have observations of several identities of the other. It is not
/// enough to look at contacts: if one of two customers retires into the other, no contact is left of it.
fn several(of: &Links, other: &Links) -> usize {
    const UNSEEN: i64 = 0;
    const SEVERAL: i64 = -1;
    let mut seen = vec![UNSEEN; of.last().get() as usize + 1];
    let mut count = 0;
    for id in of.ids() {
        let (Some(primary), Some(there)) = (of.primary_of(id), other.primary_of(id)) else {
            continue;
        };
        let place = &mut seen[primary.get() as usize];
        if *place == UNSEEN {
            *place = there.get();
        } else if *place != SEVERAL && *place != there.get() {
            *place = SEVERAL;
            count += 1;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::{IdentityCounts, Sizes};
    use crate::identity::{Change, ContactId, Links, ObservationId, Timestamp};

    /// Contacts 1, 2, 3, ... with the primary of each.
    fn links(primaries: &[i64]) -> Links {
        let mut links = Links::default();
        for (primary, id) in primaries.iter().zip(1..) {
            let (contact, primary) = (ContactId::new(id), ContactId::new(*primary));
            links.apply(Change::Introduced { contact, primary }, Timestamp::UNIX_EPOCH);
        }
        links
    }

    #[test]
    fn sizes_say_who_grows_merges_and_splits() {
        let (before, after) = (links(&[1, 1, 3, 3, 5]), links(&[1, 1, 1, 4, 1]));
        let sizes = Sizes::of(&before, &after);
        let identities = sizes.identities();
        assert_eq!((identities.before, identities.after), (3, 2));
        assert_eq!((identities.merged, identities.split), (1, 1));
        let buckets: Vec<_> = sizes
            .buckets()
            .into_iter()
            .map(|bucket| (bucket.from, bucket.to, bucket.before, bucket.after))
            .collect();
        assert_eq!(buckets, [(1, 1, 1, 1), (2, 2, 2, 0), (3, 4, 0, 1)]);
        assert_eq!((sizes.largest_before().contacts, sizes.largest_after().contacts), (2, 4));
        let primary = ContactId::new(1);
        assert_eq!(sizes.growing(), [primary]);
        assert_eq!((sizes.before(primary), sizes.after(primary)), (2, 4));
    }

    #[test]
    fn who_retires_into_another_or_was_filed_under_one_counts() {
        let (apart, mut together) = (links(&[1, 2, 3]), links(&[1]));
        for observation in [2, 3].map(ObservationId::new) {
            let under = ContactId::new(1);
            together.apply(Change::Filed { observation, under }, Timestamp::UNIX_EPOCH);
        }
        let check = |before, after, identities, growing: &[i64]| {
            let sizes = Sizes::of(before, after);
            let IdentityCounts { merged, split, .. } = sizes.identities();
            assert_eq!((merged, split), identities);
            let growing: Vec<_> = growing.iter().map(|id| ContactId::new(*id)).collect();
            assert_eq!(sizes.growing(), growing);
        };
        check(&apart, &together, (1, 0), &[1]);
        check(&together, &apart, (0, 1), &[]);
        // It loses two contacts, and one comes.
        check(&links(&[1, 1, 1, 4]), &links(&[1, 2, 2, 1]), (1, 1), &[1]);
    }
}
