//! The digest that a rule set is known by.

use super::document::{Document, EmailRules, PhoneRules};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// SHA-256 over what the rules say, in hex. Comments and order in the document do not count, and neither
/// does spelling a default out. Files are named by it, so one that is read from an event is checked to
/// have nothing but those digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct RulesDigest(String);

#[derive(Debug, thiserror::Error)]
#[error("it is no SHA-256 in hex")]
pub struct NoDigest;

impl TryFrom<String> for RulesDigest {
    type Error = NoDigest;

    fn try_from(text: String) -> Result<Self, NoDigest> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_digest = text.len() == 64 && text.bytes().all(is_digit);
        if is_digest { Ok(Self(text)) } else { Err(NoDigest) }
    }
}

/// The input of the digest. Members are in alphabetical order, in every table.
#[derive(Serialize)]
struct Canonical<'a> {
    email: &'a EmailRules,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    normaliser: Option<&'a str>,
    phone: &'a PhoneRules,
    version: i32,
}

impl RulesDigest {
    pub(super) fn of(document: &Document, normaliser: Option<&str>) -> Self {
        let canonical = Canonical {
            email: &document.email,
            name: document.name.as_str(),
            normaliser,
            phone: &document.phone,
            version: document.version.into(),
        };
        let canonical = serde_json::to_vec(&canonical).expect("a rules document is plain data");
        Self(hex::encode(Sha256::digest(canonical)))
    }

    /// Takes a digest from a table, unchecked, to compare it.
    pub fn recorded(digest: String) -> Self {
        Self(digest)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}
