//! Checks a rule change that concerned what was erased since. Its events are believed if only the
//! erased observations could bear witness, and they must be exactly the differences that they make.

use super::mismatch::{Mismatch, fact_text};
use crate::identity::{
    ContactId, Differences, Erasures, Event, Fact, Filing, Links, ObservationId, Position,
};

/// A change whose events are being folded.
pub struct RuleChange {
    /// The position of its `RulesActivated`.
    position: Position,
    /// The links before the change, compressed.
    before: Links,
    facts: Vec<Fact>,
}

impl RuleChange {
    pub fn new(position: Position, before: Links) -> Self {
        Self { position, before, facts: Vec::new() }
    }

    /// Takes the next event. Fails if it cannot be folded.
    pub fn take(&mut self, event: &Event, links: &mut Links) -> Result<(), Mismatch> {
        if !can_be_folded(&event.fact, links) {
            let found = fact_text(&event.fact);
            return Err(Mismatch::decision(event.position, "a difference", found));
        }
        self.facts.push(event.fact.clone());
        Ok(())
    }

    /// Checks the change as a whole, now that `after` is its fold: its events are its differences, and
    /// it leads to what the observations lead to that no event erases.
    pub fn check(
        &self,
        after: &mut Links,
        decided: &Links,
        erasures: &Erasures,
    ) -> Result<(), Mismatch> {
        after.compress_all();
        self.check_facts(after)?;
        let believed = erasures.primaries(after);
        for id in after.ids() {
            let (Some(filing), Some(primary)) = (after.filing(id), after.primary_of(id)) else {
                continue;
            };
            // Observations that belong together without the erased ones belong together with them, too.
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

    fn check_facts(&self, after: &Links) -> Result<(), Mismatch> {
        let differences = Differences::between(&self.before, after);
        let mut expected = differences.facts(&self.before, after);
        let mut position = self.position;
        for fact in &self.facts {
            position = position.next();
            let expected = expected.next();
            if expected.as_ref() != Some(fact) {
                let expected =
                    expected.map_or_else(|| "no such difference".to_owned(), |it| fact_text(&it));
                return Err(Mismatch::decision(position, expected, fact_text(fact)));
            }
        }
        match expected.next() {
            Some(fact) => {
                Err(Mismatch::decision(position.next(), fact_text(&fact), "no such difference"))
            }
            None => Ok(()),
        }
    }

    fn differs(&self, id: ObservationId, decided: Option<Filing>, filing: Filing) -> Mismatch {
        let words = |filing: Option<Filing>| match filing {
            Some(Filing::Contact { primary }) => format!("contact {id}, led by {primary}"),
            Some(Filing::Under { contact }) => format!("observation {id}, filed under {contact}"),
            None => "nothing".to_owned(),
        };
        Mismatch::decision(self.position, words(decided), words(Some(filing)))
    }
}

/// Whether everything that a difference names is there. A primary that it names must lead an identity
/// by then.
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
