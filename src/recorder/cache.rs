//! Identities that were met lately, packed into a sixth of the memory that they take unpacked: a request
//! of a customer who came lately needs no reading.
//!
//! They are in a ring of segments, in the order in which they were packed. The oldest segment is
//! overwritten.

use crate::identity::{Contact, ContactId, Email, Field, Key, PhoneNumber, Timestamp};
use foldhash::quality::RandomState;
use postcard::experimental::serialized_size;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::HashMap;
use std::hash::BuildHasher as _;

/// Small in tests, which want to see the ring wrap.
const SEGMENT_BITS: u32 = if cfg!(test) { 9 } else { 20 };
/// Number of bytes. A contact takes some 75, and its keys take 25 in `places`.
const SEGMENT_LEN: usize = 1 << SEGMENT_BITS;
const SEGMENTS_MAX: usize = 16;

/// Whole identities as they were packed last, found by the keys that they hold.
#[derive(Default)]
pub struct IdentityCache {
    segments: Vec<Vec<u8>>,
    /// The segment that is being filled.
    current: usize,
    /// Number of bytes of that segment that are filled.
    filled: usize,
    /// Where an identity begins, by the hash of each of its keys. Of two keys with the same hash, the
    /// one that was packed later is found.
    places: HashMap<u32, Place, RandomState>,
}

/// A segment and an offset in it.
#[derive(Clone, Copy)]
struct Place(u32);

/// An identity as it is packed.
struct Whole<'a>(&'a [Contact]);

/// A contact as it is packed.
#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    id: ContactId,
    linked_id: Option<ContactId>,
    /// In microseconds since the epoch.
    created_at: i64,
    /// In microseconds since it was created.
    updated_at: i64,
    #[serde(borrow)]
    email: Option<&'a str>,
    #[serde(borrow)]
    phone_number: Option<&'a str>,
    #[serde(borrow)]
    email_key: Option<PackedKey<'a>>,
    #[serde(borrow)]
    phone_key: Option<PackedKey<'a>>,
}

#[derive(Serialize, Deserialize)]
struct PackedKey<'a> {
    links: bool,
    /// `None` if it is the same as the value.
    #[serde(borrow)]
    text: Option<&'a str>,
}

impl IdentityCache {
    /// Packs a whole identity. One that is larger than a segment is removed instead.
    pub fn put(&mut self, contacts: &[Contact]) {
        let hashes = self.hashes(contacts);
        if hashes.is_empty() {
            return;
        }
        match self.pack(contacts) {
            Some(place) => self.places.extend(hashes.into_iter().map(|hash| (hash, place))),
            None => self.remove(contacts),
        }
    }

    /// Removes an identity: it is not found from here on.
    pub fn remove(&mut self, contacts: &[Contact]) {
        for hash in self.hashes(contacts) {
            self.places.remove(&hash);
        }
    }

    /// The hashes of the keys that an identity can be found by.
    fn hashes(&self, contacts: &[Contact]) -> Vec<u32> {
        let keys = contacts.iter().flat_map(Contact::keys).filter(|(_, key)| key.is_link());
        keys.map(|(field, key)| self.hash(field, key)).collect()
    }

    /// Returns `None` if the identity is larger than a segment.
    fn pack(&mut self, contacts: &[Contact]) -> Option<Place> {
        self.fill(contacts).or_else(|| {
            let len = serialized_size(&Whole(contacts)).ok()?;
            if len > SEGMENT_LEN {
                return None;
            }
            self.begin_segment();
            self.fill(contacts)
        })
    }

    /// Returns `None` if the current segment has no room left.
    fn fill(&mut self, contacts: &[Contact]) -> Option<Place> {
        let room = self.segments.get_mut(self.current)?.get_mut(self.filled..)?;
        let len = postcard::to_slice(&Whole(contacts), room).ok()?.len();
        let place = Place::new(self.current, self.filled);
        self.filled += len;
        Some(place)
    }

    fn begin_segment(&mut self) {
        if self.segments.len() < SEGMENTS_MAX {
            self.current = self.segments.len();
            self.segments.push(vec![0; SEGMENT_LEN]);
        } else {
            self.current = (self.current + 1) % SEGMENTS_MAX;
            self.places.retain(|_, place| place.segment() != self.current);
        }
        self.filled = 0;
    }

    /// Finds the identity that holds a key.
    pub fn find(&self, field: Field, key: &Key) -> Option<Vec<Contact>> {
        let place = self.places.get(&self.hash(field, key))?;
        let bytes = self.segments.get(place.segment())?.get(place.offset()..)?;
        let (packed, _) = postcard::take_from_bytes::<Vec<Packed<'_>>>(bytes).ok()?;
        let contacts: Vec<_> = packed.iter().map(Contact::from).collect();
        contacts.iter().any(|contact| contact.key(field) == Some(key)).then_some(contacts)
    }

    fn hash(&self, field: Field, key: &Key) -> u32 {
        self.places.hasher().hash_one((field, key.as_str())) as u32
    }
}

impl Place {
    fn new(segment: usize, offset: usize) -> Self {
        Self((segment << SEGMENT_BITS | offset) as u32)
    }

    fn segment(self) -> usize {
        (self.0 >> SEGMENT_BITS) as usize
    }

    fn offset(self) -> usize {
        self.0 as usize % SEGMENT_LEN
    }
}

impl Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Packed::from))
    }
}

impl<'a> From<&'a Contact> for Packed<'a> {
    fn from(contact: &'a Contact) -> Self {
        let email = contact.email.as_ref().map(Email::as_str);
        let phone_number = contact.phone_number.as_ref().map(PhoneNumber::as_str);
        let created_at = contact.created_at.timestamp_micros();
        Self {
            id: contact.id,
            linked_id: contact.linked_id(),
            created_at,
            updated_at: contact.updated_at.timestamp_micros() - created_at,
            email,
            phone_number,
            email_key: contact.email_key.as_ref().map(|key| PackedKey::new(key, email)),
            phone_key: contact.phone_key.as_ref().map(|key| PackedKey::new(key, phone_number)),
        }
    }
}

impl From<&Packed<'_>> for Contact {
    fn from(packed: &Packed<'_>) -> Self {
        let at = |us| Timestamp::from_timestamp_micros(us).expect("it was a timestamp");
        let Packed { email, phone_number, created_at, .. } = *packed;
        Self {
            id: packed.id,
            email: email.map(Email::recorded),
            phone_number: phone_number.map(PhoneNumber::recorded),
            email_key: packed.email_key.as_ref().map(|key| key.unpacked(email)),
            phone_key: packed.phone_key.as_ref().map(|key| key.unpacked(phone_number)),
            link: packed.linked_id.into(),
            created_at: at(created_at),
            updated_at: at(created_at + packed.updated_at),
            // No key leads to a tombstone.
            deleted_at: None,
        }
    }
}

impl<'a> PackedKey<'a> {
    fn new(key: &'a Key, value: Option<&str>) -> Self {
        let text = Some(key.as_str());
        Self { links: key.is_link(), text: text.filter(|text| value != Some(text)) }
    }

    fn unpacked(&self, value: Option<&str>) -> Key {
        Key::new(self.text.or(value).unwrap_or_default(), self.links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Link;

    fn at(us: i64) -> Timestamp {
        Timestamp::from_timestamp_micros(us).unwrap()
    }

    fn contact(id: i64, email: &str, email_key: Key) -> Contact {
        Contact {
            id: ContactId::new(id),
            email: Some(Email::recorded(email)),
            phone_number: None,
            email_key: Some(email_key),
            phone_key: None,
            link: Link::Primary,
            created_at: at(1_700_000_000_000_000),
            updated_at: at(1_700_000_000_000_000),
            deleted_at: None,
        }
    }

    fn other(number: &str) -> Contact {
        Contact {
            phone_number: Some(PhoneNumber::recorded(number)),
            phone_key: Some(Key::links("+49301")),
            link: Link::Secondary { of: ContactId::new(1) },
            updated_at: at(1_700_000_000_000_007),
            ..contact(2, "shop@x.org", Key::never_links("shop@x.org"))
        }
    }

    #[test]
    fn an_identity_is_found_whole_by_each_of_its_keys() {
        let mut cache = IdentityCache::default();
        let contacts = vec![contact(1, "A@x.org", Key::links("a@x.org")), other("030 1")];
        cache.put(&contacts);
        assert_eq!(cache.find(Field::Email, &Key::links("a@x.org")), Some(contacts.clone()));
        assert_eq!(cache.find(Field::PhoneNumber, &Key::links("+49301")), Some(contacts));
        assert_eq!(cache.find(Field::PhoneNumber, &Key::links("a@x.org")), None);
        assert_eq!(cache.find(Field::Email, &Key::links("A@x.org")), None);
    }

    #[test]
    fn an_identity_is_found_as_it_was_packed_last() {
        let mut cache = IdentityCache::default();
        let first = contact(1, "a@x.org", Key::links("a@x.org"));
        cache.put(std::slice::from_ref(&first));
        let grown = vec![first, other("030 1")];
        cache.put(&grown);
        assert_eq!(cache.find(Field::Email, &Key::links("a@x.org")), Some(grown));
    }

    #[test]
    fn an_identity_that_has_grown_too_large_is_not_found_as_it_was() {
        let mut cache = IdentityCache::default();
        let long = "x".repeat(SEGMENT_LEN / 4);
        let grown: Vec<_> =
            (1..=5).map(|id| contact(id, &long, Key::links(&format!("{id}")))).collect();
        cache.put(&grown[..1]);
        assert!(cache.find(Field::Email, &Key::links("1")).is_some());
        cache.put(&grown);
        assert!(cache.find(Field::Email, &Key::links("1")).is_none());
    }

    #[test]
    fn a_key_is_not_taken_for_another_with_the_same_hash() {
        let mut cache = IdentityCache::default();
        cache.put(&[contact(1, "a@x.org", Key::links("a@x.org"))]);
        let place = *cache.places.values().next().unwrap();
        let other = Key::links("b@x.org");
        cache.places.insert(cache.hash(Field::Email, &other), place);
        assert_eq!(cache.find(Field::Email, &other), None);
    }

    #[test]
    fn what_cannot_be_found_takes_no_room() {
        let mut cache = IdentityCache::default();
        cache.put(&[contact(1, "shop@x.org", Key::never_links("shop@x.org"))]);
        assert!(cache.segments.is_empty() && cache.places.is_empty());
    }

    #[test]
    fn the_oldest_are_overwritten() {
        let mut cache = IdentityCache::default();
        let key = |id: i64| Key::links(&format!("{id}{}", "x".repeat(240)));
        // Each takes more than 480 bytes: twice as much as there is room for.
        let len = (2 * SEGMENTS_MAX * SEGMENT_LEN / 480) as i64;
        for id in 0..len {
            cache.put(&[contact(id, &"y".repeat(240), key(id))]);
        }
        let found = |id| cache.find(Field::Email, &key(id)).is_some();
        assert!(!found(0) && !found(len / 3) && found(2 * len / 3) && found(len - 1));
        assert_eq!(cache.segments.len(), SEGMENTS_MAX);
        assert!(cache.places.len() < len as usize * 2 / 3);
    }
}
