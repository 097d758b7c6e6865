//! What an event does to the contacts.

use super::fact::Fact;
use super::id::{ContactId, ObservationId};

/// What an event changes. Everything that keeps contacts, in memory or in a table, applies these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// From here on keys are made by other rules. The changes that follow say what this does to links.
    /// No change says which contact holds a key now: keys have to be made again to find out.
    Rules,
    /// An observation is a contact, linked to `primary`, or leading an identity if that is itself.
    Introduced { contact: ContactId, primary: ContactId },
    /// An observation is no contact, or no longer one, and is filed under one.
    Filed { observation: ObservationId, under: ContactId },
    /// A contact is a secondary of `primary`. No other contact moves with it.
    Linked { contact: ContactId, primary: ContactId },
    /// A primary and all its secondaries are secondaries of `primary`.
    Demoted { contact: ContactId, primary: ContactId },
    /// A secondary leads an identity. No other contact moves with it.
    Promoted { contact: ContactId },
    /// The identity of a primary is erased: all observations that were filed under its contacts.
    Erased { primary: ContactId, observations: &'a [ObservationId] },
    /// The numbers before `next` are left out, since lost observations may have had them.
    Skipped { next: ObservationId },
}

impl Change<'_> {
    /// The contact whose row this changes. If it is a primary that is demoted or erased, the rows of its
    /// secondaries change with it.
    pub fn contact(&self) -> Option<ContactId> {
        match *self {
            Self::Rules | Self::Filed { .. } | Self::Skipped { .. } => None,
            Self::Introduced { contact, .. }
            | Self::Linked { contact, .. }
            | Self::Demoted { contact, .. }
            | Self::Promoted { contact }
            | Self::Erased { primary: contact, .. } => Some(contact),
        }
    }
}

/// Says what a fact changes. Decides nothing, since the fact says what was decided.
pub fn fold(fact: &Fact) -> Change<'_> {
    match fact {
        Fact::RulesActivated(_) => Change::Rules,
        Fact::ContactObserved(observed) => filed(observed.observation_id, observed.contact_id),
        Fact::ContactLinked(linked) => {
            Change::Linked { contact: linked.contact_id, primary: linked.primary_id }
        }
        Fact::PrimaryDemoted(demoted) => {
            Change::Demoted { contact: demoted.contact_id, primary: demoted.primary_id }
        }
        Fact::ContactIntroduced(introduced) => {
            Change::Introduced { contact: introduced.contact_id, primary: introduced.primary_id }
        }
        Fact::ContactRetired(retired) => filed(retired.observation_id, retired.contact_id),
        Fact::ContactPromoted(promoted) => Change::Promoted { contact: promoted.contact_id },
        Fact::ObservationMoved(moved) => filed(moved.observation_id, moved.contact_id),
        Fact::ContactErased(erased) => {
            Change::Erased { primary: erased.contact_id, observations: &erased.observation_ids }
        }
        Fact::LedgerRestored(restored) => Change::Skipped { next: restored.next_observation_id },
    }
}

/// The change of an observation that is filed. Under itself it is a contact, which leads an identity
/// until another event links it.
pub(super) fn filed(observation: ObservationId, under: ContactId) -> Change<'static> {
    if under == ContactId::from(observation) {
        return Change::Introduced { contact: under, primary: under };
    }
    Change::Filed { observation, under }
}
