//! What a request brought, and the commitment that ties an event to it.

use super::identifier::{Email, Field, PhoneNumber};
use super::key::Key;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The identifiers of one observation: at least one of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifiers {
    email: Option<Email>,
    phone_number: Option<PhoneNumber>,
}

/// The keys of an observation's identifiers, or what stands for them. An identifier that is absent has
/// none.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys<K = Key> {
    pub email: Option<K>,
    pub phone_number: Option<K>,
}

/// 16 random bytes that keep a commitment from being guessed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 16]);

/// SHA-256 over salt and identifiers; written in base64 (RFC 4648, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Commitment([u8; 32]);

impl Identifiers {
    /// `None` when neither is given.
    pub fn new(email: Option<Email>, phone_number: Option<PhoneNumber>) -> Option<Self> {
        let given = email.is_some() || phone_number.is_some();
        given.then_some(Self { email, phone_number })
    }

    /// Takes values that were parsed when they were recorded. `None` if they have been erased.
    pub fn recorded(email: Option<&str>, phone_number: Option<&str>) -> Option<Self> {
        Self::new(email.map(Email::recorded), phone_number.map(PhoneNumber::recorded))
    }

    pub fn email(&self) -> Option<&Email> {
        self.email.as_ref()
    }

    pub fn phone_number(&self) -> Option<&PhoneNumber> {
        self.phone_number.as_ref()
    }
}

impl<K> Keys<K> {
    /// The keys that are present, the email's first.
    pub fn each(&self) -> impl Iterator<Item = (Field, &K)> {
        let email = self.email.iter().map(|key| (Field::Email, key));
        email.chain(self.phone_number.iter().map(|key| (Field::PhoneNumber, key)))
    }
}

impl Commitment {
    /// Commits to the identifiers: SHA-256 over the 16 bytes of salt, then for the email and
    /// then for the phone number either the byte 0 (absent) or the byte 1, the length in
    /// bytes as a big-endian `u32`, and the UTF-8 bytes as received.
    pub fn to(identifiers: &Identifiers, salt: Salt) -> Self {
        let mut hash = Sha256::new();
        hash.update(salt.0);
        let values = [
            identifiers.email().map(Email::as_str),
            identifiers.phone_number().map(PhoneNumber::as_str),
        ];
        for value in values {
            match value {
                None => hash.update([0]),
                Some(value) => {
                    // Both kinds of identifier are far shorter than 4 GiB.
                    let len = value.len() as u32;
                    hash.update([1]);
                    hash.update(len.to_be_bytes());
                    hash.update(value);
                }
            }
        }
        Self(hash.finalize().into())
    }
}

impl From<Commitment> for String {
    fn from(commitment: Commitment) -> Self {
        BASE64_STANDARD.encode(commitment.0)
    }
}

impl TryFrom<String> for Commitment {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| "a commitment is base64")?;
        bytes.try_into().map(Self).map_err(|_| "a commitment has 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::{Commitment, Identifiers, Salt};

    fn commitment(email: Option<&str>, phone_number: Option<&str>) -> String {
        let identifiers = Identifiers::recorded(email, phone_number);
        Commitment::to(&identifiers.unwrap(), Salt([7; 16])).into()
    }

    /// Computed apart, with Python's hashlib:
    /// `sha256(b"\x07"*16 + b"\x01\x00\x00\x00\x03a@x" + b"\x00")`.
    #[test]
    fn the_commitment_is_the_documented_hash() {
        assert_eq!(commitment(Some("a@x"), None), "vz3CdukoEwLbgGdy+zOZI/R4W4aZM3N9agERrI2hA1Y=");
        assert_eq!(
            commitment(Some("a@x"), Some("12")),
            "8kWyLOC+ZDASA1wCBLxF2PuxyMbeN//NBoyGVNwhgbY="
        );
    }

    #[test]
    fn moving_a_byte_between_the_identifiers_changes_the_commitment() {
        assert_ne!(commitment(Some("a@x1"), Some("2")), commitment(Some("a@x"), Some("12")));
        assert_ne!(commitment(None, Some("12")), commitment(Some("12"), None));
    }
}
