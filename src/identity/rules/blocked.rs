//! Values that never link, however many customers give them.

use crate::identity::{Email, PhoneNumber};
use glob::Pattern;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::fmt::Formatter;

/// Normal forms that never link: some by value, some by a glob.
#[derive(Clone, Debug, Default)]
pub struct Blocked {
    values: BTreeSet<String>,
    globs: Vec<Pattern>,
}

struct BlockedEmail(String);

struct BlockedNumber(String);

/// Checks an entry while it is read: only then is the error shown at its own line.
struct Entry {
    is_value: fn(&str) -> bool,
    expected: &'static str,
}

impl Blocked {
    /// `normal_form` is what the rules make of a value, and `folded` what they make of a glob.
    pub fn new(
        entries: &[String],
        normal_form: impl Fn(&str) -> String,
        folded: impl Fn(&str) -> String,
    ) -> Self {
        let (globs, values): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| is_glob(entry));
        let globs: BTreeSet<String> = globs.iter().map(|glob| folded(glob)).collect();
        let compiled = globs.iter().map(|glob| Pattern::new(glob));
        Self {
            values: values.iter().map(|value| normal_form(value)).collect(),
            globs: compiled.collect::<Result<_, _>>().expect("folding leaves the wildcards alone"),
        }
    }

    pub fn holds(&self, normal_form: &str) -> bool {
        self.values.contains(normal_form) || self.globs.iter().any(|glob| glob.matches(normal_form))
    }

    /// The entries in order, the same whatever their order and spelling in the document.
    pub fn entries(&self) -> Vec<String> {
        let globs = self.globs.iter().map(|glob| glob.as_str().to_owned());
        let entries: BTreeSet<String> = self.values.iter().cloned().chain(globs).collect();
        entries.into_iter().collect()
    }
}

pub fn is_glob(entry: &str) -> bool {
    entry.contains(['*', '?', '['])
}

/// Reads `blocked` of emails, each a value or a glob.
pub fn emails<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let entries = Vec::<BlockedEmail>::deserialize(deserializer)?;
    Ok(entries.into_iter().map(|entry| entry.0).collect())
}

/// Reads `blocked` of phone numbers, each a value or a glob.
pub fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let entries = Vec::<BlockedNumber>::deserialize(deserializer)?;
    Ok(entries.into_iter().map(|entry| entry.0).collect())
}

impl<'de> Deserialize<'de> for BlockedEmail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_value = |entry: &str| matches!(Email::parse(entry), Ok(Some(_)));
        let expected = "an email, or a glob such as \"noreply@*\"";
        deserializer.deserialize_str(Entry { is_value, expected }).map(Self)
    }
}

impl<'de> Deserialize<'de> for BlockedNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let is_value = |entry: &str| matches!(PhoneNumber::parse(entry), Ok(Some(_)));
        let expected = "a phone number, or a glob such as \"+1555*\"";
        deserializer.deserialize_str(Entry { is_value, expected }).map(Self)
    }
}

impl Visitor<'_> for Entry {
    type Value = String;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: Error>(self, entry: &str) -> Result<String, E> {
        let entry = entry.trim();
        let fault = match Pattern::new(entry) {
            Ok(_) if is_glob(entry) || (self.is_value)(entry) => return Ok(entry.to_owned()),
            Ok(_) => format!("invalid blocked value {entry:?}, expected {}", self.expected),
            Err(_) if entry.contains("**") => {
                format!("invalid glob {entry:?}: ** is not allowed; use *")
            }
            Err(error) => format!(
                "invalid glob {entry:?} ({}), expected * for any characters, ? for one, \
                 [abc] or [!abc] for one of some, and [*] for a * itself",
                error.msg
            ),
        };
        Err(E::custom(fault))
    }
}
