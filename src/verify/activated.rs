//! Compares the rules that an event put in force with what is stored of them.

use super::mismatch::Mismatch;
use crate::identity::{Position, Rules, RulesActivated};
use crate::ledger::RulesFault;

/// Checks that what was found under their digest is what the event says. `None` if they need another
/// normaliser than this binary has.
pub fn check_activated(
    position: Position,
    activated: &RulesActivated,
    found: Result<Rules, RulesFault>,
) -> anyhow::Result<Option<Rules>> {
    let found = match found {
        Ok(rules) if (rules.name(), rules.version()) == (&activated.name, activated.version) => {
            return Ok(Some(rules));
        }
        Ok(_) => "another name or version",
        Err(RulesFault::OtherNormaliser { .. }) => return Ok(None),
        Err(RulesFault::Missing) => "none",
        Err(RulesFault::Unreadable(_)) => "another document",
        Err(RulesFault::Database(error)) => return Err(error.into()),
    };
    let RulesActivated { name, version, digest, .. } = activated;
    let expected = format!("{name} version {version} of digest {}", digest.as_str());
    Err(Mismatch::at(position, "rules", expected, found).into())
}
