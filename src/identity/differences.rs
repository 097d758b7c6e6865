//! The facts that a rule change records: the differences between two states of the same observations.

use super::fact::{
    ContactIntroduced, ContactLinked, ContactPromoted, ContactRetired, Fact, ObservationMoved,
    PrimaryDemoted,
};
use super::id::{ContactId, ObservationId};
use super::links::{Filing, Links};

/// The facts that lead from one state of a ledger's observations to another, in an order that can be
/// folded: a contact that others are linked to leads an identity by then, and no contact is linked to
/// one that retires.
#[derive(Default)]
pub struct Differences {
    promoted: Vec<ObservationId>,
    introduced: Vec<ObservationId>,
    demoted: Vec<ObservationId>,
    linked: Vec<ObservationId>,
    retired: Vec<ObservationId>,
    moved: Vec<ObservationId>,
    /// Secondaries of a demoted primary that go where it goes. They have no facts of their own.
    moved_along: Vec<ObservationId>,
}

impl Differences {
    /// Compares two states of the same observations. Quick if both are compressed.
    pub fn between(before: &Links, after: &Links) -> Self {
        let mut differences = Self::default();
        for id in after.ids() {
            let (Some(was), Some(is)) = (before.filing(id), after.filing(id)) else { continue };
            if let Some(ids) = differences.list(after, id, was, is) {
                ids.push(id);
            }
        }
        differences
    }

    /// The facts to record. Each is made when it is asked for, from the two states.
    pub fn facts<'a>(
        &'a self,
        before: &'a Links,
        after: &'a Links,
    ) -> impl Iterator<Item = Fact> + 'a {
        let primary = |id: ContactId| primary_of(after, id);
        let promoted = self.promoted.iter().map(|id| {
            let contact_id = ContactId::from(*id);
            let former_primary_id = primary_of(before, contact_id);
            Fact::ContactPromoted(ContactPromoted { contact_id, former_primary_id })
        });
        let introduced = self.introduced.iter().map(move |id| {
            let contact_id = ContactId::from(*id);
            let primary_id = primary(contact_id);
            Fact::ContactIntroduced(ContactIntroduced { contact_id, primary_id })
        });
        let demoted = self.demoted.iter().map(move |id| {
            let contact_id = ContactId::from(*id);
            let primary_id = primary(contact_id);
            let (holder_ids, observation_id) = (None, None);
            let demoted = PrimaryDemoted { contact_id, holder_ids, observation_id, primary_id };
            Fact::PrimaryDemoted(demoted)
        });
        let linked = self.linked.iter().map(move |id| {
            let contact_id = ContactId::from(*id);
            Fact::ContactLinked(ContactLinked { contact_id, primary_id: primary(contact_id) })
        });
        let retired = self.retired.iter().map(move |id| {
            let contact_id = filed_under(after, *id);
            let primary_id = primary(contact_id);
            Fact::ContactRetired(ContactRetired { contact_id, observation_id: *id, primary_id })
        });
        let moved = self.moved.iter().map(move |id| {
            let contact_id = filed_under(after, *id);
            let primary_id = primary(contact_id);
            Fact::ObservationMoved(ObservationMoved { contact_id, observation_id: *id, primary_id })
        });
        promoted.chain(introduced).chain(demoted).chain(linked).chain(retired).chain(moved)
    }

    /// Number of facts.
    pub fn facts_len(&self) -> usize {
        let lists = [
            &self.promoted,
            &self.introduced,
            &self.demoted,
            &self.linked,
            &self.retired,
            &self.moved,
        ];
        lists.into_iter().map(Vec::len).sum()
    }

    /// The contacts that get another primary, and the observations that become contacts.
    pub fn relinked(&self) -> impl Iterator<Item = ContactId> {
        let lists =
            [&self.promoted, &self.introduced, &self.demoted, &self.linked, &self.moved_along];
        lists.into_iter().flatten().map(|id| ContactId::from(*id))
    }

    /// Number of observations that become contacts.
    pub fn introduced_len(&self) -> usize {
        self.introduced.len()
    }

    /// Number of contacts that are none any more.
    pub fn retired_len(&self) -> usize {
        self.retired.len()
    }

    /// Number of primaries that become secondaries.
    pub fn demoted_len(&self) -> usize {
        self.demoted.len()
    }

    /// Number of secondaries that become primaries.
    pub fn promoted_len(&self) -> usize {
        self.promoted.len()
    }

    /// The list that an observation belongs in, or `None` if nothing changes for it.
    fn list(
        &mut self,
        after: &Links,
        id: ObservationId,
        was: Filing,
        is: Filing,
    ) -> Option<&mut Vec<ObservationId>> {
        let own = ContactId::from(id);
        match (was, is) {
            (was, is) if was == is => None,
            (Filing::Contact { .. }, Filing::Contact { primary }) if primary == own => {
                Some(&mut self.promoted)
            }
            (Filing::Contact { primary }, Filing::Contact { .. }) if primary == own => {
                Some(&mut self.demoted)
            }
            (Filing::Contact { primary: from }, Filing::Contact { primary: to }) => {
                let moves_along = led_by(after, from) == to;
                Some(if moves_along { &mut self.moved_along } else { &mut self.linked })
            }
            (Filing::Under { .. }, Filing::Contact { .. }) => Some(&mut self.introduced),
            (Filing::Contact { .. }, Filing::Under { .. }) => Some(&mut self.retired),
            (Filing::Under { .. }, Filing::Under { .. }) => Some(&mut self.moved),
        }
    }
}

/// The contact that leads a former primary's identity after the demotions, which come before the links.
fn led_by(after: &Links, former_primary: ContactId) -> ContactId {
    match after.filing(former_primary.into()) {
        Some(Filing::Contact { primary }) => primary,
        Some(Filing::Under { .. }) | None => former_primary,
    }
}

fn primary_of(links: &Links, contact: ContactId) -> ContactId {
    match links.filing(contact.into()) {
        Some(Filing::Contact { primary }) => primary,
        Some(Filing::Under { .. }) | None => unreachable!("{contact} is a contact"),
    }
}

fn filed_under(links: &Links, observation: ObservationId) -> ContactId {
    match links.filing(observation) {
        Some(Filing::Under { contact }) => contact,
        Some(Filing::Contact { .. }) | None => unreachable!("{observation} is no contact"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Change, Timestamp};

    /// Contacts 1, 2 and so on, each with its primary.
    fn contacts(primaries: &[i64]) -> Links {
        let mut links = Links::default();
        for (contact, primary) in (1..).zip(primaries) {
            let [contact, primary] = [contact, *primary].map(ContactId::new);
            links.apply(Change::Introduced { contact, primary }, Timestamp::UNIX_EPOCH);
        }
        links
    }

    #[test]
    fn what_moves_along_with_its_primary_has_no_fact() {
        let (before, after) = (contacts(&[1, 2, 2]), contacts(&[1, 1, 1]));
        let differences = Differences::between(&before, &after);
        let [contact_id, primary_id] = [2, 1].map(ContactId::new);
        let (holder_ids, observation_id) = (None, None);
        let demoted = PrimaryDemoted { contact_id, holder_ids, observation_id, primary_id };
        let facts: Vec<_> = differences.facts(&before, &after).collect();
        assert_eq!(facts, [Fact::PrimaryDemoted(demoted)]);
        assert!(differences.relinked().eq([2, 3].map(ContactId::new)), "both get another primary");
    }
}
