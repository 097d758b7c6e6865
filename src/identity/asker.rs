//! Who asked, as an event names it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What every token begins with. It tells anyone who finds one, and programs that look for leaked
/// secrets, what it is.
pub const TOKEN_PREFIX: &str = "idl_";
const LEN_MAX: usize = 64;
const EXPECTED: &str =
    "a name is 1 to 64 of a-z, 0-9, dot, dash and underscore, a letter first, and no token";

/// The name of a token. It stays in the ledger for ever, so its form leaves no room for an email or a
/// phone number: it has lower-case letters, digits, `.`, `_` and `-`, and begins with a letter. It does
/// not begin as tokens do. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Asker(Arc<str>);

impl Asker {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Asker {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let is_fit = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let begins_right = name.starts_with(|first: char| first.is_ascii_lowercase());
        let is_token = name.starts_with(TOKEN_PREFIX);
        if is_token || !begins_right || name.len() > LEN_MAX || !name.bytes().all(is_fit) {
            return Err(EXPECTED);
        }
        Ok(Self(name.into()))
    }
}

impl TryFrom<String> for Asker {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        name.parse()
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::Asker;

    #[test]
    fn a_name_cannot_be_an_email_or_a_phone_number() {
        for good in ["a", "checkout", "crm-2.eu_west", &"a".repeat(64)] {
            assert_eq!(good.parse::<Asker>().unwrap().as_str(), good);
        }
        for bad in
            ["", "idl_abc", "ann@x.org", "4930123456", "-a", "Shop", "a b", "ü", &"a".repeat(65)]
        {
            assert!(bad.parse::<Asker>().is_err(), "{bad}");
        }
    }
}
