//! What an event does to the contacts.

use super::event::{Event, Fact, Matched};
use super::id::ContactId;

/// What an event changes. Everything that keeps contacts, in memory or in a table, applies these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A contact is there, a primary for now, and holds these keys of its observation.
    Introduced { contact: ContactId, holds_email: bool, holds_phone: bool },
    /// A contact is a secondary of `primary`.
    Linked { contact: ContactId, primary: ContactId },
    /// `contact` and all its secondaries are secondaries of `primary`.
    Demoted { contact: ContactId, primary: ContactId },
}

/// Folds one event: `None` where it changes no contact. Decides nothing; the event has decided.
pub fn fold(event: &Event) -> Option<Change> {
    match &event.fact {
        Fact::RulesActivated(_) => None,
        Fact::ContactObserved(observed) => observed.introduced().then_some(Change::Introduced {
            contact: observed.contact_id,
            holds_email: observed.email == Some(Matched::New),
            holds_phone: observed.phone_number == Some(Matched::New),
        }),
        Fact::ContactLinked(linked) => {
            Some(Change::Linked { contact: linked.contact_id, primary: linked.primary_id })
        }
        Fact::PrimaryDemoted(demoted) => {
            Some(Change::Demoted { contact: demoted.contact_id, primary: demoted.primary_id })
        }
    }
}
