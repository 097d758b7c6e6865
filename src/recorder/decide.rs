//! Decides a batch, in memory: from what is known to what is to be appended.

use super::queue::{Recorded, Request};
use crate::identity::{
    ContactId, Event, Fact, Identities, Observation, Position, Timestamp, resolve,
};
use crate::projection::{Head, Snapshot};

/// A batch, decided at `before`: right only as long as that is the head.
pub struct Decided {
    pub before: Head,
    pub recorded_at: Timestamp,
    pub events: Vec<Event>,
    pub observations: Vec<Observation>,
    /// The position of the `ContactObserved` of each observation.
    pub observed_at: Vec<Position>,
    /// The contacts after the batch: those that it introduced or demoted are among them.
    pub known: Identities,
    pub introduced: Vec<ContactId>,
    /// Primaries from before the batch that are secondaries after it.
    pub demoted: Vec<ContactId>,
    pub answers: Vec<Recorded>,
    /// In contacts.
    pub identity_len_max: usize,
}

/// Decides the requests one after another, each knowing those before it.
pub fn decide(snapshot: Snapshot, requests: &[Request]) -> Decided {
    let before = snapshot.head;
    let mut batch = Decided {
        // Time never runs backwards in a ledger, whatever the server's clock does.
        recorded_at: snapshot.now.max(before.recorded_at),
        events: Vec::with_capacity(2 * requests.len()),
        observations: Vec::with_capacity(requests.len()),
        observed_at: Vec::with_capacity(requests.len()),
        known: snapshot.identities,
        introduced: Vec::new(),
        demoted: Vec::new(),
        answers: Vec::with_capacity(requests.len()),
        identity_len_max: 0,
        before,
    };
    for request in requests {
        batch.observe(request);
    }
    batch
}

impl Decided {
    /// The position of the batch's last event.
    pub fn last_position(&self) -> Position {
        self.events.last().map_or(self.before.position, |event| event.position)
    }

    fn observe(&mut self, request: &Request) {
        let last = self.observations.last().map_or(self.before.observation_id, |last| last.id);
        let observation = Observation {
            id: last.next(),
            identifiers: request.identifiers.clone(),
            keys: request.keys.clone(),
            commitment: request.commitment,
        };
        self.observed_at.push(self.last_position().next());
        let mut primary_id = observation.id.into();
        for fact in resolve(&self.known, &observation) {
            match &fact {
                Fact::ContactObserved(observed) => {
                    primary_id = observed.primary_id;
                    self.introduced.extend(observed.introduced().then_some(observed.contact_id));
                }
                Fact::PrimaryDemoted(demoted) => self.demote(demoted.contact_id),
                Fact::ContactLinked(_) | Fact::RulesActivated(_) => {}
            }
            let position = self.last_position().next();
            let event = Event { position, recorded_at: self.recorded_at, fact };
            self.known.apply(&event, &observation);
            self.events.push(event);
        }
        let identity = self.known.identity_of(primary_id);
        self.identity_len_max = self.identity_len_max.max(identity.contacts().len());
        self.answers.push(Recorded { answer: identity.answer(), position: self.last_position() });
        self.observations.push(observation);
    }

    fn demote(&mut self, primary: ContactId) {
        let from_before = primary <= ContactId::from(self.before.observation_id);
        self.demoted.extend(from_before.then_some(primary));
    }
}
