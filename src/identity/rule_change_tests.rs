//! Laws of rule changes, on random ledgers and random sequences of rule sets.

use super::holders::HashedKey;
use super::test_ledger::*;
use super::*;
use proptest::prelude::*;

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
        let mut fresh = ledger.as_never_seen();
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
                let primary = ledger.folded.primary_of(id).unwrap();
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
        for (n, identifiers) in ledger.observations.clone().iter().flatten().enumerate() {
            let id = ObservationId::new(n as i64 + 1);
            let Some(Filing::Under { contact }) = ledger.folded.filing(id) else { continue };
            let keys = ledger.ruling.keys(identifiers);
            let keys = HashedKey::of_all(&keys);
            let primary = ledger.folded.find(contact);
            for (field, key) in keys.each() {
                let Some(holder) = ledger.census.holder(field, key) else { continue };
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
            let keys = ruling.keys(identifiers);
            let decision = resolve(&mut known, ObservationId::new(id), &keys);
            for fact in decision.facts(Commitment::to(identifiers, Salt([0; 16])), None) {
                let recorded_at = Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(id);
                let event = Event { position: Position::new(id), recorded_at, fact };
                known.apply(&event, identifiers, &keys);
            }
        }
        for contact in ledger.contacts() {
            let here = Contact { created_at: Timestamp::UNIX_EPOCH, ..known.contact(contact.id).clone() };
            prop_assert_eq!(here, contact);
        }
    }
}
