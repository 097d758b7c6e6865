//! The observations that were erased by now. What was decided of them cannot be checked any more.

use super::event::Event;
use super::fact::Fact;
use super::id::{ContactId, ObservationId};
use super::links::Links;
use std::collections::{BTreeSet, HashSet};

/// The observations that the erasures in a ledger or in an export name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Erasures(BTreeSet<ObservationId>);

impl Erasures {
    /// Notes what a line says, if it is an erasure. Whether the line is right is checked elsewhere.
    pub fn note(&mut self, line: &str) {
        if line.contains(r#""kind":"ContactErased""#)
            && let Ok(Event { fact: Fact::ContactErased(erased), .. }) = Event::parse(line)
        {
            self.0.extend(erased.observation_ids);
        }
    }

    pub fn contains(&self, id: ObservationId) -> bool {
        self.0.contains(&id)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The primaries of the identities that still have an observation that one of these erasures names.
    pub fn primaries(&self, links: &Links) -> HashSet<ContactId> {
        self.0.range(..=links.last()).filter_map(|id| links.primary_of(*id)).collect()
    }
}
