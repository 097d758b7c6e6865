//! Makes decisions again from the observations, and compares them with the events.

use super::mismatch::{Mismatch, fact_text};
use super::rule_change::RuleChange;
use crate::identity::{
    Census, ContactErased, ContactId, ContactObserved, Differences, Erasures, Event, Fact, Holders,
    Identifiers, Links, ObservationId, Rules, believe,
};
use crate::projection::Replay;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// What the events up to a position say, and what the resolver decides about the observations.
///
/// Observations that were erased since cannot be resolved. So if a decision concerned an identity
/// with one of them, what it says about the holders of keys is believed, and what follows from that
/// is checked.
#[derive(Default)]
pub struct Decisions {
    /// The fold of the events.
    pub replay: Replay,
    /// The rules in force at that position. `None` if this binary would make other keys by them.
    rules: Option<Rules>,
    /// What the observations lead to that were not erased since.
    census: Census,
    /// The facts that have been decided and must come next.
    expected: VecDeque<Fact>,
    /// A rule change under way whose facts cannot be expected, because it concerns what was erased
    /// since.
    change: Option<RuleChange>,
    erasures: Arc<Erasures>,
    /// The primaries of identities with observations that a later event erases.
    to_be_erased: HashSet<ContactId>,
    /// Observations whose decisions were made again.
    pub remade_len: i64,
    /// Observations whose decisions were believed.
    pub believed_len: i64,
    /// Observations whose decisions could not be checked.
    pub not_remade_len: i64,
}

impl Decisions {
    /// `erasures` are those of the whole ledger.
    pub fn beside(erasures: Arc<Erasures>) -> Self {
        Self { erasures, ..Self::default() }
    }

    /// Checks the next event, which is no `RulesActivated`. `identifiers` are those of its
    /// observation, if it is a `ContactObserved` and they were not erased.
    pub fn check(
        &mut self,
        event: &Event,
        identifiers: Option<&Identifiers>,
    ) -> Result<(), Mismatch> {
        if !self.replay.can_take(event) {
            return Err(differs(event, "numbers that were given, each led by an older one"));
        }
        match (&event.fact, &mut self.change) {
            (Fact::ContactErased(erased), _) => {
                self.settle(event)?;
                self.check_erased(event, erased)?;
            }
            (Fact::LedgerRestored(_), _) => self.settle(event)?,
            (Fact::ContactObserved(observed), _) => {
                self.settle(event)?;
                self.decide(event, observed, identifiers)?;
            }
            (_, Some(change)) => change.take(event, &mut self.replay.links)?,
            (_, None) => self.take_expected(event)?,
        }
        self.fold(event);
        Ok(())
    }

    /// The last observation that was checked.
    pub fn last_observation(&self) -> ObservationId {
        self.replay.links.last()
    }

    /// Whether a number was skipped when a loss was accepted.
    pub fn is_skipped(&self, id: ObservationId) -> bool {
        self.replay.links.is_skipped(id)
    }

    /// Takes a `RulesActivated`. From here on the differences that it makes must come, and then
    /// decisions by the new rules. `decided` are these rules and a census of all observations so far;
    /// `None` if this binary cannot decide by them.
    pub fn activate(
        &mut self,
        event: &Event,
        decided: Option<(Rules, Census)>,
    ) -> Result<(), Mismatch> {
        self.settle(event)?;
        self.check_left_over()?;
        let (rules, census) = decided.unzip();
        (self.rules, self.census) = (rules, census.unwrap_or_default());
        if self.rules.is_some() {
            self.replay.links.compress_all();
            self.census.links.compress_all();
            self.expect_differences(event);
        }
        self.fold(event);
        Ok(())
    }

    /// Who holds which key by these rules. Empty if the decisions were made by other rules.
    pub fn holders_by(&mut self, rules: &Rules) -> Holders {
        match &self.rules {
            Some(own) if own == rules => std::mem::take(&mut self.census.holders),
            _ => Holders::default(),
        }
    }

    /// How many observations were erased.
    pub fn erased_len(&self) -> usize {
        self.erasures.len()
    }

    /// Checks that everything that was expected has come.
    pub fn end(&mut self) -> Result<(), Mismatch> {
        if let Some(fact) = self.expected.front() {
            let position = self.replay.position.next();
            return Err(Mismatch::decision(position, fact_text(fact), "the end of the ledger"));
        }
        self.end_change()?;
        self.check_left_over()
    }

    /// Checks, before an event that begins something new, that what had begun has ended.
    fn settle(&mut self, event: &Event) -> Result<(), Mismatch> {
        match self.expected.front() {
            Some(expected) => Err(differs(event, fact_text(expected))),
            None => self.end_change(),
        }
    }

    fn end_change(&mut self) -> Result<(), Mismatch> {
        let Some(change) = self.change.take() else { return Ok(()) };
        let links = &mut self.replay.links;
        change.check(links, &self.census.links, &self.erasures)?;
        self.to_be_erased = self.erasures.primaries(links);
        Ok(())
    }

    fn expect_differences(&mut self, event: &Event) {
        let links = &self.replay.links;
        if !self.erasures.primaries(links).is_empty() {
            self.change = Some(RuleChange::new(event.position, links.clone()));
            return;
        }
        let differences = Differences::between(links, &self.census.links);
        self.expected.extend(differences.facts(links, &self.census.links));
    }

    fn decide(
        &mut self,
        event: &Event,
        observed: &ContactObserved,
        identifiers: Option<&Identifiers>,
    ) -> Result<(), Mismatch> {
        let Some(rules) = &self.rules else {
            self.not_remade_len += 1;
            return Ok(());
        };
        let id = observed.observation_id;
        let decision = identifiers.map(|identifiers| {
            self.census.observe(id, &rules.keys(identifiers), event.recorded_at)
        });
        let links = &mut self.replay.links;
        let decision = match decision.filter(|_| !concerns(observed, links, &self.to_be_erased)) {
            Some(decision) => {
                self.remade_len += 1;
                decision
            }
            None => {
                self.believed_len += 1;
                let believed = believe(observed, |holder| links.find(holder));
                believed.ok_or_else(|| differs(event, "holders that are contacts"))?
            }
        };
        if identifiers.is_none() {
            self.census.leave_out(id);
        }
        // Who asked is not decided, so it is taken as recorded.
        self.expected.extend(decision.facts(observed.commitment, observed.asked_by.clone()));
        self.take_expected(event)
    }

    fn take_expected(&mut self, event: &Event) -> Result<(), Mismatch> {
        match self.expected.pop_front() {
            Some(expected) if expected == event.fact => Ok(()),
            Some(expected) => Err(differs(event, fact_text(&expected))),
            None if self.rules.is_some() => Err(differs(event, "no such decision")),
            None => Ok(()),
        }
    }

    fn check_erased(&self, event: &Event, erased: &ContactErased) -> Result<(), Mismatch> {
        let primary = erased.contact_id;
        let ids = &erased.observation_ids;
        let links = &self.replay.links;
        if !ids.is_sorted_by(|one, next| one < next) || !ids.contains(&primary.into()) {
            return Err(differs(event, "numbers in order, the primary's among them"));
        }
        if let Some(other) = ids.iter().find(|id| links.primary_of(**id) != Some(primary)) {
            let expected = format!("observations of {primary}, as {other} is none");
            return Err(differs(event, expected));
        }
        Ok(())
    }

    /// Checks that each erasure took the whole identity.
    fn check_left_over(&self) -> Result<(), Mismatch> {
        let Some(id) = self.replay.links.left_over() else { return Ok(()) };
        let expected = "no observation of an erased identity that is not erased";
        Err(Mismatch::anywhere("erasure", expected, format!("observation {id}")))
    }

    fn fold(&mut self, event: &Event) {
        self.replay.apply(event);
        match &event.fact {
            Fact::ContactObserved(observed) if self.erasures.contains(observed.observation_id) => {
                let primary = self.replay.links.primary_of(observed.observation_id);
                self.to_be_erased.extend(primary);
            }
            Fact::ContactLinked(_) | Fact::PrimaryDemoted(_) => {
                let [contact, primary] = [event.fact.contact_id(), event.fact.primary_id()];
                if contact.is_some_and(|contact| self.to_be_erased.remove(&contact)) {
                    self.to_be_erased.extend(primary);
                }
            }
            Fact::ContactErased(erased) => _ = self.to_be_erased.remove(&erased.contact_id),
            _ => {}
        }
    }
}

/// Whether an observation matched one of these identities.
fn concerns(observed: &ContactObserved, links: &mut Links, primaries: &HashSet<ContactId>) -> bool {
    let holders = [observed.email, observed.phone_number].into_iter().flatten();
    let mut holders = holders.filter_map(|matched| matched.holder());
    !primaries.is_empty()
        && holders.any(|holder| links.find(holder).is_some_and(|id| primaries.contains(&id)))
}

fn differs(event: &Event, expected: impl ToString) -> Mismatch {
    Mismatch::decision(event.position, expected, fact_text(&event.fact))
}
