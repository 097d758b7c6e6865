//! A rule change that concerned what was erased since. Its events are believed where only that could
//! bear witness, and must be the differences that they make.

use super::difference::{Difference, told};
use crate::identity::{
    ContactId, Differences, Erasures, Event, Fact, Filing, Links, ObservationId, Position,
};

/// A change whose events are being folded.
pub struct RuleChange {
    /// Of its `RulesActivated`.
    position: Position,
    /// What was, compressed.
    before: Links,
    facts: Vec<Fact>,
}

impl RuleChange {
    pub fn new(position: Position, before: Links) -> Self {
        Self { position, before, facts: Vec::new() }
    }

    /// Takes the next event, if what it says can be folded.
    pub fn take(&mut self, event: &Event, links: &mut Links) -> Result<(), Difference> {
        if !can_be_folded(&event.fact, links) {
            let found = told(&event.fact);
            return Err(Difference::decision(event.position, "a difference", found));
        }
        self.facts.push(event.fact.clone());
        Ok(())
    }

    /// Checks the change as a whole, now that `after` is its fold: the events are its differences,
    /// and it leads to what the observations lead to that are not to be erased.
    pub fn check(
        &self,
        after: &mut Links,
        decided: &Links,
        erasures: &Erasures,
    ) -> Result<(), Difference> {
        after.compress_all();
        self.check_facts(after)?;
        let believed = erasures.primaries(after);
        for id in (1..=after.last().get()).map(ObservationId::new) {
            let (Some(filing), Some(primary)) = (after.filing(id), after.primary_of(id)) else {
                continue;
            };
            // What would have been filed together without the erased is together with them, too.
            let together =
                decided.primary_of(id).and_then(|primary| after.primary_of(primary.into()));
            let is_right = match believed.contains(&primary) {
                false => decided.filing(id) == Some(filing),
                true => erasures.contains(id) || together == Some(primary),
            };
            if !is_right {
                return Err(self.differs(id, decided.filing(id), filing));
            }
        }
        Ok(())
    }

    fn check_facts(&self, after: &Links) -> Result<(), Difference> {
        let differences = Differences::between(&self.before, after);
        let mut expected = differences.facts(&self.before, after);
        let mut position = self.position;
        for fact in &self.facts {
            position = position.next();
            let expected = expected.next();
            if expected.as_ref() != Some(fact) {
                let expected =
                    expected.map_or_else(|| "no such difference".to_owned(), |it| told(&it));
                return Err(Difference::decision(position, expected, told(fact)));
            }
        }
        match expected.next() {
            Some(fact) => {
                Err(Difference::decision(position.next(), told(&fact), "no such difference"))
            }
            None => Ok(()),
        }
    }

    fn differs(&self, id: ObservationId, decided: Option<Filing>, filing: Filing) -> Difference {
        let words = |filing: Option<Filing>| match filing {
            Some(Filing::Contact { primary }) => format!("contact {id}, led by {primary}"),
            Some(Filing::Under { contact }) => format!("observation {id}, filed under {contact}"),
            None => "nothing".to_owned(),
        };
        Difference::decision(self.position, words(decided), words(Some(filing)))
    }
}

/// Whether everything is there that a difference speaks of: whoever something is linked to leads an
/// identity by then.
fn can_be_folded(fact: &Fact, links: &mut Links) -> bool {
    let (Some(contact), Some(primary)) = (fact.contact_id(), fact.primary_id()) else {
        return false;
    };
    let is_linked = contact != primary && links.find(primary) == Some(primary);
    let belongs = links.find(contact) == Some(primary);
    let filing = |id: ContactId| links.filing(id.into());
    let is_contact = matches!(filing(contact), Some(Filing::Contact { .. }));
    match fact {
        Fact::ContactPromoted(_) => is_contact,
        Fact::ContactLinked(_) | Fact::PrimaryDemoted(_) => is_contact && is_linked,
        Fact::ContactIntroduced(_) => {
            matches!(filing(contact), Some(Filing::Under { .. }))
                && (contact == primary || is_linked)
        }
        Fact::ContactRetired(_) | Fact::ObservationMoved(_) => {
            let observation = fact.observation_id().map(ContactId::from);
            let is_there = observation.is_some_and(|id| id != contact && filing(id).is_some());
            is_there && belongs && observation != Some(primary)
        }
        Fact::RulesActivated(_)
        | Fact::ContactObserved(_)
        | Fact::ContactErased(_)
        | Fact::LedgerRestored(_) => false,
    }
}
