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

    /// The globs that no normal form can match, by what can match the parts of a glob.
    pub fn idle_globs(&self, can_match: impl Fn(&[&str]) -> bool) -> Vec<String> {
        let globs = self.globs.iter().map(Pattern::as_str);
        globs.filter(|glob| !can_match(&parts(glob))).map(str::to_owned).collect()
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

/// The parts of a glob, each of which stands for one character, or is a `*`.
fn parts(mut glob: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    while let Some(first) = glob.chars().next() {
        let len = if first == '[' { class_len(glob) } else { first.len_utf8() };
        let (part, rest) = glob.split_at(len);
        parts.push(part);
        glob = rest;
    }
    parts
}

/// The length of the `[...]` that a glob begins with.
fn class_len(glob: &str) -> usize {
    let opening = if glob.starts_with("[!") { 2 } else { 1 };
    // A `]` that comes first is one of the characters.
    let first = glob[opening..].chars().next().map_or(0, char::len_utf8);
    let rest = &glob[opening + first..];
    opening + first + rest.find(']').map_or(rest.len(), |end| end + 1)
}

/// Whether a part of a glob can stand for one of these characters.
pub fn can_be(part: &str, one_of: &str) -> bool {
    let part = Pattern::new(part);
    part.is_ok_and(|part| one_of.chars().any(|c| part.matches(c.encode_utf8(&mut [0; 4]))))
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
