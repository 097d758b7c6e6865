//! What is right, computed the naive way: connected components of observations.

use super::Contact;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What a request says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    pub email: Option<String>,
    pub phone_number: Option<String>,
}

impl Seen {
    pub fn new(email: &str, phone_number: &str) -> Self {
        let given = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
        Self { email: given(email), phone_number: given(phone_number) }
    }

    fn values(&self) -> impl Iterator<Item = String> {
        [self.email.clone(), self.phone_number.clone()].into_iter().flatten()
    }
}

/// An email and a phone number, each of which may be empty.
impl From<(&str, &str)> for Seen {
    fn from((email, phone_number): (&str, &str)) -> Self {
        Self::new(email, phone_number)
    }
}

impl From<&Seen> for Seen {
    fn from(seen: &Seen) -> Self {
        seen.clone()
    }
}

/// Observations from a small world, so that they meet often. The same seed gives the same ones.
pub fn random_observations(seed: u64, len: usize, world: u64) -> Vec<Seen> {
    let mut state = seed;
    let mut random = move |below: u64| {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    };
    let observation = |_| {
        let email = format!("user{}@shop.example", random(world));
        let phone_number = format!("030{}", 1000 + random(world));
        match random(6) {
            0 => Seen::new(&email, ""),
            1 => Seen::new("", &phone_number),
            _ => Seen::new(&email, &phone_number),
        }
    };
    (0..len).map(observation).collect()
}

/// The values of each customer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Model {
    customers: BTreeSet<BTreeSet<String>>,
}

impl Model {
    pub fn of<'a>(all: impl IntoIterator<Item = &'a Seen>) -> Self {
        let mut customers: BTreeSet<BTreeSet<String>> = BTreeSet::new();
        for seen in all {
            let mut values: BTreeSet<String> = seen.values().collect();
            customers.retain(|customer| {
                let apart = values.is_disjoint(customer);
                if !apart {
                    values.extend(customer.iter().cloned());
                }
                apart
            });
            customers.insert(values);
        }
        Self { customers }
    }

    /// Checks that these are the identities that a ledger should show, and that each is
    /// led by its oldest contact.
    #[track_caller]
    pub fn check(&self, shown: impl IntoIterator<Item = Contact>) {
        let mut by_primary = BTreeMap::new();
        for contact in shown {
            assert!(contact.secondary_contact_ids.is_sorted());
            assert!(
                contact.secondary_contact_ids.iter().all(|id| *id > contact.primary_contact_id)
            );
            by_primary.insert(contact.primary_contact_id, contact);
        }
        let values = |contact: &Contact| {
            let values = contact.emails.iter().chain(&contact.phone_numbers).cloned();
            let distinct: BTreeSet<_> = values.collect();
            assert_eq!(distinct.len(), contact.emails.len() + contact.phone_numbers.len());
            distinct
        };
        let customers: BTreeSet<_> = by_primary.values().map(values).collect();
        assert_eq!(customers.len(), by_primary.len());
        assert_eq!(customers, self.customers);
    }
}
