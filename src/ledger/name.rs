//! The name of a ledger.

use std::str::FromStr;

const LEN_MAX: usize = 41;

/// The Postgres schema that a ledger lives in: `[a-z][a-z0-9_]{0,40}`, and not `pg_*`.
///
/// It needs no escaping inside quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerName(String);

impl LedgerName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LedgerName {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
        let goes_on = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !begins || !name.chars().all(goes_on) || name.len() > LEN_MAX {
            return Err("a ledger's name is a letter and up to 40 more of a-z, 0-9 and _");
        }
        if name.starts_with("pg_") || name == "information_schema" {
            return Err("names that begin with pg_, and information_schema, belong to Postgres");
        }
        Ok(Self(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::LedgerName;

    #[test]
    fn a_name_needs_no_escaping() {
        let longest = format!("a{}", "1".repeat(40));
        for good in ["ledger", "a", "shop_2", &longest] {
            assert!(good.parse::<LedgerName>().is_ok(), "{good}");
        }
        let too_long = format!("{longest}1");
        for bad in ["", "2a", "Shop", "a-b", "pg_x", "a\"b", "_a", "ü", &too_long] {
            assert!(bad.parse::<LedgerName>().is_err(), "{bad}");
        }
    }
}
