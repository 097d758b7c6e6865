//! Features of the core, as text: given observations, when one more comes, then this is so.

use super::test_ledger::EVERY_MEMBER;
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

struct Observation {
    id: ObservationId,
    identifiers: Identifiers,
    keys: Keys,
}

/// A ledger in memory: resolves and folds, as the recorder does.
#[derive(Default)]
struct Ledger {
    events: Vec<Event>,
    observations: Vec<Observation>,
    known: Identities,
}

impl Ledger {
    fn observe(&mut self, identifiers: Identifiers) -> Arc<Answer> {
        let rules = Rules::parse(DEFAULT_RULES).unwrap();
        let commitment = Commitment::to(&identifiers, Salt([0; 16]));
        let observation = Observation {
            id: ObservationId::new(self.observations.len() as i64 + 1),
            keys: rules.keys(&identifiers),
            identifiers,
        };
        let decision = resolve(&mut self.known, observation.id, &observation.keys);
        // With and without, so that both are seen to be read back and to change nothing.
        let asked_by = (observation.id.get() % 2 == 0).then(|| "shop".parse().unwrap());
        for fact in decision.facts(commitment, asked_by) {
            let position = Position::new(self.events.len() as i64 + 1);
            let recorded_at = Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(position.get());
            let event = Event { position, recorded_at, fact };
            self.known.apply(&event, &observation.identifiers, &observation.keys);
            self.events.push(event);
        }
        let Fact::ContactObserved(observed) = &self.observed(observation.id).fact else {
            unreachable!()
        };
        let answer = self.known.identity_of(observed.primary_id).answer();
        self.observations.push(observation);
        answer
    }

    fn observed(&self, id: ObservationId) -> &Event {
        let of = |event: &&Event| match &event.fact {
            Fact::ContactObserved(observed) => observed.observation_id == id,
            _ => false,
        };
        self.events.iter().find(of).unwrap()
    }

    fn contacts(&self) -> BTreeMap<ContactId, Contact> {
        let observed = self.events.iter().filter_map(|event| match &event.fact {
            Fact::ContactObserved(observed) if observed.introduced() => Some(observed.contact_id),
            _ => None,
        });
        observed.map(|id| (id, self.known.contact(id).clone())).collect()
    }
}

/// `a@x 1` is an email and a phone number; either may be missing.
fn identifiers(text: &str) -> Identifiers {
    let (emails, numbers): (Vec<_>, Vec<_>) = text.split(' ').partition(|word| word.contains('@'));
    Identifiers::new(
        emails.first().map(|email| Email::recorded(email)),
        numbers.first().map(|number| PhoneNumber::recorded(number)),
    )
    .unwrap()
}

/// `1 <- 2 3: a@x b@x, 030` is the primary, its secondaries, the emails and the phone numbers.
fn told(answer: &Answer) -> String {
    let ids: Vec<_> = answer.secondary_contact_ids.iter().map(ToString::to_string).collect();
    let emails: Vec<_> = answer.emails.iter().map(Email::as_str).collect();
    let numbers: Vec<_> = answer.phone_numbers.iter().map(PhoneNumber::as_str).collect();
    format!(
        "{} <- {}: {}, {}",
        answer.primary_contact_id,
        ids.join(" "),
        emails.join(" "),
        numbers.join(" ")
    )
}

/// Given observations (separated by `|`), when one more comes, then it is answered so and
/// these are the kinds of the events it causes.
#[track_caller]
fn check(given: &str, when: &str, then: &str, kinds: &[&str]) {
    let mut ledger = Ledger::default();
    for observation in given.split(" | ").filter(|text| !text.is_empty()) {
        ledger.observe(identifiers(observation));
    }
    let before = ledger.events.len();
    let answer = ledger.observe(identifiers(when));
    assert_eq!(told(&answer), then);
    let caused: Vec<_> = ledger.events[before..].iter().map(|event| event.fact.kind()).collect();
    assert_eq!(caused, kinds);
}

#[test]
fn an_unknown_customer_is_a_new_primary() {
    check("", "a@x 1", "1 <- : a@x, 1", &["ContactObserved"]);
    check("a@x 1", "b@x", "2 <- : b@x, ", &["ContactObserved"]);
}

#[test]
fn news_for_a_known_customer_is_a_new_secondary() {
    let linked = &["ContactObserved", "ContactLinked"];
    check("a@x 1", "b@x 1", "1 <- 2: a@x b@x, 1", linked);
    check("a@x 1", "a@x 2", "1 <- 2: a@x, 1 2", linked);
    check("a@x 1 | b@x 1", "b@x 2", "1 <- 2 3: a@x b@x, 1 2", linked);
    check("a@x", "a@x 1", "1 <- 2: a@x, 1", linked);
}

#[test]
fn a_known_pair_introduces_nothing() {
    let observed = &["ContactObserved"];
    check("a@x 1", "a@x 1", "1 <- : a@x, 1", observed);
    check("a@x 1", "a@x", "1 <- : a@x, 1", observed);
    check("a@x 1", "1", "1 <- : a@x, 1", observed);
    check("a@x 1 | b@x 1", "b@x", "1 <- 2: a@x b@x, 1", observed);
    check("a@x 1 | b@x 2 | a@x 2", "b@x 1", "1 <- 2: a@x b@x, 1 2", observed);
}

#[test]
fn spelling_is_no_news_and_the_first_one_is_shown() {
    check("Ann@X.org 030-1", "ann@x.ORG (030)1", "1 <- : Ann@X.org, 030-1", &["ContactObserved"]);
    let linked = &["ContactObserved", "ContactLinked"];
    check("Ann@X 030-1", "ann@x 2", "1 <- 2: Ann@X, 030-1 2", linked);
}

#[test]
fn a_bridge_demotes_the_younger_primary_with_all_its_secondaries() {
    let demoted = &["ContactObserved", "PrimaryDemoted"];
    check("a@x 1 | b@x 2", "a@x 2", "1 <- 2: a@x b@x, 1 2", demoted);
    check("a@x 1 | b@x 2", "b@x 1", "1 <- 2: a@x b@x, 1 2", demoted);
    check("a@x 1 | b@x 2 | b@x 3 | a@x 4", "a@x 3", "1 <- 2 3 4: a@x b@x, 1 2 3 4", demoted);
}

#[test]
fn an_observation_without_news_is_filed_under_the_oldest_holder() {
    let mut ledger = Ledger::default();
    for text in ["a@x 1", "b@x 1", "c@x 3", "b@x 3", "3"] {
        ledger.observe(identifiers(text));
    }
    let filed = |id| ledger.observed(ObservationId::new(id)).fact.contact_id().unwrap().get();
    assert_eq!([filed(1), filed(2), filed(3), filed(4), filed(5)], [1, 2, 3, 2, 3]);
}

#[test]
fn a_long_answer_has_all_that_came_since_it_was_given_last() {
    let mut ledger = Ledger::default();
    let mut observe = |text: &str| {
        let answer = ledger.observe(identifiers(text));
        let contacts = ledger.known.identity_of(answer.primary_contact_id).contacts();
        assert_eq!(*answer, Answer::of(contacts));
        contacts.len()
    };
    for n in 0..150 {
        observe(&format!("a{n}@x 1"));
        observe(&format!("b{n}@x 2"));
        observe("1");
    }
    assert_eq!([observe("1"), observe("2"), observe("a7@x 2"), observe("1")], [150, 150, 300, 300]);
}

#[test]
fn a_line_says_what_happened_and_one_that_says_anything_else_is_refused() {
    let mut ledger = Ledger::default();
    for text in ["a@x 1", "b@x 1"] {
        ledger.observe(identifiers(text));
    }
    let linked = &ledger.events[2];
    assert_eq!(
        linked.line(),
        r#"{"data":{"contactId":2,"primaryId":1},"kind":"ContactLinked","position":3,"recordedAt":"1970-01-01T00:00:03.000000Z"}"#
    );
    let fact = Fact::ContactErased(ContactErased {
        contact_id: ContactId::new(2),
        erased_by: Some("ops".to_owned()),
        observation_ids: [2, 4].map(ObservationId::new).to_vec(),
        reason: "customer-request".parse().unwrap(),
    });
    let erased = Event { fact, ..linked.clone() };
    let line = r#"{"data":{"contactId":2,"erasedBy":"ops","observationIds":[2,4],"reason":"customer-request"},"kind":"ContactErased","position":3,"recordedAt":"1970-01-01T00:00:03.000000Z"}"#;
    assert_eq!(erased.line(), line);
    assert_eq!(Event::parse(line).unwrap(), erased);
    assert!(Event::parse(&line.replace("customer-request", "Ann, 030123456")).is_err());
    let unknown = linked.line().replace("\"primaryId\"", "\"primary\"");
    assert!(Event::parse(&unknown).is_err());
}

#[test]
fn a_line_of_each_kind_is_canonical_and_reads_back() {
    for (kind, data) in Fact::KINDS.iter().zip(EVERY_MEMBER) {
        let line = format!(
            r#"{{"data":{data},"kind":"{kind}","position":3,"recordedAt":"1970-01-01T00:00:03.000000Z"}}"#
        );
        let event = Event::parse(&line).unwrap();
        assert_eq!((event.fact.kind(), event.line()), (*kind, line.clone()));
        // serde_json's own map keeps members in order of their names.
        let sorted: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line, sorted.to_string());
    }
}

/// Emails and phone numbers from small sets, so that they meet often.
fn any_identifiers() -> impl Strategy<Value = Identifiers> {
    let email = prop::option::of((0..12u8, prop::bool::ANY));
    let number = prop::option::of((0..12u8, prop::bool::ANY));
    (email, number).prop_filter_map("neither identifier", |(email, number)| {
        let email = email.map(|(n, loud)| {
            let email = format!("user{n}@x.org");
            Email::recorded(&if loud { email.to_uppercase() } else { email })
        });
        let number = number.map(|(n, spaced)| {
            PhoneNumber::recorded(&if spaced { format!("030 {n}") } else { format!("030{n}") })
        });
        Identifiers::new(email, number)
    })
}

/// The connected components of observations that share a key: the naive model.
fn components(observations: &[Observation]) -> Vec<BTreeSet<ObservationId>> {
    type Component = (BTreeSet<ObservationId>, BTreeSet<(bool, Key)>);
    let mut components: Vec<Component> = Vec::new();
    for observation in observations {
        let email = observation.keys.email.clone().map(|key| (true, key));
        let number = observation.keys.phone_number.clone().map(|key| (false, key));
        let mut keys: BTreeSet<_> = [email, number].into_iter().flatten().collect();
        let mut members = BTreeSet::from([observation.id]);
        components.retain(|(other_members, other_keys)| {
            let apart = keys.is_disjoint(other_keys);
            if !apart {
                members.extend(other_members);
                keys.extend(other_keys.iter().cloned());
            }
            apart
        });
        components.push((members, keys));
    }
    components.into_iter().map(|(members, _)| members).collect()
}

proptest! {
    #[test]
    fn identities_are_the_connected_components(all in prop::collection::vec(any_identifiers(), 1..60)) {
        let mut ledger = Ledger::default();
        for identifiers in all {
            let answer = ledger.observe(identifiers);
            let last = ledger.observations.last().unwrap().id;
            let components = components(&ledger.observations);
            let mine = components.iter().find(|members| members.contains(&last)).unwrap();
            prop_assert_eq!(answer.primary_contact_id, ContactId::from(*mine.first().unwrap()));
            let shown: BTreeSet<ObservationId> = std::iter::once(answer.primary_contact_id)
                .chain(answer.secondary_contact_ids.iter().copied())
                .map(ObservationId::from)
                .collect();
            prop_assert!(shown.is_subset(mine));
        }
    }

    #[test]
    fn a_different_order_gives_the_same_identities(
        (all, shuffled) in prop::collection::vec(any_identifiers(), 1..40)
            .prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
    ) {
        let values = |all: Vec<Identifiers>| {
            let mut ledger = Ledger::default();
            for identifiers in all {
                ledger.observe(identifiers);
            }
            let contacts = ledger.contacts();
            let key_sets = contacts.values().map(|contact| {
                let identity = ledger.known.identity_of(contact.id).contacts();
                identity
                    .iter()
                    .flat_map(|contact| [contact.email_key.clone(), contact.phone_key.clone()])
                    .flatten()
                    .collect::<BTreeSet<Key>>()
            });
            key_sets.collect::<BTreeSet<_>>()
        };
        prop_assert_eq!(values(all), values(shuffled));
    }

    #[test]
    fn folding_the_events_gives_the_state_after_resolve(
        all in prop::collection::vec(any_identifiers(), 1..60),
    ) {
        let mut ledger = Ledger::default();
        for identifiers in all {
            ledger.observe(identifiers);
        }
        let mut replayed = Identities::default();
        let mut links = Links::default();
        for event in &ledger.events {
            let event = Event::parse(&event.line()).unwrap();
            links.apply(fold(&event.fact), event.recorded_at);
            let id = match &event.fact {
                Fact::ContactObserved(ContactObserved { observation_id, .. }) => *observation_id,
                other => other.contact_id().unwrap().into(),
            };
            let observation = &ledger.observations[id.get() as usize - 1];
            replayed.apply(&event, &observation.identifiers, &observation.keys);
        }
        for (id, contact) in ledger.contacts() {
            prop_assert_eq!(replayed.contact(id), &contact);
            let Contact { link, updated_at, .. } = contact;
            prop_assert_eq!(links.standing(id), Some(Standing { id, link, updated_at }));
        }
    }

    #[test]
    fn the_same_observation_twice_introduces_nothing_the_second_time(
        all in prop::collection::vec(any_identifiers(), 1..30),
        again in any::<prop::sample::Index>(),
    ) {
        let mut ledger = Ledger::default();
        for identifiers in &all {
            ledger.observe(identifiers.clone());
        }
        let before = ledger.contacts();
        let answer = ledger.observe(again.get(&all).clone());
        prop_assert_eq!(ledger.contacts(), before);
        prop_assert_eq!(ledger.events.last().unwrap().fact.kind(), "ContactObserved");
        let identity = ledger.known.identity_of(answer.primary_contact_id).answer();
        prop_assert_eq!(identity, answer);
    }

    #[test]
    fn a_past_is_the_fold_of_what_came_before(
        all in prop::collection::vec(any_identifiers(), 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut ledger = Ledger::default();
        for identifiers in all {
            ledger.observe(identifiers);
        }
        let before = &ledger.events[..cut.index(ledger.events.len())];
        let (mut past, mut links) = (Past::default(), Links::default());
        for event in before {
            past.apply(fold(&event.fact));
            links.apply(fold(&event.fact), event.recorded_at);
        }
        for id in (1..=ledger.observations.len() as i64).map(ObservationId::new) {
            prop_assert_eq!(past.primary_of(id), links.primary_of(id));
        }
    }

    #[test]
    fn parsing_never_panics(raw in ".{0,40}") {
        let _ = (Email::parse(&raw), PhoneNumber::parse(&raw), Event::parse(&raw));
    }
}
