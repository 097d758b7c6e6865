//! Identifiers as they were received, checked before anything else happens to them.

use std::sync::Arc;

const EMAIL_LEN_MAX: usize = 254;
const PHONE_NUMBER_LEN_MAX: usize = 32;

/// Which identifier it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    Email,
    PhoneNumber,
}

impl Field {
    /// The name of the member that callers send it in.
    pub fn name(self) -> &'static str {
        match self {
            Self::Email => Email::FIELD,
            Self::PhoneNumber => PhoneNumber::FIELD,
        }
    }
}

/// An email address as received, outer blanks trimmed.
///
/// At most 254 characters (RFC 5321, section 4.5.3.1.3), with a local part and a domain.
#[derive(Clone, PartialEq, Eq)]
pub struct Email(Arc<str>);

/// A phone number as received, outer blanks trimmed: at most 32 characters, with a digit among them.
#[derive(Clone, PartialEq, Eq)]
pub struct PhoneNumber(Arc<str>);

/// Which field was refused, and what is expected there. The value itself is never in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}")]
pub struct Invalid {
    pub field: &'static str,
    pub expected: &'static str,
}

impl Email {
    pub const FIELD: &'static str = "email";

    /// `None` for a blank value, which counts as absent.
    pub fn parse(raw: &str) -> Result<Option<Self>, Invalid> {
        let invalid = |expected| Invalid { field: Self::FIELD, expected };
        let Some(email) = trimmed(raw).map_err(invalid)? else {
            return Ok(None);
        };
        if email.chars().count() > EMAIL_LEN_MAX {
            return Err(invalid("at most 254 characters"));
        }
        let (local, domain) = email.rsplit_once('@').unwrap_or_default();
        if !is_local_part(local) || domain.is_empty() || domain.contains(char::is_whitespace) {
            return Err(invalid("a local part, an @ and a domain, such as name@example.com"));
        }
        Ok(Some(Self(email.into())))
    }

    /// Takes a value that was parsed when it was recorded.
    pub fn recorded(email: &str) -> Self {
        Self(email.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PhoneNumber {
    pub const FIELD: &'static str = "phoneNumber";

    /// `None` for a blank value, which counts as absent.
    pub fn parse(raw: &str) -> Result<Option<Self>, Invalid> {
        let invalid = |expected| Invalid { field: Self::FIELD, expected };
        let Some(number) = trimmed(raw).map_err(invalid)? else {
            return Ok(None);
        };
        if number.chars().count() > PHONE_NUMBER_LEN_MAX {
            return Err(invalid("at most 32 characters"));
        }
        let allowed = |c: char| c.is_ascii_digit() || "+ .-()".contains(c);
        if !number.chars().all(allowed) || !number.contains(|c: char| c.is_ascii_digit()) {
            return Err(invalid("digits, with +, space, dot, dash and parentheses allowed"));
        }
        Ok(Some(Self(number.into())))
    }

    /// Takes a value that was parsed when it was recorded.
    pub fn recorded(number: &str) -> Self {
        Self(number.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The value without outer blanks, or `None` if nothing is left of it. Control characters are refused
/// before trimming: a NUL cannot be stored, and a newline at the end of a value means that a file was
/// split wrongly.
fn trimmed(raw: &str) -> Result<Option<&str>, &'static str> {
    if raw.contains(char::is_control) {
        return Err("no control characters");
    }
    Ok(Some(raw.trim()).filter(|value| !value.is_empty()))
}

/// A quoted local part may hold anything. A plain one holds neither blanks nor another `@`.
fn is_local_part(local: &str) -> bool {
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    quoted || !(local.is_empty() || local.contains(|c: char| c == '@' || c.is_whitespace()))
}

// Identifiers are personal data: they must not reach a log by way of `{:?}`.
impl std::fmt::Debug for Email {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Email(…)")
    }
}

impl std::fmt::Debug for PhoneNumber {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("PhoneNumber(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::{Email, PhoneNumber};

    fn email(raw: &str) -> Result<Option<String>, &'static str> {
        Email::parse(raw)
            .map(|email| email.map(|email| email.as_str().to_owned()))
            .map_err(|invalid| invalid.expected)
    }

    fn phone(raw: &str) -> Result<Option<String>, &'static str> {
        PhoneNumber::parse(raw)
            .map(|number| number.map(|number| number.as_str().to_owned()))
            .map_err(|invalid| invalid.expected)
    }

    #[test]
    fn outer_blanks_are_trimmed_and_a_blank_counts_as_absent() {
        assert_eq!(email("  a@x.org "), Ok(Some("a@x.org".into())));
        assert_eq!(phone(" 030 12 "), Ok(Some("030 12".into())));
        assert_eq!(email(""), Ok(None));
        assert_eq!(phone(" \u{a0} "), Ok(None));
    }

    #[test]
    fn an_email_has_a_local_part_an_at_and_a_domain() {
        for good in ["a@b", "A.b+c@x.org", "\"a b@c\"@x.org", "ü@müller.example"] {
            assert_eq!(email(good), Ok(Some(good.into())));
        }
        for bad in ["a", "@", "a@", "@x.org", "a@b@c", "a b@c", "a@b c", "a@@b"] {
            assert!(email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        let longest = format!("{}@{}", "ü".repeat(64), "d".repeat(189));
        assert!(email(&longest).is_ok());
        assert_eq!(email(&format!("{longest}d")), Err("at most 254 characters"));
        assert!(phone(&"1".repeat(32)).is_ok());
        assert_eq!(phone(&"1".repeat(33)), Err("at most 32 characters"));
    }

    #[test]
    fn a_phone_number_has_digits_and_separators_only() {
        for good in ["+49 (0)30 12.34-56", "1", "(+1)2"] {
            assert_eq!(phone(good), Ok(Some(good.into())));
        }
        for bad in ["+", "12a", "1/2", "١٢٣", "1;ext=2"] {
            assert!(phone(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn control_characters_are_refused_wherever_they_stand() {
        for bad in ["a\0@x.org", "a@x.org\n", "\u{85}a@x.org", "a@x\u{7f}.org"] {
            assert_eq!(email(bad), Err("no control characters"));
        }
        assert_eq!(phone("1\t2"), Err("no control characters"));
    }

    #[test]
    fn a_debug_print_shows_no_personal_data() {
        assert_eq!(format!("{:?}", Email::recorded("a@x.org")), "Email(…)");
        assert_eq!(format!("{:?}", PhoneNumber::recorded("030")), "PhoneNumber(…)");
    }
}
