//! Decides a batch in memory: what is known goes in, and what is to be appended comes out.

use super::queue::{Outcome, Recorded, Request};
use super::retry::RetryKey;
use crate::identity::{
    Contact, ContactId, Event, Identities, ObservationId, Position, Timestamp, resolve, rfc_3339,
};
use crate::projection::Head;
use std::collections::HashSet;
use std::sync::Arc;

/// Number of contacts that the answers of a batch may name, an answer that several requests share counted
/// once. The answers of large identities are long, and all are kept until they are sent.
const ANSWERS_LEN_MAX: usize = 200_000;

/// Requests, decided one after another. The decisions are right only while `before` is the head.
pub struct Batch {
    pub before: Head,
    /// The time of all events in the batch.
    pub recorded_at: Timestamp,
    /// That time as the lines have it.
    recorded_at_text: String,
    /// The requests, in the order of their observations' numbers.
    pub requests: Vec<Request>,
    pub retry_keys: HashSet<RetryKey>,
    pub events: Vec<Event>,
    /// The line of each event.
    pub lines: Vec<String>,
    /// The position of the `ContactObserved` of each request.
    pub observed_positions: Vec<Position>,
    /// The contacts that the batch introduces, as they are when it is closed.
    pub contacts: Vec<Contact>,
    /// Primaries from before the batch that it demotes, each with its primary when the batch is closed.
    pub demoted: Vec<(ContactId, ContactId)>,
    answers: Vec<Recorded>,
    /// Number of contacts that the answers name.
    answers_len: usize,
    introduced: Vec<ContactId>,
    /// A contact of each identity that the requests concern.
    pub touched: Vec<ContactId>,
    /// Number of contacts of the largest of these identities.
    pub identity_len_max: usize,
    /// Number of observations of which the rules let nothing link.
    pub unlinked_len: usize,
}

impl Batch {
    /// An empty batch, to be decided on top of what the ledger has up to `before`.
    pub fn at(before: Head, now: Timestamp) -> Self {
        // Time never runs backwards in a ledger, whatever the server's clock does.
        let recorded_at = now.max(before.recorded_at);
        Self {
            recorded_at,
            recorded_at_text: rfc_3339(recorded_at),
            before,
            requests: Vec::new(),
            retry_keys: HashSet::new(),
            events: Vec::new(),
            lines: Vec::new(),
            observed_positions: Vec::new(),
            contacts: Vec::new(),
            demoted: Vec::new(),
            answers: Vec::new(),
            answers_len: 0,
            introduced: Vec::new(),
            touched: Vec::new(),
            identity_len_max: 0,
            unlinked_len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether the next requests had better go into another batch.
    pub fn is_full(&self) -> bool {
        self.answers_len >= ANSWERS_LEN_MAX
    }

    /// The position of the last event, or of the head if there is none.
    pub fn last_position(&self) -> Position {
        self.events.last().map_or(self.before.position, |event| event.position)
    }

    /// The numbers of the observations.
    pub fn observation_ids(&self) -> impl Iterator<Item = ObservationId> {
        let first = self.before.observation_id.next().get();
        (first..).map(ObservationId::new).take(self.len())
    }

    fn last_observation_id(&self) -> ObservationId {
        ObservationId::new(self.before.observation_id.get() + self.len() as i64)
    }

    /// The end of the ledger once the batch is appended.
    pub fn head(&self) -> Head {
        Head {
            position: self.last_position(),
            observation_id: self.last_observation_id(),
            recorded_at: self.recorded_at,
            rules_digest: self.before.rules_digest.clone(),
            contact_table: self.before.contact_table,
        }
    }

    /// Decides one more request on top of those before it, and applies its events to what is known.
    /// Returns its contact if that begins an identity.
    pub fn decide(&mut self, known: &mut Identities, request: Request) -> Option<ContactId> {
        self.observed_positions.push(self.last_position().next());
        let decision = resolve(known, self.last_observation_id().next(), &request.keys);
        self.introduced.extend(decision.introduces().then_some(decision.contact_id));
        if let Some(primary) = decision.demoted() {
            self.demote(primary);
        }
        for fact in decision.facts(request.commitment, request.asked_by.clone()) {
            let position = self.last_position().next();
            let event = Event { position, recorded_at: self.recorded_at, fact };
            known.apply(&event, &request.identifiers, &request.keys);
            // Written now, rather than when the batch is sent: the one before it is still being appended.
            self.lines.push(event.line_at(&self.recorded_at_text));
            self.events.push(event);
        }
        self.unlinked_len += usize::from(decision.links_nothing());
        let primary_id = decision.primary_id;
        let identity = known.identity_of(primary_id);
        let identity_len = identity.contacts().len();
        self.identity_len_max = self.identity_len_max.max(identity_len);
        let answer = identity.answer();
        // One handle is held here, and one by the identity if the answer is long. With a third, the
        // answer is that of an earlier request, too, and was counted then.
        if Arc::strong_count(&answer) <= 2 {
            self.answers_len += identity_len;
        }
        self.answers.push(Recorded { answer, position: self.last_position() });
        self.touched.push(primary_id);
        self.retry_keys.extend(request.retry_key);
        self.requests.push(request);
        decision.begins_identity().then_some(primary_id)
    }

    fn demote(&mut self, primary: ContactId) {
        // A contact that this batch introduces is not updated: it is inserted as it is in the end.
        if primary <= ContactId::from(self.before.observation_id) {
            self.demoted.push((primary, primary));
        }
    }

    /// Closes the batch: takes its contacts as `known` has them, which must be as they were after
    /// its last request.
    pub fn close(&mut self, known: &Identities) {
        self.contacts = self.introduced.iter().map(|id| known.contact(*id).clone()).collect();
        for (contact, primary) in &mut self.demoted {
            *primary = known.primary(*contact);
        }
    }

    /// Answers the callers, once the batch is appended.
    pub fn answer(self) {
        for (request, recorded) in self.requests.into_iter().zip(self.answers) {
            request.answer(Ok(Outcome::Recorded(recorded)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn time_never_runs_backwards() {
        let before = Head::at(1);
        let recorded_at = |seconds| {
            let now = before.recorded_at + TimeDelta::seconds(seconds);
            Batch::at(before.clone(), now).recorded_at - before.recorded_at
        };
        assert_eq!([-1, 0, 1].map(recorded_at), [0, 0, 1].map(TimeDelta::seconds));
    }
}
