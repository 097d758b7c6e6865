//! The rules: how keys are made from identifiers.

use super::identifier::{Email, PhoneNumber};
use super::key::Key;
use super::observation::{Identifiers, Keys};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The rule set that a new ledger starts with.
pub const DEFAULT_RULES: &str = include_str!("../../projections/contact/default.toml");

/// A rule set, read from its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    document: Document,
    digest: RulesDigest,
}

/// SHA-256 over what the rules say, in hex. Comments and order in the document do not count.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RulesDigest(String);

/// Says where in the document the fault is, and what is allowed there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RulesError(#[from] toml::de::Error);

/// The shape of a rules file. Fields stand in alphabetical order: their JSON is the digest's input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    email: EmailRules,
    name: String,
    phone: PhoneRules,
    version: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EmailRules {
    case: Case,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Case {
    Insensitive,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PhoneRules {
    format: PhoneFormat,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PhoneFormat {
    Digits,
}

impl Rules {
    pub fn parse(document: &str) -> Result<Self, RulesError> {
        let document: Document = toml::from_str(document)?;
        let digest = document.digest();
        Ok(Self { document, digest })
    }

    pub fn name(&self) -> &str {
        &self.document.name
    }

    pub fn version(&self) -> i32 {
        self.document.version
    }

    pub fn digest(&self) -> &RulesDigest {
        &self.digest
    }

    pub fn keys(&self, identifiers: &Identifiers) -> Keys {
        Keys {
            email: identifiers.email().map(|email| self.email_key(email)),
            phone_number: identifiers.phone_number().map(|number| self.phone_key(number)),
        }
    }

    fn email_key(&self, email: &Email) -> Key {
        match self.document.email.case {
            Case::Insensitive => Key::links(&email.as_str().to_lowercase()),
        }
    }

    fn phone_key(&self, number: &PhoneNumber) -> Key {
        match self.document.phone.format {
            PhoneFormat::Digits => Key::links(&digits(number.as_str())),
        }
    }
}

impl Document {
    fn digest(&self) -> RulesDigest {
        let canonical = serde_json::to_vec(self).expect("a rules document is plain data");
        let hash = Sha256::digest(canonical);
        RulesDigest(hash.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The digits, and a `+` where it stands before the first of them: `(+49) 30` is `+4930`.
fn digits(number: &str) -> String {
    let mut key = String::with_capacity(number.len());
    for c in number.chars() {
        if c.is_ascii_digit() || (c == '+' && key.is_empty()) {
            key.push(c);
        }
    }
    key
}

impl RulesDigest {
    pub fn recorded(digest: String) -> Self {
        Self(digest)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{DEFAULT_RULES, Email, PhoneNumber, Rules};

    fn default_rules() -> Rules {
        Rules::parse(DEFAULT_RULES).unwrap()
    }

    #[test]
    fn emails_are_compared_without_regard_to_case() {
        let key = |email: &str| default_rules().email_key(&Email::recorded(email));
        assert_eq!(key("Ann@X.org").as_str(), "ann@x.org");
        assert!(key("ÄNN@x") == key("änn@X"));
        assert!(key("a.nn@x") != key("ann@x"));
    }

    #[test]
    fn phone_numbers_are_compared_on_their_digits_and_a_leading_plus() {
        let key = |number: &str| {
            default_rules().phone_key(&PhoneNumber::recorded(number)).as_str().to_owned()
        };
        assert_eq!(key("+49 (0)30-12.34"), "+490301234");
        assert_eq!(key("(+49) 30"), "+4930");
        assert_eq!(key("++1+2"), "+12");
        assert_eq!(key("030 1"), "0301");
    }

    #[test]
    fn comments_and_order_are_not_part_of_the_digest_and_meaning_is() {
        let digest = |document: &str| Rules::parse(document).unwrap().digest().clone();
        let a = "name='n'\nversion=1\n[email]\ncase='insensitive'\n[phone]\nformat='digits'";
        let b =
            "# hello\nversion=1\nname='n'\n[phone]\nformat='digits'\n[email]\ncase='insensitive'";
        let c = a.replace("version=1", "version=2");
        assert_eq!(digest(a), digest(b));
        assert_ne!(digest(a), digest(&c));
    }

    #[test]
    fn an_unknown_key_or_value_is_refused_with_its_line_and_what_is_allowed() {
        let refused = |from: &str, to: &str| {
            Rules::parse(&DEFAULT_RULES.replace(from, to)).unwrap_err().to_string()
        };
        let wrong = refused("case = \"insensitive\"", "case = \"loud\"");
        assert!(wrong.contains("line") && wrong.contains("`insensitive`"), "{wrong}");
        let unknown = refused("[phone]", "[phone]\nvolume = 3");
        assert!(unknown.contains("volume") && unknown.contains("`format`"), "{unknown}");
    }
}
