//! Laws of rule changes, on random ledgers and random sequences of rule sets.

use super::holders::HashedKey;
use super::*;
use proptest::prelude::*;

/// How keys are made in these tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ruling {
    email_links: bool,
    phone_links: bool,
    /// Emails of the user with this number never link.
    blocked: u8,
    /// Emails are compared on that many of their characters.
    email_len: usize,
    phone_len: usize,
}

impl Ruling {
    fn keys(self, identifiers: &Identifiers) -> Keys {
        let key = |text: &str, links: bool| match links {
            true => Key::links(text),
            false => Key::never_links(text),
        };
        let cut = |text: &str, len: usize| text[..len.min(text.len())].to_owned();
        Keys {
            email: identifiers.email().map(|email| {
                let text = cut(email.as_str(), self.email_len);
                let is_blocked = text.contains(char::from(b'0' + self.blocked));
                key(&text, self.email_links && !is_blocked)
            }),
            phone_number: identifiers
                .phone_number()
                .map(|number| key(&cut(number.as_str(), self.phone_len), self.phone_links)),
        }
    }
}

/// A ledger in memory whose rules change.
struct Ledger {
    ruling: Ruling,
    census: Census,
    observations: Vec<Identifiers>,
    /// The fold of all facts, rule changes among them.
    folded: Links,
    past: Past,
    events_len: i64,
}

impl Ledger {
    fn new(ruling: Ruling) -> Self {
        Self {
            ruling,
            census: Census::default(),
            observations: Vec::new(),
            folded: Links::default(),
            past: Past::default(),
            events_len: 0,
        }
    }

    fn with(ruling: Ruling, observations: &[Identifiers]) -> Self {
        let mut ledger = Self::new(ruling);
        observations.iter().for_each(|identifiers| ledger.observe(identifiers.clone()));
        ledger
    }

    fn now(&mut self) -> Timestamp {
        self.events_len += 1;
        Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(self.events_len)
    }

    fn observe(&mut self, identifiers: Identifiers) {
        let at = self.now();
        let id = ObservationId::new(self.observations.len() as i64 + 1);
        let decision = self.census.observe(id, &self.ruling.keys(&identifiers), at);
        let commitment = Commitment::to(&identifiers, Salt([0; 16]));
        for fact in decision.facts(commitment, None) {
            self.folded.apply(fold(&fact), at);
            self.past.apply(fold(&fact));
        }
        self.observations.push(identifiers);
    }

    /// Changes the rules; returns the facts that this appends.
    fn activate(&mut self, ruling: Ruling) -> Vec<Fact> {
        let at = self.now();
        let mut after = Ledger::with(ruling, &self.observations).census;
        self.folded.compress_all();
        after.links.compress_all();
        let differences = Differences::between(&self.folded, &after.links);
        let facts: Vec<_> = differences.facts(&self.folded, &after.links).collect();
        assert_eq!(facts.len(), differences.len());
        self.folded.apply(Change::Rules, at);
        facts.iter().for_each(|fact| self.folded.apply(fold(fact), at));
        facts.iter().for_each(|fact| self.past.apply(fold(fact)));
        self.census = after;
        self.ruling = ruling;
        facts
    }

    /// Where everything stands, by the facts.
    fn filings(&self) -> Vec<Option<Filing>> {
        filings(&self.folded, self.observations.len())
    }

    /// The answer for each observation, by the fold of the facts and the observations alone.
    fn answers(&mut self) -> Vec<Answer> {
        let contacts = self.contacts();
        (1..=self.observations.len() as i64)
            .map(|id| match self.folded.filing(ObservationId::new(id)).unwrap() {
                Filing::Contact { primary } => primary,
                Filing::Under { contact } => self.folded.find(contact).unwrap(),
            })
            .map(|primary| {
                let of_identity = contacts.iter().filter(|contact| contact.primary() == primary);
                Answer::of(&of_identity.cloned().collect::<Vec<_>>())
            })
            .collect()
    }

    fn contacts(&mut self) -> Vec<Contact> {
        let mut holders = Holders::new();
        let ids: Vec<_> =
            self.folded.between(ContactId::new(0), ContactId::new(i64::MAX)).collect();
        let contact = |id: ContactId| {
            let standing = self.folded.standing(id).unwrap();
            let identifiers = &self.observations[id.get() as usize - 1];
            let keys = self.ruling.keys(identifiers);
            let holds = holders.claim(id, &keys);
            Contact::new(identifiers, keys, standing, holds, Timestamp::UNIX_EPOCH)
        };
        ids.into_iter().map(contact).collect()
    }
}

fn filings(links: &Links, observations_len: usize) -> Vec<Option<Filing>> {
    (1..=observations_len as i64).map(|id| links.filing(ObservationId::new(id))).collect()
}

fn any_ruling() -> impl Strategy<Value = Ruling> {
    let links = prop_oneof![4 => Just(true), 1 => Just(false)];
    (links.clone(), links, 0..12u8, 3..6usize, 2..5usize).prop_map(
        |(email_links, phone_links, blocked, email_len, phone_len)| Ruling {
            email_links,
            phone_links,
            blocked,
            email_len,
            phone_len,
        },
    )
}

fn any_identifiers() -> impl Strategy<Value = Identifiers> {
    let parts = (0..6u8, 0..4u8, 0..3u8);
    (parts.clone(), parts, 0..3u8).prop_map(|((a, b, c), (d, e, f), which)| {
        let email = Email::recorded(&format!("{a}_{b}@{c}"));
        let number = PhoneNumber::recorded(&format!("0{d}{e}{f}"));
        let (email, number) = (Some(email), Some(number));
        Identifiers::new(email.filter(|_| which != 1), number.filter(|_| which != 2)).unwrap()
    })
}

fn any_observations() -> impl Strategy<Value = Vec<Identifiers>> {
    prop::collection::vec(any_identifiers(), 1..40)
}

/// Rule changes, each after some more observations.
fn any_history() -> impl Strategy<Value = Vec<(Vec<Identifiers>, Ruling)>> {
    prop::collection::vec((any_observations(), any_ruling()), 1..5)
}

proptest! {
    #[test]
    fn after_rule_changes_all_is_as_with_the_last_rules_from_the_start(
        first in any_ruling(),
        history in any_history(),
        last in any_observations(),
    ) {
        let mut ledger = Ledger::new(first);
        for (observations, ruling) in history {
            observations.into_iter().for_each(|identifiers| ledger.observe(identifiers));
            ledger.activate(ruling);
        }
        last.into_iter().for_each(|identifiers| ledger.observe(identifiers));
        let mut fresh = Ledger::with(ledger.ruling, &ledger.observations.clone());
        prop_assert_eq!(ledger.filings(), fresh.filings());
        prop_assert_eq!(ledger.answers(), fresh.answers());
    }

    #[test]
    fn a_past_follows_every_rule_change(first in any_ruling(), history in any_history()) {
        let mut ledger = Ledger::new(first);
        for (observations, ruling) in history {
            observations.into_iter().for_each(|identifiers| ledger.observe(identifiers));
            ledger.activate(ruling);
            for id in (1..=ledger.observations.len() as i64).map(ObservationId::new) {
                let primary = match ledger.folded.filing(id).unwrap() {
                    Filing::Contact { primary } => primary,
                    Filing::Under { contact } => ledger.folded.find(contact).unwrap(),
                };
                prop_assert_eq!(ledger.past.primary_of(id), Some(primary));
            }
        }
    }

    #[test]
    fn there_and_back_again_restores_every_answer(
        first in any_ruling(),
        other in any_ruling(),
        observations in any_observations(),
    ) {
        let mut ledger = Ledger::with(first, &observations);
        let (answers, filings) = (ledger.answers(), ledger.filings());
        ledger.activate(other);
        ledger.activate(first);
        prop_assert_eq!(ledger.answers(), answers);
        prop_assert_eq!(ledger.filings(), filings);
        prop_assert_eq!(ledger.activate(first), vec![]);
    }

    #[test]
    fn what_introduced_nothing_is_filed_in_the_identity_of_its_keys(
        history in any_history(),
        first in any_ruling(),
    ) {
        let mut ledger = Ledger::new(first);
        for (observations, ruling) in history {
            observations.into_iter().for_each(|identifiers| ledger.observe(identifiers));
            ledger.activate(ruling);
        }
        for (n, identifiers) in ledger.observations.clone().iter().enumerate() {
            let id = ObservationId::new(n as i64 + 1);
            let Some(Filing::Under { contact }) = ledger.folded.filing(id) else { continue };
            let keys = ledger.ruling.keys(identifiers);
            let keys = HashedKey::of_all(&keys);
            let by_email = keys.email.and_then(|key| ledger.census.email_holder(&key));
            let by_phone = keys.phone_number.and_then(|key| ledger.census.phone_holder(&key));
            let primary = ledger.folded.find(contact);
            for holder in [by_email, by_phone].into_iter().flatten() {
                prop_assert_eq!(ledger.folded.find(holder), primary);
            }
        }
    }

    #[test]
    fn a_census_decides_as_identities_in_memory_do(
        ruling in any_ruling(),
        observations in any_observations(),
    ) {
        let mut ledger = Ledger::with(ruling, &observations);
        let mut known = Identities::default();
        for (identifiers, id) in observations.iter().zip(1..) {
            let observation = Observation {
                id: ObservationId::new(id),
                identifiers: identifiers.clone(),
                keys: ruling.keys(identifiers),
                commitment: Commitment::to(identifiers, Salt([0; 16])),
            };
            let decision = resolve(&mut known, observation.id, &observation.keys);
            for fact in decision.facts(observation.commitment, None) {
                let recorded_at = Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(id);
                let event = Event { position: Position::new(id), recorded_at, fact };
                known.apply(&event, &observation);
            }
        }
        for contact in ledger.contacts() {
            let here = Contact { created_at: Timestamp::UNIX_EPOCH, ..known.contact(contact.id).clone() };
            prop_assert_eq!(here, contact);
        }
    }
}
