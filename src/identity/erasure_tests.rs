//! Laws of erasures, on random ledgers, rule changes and erasures.

use super::test_ledger::*;
use super::*;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::HashMap;

fn walked(first: Coarse, steps: Vec<Step<Coarse>>) -> Ledger<Coarse> {
    let mut ledger = Ledger::new(first);
    ledger.walk(steps);
    ledger
}

/// An answer by the numbers that it would have had nothing been seen of what was erased.
fn renumbered(answer: Answer, numbers: &HashMap<ContactId, ContactId>) -> Answer {
    Answer {
        primary_contact_id: numbers[&answer.primary_contact_id],
        secondary_contact_ids: answer.secondary_contact_ids.iter().map(|id| numbers[id]).collect(),
        ..answer
    }
}

proptest! {
    #[test]
    fn answers_are_those_of_a_ledger_that_never_saw_what_was_erased(
        first in any_ruling(),
        steps in any_steps(any_identifiers(), any_ruling()),
    ) {
        let mut ledger = walked(first, steps);
        let living = ledger.living();
        let numbers = living.iter().map(|id| ContactId::from(*id)).zip((1..).map(ContactId::new));
        let numbers = numbers.collect();
        let answers = ledger.answers().into_iter().map(|answer| renumbered(answer, &numbers));
        prop_assert_eq!(answers.collect::<Vec<_>>(), ledger.as_never_seen().answers());
    }

    #[test]
    fn the_fold_is_what_the_observations_that_are_left_decide(
        first in any_ruling(),
        steps in any_steps(any_identifiers(), any_ruling()),
    ) {
        let ledger = walked(first, steps);
        prop_assert_eq!(ledger.filings(), filings(&ledger.census.links));
        prop_assert_eq!(ledger.folded.left_over(), None);
        for id in ledger.folded.ids() {
            prop_assert_eq!(ledger.past.primary_of(id), ledger.folded.primary_of(id));
        }
    }

    #[test]
    fn a_tombstone_stands_where_the_contact_stood(
        first in any_ruling(),
        steps in any_steps(any_identifiers(), any_ruling()),
        erased in any::<Index>(),
        later in any_steps(any_identifiers(), any_ruling()),
    ) {
        let mut ledger = walked(first, steps);
        prop_assume!(!ledger.living().is_empty());
        let id = *erased.get(&ledger.living());
        let primary = ledger.folded.primary_of(id).unwrap();
        let of_identity = |links: &Links, id: &ContactId| links.contact_primary(*id) == Some(primary);
        let ids: Vec<_> = ledger.folded.contacts().filter(|id| of_identity(&ledger.folded, id)).collect();
        ledger.erase(id);
        let at = ledger.folded.tombstone(primary).unwrap().updated_at;
        for step in later {
            if let Step::Observe(all) = step {
                all.into_iter().for_each(|seen| ledger.observe(seen));
            }
        }
        ledger.activate(first);
        for id in ids {
            let expected = Standing { id, link: Link::of(id, primary), updated_at: at };
            prop_assert_eq!(ledger.folded.tombstone(id), Some(expected));
            prop_assert_eq!(ledger.folded.standing(id), None);
        }
    }

    #[test]
    fn an_erasure_that_leaves_something_over_is_found(
        first in any_ruling(),
        all in any_observations(),
        erased in any::<Index>(),
        left in any::<Index>(),
    ) {
        let mut ledger = Ledger::with(first, &all);
        let primary = ledger.folded.primary_of(*erased.get(&ledger.living())).unwrap();
        let mut ids = ledger.living();
        ids.retain(|id| ledger.folded.primary_of(*id) == Some(primary));
        prop_assume!(ids.len() > 1);
        // The primary is named in the event, so it is another one that is left there.
        let left = ids.remove(1 + left.index(ids.len() - 1));
        let at = Timestamp::UNIX_EPOCH;
        ledger.folded.apply(Change::Erased { primary, observations: &ids }, at);
        let found = ledger.folded.left_over();
        prop_assert_eq!(found, Some(left));
    }
}
