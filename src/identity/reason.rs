//! Why a customer was erased, as a code that cannot be an email or a phone number.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

const LEN_MAX: usize = 40;
/// Enough for `gdpr-art-17`, and too few for a phone number.
const DIGITS_MAX: usize = 4;

/// A short code such as `customer-request`. An event keeps it for ever, so it has no room for an email or
/// a phone number. A person's name would fit, and must not be put there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ReasonCode(String);

/// A text is no reason code. The message says what one looks like, and repeats nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {}", ReasonCode::EXPECTED)]
pub struct NoReasonCode;

impl ReasonCode {
    pub const EXPECTED: &str = "a code such as customer-request: a lower-case letter, then \
        lower-case letters, hyphens and at most 4 digits, 40 characters in all";
}

impl FromStr for ReasonCode {
    type Err = NoReasonCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits_len = text.bytes().filter(u8::is_ascii_digit).count();
        let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let is_code = text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.len() <= LEN_MAX
            && digits_len <= DIGITS_MAX
            && text.bytes().all(is_plain);
        if is_code { Ok(Self(text.to_owned())) } else { Err(NoReasonCode) }
    }
}

impl TryFrom<String> for ReasonCode {
    type Error = NoReasonCode;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ReasonCode> for String {
    fn from(code: ReasonCode) -> Self {
        code.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_no_room_for_an_email_or_a_phone_number() {
        let is_code = |text: &str| text.parse::<ReasonCode>().is_ok();
        for code in ["customer-request", "gdpr-art-17", "x", "policy-2026"] {
            assert!(is_code(code), "{code}");
        }
        let others = ["", "Ann", "ann@x", "030123456", "t-4930123456", "a b", "1st", "-a", "ü"];
        for other in others {
            assert!(!is_code(other), "{other}");
        }
        assert!(is_code(&"a".repeat(40)) && !is_code(&"a".repeat(41)));
    }
}
