//! What the recorder knows without reading: the identities that it met lately.

use super::cache::IdentityCache;
use super::decide::Batch;
use super::queue::Request;
use crate::identity::{Contact, ContactId, Identities, Key, Keys, Known as _, Position};
use crate::projection::Head;
use std::collections::{HashSet, VecDeque};

/// In contacts. An identity of that size is not packed, since that takes long.
const LARGE_IDENTITY_LEN_MIN: usize = 512;
/// In contacts. Beyond that, all are let go.
const KNOWN_LEN_MAX: usize = 100_000;

/// Identities as they are after the last request that was decided, appended or not.
#[derive(Default)]
pub struct Known {
    pub identities: Identities,
    /// The primary of each as it became known, in that order.
    recent: VecDeque<ContactId>,
    /// What was recent before. What is in `identities`, too, is newer there.
    packed: IdentityCache,
    /// After the batch that was sent last.
    pub head: Option<Head>,
    /// Before the batch that was sent last: a snapshot of this position just lacks that batch.
    pub sent_from: Option<Position>,
}

impl Known {
    /// Unpacks the identities that hold any of these keys.
    pub fn recall<'a>(&mut self, touched: impl Iterator<Item = &'a Keys>) {
        for keys in touched {
            let is_link = |key: &&Key| key.is_link();
            let email = keys.email.as_ref().filter(is_link);
            let email = email.filter(|key| self.identities.email_holder(key).is_none());
            if let Some(contacts) = email.and_then(|key| self.packed.by_email(key)) {
                self.take_in(contacts);
            }
            let phone = keys.phone_number.as_ref().filter(is_link);
            let phone = phone.filter(|key| self.identities.phone_holder(key).is_none());
            if let Some(contacts) = phone.and_then(|key| self.packed.by_phone(key)) {
                self.take_in(contacts);
            }
        }
    }

    /// Takes in whole identities as they were read; what is known already is newer.
    pub fn take_in(&mut self, contacts: Vec<Contact>) {
        self.recent.extend(self.identities.take_in(contacts));
    }

    /// Decides one more request of a batch.
    pub fn decide(&mut self, batch: &mut Batch, request: Request) {
        self.recent.extend(batch.decide(&mut self.identities, request));
    }

    /// Leaves so many contacts unpacked: of identities that became known last, those of these contacts,
    /// and large ones. What a batch touches that is not in the table yet must stay, for what is packed may
    /// be overwritten, and is then read from there.
    pub fn release(&mut self, len_max: usize, touched: impl Iterator<Item = ContactId>) {
        if self.identities.len() <= len_max {
            return;
        }
        let needed: HashSet<_> = touched.map(|contact| self.identities.primary(contact)).collect();
        for _ in 0..self.recent.len() {
            if self.identities.len() <= len_max {
                break;
            }
            let Some(primary) = self.recent.pop_front() else { break };
            // One that was demoted since belongs to another, which has a place of its own.
            let Some(identity) = self.identities.led_by(primary) else { continue };
            let is_large = identity.contacts().len() >= LARGE_IDENTITY_LEN_MIN;
            if is_large || needed.contains(&primary) {
                self.recent.push_back(primary);
            } else {
                self.packed.put(identity.contacts());
                self.identities.remove(primary);
            }
        }
    }

    pub fn is_full(&self) -> bool {
        self.identities.len() > KNOWN_LEN_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{
        Answer, Commitment, Email, Event, Identifiers, Observation, ObservationId, PhoneNumber,
        Salt, Timestamp, resolve,
    };
    use proptest::prelude::*;
    use std::sync::Arc;

    fn observation(id: i64, email: Option<u8>, phone: Option<u8>) -> Option<Observation> {
        let email = email.map(|user| format!("User{user}@example.com"));
        let phone = phone.map(|line| format!("030 {line}"));
        let keys = Keys {
            email: email.as_ref().map(|email| Key::links(&email.to_lowercase())),
            phone_number: phone.as_ref().map(|number| Key::links(number)),
        };
        let email = email.as_deref().map(Email::recorded);
        let identifiers = Identifiers::new(email, phone.as_deref().map(PhoneNumber::recorded))?;
        let commitment = Commitment::to(&identifiers, Salt([0; 16]));
        Some(Observation { id: ObservationId::new(id), identifiers, keys, commitment })
    }

    fn answer(identities: &mut Identities, seen: &Observation) -> (Arc<Answer>, Option<ContactId>) {
        let decision = resolve(identities, seen.id, &seen.keys);
        for fact in decision.facts(seen.commitment, None) {
            let recorded_at = Timestamp::from_timestamp_micros(seen.id.get()).unwrap();
            let event = Event { position: Position::new(1), recorded_at, fact };
            identities.apply(&event, seen);
        }
        let begun = decision.begins_identity().then_some(decision.primary_id);
        (identities.identity_of(decision.primary_id).answer(), begun)
    }

    proptest! {
        #[test]
        fn what_was_packed_is_as_good_as_what_was_not(
            seen in prop::collection::vec((prop::option::of(0_u8..40), prop::option::of(0_u8..40)), 1..200),
            len_max in 0_usize..4,
        ) {
            let mut whole = Identities::default();
            let mut known = Known::default();
            for (id, (email, phone)) in (1..).zip(seen) {
                let Some(seen) = observation(id, email, phone) else { continue };
                known.recall([&seen.keys].into_iter());
                let (answer_known, begun) = answer(&mut known.identities, &seen);
                known.recent.extend(begun);
                prop_assert_eq!(answer_known, answer(&mut whole, &seen).0);
                known.release(len_max, std::iter::empty());
                let recent = known.recent.iter().filter_map(|one| known.identities.led_by(*one));
                let lens = recent.map(|identity| identity.contacts().len());
                let small_len: usize = lens.filter(|len| *len < LARGE_IDENTITY_LEN_MIN).sum();
                prop_assert!(small_len <= len_max);
            }
        }
    }
}
