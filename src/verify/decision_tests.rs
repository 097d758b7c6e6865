//! Laws of making decisions again, on random ledgers, rule changes and erasures.

use super::decisions::Decisions;
use super::mismatch::Mismatch;
use crate::identity::test_ledger::{Ledger, Step, any_steps, census, filings};
use crate::identity::*;
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

fn rules(n: usize) -> Rules {
    Rules::parse(RULES[n]).unwrap()
}

fn walked(steps: Vec<Step<Rules>>) -> Ledger<Rules> {
    let mut ledger = Ledger::new(rules(0));
    ledger.activate(rules(0));
    ledger.walk(steps);
    ledger
}

/// Makes all decisions again from what is left.
fn decided_again(ledger: &Ledger<Rules>) -> Result<Decisions, Mismatch> {
    let mut erasures = Erasures::default();
    ledger.events.iter().for_each(|event| erasures.note(&event.line()));
    let mut decisions = Decisions::beside(erasures.into());
    for event in &ledger.events {
        match &event.fact {
            Fact::RulesActivated(activated) => {
                let mut all = (0..RULES.len()).map(rules);
                let rules = all.find(|rules| *rules.digest() == activated.digest).unwrap();
                let len = decisions.last_observation().get() as usize;
                let census = census(&rules, &ledger.observations[..len], event.recorded_at);
                decisions.activate(event, Some((rules, census)))?;
            }
            Fact::ContactObserved(observed) => {
                let place = observed.observation_id.get() as usize - 1;
                decisions.check(event, ledger.observations[place].as_ref())?;
            }
            _ => decisions.check(event, None)?,
        }
    }
    decisions.end()?;
    Ok(decisions)
}

fn any_identifiers() -> impl Strategy<Value = Identifiers> {
    (any::<bool>(), 0..6u8, any::<bool>(), 0..6u8, 0..4u8).prop_map(|(upper, a, dash, b, which)| {
        let email = Email::recorded(&format!("{}{a}@x.org", if upper { "A" } else { "a" }));
        let number = PhoneNumber::recorded(&format!("0{}{b}", if dash { "-" } else { "" }));
        let (email, number) = (Some(email), Some(number));
        Identifiers::new(email.filter(|_| which != 1), number.filter(|_| which != 2)).unwrap()
    })
}

fn any_walk() -> impl Strategy<Value = Vec<Step<Rules>>> {
    any_steps(any_identifiers(), (0..RULES.len()).prop_map(rules))
}

proptest! {
    #[test]
    fn what_was_decided_is_decided_again_however_much_was_erased(steps in any_walk()) {
        let ledger = walked(steps);
        let decisions = decided_again(&ledger).unwrap();
        let len = ledger.observations.len() as i64;
        prop_assert_eq!(decisions.remade_len + decisions.believed_len, len);
        let erased_len = ledger.observations.iter().filter(|seen| seen.is_none()).count();
        prop_assert_eq!(decisions.erased_len(), erased_len);
        prop_assert!(decisions.believed_len >= erased_len as i64);
        prop_assert_eq!(filings(&decisions.replay.links), ledger.filings());
    }

    #[test]
    fn a_link_to_another_customer_is_found(steps in any_walk(), which in any::<Index>()) {
        let mut ledger = walked(steps);
        // Links within a rule change may be believed, if both ends had matched what was erased.
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
        prop_assert!(decided_again(&ledger).is_err());
    }

    #[test]
    fn an_erasure_of_too_much_or_too_little_is_found(
        steps in any_walk(),
        which in any::<Index>(),
        other in any::<Index>(),
    ) {
        let mut ledger = walked(steps);
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
        // Rows are compared with the events before decisions are, so they agree here.
        if ids.binary_search(&other).is_ok() {
            ledger.observations[other.get() as usize - 1] = None;
        } else {
            let seen = Identifiers::new(Some(Email::recorded("a0@x.org")), None);
            ledger.observations[other.get() as usize - 1] = seen;
        }
        prop_assert!(decided_again(&ledger).is_err());
    }
}

/// No other customer can be kept in an identity that was erased since: an erasure takes all of it.
#[test]
fn a_difference_that_is_left_out_is_found_beside_an_erasure() {
    let seen = |email: &str, number: &str| {
        Identifiers::new(Some(Email::recorded(email)), Some(PhoneNumber::recorded(number))).unwrap()
    };
    let all = [("A0@x", "01"), ("a0@x", "02"), ("A2@x", "03"), ("a2@x", "03"), ("a3@x", "04")];
    let erased_in = |erased: usize| {
        let mut ledger = walked(vec![
            Step::Observe(all.iter().map(|(email, number)| seen(email, number)).collect()),
            Step::Activate(rules(1)),
        ]);
        ledger.erase(ObservationId::new(erased as i64 + 1));
        ledger
    };
    for erased in 0..all.len() {
        let whole = erased_in(erased);
        decided_again(&whole).unwrap();
        let is_difference =
            |fact: &Fact| matches!(fact, Fact::ContactPromoted(_) | Fact::ContactIntroduced(_));
        let differences = whole.events.iter().filter(|event| is_difference(&event.fact));
        assert_eq!(differences.clone().count(), 2);
        for event in differences {
            let mut ledger = erased_in(erased);
            ledger.events.retain(|other| other.position != event.position);
            let of_erased = event
                .fact
                .contact_id()
                .is_some_and(|contact| ledger.observations[contact.get() as usize - 1].is_none());
            // If the contact itself is erased, only the events bear witness.
            assert!(of_erased || decided_again(&ledger).is_err(), "{erased} {event:?}");
        }
    }
}
