//! What the recorder knows without reading: the identities that it met lately.

use super::absent::{AbsentKeys, KeyFilter};
use super::cache::IdentityCache;
use super::decide::Batch;
use super::queue::Request;
use crate::identity::{Contact, ContactId, Identities, Keys, Known as _, Position};
use crate::projection::Head;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Number of contacts from which on an identity is large. It is not packed, since that would take long.
const LARGE_IDENTITY_LEN_MIN: usize = 512;
/// Number of contacts of large identities. Beyond that, those that became known first are dropped, to be
/// read again; but the last one stays, since it would be read for each batch. Small in tests, where two
/// large identities go beyond it.
const LARGE_LEN_MAX: usize = if cfg!(test) { 2 * LARGE_IDENTITY_LEN_MIN - 1 } else { 80_000 };
/// Number of contacts that are unpacked, without those of large identities. Beyond that, nothing is
/// decided until the flight has landed and the reading has ended, so that some can be packed.
const KNOWN_LEN_MAX: usize = 100_000;

/// Identities as they are after the last request that was decided, appended or not.
#[derive(Default)]
pub struct Memory {
    pub identities: Identities,
    /// The primaries of identities, in the order in which these became known, without large ones.
    recent: VecDeque<ContactId>,
    /// The primaries of large identities, which stay unpacked.
    large: VecDeque<ContactId>,
    /// Identities that were recent before. One that is in `identities`, too, is newer there.
    packed: IdentityCache,
    /// The end of the ledger after the batch that was sent last.
    pub head: Option<Head>,
    /// End positions of the sent batches since which memory is complete: a snapshot at any of them lacks
    /// only what is in memory. The last one is `head`'s.
    ends: Vec<Position>,
}

impl Memory {
    /// Unpacks the identities that hold any of these keys.
    pub fn recall<'a>(&mut self, touched: impl Iterator<Item = &'a Keys>) {
        for (field, key) in touched.flat_map(Keys::each).filter(|(_, key)| key.is_link()) {
            if self.identities.holder(field, key).is_none()
                && let Some(contacts) = self.packed.find(field, key)
            {
                self.take_in(contacts);
            }
        }
    }

    /// The filter of the keys that contacts hold, if it lacks none but those in memory.
    pub fn filter(&self, absent: &AbsentKeys) -> Option<Arc<KeyFilter>> {
        absent.at(&self.ends)
    }

    /// Notes that memory is complete from the last batches on only, since the others are about to
    /// be packed.
    pub fn keep_last(&mut self, batches_len: usize) {
        self.ends.drain(..self.ends.len().saturating_sub(1 + batches_len));
    }

    /// The end of the ledger. If none is known yet, it is the given one.
    pub fn begin_at(&mut self, head: Head) -> &Head {
        self.ends.extend(self.head.is_none().then_some(head.position));
        self.head.get_or_insert(head)
    }

    /// Notes that a batch was sent, after which the ledger ends at `head`.
    pub fn sent(&mut self, head: Head) {
        self.ends.push(head.position);
        self.head = Some(head);
    }

    /// Whether a snapshot at this position lacks only what is in memory.
    pub fn covers_since(&self, position: Position) -> bool {
        self.head.is_none() || self.ends.contains(&position)
    }

    /// Takes in whole identities as they were read. Those that are in memory stay, since they are newer.
    pub fn take_in(&mut self, contacts: Vec<Contact>) {
        self.recent.extend(self.identities.take_in(contacts));
    }

    /// Decides one more request of a batch.
    pub fn decide(&mut self, batch: &mut Batch, request: Request) {
        self.recent.extend(batch.decide(&mut self.identities, request));
    }

    /// Packs identities until no more than `len_max` contacts are unpacked, beginning with those
    /// that became known first. Large ones stay unpacked, and so do those of the contacts in
    /// `touched`: their batches are not in the table yet, and what is packed may be overwritten.
    /// Must not be called during a reading, which may lack batches that are in the table by now.
    pub fn release(&mut self, len_max: usize, touched: impl Iterator<Item = ContactId>) {
        let large_len = self.large_len();
        let mut excess = self.identities.contacts_len().saturating_sub(large_len + len_max);
        if excess == 0 && large_len <= LARGE_LEN_MAX {
            return;
        }
        let needed: HashSet<_> = touched.map(|contact| self.identities.primary(contact)).collect();
        for _ in 0..self.recent.len() {
            if excess == 0 {
                break;
            }
            let Some(primary) = self.recent.pop_front() else { break };
            // A primary that was demoted since belongs to another, which has a place of its own.
            let Some(identity) = self.identities.led_by(primary) else { continue };
            let len = identity.contacts().len();
            if len >= LARGE_IDENTITY_LEN_MIN {
                self.large.push_back(primary);
            } else if needed.contains(&primary) {
                self.recent.push_back(primary);
                continue;
            } else {
                self.packed.put(identity.contacts());
                self.identities.remove(primary);
            }
            excess = excess.saturating_sub(len);
        }
        self.release_large(&needed);
    }

    fn release_large(&mut self, needed: &HashSet<ContactId>) {
        let mut len = self.large_len();
        for _ in 0..self.large.len() {
            if len <= LARGE_LEN_MAX || self.large.len() == 1 {
                break;
            }
            let Some(primary) = self.large.pop_front() else { break };
            let Some(identity) = self.identities.led_by(primary) else { continue };
            if needed.contains(&primary) {
                self.large.push_back(primary);
                continue;
            }
            len -= identity.contacts().len();
            // It may have been packed before it was large.
            self.packed.remove(identity.contacts());
            self.identities.remove(primary);
        }
    }

    /// Number of contacts of large identities.
    fn large_len(&self) -> usize {
        let large = self.large.iter().filter_map(|primary| self.identities.led_by(*primary));
        large.map(|identity| identity.contacts().len()).sum()
    }

    /// Whether nothing more should be decided before some identities can be packed.
    pub fn is_full(&self) -> bool {
        self.identities.contacts_len() - self.large_len() > KNOWN_LEN_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{
        Answer, Commitment, Event, Field, Identifiers, Key, ObservationId, Salt, Timestamp, resolve,
    };
    use crate::recorder::queue::Recorder;
    use proptest::prelude::*;
    use std::iter;
    use std::ops::RangeInclusive;
    use tokio::sync::oneshot;

    struct Observation {
        id: ObservationId,
        identifiers: Identifiers,
        keys: Keys,
    }

    fn observation(id: i64, email: Option<i64>, phone: Option<i64>) -> Option<Observation> {
        // Some never link, and are shown all the same.
        let email_key = |email: &String| match email.ends_with("0@example.com") {
            true => Key::never_links(&email.to_lowercase()),
            false => Key::links(&email.to_lowercase()),
        };
        let email = email.map(|user| format!("User{user}@example.com"));
        let phone = phone.map(|line| format!("030 {line}"));
        let keys = Keys {
            email: email.as_ref().map(email_key),
            phone_number: phone.as_ref().map(|number| Key::links(number)),
        };
        let identifiers = Identifiers::recorded(email.as_deref(), phone.as_deref())?;
        Some(Observation { id: ObservationId::new(id), identifiers, keys })
    }

    fn answer(identities: &mut Identities, seen: &Observation) -> (Arc<Answer>, Option<ContactId>) {
        let decision = resolve(identities, seen.id, &seen.keys);
        for fact in decision.facts(Commitment::to(&seen.identifiers, Salt([0; 16])), None) {
            let recorded_at = Timestamp::from_timestamp_micros(seen.id.get()).unwrap();
            let event = Event { position: Position::new(1), recorded_at, fact };
            identities.apply(&event, &seen.identifiers, &seen.keys);
        }
        let begun = decision.begins_identity().then_some(decision.primary_id);
        (identities.identity_of(decision.primary_id).answer(), begun)
    }

    /// What is read for these keys: the identities that hold them and are not known, as the table
    /// has them.
    fn read(table: &Identities, known: &Identities, keys: &Keys) -> Vec<Contact> {
        let unknown = keys.each().filter(|(field, key)| known.holder(*field, key).is_none());
        let holders = unknown.filter_map(|(field, key)| table.holder(field, key));
        let mut primaries: Vec<_> = holders.map(|it| table.primary(it)).collect();
        primaries.dedup();
        primaries.iter().flat_map(|it| table.identity_of(*it).contacts().to_vec()).collect()
    }

    /// Whether nothing need be read for these keys: each has a holder that is known, or none at all.
    fn is_known(whole: &Identities, known: &Identities, keys: &Keys) -> bool {
        let is_known =
            |(field, key)| known.holder(field, key).is_some() || whole.holder(field, key).is_none();
        keys.each().all(is_known)
    }

    proptest! {
        /// The table lacks what is in flight when something is read, and while that goes on others are
        /// decided and land. What is packed is overwritten soon.
        #[test]
        fn what_was_packed_is_as_good_as_what_was_not(
            batches in prop::collection::vec(
                (
                    prop::collection::vec(
                        (prop::option::of(0_i64..60), prop::option::of(0_i64..60)),
                        1..6,
                    ),
                    0_usize..4,
                ),
                1..80,
            ),
            len_max in 0_usize..10,
        ) {
            let mut whole = Identities::default();
            let mut table = Identities::default();
            let mut memory = Memory::default();
            let mut in_flight: Vec<Observation> = Vec::new();
            let mut reading: Option<(Vec<Observation>, Vec<Contact>)> = None;
            let mut landings_left = 0;
            let mut id = 0;
            for (values, landings) in batches {
                let mut batch: Vec<_> =
                    values.into_iter().filter_map(|(email, phone)| observation(0, email, phone)).collect();
                memory.recall(batch.iter().map(|seen| &seen.keys));
                if reading.is_some() {
                    batch.retain(|seen| is_known(&whole, &memory.identities, &seen.keys));
                } else {
                    let touched = batch.iter().map(|seen| &seen.keys);
                    let mut found: Vec<_> =
                        touched.flat_map(|keys| read(&table, &memory.identities, keys)).collect();
                    found.sort_unstable_by_key(|contact| contact.id);
                    found.dedup_by_key(|contact| contact.id);
                    reading = Some((std::mem::take(&mut batch), found));
                    landings_left = landings;
                }
                if let Some((waited, found)) = reading.take_if(|_| landings_left == 0) {
                    memory.take_in(found);
                    batch.extend(waited);
                }
                landings_left = landings_left.saturating_sub(1);
                for seen in &in_flight {
                    answer(&mut table, seen);
                }
                let mut touched = Vec::new();
                for seen in &mut batch {
                    id += 1;
                    seen.id = ObservationId::new(id);
                    let (answer_known, begun) = answer(&mut memory.identities, seen);
                    memory.recent.extend(begun);
                    prop_assert_eq!(&answer_known, &answer(&mut whole, seen).0);
                    touched.push(answer_known.primary_contact_id);
                }
                if reading.is_none() {
                    memory.release(len_max, touched.into_iter());
                }
                in_flight = batch;
            }
            memory.release(len_max, iter::empty());
            prop_assert!(memory.identities.contacts_len() <= len_max);
        }
    }

    /// Decides observations of these numbers, which are one identity since all have this phone number.
    fn decide(memory: &mut Memory, ids: RangeInclusive<i64>, line: i64) {
        for id in ids {
            let seen = observation(id, Some(id), Some(line)).unwrap();
            let (_, begun) = answer(&mut memory.identities, &seen);
            memory.recent.extend(begun);
        }
    }

    fn phone_keys(line: i64) -> Keys {
        observation(0, None, Some(line)).unwrap().keys
    }

    #[test]
    fn what_a_request_begins_can_be_packed() {
        let (mut memory, head) = (Memory::default(), Head::at(1));
        let mut batch = Batch::at(head.clone(), head.recorded_at);
        let seen = observation(2, Some(2), None).unwrap();
        let reply = oneshot::channel().0;
        let request = Recorder::stalled().0.prepare(seen.identifiers, None, None, reply);
        memory.decide(&mut batch, request);
        assert_eq!(memory.identities.contacts_len(), 1);
        memory.release(0, iter::empty());
        assert_eq!(memory.identities.contacts_len(), 0);
    }

    #[test]
    fn large_ones_stay_unpacked_and_do_not_count() {
        let mut memory = Memory::default();
        let large = 2 * LARGE_IDENTITY_LEN_MIN as i64;
        decide(&mut memory, 1..=large, 1);
        decide(&mut memory, large + 1..=large + 1, 2);
        memory.release(1, iter::empty());
        assert_eq!(memory.identities.contacts_len() as i64, large + 1);
        memory.release(0, iter::empty());
        assert_eq!(memory.identities.contacts_len() as i64, large);
        assert!(memory.recent.is_empty());
        memory.recall(iter::once(&phone_keys(2)));
        assert_eq!(memory.identities.contacts_len() as i64, large + 1);
    }

    /// Two large identities, of which the first, whose primary is 1, was packed when it was small.
    fn with_two_large_ones() -> Memory {
        let mut memory = Memory::default();
        let large = LARGE_IDENTITY_LEN_MIN as i64;
        decide(&mut memory, 1..=1, 1);
        memory.release(0, iter::empty());
        assert_eq!(memory.identities.contacts_len(), 0);
        memory.recall(iter::once(&phone_keys(1)));
        decide(&mut memory, 2..=large, 1);
        decide(&mut memory, large + 1..=2 * large, 2);
        memory
    }

    fn knows(memory: &Memory, line: i64) -> bool {
        let key = phone_keys(line).phone_number.unwrap();
        memory.identities.holder(Field::PhoneNumber, &key).is_some()
    }

    #[test]
    fn a_large_one_that_is_dropped_is_not_found_as_it_was_when_it_was_small() {
        let mut memory = with_two_large_ones();
        memory.release(0, iter::empty());
        memory.recall(iter::once(&phone_keys(1)));
        assert_eq!([1, 2].map(|line| knows(&memory, line)), [false, true]);
    }

    #[test]
    fn a_large_one_that_is_needed_stays() {
        let mut memory = with_two_large_ones();
        memory.release(0, iter::once(ContactId::new(1)));
        assert_eq!([1, 2].map(|line| knows(&memory, line)), [true, false]);
    }

    #[test]
    fn memory_is_complete_from_the_batches_on_that_it_keeps() {
        let mut memory = Memory::default();
        let covers = |memory: &Memory| [1, 2, 3].map(|it| memory.covers_since(Position::new(it)));
        memory.begin_at(Head::at(1));
        assert_eq!(covers(&memory), [true, false, false]);
        memory.sent(Head::at(2));
        memory.sent(Head::at(3));
        assert_eq!(covers(&memory), [true, true, true]);
        memory.keep_last(1);
        assert_eq!(covers(&memory), [false, true, true]);
        memory.keep_last(0);
        assert_eq!(covers(&memory), [false, false, true]);
    }
}
