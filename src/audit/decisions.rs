//! Decisions, made again from the observations.

use super::difference::Difference;
use crate::identity::{
    Census, Differences, Event, Fact, Holders, Identifiers, ObservationId, Rules,
};
use crate::projection::Replay;
use std::collections::VecDeque;

const PART: &str = "decision";

/// What the events up to a position say, beside what the resolver says to the observations.
#[derive(Default)]
pub struct Decisions {
    /// The fold of the events.
    pub replay: Replay,
    /// The rules then in force. `None` where this binary would make other keys by them.
    rules: Option<Rules>,
    census: Census,
    /// What has been decided and must come next.
    expected: VecDeque<Fact>,
    /// Observations whose decisions were made again, and those where that could not be.
    pub remade_len: i64,
    pub not_remade_len: i64,
}

impl Decisions {
    /// Checks the next event, which is no change of rules. `identifiers` are those of its own
    /// observation, where it is a `ContactObserved`.
    pub fn check(
        &mut self,
        event: &Event,
        identifiers: Option<&Identifiers>,
    ) -> Result<(), Difference> {
        let fact = &event.fact;
        match (fact, &self.rules) {
            (_, Some(_)) if !self.expected.is_empty() => self.take_expected(event)?,
            (Fact::ContactObserved(observed), Some(rules)) => {
                let keys = identifiers.map(|identifiers| rules.keys(identifiers));
                let Some(keys) = keys else {
                    return Err(differs(event, "a decision on an observation", told(fact)));
                };
                let (id, at) = (observed.observation_id, event.recorded_at);
                let decision = self.census.observe(id, &keys, at);
                // Who asked is recorded, and not decided.
                let asked_by = observed.asked_by.clone();
                self.expected.extend(decision.facts(observed.commitment, asked_by));
                self.take_expected(event)?;
                self.remade_len += 1;
            }
            (Fact::ContactObserved(_), None) => self.not_remade_len += 1,
            (_, Some(_)) => return Err(differs(event, "no such decision", told(fact))),
            (_, None) => {}
        }
        self.replay.apply(event);
        Ok(())
    }

    /// The last observation that was checked.
    pub fn last_observation(&self) -> ObservationId {
        self.replay.links.last()
    }

    /// Takes a change of rules: from here on the differences that it makes must come, and then
    /// decisions by the new rules. They come with a census of all observations so far; `None` where
    /// this binary cannot decide by them.
    pub fn activate(
        &mut self,
        event: &Event,
        decided: Option<(Rules, Census)>,
    ) -> Result<(), Difference> {
        if !self.expected.is_empty() {
            self.take_expected(event)?;
        }
        let (rules, mut census) = decided.unzip();
        if let Some(census) = &mut census {
            self.replay.links.compress_all();
            census.links.compress_all();
            let differences = Differences::between(&self.replay.links, &census.links);
            self.expected.extend(differences.facts(&self.replay.links, &census.links));
        }
        (self.rules, self.census) = (rules, census.unwrap_or_default());
        self.replay.apply(event);
        Ok(())
    }

    /// Who holds which key, if these are the rules that it was found by.
    pub fn holders_by(&mut self, rules: &Rules) -> Holders {
        match &self.rules {
            Some(own) if own == rules => std::mem::take(&mut self.census.holders),
            _ => Holders::new(),
        }
    }

    /// Checks that all has come that was to come.
    pub fn end(&self) -> Result<(), Difference> {
        match self.expected.front() {
            Some(fact) => {
                let position = self.replay.position.next().get();
                Err(Difference::at(position, PART, told(fact), "the end of the ledger"))
            }
            None => Ok(()),
        }
    }

    fn take_expected(&mut self, event: &Event) -> Result<(), Difference> {
        let expected = self.expected.pop_front().filter(|expected| *expected != event.fact);
        match expected {
            Some(expected) => Err(differs(event, told(&expected), told(&event.fact))),
            None => Ok(()),
        }
    }
}

fn differs(event: &Event, expected: impl ToString, found: impl ToString) -> Difference {
    Difference::at(event.position.get(), PART, expected, found)
}

/// A fact has numbers and hashes only.
fn told(fact: &Fact) -> String {
    let data = serde_json::to_string(fact).expect("a fact is plain data");
    format!("{} {data}", fact.kind())
}
