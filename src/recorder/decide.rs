//! Decides a batch, in memory: from what is known to what is to be appended.

use super::queue::{Outcome, Recorded, Request};
use super::retry::RetryKey;
use crate::identity::{
    Contact, ContactId, Event, Identities, ObservationId, Position, Timestamp, resolve, rfc_3339,
};
use crate::projection::Head;
use std::collections::HashSet;
use std::sync::Arc;

/// In contacts that its answers name, those that are the same counted once: of a large identity each
/// answer is long, and kept until all are sent.
const ANSWERS_LEN_MAX: usize = 200_000;

/// Requests, decided one after another: right only as long as `before` is the head.
pub struct Batch {
    pub before: Head,
    /// Of all events in the batch, and as their lines have it.
    pub recorded_at: Timestamp,
    recorded_at_text: String,
    /// Each has the next number.
    pub requests: Vec<Request>,
    pub retry_keys: HashSet<RetryKey>,
    pub events: Vec<Event>,
    /// The line of each.
    pub lines: Vec<String>,
    /// The position of the `ContactObserved` of each request.
    pub observed_positions: Vec<Position>,
    /// The contacts that it introduces, as they are when it is closed.
    pub contacts: Vec<Contact>,
    /// Primaries from before the batch that it demotes, and the primary of each when it is closed.
    pub demoted: Vec<(ContactId, ContactId)>,
    answers: Vec<Recorded>,
    /// In contacts.
    answers_len: usize,
    introduced: Vec<ContactId>,
    /// A contact of each identity that its requests concern.
    pub touched: Vec<ContactId>,
    /// In contacts.
    pub identity_len_max: usize,
    /// How many of the observations link nothing.
    pub unlinked_len: usize,
}

impl Batch {
    /// An empty batch, to be decided at a head.
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

    /// Whether the next requests are better decided in another one.
    pub fn is_full(&self) -> bool {
        self.answers_len >= ANSWERS_LEN_MAX
    }

    /// The position of its last event.
    pub fn last_position(&self) -> Position {
        self.events.last().map_or(self.before.position, |event| event.position)
    }

    /// The numbers of its observations.
    pub fn observation_ids(&self) -> impl Iterator<Item = ObservationId> {
        let first = self.before.observation_id.next().get();
        (first..).map(ObservationId::new).take(self.len())
    }

    fn last_observation_id(&self) -> ObservationId {
        ObservationId::new(self.before.observation_id.get() + self.len() as i64)
    }

    /// The end of the ledger once it is appended.
    pub fn head(&self) -> Head {
        Head {
            position: self.last_position(),
            observation_id: self.last_observation_id(),
            recorded_at: self.recorded_at,
            rules_digest: self.before.rules_digest.clone(),
            contact_table: self.before.contact_table,
        }
    }

    /// Decides one more request, knowing those before it, and folds it into what is known. Returns
    /// the primary of an identity that begins with it.
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
            // Now, for while the batch before it is appended there is time.
            self.lines.push(event.line_at(&self.recorded_at_text));
            self.events.push(event);
        }
        self.unlinked_len += usize::from(decision.links_nothing());
        let primary_id = decision.primary_id;
        let identity = known.identity_of(primary_id);
        let identity_len = identity.contacts().len();
        self.identity_len_max = self.identity_len_max.max(identity_len);
        let answer = identity.answer();
        // With its identity's own: nobody else has it, so it is not one that is kept already.
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
        // A contact of this very batch is written once, as it is in the end.
        if primary <= ContactId::from(self.before.observation_id) {
            self.demoted.push((primary, primary));
        }
    }

    /// Takes the contacts as they are after its last request. `known` knows of no later one.
    pub fn close(&mut self, known: &Identities) {
        self.contacts = self.introduced.iter().map(|id| known.contact(*id).clone()).collect();
        for (contact, primary) in &mut self.demoted {
            *primary = known.primary(*contact);
        }
    }

    /// Tells the callers what was recorded.
    pub fn answer(self) {
        for (request, recorded) in self.requests.into_iter().zip(self.answers) {
            request.answer(Ok(Outcome::Recorded(recorded)));
        }
    }
}
