//! Which rules something was decided under.

use crate::identity::{Rules, RulesActivated};
use crate::seal::Summary;
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub struct RuleSet<'a> {
    name: &'a str,
    version: i32,
    /// SHA-256 over what the rules say, in hex.
    digest: &'a str,
}

impl<'a> From<&'a Rules> for RuleSet<'a> {
    fn from(rules: &'a Rules) -> Self {
        Self { name: rules.name(), version: rules.version(), digest: rules.digest().as_str() }
    }
}

impl<'a> From<&'a RulesActivated> for RuleSet<'a> {
    fn from(rules: &'a RulesActivated) -> Self {
        Self { name: &rules.name, version: rules.version, digest: rules.digest.as_str() }
    }
}

/// The rules in force.
impl<'a> From<&'a Summary> for RuleSet<'a> {
    fn from(summary: &'a Summary) -> Self {
        Self {
            name: &summary.rules_name,
            version: summary.rules_version,
            digest: &summary.rules_digest,
        }
    }
}
