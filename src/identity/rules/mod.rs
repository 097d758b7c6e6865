//! The rules: how keys are made from identifiers, and what never links.
//!
//! Promises: whether a key links is decided by the key's text alone, so keys with the same text
//! agree on it. No identifier makes a rule set fail.
//! Not promised: that the normal form of a normal form is itself. With `e164` it need not be.
//! Never: reads a file. A document is handed in, and the rules in force are in the ledger.

mod blocked;
mod digest;
mod document;
mod email;
mod error;
mod normaliser;
mod phone;

#[cfg(test)]
mod tests;

use super::observation::{Identifiers, Keys};
use document::Document;
use email::EmailKeys;
use phone::PhoneKeys;

pub use digest::RulesDigest;
pub use error::{RulesError, line_of};

/// The rule set that a new ledger starts with.
pub const DEFAULT_RULES: &str = include_str!("../../../projections/contact/default.toml");

/// The rule set that compares identifiers byte for byte.
pub const EXACT_RULES: &str = include_str!("../../../projections/contact/exact.toml");

/// The rule set that compares phone numbers in their international form.
pub const E164_RULES: &str = include_str!("../../../projections/contact/e164.toml");

/// A rule set, read from its document.
#[derive(Clone, Debug)]
pub struct Rules {
    name: String,
    version: i32,
    digest: RulesDigest,
    normaliser: Option<String>,
    email: EmailKeys,
    phone: PhoneKeys,
}

impl Rules {
    /// Reads a rules file. Refuses what it does not know.
    pub fn parse(document: &str) -> Result<Self, RulesError> {
        let document = Document::parse(document)?;
        let normaliser = normaliser::of(&document);
        Ok(Self::of(document, normaliser))
    }

    /// Reads a document that was recorded, with the normaliser that made its keys then. The digest covers
    /// both. Keys are made by the normaliser of this binary.
    pub fn recorded(document: &str, normaliser: &str) -> Result<Self, RulesError> {
        let document = Document::parse(document)?;
        let normaliser = Some(normaliser.to_owned()).filter(|text| !text.is_empty());
        Ok(Self::of(document, normaliser))
    }

    fn of(mut document: Document, normaliser: Option<String>) -> Self {
        let email = EmailKeys::new(&document.email);
        let phone = PhoneKeys::new(&document.phone);
        document.email.blocked = email.blocked();
        document.phone.blocked = phone.blocked();
        Self {
            digest: RulesDigest::of(&document, normaliser.as_deref()),
            name: document.name.into(),
            version: document.version.into(),
            normaliser,
            email,
            phone,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn version(&self) -> i32 {
        self.version
    }

    pub fn digest(&self) -> &RulesDigest {
        &self.digest
    }

    /// The versions of the libraries that decide on the normal forms, as the digest covers them. `None` if
    /// the rules use no library.
    pub fn normaliser(&self) -> Option<&str> {
        self.normaliser.as_deref()
    }

    /// The globs in `blocked` that no normal form can match, so that they block nothing.
    pub fn idle_globs(&self) -> Vec<String> {
        [self.email.idle_globs(), self.phone.idle_globs()].concat()
    }

    pub fn keys(&self, identifiers: &Identifiers) -> Keys {
        Keys {
            email: identifiers.email().map(|email| self.email.key(email)),
            phone_number: identifiers.phone_number().map(|number| self.phone.key(number)),
        }
    }
}

// Equal digests mean equal rules, since the digest covers everything that the rules say.
impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Rules {}
