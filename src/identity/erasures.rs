//! The observations that were erased by now: they bear no witness to what was decided of them.

use super::event::Event;
use super::fact::Fact;
use super::id::{ContactId, ObservationId};
use super::links::Links;
use std::collections::{BTreeSet, HashSet};

/// All that the events of a ledger or of an export name.
#[derive(Debug, Default)]
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

    /// The identities that have an observation among them which is to be erased, and is not yet.
    pub fn primaries(&self, links: &Links) -> HashSet<ContactId> {
        self.0.range(..=links.last()).filter_map(|id| links.primary_of(*id)).collect()
    }
}
