//! Explains why two observations belong to one customer, or why they do not.

use super::auditor::Auditor;
use super::past::{Excerpt, Observed};
use crate::identity::{
    Chain, ContactId, DEFAULT_RULES, E164_RULES, EXACT_RULES, Keyed, ObservationId, Position,
    Rules, RulesActivated, Unlinked, chain, unlinked,
};
use crate::ledger::{self, Unanswered};
use std::collections::HashSet;
use std::sync::Arc;

/// What leads from one observation to another at a position, or what keeps them apart.
pub struct Why {
    pub position: Position,
    /// Those in force at the position.
    pub rules: Arc<Rules>,
    /// The primaries of the two observations, in the order of the question.
    pub primary_ids: [ContactId; 2],
    pub relation: Relation,
    known: Excerpt,
}

/// Whether the two are one customer at the position.
pub enum Relation {
    /// There is no chain if the position is within a rule change, whose links are not complete there;
    /// if it led through observations that were erased since; or if it led through more observations
    /// than are read.
    Linked(Option<Chain>),
    Apart {
        /// Values that both customers have, and that the rules let nothing link by.
        never_linking: Vec<Unlinked>,
        /// Rules that would link them. At a position within a request or a rule change, whose links are
        /// still to come, these are the rules in force alone.
        linking_rules: Vec<LinkingRules>,
    },
}

/// How rules would link two observations that are not linked.
pub struct LinkingRules {
    pub rules: Rules,
    pub chain: Chain,
}

impl Auditor {
    /// Explains why two observations are linked, or not, at a position that the ledger has reached, and
    /// returns what `tell` makes of that. `None` if one of the numbers had not been given by then.
    pub async fn why<T: Send + 'static>(
        &self,
        ids: [ObservationId; 2],
        position: Position,
        tell: impl FnOnce(&Why) -> T + Send + 'static,
    ) -> Result<Option<T>, Unanswered> {
        // The thread keeps this place. It goes on if the client leaves, so without the place there
        // would soon be a thread for each client that asked and left.
        let place = self.explaining.clone().acquire_owned().await.expect("it is never closed");
        let known = self.known_at(&ids, position, true).await?;
        let [Some(one), Some(other)] = ids.map(|id| known.past.primary_of(id)) else {
            return Ok(None);
        };
        let rules = self.rules_of(known.rules_at(position)?).await?;
        let recorded = match one == other {
            true => Vec::new(),
            false => ledger::rules_documents(&self.pool).await?,
        };
        let explain = move || {
            let _place = place;
            let primary_ids = [one, other];
            let relation = match one == other {
                true => Relation::Linked(known.chain(&known.keyed(&rules, Some(one)), ids)),
                false => apart(&known, &rules, primary_ids, ids, recorded),
            };
            tell(&Why { position, rules, primary_ids, relation, known })
        };
        // This takes seconds if a customer was observed very often, and threads that serve are few.
        let told = tokio::task::spawn_blocking(explain).await;
        Ok(Some(told.expect("explaining does not panic")))
    }
}

fn apart(
    known: &Excerpt,
    rules: &Rules,
    primary_ids: [ContactId; 2],
    ids: [ObservationId; 2],
    recorded: Vec<String>,
) -> Relation {
    let [one, other] = primary_ids.map(|primary_id| known.keyed(rules, Some(primary_id)));
    let all = known.keyed(rules, None);
    let never_linking = unlinked([&one, &other], &all, |id| known.past.is_contact(id));
    let linking_rules = match known.chain(&all, ids) {
        Some(chain) => vec![LinkingRules { rules: rules.clone(), chain }],
        None => other_rules(known, rules, ids, recorded),
    };
    Relation::Apart { never_linking, linking_rules }
}

/// The rules under which the two would be linked by what is known of them: by what belongs to their
/// customers or has belonged to them. All rules are tried that the ledger ever had or that the binary
/// is shipped with, except those in force at the position.
fn other_rules(
    known: &Excerpt,
    in_force: &Rules,
    ids: [ObservationId; 2],
    recorded: Vec<String>,
) -> Vec<LinkingRules> {
    let shipped = [DEFAULT_RULES, EXACT_RULES, E164_RULES].map(str::to_owned);
    let mut tried = HashSet::from([in_force.digest().clone()]);
    let all = recorded.into_iter().chain(shipped);
    let others = all.filter_map(|document| Rules::parse(&document).ok());
    let untried = others.filter(|rules| tried.insert(rules.digest().clone()));
    let linking = untried.filter_map(|rules| {
        let chain = known.chain(&known.keyed(&rules, None), ids)?;
        Some(LinkingRules { rules, chain })
    });
    linking.collect()
}

impl Why {
    pub fn is_linked(&self) -> bool {
        matches!(self.relation, Relation::Linked(_))
    }

    pub fn observed(&self, id: ObservationId) -> &Observed {
        &self.known.observed[&id]
    }

    pub fn is_contact(&self, id: ObservationId) -> bool {
        self.known.past.is_contact(id)
    }

    /// The rules that were in force when an observation was recorded.
    pub fn rules_of(&self, id: ObservationId) -> Result<&RulesActivated, Unanswered> {
        self.known.rules_at(self.observed(id).position)
    }
}

impl Excerpt {
    /// The observations of a primary by their keys. Without a primary, all that are known.
    fn keyed(&self, rules: &Rules, primary: Option<ContactId>) -> Keyed {
        let is_wanted =
            |id: &ObservationId| primary.is_none() || self.past.primary_of(*id) == primary;
        let ids = self.past.observations().filter(is_wanted);
        let keyed = ids.filter_map(|id| Some((id, rules.keys(self.identifiers(id)?))));
        keyed.collect()
    }

    fn chain(&self, keyed: &Keyed, ids: [ObservationId; 2]) -> Option<Chain> {
        chain(keyed, ids, |id| self.past.is_contact(id))
    }
}
