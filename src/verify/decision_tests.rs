//! Laws of making decisions again, on random ledgers, rule changes and erasures.

use super::decisions::Decisions;
use super::mismatch::Mismatch;
use crate::identity::*;
use chrono::TimeDelta;
use proptest::prelude::*;
use proptest::sample::Index;

/// Rules that make different keys of the same identifiers, and link more or less of them.
const RULES: [&str; 4] = [DEFAULT_RULES, EXACT_RULES, BLOCKING, BY_EMAIL];

const BLOCKING: &str = r#"
name = "blocking"
version = 1
[email]
case = "insensitive"
blocked = ["a0@*", "a1@*"]
[phone]
format = "digits"
blocked = ["01"]
"#;

const BY_EMAIL: &str = r#"
name = "by-email"
version = 1
[email]
case = "insensitive"
[phone]
format = "digits"
links = false
"#;

#[derive(Clone, Debug)]
enum Step {
    Observe(Vec<Identifiers>),
    Activate(usize),
    Erase(Index),
}

/// A ledger as it is recorded.
struct Ledger {
    rules: Rules,
    events: Vec<Event>,
    /// `None` where they were erased.
    observations: Vec<Option<Identifiers>>,
    links: Links,
    /// Decides by what is left.
    census: Census,
}

impl Ledger {
    fn walked(steps: Vec<Step>) -> Self {
        let mut ledger = Self {
            rules: Rules::parse(DEFAULT_RULES).unwrap(),
            events: Vec::new(),
            observations: Vec::new(),
            links: Links::default(),
            census: Census::default(),
        };
        ledger.activate(Rules::parse(DEFAULT_RULES).unwrap());
        for step in steps {
            match step {
                Step::Observe(all) => all.into_iter().for_each(|seen| ledger.observe(seen)),
                Step::Activate(n) => ledger.activate(Rules::parse(RULES[n]).unwrap()),
                Step::Erase(_) if ledger.observations.is_empty() => {}
                Step::Erase(any) => ledger.erase(any.index(ledger.observations.len())),
            }
        }
        ledger
    }

    fn append(&mut self, fact: Fact) {
        let position = Position::new(self.events.len() as i64 + 1);
        let recorded_at = Timestamp::UNIX_EPOCH + TimeDelta::seconds(position.get());
        self.links.apply(fold(&fact), recorded_at);
        self.events.push(Event { position, recorded_at, fact });
    }

    fn observe(&mut self, identifiers: Identifiers) {
        let id = ObservationId::new(self.observations.len() as i64 + 1);
        let keys = self.rules.keys(&identifiers);
        let decision = self.census.observe(id, &keys, Timestamp::UNIX_EPOCH);
        let commitment = Commitment::to(&identifiers, Salt([0; 16]));
        decision.facts(commitment, None).into_iter().for_each(|fact| self.append(fact));
        self.observations.push(Some(identifiers));
    }

    fn activate(&mut self, rules: Rules) {
        self.append(Fact::RulesActivated(RulesActivated {
            activated_by: "test".to_owned(),
            digest: rules.digest().clone(),
            name: rules.name().to_owned(),
            reason: "test".to_owned(),
            version: rules.version(),
        }));
        let mut census = census(&rules, &self.observations);
        census.links.compress_all();
        let before = self.links.clone();
        let differences = Differences::between(&before, &census.links);
        differences.facts(&before, &census.links).for_each(|fact| self.append(fact));
        (self.rules, self.census) = (rules, census);
    }

    fn erase(&mut self, place: usize) {
        let Some(primary) = self.links.primary_of(ObservationId::new(place as i64 + 1)) else {
            return;
        };
        let all = (1..=self.observations.len() as i64).map(ObservationId::new);
        let ids: Vec<_> = all.filter(|id| self.links.primary_of(*id) == Some(primary)).collect();
        for id in &ids {
            self.observations[id.get() as usize - 1] = None;
        }
        self.append(Fact::ContactErased(ContactErased {
            contact_id: primary,
            erased_by: None,
            observation_ids: ids,
            reason: "test".parse().unwrap(),
        }));
        self.census = census(&self.rules, &self.observations);
    }

    /// Makes all decisions again from what is left.
    fn decided_again(&self) -> Result<Decisions, Mismatch> {
        let mut erasures = Erasures::default();
        self.events.iter().for_each(|event| erasures.note(&event.line()));
        let mut decisions = Decisions::beside(erasures.into());
        for event in &self.events {
            match &event.fact {
                Fact::RulesActivated(activated) => {
                    let all = RULES.map(|document| Rules::parse(document).unwrap());
                    let is_it = |rules: &Rules| *rules.digest() == activated.digest;
                    let rules = all.into_iter().find(is_it).unwrap();
                    let len = decisions.last_observation().get() as usize;
                    let census = census(&rules, &self.observations[..len]);
                    decisions.activate(event, Some((rules, census)))?;
                }
                Fact::ContactObserved(observed) => {
                    let place = observed.observation_id.get() as usize - 1;
                    decisions.check(event, self.observations[place].as_ref())?;
                }
                _ => decisions.check(event, None)?,
            }
        }
        decisions.end()?;
        Ok(decisions)
    }
}

fn census(rules: &Rules, observations: &[Option<Identifiers>]) -> Census {
    let mut census = Census::default();
    for (id, seen) in (1..).map(ObservationId::new).zip(observations) {
        match seen {
            Some(seen) => _ = census.observe(id, &rules.keys(seen), Timestamp::UNIX_EPOCH),
            None => census.leave_out(id),
        }
    }
    census
}

fn any_identifiers() -> impl Strategy<Value = Identifiers> {
    (any::<bool>(), 0..6u8, any::<bool>(), 0..6u8, 0..4u8).prop_map(|(upper, a, dash, b, which)| {
        let email = Email::recorded(&format!("{}{a}@x.org", if upper { "A" } else { "a" }));
        let number = PhoneNumber::recorded(&format!("0{}{b}", if dash { "-" } else { "" }));
        let (email, number) = (Some(email), Some(number));
        Identifiers::new(email.filter(|_| which != 1), number.filter(|_| which != 2)).unwrap()
    })
}

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => prop::collection::vec(any_identifiers(), 1..10).prop_map(Step::Observe),
        1 => (0..RULES.len()).prop_map(Step::Activate),
        2 => any::<Index>().prop_map(Step::Erase),
    ];
    prop::collection::vec(step, 1..16)
}

proptest! {
    #[test]
    fn what_was_decided_is_decided_again_however_much_was_erased(steps in any_steps()) {
        let ledger = Ledger::walked(steps);
        let decisions = ledger.decided_again().unwrap();
        let len = ledger.observations.len() as i64;
        prop_assert_eq!(decisions.remade_len + decisions.believed_len, len);
        let erased_len = ledger.observations.iter().filter(|seen| seen.is_none()).count();
        prop_assert_eq!(decisions.erased_len(), erased_len);
        prop_assert!(decisions.believed_len >= erased_len as i64);
        for id in (1..=len).map(ObservationId::new) {
            prop_assert_eq!(decisions.replay.links.filing(id), ledger.links.filing(id));
        }
    }

    #[test]
    fn whoever_links_somebody_else_is_found(steps in any_steps(), which in any::<Index>()) {
        let mut ledger = Ledger::walked(steps);
        // Those within a rule change may be believed, where both ends had met what was erased.
        let is_observed = |event: &Event| matches!(event.fact, Fact::ContactObserved(_));
        let follows = |place: &usize| {
            is_observed(&ledger.events[place - 1]) && !is_observed(&ledger.events[*place])
        };
        let links: Vec<_> = (1..ledger.events.len()).filter(follows).collect();
        prop_assume!(!links.is_empty());
        match &mut ledger.events[*which.get(&links)].fact {
            Fact::ContactLinked(linked) => linked.primary_id = linked.primary_id.next(),
            Fact::PrimaryDemoted(demoted) => demoted.primary_id = demoted.primary_id.next(),
            // A rule change or an erasure.
            _ => return Ok(()),
        }
        prop_assert!(ledger.decided_again().is_err());
    }

    #[test]
    fn an_erasure_of_too_much_or_too_little_is_found(
        steps in any_steps(),
        which in any::<Index>(),
        other in any::<Index>(),
    ) {
        let mut ledger = Ledger::walked(steps);
        let len = ledger.observations.len() as i64;
        let erasures = ledger.events.iter_mut().filter_map(|event| match &mut event.fact {
            Fact::ContactErased(erased) => Some(erased),
            _ => None,
        });
        let mut erasures: Vec<_> = erasures.collect();
        prop_assume!(!erasures.is_empty());
        let place = which.index(erasures.len());
        let ids = &mut erasures[place].observation_ids;
        let other = ObservationId::new(other.index(len as usize) as i64 + 1);
        match ids.binary_search(&other) {
            Ok(place) => _ = ids.remove(place),
            Err(place) => ids.insert(place, other),
        }
        // What a row has left is compared before decisions are, so it agrees with the events here.
        if ids.binary_search(&other).is_ok() {
            ledger.observations[other.get() as usize - 1] = None;
        } else {
            let seen = Identifiers::new(Some(Email::recorded("a0@x.org")), None);
            ledger.observations[other.get() as usize - 1] = seen;
        }
        prop_assert!(ledger.decided_again().is_err());
    }
}

/// Nobody else can be kept in the identity of who was erased since: an erasure takes all of it.
#[test]
fn a_difference_that_is_left_out_is_found_beside_an_erasure() {
    let seen = |email: &str, number: &str| {
        Identifiers::new(Some(Email::recorded(email)), Some(PhoneNumber::recorded(number))).unwrap()
    };
    let all = [("A0@x", "01"), ("a0@x", "02"), ("A2@x", "03"), ("a2@x", "03"), ("a3@x", "04")];
    let steps = |erased: usize| {
        let mut ledger = Ledger::walked(vec![
            Step::Observe(all.iter().map(|(email, number)| seen(email, number)).collect()),
            Step::Activate(1),
        ]);
        ledger.erase(erased);
        ledger
    };
    for erased in 0..all.len() {
        let whole = steps(erased);
        whole.decided_again().unwrap();
        let is_difference =
            |fact: &Fact| matches!(fact, Fact::ContactPromoted(_) | Fact::ContactIntroduced(_));
        let differences = whole.events.iter().filter(|event| is_difference(&event.fact));
        assert_eq!(differences.clone().count(), 2);
        for event in differences {
            let mut ledger = steps(erased);
            ledger.events.retain(|other| other.position != event.position);
            let of_erased = event
                .fact
                .contact_id()
                .is_some_and(|contact| ledger.observations[contact.get() as usize - 1].is_none());
            // Of those who are gone altogether, the events alone bear witness.
            assert!(of_erased || ledger.decided_again().is_err(), "{erased} {event:?}");
        }
    }
}
