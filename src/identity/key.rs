//! The normal form of an identifier.

use std::sync::Arc;

/// The normal form of an identifier under the rules. Identifiers with equal keys are the same, and link
/// the contacts that have them, unless the rules say that this one never links.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    text: Arc<str>,
    links: bool,
}

impl Key {
    pub fn new(text: &str, links: bool) -> Self {
        Self { text: text.into(), links }
    }

    /// A key that links.
    pub fn links(text: &str) -> Self {
        Self::new(text, true)
    }

    /// A key that never links. Its value is still stored and shown.
    pub fn never_links(text: &str) -> Self {
        Self::new(text, false)
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn is_link(&self) -> bool {
        self.links
    }
}

// A key is as personal as the identifier that it is made of, so it must not reach a log.
impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key(…)")
    }
}
